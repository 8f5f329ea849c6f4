"""The capped, hashed fetch: from a feed's address to whole, verified files on this disk.

Promises: nothing longer than its cap or its promised size is ever kept, nothing that hangs or
trickles lasts past its time, and a file is called fetched only when its size and SHA-256 are those
of the head. What was cut resumes by range. Never parses what it fetches, never makes it durable
(the depot does), and never asks twice by itself: pace decides that.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from eir import limits
from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.head import HEAD_NAME, KEYS_NAME, FeedFile, is_file_name
from eir.sync.folder_reader import FolderReader
from eir.sync.mutual_tls import MutualTlsReader
from eir.sync.reader import Body, Patience, Piece, Reader

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """A small file in full, unverified, and the ETag to ask with next time ("" if none)."""

    raw: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Source:
    """One feed, as read by one engine."""

    reader: Reader
    patience: Patience

    def head(self, etag: str = "") -> Fetched | None:
        """The head's bytes, None if it is still the one of ``etag``.

        Raises Refused as ``Reader.get``, and ``feed-too-large``, ``fetch-slow``, ``fetch-cut``.
        """
        return self._small(HEAD_NAME, limits.MAX_HEAD_BYTES, etag)

    def keys(self, etag: str = "") -> Fetched | None:
        """The keys file's bytes, None if it is still the one of ``etag``; raises as ``head``."""
        return self._small(KEYS_NAME, limits.MAX_KEYS_BYTES, etag)

    def fetch(
        self, file: FeedFile, part: Path, *, advance: Callable[[int], None] | None = None
    ) -> int:
        """Bring ``file`` to ``part``, going on from what is there; the bytes that came.

        On return ``part`` is whole and hashed. ``advance`` hears how many bytes are there so far.
        Raises Refused as ``Reader.get``, and: ``fetch-cut`` and ``fetch-slow`` (the part stays, to
        go on from), ``fetch-size`` and ``fetch-hash`` (not what the head promised; the part is
        gone), ``fetch-name``. OSError of the disk passes through.
        """
        if not is_file_name(file.name):
            raise Refused("fetch-name", "not a plain name in the feed's folder", where=file.name)
        part.touch(0o600)
        try:
            with part.open("r+b") as out:
                hasher, have = _present(out, file.size)
                came = 0
                if have < file.size:
                    came = self._append(file, out, hasher, have, advance)
                if hasher.hexdigest() != file.sha256:
                    raise Refused(
                        "fetch-hash", "not the bytes that the head promised", where=file.name
                    )
        except Refused as refused:
            if refused.reason in ("fetch-size", "fetch-hash"):
                part.unlink()
            raise
        return came

    def _append(
        self,
        file: FeedFile,
        out: BinaryIO,
        hasher: hashlib._Hash,
        have: int,
        advance: Callable[[int], None] | None,
    ) -> int:
        """Stream the rest of ``file`` behind the ``have`` bytes that ``hasher`` knows."""
        body = self.reader.get(file.name, offset=have)
        if body is None:
            raise Refused(
                "fetch-failed", "the server says it did not change: of what?", where=file.name
            )
        came = 0
        with closing(body):
            if body.size != file.size:
                raise Refused(
                    "fetch-size", f"{body.size} bytes; promised {file.size}", where=file.name
                )
            if body.start > have:
                raise Refused(
                    "fetch-failed", f"asked from {have}, it begins at {body.start}", where=file.name
                )
            for piece in self._timed(body, file.name):
                known = max(0, have - body.start - came)
                came += len(piece)
                if body.start + came > file.size:
                    raise Refused("fetch-size", f"more bytes than {file.size}", where=file.name)
                fresh = memoryview(piece)[known:]
                out.write(fresh)
                hasher.update(fresh)
                if advance is not None:
                    advance(max(have, body.start + came))
        if body.start + came < file.size:
            raise Refused(
                "fetch-cut", f"{body.start + came} of {file.size} bytes came", where=file.name
            )
        return came

    def _small(self, name: str, cap: int, etag: str) -> Fetched | None:
        body = self.reader.get(name, etag=etag)
        if body is None:
            return None
        raw = bytearray()
        with closing(body):
            if body.size > cap:
                raise Refused("feed-too-large", f"{body.size} bytes; the most is {cap}", where=name)
            for piece in self._timed(body, name):
                raw += piece
                if len(raw) > body.size:
                    raise Refused("fetch-size", f"more bytes than {body.size}", where=name)
        if len(raw) < body.size:
            raise Refused("fetch-cut", f"ended after {len(raw)} bytes", where=name)
        return Fetched(bytes(raw), body.etag)

    def _timed(self, body: Body, name: str) -> Iterator[Piece]:
        """The pieces of ``body``, for as long as it keeps to its time."""
        budget_s = self.patience.budget_s(body.size - body.start)
        deadline = time.monotonic() + budget_s
        for piece in body.chunks:
            yield piece
            if time.monotonic() > deadline:
                raise Refused("fetch-slow", f"not whole after {budget_s:.0f} s", where=name)


def open_source(address: Address, patience: Patience) -> Source:
    """The source at ``address``.

    Raises Refused ``feed-extra-missing`` (a folder needs no extra), or ``fetch-failed`` (a
    certificate file that is none).
    """
    if address.place == "folder":
        return Source(FolderReader(address.folder), patience)
    if address.client_certificate is not None:
        return Source(MutualTlsReader(address, patience), patience)
    try:
        from eir.sync.store_reader import StoreReader
    except ImportError as error:
        raise Refused("feed-extra-missing", "install the extra: pip install 'eir[feed]'") from error
    return Source(StoreReader(address, patience), patience)


def _present(out: BinaryIO, size: int) -> tuple[hashlib._Hash, int]:
    """The running hash and length of what is there, nothing if that is too long; placed behind."""
    hasher, have = hashlib.sha256(), 0
    while have <= size and (piece := out.read(_READ_BYTES)):
        hasher.update(piece)
        have += len(piece)
    if have <= size:
        return hasher, have
    out.seek(0)
    out.truncate()
    return hashlib.sha256(), 0
