"""A worker by itself: a pair of sockets for a keeper, and doors that only take notes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eir.core.delta import Change, Delta, Items, apply
from eir.core.generation import Generation
from eir.core.policy import Policy
from eir.core.sieving import with_sieve
from eir.core.view import view_of
from eir.errors import Corrupt, Refused, Unavailable
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_mapped
from eir.feed.memory_file import mapped, read_base, write_base, write_overlays
from eir.serve import handover
from eir.serve.checker import Checker
from eir.serve.counters import read_counters
from eir.serve.handover import HandedFeed, ReloadOrder, ServeOrder
from eir.serve.holder import Holder
from eir.serve.worker import Worker

SESSION = "8f9a2c1e-0000-4000-8000-000000000001"
KEYS = np.arange(35_000_000_000_000, 35_000_000_000_100, dtype=np.uint64)
NOBODY = np.zeros_like(KEYS)


class NotedDoors:
    addresses = ("127.0.0.1:1",)

    def __init__(self, ready: bool) -> None:
        self.ready_at_first = ready
        self.reloads = 0
        self.stopped = False
        self.fault: Refused | None = None

    def reload(self) -> None:
        if self.fault:
            raise self.fault
        self.reloads += 1

    async def stop(self) -> None:
        self.stopped = True


class Bench:
    """A worker, and the keeper's end of its pair."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeper, theirs = handover.new_pair()
        self.keeper.setblocking(False)
        theirs.setblocking(False)
        self.holder = Holder()
        self.checker = Checker(self.holder)
        self.doors: NotedDoors | None = None
        self.refusal: Refused | None = None
        self.counters = folder / "workers"
        self.counters.mkdir()
        self.worker = Worker(
            theirs,
            self.holder,
            folder=self.counters,
            open_doors=self.open,
            stale_after_seconds=0.01,
        )
        self.running = asyncio.create_task(self.worker.run())

    async def open(self) -> NotedDoors:
        if self.refusal:
            raise self.refusal
        self.doors = NotedDoors(self.holder.ready)
        return self.doors

    def feed(self, serial: int, lists: dict[str, int], *, digest: str = "") -> HandedFeed:
        writer = SnapshotWriter(SnapshotHead("registry", "local", SESSION, serial, 1_700_000_000))
        for name, reason in lists.items():
            writer.add_list(name, [KEYS], reason_id=reason)
        path = self.folder / f"{serial}-{os.urandom(4).hex()}"
        facts = writer.write(path)
        file = path.open("rb")
        snapshot = mapped(file)
        with file, write_base(with_sieve(open_mapped(snapshot)), snapshot) as laid:
            files = (os.dup(file.fileno()), os.dup(laid.fileno()))
        return HandedFeed("registry", SESSION, serial, digest or facts.digest, files)

    def tell(self, order: handover.Order) -> None:
        message, files = handover.pack_order(order)
        handover.send(self.keeper, message, files)
        for file in files:
            os.close(file)

    async def answer(self) -> handover.WorkerAnswer:
        loop = asyncio.get_running_loop()
        message = await asyncio.wait_for(loop.sock_recv(self.keeper, 1 << 17), 60)
        return handover.unpack_answer(message)

    def reasons(self) -> set[str]:
        answer = self.checker.check(KEYS, NOBODY, NOBODY)
        return {answer.reason_names[int(number)] for number in answer.reason}


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path)
    hello = await made.answer()
    assert (hello.number, hello.pid) == (0, os.getpid())
    yield made
    made.keeper.close()
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


async def test_doors_open_when_the_first_order_serves(bench):
    bench.tell(ServeOrder(1, (bench.feed(1, {"white": 0}),), Policy()))
    answer = await bench.answer()
    assert (answer.number, answer.fault, answer.addresses) == (1, None, ("127.0.0.1:1",))
    assert bench.doors.ready_at_first
    assert bench.reasons() == {"not-activated"}
    assert read_counters(bench.counters / answer.counters).checks.sum() == 100


async def test_without_data_doors_open_and_nothing_is_answered(bench):
    bench.tell(ServeOrder(1, (), Policy()))
    await bench.answer()
    assert not bench.doors.ready_at_first
    with pytest.raises(Unavailable):
        bench.checker.check(KEYS, NOBODY, NOBODY)
    bench.tell(ServeOrder(2, (bench.feed(1, {"white": 0}),), Policy()))
    await bench.answer()
    assert bench.reasons() == {"not-activated"}


