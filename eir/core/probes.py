"""Probes of one table: is a key there, and at which place. Compiled; no bounds are checked.

A directory is a hash table over ``key >> 16``; its slots point to the containers of a list or of a
ranked index. ``desc[view …]`` says where these are (``layout``).
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import compiled, load8, load16, load64, popcount
from eir.core.layout import (
    DATA,
    DIRECTORY,
    INDEX_SLOT_BYTES,
    LIST_SLOT_BYTES,
    MASK,
    RANGE_COUNT,
    RANGES,
    SHIFT,
)
from eir.core.rankindex import LINE_BITS, LINE_BYTES

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
VACANT = np.uint64(0xFFFFFFFFFFFFFFFF)
NONE = np.uint64(0)


@compiled
def hash_directory(rows, table, shift, mask):
    """Put rows uint64[n, w] (first word: key >> 16) into the vacant table uint64[2^k, w]."""
    for i in range(rows.shape[0]):
        at = (rows[i, 0] * GOLDEN) >> shift
        while table[at, 0] != VACANT:
            at = (at + np.uint64(1)) & mask
        for w in range(rows.shape[1]):
            table[at, w] = rows[i, w]


@compiled
def find_slot(desc, view, key, slot_bytes):
    """Address of the directory slot of key's container, or 0."""
    if desc[view + DIRECTORY] == 0:
        return np.int64(0)
    container = key >> np.uint64(16)
    mask = np.uint64(desc[view + MASK])
    at = (container * GOLDEN) >> np.uint64(desc[view + SHIFT])
    while True:
        slot = desc[view + DIRECTORY] + np.int64(at) * slot_bytes
        found = load64(slot)
        if found == container:
            return slot
        if found == VACANT:
            return np.int64(0)
        at = (at + np.uint64(1)) & mask


@compiled
def in_keys(desc, view, key):
    """Whether the portable Roaring bytes of a list hold the key."""
    slot = find_slot(desc, view, key, LIST_SLOT_BYTES)
    if slot == 0:
        return False
    meta = load64(slot + 8)
    body = desc[view + DATA] + np.int64(meta & np.uint64((1 << 44) - 1))
    kind = np.int64((meta >> np.uint64(44)) & np.uint64(3))
    low = np.int64(key & np.uint64(0xFFFF))
    if kind == 1:
        return (load8(body + (low >> 3)) >> (low & 7)) & 1 == 1
    stride = 2 if kind == 0 else 4
    body += stride * last_at_most(body, stride, np.int64(meta >> np.uint64(46)), low)
    start = load16(body)
    reach = start + load16(body + 2) if kind == 2 else start
    return start <= low <= reach


@compiled
def last_at_most(body, stride, count, low):
    """The place of the last of ``count`` > 0 ascending uint16 that is not above ``low``; 0 if none.

    Each step is an addition, not a branch: half of those would be mispredicted.
    """
    at = np.int64(0)
    while count > 1:
        half = count >> 1
        at += half * np.int64(load16(body + stride * (at + half)) <= low)
        count -= half
    return at


@compiled
def in_ranges(desc, view, key):
    """Whether one of the disjoint ascending ranges (lo, hi) of a list holds the key."""
    begin, end = np.int64(0), desc[view + RANGE_COUNT]
    if end == 0:
        return False
    ranges = desc[view + RANGES]
    while begin < end:
        middle = (begin + end) >> 1
        if load64(ranges + 16 * middle) <= key:
            begin = middle + 1
        else:
            end = middle
    return begin > 0 and key <= load64(ranges + 16 * (begin - 1) + 8)


@compiled
def rank_of(desc, view, key):
    """The place of a key in a ranked index, or -1."""
    slot = find_slot(desc, view, key, INDEX_SLOT_BYTES)
    return rank_in_slot(desc, view, slot, key) if slot != 0 else np.int64(-1)


@compiled
def rank_in_slot(desc, view, slot, key):
    """The place of a key whose container's slot this is, or -1."""
    meta = load64(slot + 16)
    low = np.int64(key & np.uint64(0xFFFF))
    lowest = np.int64((meta >> np.uint64(20)) & np.uint64(0xFFFF))
    if low < lowest or low > np.int64((meta >> np.uint64(44)) & np.uint64(0xFFFF)):
        return np.int64(-1)
    first = np.int64(load64(slot + 8))
    body = desc[view + DATA] + np.int64(load64(slot + 24))
    if (meta >> np.uint64(40)) & np.uint64(1) == np.uint64(1):
        return rank_in_lines(body, low - lowest, first)
    at = last_at_most(body, 2, np.int64(meta & np.uint64(0xFFFFF)), low)
    return first + at if load16(body + 2 * at) == low else np.int64(-1)


@compiled
def rank_in_lines(body, place, first):
    """One cache line: is the bit there, and how many stand before it."""
    line = body + place // LINE_BITS * LINE_BYTES
    bit = place % LINE_BITS + 16
    word = load64(line + 8 * (bit >> 6))
    here = np.uint64(1) << np.uint64(bit & 63)
    if word & here == NONE:
        return np.int64(-1)
    before = popcount(word & (here - np.uint64(1)))
    for w in range(bit >> 6):
        before += popcount(load64(line + 8 * w))
    rank = load16(line)
    return first + rank + before - popcount(np.uint64(rank))
