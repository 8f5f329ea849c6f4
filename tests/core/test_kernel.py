"""The kernel's probes against plain sets and dicts, at every border of a container."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core import deadlines, imeiset, kernel, pairtable
from eir.core.generation import REGISTRY, Content, Generation, Section
from eir.core.policy import CODES, Policy, Status, leaves_as
from eir.core.tables import Tables
from tests.core.strategies import KEYS, U64, stretch

MOST_PROBES = 150


def tables(name: str, content: Content) -> Tables:
    section = Section(name, content)
    return Tables(Generation(REGISTRY, "r", "s", 1, 0, "", {name: section}), None, Policy())


def around(keys: U64, seed: int) -> list[int]:
    """Some of the keys, the first and last of each container, and the neighbours of them all."""
    if len(keys) == 0:
        return [0, 1, 65_535, 65_536]
    fresh = np.flatnonzero(np.diff(keys >> np.uint64(16))) + 1
    ends = np.concatenate([[0], fresh, fresh - 1, [len(keys) - 1]])
    rng = np.random.default_rng(seed)
    some = {*keys[ends].tolist(), *rng.choice(keys, MOST_PROBES // 5).tolist()}
    near = {key + by for key in some for by in (-497, -1, 0, 1, 496, 65_536, 1 << 32)}
    return sorted(key for key in near if key >= 0)


def check_index(keys: U64, probes: Iterable[int]) -> None:
    held = tables("bindings", pairtable.of_rows(keys, keys + np.uint64(5)))
    ranks = {key: rank for rank, key in enumerate(keys.tolist())}
    for probe in probes:
        key = np.uint64(probe)
        assert kernel.rank_of(held.desc, kernel.AT_BINDINGS, key) == ranks.get(probe, -1)
        pair = (key, key + np.uint64(5))
        has, bound, lowest = kernel.pairs_of(
            held.desc, kernel.AT_BINDINGS, *pair, kernel.ALL_HINTS, -1
        )
        there = probe in ranks
        assert (has, bound, int(lowest)) == (there, there, probe + 5 if there else 0)


@settings(max_examples=60, deadline=None)
@given(KEYS, st.integers(0, 9))
def test_a_list(keys: U64, seed: int) -> None:
    held = tables("white", imeiset.build([keys]))
    members = set(keys.tolist())
    for probe in around(keys, seed):
        found = kernel.in_list(held.desc, kernel.AT_WHITE, np.uint64(probe), kernel.ALL_HINTS, 0)
        assert found == (probe in members), probe


@pytest.mark.parametrize("runs", [1, 2, 31, 32, 33, 63, 64, 65, 66, 127, 128, 129, 700, 2047])
@pytest.mark.parametrize("before", [1, 2, 63, 127])
def test_a_list_whose_runs_fill_blocks(runs: int, before: int) -> None:
    """``before`` keys in the container in front move where this one's blocks begin."""
    starts = np.arange(runs, dtype=np.uint64) * np.uint64(31) + np.uint64((3 << 16) + 5)
    keys = np.concatenate([stretch(2 << 16, before, 9), *(starts + np.uint64(i) for i in range(4))])
    keys.sort()
    held = tables("white", imeiset.build([keys]))
    members = set(keys.tolist())
    for probe in [
        *range(3 << 16, (3 << 16) + 40),
        *range(int(keys[-1]) - 2_100, int(keys[-1]) + 9),
    ]:
        found = kernel.in_list(held.desc, kernel.AT_WHITE, np.uint64(probe), kernel.ALL_HINTS, 0)
        assert found == (probe in members), probe


LOWEST, HIGHEST = 12_345, 1 << 50
"""Numbers that do not fit beside a nation's."""