async def test_the_old_pages_are_given_back_and_kept_ones_are_not_mapped_again(bench):
    first = bench.feed(1, {"white": 0})
    again = replace(first, files=tuple(map(os.dup, first.files)))
    bench.tell(ServeOrder(1, (first,), Policy()))
    await bench.answer()
    served = bench.holder.current()
    bench.tell(ServeOrder(2, (again,), Policy(status={})))
    await bench.answer()
    assert bench.holder.current().tables.registry is served.tables.registry
    assert bench.holder.current() is not served
    del served
    bench.tell(ServeOrder(3, (bench.feed(2, {"legacy": 0}),), Policy()))
    await bench.answer()
    assert bench.reasons() == {"legacy"}
    bench.tell(ReloadOrder(4))
    await bench.answer()
    maps = Path("/proc/self/maps").read_text()
    assert f"{bench.folder}/2-" in maps
    assert f"{bench.folder}/1-" not in maps


async def test_a_verdicts_code_never_changes_its_meaning_in_one_file(bench):
    bench.tell(ServeOrder(1, (bench.feed(1, {"black.lost": 257}),), Policy()))
    first = await bench.answer()
    assert bench.reasons() == {"lost"}
    bench.tell(ServeOrder(2, (bench.feed(2, {"black.lost": 257}),), Policy()))
    second = await bench.answer()
    assert bench.reasons() == {"lost"}
    bench.tell(ServeOrder(3, (bench.feed(3, {"black.stolen": 256, "black.lost": 257}),), Policy()))
    third = await bench.answer()
    assert bench.reasons() == {"stolen"}
    assert first.counters == second.counters != third.counters
    assert read_counters(bench.counters / first.counters).checks.sum() == 200
    assert read_counters(bench.counters / third.counters).checks.sum() == 100


async def test_doors_that_can_not_open_end_the_worker_with_their_reason(bench):
    bench.refusal = Refused("listen-failed", "taken", where="127.0.0.1:1")
    bench.tell(ServeOrder(1, (), Policy()))
    answer = await bench.answer()
    assert answer.fault == handover.Fault("listen-failed", "taken", "127.0.0.1:1")
    await asyncio.wait_for(bench.running, 60)


async def test_certificates_are_read_again_by_all_doors(bench):
    bench.tell(ServeOrder(1, (), Policy()))
    await bench.answer()
    bench.tell(ReloadOrder(2))
    assert (await bench.answer()).fault is None
    assert bench.doors.reloads == 1
    bench.doors.fault = Refused("tls-unusable", "no pair")
    bench.tell(ReloadOrder(3))
    assert (await bench.answer()).fault.reason == "tls-unusable"
    assert not bench.running.done()


async def test_other_data_than_announced_ends_the_worker(bench):
    bench.tell(ServeOrder(1, (bench.feed(1, {"white": 0}, digest="0" * 32),), Policy()))
    with pytest.raises(Corrupt, match="as was announced"):
        await asyncio.wait_for(asyncio.shield(bench.running), 60)
    assert bench.doors is None


async def test_without_its_keeper_it_goes_on_and_turns_stale(bench):
    bench.tell(ServeOrder(1, (bench.feed(1, {"white": 0}),), Policy()))
    await bench.answer()
    turned = asyncio.Event()
    bench.holder.listen(lambda _: turned.set())
    assert not bench.checker.check(KEYS, NOBODY, NOBODY).stale
    bench.keeper.close()
    await asyncio.wait_for(turned.wait(), 60)
    assert bench.checker.check(KEYS, NOBODY, NOBODY).stale
    assert bench.reasons() == {"not-activated"}
    assert not bench.running.done()


async def test_without_keeper_and_depot_nobody_could_send_it_home(bench):
    bench.tell(ServeOrder(1, (bench.feed(1, {"white": 0}),), Policy()))
    answer = await bench.answer()
    bench.keeper.close()
    (bench.counters / answer.counters).unlink()
    await asyncio.wait_for(bench.running, 60)
    assert bench.doors.stopped


async def test_without_keeper_or_doors_there_is_nothing_to_live_for(bench):
    bench.keeper.close()
    await asyncio.wait_for(bench.running, 60)
    assert bench.doors is None


async def test_the_system_asks_it_to_end_and_it_drains(bench):
    bench.tell(ServeOrder(1, (), Policy()))
    await bench.answer()
    threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM)).start()
    await asyncio.wait_for(bench.running, 60)
    assert bench.doors.stopped


