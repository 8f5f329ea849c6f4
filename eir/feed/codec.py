"""Snapshot files: one generation, made to be mapped, not parsed.

    0    magic "EIRSNAP1", header length (u64 LE), SHA-256 of the header, 16 zero bytes
    64   header: msgpack map, strictly checked
    …    sections, each 64-byte aligned, each of 64-byte aligned parts; padding is zero

Every byte is accounted for: the header has its own SHA-256, each section has one (padding between
its parts included), what lies between sections is zero, the file's length is exact. Opening a file
verifies hashes, then structure, then the digest; only then does anyone else see it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgpack
import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import deadlines, imeiset, pairtable
from eir.core.generation import (
    BLACK,
    BLACK_UNION,
    FEEDS,
    LIST,
    Content,
    Generation,
    Section,
    spec_of,
)
from eir.core.orders import Hold, Order, Override, check_holds, check_orders, check_overrides
from eir.errors import Corrupt, EirError, Refused
from eir.feed import black_union, sections
from eir.feed.digest import Digest, of_section

MAGIC = b"EIRSNAP1"
FORMAT = 1
_PREFIX = struct.Struct("<8sQ32s16x")
_ALIGN = limits.SECTION_ALIGNMENT_BYTES

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """Whose word, as of when. ``session``: a UUID's text; ``made_at``: Unix seconds UTC."""

    feed: str
    registry_id: str
    session: str
    serial: int
    made_at: int


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """What was written: ``sha256`` hex of the whole file, ``counts`` items a section."""

    path: Path
    size: int
    sha256: str
    digest: str
    counts: Mapping[str, int] = field(repr=False)


class SnapshotWriter:
    """Collects sections in any order and writes them as one canonical file.

    Equal content gives equal bytes: sections stand in the order of their names.
    """

    def __init__(self, head: SnapshotHead) -> None:
        _check_head(head)
        self._head = head
        self._sections: dict[str, Section] = {}

    def add_list(
        self, name: str, keys: Iterable[U64], ranges: U64 | None = None, *, reason_id: int = 0
    ) -> int:
        """Sorted unique batches of keys, and inclusive ranges uint64[m, 2]; the number of items."""
        return self.add(Section(name, imeiset.build(keys, ranges), reason_id))

    def add_pairs(self, name: str, rows: Iterable[tuple[U64, U64]]) -> int:
        """Batches (keys, values) sorted by both, unique; the number of pairs."""
        return self.add(Section(name, pairtable.build(rows)))

    def add_deadlines(self, name: str, rows: Iterable[tuple[U64, U64, NDArray[np.int64]]]) -> int:
        """Batches (IMEIs, numbers, deadlines) sorted by the first two, unique there; the rows."""
        return self.add(Section(name, deadlines.build(rows)))

    def add_overrides(self, rows: Iterable[Override]) -> int:
        """Overrides in any order; one a pair. Raises Refused as ``check_overrides``."""
        kept = tuple(sorted(rows))
        check_overrides(kept)
        return self.add(Section("overrides", kept))

    def add_holds(self, rows: Iterable[Hold]) -> int:
        """Holds in any order, at most 64. Raises Refused as ``check_holds``."""
        kept = tuple(sorted(set(rows)))
        check_holds(kept)
        return self.add(Section("holds", kept))

    def add_orders(self, rows: Iterable[Order]) -> int:
        """Orders of any other kind. Raises Refused as ``check_orders``."""
        kept = tuple(sorted(rows))
        check_orders(kept)
        return self.add(Section("orders", kept))

    def add(self, section: Section) -> int:
        """A section as it stands, overlay and all. Raises Refused where it does not belong here."""
        spec = spec_of(section.name)
        if self._head.feed not in spec.feeds:
            raise Refused(
                "section-misplaced",
                f"{section.name} belongs to the {spec.feeds[0]} feed, not to this one",
            )
        if section.name in self._sections:
            raise Refused("section-twice", f"{section.name} was added before")
        if section.name.startswith(BLACK) and not _id_fits(section.reason_id):
            raise Refused("reason-id", f"{section.name}: {section.reason_id} is no reason's id")
        same = [s.name for s in self._sections.values() if s.reason_id == section.reason_id]
        if section.reason_id and same:
            raise Refused("reason-id", f"{same[0]} and {section.name}: {section.reason_id} is both")
        self._sections[section.name] = sections.without_overlay(section)
        return section.items

    def write(self, path: Path) -> SnapshotFacts:
        """Write, fsync, and make read-only a new file; the folder's own fsync is the depot's.

        Raises ValueError where an item is no IMEI, number or IMSI, before anything is written.
        """
        kept = {
            name: self._sections[name] for name in sorted(self._sections) if name != BLACK_UNION
        }
        digest = sum((of_section(section) for section in kept.values()), Digest())
        union = black_union.of_sections(kept)
        if union is not None:
            kept[BLACK_UNION] = Section(BLACK_UNION, union)
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o444)) as file:
            size, sha256 = _write_file(file, self._head, str(digest), kept)
        counts = {name: section.items for name, section in kept.items()}
        return SnapshotFacts(path, size, sha256, str(digest), counts)


