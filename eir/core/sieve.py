"""A sieve: one cache line says of a key which of a generation's smaller sections may hold it.

Most devices stand in none of the black, legacy and grey lists, and each of those would cost several
cache misses to find that out. So the keys of all of them are hashed into lines of 64 bytes (a
blocked Bloom filter): a line is 32 rows of 16 columns, a section has a column, a key has three rows
and a rotation of the columns. The rows' conjunction, rotated back, has a bit for each section that
may hold the key. It may say so of a key that is not there (2 %), and never misses one that is.

It is derived: in no file and no digest. Whoever verified a generation builds it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled, inlined, load16, prefetch

U64 = NDArray[np.uint64]

LINE_BYTES = 64
BITS_A_KEY = 10
IMEI_COLUMNS = 12
"""Of 16: three more are for sections that are asked for a number, and one is free."""

_AHEAD = 24
"""So many keys before its own a line is sent for: it comes from memory, not from a cache."""

_FIRST = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0xC4CEB9FE1A85EC53)


@dataclass(frozen=True, slots=True)
class Sieve:
    """``lines`` uint64[n, 8], on a cache line's border; ``columns``: section name -> its column.

    A name without a column is not sieved. ``of``: the tables whose keys are in it, where whoever
    has it needs to know.
    """

    lines: U64
    columns: Mapping[str, int] = field(default_factory=dict)
    of: Mapping[str, object] = field(default_factory=dict)


NO_SIEVE = Sieve(np.empty((0, 8), np.uint64))


def lines_for(keys: int) -> int:
    """How many lines hold so many keys."""
    return -(-keys * BITS_A_KEY // (8 * LINE_BYTES))


def build(columns: Mapping[str, int], keys: int, batches: Iterable[tuple[str, U64]]) -> Sieve:
    """The sieve of batches (section name, keys), ``keys`` in all."""
    raw = np.zeros(8 * lines_for(keys) + 8, np.uint64)
    skip = (-raw.ctypes.data % LINE_BYTES) // 8
    lines = raw[skip : skip + 8 * lines_for(keys)].reshape(-1, 8)
    for name, batch in batches:
        fill(lines.view(np.uint16), columns[name], batch)
    return Sieve(lines, columns)


@inlined
def spread(key):
    """The key's 64 well mixed bits."""
    word = key * _FIRST
    word ^= word >> np.uint64(32)
    word *= _SECOND
    return word ^ (word >> np.uint64(29))


@inlined
def line_of(word, lines):
    """The line of a spread key, of so many."""
    return np.int64(((word >> np.uint64(32)) * np.uint64(lines)) >> np.uint64(32))


@compiled
def fill(lines, column, keys):
    """Put keys into a column; ``lines`` uint16[n, 32]."""
    for i in range(len(keys)):
        if i + _AHEAD < len(keys):
            coming = line_of(spread(keys[i + _AHEAD]), len(lines))
            prefetch(lines.ctypes.data + LINE_BYTES * coming)
        word = spread(keys[i])
        line = line_of(word, len(lines))
        places = np.int64(word & np.uint64(0x7FFFF))
        bit = np.uint16(1 << ((column + (places >> 15)) & 15))
        lines[line, places & 31] |= bit
        lines[line, (places >> 5) & 31] |= bit
        lines[line, (places >> 10) & 31] |= bit


@inlined
def sift(address, lines, word):
    """A bit for each column that may hold the spread key, of lines at an address."""
    line = address + LINE_BYTES * line_of(word, lines)
    places = np.int64(word & np.uint64(0x7FFFF))
    rows = load16(line + 2 * (places & 31))
    rows &= load16(line + 2 * ((places >> 5) & 31))
    rows &= load16(line + 2 * ((places >> 10) & 31))
    turn = places >> 15
    return ((rows >> turn) | (rows << (16 - turn))) & 0xFFFF
