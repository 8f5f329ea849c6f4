"""The parts of the crew that need no worker: pauses, memory, the tally, who opens what."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core.golden import golden_tables
from eir.core.policy import BLACK_BASE, Status
from eir.errors import Refused
from eir.ops import crew, nursery
from eir.ops.crew import Crew, memory_of, pause_before
from eir.ops.doors import grpc_settings, open_doors
from eir.ops.nursery import Nursery, main
from eir.ops.settings.config import read_config
from eir.ops.tally import Tally, code_names
from eir.serve.checker import Checker
from eir.serve.counters import Counters
from eir.serve.handover import ServeOrder, new_pair, send
from eir.serve.holder import Holder


@given(st.integers(0, 2_000))
def test_pauses_grow_to_a_bound(quick_ends):
    assert 0 <= pause_before(quick_ends) <= pause_before(quick_ends + 1) <= 10
    assert pause_before(1) == 0, "one crash is made good at once"
    assert pause_before(3) > 0
    assert pause_before(20) == 10


def test_memory_is_read_as_the_system_tells_it():
    before, _ = memory_of(os.getpid())
    with mmap.mmap(-1, 64 << 20) as taken:
        for page in range(0, len(taken), mmap.PAGESIZE):
            taken[page] = 1
        rss, pss = memory_of(os.getpid())
    assert rss - before > 60 << 20
    assert 60 << 20 < pss <= rss


def test_memory_is_not_walked_through_for_each_question(monkeypatch):
    walked = []
    monkeypatch.setattr(crew, "memory_of", lambda pid: walked.append(pid) or (2, 1))
    ours, theirs = new_pair()
    with ours, theirs:
        member = crew._Member(ours, since=0, pid=7)
        assert (member.measured(), walked) == ((0, 0), []), "it has no memory of its own yet"
        member.state = crew.ANSWERING
        assert [member.measured() for _ in range(3)] == [(2, 1)] * 3
        assert walked == [7]
        member.measured_at -= crew._MEMORY_SECONDS + 1
        assert member.measured() == (2, 1)
        assert walked == [7, 7]


def test_a_gone_process_takes_nothing():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert memory_of(gone.pid) == (0, 0)


def test_codes_are_counted_by_what_they_meant_then():
    tables = golden_tables()
    names = code_names(tables)
    assert names[9] == "bound"
    assert names[BLACK_BASE] == "stolen"
    assert code_names(None) == ()
    counters = Counters()
    counters.checks[1, BLACK_BASE, Status.BLACKLISTED] = 3
    tally = Tally()
    tally.add(counters, names)
    tally.add(counters, [name.replace("stolen", "lost") for name in names])
    assert tally.checks == {
        ("s13", "stolen", "BLACKLISTED"): 3,
        ("s13", "lost", "BLACKLISTED"): 3,
    }
    other = tally.copy()
    other.add(counters, names)
    assert tally.checks["s13", "stolen", "BLACKLISTED"] == 3


CONFIG = read_config(
    '[grpc]\nlisten = ["127.0.0.1:0", "unix:grpc.sock"]\n', name="toy", folder=Path("/run")
)


def test_a_unix_socket_is_opened_by_one_worker_alone():
    assert grpc_settings(CONFIG, only_one=True).listen == CONFIG.grpc.listen
    assert grpc_settings(CONFIG, only_one=False).listen == ("127.0.0.1:0",)
    assert grpc_settings(CONFIG, only_one=True).share_port


async def test_a_worker_with_nothing_to_open_opens_nothing():
    shut = replace(CONFIG, grpc=replace(CONFIG.grpc, listen=("unix:/run/grpc.sock",)))
    holder = Holder()
    doors = await open_doors(shut, Checker(holder), holder, only_one=False)
    assert doors.addresses == ()
    await doors.stop()


async def test_a_door_that_can_not_open_is_told_and_leaves_nothing(tmp_path):
    bad = (f"unix:{tmp_path}/good.sock", f"unix:{tmp_path}/no/folder.sock")
    config = replace(CONFIG, grpc=replace(CONFIG.grpc, listen=bad))
    holder = Holder()
    with pytest.raises(Refused) as refused:
        await open_doors(config, Checker(holder), holder, only_one=True)
    assert refused.value.reason == "listen-failed"
    assert list(tmp_path.iterdir()) == []


def test_a_nursery_says_proven_only_after_the_golden_table_has_passed(monkeypatch):
    def wrong() -> None:
        raise RuntimeError("the kernel answers otherwise")

    monkeypatch.setattr("eir.ops.nursery.verify_kernel", wrong)
    monkeypatch.setattr("eir.ops.nursery.start_logging", lambda *_, **__: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    ours, theirs = new_pair()
    ours.settimeout(10)
    send(ours, b"prove")
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(RuntimeError, match="answers otherwise"):
        main(os.dup(theirs.fileno()), "error", json_logs=False)
    theirs.close()
    assert ours.recv(16) == b""


def test_a_nursery_stays_in_the_session_where_it_can_be_told_who_goes_first():
    made = Nursery(CONFIG)
    try:
        assert os.getsid(made.pid) == os.getsid(0)
        assert os.getpgid(made.pid) == made.pid, "a terminal's interrupt is the keeper's alone"
    finally:
        made.close()


def test_what_was_proven_here_is_told_apart_from_what_is_to_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(nursery, "CACHE_FOLDER", str(tmp_path))
    assert not nursery.was_proven(noting=False)
    nursery.prove_kernel(noting=False)
    assert nursery.was_proven(noting=False)
    assert not nursery.was_proven(noting=True)
    monkeypatch.setattr(nursery, "__file__", "/another/clone/nursery.py")
    assert not nursery.was_proven(noting=False), "machine code is kept by the path of its source"


async def test_a_crew_hires_nobody_on_an_unproven_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "false")
    forked = []
    monkeypatch.setattr(Nursery, "fork", lambda *_: forked.append(1))
    made = Crew(CONFIG, tmp_path)
    with pytest.raises(Refused) as refused:
        await made.start(ServeOrder(0, (), CONFIG.policy), None, CONFIG)
    assert (refused.value.reason, forked) == ("kernel-unproven", [])


class Barren:
    """A nursery whose children never say a word; the ends that they would have are kept."""

    def __init__(self, _: object) -> None:
        self.ends: list[int] = []

    async def prove(self) -> None: ...

    def fork(self, _: object, end: socket.socket) -> None:
        self.ends.append(os.dup(end.fileno()))

    def close(self) -> None:
        for end in self.ends:
            os.close(end)


async def test_a_worker_that_never_says_its_number_holds_up_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr("eir.ops.crew.Nursery", Barren)
    monkeypatch.setattr("eir.ops.crew._ORDER_SECONDS", 0.01)
    crew = Crew(replace(CONFIG, workers=replace(CONFIG.workers, count=1)), tmp_path)
    order = ServeOrder(crew.next_number(), (), CONFIG.policy)
    starting = asyncio.create_task(crew.start(order, None, CONFIG))
    while not crew._members:
        await asyncio.sleep(0)
    order = ServeOrder(crew.next_number(), (), CONFIG.policy)
    await asyncio.wait_for(crew.hand_over(order, None), 30)
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(starting, 30)
    assert refused.value.reason == "worker-ended"
    await asyncio.wait_for(crew.stop(), 30)


DEAF = """
import signal, sys
from pathlib import Path
from eir.serve.counters import CountersFile
signal.signal(signal.SIGTERM, signal.SIG_IGN)
file = CountersFile(Path(sys.argv[1]))
sys.stdout.write("here\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture
def orphan(tmp_path):
    """A worker of another keeper, that does not end when it is told to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", DEAF, str(tmp_path)], **pipes) as worker:
        assert worker.stdout.readline() == "here\n"
        yield worker
        worker.kill()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("eir.ops.crew.Nursery", Barren)
    monkeypatch.setattr("eir.ops.crew._DRAIN_MARGIN_SECONDS", 0.01)
    return replace(CONFIG, grpc=replace(CONFIG.grpc, drain_seconds=0))


async def test_an_orphan_that_does_not_drain_is_cut(orphan, hasty, tmp_path):
    crew = Crew(hasty, tmp_path)
    assert crew.orphaned
    crew.send_orphans_home()
    await asyncio.wait_for(crew._orphans_gone.wait(), 30)
    assert orphan.wait(30) == -signal.SIGKILL
    assert not crew.orphaned
    await crew.stop()


async def test_a_crew_that_stops_waits_for_orphans_and_cuts_them(orphan, hasty, tmp_path):
    crew = Crew(hasty, tmp_path)
    crew.send_orphans_home()
    await asyncio.wait_for(crew.stop(), 30)
    assert orphan.wait(30) == -signal.SIGKILL


async def test_a_crew_that_never_answered_leaves_orphans_to_answer(orphan, hasty, tmp_path):
    crew = Crew(hasty, tmp_path)
    await asyncio.wait_for(crew.stop(), 30)
    assert orphan.poll() is None
    assert crew.orphaned
