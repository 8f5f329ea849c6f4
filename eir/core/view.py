"""A content laid out for the kernel: a few words of addresses, and the arrays they point to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from eir.core import layout, probes
from eir.core.generation import Generation, Table
from eir.core.imeiset import ImeiSet
from eir.core.pairtable import PairTable
from eir.core.rankindex import LINE_BYTES

U64 = NDArray[np.uint64]

LIST_SLOTS, INDEX_SLOTS = 20, 30
"""So many slots has the directory of ten containers. A list's has fewer: of its memory it is more,
and most lists are asked only where a sieve says so.
"""


@dataclass(frozen=True, slots=True)
class View:
    """``words`` int64[VIEW_WORDS], good as long as this object lives. ``derived`` uint64[n]: what
    was made of the containers and what they point to, a directory and fences.
    """

    words: NDArray[np.int64]
    kept: tuple[NDArray[np.generic], ...]
    derived: U64


_made: WeakKeyDictionary[Table, View] = WeakKeyDictionary()


def view_of(content: Table) -> View:
    """The content's view, made once: hashing a nation's containers takes milliseconds."""
    view = _made.get(content)
    return lay_over(content, _derive(*_containers(content))) if view is None else view


def lay_over(content: Table, derived: U64) -> View:
    """The content's view from now on, over what was derived of the same bytes before."""
    view = _made[content] = _laid(content, derived)
    return view


def tables_of(generation: Generation) -> Iterator[Table]:
    """All that a generation's probes need views of."""
    for section in generation.sections.values():
        if not isinstance(section.content, tuple):
            yield section.content
        if section.overlay is not None:
            yield from (section.overlay.touched, section.overlay.rows)


def _containers(content: Table) -> tuple[U64, NDArray[np.uint8]]:
    index = content if isinstance(content, ImeiSet) else content.index
    return index.containers, index.data


def _laid(content: Table, derived: U64) -> View:
    words = np.zeros(layout.VIEW_WORDS, np.int64)
    kept: list[NDArray[np.generic]] = []

    def point(place: int, array: NDArray[np.generic]) -> None:
        kept.append(array)
        words[place] = array.ctypes.data

    rows, data = _containers(content)
    point(layout.DATA, data)
    if len(rows):
        lines = _lines(rows)
        point(layout.DIRECTORY, derived)
        words[layout.LINES] = lines
        words[layout.FENCES] = words[layout.DIRECTORY] + LINE_BYTES * lines
    if isinstance(content, ImeiSet):
        point(layout.RANGES, np.ascontiguousarray(content.ranges))
        words[layout.RANGE_COUNT] = len(content.ranges)
    elif isinstance(content, PairTable):
        point(layout.VALUES, content.values)
        point(layout.WORDS, content.words)
        words[layout.BASE] = content.base
        words[layout.KEYS] = len(content.values)
    else:
        point(layout.STARTS, content.starts)
        point(layout.NUMBERS, content.numbers)
        point(layout.DEADLINES, content.deadlines)
    return View(words, tuple(kept), derived)


def _lines(rows: U64) -> int:
    """How many lines of slots the directory of so many containers has."""
    of_ten = INDEX_SLOTS if 8 * rows.shape[1] == layout.INDEX_SLOT_BYTES else LIST_SLOTS
    in_line: int = LINE_BYTES // (8 * rows.shape[1])
    return len(rows) * of_ten // (10 * in_line) + 1


def _derive(rows: U64, data: NDArray[np.uint8]) -> U64:
    """A hash table of the containers, and behind it the fences of what is searched in the data: one
    array, to be handed on as one.
    """
    if len(rows) == 0:
        return np.empty(0, np.uint64)
    words = _lines(rows) * LINE_BYTES // 8
    blocks = (len(data) >> probes.BLOCK_BITS) + 1
    raw = np.full(words + (blocks + 3) // 4 + 8, probes.VACANT, np.uint64)
    raw = raw[(-raw.ctypes.data % 64) // 8 :]
    table, fences = raw[:words].reshape(-1, rows.shape[1]), raw[words:].view(np.uint16)
    with np.errstate(over="ignore"):
        probes.hash_directory(rows, table)
        probes.raise_fences(rows, data.ctypes.data, fences)
    return raw