def write_generation(path: Path, head: SnapshotHead, generation: Generation) -> SnapshotFacts:
    """Write what a generation comes to, overlays and all, as ``SnapshotWriter.write`` does.

    Raises Corrupt where the content that was read is not the one that its digest names.
    """
    writer = SnapshotWriter(head)
    for name, section in generation.sections.items():
        if name != BLACK_UNION:
            writer.add(section)
    facts = writer.write(path)
    if facts.digest != generation.digest:
        detail = f"what was written has {facts.digest}, not {generation.digest}"
        raise Corrupt("digest", detail, where=str(path))
    return facts


def open_snapshot(path: Path, *, trusted: bool = False) -> Generation:
    """Map a snapshot file and verify all of it. Raises Corrupt, naming file and section.

    ``trusted``: only the header is read, for a process to which the verifying one hands the file.
    """
    try:
        with path.open("rb") as file:
            return open_file(file, trusted=trusted)
    except Corrupt as error:
        raise Corrupt(error.section, error.detail, where=str(path)) from error
    except OSError as error:
        raise Corrupt("file", error.strerror or str(error), where=str(path)) from error


def open_file(file: BinaryIO, *, trusted: bool = False) -> Generation:
    """As ``open_snapshot``, of a file that is open; it may be closed afterwards."""
    return open_mapped(map_snapshot(file), trusted=trusted)


def map_snapshot(file: BinaryIO) -> NDArray[np.uint8]:
    """The bytes of a whole file. Raises Corrupt where it is too short to be a snapshot."""
    if os.fstat(file.fileno()).st_size < _PREFIX.size:
        raise Corrupt("header", "too short to be a snapshot")
    return np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)


def open_mapped(mapped: NDArray[np.uint8], *, trusted: bool = False) -> Generation:
    """As ``open_snapshot``, over the bytes of a whole file."""
    size = len(mapped)
    magic, length, sha256 = _PREFIX.unpack(mapped[: _PREFIX.size].tobytes())
    if magic != MAGIC:
        raise Corrupt("header", "not a snapshot file (wrong magic)")
    if length > min(limits.MAX_SNAPSHOT_HEADER_BYTES, size - _PREFIX.size):
        raise Corrupt("header", "its length goes beyond the file or the limit")
    packed = mapped[_PREFIX.size : _PREFIX.size + length].tobytes()
    if mapped[48:64].any() or hashlib.sha256(packed).digest() != sha256:
        raise Corrupt("header", "does not match its SHA-256")
    head, digest, entries = _read_header(packed)
    end = _check_layout(mapped, _PREFIX.size + length, entries)
    if end != size:
        raise Corrupt("file", f"{size} bytes; its sections end at {end}")
    opened: dict[str, Section] = {}
    for entry in entries:
        try:
            opened[entry.name] = _open_section(mapped, entry, trusted=trusted)
        except Corrupt as error:
            raise Corrupt(entry.name, f"{error.section}: {error.detail}") from error
    generation = Generation(
        head.feed, head.registry_id, head.session, head.serial, head.made_at, digest, opened
    )
    if not trusted:
        _verify_content(generation)
    return generation


def _verify_content(generation: Generation) -> None:
    total = Digest()
    for name, section in generation.sections.items():
        try:
            digest = of_section(section)
        except (Corrupt, ValueError) as error:
            raise Corrupt(name, str(error)) from error
        if name != BLACK_UNION:
            total += digest
    if str(total) != generation.digest:
        raise Corrupt(
            "header", f"the content's digest is {total}, the header says {generation.digest}"
        )
    black_union.verify(generation)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One section as the header tells of it; offsets of parts are from the section's start."""

    name: str
    kind: str
    reason_id: int
    base: int
    items: int
    offset: int
    length: int
    sha256: bytes
    parts: tuple[tuple[str, int, int], ...]


