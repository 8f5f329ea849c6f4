"""The circuit of one node, on a clock of the test's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eir.client.breaker import Breaker


def a_breaker() -> Breaker:
    return Breaker(failures=3, pause=1.0, longest_pause=4.0)


def opened() -> Breaker:
    breaker = a_breaker()
    for _ in range(3):
        breaker.failed(10.0)
    return breaker


def test_failures_in_a_row_open_it_and_an_answer_between_does_not():
    breaker = a_breaker()
    for outcome in "ffaff":
        breaker.asked()
        breaker.failed(0) if outcome == "f" else breaker.answered()
    assert breaker.closed
    breaker.failed(10.0)
    assert not breaker.closed
    assert not breaker.lets(10.999)


def test_after_the_pause_one_question_tries():
    breaker = opened()
    assert breaker.lets(11.0)
    breaker.asked()
    assert not breaker.lets(12.0)
    breaker.answered()
    assert breaker.closed
    assert breaker.lets(12.0)


def test_the_pause_doubles_to_its_limit_and_an_answer_makes_it_short_again():
    breaker, now, pauses = opened(), 10.0, []
    for _ in range(4):
        pause = next(p for p in (1, 2, 4, 8) if breaker.lets(now + p))
        pauses.append(pause)
        now += pause
        breaker.asked()
        breaker.failed(now)
    assert pauses == [1, 2, 4, 4]
    now += 4
    breaker.asked()
    breaker.answered()
    for _ in range(3):
        breaker.failed(now)
    assert breaker.lets(now + 1.0)


def test_a_try_taken_back_leaves_room_for_another():
    breaker = opened()
    breaker.asked()
    breaker.withdrawn()
    assert not breaker.closed
    assert breaker.lets(11.0)


@given(st.lists(st.sampled_from(["answered", "failed", "withdrawn", "wait"]), max_size=60))
def test_whatever_happened_a_pause_later_it_lets_a_question_through(outcomes: list[str]):
    breaker, now = a_breaker(), 0.0
    for outcome in outcomes:
        if outcome == "wait":
            now += 0.7
            continue
        if not breaker.lets(now):
            continue
        breaker.asked()
        breaker.failed(now) if outcome == "failed" else getattr(breaker, outcome)()
    assert breaker.lets(now + 4.0)
