"""Columns of ascending rows as few bytes: differences, equal ones in a row counted once.

A column's words are taken as differences from the word before: plainly in the first column, which
never falls; zigzag (sign in the lowest bit) in the others. Each run of equal differences is one
varint (7 bits an octet, lowest first) of difference << 1 | repeated, and, where it is repeated, a
second one of how often beyond twice. So a batch of consecutive IMEIs, or one deadline for all,
takes a few octets, and there is one encoding of a column. Words are below 2^54.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled
from eir.errors import Corrupt

U64 = NDArray[np.uint64]

_WORD_BITS = 54
_VARINT_BYTES = 8
_MOST_BYTES = 16


def encode_rows(rows: U64) -> bytes:
    """Ascending rows uint64[n, words], a column after the other. Raises ValueError above 2^54."""
    if rows.size and int(rows.max()) >> _WORD_BITS:
        raise ValueError("a word does not fit into 54 bits")
    pieces = []
    for c in range(rows.shape[1]):
        room = np.empty(_VARINT_BYTES * len(rows) + _MOST_BYTES, np.uint8)
        used = int(_encode(np.ascontiguousarray(rows[:, c]), c > 0, room))
        pieces.append(room[:used].tobytes())
    return b"".join(pieces)


def decode_rows(packed: NDArray[np.uint8], count: int, words: int) -> tuple[U64, int]:
    """(rows uint64[count, words], octets taken). Raises Corrupt for any but the one encoding.

    The caller has checked ``count``: that much is allocated.
    """
    rows = np.empty((count, words), np.uint64)
    at = 0
    for c in range(words):
        column = np.empty(count, np.uint64)
        used = int(_decode(packed[at:], c > 0, column))
        if used < 0:
            raise Corrupt("rows", "a column ends early, is too long or not in canonical form")
        rows[:, c] = column
        at += used
    return rows, at


@compiled
def _difference(column, i, signed):
    before = column[i - 1] if i > 0 else np.uint64(0)
    if not signed:
        return column[i] - before
    if column[i] >= before:
        return (column[i] - before) << np.uint64(1)
    return ((before - column[i]) << np.uint64(1)) - np.uint64(1)


@compiled
def _put(room, at, value):
    while value >= np.uint64(128):
        room[at] = np.uint8((value & np.uint64(127)) | np.uint64(128))
        value >>= np.uint64(7)
        at += 1
    room[at] = np.uint8(value)
    return at + 1


@compiled
def _encode(column, signed, room):
    at = 0
    i = 0
    while i < len(column):
        difference = _difference(column, i, signed)
        end = i + 1
        while end < len(column) and _difference(column, end, signed) == difference:
            end += 1
        repeated = np.uint64(end - i > 1)
        at = _put(room, at, (difference << np.uint64(1)) | repeated)
        if end - i > 1:
            at = _put(room, at, np.uint64(end - i - 2))
        i = end
    return at


@compiled
def _take(packed, at):
    """(value, where the next begins), or a place of -1 where it is cut off or not the shortest."""
    value = np.uint64(0)
    for i in range(_VARINT_BYTES):
        if at + i >= len(packed):
            break
        octet = np.uint64(packed[at + i])
        value |= (octet & np.uint64(127)) << np.uint64(7 * i)
        if octet < np.uint64(128):
            if octet == np.uint64(0) and i > 0:
                break
            return value, at + i + 1
    return value, -1


@compiled
def _decode(packed, signed, column):
    """Fill the column; the octets taken, or -1."""
    at = 0
    i = 0
    last = np.uint64(0xFFFFFFFFFFFFFFFF)
    word = np.uint64(0)
    while i < len(column):
        head, at = _take(packed, at)
        if at < 0 or head >> np.uint64(1) == last:
            return -1
        last = head >> np.uint64(1)
        times = np.uint64(1)
        if head & np.uint64(1) == np.uint64(1):
            times, at = _take(packed, at)
            if at < 0:
                return -1
            times += np.uint64(2)
        if times > np.uint64(len(column) - i):
            return -1
        step = last >> np.uint64(1) if signed else last
        for _ in range(np.int64(times)):
            if signed and last & np.uint64(1) == np.uint64(1):
                if word < step + np.uint64(1):
                    return -1
                word -= step + np.uint64(1)
            else:
                word += step
            if word >> np.uint64(_WORD_BITS) != np.uint64(0):
                return -1
            column[i] = word
            i += 1
    return at
