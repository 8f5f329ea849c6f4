"""A content laid out for the kernel: a few words of addresses, and the arrays they point to."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from eir.core import kernel
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
    words = np.zeros(kernel.VIEW_WORDS, np.int64)
    kept: list[NDArray[np.generic]] = []

    def point(place: int, array: NDArray[np.generic]) -> None:
        kept.append(array)
        words[place] = array.ctypes.data

    if isinstance(content, ImeiSet):
        _point_directory(words, kept, content.containers)
        point(kernel.DATA, content.data)
        point(kernel.RANGES, np.ascontiguousarray(content.ranges))
        words[kernel.RANGE_COUNT] = len(content.ranges)
        return View(words, tuple(kept))
    _point_directory(words, kept, content.index.containers)
    point(kernel.DATA, content.index.data)
    if isinstance(content, PairTable):
        point(kernel.VALUES, content.values)
        point(kernel.WORDS, content.words)
        words[kernel.BASE] = content.base
    else:
        point(kernel.STARTS, content.starts)
        point(kernel.NUMBERS, content.numbers)
        point(kernel.DEADLINES, content.deadlines)
    return View(words, tuple(kept))


def _point_directory(words: NDArray[np.int64], kept: list[NDArray[np.generic]], rows: U64) -> None:
    """A hash table of the containers, half full at most, on a cache line's border."""
    if len(rows) == 0:
        return
    power = max(1, (2 * len(rows) - 1).bit_length())
    table = _aligned_table(1 << power, rows.shape[1])
    shift, mask = np.uint64(64 - power), np.uint64((1 << power) - 1)
    with np.errstate(over="ignore"):
        kernel.hash_directory(rows, table, shift, mask)
    kept.append(table)
    words[kernel.DIRECTORY] = table.ctypes.data
    words[kernel.SHIFT] = int(shift)
    words[kernel.MASK] = int(mask)


def _aligned_table(slots: int, words: int) -> U64:
    raw = np.full(slots * words + 8, kernel.VACANT, np.uint64)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + slots * words].reshape(slots, words)
