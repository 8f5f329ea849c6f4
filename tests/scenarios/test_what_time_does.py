"""Deadlines pass by the registry's word, not by a clock: what jumps or is silent cuts nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eir.core import deadlines
from eir.core.batch import GROUP
from eir.core.generation import REGISTRY, Generation, Section
from eir.core.policy import Policy, Status
from eir.core.tables import Tables
from eir.ops.watch import Reading, Watch
from eir.serve.breaker import BreakerLimits
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving

MADE_AT = 1_750_000_000
LAG = 3_600
MILLION = 1_000_000
FIRST = 35_209_900_000_000
KEYS = np.arange(FIRST, FIRST + MILLION, dtype=np.uint64)
NOBODY = np.zeros(MILLION, np.uint64)


def nation(deadline: int, *, serial: int = 1, made_at: int = MADE_AT) -> Generation:
    """A million devices that were told to be activated until then."""
    rows = deadlines.build([(KEYS, NOBODY, np.full(MILLION, deadline, np.uint64))])
    sections = {"grey": Section("grey", rows)}
    return Generation(REGISTRY, "nation", "s", serial, made_at, "d", sections)


class Clock:
    """The node's wall clock, which can be set, and its steady one."""

    def __init__(self) -> None:
        self.wall, self.steady = float(MADE_AT), 50.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Engine:
    """One node without doors: what serves, who watches, and what a million people get to hear."""

    def __init__(self, depot: Path, deadline: int) -> None:
        self.clock, self.holder = Clock(), Holder()
        self.made_at = MADE_AT
        self.depot = depot
        self.deadline = deadline
        self.start()

    def start(self) -> None:
        self.watch = Watch(
            self.depot,
            limits=BreakerLimits,
            read=self.read,
            clock=lambda: self.clock.wall,
            steady=lambda: self.clock.steady,
        )
        self.tables = Tables(nation(self.deadline), None, Policy())
        self.serve()
        self.checker = Checker(self.holder, lambda: self.clock.wall)
        self.watch.look()

    def serve(self) -> None:
        control = self.watch.control
        self.holder.swap(Serving(self.tables, self.made_at, LAG, control=control))

    def read(self) -> Reading:
        serving = self.holder.current()
        reach = serving.data_time + serving.grace_lag
        return Reading(refused=0, refusing=True, reach=reach, made_at=self.made_at)

    def hear(self, made_at: float) -> None:
        """A head that says that what serves still holds."""
        self.made_at = int(made_at)
        self.serve()
        self.watch.look()

    def passes(self, seconds: int) -> None:
        """Time as it goes by, with a keeper that looks."""
        for _ in range(seconds // 60):
            self.clock.passes(60)
            self.watch.look()

    def cut(self, sample: int = MILLION) -> int:
        """How many of them are refused now."""
        columns = (KEYS[:sample], NOBODY[:sample], NOBODY[:sample])
        status = self.checker.check(*columns).status
        return int((status == Status.BLACKLISTED).sum())


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A node that has just heard the registry; a million deadlines pass in two hours."""
    return Engine(tmp_path, MADE_AT + 7_200)


def test_a_stale_feed_at_the_moment_a_million_deadlines_pass(engine: Engine) -> None:
    engine.passes(7_140)
    assert engine.cut() == 0
    engine.passes(120)
    assert engine.clock.wall >= engine.deadline
    assert engine.cut() == 0, "who has activated meanwhile could not be heard"
    engine.passes(86_400)
    assert engine.cut() == 0
    engine.hear(engine.clock.wall - 5)
    assert engine.cut() == MILLION, "the registry was heard: whoever is grey still has not"


def test_deadlines_pass_on_time_while_the_registry_is_heard(engine: Engine) -> None:
    for _ in range(119):
        engine.passes(60)
        engine.hear(engine.clock.wall - 1)
        assert engine.cut(GROUP) == 0
    engine.passes(60)
    assert engine.cut() == MILLION


def test_a_jump_forward_within_the_lag_cuts_nobody(engine: Engine) -> None:
    engine.passes(5_400)
    engine.hear(engine.clock.wall - 1)
    engine.clock.wall += 2_400
    assert engine.clock.wall > engine.deadline
    assert engine.clock.wall < engine.made_at + LAG
    assert engine.cut() == 0, "not even before anybody has looked"
    engine.watch.look()
    assert engine.cut() == 0
    assert any("the clock jumped by +2400 s" in alarm for alarm in engine.watch.alarms())
    engine.passes(3_000)
    assert engine.cut() == 0, "it stands, though the time has come by any clock"


def test_a_jump_forward_ends_with_a_head_that_agrees(engine: Engine) -> None:
    engine.passes(5_400)
    engine.clock.wall += 2_400
    engine.watch.look()
    engine.hear(engine.clock.wall - 2_400)
    assert engine.watch.figures().clock_jumped
    engine.hear(engine.clock.wall - 10)
    assert not engine.watch.figures().clock_jumped
    assert engine.watch.alarms() == []
    assert engine.cut() == MILLION


def test_a_jump_back_undoes_no_deadline_and_passes_none(engine: Engine) -> None:
    for _ in range(120):
        engine.passes(60)
        engine.hear(engine.clock.wall - 1)
    assert engine.cut() == MILLION
    engine.clock.wall -= 86_400
    engine.watch.look()
    assert engine.cut() == MILLION, "grace time stands; it does not go back"
    assert any("-86400 s" in alarm for alarm in engine.watch.alarms())
    engine.clock.wall += 86_400
    engine.watch.look()
    assert engine.watch.alarms() == []


def test_a_jump_outlives_the_keeper(engine: Engine) -> None:
    engine.passes(5_400)
    engine.clock.wall += 2_400
    engine.watch.look()
    engine.start()
    engine.made_at = int(engine.clock.wall) - 2_400
    engine.serve()
    assert engine.watch.figures().clock_jumped
    assert engine.cut() == 0


def test_a_person_settles_it(engine: Engine) -> None:
    engine.passes(5_400)
    engine.clock.wall += 2_400
    engine.watch.look()
    engine.hear(engine.clock.wall - 2_400)
    assert engine.cut() == 0
    engine.watch.control.move_on()
    engine.watch.look()
    assert engine.cut() == MILLION
