"""Roaring bytes of keys are those that pyroaring writes, byte for byte."""

from __future__ import annotations

import numpy as np
import pyroaring
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core import imeiset, roaring
from tests.core.strategies import U64


def by_another(keys: U64) -> bytes:
    bitmap = pyroaring.BitMap64(keys)
    bitmap.run_optimize()
    return bytes(bitmap.serialize())


PIECES = st.lists(
    st.tuples(
        st.integers(0, 3 << 32 | 5 << 16),
        st.sampled_from([1, 2, 3, 5, 40, 4095, 4096, 4097, 9000, 70_000]),
        st.sampled_from([1, 1, 2, 3, 17]),
    ),
    max_size=12,
)


@given(PIECES)
def test_bytes_are_those_of_another_writer(pieces: list[tuple[int, int, int]]) -> None:
    spans = [np.arange(first, first + n * step, step, np.uint64) for first, n, step in pieces]
    keys = np.unique(np.concatenate([np.empty(0, np.uint64), *spans]))
    assert roaring.encoded([keys]).tobytes() == by_another(keys)
    assert np.array_equal(imeiset.build([keys]).keys(), keys)


@pytest.mark.parametrize("runs", [2046, 2047, 2048, 4096])
def test_the_borders_between_the_kinds(runs: int) -> None:
    for length in (1, 2, 3, 14):
        starts = np.arange(runs, dtype=np.uint64)[:, None] * np.uint64(length + 1)
        keys = (starts + np.arange(length, dtype=np.uint64)).reshape(-1)
        keys = keys[keys < 1 << 16] + np.uint64(7 << 16)
        assert roaring.encoded([keys]).tobytes() == by_another(keys)


def test_keys_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascend"):
        roaring.encoded([np.array([5], np.uint64), np.array([5], np.uint64)])
