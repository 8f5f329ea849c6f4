"""Take a snapshot file apart, change what you like, and sew it up with all its hashes right.

What comes out differs from a good file in its structure alone, as one does that a faulty or
hostile publisher made.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

import msgpack

PREFIX = struct.Struct("<8sQ32s16x")
Part = tuple[str, bytes]


def aligned(at: int) -> int:
    return -(-at // 64) * 64


@dataclass(slots=True)
class Cut:
    """One section; ``parts``: its named bytes, in order."""

    name: object
    kind: object
    reason_id: object
    base: object
    items: object
    parts: list[Part]

    def part(self, name: str) -> bytes:
        return dict(self.parts)[name]

    def put(self, name: str, octets: bytes) -> None:
        self.parts = [(n, octets if n == name else body) for n, body in self.parts]


@dataclass(slots=True)
class Patient:
    """A whole file. ``fields``: the header but for its sections."""

    fields: dict[str, object]
    cuts: list[Cut] = field(default_factory=list)

    def __getitem__(self, name: str) -> Cut:
        return next(cut for cut in self.cuts if cut.name == name)

    def drop(self, name: str) -> Cut:
        cut = self[name]
        self.cuts.remove(cut)
        return cut


def dissect(octets: bytes) -> Patient:
    _, length, _ = PREFIX.unpack(octets[: PREFIX.size])
    fields = msgpack.unpackb(octets[PREFIX.size : PREFIX.size + length])
    patient = Patient(fields)
    for name, kind, reason_id, base, items, offset, _, _, parts in fields.pop("sections"):
        start = int.from_bytes(offset, "big")
        bodies = [(part, octets[start + at : start + at + size]) for part, at, size in parts]
        patient.cuts.append(Cut(name, kind, reason_id, base, items, bodies))
    return patient


def sew(patient: Patient) -> bytes:
    """The file's bytes: offsets, lengths and every SHA-256 made anew, all else as it is."""
    bodies, rows = [], []
    for cut in patient.cuts:
        body, places = b"", []
        for name, octets in cut.parts:
            body += bytes(aligned(len(body)) - len(body))
            places.append([name, len(body), len(octets)])
            body += octets
        bodies.append(body)
        sha256 = hashlib.sha256(body).digest()
        head = [cut.name, cut.kind, cut.reason_id, cut.base, cut.items]
        rows.append([*head, bytes(8), len(body), sha256, places])
    header_length = len(msgpack.packb({**patient.fields, "sections": rows}))
    at = PREFIX.size + header_length
    for row, body in zip(rows, bodies, strict=True):
        row[5] = aligned(at).to_bytes(8, "big")
        at = aligned(at) + len(body)
    return enclose(msgpack.packb({**patient.fields, "sections": rows}), bodies)


def enclose(packed: bytes, bodies: list[bytes]) -> bytes:
    """A file of a packed header, whatever it says, and of bodies each on its border."""
    whole = PREFIX.pack(b"EIRSNAP1", len(packed), hashlib.sha256(packed).digest()) + packed
    for body in bodies:
        whole += bytes(aligned(len(whole)) - len(whole)) + body
    return whole
