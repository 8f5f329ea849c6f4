"""Probes of one table: is a key there, and at which place. Compiled; no bounds are checked.

A directory is a hash table over ``key >> 16``; its slots point to the containers of a list or of a
ranked index. ``desc[view …]`` says where these are (``layout``). A search begins with a cache line
and reads all of its slots: where it is found there is no branch, and next to nobody reads a second.

A container that has to be searched is an ascending row of entries: the keys of an array, the runs
of a list. A search of thousands would be ten cache misses, one after the other. So of each block of
256 bytes of the data its *fence* is kept, two bytes: the first entry that begins in the block. The
fences of a container stand side by side; they name the block, and only that is searched.
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import compiled, either, inlined, load8, load16, load64, popcount
from eir.core.layout import (
    DATA,
    DIRECTORY,
    FENCES,
    INDEX_SLOT_BYTES,
    LINES,
    LIST_SLOT_BYTES,
    RANGE_COUNT,
    RANGES,
)
from eir.core.rankindex import LINE_BITS, LINE_BYTES

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
NONE, ALL = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
VACANT = ALL
BLOCK_BITS = 8
BLOCK_BYTES = 1 << BLOCK_BITS
BLOCK_HALVINGS, FENCE_HALVINGS = 7, 6
"""What the longest search takes: 128 entries in a block, 34 fences of a container."""


@compiled
def hash_directory(rows, table):
    """Put rows uint64[n, w] (first word: key >> 16) into the vacant table uint64[> n, w], whose
    slots are whole lines.
    """
    in_line = LINE_BYTES // (8 * table.shape[1])
    for i in range(rows.shape[0]):
        at = in_line * first_line(rows[i, 0], len(table) // in_line)
        while table[at, 0] != VACANT:
            at = at + 1 if at + 1 < len(table) else 0
        for w in range(rows.shape[1]):
            table[at, w] = rows[i, w]


@compiled
def raise_fences(rows, data, fences):
    """Fill uint16[blocks] for the containers of rows uint64[n, w], whose data are at an address."""
    for i in range(rows.shape[0]):
        slot = rows.ctypes.data + 8 * rows.shape[1] * i
        offset, stride, count = body_of(slot, rows.shape[1] == INDEX_SLOT_BYTES // 8)
        if stride > 0:
            last = (offset + stride * (count - 1)) >> BLOCK_BITS
            for block in range((offset >> BLOCK_BITS) + 1, last + 1):
                entry = first_entry(offset, stride, block)
                fences[block] = load16(data + offset + stride * entry)


@inlined
def first_line(container, lines):
    """The line of a directory where the search for a container begins."""
    return np.int64((((container * GOLDEN) >> np.uint64(32)) * np.uint64(lines)) >> np.uint64(32))


@inlined
def find_slot(desc, view, key, slot_bytes):
    """Address of the directory slot of key's container, or 0.

    A line whose last slot is vacant was never full: what it lacks stands in no other.
    """
    directory, lines = desc[view + DIRECTORY], desc[view + LINES]
    if lines == 0:
        return np.int64(0)
    container = key >> np.uint64(16)
    line = first_line(container, lines)
    while True:
        at, slot = directory + LINE_BYTES * line, np.int64(0)
        for s in range(LINE_BYTES // LIST_SLOT_BYTES):
            place = at + (s * slot_bytes & (LINE_BYTES - 1))
            slot = either(load64(place) == container, place, slot)
        if slot != 0 or load64(at + LINE_BYTES - slot_bytes) == VACANT:
            return slot
        line = line + 1 if line + 1 < lines else 0


@inlined
def body_of(slot, is_index):
    """What a container's slot says: (offset in the data, bytes an entry, entries).

    0 bytes an entry: it is bits, to be read at one place.
    """
    if is_index:
        meta = load64(slot + 16)
        lines = np.int64((meta >> np.uint64(40)) & np.uint64(1))
        return np.int64(load64(slot + 24)), 2 - 2 * lines, np.int64(meta & np.uint64(0xFFFFF))
    meta = load64(slot + 8)
    kind = np.int64((meta >> np.uint64(44)) & np.uint64(3))
    stride = np.int64(0 if kind == 1 else 2 + kind)
    return np.int64(meta & np.uint64((1 << 44) - 1)), stride, np.int64(meta >> np.uint64(46))


@inlined
def first_entry(offset, stride, block):
    """The first entry, of 2 or 4 bytes from an offset on, that begins in a block or behind it."""
    return max(0, ((block << BLOCK_BITS) - offset + stride - 1) >> (stride >> 1))


@inlined
def block_of(fences, offset, stride, count, low):
    """(the first entry, how many) of the block in which to look for the last not above ``low``."""
    first, last = offset >> BLOCK_BITS, (offset + stride * (count - 1)) >> BLOCK_BITS
    fence = last_at_most(fences + 2 * first, 2, last - first + 1, low, FENCE_HALVINGS)
    block = (fence - fences) >> 1
    entry = first_entry(offset, stride, block)
    return entry, min(count, first_entry(offset, stride, block + 1)) - entry


@inlined
def last_at_most(at, stride, count, low, halvings):
    """Address of the last of ``count`` > 0 ascending uint16 not above ``low``, else of the first.

    At most 2 ** ``halvings`` entries. Each search takes them all: when it could end is a branch
    that chance decides.
    """
    for _ in range(halvings):
        half = count >> 1
        middle = at + stride * half
        at = either(load16(middle) <= low, middle, at)
        count -= half
    return at


@inlined
def entry_at(desc, view, offset, stride, count, low):
    """Address of a container's last entry that is not above ``low``, of its first if none is."""
    entry, left = block_of(desc[view + FENCES], offset, stride, count, low)
    at = desc[view + DATA] + offset + stride * entry
    return last_at_most(at, stride, left, low, BLOCK_HALVINGS)


