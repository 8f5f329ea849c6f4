"""Bindings as a succinct map: key → one or several values, about five bytes a pair.

A ranked index gives a key's place in ``values`` (uint32). Below 2^31 the entry is the one value
minus ``base``. Otherwise its low 31 bits point into ``words``, where the key's run stands, in
ascending order: value − base, top bit set on the last; ESCAPE (top bit aside) says that the next
two words hold a value that does not fit, low half first.

``base`` is chosen so that most values fit: a nation's numbers span less than 2^31.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled
from eir.core.rankindex import IndexBuilder, RankIndex
from eir.errors import Corrupt, Refused

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]

ESCAPE = 0x7FFF_FFFF
LAST = 0x8000_0000
RUN = 0x8000_0000
_WINDOW_BITS = 30
_MOST_WINDOWS = 1 << 16
"""So many windows from the lowest to the highest are counted one by one; more are sorted."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PairTable:
    """Pairs (key, value), both uint64, sorted, unique. Immutable.

    ``values`` uint32[keys], ``words`` uint32[w], ``base``: what is added to a stored value.
    """

    index: RankIndex
    values: U32
    words: U32
    base: int
    items: int

    def chunks(self) -> Iterator[tuple[U64, U64]]:
        """(keys, values) sorted by both, a key's pairs in one chunk; every byte checked.

        Raises Corrupt where anything is not exactly what ``build`` writes.
        """
        word = 0
        pairs = 0
        for rank, keys in self.index.chunks():
            entries = self.values[rank : rank + len(keys)]
            if len(entries) != len(keys):
                raise Corrupt("values", "fewer values than keys")
            found = int(_count_pairs(entries, self.words, word))
            if found < 0:
                raise Corrupt("values", "a run points outside, out of turn, or has no end")
            out_keys, out_values = np.empty(found, np.uint64), np.empty(found, np.uint64)
            base = np.uint64(self.base)
            word = int(_decode(keys, entries, self.words, word, base, out_keys, out_values))
            if word < 0:
                raise Corrupt("values", "a run is out of order or not in canonical form")
            pairs += found
            yield out_keys, out_values
        if pairs != self.items or word != len(self.words) or len(self.values) != self.index.size:
            raise Corrupt("values", "counts of keys, pairs and words do not agree")

    def rows(self) -> Iterator[U64]:
        """As ``chunks``, each uint64[n, 2]."""
        for columns in self.chunks():
            yield np.stack(columns, axis=1)


def build(rows: Iterable[tuple[U64, U64]]) -> PairTable:
    """The table of batches (keys, values), sorted by both and unique across batches.

    Values below 2^63. One pass, with the base that suits the first batch: where that of all suits
    better, the table is made again, of itself. Raises ValueError where rows are out of order.
    """
    windows: dict[int, int] = {}
    batches = _looked_at(rows, windows)
    first = list(itertools.islice(batches, 1))
    table = _encode(itertools.chain(first, batches), _densest(windows))
    base = _densest(windows)
    return table if base == table.base else _encode(table.chunks(), base)


def rebuilt(rows: Callable[[], Iterable[tuple[U64, U64]]]) -> PairTable:
    """The table of batches as ``build`` takes them, which can be read twice: nothing is spooled."""
    windows: dict[int, int] = {}
    for _ in _looked_at(rows(), windows):
        pass
    return _encode(rows(), _densest(windows))


def of_rows(keys: U64, values: U64) -> PairTable:
    """The table of few rows, sorted by both and unique. Raises ValueError where they are not."""
    if len(keys):
        RowOrder().check(keys, values)
    windows: dict[int, int] = {}
    _count_windows(values, windows)
    return _encode([(keys, values)], _densest(windows))


class RowOrder:
    """Checks that rows (key, value) ascend without repeats, within and across batches."""

    def __init__(self) -> None:
        self._last = (-1, -1)

    def check(self, keys: U64, values: U64) -> None:
        """Raises ValueError where a row is not above the one before it."""
        same = keys[1:] == keys[:-1]
        rising = (keys[1:] > keys[:-1]) | (same & (values[1:] > values[:-1]))
        if (int(keys[0]), int(values[0])) <= self._last or not bool(rising.all()):
            raise ValueError("rows must ascend without repeats, within and across batches")
        self._last = (int(keys[-1]), int(values[-1]))


def group_starts(keys: U64) -> NDArray[np.int64]:
    """Where each run of equal keys begins, and the end: int64[groups + 1]."""
    fresh = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate([np.zeros(min(len(keys), 1), np.int64), fresh, [len(keys)]]).astype(
        np.int64
    )


def whole_keys(batches: Iterable[tuple[NDArray[Any], ...]]) -> Iterator[tuple[NDArray[Any], ...]]:
    """The same rows, cut so that no key (first column) straddles two batches."""
    held: tuple[NDArray[Any], ...] | None = None
    for batch in batches:
        if len(batch[0]) == 0:
            continue
        rows = batch
        if held is not None:
            rows = tuple(np.concatenate(columns) for columns in zip(held, batch, strict=True))
        cut = int(np.searchsorted(rows[0], rows[0][-1], side="left"))
        if cut:
            yield tuple(column[:cut] for column in rows)
        held = tuple(column[cut:] for column in rows)
    if held is not None:
        yield held


