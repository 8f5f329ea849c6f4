"""The forecast says of each day who is refused at its end and was not at its beginning."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core.generation import OPERATOR
from eir.core.orders import Hold
from eir.core.policy import CODES, SHADOW, Policy, Status
from eir.core.tables import Tables
from eir.serve.forecast import DAY_S, forecast
from tests.core.contents import Content, Listed, generation_of

NOW = 1_750_000_000
TAC = 35_999_900
FIRST = TAC * 10**6
NUMBER = 989_120_000_000


def tables(grey: set[tuple[int, int, int]], *others: tuple[str, Listed], hold: int = 0,
           mode: str = "enforce") -> Tables:  # fmt: skip
    content: Content = {"grey": Listed(frozenset(grey)), **dict(others)}
    held = {"holds": Listed(orders=frozenset({Hold(hold)}))} if hold else {}
    operator = generation_of(held, feed=OPERATOR)
    return Tables(generation_of(content), operator, Policy(mode=mode))


def days_of(made: Tables, days: int = 7, grace_time: int = NOW) -> list[tuple[int, int]]:
    found = forecast(made, now=NOW, grace_time=grace_time, days=days)
    return [(day.impact.newly_refused, day.impact.devices) for day in found]


def is_refused(made: Tables, row: tuple[int, int, int], at: int) -> bool:
    imei, number, _ = (np.array([word], np.uint64) for word in row)
    counts, none = np.zeros((CODES, 5), np.uint64), np.zeros(1, np.uint64)
    found = made.check(imei, number, none, now=at, grace_time=at, counts=counts)
    return int(found.rows[0, 0]) in (Status.BLACKLISTED, Status.UNKNOWN)


ROWS = st.lists(
    st.tuples(
        st.integers(FIRST, FIRST + 20),
        st.sampled_from([0, NUMBER, NUMBER + 1]),
        st.integers(NOW - DAY_S, NOW + 5 * DAY_S),
    ),
    max_size=20,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=60, deadline=None)
@given(
    rows=ROWS,
    bound=st.frozensets(st.tuples(st.integers(FIRST, FIRST + 20), st.just(NUMBER)), max_size=6),
    hold=st.sampled_from([0, NOW + DAY_S + 5, NOW + 90 * DAY_S]),
)
def test_each_day_is_what_the_doors_would_say(
    rows: list[tuple[int, int, int]], bound: frozenset[tuple[int, int]], hold: int
) -> None:
    made = tables(set(rows), ("bindings", Listed(bound)), hold=hold)
    expected = []
    for day in range(4):
        begins, ends = NOW + day * DAY_S, NOW + (day + 1) * DAY_S
        due = [row for row in rows if row[2] <= ends]
        fresh = [
            row for row in due if is_refused(made, row, ends) and not is_refused(made, row, begins)
        ]
        expected.append((len(fresh), len({row[0] for row in fresh})))
    assert days_of(made, 4) == expected


def test_by_reason_and_tac() -> None:
    made = tables({(FIRST, NUMBER, NOW + 9), (FIRST + 1, 0, NOW + 9), (5, 0, NOW + DAY_S + 9)})
    first, second = forecast(made, now=NOW, grace_time=NOW, days=2)
    assert first.impact.by_reason == {"grace-expired": 2}
    assert first.impact.by_tac == {TAC: 2}
    assert second.impact.by_tac == {0: 1}
    assert (first.begins, first.ends, second.ends) == (NOW, NOW + DAY_S, NOW + 2 * DAY_S)


def test_whom_a_clock_that_stands_still_spares_counts_for_the_first_day() -> None:
    made = tables({(FIRST, 0, NOW - 100)})
    assert days_of(made, 1) == [(0, 0)]
    assert days_of(made, 1, grace_time=NOW - 200) == [(1, 1)]


def test_nobody_in_shadow_mode_and_none_without_grey() -> None:
    assert days_of(tables({(FIRST, 0, NOW + 9)}, mode=SHADOW), 1) == [(0, 0)]
    assert days_of(Tables(generation_of({}), None, Policy()), 2) == [(0, 0), (0, 0)]