def base_of(told: HandedFeed) -> Generation:
    """As a keeper has it mapped."""
    snapshot, laid = (mapped(os.fdopen(os.dup(file), "rb")) for file in told.files)
    return read_base(laid, snapshot)


def lies_in(array: np.ndarray, name: str) -> bool:
    """Whether an array lies in a mapped file whose name has this in it."""
    for row in Path("/proc/self/maps").read_text().splitlines():
        first, end = (int(each, 16) for each in row.split()[0].split("-"))
        if first <= array.ctypes.data < end:
            return name in row
    return False


async def test_a_worker_makes_nothing_of_what_it_is_handed(bench, monkeypatch):
    told = bench.feed(1, {"legacy": 0})
    base = base_of(told)
    change = Change(Items(KEYS[:1].reshape(-1, 1)), Items(KEYS[:0].reshape(-1, 1)))
    delta = Delta({"legacy": change}, {})
    made = apply(base, delta, serial=2, made_at=2, digest=f"{2:032}")
    _, file = write_overlays(made, base)
    with file:
        files = (*told.files, os.dup(file.fileno()))
    for maker in ("eir.core.view._derive", "eir.core.sieve.build"):
        monkeypatch.setattr(maker, None)
    bench.tell(ServeOrder(1, (HandedFeed("registry", SESSION, 2, made.digest, files),), Policy()))
    assert (await bench.answer()).fault is None
    assert bench.reasons() == {"legacy", "not-registered"}
    served = bench.holder.current().tables.registry
    legacy = served.sections["legacy"]
    assert lies_in(served.sieve.lines, "memfd:base")
    assert lies_in(view_of(legacy.content).derived, "memfd:base")
    assert lies_in(served.overlay_sieve.lines, "memfd:overlays")
    assert lies_in(view_of(legacy.overlay.touched).derived, "memfd:overlays")
    assert lies_in(legacy.content.data, f"{bench.folder}/1-")


async def test_what_deltas_made_of_a_base_is_mapped_and_the_base_is_kept(bench):
    first = bench.feed(1, {"white": 0})
    told = replace(first, files=tuple(map(os.dup, first.files)))
    bench.tell(ServeOrder(1, (told,), Policy()))
    await bench.answer()
    assert bench.reasons() == {"not-activated"}
    table = bench.holder.current().tables.registry.sections["white"].content
    base = base_of(first)
    for serial, name, reason in ((2, "black.lost", 257), (3, "black.stolen", 256)):
        change = Change(Items(KEYS[:0].reshape(-1, 1)), Items(KEYS.reshape(-1, 1)))
        delta = Delta({name: change}, {name: reason})
        made = apply(base, delta, serial=serial, made_at=serial, digest=f"{serial:032}")
        _, file = write_overlays(made, base)
        with file:
            files = (*map(os.dup, first.files), os.dup(file.fileno()))
        told = HandedFeed("registry", SESSION, serial, made.digest, files)
        bench.tell(ServeOrder(serial, (told,), Policy()))
        assert (await bench.answer()).fault is None
        assert bench.reasons() == {name.removeprefix("black.")}
        served = bench.holder.current().tables.registry
        assert served.sections["white"].content is table
    assert lies_in(served.sections["black.stolen"].overlay.rows.data, "memfd:overlays")
    for each in first.files:
        os.close(each)


async def test_replaced_counters_are_held_open_no_longer(bench):
    bench.tell(ServeOrder(1, (bench.feed(1, {"black.lost": 257}),), Policy()))
    await bench.answer()
    before = bench.worker._counted._lock
    named = os.readlink(f"/proc/self/fd/{before}")
    bench.tell(ServeOrder(2, (bench.feed(2, {"black.stolen": 256}),), Policy()))
    await bench.answer()
    links = {}
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links[int(each)] = os.readlink(f"/proc/self/fd/{each}")
    assert links.get(before) != named


async def test_a_worker_that_can_not_say_its_number_ends(tmp_path):
    keeper, theirs = handover.new_pair()
    keeper.close()
    theirs.setblocking(False)

    async def open_doors() -> NotedDoors:
        raise AssertionError("nobody would ever send it home")

    worker = Worker(
        theirs, Holder(), folder=tmp_path, open_doors=open_doors, stale_after_seconds=60
    )
    await asyncio.wait_for(worker.run(), 30)