def _looked_at(
    rows: Iterable[tuple[U64, U64]], windows: dict[int, int]
) -> Iterator[tuple[U64, U64]]:
    """The batches that are not empty, checked and counted. Raises ValueError out of order."""
    order = RowOrder()
    for keys, values in rows:
        if len(keys):
            order.check(keys, values)
            _count_windows(values, windows)
            yield keys, values


def _count_windows(values: U64, windows: dict[int, int]) -> None:
    """Add to ``windows`` how many of the values lie in each of 2^30."""
    if len(values) == 0:
        return
    numbers = values >> np.uint64(_WINDOW_BITS)
    lowest = numbers.min()
    if numbers.max() - lowest < _MOST_WINDOWS:
        counts = np.bincount((numbers - lowest).astype(np.int64))
        found = np.flatnonzero(counts).astype(np.uint64) + lowest
        counts = counts[counts > 0]
    else:
        found, counts = np.unique(numbers, return_counts=True)
    for window, count in zip(found, counts, strict=True):
        windows[int(window)] = windows.get(int(window), 0) + int(count)


def _densest(windows: dict[int, int]) -> int:
    """The base whose 2^31 values hold most pairs; the lowest where several do."""
    best = max(windows, key=lambda w: (windows[w] + windows.get(w + 1, 0), -w), default=0)
    return best << _WINDOW_BITS


def _encode(batches: Iterable[tuple[U64, U64]], base: int) -> PairTable:
    index = IndexBuilder()
    values: list[U32] = [np.empty(0, np.uint32)]
    words: list[U32] = [np.empty(0, np.uint32)]
    word, items = 0, 0
    for keys, column in whole_keys(batches):
        starts = group_starts(keys)
        entries = np.empty(len(starts) - 1, np.uint32)
        most = np.empty(3 * len(keys), np.uint32)
        used = int(_encode_runs(column, starts, np.uint64(base), word, entries, most))
        if word + used >= RUN:
            raise Refused("too-many-items", "over 2^31 words of several numbers a device")
        index.add(keys[starts[:-1]])
        values.append(entries)
        words.append(most[:used].copy())
        word += used
        items += len(keys)
    return PairTable(index.finish(), np.concatenate(values), np.concatenate(words), base, items)


@compiled
def _fits(value, base):
    return value >= base and value - base < np.uint64(ESCAPE)


@compiled
def _encode_runs(values, starts, base, first, entries, words):
    """Fill one entry a key, and the runs; how many words were used."""
    at = 0
    for k in range(len(entries)):
        begin, end = starts[k], starts[k + 1]
        if end - begin == 1 and _fits(values[begin], base):
            entries[k] = np.uint32(values[begin] - base)
            continue
        entries[k] = np.uint32(np.int64(RUN) | (first + at))
        for i in range(begin, end):
            last = np.uint64(LAST) if i == end - 1 else np.uint64(0)
            if _fits(values[i], base):
                words[at] = np.uint32((values[i] - base) | last)
                at += 1
            else:
                words[at] = np.uint32(np.uint64(ESCAPE) | last)
                words[at + 1] = np.uint32(values[i] & np.uint64(0xFFFFFFFF))
                words[at + 2] = np.uint32(values[i] >> np.uint64(32))
                at += 3
    return at


@compiled
def _count_pairs(entries, words, word):
    """Pairs of these entries, whose runs stand one behind the other from ``word``; -1 if broken."""
    pairs = np.int64(0)
    for k in range(len(entries)):
        entry = np.int64(entries[k])
        pairs += 1
        if entry < RUN:
            if entry == ESCAPE:
                return np.int64(-1)
            continue
        if entry - RUN != word:
            return np.int64(-1)
        while True:
            if word >= len(words):
                return np.int64(-1)
            head = np.int64(words[word])
            word += 3 if head & ESCAPE == ESCAPE else 1
            if head & LAST:
                break
            pairs += 1
        if word > len(words):
            return np.int64(-1)
    return pairs


@compiled
def _decode(keys, entries, words, word, base, out_keys, out_values):
    """Write the pairs out; the word after the last, or -1 where a run is not canonical."""
    at = 0
    for k in range(len(entries)):
        entry = np.int64(entries[k])
        if entry < RUN:
            out_keys[at] = keys[k]
            out_values[at] = base + np.uint64(entry)
            at += 1
            continue
        begin = at
        while True:
            head = np.int64(words[word])
            low = head & ESCAPE
            value = base + np.uint64(low)
            word += 1
            if low == ESCAPE:
                value = np.uint64(words[word]) | (np.uint64(words[word + 1]) << np.uint64(32))
                word += 2
                if _fits(value, base):
                    return np.int64(-1)
            if at > begin and value <= out_values[at - 1]:
                return np.int64(-1)
            out_keys[at] = keys[k]
            out_values[at] = value
            at += 1
            if head & LAST:
                break
        if at - begin == 1 and _fits(out_values[begin], base):
            return np.int64(-1)
    return np.int64(word)
