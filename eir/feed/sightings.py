"""A file of sightings: what one node tells the registry, signed, immutable, numbered.

    sightings-<node>-<sequence>    an envelope (see ``envelope``) around canonical msgpack
    node                           the id of the key that signed it, 16 hex digits
    sequence                       from 1, rising by 1, ten digits: (node, sequence) is one content

Promises that no byte of a body is parsed before its signature is verified, and that what is
accepted is the one encoding of what it says. docs/sightings.md has it byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.errors import Refused
from eir.feed.envelope import Envelope, PublicKey, SecretKey, pack, unpack

U64 = NDArray[np.uint64]

SIGHTINGS: Final = Envelope("sightings", b"EIRSEEN1", limits.MAX_SIGHTINGS_BYTES)

_FORMAT: Final = "eir-sightings-1"
_COLUMNS: Final = {"imei": "<u8", "msisdn": "<u8", "imsi": "<u8", "reason": "<u2", "seen": "<u4"}
_FIELDS: Final = ("format", "sequence", "made_at", "census", "count", *_COLUMNS)
_FILE: Final = re.compile(r"sightings-([0-9a-f]{16})-([0-9]{10})", re.ASCII)
_MAX_MSISDN: Final = 10**limits.MAX_MSISDN_DIGITS - 1
_TENS: Final = np.array([10**digits for digits in range(16)], np.uint64)
_MAX_SEQUENCE: Final = 10**10 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """One file's content: ``rows`` uint64[n, 5], n ≥ 1, ascending by the first three, unique.

    A row: IMEI key; MSISDN and IMSI code (0 = none); reason id; when it was first seen (Unix s).
    ``made_at``: Unix seconds. ``census``: every pair was noted, not only those the registry does
    not know, or has not bound.
    """

    sequence: int
    made_at: int
    census: bool
    rows: U64


@dataclass(frozen=True, slots=True, order=True)
class FileName:
    """What a file's name says: ``node`` is the key's id in hex."""

    node: str
    sequence: int

    def __str__(self) -> str:
        return f"sightings-{self.node}-{self.sequence:010d}"


def file_name(name: str) -> FileName | None:
    """What a name says; None where it is no sightings file's."""
    found = _FILE.fullmatch(name)
    return FileName(found[1], int(found[2])) if found and int(found[2]) else None


def seal_sightings(sightings: Sightings, key: SecretKey) -> bytes:
    """The signed file. Raises Refused ``sightings-malformed`` for a wrong content."""
    _check(sightings)
    return SIGHTINGS.seal(_encode(sightings), key)


def open_sightings(raw: bytes, trusted: Iterable[PublicKey]) -> Sightings:
    """What a trusted node says.

    Raises Refused with ``feed-too-large``, ``feed-malformed``, ``root-unknown`` (no key given has
    signed it), ``feed-signature``, ``feed-format`` or ``sightings-malformed``.
    """
    body = SIGHTINGS.open(raw, trusted)
    sightings = _decode(body)
    _check(sightings)
    if _encode(sightings) != body:
        raise _malformed("not in its canonical form")
    return sightings


def can_be_told(rows: U64) -> NDArray[np.bool_]:
    """Which rows, uint64[n, 3 or more], name a device, and a subscriber or none."""
    imei, msisdn, imsi = rows[:, 0], rows[:, 1], rows[:, 2]
    digits, length = imsi >> np.uint64(4), imsi & np.uint64(15)
    named = (imei > 0) & (imei <= limits.MAX_IMEI_KEY) & (msisdn <= _MAX_MSISDN)
    good: NDArray[np.bool_] = named & (
        (imsi == 0) | (length >= limits.MIN_IMSI_DIGITS) & (digits < _TENS[length])
    )
    return good


def _encode(sightings: Sightings) -> bytes:
    columns = {
        name: sightings.rows[:, place].astype(kind).tobytes()
        for place, (name, kind) in enumerate(_COLUMNS.items())
    }
    fields = {
        "format": _FORMAT,
        "sequence": sightings.sequence,
        "made_at": sightings.made_at,
        "census": sightings.census,
        "count": len(sightings.rows),
        **columns,
    }
    return pack(fields)


def _decode(body: bytes) -> Sightings:
    try:
        fields = unpack(body, max_items=len(_FIELDS))
    except ValueError as error:
        raise _malformed(str(error)) from error
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, str) and found != _FORMAT:
        raise SIGHTINGS.unread(found, _FORMAT)
    if not isinstance(fields, dict) or tuple(fields) != _FIELDS:
        raise _malformed(f"expected the fields {', '.join(_FIELDS)}")
    numbers = [fields[name] for name in ("sequence", "made_at", "count")]
    if not all(type(number) is int for number in numbers) or type(fields["census"]) is not bool:
        raise _malformed("sequence, made_at and count are integers, census is true or false")
    sequence, made_at, count = numbers
    if not 1 <= count <= limits.MAX_SIGHTINGS_ROWS:
        raise _malformed(f"1 to {limits.MAX_SIGHTINGS_ROWS} rows; got {count}")
    rows: U64 = np.empty((count, len(_COLUMNS)), np.uint64)
    for place, (name, kind) in enumerate(_COLUMNS.items()):
        column = fields[name]
        if not isinstance(column, bytes) or len(column) != count * np.dtype(kind).itemsize:
            raise _malformed(f"expected {count} values of type {kind}", where=name)
        rows[:, place] = np.frombuffer(column, kind)
    return Sightings(sequence, made_at, bool(fields["census"]), rows)


def _check(sightings: Sightings) -> None:
    rows = sightings.rows
    if not 1 <= len(rows) <= limits.MAX_SIGHTINGS_ROWS:
        raise _malformed(f"1 to {limits.MAX_SIGHTINGS_ROWS} rows; got {len(rows)}")
    if not 1 <= sightings.sequence <= _MAX_SEQUENCE:
        raise _malformed("a sequence is 1 or more, of ten digits at most", where="sequence")
    if not 0 <= sightings.made_at <= limits.MAX_UNIX_S:
        raise _malformed("no time of ours", where="made_at")
    if not bool(can_be_told(rows).all()):
        raise _malformed("a device, number or IMSI that none can be")
    if int(rows[:, 3].min()) == 0:
        raise _malformed("0 is no reason", where="reason")
    if not _ascending(rows[:, :3]):
        raise _malformed("rows ascend by IMEI, MSISDN and IMSI, and none stands twice")


def _ascending(keys: U64) -> bool:
    before, after = keys[:-1], keys[1:]
    greater, equal = after > before, after == before
    rises = greater[:, 0] | equal[:, 0] & (greater[:, 1] | equal[:, 1] & greater[:, 2])
    return bool(rises.all())


def _malformed(detail: str, *, where: str = "") -> Refused:
    return Refused("sightings-malformed", detail, where=f"sightings {where}".strip())
