"""Portable Roaring bytes of keys, compiled: beside it others may answer.

The same bytes as pyroaring's, whose every step keeps the interpreter lock: each container of the
kind that is smallest, by https://github.com/RoaringBitmap/RoaringFormatSpec ("64-bit portable").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled

U64 = NDArray[np.uint64]

# A row for each container: its keys >> 16, where they begin in the keys, how many they are, how
# many runs they make, where its body lies; of the first of a bucket (keys >> 32) its place.
KEY, FIRST, CARD, RUNS, AT, BUCKET = range(6)
_WORDS = 6
_COOKIE_PLAIN, _COOKIE_RUNS = 12346, 12347
_MOST_IN_ARRAY, _BITSET_BYTES = 4096, 8192
_WITHOUT_OFFSETS = 4
"""Fewer containers, if one of them is of runs, have no offsets."""


def encoded(batches: Iterable[U64]) -> NDArray[np.uint8]:
    """The bytes of ascending batches of keys, uint64[n] each. Raises ValueError where they don't
    ascend.
    """
    surveys, bodies = [], []
    for keys, count in _whole_containers(batches):
        rows = np.empty((count, _WORDS), np.int64)
        body = np.zeros(_survey(keys, rows), np.uint8)
        _write_bodies(keys, rows, body)
        surveys.append(rows)
        bodies.append(body)
    rows = np.concatenate([np.empty((0, _WORDS), np.int64), *surveys])
    data = np.zeros(_place(rows), np.uint8)
    _write_heads(rows, data)
    done = 0
    for survey, body in zip(surveys, bodies, strict=True):
        _copy(rows[done : done + len(survey)], body, data)
        done += len(survey)
    return data


def _whole_containers(batches: Iterable[U64]) -> Iterator[tuple[U64, int]]:
    """The same keys, cut where containers end, with how many containers these are.

    Raises ValueError where the keys don't ascend.
    """
    carried = np.empty(0, np.uint64)
    for batch in batches:
        keys = np.concatenate([carried, batch]) if len(carried) else batch
        count = _containers(keys)
        if count < 0:
            raise ValueError("keys must ascend without repeats, within and across batches")
        if len(keys):
            begin = keys[-1] >> np.uint64(16) << np.uint64(16)
            end = int(np.searchsorted(keys, begin))
            yield keys[:end], count - 1
            carried = keys[end:]
    yield carried, min(len(carried), 1)


@compiled
def _containers(keys):
    """How many, or -1 where the keys don't ascend."""
    count = np.int64(len(keys) > 0)
    for i in range(1, len(keys)):
        if keys[i] <= keys[i - 1]:
            return np.int64(-1)
        count += np.int64(keys[i] >> np.uint64(16) != keys[i - 1] >> np.uint64(16))
    return count


@compiled
def _survey(keys, rows):
    """Fill KEY, FIRST, CARD and RUNS; how many bytes the bodies are."""
    c = np.int64(-1)
    for i in range(len(keys)):
        container = np.int64(keys[i] >> np.uint64(16))
        if c < 0 or rows[c, KEY] != container:
            c += 1
            rows[c, KEY], rows[c, FIRST], rows[c, CARD], rows[c, RUNS] = container, i, 1, 1
        else:
            rows[c, CARD] += 1
            rows[c, RUNS] += np.int64(keys[i] != keys[i - 1] + np.uint64(1))
    size = np.int64(0)
    for c in range(len(rows)):
        size += _body_bytes(rows, c)
    return size


@compiled
def _of_runs(rows, c):
    """Whether a container is smallest as runs."""
    return 2 + 4 * rows[c, RUNS] < _plain_bytes(rows, c)


@compiled
def _plain_bytes(rows, c):
    """Its bytes as an array or a bitset."""
    return 2 * rows[c, CARD] if rows[c, CARD] <= _MOST_IN_ARRAY else np.int64(_BITSET_BYTES)


@compiled
def _body_bytes(rows, c):
    """Its bytes."""
    return 2 + 4 * rows[c, RUNS] if _of_runs(rows, c) else _plain_bytes(rows, c)


