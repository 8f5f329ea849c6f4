"""A ranked index: which keys are there, and the place of each among them.

Keys fall into containers by ``key >> 16``. A container is either cache lines of 64 bytes (the rank
of the line's first key, uint16, then 496 bits from the container's lowest key on) or, where that
is smaller, the plain low 16 bits of its keys, padded to 16 bytes. One line answers both "is it
there" and "which is it" (Jacobson's rank, laid out as one cache miss).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled, load16, load64, popcount
from eir.errors import Corrupt

U64 = NDArray[np.uint64]

LINE_BITS = 496
LINE_BYTES = 64
LOWS_BYTES = 16
_LINES, _LOWS = 1, 0
_CHUNK_KEYS = 1 << 20


@dataclass(frozen=True, slots=True)
class RankIndex:
    """Sorted unique keys with their ranks. Immutable.

    ``containers`` uint64[c, 4], ascending: (key >> 16, rank of the first key, cardinality |
    lowest low << 20 | kind << 40 | highest low << 44, offset in ``data``). ``data`` uint8[n].
    """

    containers: U64
    data: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Number of keys."""
        if len(self.containers) == 0:
            return 0
        last = self.containers[-1]
        return int(last[1]) + (int(last[2]) & 0xFFFFF)

    def chunks(self) -> Iterator[tuple[int, U64]]:
        """(rank of the first, keys ascending), about 2^20 at a time, each container checked.

        Raises Corrupt where the structure is not exactly what ``IndexBuilder`` writes.
        """
        cards = (self.containers[:, 2] & np.uint64(0xFFFFF)).astype(np.int64)
        ends = np.cumsum(cards)
        if not np.array_equal(self.containers[:, 1], (ends - cards).astype(np.uint64)):
            raise Corrupt("index", "ranks do not follow the containers")
        first, offset, rank = 0, 0, 0
        while first < len(cards):
            last = max(first + 1, int(np.searchsorted(ends, rank + _CHUNK_KEYS, side="right")))
            end = int(ends[last - 1])
            if end - rank > 65536 * (last - first):
                raise Corrupt("index", "a container holds too many keys")
            keys = np.empty(end - rank, np.uint64)
            offset = _decode(self.containers, self.data, first, last, offset, keys)
            if offset < 0:
                raise Corrupt("index", "a container is not in canonical form")
            yield rank, keys
            first, rank = last, end
        if offset != len(self.data):
            raise Corrupt("index", "bytes left over behind the last container")


def build(batches: Iterable[U64]) -> RankIndex:
    """The index of sorted, unique batches, ascending across batches. Raises ValueError if not."""
    builder = IndexBuilder()
    for keys in batches:
        builder.add(keys)
    return builder.finish()


class IndexBuilder:
    """Collects ascending keys batch by batch; a container may straddle batches."""

    def __init__(self) -> None:
        self._containers: list[U64] = []
        self._data: list[NDArray[np.uint8]] = []
        self._held: U64 = np.empty(0, np.uint64)
        self._rank = 0
        self._offset = 0
        self._last = -1

    def add(self, keys: U64) -> None:
        """Sorted, unique, above all keys before. Raises ValueError if not."""
        if len(keys) == 0:
            return
        if int(keys[0]) <= self._last or not bool((keys[1:] > keys[:-1]).all()):
            raise ValueError("keys must ascend without repeats, within and across batches")
        self._last = int(keys[-1])
        together = np.concatenate([self._held, keys])
        open_from = int(np.searchsorted(together, np.uint64(self._last >> 16 << 16)))
        self._write(together[:open_from])
        self._held = together[open_from:]

    def finish(self) -> RankIndex:
        """The index; the builder is spent."""
        self._write(self._held)
        containers = np.concatenate([np.empty((0, 4), np.uint64), *self._containers])
        data = np.concatenate([np.empty(0, np.uint8), *self._data])
        self._containers, self._data = [], []
        return RankIndex(containers, data)

    def _write(self, keys: U64) -> None:
        if len(keys) == 0:
            return
        count = int(_count_containers(keys))
        containers = np.zeros((count, 4), np.uint64)
        size = int(_lay_out(keys, self._rank, self._offset, containers))
        data = np.zeros(size, np.uint8)
        _fill(keys, containers, self._offset, data)
        self._containers.append(containers)
        self._data.append(data)
        self._rank += len(keys)
        self._offset += size


@compiled
def _count_containers(keys):
    count = 1
    for i in range(1, len(keys)):
        if keys[i] >> np.uint64(16) != keys[i - 1] >> np.uint64(16):
            count += 1
    return count


@compiled
def container_layout(card, lowest, highest):
    """(kind, bytes) of a container: lines unless they take over 1.15 of the plain lows."""
    lines = (highest - lowest + LINE_BITS) // LINE_BITS * LINE_BYTES
    lows = (2 * card + LOWS_BYTES - 1) // LOWS_BYTES * LOWS_BYTES
    if lines * 20 <= 2 * card * 23:
        return _LINES, lines
    return _LOWS, lows