@pytest.mark.parametrize("others", [[], [LOWEST], [HIGHEST], [LOWEST, HIGHEST]])
@pytest.mark.parametrize("after", ["none", "one", "several", "far"])
@pytest.mark.parametrize("many", [15, 16, 17, 18, 40, 900])
def test_a_device_of_many_numbers(many: int, after: str, others: list[int]) -> None:
    own = sorted([*range(98_910_000, 98_910_000 + 7 * many, 7), *others])
    singles = {"none": 0, "one": 1, "several": 3, "far": 2_000}[after]
    rows = [(9, number) for number in own]
    rows += [(10 + i, 98_920_000 + i) for i in range(singles)]
    rows += [(9_999, number) for number in own if after != "none"]
    columns = np.array(rows, np.uint64)
    held = tables("bindings", pairtable.of_rows(columns[:, 0].copy(), columns[:, 1].copy()))
    for number in {0, *own, *(number + by for number in own for by in (-1, 1))}:
        found = kernel.pairs_of(
            held.desc, kernel.AT_BINDINGS, np.uint64(9), np.uint64(number), kernel.ALL_HINTS, -1
        )
        assert (found[0], found[1], int(found[2])) == (True, number in own, own[0]), number


@settings(max_examples=60, deadline=None)
@given(KEYS, st.integers(0, 9))
def test_an_index(keys: U64, seed: int) -> None:
    check_index(keys, around(keys, seed))


@pytest.mark.parametrize("lines", [1, 2, 5])
@pytest.mark.parametrize("by", [-1, 0, 1])
def test_an_index_whose_last_line_is_full(lines: int, by: int) -> None:
    keys = stretch(7 << 16 | 9, 496 * lines + by, 1)
    check_index(keys, range((7 << 16) - 20, int(keys[-1]) + 530))


@given(st.lists(st.integers(0, 60), unique=True, max_size=12), st.integers(0, 60))
def test_ranges(edges: list[int], probe: int) -> None:
    edges = sorted(edges)[: len(edges) // 2 * 2]
    ranges = np.array(edges, np.uint64).reshape(-1, 2)
    held = tables("white", imeiset.build([], ranges))
    inside = any(low <= probe <= high for low, high in ranges.tolist())
    found = kernel.in_list(held.desc, kernel.AT_WHITE, np.uint64(probe), kernel.ALL_HINTS, 0)
    assert found == inside


@given(
    st.dictionaries(
        st.tuples(st.sampled_from([7, 8, 1 << 20]), st.integers(0, 9)), st.integers(0, 99)
    ),
    st.sampled_from([6, 7, 8, 9, 1 << 20]),
    st.integers(0, 9),
)
def test_deadlines(rows: dict[tuple[int, int], int], key: int, number: int) -> None:
    columns = np.array([(*who, at) for who, at in sorted(rows.items())], np.uint64).reshape(-1, 3)
    table = deadlines.build(
        [(columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].astype(np.int64))]
        if rows
        else []
    )
    desc = tables("grey", table).desc
    due = rows.get((key, number), rows.get((key, 0), -1))
    found = kernel.deadline_of(desc, np.uint64(key), np.uint64(number), kernel.ALL_HINTS, -1)
    assert found == due


@pytest.mark.parametrize("column", range(3))
def test_columns_of_unlike_length_are_refused(column: int) -> None:
    columns = [np.ones(3, np.uint64) for _ in range(3)]
    columns[column] = np.ones(2, np.uint64)
    held = tables("white", imeiset.empty())
    with pytest.raises(ValueError, match="3"):
        held.check(*columns, now=0, grace_time=0, counts=np.zeros((CODES, 5), np.uint64))


@pytest.mark.parametrize("row", range(1, 17))
def test_a_hold_spares_the_rows_of_who_has_not_registered_and_no_other(row: int) -> None:
    spared = Status.GREYLISTED if row >= 12 else Status.BLACKLISTED
    assert leaves_as(Status.BLACKLISTED, row, True, False) == spared
    assert leaves_as(Status.WHITELISTED, row, True, False) == Status.WHITELISTED
    assert leaves_as(Status.BLACKLISTED, row, False, False) == Status.BLACKLISTED
    assert leaves_as(Status.UNKNOWN, row, False, True) == Status.GREYLISTED
