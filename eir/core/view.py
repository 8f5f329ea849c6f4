"""A content laid out for the kernel: a few words of addresses, and the arrays they point to."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from eir.core import layout, probes
from eir.core.deadlines import DeadlineTable
from eir.core.imeiset import ImeiSet
from eir.core.pairtable import PairTable

Table = ImeiSet | PairTable | DeadlineTable
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class View:
    """``words`` int64[VIEW_WORDS], good as long as this object lives."""

    words: NDArray[np.int64]
    kept: tuple[NDArray[np.generic], ...]


_made: WeakKeyDictionary[Table, View] = WeakKeyDictionary()


def view_of(content: Table) -> View:
    """The content's view, made once: hashing a nation's containers takes milliseconds."""
    view = _made.get(content)
    if view is None:
        view = _made[content] = _make(content)
    return view


def _make(content: Table) -> View:
    words = np.zeros(layout.VIEW_WORDS, np.int64)
    kept: list[NDArray[np.generic]] = []

    def point(place: int, array: NDArray[np.generic]) -> None:
        kept.append(array)
        words[place] = array.ctypes.data

    if isinstance(content, ImeiSet):
        _point_directory(words, kept, content.containers)
        point(layout.DATA, content.data)
        point(layout.RANGES, np.ascontiguousarray(content.ranges))
        words[layout.RANGE_COUNT] = len(content.ranges)
        return View(words, tuple(kept))
    _point_directory(words, kept, content.index.containers)
    point(layout.DATA, content.index.data)
    if isinstance(content, PairTable):
        point(layout.VALUES, content.values)
        point(layout.WORDS, content.words)
        words[layout.BASE] = content.base
    else:
        point(layout.STARTS, content.starts)
        point(layout.NUMBERS, content.numbers)
        point(layout.DEADLINES, content.deadlines)
    return View(words, tuple(kept))


def _point_directory(words: NDArray[np.int64], kept: list[NDArray[np.generic]], rows: U64) -> None:
    """A hash table of the containers, half full at most, on a cache line's border."""
    if len(rows) == 0:
        return
    power = max(1, (2 * len(rows) - 1).bit_length())
    table = _aligned_table(1 << power, rows.shape[1])
    shift, mask = np.uint64(64 - power), np.uint64((1 << power) - 1)
    with np.errstate(over="ignore"):
        probes.hash_directory(rows, table, shift, mask)
    kept.append(table)
    words[layout.DIRECTORY] = table.ctypes.data
    words[layout.SHIFT] = int(shift)
    words[layout.MASK] = int(mask)


def _aligned_table(slots: int, words: int) -> U64:
    raw = np.full(slots * words + 8, probes.VACANT, np.uint64)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + slots * words].reshape(slots, words)
