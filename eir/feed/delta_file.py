"""Delta files: one step of a feed, from a serial to the next; small on the wire.

    0    magic "EIRDELT1", header length (u64 LE), SHA-256 of the header, 16 zero bytes
    64   header: msgpack map, strictly checked; with the body's length and SHA-256
    …    body: per section, in the order of names, what goes and then what comes; of each the
         rows, the ranges (lo, hi − lo) and the orders

Every byte is accounted for, hashes come before anything is parsed, and equal content has one
encoding: what was read is encoded again and compared. Never says whether a delta fits a base:
that is ``advance``'s strict apply, and the plan's.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core.deadlines import MAX_DEADLINE
from eir.core.delta import Change, Delta, Items, apart, apply, ascends
from eir.core.generation import (
    BLACK,
    BLACK_UNION,
    DEADLINES,
    FEEDS,
    LIST,
    Generation,
    SectionSpec,
    check_ranges,
    check_rows,
    spec_of,
)
from eir.core.imeiset import merged_ranges
from eir.errors import Conflict, Corrupt, Refused
from eir.feed import sections
from eir.feed.delta_columns import decode_rows, encode_rows
from eir.feed.digest import Digest, encode_order, of_delta
from eir.feed.envelope import pack, unpack

MAGIC = b"EIRDELT1"
_FORMAT = "eir-delta-1"
_PREFIX = struct.Struct("<8sQ32s16x")
_FRAME = struct.Struct("<Q")
_FIELDS = (
    "format", "feed", "registry", "session", "from", "to", "made_at", "digest_before",
    "digest_after", "sections", "length", "sha256",
)  # fmt: skip

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DeltaHead:
    """Which step this is, of whose feed: ``to_serial`` is ``from_serial`` + 1.

    ``session``: a UUID's text; ``made_at``: Unix seconds UTC; digests: 32 hex digits.
    """

    feed: str
    registry_id: str
    session: str
    from_serial: int
    to_serial: int
    made_at: int
    digest_before: str
    digest_after: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What was written: ``size`` in bytes, ``sha256`` hex of the whole file."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A section as the header tells of it: how many rows, ranges and octets of orders go, and
    how many come.
    """

    name: str
    reason_id: int
    removed: tuple[int, int, int]
    added: tuple[int, int, int]


def write_delta(path: Path, head: DeltaHead, delta: Delta) -> FileFacts:
    """Write, fsync, and make read-only a new file; the folder's own fsync is the caller's.

    Raises ValueError where the delta is not well formed, before anything is written, and Refused
    ``delta-too-big`` where no reader would take it: publish a snapshot instead.
    """
    if len(delta) > limits.MAX_DELTA_ITEMS:
        raise Refused("delta-too-big", f"{len(delta):,} items; at most {limits.MAX_DELTA_ITEMS:,}")
    check_delta(head.feed, delta)
    raw = _encode(head, delta)
    if len(raw) > limits.MAX_DELTA_BYTES:
        raise Refused("delta-too-big", f"{len(raw):,} bytes; at most {limits.MAX_DELTA_BYTES:,}")
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o444)) as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    return FileFacts(path, len(raw), hashlib.sha256(raw).hexdigest())


def read_delta(path: Path) -> tuple[DeltaHead, Delta]:
    """All of a delta file, verified. Raises Corrupt."""
    try:
        with path.open("rb") as file:
            raw = file.read(limits.MAX_DELTA_BYTES + 1)
    except OSError as error:
        raise Corrupt("file", error.strerror or str(error), where=str(path)) from error
    try:
        return decode_delta(raw)
    except Corrupt as error:
        raise Corrupt(error.section, error.detail, where=str(path)) from error


