"""However sorted rows are cut into batches, the settled rows and the counts are the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eir.store.importers.streams import (
    Tally,
    latest_deadlines,
    one_value_each,
    settled_overrides,
    unique_keys,
    unique_pairs,
)

Row = tuple[int, ...]


def rows_of(width: int) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.tuples(*[st.integers(1, 4)] * width), max_size=30).map(sorted)


CUTS = st.lists(st.integers(0, 30), max_size=5).map(sorted)


def batches(rows: list[Row], cuts: list[int], width: int) -> Iterator[tuple[np.ndarray, ...]]:
    edges = [0, *cuts, max(len(rows), *cuts, 0)]
    for low, high in pairwise(edges):
        part = np.array(rows[low:high], np.uint64).reshape(-1, width)
        yield tuple(np.ascontiguousarray(part[:, place]) for place in range(width))


def listed(columns: Iterator[tuple[np.ndarray, ...]]) -> list[Row]:
    return [tuple(map(int, row)) for batch in columns for row in zip(*batch, strict=True)]


@given(rows=rows_of(1), cuts=CUTS)
def test_keys(rows: list[Row], cuts: list[int]) -> None:
    tally = Tally()
    kept = [int(key) for keys in unique_keys(batches(rows, cuts, 1), tally) for key in keys]
    assert kept == sorted({key for (key,) in rows})
    assert (tally.rows, tally.duplicates) == (len(rows), len(rows) - len(kept))


@given(rows=rows_of(2), cuts=CUTS)
def test_pairs_and_those_with_one_value(rows: list[Row], cuts: list[int]) -> None:
    tally = Tally()
    pairs = unique_pairs(batches(rows, cuts, 2), tally)
    kept = listed(one_value_each(pairs, tally))
    distinct = sorted(set(rows))
    several = {key for key, _ in distinct if sum(k == key for k, _ in distinct) > 1}
    assert kept == [row for row in distinct if row[0] not in several]
    assert tally.duplicates == len(rows) - len(distinct)
    assert tally.conflicts == len(several)
    assert {found.item[0] for found in tally.named} == several


@given(rows=rows_of(3), cuts=CUTS)
def test_deadlines(rows: list[Row], cuts: list[int]) -> None:
    tally = Tally()
    kept = listed(latest_deadlines(batches(rows, cuts, 3), tally))  # type: ignore[arg-type]
    latest = {row[:2]: row[2] for row in rows}
    assert kept == sorted((*item, at) for item, at in latest.items())
    distinct = set(rows)
    assert tally.duplicates == len(rows) - len(distinct)
    assert tally.conflicts == len(distinct) - len(latest)
    assert {(*found.item, int(found.dropped)) for found in tally.named} == distinct - set(kept)
    assert all(int(found.kept) == latest[found.item] for found in tally.named)


@given(rows=st.permutations([(1, 0, 0, 0), (1, 0, 5, 0), (1, 0, 9, 1), (1, 0, 0, 1), (1, 0, 3, 3)]))
def test_overrides_settle_alike_in_any_order(rows: list[Row]) -> None:
    tally = Tally()
    (kept,) = settled_overrides(batches(rows, [2], 4), tally)
    assert (kept.allow, kept.forced, kept.until) == (True, True, 3)
    assert tally.conflicts == 4


@given(rows=st.permutations([(1, 0, 0, 0), (1, 0, 5, 0), (1, 0, 9, 0)]))
def test_of_denials_the_shortest_holds(rows: list[Row]) -> None:
    (kept,) = settled_overrides(batches(rows, [], 4), Tally())
    assert (kept.allow, kept.until) == (False, 5)
