"""A list: a set of keys in the portable Roaring format, plus disjoint ranges.

The bytes are CRoaring's portable 64-bit form, canonical: rebuilt from the sorted keys and
run-optimised, so equal content is equal bytes and any Roaring implementation reads them
(RoaringFormatSpec, "extension for 64-bit implementations"). They are made to be mapped: opening
them walks the container headers once, and nothing is parsed.

A range (lo, hi), both ends included, is one item however many keys it covers: a blocked TAC is
one range. Ranges of a set neither overlap nor touch. Membership is either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.core import roaring
from eir.core.jit import compiled, load8, load16, load32, load64, popcount, trailing_zeros
from eir.errors import Corrupt

U64 = NDArray[np.uint64]

CHUNK_KEYS = 1 << 20
_ARRAY, _BITSET, _RUN = 0, 1, 2
_COOKIE_PLAIN, _COOKIE_RUNS = 12346, 12347
_NO_RANGES: U64 = np.zeros((0, 2), np.uint64)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ImeiSet:
    """A list as it lies in memory or in a mapped file. Immutable.

    ``data`` uint8[n]: portable Roaring bytes. ``containers`` uint64[c, 2]: (key >> 16, offset in
    ``data`` | type << 44 | count << 46) ascending, where count is the cardinality of an array, the
    number of runs of a run container, and 0 for a bitset. ``cards`` int64[c]: keys a container.
    ``ranges`` uint64[m, 2]: inclusive (lo, hi), ascending, disjoint, not touching.
    """

    data: NDArray[np.uint8]
    ranges: U64
    containers: U64
    cards: NDArray[np.int64]

    @property
    def items(self) -> int:
        """Single keys plus ranges: what a digest, a count and a delta see."""
        return int(self.cards.sum()) + len(self.ranges)

    def chunks(self) -> Iterator[U64]:
        """The single keys ascending, uint64[≤ about 2^20] at a time.

        Every container is checked as it is read: raises Corrupt where it is not canonical.
        """
        first, total = 0, len(self.cards)
        while first < total:
            last = first + 1
            size = int(self.cards[first])
            while last < total and size + int(self.cards[last]) <= CHUNK_KEYS:
                size += int(self.cards[last])
                last += 1
            keys = np.empty(size, np.uint64)
            address = self.data.ctypes.data
            if _decode(address, self.containers, self.cards, first, last, keys) != size:
                raise Corrupt("keys", "a Roaring container is not in canonical form")
            yield keys
            first = last

    def rows(self) -> Iterator[U64]:
        """As ``chunks``, each uint64[n, 1]."""
        for keys in self.chunks():
            yield keys.reshape(-1, 1)

    def keys(self) -> U64:
        """All single keys, ascending."""
        return np.concatenate([np.empty(0, np.uint64), *self.chunks()])


def build(batches: Iterable[U64], ranges: U64 | None = None) -> ImeiSet:
    """The set of sorted, unique, ascending batches of keys, and of ranges in any order.

    Ranges that overlap or touch become one. Raises ValueError where keys are out of order.
    """
    merged = merged_ranges(_NO_RANGES if ranges is None else ranges)
    return open_parts(roaring.encoded(batches), merged)


def open_parts(data: NDArray[np.uint8], ranges: U64) -> ImeiSet:
    """The set over its bytes and ranges. Headers, offsets, sizes and ranges are checked here,
    what stands inside the containers when ``chunks`` reads it. Raises Corrupt.
    """
    if len(data) < 8:
        raise Corrupt("keys", "shorter than its own count of buckets")
    most = len(data) // 6 + 1
    containers = np.zeros((most, 2), np.uint64)
    cards = np.zeros(most, np.int64)
    found = _walk(data.ctypes.data, len(data), containers, cards)
    if found < 0:
        raise Corrupt("keys", f"Roaring structure broken: {_WALK_FAULTS[-found]}")
    ordered = bool((ranges[:, 0] <= ranges[:, 1]).all())
    apart = bool(
        (ranges[1:, 0] - ranges[:-1, 1] > 1).all() and (ranges[1:, 0] > ranges[:-1, 1]).all()
    )
    if not (ordered and apart):
        raise Corrupt("ranges", "ranges overlap, touch or are out of order")
    return ImeiSet(data, ranges, containers[:found].copy(), cards[:found].copy())


def empty() -> ImeiSet:
    """The empty list."""
    return build([])


def merged_ranges(ranges: U64) -> U64:
    """Ranges (lo, hi) in any order as disjoint, untouching ones: uint64[m, 2]."""
    if len(ranges) == 0:
        return _NO_RANGES
    if not bool((ranges[:, 0] <= ranges[:, 1]).all()):
        raise ValueError("a range's end lies before its beginning")
    rows = ranges[np.argsort(ranges[:, 0], kind="stable")]
    reach = np.maximum.accumulate(rows[:, 1])
    fresh = np.ones(len(rows), bool)
    fresh[1:] = rows[1:, 0] > reach[:-1] + np.uint64(1)
    starts = np.flatnonzero(fresh)
    ends = np.append(starts[1:], len(rows)) - 1
    return np.stack([rows[starts, 0], reach[ends]], axis=1)


_WALK_FAULTS = {
    1: "it ends early or goes on too long",
    2: "unknown cookie",
    3: "keys out of order",
    4: "a container holds too few or too many keys",
    5: "offsets do not match the containers",
    6: "a container is not of the smallest type, or marked as runs where none stands",
}


@compiled
def _walk(address, size, containers, cards):
    """Fill containers and cards from portable Roaring 64; their number, or minus the fault."""
    buckets = np.int64(load64(address))
    at = np.int64(8)
    found = np.int64(0)
    previous = np.int64(-1)
    if buckets < 0 or buckets > size // 8:
        return np.int64(-1)
    for _ in range(buckets):
        if at + 8 > size:
            return np.int64(-1)
        high = load32(address + at)
        if high <= previous:
            return np.int64(-3)
        previous = high
        found, at = _walk_bucket(address, size, at + 4, high, containers, cards, found)
        if found < 0:
            return found
    return found if at == size else np.int64(-1)


@compiled
def _walk_bucket(address, size, at, high, containers, cards, found):
    """One 32-bit Roaring bitmap: (containers so far or minus the fault, where it ends)."""
    cookie = load32(address + at)
    start = at
    runs_at = np.int64(0)
    if cookie & 0xFFFF == _COOKIE_RUNS:
        count = (cookie >> 16) + 1
        runs_at = at + 4
        at += 4 + (count + 7) // 8
    elif cookie == _COOKIE_PLAIN:
        if at + 8 > size:
            return np.int64(-1), at
        count = load32(address + at + 4)
        at += 8
    else:
        return np.int64(-2), at
    heads = at
    has_offsets = runs_at == 0 or count >= 4
    offsets = heads + 4 * count
    at = offsets + (4 * count if has_offsets else 0)
    if count == 0 or count > 65536 or at > size:
        return np.int64(-1), at
    previous = np.int64(-1)
    any_run = False
    for i in range(count):
        low = load16(address + heads + 4 * i)
        card = load16(address + heads + 4 * i + 2) + 1
        if low <= previous:
            return np.int64(-3), at
        previous = low
        if has_offsets and load32(address + offsets + 4 * i) != at - start:
            return np.int64(-5), at
        is_run = runs_at > 0 and (load8(address + runs_at + (i >> 3)) >> (i & 7)) & 1 == 1
        kind = _ARRAY if card <= 4096 else _BITSET
        held = card if card <= 4096 else np.int64(0)
        length = 2 * card if card <= 4096 else np.int64(8192)
        body = at
        if is_run:
            any_run = True
            if at + 2 > size:
                return np.int64(-1), at
            held = load16(address + at)
            if 2 + 4 * held >= length:
                return np.int64(-6), at
            kind = _RUN
            length = 2 + 4 * held
            body = at + 2
        if at + length > size:
            return np.int64(-1), at
        containers[found, 0] = np.uint64((high << 16) | low)
        containers[found, 1] = np.uint64(body | (kind << 44) | (held << 46))
        cards[found] = card
        found += 1
        at += length
    spare = np.int64(0)
    if runs_at > 0 and count & 7 != 0:
        spare = load8(address + runs_at + (count >> 3)) >> (count & 7)
    if spare != 0 or (runs_at > 0 and not any_run):
        return np.int64(-6), at
    return found, at


@compiled
def _decode(address, containers, cards, first, last, keys):
    """Write the keys of containers first…last-1; how many, or -1 where not canonical."""
    at = np.int64(0)
    for c in range(first, last):
        base = containers[c, 0] << np.uint64(16)
        meta = containers[c, 1]
        body = address + np.int64(meta & np.uint64((1 << 44) - 1))
        kind = np.int64((meta >> np.uint64(44)) & np.uint64(3))
        held = np.int64(meta >> np.uint64(46))
        begin = at
        if kind == _ARRAY:
            at = _decode_array(body, base, held, keys, at)
        elif kind == _RUN:
            at = _decode_runs(body, base, held, cards[c], keys, at)
        else:
            at = _decode_bitset(body, base, cards[c], keys, at)
        if at < 0 or at - begin != cards[c]:
            return np.int64(-1)
    return at


@compiled
def _decode_array(body, base, held, keys, at):
    """One array container; the next place in ``keys``, or -1."""
    previous = np.int64(-1)
    runs = np.int64(0)
    for i in range(held):
        low = load16(body + 2 * i)
        if low <= previous:
            return np.int64(-1)
        runs += np.int64(low != previous + 1 or i == 0)
        previous = low
        keys[at + i] = base | np.uint64(low)
    return at + held if 2 + 4 * runs >= 2 * held else np.int64(-1)


@compiled
def _decode_runs(body, base, held, card, keys, at):
    """One run container; the next place in ``keys``, or -1."""
    begin = at
    end = np.int64(-2)
    for i in range(held):
        start = load16(body + 4 * i)
        if start <= end + 1:
            return np.int64(-1)
        end = start + load16(body + 4 * i + 2)
        if end > 65535 or at - begin + end - start + 1 > card:
            return np.int64(-1)
        for low in range(start, end + 1):
            keys[at] = base | np.uint64(low)
            at += 1
    return at


@compiled
def _decode_bitset(body, base, card, keys, at):
    """One bitset container; the next place in ``keys``, or -1."""
    total = np.int64(0)
    runs = np.int64(0)
    carry = np.uint64(0)
    for w in range(1024):
        word = load64(body + 8 * w)
        total += popcount(word)
        runs += popcount(word & ~((word << np.uint64(1)) | carry))
        carry = word >> np.uint64(63)
    if total != card or 2 + 4 * runs < 8192:
        return np.int64(-1)
    for w in range(1024):
        word = load64(body + 8 * w)
        while word != np.uint64(0):
            keys[at] = base | np.uint64(w * 64 + trailing_zeros(word))
            word &= word - np.uint64(1)
            at += 1
    return at