@compiled
def aligned(at, kind):
    """Where a container of this kind may begin, from ``at`` on: lines begin on a cache line."""
    return (at + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES if kind == _LINES else at


@compiled
def _lay_out(keys, rank, offset, containers):
    """Fill the containers' rows; how many bytes their data take."""
    begin = 0
    at = offset
    for c in range(len(containers)):
        number = keys[begin] >> np.uint64(16)
        end = begin + 1
        while end < len(keys) and keys[end] >> np.uint64(16) == number:
            end += 1
        lowest = np.int64(keys[begin] & np.uint64(0xFFFF))
        highest = np.int64(keys[end - 1] & np.uint64(0xFFFF))
        kind, size = container_layout(end - begin, lowest, highest)
        at = aligned(at, kind)
        containers[c, 0] = number
        containers[c, 1] = np.uint64(rank + begin)
        containers[c, 2] = np.uint64(
            (end - begin) | (lowest << 20) | (kind << 40) | (highest << 44)
        )
        containers[c, 3] = np.uint64(at)
        at += size
        begin = end
    return at - offset


@compiled
def _put16(data, at, value):
    data[at] = np.uint8(value & 0xFF)
    data[at + 1] = np.uint8(value >> 8)


@compiled
def _fill(keys, containers, offset, data):
    """Write the containers' data (zeroed before)."""
    begin = 0
    for c in range(len(containers)):
        meta = containers[c, 2]
        card = np.int64(meta & np.uint64(0xFFFFF))
        lowest = np.int64((meta >> np.uint64(20)) & np.uint64(0xFFFF))
        at = np.int64(containers[c, 3]) - offset
        if (meta >> np.uint64(40)) & np.uint64(1) == np.uint64(_LOWS):
            for i in range(card):
                _put16(data, at + 2 * i, np.int64(keys[begin + i] & np.uint64(0xFFFF)))
        else:
            line = -1
            for i in range(card):
                place = np.int64(keys[begin + i] & np.uint64(0xFFFF)) - lowest
                while line < place // LINE_BITS:
                    line += 1
                    _put16(data, at + line * LINE_BYTES, i)
                bit = place % LINE_BITS + 16
                data[at + line * LINE_BYTES + (bit >> 3)] |= np.uint8(1 << (bit & 7))
        begin += card


@compiled
def _decode(containers, data, first, last, offset, keys):
    """Keys of containers first…last-1, each checked but for its rank; where data go on, or -1."""
    at = np.int64(0)
    for c in range(first, last):
        number = containers[c, 0]
        meta = containers[c, 2]
        card = np.int64(meta & np.uint64(0xFFFFF))
        lowest = np.int64((meta >> np.uint64(20)) & np.uint64(0xFFFF))
        highest = np.int64((meta >> np.uint64(44)) & np.uint64(0xFFFF))
        kind, size = container_layout(card, lowest, highest)
        gap = offset
        offset = aligned(offset, kind)
        expected = np.uint64(card | (lowest << 20) | (kind << 40) | (highest << 44))
        if (
            card == 0
            or meta != expected
            or highest - lowest + 1 < card
            or number >> np.uint64(48) != np.uint64(0)
            or (c > 0 and number <= containers[c - 1, 0])
            or containers[c, 3] != np.uint64(offset)
            or offset + size > len(data)
            or at + card > len(keys)
        ):
            return np.int64(-1)
        for i in range(gap, offset):
            if data[i] != np.uint8(0):
                return np.int64(-1)
        base = number << np.uint64(16)
        body = data.ctypes.data + offset
        if kind == _LOWS:
            done = _decode_lows(body, size, card, base, keys, at)
        else:
            done = _decode_lines(body, size, card, base | np.uint64(lowest), keys, at)
        if (
            not done
            or keys[at] & np.uint64(0xFFFF) != np.uint64(lowest)
            or keys[at + card - 1] & np.uint64(0xFFFF) != np.uint64(highest)
        ):
            return np.int64(-1)
        at += card
        offset += size
    return offset if at == len(keys) else np.int64(-1)


@compiled
def _decode_lows(body, size, card, base, keys, at):
    previous = np.int64(-1)
    for i in range(card):
        low = load16(body + 2 * i)
        if low <= previous:
            return False
        previous = low
        keys[at + i] = base | np.uint64(low)
    for i in range(card, size // 2):  # noqa: SIM110 (the compiler knows no all())
        if load16(body + 2 * i) != 0:
            return False
    return True


@compiled
def _decode_lines(body, size, card, start, keys, at):
    done = np.int64(0)
    for line in range(size // LINE_BYTES):
        place = body + line * LINE_BYTES
        if load16(place) != done:
            return False
        for w in range(8):
            word = load64(place + 8 * w)
            if w == 0:
                word &= ~np.uint64(0xFFFF)
            if done + popcount(word) > card:
                return False
            for bit in range(64):
                if (word >> np.uint64(bit)) & np.uint64(1) != np.uint64(0):
                    keys[at + done] = start + np.uint64(line * LINE_BITS + 64 * w + bit - 16)
                    done += 1
    return done == card
