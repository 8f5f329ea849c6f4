"""Timers: jitter within its share, backoff that doubles and ends, silence judged by both clocks."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.errors import Refused
from eir.sync.pace import (
    Clocks,
    Pace,
    clock_step_s,
    has_jumped,
    is_stale,
    next_wait_s,
    silence_s,
)

PACE = Pace(every_s=60, jitter=0.1, backoff_first_s=5, backoff_max_s=600, stale_after_s=3_600)
chances = st.floats(0, 1, exclude_max=True)


@given(chances)
def test_a_good_poll_waits_its_interval_within_the_jitter(chance: float) -> None:
    assert 54 <= next_wait_s(PACE, failures=0, chance=chance) <= 66


def test_jitter_spreads_nodes_over_the_whole_share() -> None:
    assert next_wait_s(PACE, failures=0, chance=0.0) == 54
    assert next_wait_s(PACE, failures=0, chance=0.5) == 60
    assert next_wait_s(PACE, failures=0, chance=0.999_999) == pytest.approx(66, abs=0.001)


def test_backoff_doubles_then_stays() -> None:
    waits = [next_wait_s(PACE, failures=n, chance=0.0) for n in range(1, 12)]
    assert waits[:4] == [2.5, 5, 10, 20]
    assert waits[-1] == 300
    assert all(after in (2 * before, 300) for before, after in itertools.pairwise(waits))


@given(st.integers(1, 1 << 60), chances)
def test_backoff_never_passes_its_longest(failures: int, chance: float) -> None:
    assert 2.5 <= next_wait_s(PACE, failures=failures, chance=chance) <= 600


def test_silence_counts_from_made_at_on_the_wall() -> None:
    now = Clocks(wall_s=10_000, steady_s=5)
    assert silence_s(made_at=9_000, heard=None, now=now) == 1_000
    assert silence_s(made_at=11_000, heard=None, now=now) == 0


def test_a_clock_set_back_does_not_hide_a_silence() -> None:
    heard, now = Clocks(wall_s=10_000, steady_s=100), Clocks(wall_s=2_000, steady_s=4_000)
    assert silence_s(made_at=10_000, heard=heard, now=now) == 3_900
    assert is_stale(PACE, silence_s(made_at=10_000, heard=heard, now=now))


def test_a_clock_set_forward_is_a_silence() -> None:
    heard, now = Clocks(wall_s=10_000, steady_s=100), Clocks(wall_s=20_000, steady_s=101)
    assert is_stale(PACE, silence_s(made_at=10_000, heard=heard, now=now))


def test_stale_begins_after_its_limit() -> None:
    assert not is_stale(PACE, 3_600)
    assert is_stale(PACE, 3_600.001)


@pytest.mark.parametrize(
    ("wall_s", "jumped"), [(130, False), (161, True), (60, True), (131, False)]
)
def test_a_jump_is_what_only_the_wall_clock_did(wall_s: float, jumped: bool) -> None:
    before, now = Clocks(wall_s=100, steady_s=1_000), Clocks(wall_s=wall_s, steady_s=1_030)
    assert clock_step_s(before, now) == wall_s - 130
    assert has_jumped(PACE, before, now) is jumped


@pytest.mark.parametrize(
    "changes",
    [
        {"every_s": 0},
        {"every_s": float("nan")},
        {"every_s": 1e9},
        {"jitter": -0.1},
        {"jitter": 0.6},
        {"backoff_first_s": 0},
        {"backoff_first_s": 601},
        {"stale_after_s": 119},
        {"stale_after_s": float("nan")},
    ],
)
def test_timers_that_contradict_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(Refused, match="config-pace"):
        Pace(**{"every_s": 60, "backoff_max_s": 600, **changes})