def decode_delta(raw: bytes) -> tuple[DeltaHead, Delta]:
    """What the octets of a delta file say. Raises Corrupt."""
    if not _PREFIX.size < len(raw) <= limits.MAX_DELTA_BYTES:
        raise Corrupt("file", f"{len(raw)} bytes are no delta's size")
    magic, length, sha256 = _PREFIX.unpack(raw[: _PREFIX.size])
    if magic != MAGIC or raw[48:64] != bytes(16):
        raise Corrupt("header", "not a delta file (wrong magic)")
    if length > min(limits.MAX_DELTA_HEADER_BYTES, len(raw) - _PREFIX.size):
        raise Corrupt("header", "its length goes beyond the file or the limit")
    packed, body = raw[_PREFIX.size : _PREFIX.size + length], raw[_PREFIX.size + length :]
    if hashlib.sha256(packed).digest() != sha256:
        raise Corrupt("header", "does not match its SHA-256")
    try:
        head, entries = _read_header(packed, body)
        delta = _decode(head.feed, entries, np.frombuffer(body, np.uint8))
        if _encode(head, delta) != raw:
            raise Corrupt("file", "not in its canonical form")
    except (Refused, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Corrupt("file", f"malformed: {error}") from error
    return head, delta


def write_frame(chain: BinaryIO, raw: bytes, at: int) -> int:
    """Put a delta file's bytes behind its length (u64 LE) into a chain of several, at an offset;
    the offset behind it. Raises OSError.
    """
    left = memoryview(_FRAME.pack(len(raw)) + raw)
    while left:
        written = os.pwrite(chain.fileno(), left, at)
        left, at = left[written:], at + written
    return at


def read_frames(chain: int) -> Iterator[bytes]:
    """Each delta file of a chain.

    ``chain``: an open descriptor, whose own position is neither used nor moved.
    """
    at = 0
    while len(frame := os.pread(chain, _FRAME.size, at)) == _FRAME.size:
        (size,) = _FRAME.unpack(frame)
        yield os.pread(chain, size, at + _FRAME.size)
        at += _FRAME.size + size


def advance(generation: Generation, head: DeltaHead, delta: Delta) -> Generation:
    """The generation one serial on. Raises Conflict where the step is another feed's or serial's,
    does not fit strictly, or does not lead to the digest that it promises.
    """
    here = (generation.feed, generation.registry_id, generation.session, generation.serial)
    step = (head.feed, head.registry_id, head.session, head.from_serial)
    if here != step:
        raise Conflict(f"the delta is for {step}, this is {here}")
    if head.digest_before != generation.digest:
        raise Conflict(f"serial {head.from_serial}: the delta is for another content")
    after = str(Digest.parse(generation.digest) + of_delta(delta))
    if after != head.digest_after:
        raise Conflict(f"serial {head.to_serial}: the digest would be {after}, not as promised")
    return apply(
        generation, delta, serial=head.to_serial, made_at=head.made_at, digest=head.digest_after
    )


def check_delta(feed: str, delta: Delta) -> None:
    """Raises ValueError or Refused where a delta is not well formed in itself.

    Sections of this feed; items ascending, unique, in their domain; nothing both goes and comes.
    """
    if len(delta.changes) > limits.MAX_SECTIONS:
        raise ValueError(f"{len(delta.changes)} sections")
    for name, change in delta.changes.items():
        spec = spec_of(name)
        if feed not in spec.feeds or name == BLACK_UNION:
            raise ValueError(f"{name} is no list of the {feed} feed")
        low, high = limits.FIRST_FEED_REASON_ID, limits.MAX_REASON_ID
        if name.startswith(BLACK) and not low <= delta.reason_ids.get(name, 0) <= high:
            raise ValueError(f"{name}: no reason's id")
        if not len(change.removed) + len(change.added):
            raise ValueError(f"{name}: nothing goes and nothing comes")
        _check_items(name, spec, change.removed)
        _check_items(name, spec, change.added)
        rows, ranges = change.added.rows, change.added.ranges
        if len(apart(change.removed.rows, rows)[1]) != len(rows):
            raise ValueError(f"{name}: an item both goes and comes")
        if len(apart(change.removed.ranges, ranges)[1]) != len(ranges):
            raise ValueError(f"{name}: a range both goes and comes")
        if set(change.removed.orders) & set(change.added.orders):
            raise ValueError(f"{name}: an order both goes and comes")
    if any(not name.startswith(BLACK) or name not in delta.changes for name in delta.reason_ids):
        raise ValueError("a reason's id of no black list")


def _check_items(name: str, spec: SectionSpec, items: Items) -> None:
    if items.rows.shape[1] != spec.words or not (ascends(items.rows) and ascends(items.ranges)):
        raise ValueError(f"{name}: items do not ascend, or one stands there twice")
    if len(items.rows):
        check_rows(name, items.rows)
        if spec.kind == DEADLINES and int(items.rows[:, 2].max()) > MAX_DEADLINE:
            raise ValueError(f"{name}: a deadline beyond 2106")
    if len(items.ranges):
        if spec.kind != LIST or len(merged_ranges(items.ranges)) != len(items.ranges):
            raise ValueError(f"{name}: ranges overlap or touch, or do not belong there")
        check_ranges(name, items.ranges)
    if list(items.orders) != sorted(set(items.orders)):
        raise ValueError(f"{name}: orders do not ascend")


def _encode(head: DeltaHead, delta: Delta) -> bytes:
    entries: list[_Entry] = []
    pieces: list[bytes] = []
    for name in sorted(delta.changes):
        change = delta.changes[name]
        sides = []
        for items in (change.removed, change.added):
            orders = b"".join(encode_order(row) for row in items.orders)
            pieces += [encode_rows(items.rows), encode_rows(_as_lengths(items.ranges)), orders]
            sides.append((len(items.rows), len(items.ranges), len(orders)))
        entries.append(_Entry(name, delta.reason_ids.get(name, 0), sides[0], sides[1]))
    body = b"".join(pieces)
    packed = _pack_header(head, entries, body)
    return _PREFIX.pack(MAGIC, len(packed), hashlib.sha256(packed).digest()) + packed + body


def _as_lengths(ranges: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.stack([ranges[:, 0], ranges[:, 1] - ranges[:, 0]], axis=1)


def _pack_header(head: DeltaHead, entries: list[_Entry], body: bytes) -> bytes:
    values = (
        _FORMAT,
        head.feed,
        head.registry_id,
        head.session,
        head.from_serial,
        head.to_serial,
        head.made_at,
        bytes.fromhex(head.digest_before),
        bytes.fromhex(head.digest_after),
        [astuple(entry) for entry in entries],
        len(body),
        hashlib.sha256(body).digest(),
    )
    return pack(dict(zip(_FIELDS, values, strict=True)))


def _read_header(packed: bytes, body: bytes) -> tuple[DeltaHead, list[_Entry]]:
    fields = unpack(packed, max_items=limits.MAX_SECTIONS)
    if not isinstance(fields, dict) or fields.get("format") != _FORMAT:
        raise Corrupt("header", f"this engine reads {_FORMAT} only")
    if tuple(fields) != _FIELDS or fields["length"] != len(body):
        raise Corrupt("header", "a field is missing, or the body is of another length")
    if fields["sha256"] != hashlib.sha256(body).digest():
        raise Corrupt("body", "does not match its SHA-256")
    head = DeltaHead(
        fields["feed"],
        fields["registry"],
        fields["session"],
        fields["from"],
        fields["to"],
        fields["made_at"],
        fields["digest_before"].hex(),
        fields["digest_after"].hex(),
    )
    _check_head(head)
    entries = [_entry_of(*row) for row in fields["sections"]]
    if _pack_header(head, entries, body) != packed:
        raise Corrupt("header", "not in its canonical form")
    items = sum(sum(entry.removed[:2]) + sum(entry.added[:2]) for entry in entries)
    if items > limits.MAX_DELTA_ITEMS:
        raise Corrupt("header", f"{items} items; at most {limits.MAX_DELTA_ITEMS}")
    return head, entries


def _check_head(head: DeltaHead) -> None:
    numbers = (head.from_serial, head.to_serial, head.made_at)
    good = (
        all(type(number) is int for number in numbers)
        and 1 <= head.from_serial < limits.MAX_SERIAL
        and head.to_serial == head.from_serial + 1
        and 1 <= head.made_at <= limits.MAX_UNIX_S
        and head.feed in FEEDS
        and 1 <= len(head.registry_id) <= limits.MAX_TEXT_FIELD_CHARS
        and head.registry_id.isprintable()
        and str(UUID(head.session)) == head.session
        and len(head.digest_before) == len(head.digest_after) == 32
    )
    if not good:
        raise ValueError("feed, session, serials, time or digests are out of their domain")


def _entry_of(name: str, reason_id: int, removed: list[int], added: list[int]) -> _Entry:
    counts = (reason_id, *removed, *added)
    if len(counts) != 7 or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError(f"{name}: six counts from 0 on")
    return _Entry(
        name, reason_id, (removed[0], removed[1], removed[2]), (added[0], added[1], added[2])
    )


def _decode(feed: str, entries: list[_Entry], body: Bytes) -> Delta:
    names = [entry.name for entry in entries]
    if names != sorted(set(names)):
        raise ValueError("sections are out of order or repeated")
    at = 0
    changes: dict[str, Change] = {}
    for entry in entries:
        spec = spec_of(entry.name)
        removed, at = _decode_items(spec, entry.removed, body, at)
        added, at = _decode_items(spec, entry.added, body, at)
        changes[entry.name] = Change(removed, added)
    if at != len(body):
        raise Corrupt("body", "octets left over behind the last section")
    ids: Mapping[str, int] = {entry.name: entry.reason_id for entry in entries if entry.reason_id}
    delta = Delta(changes, ids)
    check_delta(feed, delta)
    return delta


def _decode_items(
    spec: SectionSpec, counts: tuple[int, int, int], body: Bytes, at: int
) -> tuple[Items, int]:
    row_count, range_count, order_octets = counts
    if (row_count and not spec.words) or (range_count and spec.kind != LIST):
        raise ValueError("rows or ranges where the section has none")
    rows, used = decode_rows(body[at:], row_count, spec.words)
    at += used
    lengths, used = decode_rows(body[at:], range_count, 2)
    at += used
    orders = body[at : at + order_octets]
    if len(orders) != order_octets or (order_octets and spec.words):
        raise ValueError("orders end early, or the section has none")
    content = (
        sections.content_of(spec.kind, {"rows": orders}, base=0, items=0) if order_octets else ()
    )
    if not isinstance(content, tuple):
        raise ValueError("no orders")
    ranges = np.stack([lengths[:, 0], lengths[:, 0] + lengths[:, 1]], axis=1)
    return Items(rows, ranges, content), at + order_octets
