"""Sightings, compiled: what a worker notes after its verdicts, and what a keeper finds to be new.

A sighting is four words: IMEI key, MSISDN (0 = none), IMSI code (0 = none), and when and why: Unix
seconds << 16 | reason id. A ring is one uint64 array: WRITTEN, READ, DROPPED, then the slots.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled
from eir.core.kernel import number_of
from eir.core.policy import CODES, FIXED_REASONS
from eir.core.tables import Tables

U64 = NDArray[np.uint64]

WRITTEN, READ, DROPPED = 0, 8, 9
SLOTS_AT = 16
SLOT_WORDS = 4
WHY_BITS = 16

NOTABLE = ("bound-to-other", "not-activated", "not-registered")
"""The reasons of a device, or pair, that the registry wants to hear of."""
_NAMELESS = ("malformed-imei",)

_NONE = np.uint64(0)
_ONE = np.uint64(1)
_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)


def wanted_reasons(reasons: NDArray[np.uint16], *, census: bool) -> NDArray[np.uint16]:
    """Of the reason ids by verdict code, those that are noted; 0 at the others.

    ``census``: of every device that has a name, whatever was decided.
    """
    names = _NAMELESS if census else NOTABLE
    named = np.isin(reasons, [FIXED_REASONS[name] for name in names])
    return np.where(named ^ census, reasons, 0).astype(np.uint16)


@compiled
def mixed(word):
    """A 64-bit finaliser (murmur3's)."""
    word = (word ^ (word >> _SHIFT)) * _FIRST
    word = (word ^ (word >> _SHIFT)) * _SECOND
    return word ^ (word >> _SHIFT)


@compiled
def mark_of(imei, msisdn, imsi):
    """What a pair is known by again; never 0."""
    mark = mixed(mixed(mixed(imei) ^ msisdn) ^ imsi)
    return mark if mark != _NONE else _ONE


@compiled
def note(rows, imei, msisdn, imsi, wanted, ring, recent, now):
    """Append to the ring whom its keeper may not know yet.

    ``rows`` uint8[n, 4] as of Verdicts; ``wanted`` uint16[CODES]; ``recent`` uint64[a power of
    two]: marks of those noted lately, so that who comes again and again takes no room.
    """
    written, read = ring[WRITTEN], ring[READ]
    capacity = np.uint64((len(ring) - SLOTS_AT) // SLOT_WORDS)
    last = np.uint64(len(recent) - 1)
    for i in range(len(imei)):
        why = np.uint64(wanted[rows[i, 2]])
        if why == _NONE:
            continue
        mark = mark_of(imei[i], msisdn[i], imsi[i])
        place = np.int64(mark & last)
        if recent[place] == mark:
            continue
        if written - read >= capacity:
            ring[DROPPED] += _ONE
            continue
        at = SLOTS_AT + SLOT_WORDS * np.int64(written % capacity)
        ring[at], ring[at + 1], ring[at + 2] = imei[i], msisdn[i], imsi[i]
        ring[at + 3] = np.uint64(now) << np.uint64(WHY_BITS) | why
        recent[place] = mark
        written += _ONE
        ring[WRITTEN] = written


@compiled
def place_in(table, mark):
    """Where a mark stands in a table that has room, or would."""
    last = np.uint64(len(table) - 1)
    place = np.int64(mark & last)
    while table[place] != _NONE and table[place] != mark:
        place = np.int64(np.uint64(place + 1) & last)
    return place


@compiled
def mark_all(noted, marks):
    """See ``marks_of``."""
    for i in range(len(noted)):
        marks[i] = mark_of(noted[i, 0], noted[i, 1], noted[i, 2])


@compiled
def find_all(table, marks, known):
    """See ``are_known``."""
    for i in range(len(marks)):
        if table[place_in(table, marks[i])] == marks[i]:
            known[i] = True


@compiled
def put_all(table, marks):
    """See ``remember``."""
    count = 0
    for i in range(len(marks)):
        place = place_in(table, marks[i])
        if table[place] == _NONE:
            table[place] = marks[i]
            count += 1
    return count


@compiled
def number_all(desc, noted, numbers):
    """See ``numbers_of``."""
    for i in range(len(noted)):
        numbers[i] = number_of(desc, noted[i, 1], noted[i, 2])


def marks_of(noted: U64) -> U64:
    """The mark of each sighting, uint64[n]; ``noted`` uint64[n, 4]."""
    marks = np.empty(len(noted), np.uint64)
    with np.errstate(over="ignore"):
        mark_all(noted, marks)
    return marks


def are_known(table: U64, marks: U64) -> NDArray[np.bool_]:
    """Which marks stand in a table of uint64[a power of two], 0 = vacant."""
    known = np.zeros(len(marks), np.bool_)
    find_all(table, marks, known)
    return known


def remember(table: U64, marks: U64) -> int:
    """Put the marks into the table, which must keep room; how many were not there before."""
    return int(put_all(table, marks))


def numbers_of(tables: Tables, noted: U64) -> U64:
    """The MSISDN of each sighting, uint64[n]: its own, else by the operator's table; 0 = none."""
    numbers = np.zeros(len(noted), np.uint64)
    with np.errstate(over="ignore"):
        number_all(tables.desc, noted, numbers)
    return numbers


def verify_noting() -> None:
    """Compile what is not yet, before anybody forks or asks; and prove it on two devices.

    Raises RuntimeError where what was compiled does not note, know and remember as it must.
    """
    ring, recent = np.zeros(SLOTS_AT + 4 * SLOT_WORDS, np.uint64), np.zeros(16, np.uint64)
    rows = np.array([[2, 2, 16, 16], [1, 1, 9, 9], [2, 2, 16, 16]], np.uint8)
    codes = np.arange(CODES, dtype=np.uint16)
    wanted = wanted_reasons(codes, census=False)
    asked = np.array([5, 6, 5], np.uint64)
    with np.errstate(over="ignore"):
        note(rows, asked, asked, asked, wanted, ring, recent, 7)
    noted = ring[SLOTS_AT:].reshape(-1, SLOT_WORDS)[: int(ring[WRITTEN])]
    table, marks = np.zeros(8, np.uint64), marks_of(noted)
    counts = (remember(table, marks), remember(table, marks), int(are_known(table, marks).sum()))
    if (noted.tolist(), counts) != ([[5, 5, 5, 7 << WHY_BITS | 16]], (1, 0, 1)):
        raise RuntimeError(f"sightings are noted wrongly: {noted.tolist()}, {counts}")
