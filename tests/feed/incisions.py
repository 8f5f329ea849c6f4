"""Single changes to a snapshot file taken apart: each a function of a few words, for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests.feed.surgery import Patient

Change = Callable[[Patient], object]


def word(name: str, part: str, at: int, value: int, *, size: int = 4) -> Change:
    """Put a little-endian number at a place of a part; a negative place counts from the end."""

    def change(patient: Patient) -> None:
        octets = bytearray(patient[name].part(part))
        start = at if at >= 0 else len(octets) + at
        octets[start : start + size] = value.to_bytes(size, "little")
        patient[name].put(part, bytes(octets))

    return change


def whole(name: str, part: str, octets: bytes) -> Change:
    return lambda patient: patient[name].put(part, octets)


def shorter(name: str, part: str, by: int) -> Change:
    return lambda patient: patient[name].put(part, patient[name].part(part)[:-by])


def longer(name: str, part: str, octets: bytes) -> Change:
    return lambda patient: patient[name].put(part, patient[name].part(part) + octets)


def entry(name: str, /, **fields: object) -> Change:
    def change(patient: Patient) -> None:
        for field, value in fields.items():
            setattr(patient[name], field, value)

    return change


def header(**fields: object) -> Change:
    return lambda patient: patient.fields.update(fields)


def swapped(name: str, part: str, size: int, one: int, other: int) -> Change:
    """Two entries of a part change places."""

    def change(patient: Patient) -> None:
        octets = patient[name].part(part)
        rows = [octets[i : i + size] for i in range(0, len(octets), size)]
        rows[one], rows[other] = rows[other], rows[one]
        patient[name].put(part, b"".join(rows))

    return change


def repeated(name: str) -> Change:
    return lambda patient: patient.cuts.insert(patient.cuts.index(patient[name]), patient[name])


def unread_part(name: str) -> Change:
    """A part named twice: the reader would see the last, and the first be bytes nobody reads."""
    return lambda patient: patient[name].parts.insert(0, patient[name].parts[0])


def parts_swapped(name: str) -> Change:
    return lambda patient: patient[name].parts.reverse()


def without(name: str, part: str) -> Change:
    def change(patient: Patient) -> None:
        patient[name].parts = [each for each in patient[name].parts if each[0] != part]

    return change


def runs(card: int, *pairs: tuple[int, int], flags: int = 1) -> bytes:
    """One bucket, one container of runs (start, length - 1), which claims to hold ``card`` keys."""
    head = struct.pack("<QIIBHH", 1, 0, 12347, flags, 0, card - 1)
    return head + struct.pack(f"<{1 + 2 * len(pairs)}H", len(pairs), *(n for p in pairs for n in p))
