"""The next base says what base and deltas said, whatever happens while it is written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eir.core.generation import Generation
from eir.core.policy import CODES, Policy
from eir.core.tables import Tables
from eir.errors import Conflict
from eir.feed.codec import SnapshotFacts, write_generation
from eir.ops import compaction
from eir.ops.compaction import Compaction, CompactionLimits, due_at_keys, pause_s, touched_keys
from eir.ops.compactor import Order, compact
from eir.store.depot import Depot, Opened
from tests.core.contents import Content, Listed, content_of
from tests.scenarios.world import FEED, Engine, Registry

GREY_UNTIL = 1_750_000_500
FIRST = 35_999_900_000_000
SOON = CompactionLimits(least_touched_keys=1, max_touched_share=0.0001)


def day(number: int) -> Content:
    """What a registry says: every section changes with the number, in each of its ways."""
    devices = range(FIRST, FIRST + 200, 2)
    return {
        "white": Listed(frozenset((n,) for n in devices[number:]), frozenset({(1, 5 + number)})),
        "black.stolen": Listed(frozenset((n,) for n in devices[: number + 1])),
        "black.lost": Listed(frozenset((n,) for n in devices[number : number + 3])),
        "bindings": Listed(
            frozenset((n, 989_120_000_000 + (n + number) % 7) for n in devices[::3])
        ),
        "grey": Listed(frozenset((n, 0, GREY_UNTIL + number) for n in devices[1::3])),
    }


class House:
    """One feed in a depot, what serves of it, and its compaction."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(folder / "feed")
        self.engine = Engine(folder / "depot", self.registry)
        self.pinned = False
        self.served: Opened | None = None
        self.says(1)
        self.compaction = Compaction(
            self.depot,
            bounds=lambda: SOON,
            served=lambda feed: self.served if feed == FEED else None,
            pinned=lambda feed: self.pinned,
            keep=lambda feed: 3,
            serve=self.serve,
        )

    @property
    def depot(self) -> Depot:
        return self.engine.depot

    @property
    def generation(self) -> Generation:
        assert self.served is not None
        return self.served.generation

    def says(self, *numbers: int, **announced: object) -> None:
        """The registry goes on, and the node with it."""
        for number in numbers:
            self.registry.say(day(number))
        self.registry.announce(**announced)  # type: ignore[arg-type]
        assert self.engine.sync().good
        self.served = self.depot.open_newest(FEED, before=self.served)

    async def serve(self, feed: str) -> None:
        assert feed == FEED
        self.served = self.depot.open_newest(FEED, before=self.served)

    @property
    def state(self) -> compaction.CompactionState:
        return self.compaction.states[FEED]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the compaction run until this holds."""
        task = asyncio.create_task(self.compaction.run())
        try:
            async with asyncio.timeout(60):
                while not holds():
                    assert not task.done(), task.result()
                    await asyncio.sleep(0.002)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def scratch(self) -> list[Path]:
        return [path for path in (self.depot.folder / "scratch").iterdir() if path.is_dir()]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def halted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that write, stopped the moment they begin."""
    pids: list[int] = []
    real = compaction._started

    async def started(*given: object) -> object:
        process = await real(*given)  # type: ignore[arg-type]
        os.kill(process.pid, signal.SIGSTOP)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(compaction, "_started", started)
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def answers(generation: Generation) -> tuple[bytes, bytes]:
    """Every device around, with each number, on a nation's whole table."""
    imeis = np.arange(FIRST - 5, FIRST + 210, dtype=np.uint64).repeat(8)
    numbers = np.tile(np.arange(989_120_000_000 - 1, 989_120_000_007, dtype=np.uint64), 215)
    numbers[::8] = 0
    tables = Tables(generation, None, Policy())
    counts = np.zeros((CODES, 5), np.uint64)
    none = np.zeros(len(imeis), np.uint64)
    when = {"now": GREY_UNTIL + 2, "grace_time": GREY_UNTIL + 2}
    verdicts = tables.check(imeis, numbers, none, counts=counts, **when)
    return verdicts.rows[:, :2].tobytes(), verdicts.valid_until.tobytes()


def test_the_same_digest_and_the_same_answers(house: House) -> None:
    house.says(2, 3, 4, deltas=[2, 3, 4])
    before = house.generation
    assert touched_keys(before) > 0
    asyncio.run(house.until(lambda: house.state.done is not None))
    after = house.generation
    assert (after.serial, after.digest, after.made_at) == (4, before.digest, before.made_at)
    assert touched_keys(after) == 0
    assert content_of(after) == content_of(before)
    assert answers(after) == answers(before)
    assert [row.serial for row in house.depot.kept(FEED)] == [4, 1]
    assert house.state.done is not None
    assert house.state.done.peak_bytes > 0
    assert (house.compaction.alarms(), house.scratch()) == ([], [])


def test_deltas_that_come_meanwhile_go_on_from_the_new_base(
    house: House, halted: list[int]
) -> None:
    house.says(2, 3)

    def comes_meanwhile() -> bool:
        if halted and house.generation.serial == 3:
            house.says(4, 5)
            house.compaction.wake()
            os.kill(halted[0], signal.SIGCONT)
        return house.state.done is not None

    asyncio.run(house.until(comes_meanwhile))
    rows = house.depot.kept(FEED)
    assert [(row.serial, row.last_serial) for row in rows] == [(3, 5), (1, 3)]
    assert content_of(house.generation) == content_of(house.registry.generations[5])
    house.says(6)
    house.engine.restart()
    assert house.engine.serial == 6


