"""Bindings against a plain set of pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from eir.core import pairtable
from eir.core.pairtable import ESCAPE, LAST, PairTable
from eir.errors import Corrupt
from tests.core.strategies import KEYS, U64, cut

BASE = 989_000_000_000 >> 30 << 30
"""Where the window of most values below begins."""
VALUES = st.sampled_from(
    [1, 2, BASE - 1, BASE, BASE + 1, BASE + ESCAPE - 1, BASE + ESCAPE, BASE + (1 << 31), 10**15 - 1]
) | st.integers(BASE, BASE + 50)


def build(batches: Iterable[U64]) -> PairTable:
    """Of batches uint64[n, 2]."""
    columns = ((rows[:, 0].copy(), rows[:, 1].copy()) for rows in batches)
    return pairtable.build(columns)


def rows_of(table: PairTable) -> U64:
    return np.concatenate([np.empty((0, 2), np.uint64), *table.rows()])


@st.composite
def pairs(draw: DrawFn) -> U64:
    """uint64[n, 2], sorted, unique: most keys have one value, some have several."""
    keys = draw(KEYS)[:3000]
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    single = np.stack([keys, rng.integers(BASE, BASE + 1000, len(keys), np.uint64)], axis=1)
    if len(keys) == 0:
        return single
    several = draw(st.lists(st.tuples(st.sampled_from(keys[:8].tolist()), VALUES), max_size=20))
    together = np.concatenate([single, np.array(several, np.uint64).reshape(-1, 2)])
    return np.unique(together, axis=0)


@settings(max_examples=150, deadline=None)
@given(pairs(), st.data())
def test_any_cut_gives_the_bytes_of_one_batch(rows: U64, data: st.DataObject) -> None:
    whole = build([rows])
    pieces = build(rows[piece] for piece in data.draw(cut(len(rows))))
    assert np.array_equal(rows_of(whole), rows)
    assert (whole.items, whole.base) == (len(rows), pieces.base)
    for name in ("values", "words"):
        assert getattr(pieces, name).tobytes() == getattr(whole, name).tobytes()
    assert pieces.index.data.tobytes() == whole.index.data.tobytes()
    assert pieces.index.containers.tobytes() == whole.index.containers.tobytes()


def test_no_pairs() -> None:
    nothing = build([])
    assert (nothing.items, len(rows_of(nothing)), nothing.base) == (0, 0, 0)


@pytest.mark.parametrize("values", [[BASE], [BASE, BASE + 1], [1], [1, BASE], [BASE, 10**15 - 1]])
def test_values_inside_and_outside_the_window(values: list[int]) -> None:
    most = [[key, BASE + key] for key in range(100, 200)]
    rows = np.array([[7, value] for value in values] + most, np.uint64)
    table = build([rows])
    assert table.base == BASE
    assert np.array_equal(rows_of(table), rows)


def test_a_single_number_takes_four_bytes() -> None:
    rows = np.stack([np.arange(1 << 16), BASE + np.arange(1 << 16)], axis=1).astype(np.uint64)
    table = build([rows])
    assert (len(table.values), len(table.words)) == (1 << 16, 0)


@pytest.mark.parametrize(
    "batches",
    [
        [[[2, 1], [1, 1]]],
        [[[1, 2], [1, 1]]],
        [[[1, 1], [1, 1]]],
        [[[1, 1]], [[1, 1]]],
        [[[1, 5]], [[1, 4]]],
        [[[3, 1]], [[1, 4]]],
    ],
)
def test_rows_out_of_order_are_refused(batches: list[list[list[int]]]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        build(np.array(batch, np.uint64) for batch in batches)


def several() -> PairTable:
    """Key 1 has two numbers, key 2 one, key 3 one far away and one more."""
    return build(
        [np.array([[1, BASE], [1, BASE + 5], [2, BASE + 7], [3, 9], [3, BASE]], np.uint64)]
    )


def words(*changes: tuple[int, int]) -> PairTable:
    table = several()
    changed = table.words.copy()
    for place, word in changes:
        changed[place] = word
    return replace(table, words=changed)


def values(*changes: tuple[int, int]) -> PairTable:
    table = several()
    changed = table.values.copy()
    for place, word in changes:
        changed[place] = word
    return replace(table, values=changed)


def test_the_words_are_as_the_attacks_below_take_them() -> None:
    assert several().words.tolist() == [0, 5 | LAST, ESCAPE, 9, 0, LAST]
    assert several().values.tolist() == [LAST, 7, LAST + 2]


@pytest.mark.parametrize(
    "broken",
    [
        words((0, 6)),
        words((0, 5)),
        words((0, LAST)),
        words((1, 5)),
        words((5, 0)),
        words((5, ESCAPE)),
        words((5, ESCAPE | LAST)),
        words((3, BASE & 0xFFFFFFFF), (4, BASE >> 32)),
        words((4, 1 << 31), (3, 0)),
        values((0, LAST + 1)),
        values((0, 5)),
        values((1, ESCAPE)),
        values((1, LAST)),
        values((2, LAST + 3)),
        values((2, (1 << 32) - 1)),
        replace(several(), items=4),
        replace(several(), words=several().words[:-1]),
        replace(several(), words=np.append(several().words, np.uint32(LAST))),
        replace(several(), values=several().values[:-1]),
        replace(several(), values=np.append(several().values, np.uint32(1))),
        replace(several(), values=several().values[:0]),
    ],
)
def test_runs_that_do_not_add_up_are_corrupt(broken: PairTable) -> None:
    with pytest.raises(Corrupt):
        rows_of(broken)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_words_are_refused_or_read_in_order(data: st.DataObject) -> None:
    word = st.sampled_from([0, 1, 5, ESCAPE, LAST, LAST | 5, LAST | ESCAPE]) | st.integers(
        0, (1 << 32) - 1
    )
    entry = st.sampled_from([0, 1, 2, ESCAPE]).flatmap(lambda n: st.sampled_from([n, LAST | n]))
    table = several()
    broken = replace(
        table,
        values=np.array(data.draw(st.lists(entry, min_size=3, max_size=3)), np.uint32),
        words=np.array(data.draw(st.lists(word, max_size=8)), np.uint32),
        items=data.draw(st.integers(0, 8)),
    )
    try:
        rows = rows_of(broken)
    except Corrupt:
        return
    assert len(rows) == broken.items
    assert np.array_equal(rows, np.unique(rows, axis=0))
