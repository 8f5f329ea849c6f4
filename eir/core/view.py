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
from eir.core.rankindex import LINE_BYTES

Table = ImeiSet | PairTable | DeadlineTable
U64 = NDArray[np.uint64]

LIST_SLOTS, INDEX_SLOTS = 20, 30
"""So many slots has the directory of ten containers. A list's has fewer: of its memory it is more,
and most lists are asked only where a sieve says so.
"""


@dataclass(frozen=True, slots=True)
class View:
    """``words`` int64[VIEW_WORDS], good as long as this object lives. ``derived_bytes``: of what is
    made at load, a directory and fences.
    """

    words: NDArray[np.int64]
    kept: tuple[NDArray[np.generic], ...]
    derived_bytes: int


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
        derived = _point_containers(words, kept, content.containers, content.data)
        point(layout.RANGES, np.ascontiguousarray(content.ranges))
        words[layout.RANGE_COUNT] = len(content.ranges)
        return View(words, tuple(kept), derived)
    derived = _point_containers(words, kept, content.index.containers, content.index.data)
    if isinstance(content, PairTable):
        point(layout.VALUES, content.values)
        point(layout.WORDS, content.words)
        words[layout.BASE] = content.base
        words[layout.KEYS] = len(content.values)
    else:
        point(layout.STARTS, content.starts)
        point(layout.NUMBERS, content.numbers)
        point(layout.DEADLINES, content.deadlines)
    return View(words, tuple(kept), derived)


def _point_containers(
    words: NDArray[np.int64], kept: list[NDArray[np.generic]], rows: U64, data: NDArray[np.uint8]
) -> int:
    """The data, a hash table of their containers, and the fences of what is searched in them: how
    many bytes were derived.

    They are one array: a nation's is long enough, then, to be given huge pages.
    """
    kept.append(data)
    words[layout.DATA] = data.ctypes.data
    if len(rows) == 0:
        return 0
    of_ten = INDEX_SLOTS if 8 * rows.shape[1] == layout.INDEX_SLOT_BYTES else LIST_SLOTS
    in_line = LINE_BYTES // (8 * rows.shape[1])
    lines = len(rows) * of_ten // (10 * in_line) + 1
    slots = lines * in_line
    blocks = (len(data) >> probes.BLOCK_BITS) + 1
    raw = np.full(slots * rows.shape[1] + (blocks + 3) // 4 + 8, probes.VACANT, np.uint64)
    raw = raw[(-raw.ctypes.data % 64) // 8 :]
    table = raw[: slots * rows.shape[1]].reshape(slots, -1)
    fences = raw[slots * rows.shape[1] :].view(np.uint16)
    with np.errstate(over="ignore"):
        probes.hash_directory(rows, table)
        probes.raise_fences(rows, data.ctypes.data, fences)
    kept.append(raw)
    words[layout.DIRECTORY] = table.ctypes.data
    words[layout.LINES] = lines
    words[layout.FENCES] = fences.ctypes.data
    return raw.nbytes