def aligned(at: int) -> int:
    """The first place from here on where a section, or a part of one, may begin."""
    return -(-at // _ALIGN) * _ALIGN


def _write_file(
    file: BinaryIO, head: SnapshotHead, digest: str, kept: Mapping[str, Section]
) -> tuple[int, str]:
    """(size, SHA-256 hex) of the written, fsynced file."""
    laid = [_lay_out(section) for section in kept.values()]
    header_length = len(_pack_header(head, digest, _placed(laid, 0)))
    entries = _placed(laid, _PREFIX.size + header_length)
    packed = _pack_header(head, digest, entries)
    whole = hashlib.sha256()
    at = 0

    def put(piece: bytes | memoryview) -> None:
        nonlocal at
        whole.update(piece)
        file.write(piece)
        at += len(piece)

    put(_PREFIX.pack(MAGIC, len(packed), hashlib.sha256(packed).digest()))
    put(packed)
    for entry, (_, pieces) in zip(entries, laid, strict=True):
        put(bytes(entry.offset - at))
        for (_, offset, _), piece in zip(entry.parts, pieces, strict=True):
            put(bytes(entry.offset + offset - at))
            put(piece.data)
    file.flush()
    os.fsync(file.fileno())
    return at, whole.hexdigest()


def _lay_out(section: Section) -> tuple[_Entry, list[NDArray[np.uint8]]]:
    """The section's entry, not yet placed in the file, and its parts."""
    spec, parts = spec_of(section.name), sections.parts_of(section.content)
    seen = hashlib.sha256()
    at = 0
    places = []
    for name, part in parts.items():
        seen.update(bytes(aligned(at) - at))
        at = aligned(at)
        places.append((name, at, len(part)))
        seen.update(part.data)
        at += len(part)
    entry = _Entry(
        name=section.name,
        kind=spec.kind,
        reason_id=section.reason_id,
        base=sections.base_of(section.content),
        items=section.items,
        offset=0,
        length=at,
        sha256=seen.digest(),
        parts=tuple(places),
    )
    return entry, list(parts.values())


def _placed(laid: list[tuple[_Entry, list[NDArray[np.uint8]]]], start: int) -> list[_Entry]:
    """The entries with their offsets, from ``start`` on; encoded as long wherever they lie."""
    placed = []
    for entry, _ in laid:
        start = aligned(start)
        values = {name: getattr(entry, name) for name in entry.__slots__}
        placed.append(_Entry(**(values | {"offset": start})))
        start += entry.length
    return placed


def _pack_header(head: SnapshotHead, digest: str, entries: list[_Entry]) -> bytes:
    """msgpack of the header; offsets and lengths as 8 bytes each, so its own length is settled."""
    rows = [
        [
            entry.name,
            entry.kind,
            entry.reason_id,
            entry.base,
            entry.items,
            entry.offset.to_bytes(8, "big"),
            entry.length,
            entry.sha256,
            [list(part) for part in entry.parts],
        ]
        for entry in entries
    ]
    fields = {
        "format": FORMAT,
        "feed": head.feed,
        "registry": head.registry_id,
        "session": head.session,
        "serial": head.serial,
        "made_at": head.made_at,
        "digest": digest,
        "sections": rows,
    }
    packed = bytes(msgpack.packb(fields))
    if len(packed) > limits.MAX_SNAPSHOT_HEADER_BYTES or len(entries) > limits.MAX_SECTIONS:
        raise Refused("too-many-sections", f"{len(entries)} sections do not fit into one header")
    return packed


def _read_header(packed: bytes) -> tuple[SnapshotHead, str, list[_Entry]]:
    """The header's model. Raises Corrupt unless it is exactly what ``_pack_header`` writes."""
    try:
        fields = msgpack.unpackb(packed)
        if fields["format"] != FORMAT:
            raise Corrupt("header", f"format {fields['format']!r}; this engine reads {FORMAT}")
        head = SnapshotHead(
            fields["feed"],
            fields["registry"],
            fields["session"],
            fields["serial"],
            fields["made_at"],
        )
        _check_head(head)
        entries = [_entry_of(*row) for row in fields["sections"]]
        for entry in entries:
            _check_entry(head, entry)
        if _pack_header(head, fields["digest"], entries) != packed:
            raise Corrupt("header", "is not in canonical form")
    except Corrupt:
        raise
    except (EirError, msgpack.UnpackException, ValueError, TypeError, KeyError, IndexError,
            AttributeError, OverflowError) as error:  # fmt: skip
        raise Corrupt("header", f"malformed: {error}") from error
    names = [entry.name for entry in entries]
    if names != sorted(set(names), key=lambda name: (name == BLACK_UNION, name)):
        raise Corrupt("header", "section names are out of order or repeated")
    ids = [entry.reason_id for entry in entries if entry.reason_id]
    if len(set(ids)) != len(ids):
        raise Corrupt("header", "two black lists have the same reason's id")
    return head, fields["digest"], entries


def _entry_of(
    name: str,
    kind: str,
    reason_id: int,
    base: int,
    items: int,
    offset: bytes,
    length: int,
    sha256: bytes,
    parts: list[list[object]],
) -> _Entry:
    places = tuple((str(part), int(str(at)), int(str(size))) for part, at, size in parts)
    at = int.from_bytes(offset, "big")
    return _Entry(name, kind, reason_id, base, items, at, length, sha256, places)


def _check_head(head: SnapshotHead) -> None:
    texts = (head.feed, head.registry_id, head.session)
    if not all(isinstance(t, str) and 0 < len(t) <= limits.MAX_TEXT_FIELD_CHARS for t in texts):
        raise Refused(
            "snapshot-head", "feed, registry id and session are texts of 1 to 256 characters"
        )
    if head.feed not in FEEDS:
        raise Refused("snapshot-head", f"feed {head.feed!r}: it is one of {', '.join(FEEDS)}")
    numbers = (head.serial, head.made_at)
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers) or head.serial == 0:
        raise Refused("snapshot-head", "serial from 1 on, made_at in Unix seconds")


