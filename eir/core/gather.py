"""The rows of given keys as a section holds them, overlay first: O(keys), never O(section)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import DEADLINES, LIST, PAIRS, Section, spec_of
from eir.core.jit import compiled, load32, load64
from eir.core.kernel import rows_view
from eir.core.layout import (
    ALWAYS,
    BASE,
    BASE_VIEW,
    NUMBERS,
    OVERLAID,
    ROWS,
    SECTION_WORDS,
    STANDING,
    STARTS,
    TOUCHED,
    VALUES,
    VIEW_WORDS,
    WORDS,
)
from eir.core.layout import DEADLINES as DEADLINES_AT
from eir.core.pairtable import ESCAPE, LAST, RUN
from eir.core.probes import in_keys, rank_of
from eir.core.view import View, view_of

U64 = NDArray[np.uint64]


def rows_of(section: Section, keys: U64) -> U64:
    """The rows of ``keys`` (ascending, unique) as they stand: uint64[n, words], ascending.

    A list's single keys alone: its ranges are no rows. Orders have no rows.
    """
    spec = spec_of(section.name)
    if isinstance(section.content, tuple) or len(keys) == 0:
        return np.empty((0, spec.words), np.uint64)
    words = np.zeros(SECTION_WORDS, np.int64)
    words[STANDING] = ALWAYS
    kept = [_place(words, BASE_VIEW, view_of(section.content))]
    if section.overlay is not None:
        words[OVERLAID] = ALWAYS
        kept.append(_place(words, TOUCHED, view_of(section.overlay.touched)))
        kept.append(_place(words, ROWS, view_of(section.overlay.rows)))
    gather = {LIST: _keys, PAIRS: _pairs, DEADLINES: _deadlines}[spec.kind]
    none = np.empty((0, spec.words), np.uint64)
    with np.errstate(over="ignore"):
        rows = np.empty((int(gather(words, keys, none, False)), spec.words), np.uint64)
        gather(words, keys, rows, True)
    del kept
    return rows


def _place(words: NDArray[np.int64], place: int, view: View) -> View:
    words[place : place + VIEW_WORDS] = view.words
    return view


@compiled
def _keys(words, keys, rows, write):
    """How many of the keys stand in the list; they are written where ``write`` says so."""
    at = 0
    for key in keys:
        if in_keys(words, rows_view(words, 0, key, ALWAYS), key):
            if write:
                rows[at, 0] = key
            at += 1
    return at


@compiled
def _pairs(words, keys, rows, write):
    """How many pairs the keys have; they are written where ``write`` says so."""
    at = 0
    for key in keys:
        view = rows_view(words, 0, key, ALWAYS)
        rank = rank_of(words, view, key)
        if rank < 0:
            continue
        base = np.uint64(words[view + BASE])
        entry = load32(words[view + VALUES] + 4 * rank)
        if entry < RUN:
            if write:
                rows[at, 0] = key
                rows[at, 1] = base + np.uint64(entry)
            at += 1
            continue
        place = words[view + WORDS] + 4 * (entry - RUN)
        head = np.int64(0)
        while head & LAST == 0:
            head = load32(place)
            value = base + np.uint64(head & ESCAPE)
            place += 4
            if head & ESCAPE == ESCAPE:
                value = np.uint64(load32(place)) | (np.uint64(load32(place + 4)) << np.uint64(32))
                place += 8
            if write:
                rows[at, 0] = key
                rows[at, 1] = value
            at += 1
    return at


@compiled
def _deadlines(words, keys, rows, write):
    """How many grey entries the keys have; they are written where ``write`` says so."""
    at = 0
    for key in keys:
        view = rows_view(words, 0, key, ALWAYS)
        rank = rank_of(words, view, key)
        if rank < 0:
            continue
        starts = words[view + STARTS] + 4 * rank
        for row in range(load32(starts), load32(starts + 4)):
            if write:
                rows[at, 0] = key
                rows[at, 1] = load64(words[view + NUMBERS] + 8 * row)
                rows[at, 2] = np.uint64(load32(words[view + DEADLINES_AT] + 4 * row))
            at += 1
    return at
