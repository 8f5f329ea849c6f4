"""Marks never miss a block that a span touches, and seldom name one that none does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eir.core import marks, sieve
from tests.core.strategies import U64

KEYS = st.integers(0, 99_999_999_999_999)


def marked(table: U64, block: int) -> bool:
    with np.errstate(over="ignore"):
        word = np.uint64(sieve.spread(np.uint64(block)))
        return bool(marks.is_marked(table.ctypes.data, marks.shift_of(table), word))


def spans_of(*spans: tuple[int, int]) -> U64:
    return np.array(spans, np.uint64).reshape(-1, 2)


@given(st.lists(st.tuples(KEYS, st.integers(0, 3 << 20)), max_size=20), st.sampled_from([0, 20]))
def test_every_key_of_a_span_is_marked(spans: list[tuple[int, int]], block_bits: int) -> None:
    asked = [(first, first + (length if block_bits else length % 50)) for first, length in spans]
    table = marks.marks_of(spans_of(*asked), block_bits)
    for first, last in asked:
        for key in (first, (first + last) // 2, last):
            assert marked(table, key >> block_bits)


def test_where_nothing_is_covered_nothing_is_marked() -> None:
    table = marks.marks_of(spans_of(), 20)
    assert not any(marked(table, block) for block in range(1_000))


def test_few_others_are_marked() -> None:
    table = marks.marks_of(spans_of(*((block << 20, block << 20) for block in range(500))), 20)
    others = sum(marked(table, block) for block in range(1_000, 11_000))
    assert others < 1_000


def test_more_than_can_be_marked_are_everybody() -> None:
    table = marks.marks_of(spans_of((0, (marks.MOST_BLOCKS + 1) << 20)), 20)
    assert len(table) == 1
    assert all(marked(table, block) for block in range(0, 1 << 40, 1 << 35))