@pytest.mark.parametrize("overtaken", ["session", "snapshot", "rollback"])
def test_what_overtakes_it_discards_it(house: House, halted: list[int], overtaken: str) -> None:
    house.says(2, 3)

    def overtake() -> bool:
        if halted:
            halted.clear()
            if overtaken == "rollback":
                house.pinned = True
                house.served = house.depot.open_newest(FEED, before=house.served, serial=2)
            else:
                if overtaken == "session":
                    house.registry.begin_anew(2)
                house.registry.say(day(9))
                house.registry.announce(snapshot=max(house.registry.snapshots), deltas=[])
                assert house.engine.sync().kind == "snapshot"
                house.served = house.depot.open_newest(FEED, before=house.served)
            house.compaction.wake()
        return house.state.last is not None

    asyncio.run(house.until(overtake))
    assert house.state.last is not None
    assert (house.state.last.kind, house.compaction.alarms()) == ("overtaken", [])
    assert 3 not in [row.serial for row in house.depot.kept(FEED)]
    assert house.scratch() == []


def test_killed_in_the_middle_it_is_an_alarm_and_not_a_loop(
    house: House, halted: list[int]
) -> None:
    house.says(2, 3)
    before = house.depot.kept(FEED)

    def kill() -> bool:
        if halted and house.state.last is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(halted[0], signal.SIGKILL)
        return house.state.last is not None

    asyncio.run(house.until(kill))
    (alarm,) = house.compaction.alarms()
    assert "failed [compaction-ended]" in alarm
    assert house.depot.kept(FEED) == before
    assert house.scratch() == []
    house.compaction.wake()
    assert not house.compaction._is_due(FEED)
    house.state.not_before = 0.0
    assert house.compaction._is_due(FEED)


def test_ended_with_its_keeper(house: House, halted: list[int]) -> None:
    house.says(2, 3)
    asyncio.run(house.until(lambda: bool(halted)))
    with pytest.raises(ProcessLookupError):
        os.kill(halted[0], 0)
    assert house.scratch() == []
    house.engine.restart()
    assert content_of(house.engine.held) == content_of(house.registry.generations[3])


def test_a_full_disk_is_told(house: House, tmp_path: Path) -> None:
    house.says(2, 3)
    opened = house.served
    assert opened is not None
    path = tmp_path / "next"
    files = (opened.file.fileno(), opened.chain.fileno())
    order = compaction._order(opened, (os.dup(files[0]), files[1]), path)
    pid = os.fork()
    if pid == 0:  # the limit on a file's size is for good, so it is another process's
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
        told = compact(order)
        os._exit(0 if told.reason == "disk-error" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_pinned_content_or_none(house: House, tmp_path: Path) -> None:
    house.says(2, 3)
    opened = house.served
    assert opened is not None
    files = (os.dup(opened.file.fileno()), opened.chain.fileno())
    good = compaction._order(opened, files, tmp_path / "next")
    wrong = Order(**{**{name: getattr(good, name) for name in Order.__slots__}, "digest": "0" * 32})
    assert compact(wrong).reason == "compaction-digest"
    assert not (tmp_path / "next").exists()


def test_the_depot_takes_no_base_of_another_content(house: House) -> None:
    house.says(2, 3)
    opened = house.served
    assert opened is not None
    path = house.depot.new_path()
    written = write_generation(path, compaction._head(opened.generation), opened.generation)
    facts = SnapshotFacts(path, written.size, written.sha256, "0" * 32, {})
    before = house.depot.kept(FEED)
    with pytest.raises(Conflict):
        house.depot.adopt_base(facts, compaction._head(opened.generation), of=opened.kept.file)
    with pytest.raises(Conflict):
        house.depot.adopt_base(written, compaction._head(opened.generation), of="other.snap")
    assert house.depot.kept(FEED) == before


def test_a_damaged_new_base_gives_way_to_the_old_one(house: House) -> None:
    house.says(2, 3)
    asyncio.run(house.until(lambda: house.state.done is not None))
    house.says(4)
    (newest, *_) = house.depot.kept(FEED)
    path = house.depot.folder / "snapshots" / newest.file
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    opened = house.depot.open_newest(FEED)
    assert len(opened.damaged) == 1
    assert opened.generation.serial == 4
    assert content_of(opened.generation) == content_of(house.registry.generations[4])


def test_when_it_is_due(house: House) -> None:
    base = house.generation
    assert due_at_keys(CompactionLimits(), base) == compaction.LEAST_TOUCHED_KEYS
    assert due_at_keys(CompactionLimits(max_touched_keys=7), base) == 7
    assert pause_s(0) == 0.0
    assert [pause_s(n) for n in (1, 2, 3)] == [300.0, 600.0, 1_200.0]
    assert pause_s(100) == 6 * 3_600.0


def test_another_content_is_a_failure_and_no_overtaking(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.says(2, 3)
    real = compaction._told
    monkeypatch.setattr(compaction, "_told", lambda *given: replace(real(*given), digest="0" * 32))
    asyncio.run(house.until(lambda: house.state.last is not None))
    assert house.state.last is not None
    assert (house.state.last.kind, house.state.last.reason) == ("failed", "compaction-digest")
    assert house.state.failures == 1
