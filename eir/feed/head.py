"""The head of a feed: the one file that changes, and names all the others.

Promises: verified, then parsed; what is parsed is complete, within `limits`, free of
contradictions, and encodes back to the same bytes. Never looks at a clock, and never decides what
to fetch: deltas may lack serials here, and the plan has a reason code for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NewType
from uuid import UUID

from eir import limits
from eir.feed.envelope import Envelope, PublicKey, SecretKey, pack, unpack

Serial = NewType("Serial", int)
"""1 … 2^64 − 1; rises by exactly 1, never wraps."""

HEAD: Final = Envelope("head", b"EIRHEAD1", limits.MAX_HEAD_BYTES)
HEAD_NAME: Final = "head"
KEYS_NAME: Final = "keys"

_FORMAT: Final = "eir-head-1"
_SHA256_BYTES: Final = 32
_DIGEST_BYTES: Final = 16
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)
_SECTION: Final = re.compile(r"[a-z0-9][a-z0-9.-]*", re.ASCII)
_TOP: Final = ("format", "registry", "epoch", "session", "serial", "made_at", "snapshot", "deltas")
_SNAPSHOT: Final = ("serial", "name", "size", "sha256", "counts", "digest")
_DELTA: Final = ("serial", "name", "size", "sha256", "digest_after")


@dataclass(frozen=True, slots=True)
class FeedFile:
    """One immutable file of a feed, and the content that it leads to.

    ``size`` in bytes, ``sha256`` of the file, ``digest`` of the content *at* ``serial``: the
    snapshot's own, or the one after the delta. Both are lower-case hex.
    """

    serial: Serial
    name: str
    size: int
    sha256: str
    digest: str


@dataclass(frozen=True, slots=True)
class Head:
    """What a registry says its feed is at ``made_at`` (Unix seconds UTC).

    ``deltas`` rise in serial and none passes ``serial``; ``counts`` are the snapshot's items by
    section, sorted by name.
    """

    registry_id: str
    epoch: int
    session: str
    serial: Serial
    made_at: int
    snapshot: FeedFile
    counts: tuple[tuple[str, int], ...]
    deltas: tuple[FeedFile, ...]

    def digests(self) -> dict[Serial, str]:
        """The content digest of every serial that this head tells of."""
        known = {delta.serial: delta.digest for delta in self.deltas}
        known[self.snapshot.serial] = self.snapshot.digest
        return known


def seal_head(head: Head, key: SecretKey) -> bytes:
    """The signed bytes of ``head``. Raises Refused ``feed-malformed`` for what no reader takes."""
    try:
        body = _encode(head)
    except (OverflowError, ValueError) as error:
        raise HEAD.malformed(str(error)) from error
    if _decode(body) != head:
        raise HEAD.malformed("a section is counted twice, or hex is not lower-case")
    return HEAD.seal(body, key)


def open_head(raw: bytes, trusted: Iterable[PublicKey]) -> Head:
    """The head in ``raw``, signed by one of ``trusted``.

    Raises Refused with ``feed-too-large``, ``head-key-unknown``, ``feed-signature``,
    ``feed-format`` (a later format than this engine reads) or ``feed-malformed``.
    """
    return _decode(HEAD.open(raw, trusted))


def is_file_name(name: str) -> bool:
    """Whether ``name`` is a file *in* the feed's folder: one plain lower-case name.

    No separator, no leading dot, and neither of the two names that change.
    """
    fits = len(name) <= limits.MAX_FEED_NAME_CHARS and _NAME.fullmatch(name) is not None
    return fits and name not in (HEAD_NAME, KEYS_NAME)


def _encode(head: Head) -> bytes:
    snapshot = head.snapshot
    fields = {
        "format": _FORMAT,
        "registry": head.registry_id,
        "epoch": head.epoch,
        "session": head.session,
        "serial": head.serial,
        "made_at": head.made_at,
        "snapshot": {
            "serial": snapshot.serial,
            "name": snapshot.name,
            "size": snapshot.size,
            "sha256": bytes.fromhex(snapshot.sha256),
            "counts": dict(head.counts),
            "digest": bytes.fromhex(snapshot.digest),
        },
        "deltas": [
            {
                "serial": delta.serial,
                "name": delta.name,
                "size": delta.size,
                "sha256": bytes.fromhex(delta.sha256),
                "digest_after": bytes.fromhex(delta.digest),
            }
            for delta in head.deltas
        ],
    }
    return pack(fields)


def _decode(body: bytes) -> Head:
    try:
        fields = unpack(body, max_items=limits.MAX_HEAD_DELTAS)
    except ValueError as error:
        raise HEAD.malformed(str(error)) from error
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, str) and found != _FORMAT:
        raise HEAD.unread(found, _FORMAT)
    top = _mapping(fields, "", _TOP)
    files = top["deltas"]
    if not isinstance(files, list):
        raise HEAD.malformed("not an array", where="deltas")
    snapshot = _mapping(top["snapshot"], "snapshot", _SNAPSHOT)
    head = Head(
        registry_id=_text(top["registry"], "registry"),
        epoch=_number(top["epoch"], "epoch", 1, limits.MAX_SERIAL),
        session=_session(top["session"]),
        serial=_serial(top["serial"], "serial"),
        made_at=_number(top["made_at"], "made_at", 1, limits.MAX_UNIX_S),
        snapshot=_file(snapshot, "snapshot", "digest"),
        counts=_counts(snapshot["counts"]),
        deltas=tuple(
            _file(_mapping(each, f"deltas[{i}]", _DELTA), f"deltas[{i}]", "digest_after")
            for i, each in enumerate(files)
        ),
    )
    _agree(head)
    if _encode(head) != body:
        raise HEAD.malformed("not in its canonical form")
    return head


def _agree(head: Head) -> None:
    """Refuse a head that contradicts itself."""
    before = 0
    for i, delta in enumerate(head.deltas):
        if delta.serial <= before:
            raise HEAD.malformed("serials do not rise", where=f"deltas[{i}]")
        before = delta.serial
        if delta.serial == head.snapshot.serial and delta.digest != head.snapshot.digest:
            raise HEAD.malformed("two contents for one serial", where=f"deltas[{i}]")
    if max(before, head.snapshot.serial) > head.serial:
        raise HEAD.malformed("a file passes the head's own serial", where="serial")
    names = {head.snapshot.name, *(delta.name for delta in head.deltas)}
    if len(names) != 1 + len(head.deltas):
        raise HEAD.malformed("one name for two files")


def _mapping(value: object, where: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(value, dict) or tuple(value) != keys:
        raise HEAD.malformed(f"expected the fields {', '.join(keys)}", where=where)
    return value


def _file(fields: Mapping[str, object], where: str, digest: str) -> FeedFile:
    name = fields["name"]
    if not isinstance(name, str) or not is_file_name(name):
        raise HEAD.malformed("expected a plain name inside the feed's folder", where=where)
    return FeedFile(
        serial=_serial(fields["serial"], where),
        name=name,
        size=_number(fields["size"], where, 1, limits.MAX_FEED_FILE_BYTES),
        sha256=_hex(fields["sha256"], where, _SHA256_BYTES),
        digest=_hex(fields[digest], where, _DIGEST_BYTES),
    )


def _counts(value: object) -> tuple[tuple[str, int], ...]:
    where = "snapshot.counts"
    if not isinstance(value, dict) or len(value) > limits.MAX_HEAD_COUNTS:
        raise HEAD.malformed("not a map within its limit", where=where)
    counts: list[tuple[str, int]] = []
    for name, items in value.items():
        fits = isinstance(name, str) and len(name) <= limits.MAX_SECTION_NAME_CHARS
        if not fits or not _SECTION.fullmatch(name):
            raise HEAD.malformed("expected section names", where=where)
        counts.append((name, _number(items, where, 0, limits.MAX_SECTION_ITEMS)))
    if counts != sorted(counts):
        raise HEAD.malformed("names are not sorted", where=where)
    return tuple(counts)


def _serial(value: object, where: str) -> Serial:
    return Serial(_number(value, where, 1, limits.MAX_SERIAL))


def _number(value: object, where: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise HEAD.malformed(f"expected an integer from {least} to {most}", where=where)
    return value


def _hex(value: object, where: str, length: int) -> str:
    if not isinstance(value, bytes) or len(value) != length:
        raise HEAD.malformed(f"expected {length} bytes", where=where)
    return value.hex()


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= limits.MAX_TEXT_FIELD_CHARS:
        raise HEAD.malformed("expected a short text", where=where)
    if not value.isprintable():
        raise HEAD.malformed("expected printable text", where=where)
    return value


def _session(value: object) -> str:
    text = _text(value, "session")
    try:
        canonical = str(UUID(text)) == text
    except ValueError:
        canonical = False
    if not canonical:
        raise HEAD.malformed("expected a UUID in its usual form", where="session")
    return text