def _check_entry(head: SnapshotHead, entry: _Entry) -> None:
    spec = spec_of(entry.name) if isinstance(entry.name, str) else None
    numbers = (entry.reason_id, entry.base, entry.items, entry.offset, entry.length)
    flat = [n for part in entry.parts for n in part[1:]]
    good = (
        spec is not None
        and head.feed in spec.feeds
        and entry.kind == spec.kind
        and all(type(n) is int and 0 <= n < limits.MAX_SECTION_BYTES for n in (*numbers, *flat)[2:])
        and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
        and entry.items <= limits.MAX_SECTION_ITEMS
        and (_id_fits(entry.reason_id) if entry.name.startswith(BLACK) else entry.reason_id == 0)
        and all(len(part) == 3 for part in entry.parts)
    )
    if not good:
        raise Corrupt("header", f"the entry of section {entry.name!r} is out of bounds")


def _id_fits(reason_id: int) -> bool:
    return limits.FIRST_FEED_REASON_ID <= reason_id <= limits.MAX_REASON_ID


def _check_layout(mapped: NDArray[np.uint8], at: int, entries: list[_Entry]) -> int:
    """Where the last section ends; sections and parts stand gapless but for zero padding."""
    for entry in entries:
        if (
            entry.offset != aligned(at)
            or entry.offset > len(mapped)
            or mapped[at : entry.offset].any()
        ):
            raise Corrupt(entry.name, "does not begin where the one before it ends")
        inner = 0
        for _, offset, length in entry.parts:
            if offset != aligned(inner):
                raise Corrupt(entry.name, "its parts do not stand one behind the other")
            inner = offset + length
        at = entry.offset + entry.length
        if inner != entry.length or at > len(mapped):
            raise Corrupt(entry.name, "ends beyond the file or its parts")
    return at


def _open_section(mapped: NDArray[np.uint8], entry: _Entry, *, trusted: bool) -> Section:
    body = mapped[entry.offset : entry.offset + entry.length]
    if not trusted and hashlib.sha256(body.data).digest() != entry.sha256:
        raise Corrupt("hash", "does not match its SHA-256")
    parts = {name: body[offset : offset + length] for name, offset, length in entry.parts}
    content: Content = sections.content_of(
        entry.kind, parts, base=entry.base, items=entry.items, trusted=trusted
    )
    section = Section(entry.name, content, entry.reason_id)
    if not trusted and list(sections.parts_of(content)) != [name for name, _, _ in entry.parts]:
        raise Corrupt("header", "parts are missing, too many or out of order")
    if section.items != entry.items:
        raise Corrupt("header", f"the header counts {entry.items} items, it holds {section.items}")
    if entry.kind == LIST and entry.base:
        raise Corrupt("header", "a list has no base")
    return section
