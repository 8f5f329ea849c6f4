"""Keys where containers have their borders, for every test of what is built of containers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

from eir import limits

U64 = NDArray[np.uint64]

SPAN = 1 << 16
BUCKET = 1 << 32
LINE_BITS = 496
CARDS = (1, 2, 3, 4095, 4096, 4097, 65535, 65536)
"""Cardinalities at which a Roaring container changes its type, or is full."""

CONTAINERS = st.sampled_from(
    [0, 1, 2, BUCKET - SPAN, BUCKET, BUCKET + SPAN, 7 * BUCKET - SPAN, 7 * BUCKET, 1_525_878_905]
).map(lambda number: number if number % SPAN == 0 else number * SPAN)
"""First keys of containers: neighbours, and both sides of a 2^32 bucket's border."""


def stretch(first: int, count: int, step: int) -> U64:
    """``count`` keys of one container at most, ``step`` apart from ``first`` on."""
    keys = np.arange(first, first + count * step, step, dtype=np.uint64)
    return keys[(keys >> np.uint64(16)) == np.uint64(first >> 16)]


@st.composite
def container(draw: DrawFn) -> U64:
    """Keys of one container: single ones at its borders, a run, a comb, a crowd, or all."""
    base = draw(CONTAINERS)
    shape = draw(st.sampled_from(["single", "run", "comb", "crowd", "lines"]))
    if shape == "single":
        lows = draw(st.sets(st.sampled_from([0, 1, 2, 495, 496, 4096, 65534, 65535]), min_size=1))
        return np.array(sorted(base + low for low in lows), np.uint64)
    if shape == "run":
        return stretch(base + draw(st.sampled_from([0, 1, 65535])), draw(st.sampled_from(CARDS)), 1)
    if shape == "comb":
        count, step = draw(st.sampled_from(CARDS)), draw(st.sampled_from([2, 3, 15, 16, 17, 33]))
        return stretch(base, count, step)
    if shape == "crowd":
        rng = np.random.default_rng(draw(st.integers(0, 5)))
        count = draw(st.sampled_from(CARDS))
        return np.sort(rng.choice(SPAN, count, replace=False)).astype(np.uint64) + np.uint64(base)
    edges = draw(st.sets(st.sampled_from([0, 1, 131, 132]), min_size=1))
    near = [line * LINE_BITS + by for line in edges for by in (-1, 0, 1, 494, 495)]
    return np.array(sorted({base + low for low in near if 0 <= low < SPAN}), np.uint64)


def united(parts: list[U64]) -> U64:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))


def no_more_than(greatest: int) -> SearchStrategy[U64]:
    return st.lists(container(), max_size=5).map(united).map(lambda keys: keys[keys <= greatest])


KEYS = no_more_than(limits.MAX_IMEI_KEY)
"""Sorted unique keys, uint64, of a few containers."""


@st.composite
def cut(draw: DrawFn, rows: int) -> list[slice]:
    """Slices that together are all rows; some may be empty."""
    places = draw(st.lists(st.integers(0, rows), max_size=6))
    ends = [0, *sorted(places), rows]
    return [slice(a, b) for a, b in pairwise(ends)]