@inlined
def covers(entry, stride, low):
    """Whether the key or run (start, length - 1) at an address is, or holds, ``low``."""
    start = load16(entry)
    return start <= low <= (start + load16(entry + 2) if stride == 4 else start)


@compiled
def in_keys(desc, view, key):
    """Whether the portable Roaring bytes of a list hold the key."""
    slot = find_slot(desc, view, key, LIST_SLOT_BYTES)
    if slot == 0:
        return False
    offset, stride, count = body_of(slot, False)
    low = np.int64(key & np.uint64(0xFFFF))
    if stride == 0:
        return (load8(desc[view + DATA] + offset + (low >> 3)) >> (low & 7)) & 1 == 1
    return covers(entry_at(desc, view, offset, stride, count, low), stride, low)


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


@inlined
def rank_in_slot(desc, view, slot, key):
    """The place of a key whose container's slot this is, or -1."""
    body, low = desc[view + DATA], np.int64(key & np.uint64(0xFFFF))
    offset, stride, count = body_of(slot, True)
    if stride == 0:
        return rank_in_container(slot, body + offset, low)
    at = entry_at(desc, view, offset, stride, count, low)
    first = np.int64(load64(slot + 8))
    return first + ((at - body - offset) >> 1) if load16(at) == low else np.int64(-1)


@inlined
def rank_in_container(slot, body, low):
    """The place of a key in a container of lines, or -1."""
    meta = load64(slot + 16)
    lowest = np.int64((meta >> np.uint64(20)) & np.uint64(0xFFFF))
    if lowest <= low <= np.int64((meta >> np.uint64(44)) & np.uint64(0xFFFF)):
        return rank_in_lines(body, low - lowest, np.int64(load64(slot + 8)))
    return np.int64(-1)


@inlined
def rank_in_lines(body, place, first):
    """One cache line: is the bit there, and how many stand before it.

    All eight words are counted, masked: a loop as long as needed would be mispredicted.
    """
    line = body + place // LINE_BITS * LINE_BYTES
    bit = place % LINE_BITS + 16
    here = np.uint64(1) << np.uint64(bit & 63)
    before = np.int64(0)
    for w in range(8):
        upto = ALL if w < bit >> 6 else here - np.uint64(1) if w == bit >> 6 else NONE
        before += popcount(load64(line + 8 * w) & upto)
    rank = load16(line)
    there = load64(line + 8 * (bit >> 6)) & here != NONE
    return first + rank + before - popcount(np.uint64(rank)) if there else np.int64(-1)
