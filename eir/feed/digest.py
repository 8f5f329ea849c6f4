"""The digest of a generation's content: order-free, so a delta updates it.

Per item, two 64-bit lanes: the lane's seed for (section, form of item), then for each word of the
item ``h = fmix64(h ^ word)`` (MurmurHash3's finaliser). Each lane is summed mod 2^64 over all
items; the empty set is 0. It finds accidents; signatures and SHA-256 find attackers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgpack
import numpy as np
from numpy.typing import NDArray

from eir.core.delta import Delta, Items
from eir.core.generation import Section, check_ranges, check_rows
from eir.core.jit import compiled
from eir.core.orders import Hold, Order, Override

U64 = NDArray[np.uint64]
_WORD = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Digest:
    """Two lanes of 64 bits. Adding and taking away are mod 2^64, lane by lane, without carry."""

    low: int = 0
    high: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest((self.low + other.low) & _WORD, (self.high + other.high) & _WORD)

    def __sub__(self, other: Digest) -> Digest:
        return Digest((self.low - other.low) & _WORD, (self.high - other.high) & _WORD)

    def __str__(self) -> str:
        return f"{self.low:016x}{self.high:016x}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """What ``str`` of a digest says. Raises ValueError for anything but 32 hex digits."""
        if len(text) != 32:
            raise ValueError(f"a digest has 32 hex digits; got {len(text)} characters")
        return cls(int(text[:16], 16), int(text[16:], 16))


def of_rows(section: str, words: U64, *, form: str = "") -> Digest:
    """Of items, uint64[n, words of each]. ``form`` keeps unlike items of one section apart
    ("range" beside single keys).
    """
    seed = hashlib.sha256(f"{section}\0{form}".encode()).digest()
    lanes = []
    for lane in range(2):
        start = np.uint64(int.from_bytes(seed[8 * lane : 8 * lane + 8], "little"))
        with np.errstate(over="ignore"):
            lanes.append(int(_sum(start, np.ascontiguousarray(words))))
    return Digest(*lanes)


def of_section(section: Section) -> Digest:
    """Of all items of a section. Reading them checks them: raises Corrupt where their structure
    is broken, ValueError where one is no IMEI, number or IMSI.
    """
    total = sum((of_order(section.name, row) for row in section.orders), Digest())
    check_ranges(section.name, section.ranges)
    for rows in section.rows():
        check_rows(section.name, rows)
        total += of_rows(section.name, rows)
    return total + of_rows(section.name, section.ranges, form="range")


def of_delta(delta: Delta) -> Digest:
    """What a delta adds to the digest of the content it is applied to: O(delta)."""
    total = Digest()
    for name, change in delta.changes.items():
        total += _of_items(name, change.added) - _of_items(name, change.removed)
    return total


def _of_items(name: str, items: Items) -> Digest:
    total = sum((of_order(name, row) for row in items.orders), Digest())
    return total + of_rows(name, items.rows) + of_rows(name, items.ranges, form="range")


def of_order(section: str, row: Override | Hold | Order) -> Digest:
    """Of one override, hold or order: its words are the first 128 bits of its SHA-256, encoded."""
    words = np.frombuffer(hashlib.sha256(encode_order(row)).digest()[:16], np.uint64)
    return of_rows(section, words.reshape(1, 2))


def encode_order(row: Override | Hold | Order) -> bytes:
    """One override, hold or order as a msgpack array of its fields in their order."""
    if isinstance(row, Order):
        return bytes(msgpack.packb((row.what, row.low, row.high, row.who, row.at, row.why)))
    if isinstance(row, Override):
        fields = (row.imei, row.msisdn, row.allow, row.until, row.forced, row.who, row.at, row.why)
        return bytes(msgpack.packb(fields))
    return bytes(
        msgpack.packb(
            (row.until, list(row.tacs), row.reason, row.msisdn_prefix, row.who, row.at, row.why)
        )
    )


@compiled
def _fmix64(x):
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


@compiled
def _sum(seed, words):
    total = np.uint64(0)
    for i in range(words.shape[0]):
        h = seed
        for j in range(words.shape[1]):
            h = _fmix64(h ^ words[i, j])
        total += h
    return total