@compiled
def _bucket(rows, first):
    """(behind its last container, whether any is of runs) of the bucket that begins there."""
    end, any_runs = first, False
    while end < len(rows) and rows[end, KEY] >> 16 == rows[first, KEY] >> 16:
        any_runs = any_runs or _of_runs(rows, end)
        end += 1
    return end, any_runs


@compiled
def _place(rows):
    """Fill AT and BUCKET; the size of all bytes."""
    at, first = np.int64(8), np.int64(0)
    while first < len(rows):
        end, any_runs = _bucket(rows, first)
        count = end - first
        rows[first, BUCKET] = at
        at += 8 + (count + 7) // 8 if any_runs else np.int64(12)
        at += 4 * count
        if not any_runs or count >= _WITHOUT_OFFSETS:
            at += 4 * count
        for c in range(first, end):
            rows[c, AT] = at
            at += _body_bytes(rows, c)
        first = end
    return at


@compiled
def _put(data, at, value, size):
    """A little-endian number of so many bytes."""
    for i in range(size):
        data[at + i] = np.uint8((value >> (8 * i)) & 0xFF)


@compiled
def _write_heads(rows, data):
    """All but the bodies."""
    buckets, first = np.int64(0), np.int64(0)
    while first < len(rows):
        end, any_runs = _bucket(rows, first)
        _write_head(rows, data, first, end, any_runs)
        buckets, first = buckets + 1, end
    _put(data, np.int64(0), buckets, 8)


@compiled
def _copy(rows, body, data):
    """Put the bodies of some containers, one behind another, where they belong."""
    at = np.int64(0)
    for c in range(len(rows)):
        for i in range(_body_bytes(rows, c)):
            data[rows[c, AT] + i] = body[at + i]
        at += _body_bytes(rows, c)


@compiled
def _write_head(rows, data, first, end, any_runs):
    """What stands before a bucket's containers."""
    count, at = end - first, rows[first, BUCKET]
    begin = at + 4
    _put(data, at, rows[first, KEY] >> 16, 4)
    if any_runs:
        _put(data, begin, _COOKIE_RUNS | (count - 1) << 16, 4)
        for c in range(first, end):
            data[begin + 4 + (c - first >> 3)] |= np.uint8(_of_runs(rows, c) << (c - first & 7))
        at = begin + 4 + (count + 7) // 8
    else:
        _put(data, begin, np.int64(_COOKIE_PLAIN), 4)
        _put(data, begin + 4, count, 4)
        at = begin + 8
    for c in range(first, end):
        _put(data, at, rows[c, KEY] & 0xFFFF, 2)
        _put(data, at + 2, rows[c, CARD] - 1, 2)
        at += 4
    if not any_runs or count >= _WITHOUT_OFFSETS:
        for c in range(first, end):
            _put(data, at, rows[c, AT] - begin, 4)
            at += 4


@compiled
def _write_bodies(keys, rows, body):
    """The containers, one behind another, into zeros."""
    at = np.int64(0)
    for c in range(len(rows)):
        _write_body(keys, rows, body, c, at)
        at += _body_bytes(rows, c)


@compiled
def _write_body(keys, rows, data, c, at):
    """One container."""
    first, end = rows[c, FIRST], rows[c, FIRST] + rows[c, CARD]
    if _of_runs(rows, c):
        _put(data, at, rows[c, RUNS], 2)
        at -= 2
        for i in range(first, end):
            low = np.int64(keys[i] & np.uint64(0xFFFF))
            if i == first or keys[i] != keys[i - 1] + np.uint64(1):
                at += 4
                begin = low
                _put(data, at, begin, 2)
            _put(data, at + 2, low - begin, 2)
    elif rows[c, CARD] <= _MOST_IN_ARRAY:
        for i in range(first, end):
            _put(data, at, np.int64(keys[i] & np.uint64(0xFFFF)), 2)
            at += 2
    else:
        for i in range(first, end):
            low = np.int64(keys[i] & np.uint64(0xFFFF))
            data[at + (low >> 3)] |= np.uint8(1 << (low & 7))
