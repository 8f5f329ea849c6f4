"""The clock, watched: a jump either way stops grace time, and only a reason starts it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.ops.clock_watch import LEASE_S, ClockEvent, ClockWatch
from eir.serve.control import Control, open_control
from eir.sync.pace import Clocks

BEGIN = 1_750_000_000
BOOT, NEXT_BOOT = 11, 12
FAR = BEGIN + 10**6


class Machine:
    """A wall clock that can be set, a steady one that can't, and a keeper that looks at both."""

    def __init__(self, control: Control | None = None) -> None:
        self.control = control or Control()
        self.watch = ClockWatch(self.control)
        self.wall, self.steady = float(BEGIN), 100.0
        self.boot = BOOT
        self.made_at = 0

    def set_by(self, seconds: float) -> None:
        self.wall += seconds

    def passes(self, seconds: int = 1) -> list[ClockEvent]:
        events = []
        for _ in range(seconds):
            self.wall += 1
            self.steady += 1
            now = Clocks(self.wall, self.steady)
            event = self.watch.look(now, self.boot, reach=FAR, made_at=self.made_at)
            events += [event] if event else []
        return events

    def restart(self) -> None:
        self.watch = ClockWatch(self.control)

    @property
    def grace_time(self) -> int:
        return self.control.grace_time(int(self.wall), FAR)


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    assert machine.passes(60) == []
    assert machine.grace_time == BEGIN + 60
    return machine


@pytest.mark.parametrize("by", [40, 1_800, 10**8, -40, -1_800, -(10**8)])
def test_grace_time_stands_where_it_was_before_the_jump(machine: Machine, by: int) -> None:
    machine.set_by(by)
    assert machine.passes() == [ClockEvent("jumped", by)]
    assert machine.grace_time == BEGIN + 60
    machine.passes(1_000)
    assert machine.grace_time == BEGIN + 60
    assert machine.control.jumped_by == by


def test_before_anybody_has_looked_a_jump_forward_gains_seconds_at_most(machine: Machine) -> None:
    machine.set_by(1_800)
    assert BEGIN + 60 <= machine.grace_time <= BEGIN + 60 + LEASE_S


def test_without_a_keeper_grace_time_stands_after_a_while(machine: Machine) -> None:
    machine.wall += 5_000
    assert machine.grace_time == BEGIN + 60 + LEASE_S


def test_a_step_that_time_servers_make_is_no_jump(machine: Machine) -> None:
    machine.set_by(-25)
    assert machine.passes() == []
    machine.set_by(25)
    assert machine.passes() == []


def test_it_goes_on_when_the_clock_is_set_right_again(machine: Machine) -> None:
    machine.set_by(3_600)
    machine.passes(10)
    machine.set_by(-3_600)
    assert machine.passes() == [ClockEvent("set-right")]
    assert machine.grace_time == BEGIN + 71


def test_it_goes_on_when_a_fresh_head_confirms_the_clock(machine: Machine) -> None:
    machine.made_at = BEGIN - 500
    machine.set_by(-7_200)
    machine.passes(5)
    machine.made_at = int(machine.wall) - 3
    assert machine.passes() == [ClockEvent("confirmed")]
    assert machine.grace_time == int(machine.wall)


def test_a_head_from_before_the_jump_confirms_nothing(machine: Machine) -> None:
    machine.made_at = BEGIN - 500
    machine.set_by(-560)
    assert [event.kind for event in machine.passes(300)] == ["jumped"]


def test_a_head_that_says_otherwise_confirms_nothing(machine: Machine) -> None:
    machine.set_by(3_600)
    machine.passes()
    machine.made_at = BEGIN + 61
    assert machine.passes(100) == []
    assert machine.grace_time == BEGIN + 60


def test_it_goes_on_when_a_person_says_so(machine: Machine) -> None:
    machine.set_by(3_600)
    machine.passes(5)
    machine.control.move_on()
    assert machine.passes() == [ClockEvent("settled")]
    assert machine.grace_time == BEGIN + 3_666
    assert machine.passes(100) == []


def test_a_keeper_that_is_killed_after_a_jump_is_followed_by_one_that_knows(
    machine: Machine,
) -> None:
    machine.set_by(3_600)
    machine.passes(5)
    machine.restart()
    assert machine.passes(5) == []
    assert machine.grace_time == BEGIN + 60
    machine.set_by(-3_600)
    assert machine.passes() == [ClockEvent("set-right")]


def test_a_jump_while_no_keeper_runs_is_seen_by_the_next(machine: Machine) -> None:
    machine.set_by(1_800)
    machine.restart()
    assert machine.passes() == [ClockEvent("jumped", 1_800)]
    assert machine.grace_time == BEGIN + 60


def test_a_person_who_settles_it_without_a_keeper_is_heard(tmp_path: Path) -> None:
    machine = Machine(open_control(tmp_path / "control"))
    machine.passes(60)
    machine.set_by(3_600)
    machine.passes(5)
    open_control(tmp_path / "control").move_on()
    machine.restart()
    assert machine.passes(100) == []
    assert machine.grace_time == int(machine.wall)


def test_time_without_power_is_no_jump_unless_it_leads_back(machine: Machine) -> None:
    machine.boot, machine.steady = NEXT_BOOT, 3.0
    machine.set_by(86_400)
    machine.restart()
    assert machine.passes(10) == []
    machine.boot, machine.steady = BOOT, 3.0
    machine.set_by(-3_600)
    machine.restart()
    (event,) = machine.passes(10)
    assert event.kind == "jumped"
    assert event.by_s < -3_500


@given(st.lists(st.sampled_from((-86_400, -1_800, -20, 20, 1_800, 86_400)), max_size=12))
def test_whatever_is_set_grace_time_never_outruns_the_time_that_passed(steps: list[int]) -> None:
    machine = Machine()
    machine.passes(5)
    true_time, slack = BEGIN + 5, LEASE_S + sum(abs(step) for step in steps if abs(step) <= 30)
    for step in steps:
        machine.set_by(step)
        machine.passes(2)
        true_time += 2
        assert machine.grace_time <= true_time + slack
