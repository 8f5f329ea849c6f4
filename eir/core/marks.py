"""Marks: a small table of bits that says of a key whether a range or an override may cover it.

A range holds a million keys, which no sieve can name one by one; an override may come at any hour.
Both cover few, and a search for each query would cost more than all that is found. So the blocks of
keys that they touch are hashed into bits. A bit may be set for a block that none of them touches
(one in sixteen), and is never missing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir.core.jit import compiled, inlined, load64
from eir.core.sieve import spread

U64 = NDArray[np.uint64]

BITS_A_BLOCK: Final = 16
MOST_BLOCKS: Final = 1 << 20
"""Where more are touched, everybody may be covered."""

_WORD_BITS: Final = 64
_EVERYBODY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def marks_of(spans: U64, block_bits: int) -> U64:
    """The table, uint64[2^k], for spans uint64[n, 2] (first key, last key) in blocks of keys."""
    blocks = spans >> np.uint64(block_bits)
    count = int((blocks[:, 1] - blocks[:, 0]).sum()) + len(blocks)
    if count > MOST_BLOCKS:
        return np.full(1, _EVERYBODY)
    words = -(-count * BITS_A_BLOCK // _WORD_BITS)
    table = np.zeros(1 << max(0, words - 1).bit_length(), np.uint64)
    mark(table, np.uint64(shift_of(table)), blocks)
    return table


def shift_of(table: U64) -> int:
    """By how many bits a spread block is shifted to its place in a table."""
    return _WORD_BITS - (_WORD_BITS * len(table) - 1).bit_length()


@compiled
def mark(table, shift, blocks):
    """Set the bits of uint64[n, 2] (first block, last block)."""
    for i in range(len(blocks)):
        block = blocks[i, 0]
        while block <= blocks[i, 1]:
            place = spread(block) >> shift
            table[place >> np.uint64(6)] |= np.uint64(1) << (place & np.uint64(63))
            block += np.uint64(1)


@inlined
def is_marked(address, shift, word):
    """Whether the bit of a spread block is set in a table at an address."""
    place = word >> np.uint64(shift)
    bits = load64(address + 8 * np.int64(place >> np.uint64(6)))
    return (bits >> (place & np.uint64(63))) & np.uint64(1) == np.uint64(1)
