"""Grey entries against a plain dict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from eir.core import deadlines
from eir.core.deadlines import MAX_DEADLINE, DeadlineTable
from eir.errors import Corrupt
from tests.core.strategies import KEYS, U64, cut

NUMBERS = [0, 12_345, 989_121_234_567, 989_121_234_568, 10**15 - 1]


def build(batches: Iterable[U64]) -> DeadlineTable:
    """Of batches uint64[n, 3]."""
    return deadlines.build(
        (rows[:, 0].copy(), rows[:, 1].copy(), rows[:, 2].astype(np.int64)) for rows in batches
    )


def rows_of(table: DeadlineTable) -> U64:
    return np.concatenate([np.empty((0, 3), np.uint64), *table.rows()])


@st.composite
def entries(draw: DrawFn) -> U64:
    keys = draw(KEYS)[:2000].tolist()
    found = dict.fromkeys(((key, 0) for key in keys), 5)
    if keys:
        where = st.tuples(st.sampled_from(keys[:8]), st.sampled_from(NUMBERS))
        found |= draw(st.dictionaries(where, st.sampled_from([0, 1, MAX_DEADLINE]), max_size=12))
    rows = [(key, number, deadline) for (key, number), deadline in sorted(found.items())]
    return np.array(rows, np.uint64).reshape(-1, 3)


@settings(max_examples=100, deadline=None)
@given(entries(), st.data())
def test_any_cut_gives_the_bytes_of_one_batch(rows: U64, data: st.DataObject) -> None:
    whole = build([rows])
    pieces = build(rows[piece] for piece in data.draw(cut(len(rows))))
    assert np.array_equal(rows_of(whole), rows)
    assert whole.items == len(rows)
    for name in ("starts", "numbers", "deadlines"):
        assert getattr(pieces, name).tobytes() == getattr(whole, name).tobytes()


@pytest.mark.parametrize(
    "batches",
    [
        [[[2, 0, 1], [1, 0, 1]]],
        [[[1, 5, 1], [1, 0, 1]]],
        [[[1, 0, 1], [1, 0, 2]]],
        [[[1, 0, 1]], [[1, 0, 1]]],
    ],
)
def test_rows_out_of_order_are_refused(batches: list[list[list[int]]]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        build(np.array(batch, np.uint64) for batch in batches)


@pytest.mark.parametrize("deadline", [-1, 1 << 32])
def test_a_deadline_outside_its_word_is_refused(deadline: int) -> None:
    one = np.ones(1, np.uint64)
    with pytest.raises(ValueError, match="1970"):
        deadlines.build([(one, one, np.array([deadline], np.int64))])


def several() -> DeadlineTable:
    return build([np.array([[1, 0, 9], [1, 5, 8], [2, 6, 7], [9, 0, 6]], np.uint64)])


def starts(*values: int) -> DeadlineTable:
    return replace(several(), starts=np.array(values, np.uint32))


def numbers(*values: int) -> DeadlineTable:
    return replace(several(), numbers=np.array(values, np.uint64))


@pytest.mark.parametrize(
    "broken",
    [
        starts(),
        starts(0),
        starts(1, 2, 3, 4),
        starts(0, 2, 2, 4),
        starts(0, 3, 2, 4),
        starts(0, 2, 3),
        starts(0, 2, 3, 3),
        starts(0, 2, 3, 5),
        starts(0, 2, 3, (1 << 32) - 1),
        starts(0, 2, 3, 4, 5),
        numbers(5, 0, 6, 0),
        numbers(0, 0, 6, 0),
        numbers(0, 5, 6),
        numbers(0, 5, 6, 0, 0),
        replace(several(), deadlines=several().deadlines[:-1]),
        replace(several(), deadlines=np.append(several().deadlines, np.uint32(1))),
    ],
)
def test_rows_that_do_not_add_up_are_corrupt(broken: DeadlineTable) -> None:
    with pytest.raises(Corrupt):
        rows_of(broken)
