"""The breaker, by a clock of its own: when it opens, what it learns, and who closes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core.golden import NOW, VECTORS, Vector, golden_tables
from eir.core.policy import BLACK_BASE, Status
from eir.serve.breaker import Breaker, BreakerLimits, Opened, spare
from eir.serve.checker import Checker
from eir.serve.control import RESET, RESET_AS_NORMAL, Control, open_control
from eir.serve.counters import Counters
from eir.serve.holder import Holder, Serving

LIMITS = BreakerLimits(factor=10, least=100, learn_minutes=60)


class Node:
    """Refusals come at a rate; somebody looks every second."""

    def __init__(self, control: Control | None = None) -> None:
        self.control = control or Control()
        self.breaker = Breaker(self.control)
        self.limits = LIMITS
        self.refusing = True
        self.second = 0
        self.refused = 0.0

    def run(self, *, seconds: int = 0, minutes: int = 0, a_minute: float) -> Opened | None:
        """The first time that it opens, if it does."""
        opened = None
        for _ in range(seconds + 60 * minutes):
            self.second += 1
            self.refused += a_minute / 60
            now = self.breaker.look(
                self.limits,
                now=1_700_000_000 + self.second,
                steady_s=float(self.second),
                refused=int(self.refused),
                refusing=self.refusing,
            )
            opened = opened or now
        return opened

    @property
    def is_open(self) -> bool:
        return self.control.open_since != 0


@pytest.fixture
def node() -> Node:
    """A node that has learned that 30 refusals a minute are usual."""
    node = Node()
    assert node.run(minutes=120, a_minute=30) is None
    assert node.control.baseline == pytest.approx(30, abs=1)
    return node


def test_it_opens_within_the_minute_in_which_too_many_are_refused(node: Node) -> None:
    opened = node.run(seconds=60, a_minute=1_200)
    assert opened is not None
    assert 300 < opened.rate < 330
    assert opened.baseline == pytest.approx(30, abs=1)
    assert node.control.open_since < 1_700_000_000 + node.second


def test_what_is_usual_does_not_open_it_nor_does_a_busy_hour(node: Node) -> None:
    assert node.run(minutes=30, a_minute=250) is None
    assert not node.is_open


def test_a_lab_node_with_three_refusals_never_opens() -> None:
    node = Node()
    assert node.run(minutes=200, a_minute=0) is None
    assert node.run(minutes=2, a_minute=95) is None
    assert node.run(minutes=2, a_minute=130) is not None


def test_it_judges_nobody_before_it_has_learned() -> None:
    node = Node()
    assert node.run(minutes=30, a_minute=1) is None
    assert node.run(minutes=20, a_minute=50_000) is None
    assert 45 <= node.control.known_minutes <= 50


def test_a_factor_of_nothing_never_opens(node: Node) -> None:
    node.limits = BreakerLimits(factor=0, least=1, learn_minutes=1)
    assert node.run(minutes=5, a_minute=60_000) is None


def test_open_it_learns_nothing_and_stays_open(node: Node) -> None:
    node.run(minutes=2, a_minute=6_000)
    before = node.control.baseline
    assert node.is_open
    node.run(minutes=600, a_minute=6_000)
    assert node.is_open
    assert node.control.baseline == before


def test_after_a_reset_it_opens_again_if_nothing_has_changed(node: Node) -> None:
    node.run(minutes=2, a_minute=6_000)
    node.control.reset_breaker(RESET)
    assert node.run(seconds=2, a_minute=6_000) is None
    assert node.run(seconds=58, a_minute=6_000) is not None


def test_after_a_reset_it_stays_closed_if_the_cause_is_gone(node: Node) -> None:
    node.run(minutes=2, a_minute=6_000)
    node.control.reset_breaker(RESET)
    assert node.run(minutes=60, a_minute=30) is None
    assert node.control.baseline == pytest.approx(30, abs=2)


def test_a_rate_that_a_person_calls_normal_is_normal(node: Node) -> None:
    node.run(minutes=2, a_minute=6_000)
    node.control.reset_breaker(RESET_AS_NORMAL)
    assert node.run(minutes=60, a_minute=6_000) is None
    assert node.run(minutes=2, a_minute=90_000) is not None


def test_shadow_teaches_it_nothing(node: Node) -> None:
    node.refusing = False
    node.run(minutes=500, a_minute=0)
    assert node.control.baseline == pytest.approx(30, abs=1)


def test_it_is_open_still_after_a_restart(tmp_path: Path) -> None:
    node = Node(open_control(tmp_path / "control"))
    node.run(minutes=70, a_minute=30)
    node.run(minutes=1, a_minute=6_000)
    again = Node(open_control(tmp_path / "control"))
    assert again.is_open
    again.run(minutes=5, a_minute=30)
    assert again.is_open
    again.control.reset_breaker(RESET)
    assert again.run(minutes=5, a_minute=30) is None, "what it had learned is not lost"
    assert again.run(minutes=1, a_minute=6_000) is not None


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=40), st.integers(0, 60))
def test_it_opens_exactly_when_a_minute_passes_the_limit(waves: list[int], known: int) -> None:
    control, steady, refused = Control(), 0.0, 0
    for _ in range(known):
        control.learn(20)
    breaker = Breaker(control)
    limits = BreakerLimits(factor=10, least=100, learn_minutes=30)
    for wave in waves:
        steady += 60.0
        refused += wave
        baseline, ready = control.baseline, control.known_minutes >= 30 and not control.open_since
        opened = breaker.look(limits, now=1, steady_s=steady, refused=refused, refusing=True)
        assert (opened is not None) == (ready and control.rate > max(10 * baseline, 99))


def refused_by(checker: Checker, asked: Vector) -> Status:
    words = (np.array([word], np.uint64) for word in (asked.imei, asked.msisdn, asked.imsi))
    answer = checker.check(*words)
    assert answer.decided[0] == Status.BLACKLISTED
    return Status(int(answer.status[0]))


def test_open_refusals_leave_as_greylisted_with_what_was_decided_beside() -> None:
    (stolen,) = (each for each in VECTORS if each.says == "allow does not clear stolen")
    control, counters, holder = Control(), Counters(), Holder()
    holder.swap(Serving(golden_tables(), data_time=NOW, counters=counters, control=control))
    checker = Checker(holder, lambda: NOW)
    assert refused_by(checker, stolen) is Status.BLACKLISTED
    control.open_breaker(5)
    assert refused_by(checker, stolen) is Status.GREYLISTED
    explained = checker.explain(stolen.imei, stolen.msisdn, stolen.imsi)
    assert (explained.status, explained.decided) == (Status.GREYLISTED, Status.BLACKLISTED)
    assert explained.changed_by == "breaker"
    control.reset_breaker(RESET)
    assert refused_by(checker, stolen) is Status.BLACKLISTED
    assert counters.refused() == 3, "it goes on counting who would have been refused"
    assert counters.checks[:, BLACK_BASE:, Status.GREYLISTED].sum() == 1
    assert counters.checks[:, :, 0].sum() == 1


def test_sparing_moves_every_refusal_and_nothing_else() -> None:
    rows = np.array([[1, 1, 9, 9], [2, 2, 15, 15], [3, 3, 32, 6], [4, 4, 16, 16]], np.uint8)
    counts = np.zeros((96, 5), np.uint64)
    for status, _, code, _ in rows:
        counts[code, status] += np.uint64(1)
    spare(rows, counts)
    assert rows[:, 0].tolist() == [1, 2, 2, 2]
    assert rows[:, 1].tolist() == [1, 2, 3, 4]
    assert counts[:, 1:].sum() == 4
    assert counts[:, 3:].sum() == 0
    assert counts[:, 0].sum() == counts[32, 0] + counts[16, 0] == 2
