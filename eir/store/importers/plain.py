"""From a named file to plain CSV pieces whose lines are counted: unpacked, capped, looked at once.

A gzip or zip is known by its first bytes, whatever it is called, and unpacked into the scratch
folder under a name of ours (what a zip calls its members names nothing here). A plain file is read
in place through a link, so no character of its name means anything to the reader.
"""

from __future__ import annotations

import csv
import errno
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from eir import limits
from eir.errors import Refused

_CHUNK: Final = 1 << 22
_DELIMITERS: Final = b"\x1f\x1e\x1d\x1c\x1b\x1a"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_SPOILED: Final = (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, NotImplementedError)

Advance = Callable[[int], None]
"""Told of bytes that were looked at."""

Wanted = Callable[[str], bool]
"""Whether the file or member of this name is to be read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One plain CSV: ``path`` in the scratch folder, ``name`` as people know it.

    ``lines``: physical lines, a last one without an end too. ``delimiter``: a byte that is nowhere
    in the file. ``header``: its first line's fields, lower case; ``first_line`` as it stands.
    """

    path: Path
    name: str
    size_bytes: int
    lines: int
    delimiter: str
    header: tuple[str, ...]
    first_line: str


def pieces_of(
    path: Path, name: str, scratch: Path, *, wanted: Wanted, advance: Advance
) -> tuple[list[Piece], list[str]]:
    """The CSVs in the file (several in a zip), and the names of those passed over.

    ``wanted``: told the name of each: DIRBS-Core puts full lists and deltas side by side. Raises
    Refused ``file-…``, ``zip-…`` or ``scratch-full``, naming file and line.
    """
    if not path.exists():
        raise Refused("file-missing", f"there is no such file as {path}", where=name)
    if not path.is_file():
        raise Refused("file-unreadable", "not a file (a folder or a device)", where=name)
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic == b"PK\x03\x04" or magic == b"PK\x05\x06":
            return _unpacked_zip(path, name, scratch, wanted, advance)
        if not wanted(path.name):
            return [], [name]
        if magic[:2] == b"\x1f\x8b":
            return [_unpacked_gzip(path, name, scratch, advance)], []
        link = _fresh(scratch)
        link.symlink_to(path.resolve())
        return [_surveyed(link, name, advance)], []
    except OSError as error:
        detail = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refused("scratch-full", detail, where=name) from error
        raise Refused("file-unreadable", detail, where=name) from error


def _unpacked_gzip(path: Path, name: str, scratch: Path, advance: Advance) -> Piece:
    target = _fresh(scratch)
    with _damage_named(name), gzip.open(path, "rb") as packed:
        _unpack(cast("IO[bytes]", packed), target, packed_bytes=path.stat().st_size, name=name)
    return _surveyed(target, name, advance)


def _unpacked_zip(
    path: Path, name: str, scratch: Path, wanted: Wanted, advance: Advance
) -> tuple[list[Piece], list[str]]:
    pieces, passed = [], []
    with _damage_named(name), zipfile.ZipFile(path) as archive:
        members = _csv_members(archive, name)
        for member in members:
            shown = f"{name}!{_shown(member.filename)}"
            if not wanted(member.filename):
                passed.append(shown)
                continue
            if member.flag_bits & 1:
                raise Refused("zip-encrypted", "the zip is encrypted: unpack it first", where=shown)
            target = _fresh(scratch)
            with archive.open(member) as packed:
                _unpack(packed, target, packed_bytes=member.compress_size, name=shown)
            pieces.append(_surveyed(target, shown, advance))
    return pieces, passed


def _csv_members(archive: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    every = archive.infolist()
    if len(every) > limits.MAX_ZIP_MEMBERS:
        detail = f"{len(every):,} members; at most {limits.MAX_ZIP_MEMBERS:,}"
        raise Refused("zip-too-many", detail, where=name)
    members = [
        member
        for member in every
        if member.filename.casefold().endswith(".csv")
        and not member.filename.startswith("__MACOSX/")
    ]
    if not members:
        sheet = any(member.filename == "[Content_Types].xml" for member in every)
        detail = "a spreadsheet: save it as CSV (UTF-8)" if sheet else "no .csv in the zip"
        raise Refused("zip-no-csv", detail, where=name)
    return members


def _unpack(packed: IO[bytes], target: Path, *, packed_bytes: int, name: str) -> None:
    cap = max(packed_bytes * limits.MAX_UNPACK_RATIO, limits.UNPACK_RATIO_FLOOR_BYTES)
    cap = min(cap, limits.MAX_LIST_UNPACKED_BYTES)
    written = 0
    with target.open("xb") as plain:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > cap:
                detail = f"{packed_bytes:,} bytes unpack to more than {cap:,}: no list does that"
                raise Refused("file-too-large", detail, where=name)
            plain.write(chunk)


def _surveyed(path: Path, name: str, advance: Advance) -> Piece:
    """Look at every byte once: lines, a free delimiter, nothing that is no text."""
    seen = _Seen()
    for chunk in _chunks(path):
        seen.look(chunk, name)
        advance(len(chunk))
    if seen.mixed_ends:
        path = _with_plain_ends(path)
    if not seen.free:
        raise Refused("file-encoding", "full of control characters: not a CSV", where=name)
    first_line = _first_line(seen.first, name)
    fields = _fields(first_line)
    return Piece(path, name, seen.size, seen.lines, chr(seen.free[0]), fields, first_line)


class _Seen:
    """What the chunks looked at so far held."""

    def __init__(self) -> None:
        self.size = 0
        self.first = b""
        self.free = _DELIMITERS
        self._last = b""
        self._feeds = self._returns = self._both = 0

    def look(self, chunk: bytes, name: str) -> None:
        """Count what the next chunk holds. Raises Refused where a line in it is endless."""
        _check_line_lengths(chunk, name, self._ends)
        self.first = self.first or chunk[: limits.MAX_LIST_LINE_BYTES + 4]
        self.free = bytes(byte for byte in self.free if byte not in chunk)
        self._feeds += chunk.count(b"\n")
        if b"\r" in chunk:
            self._returns += chunk.count(b"\r")
            self._both += chunk.count(b"\r\n")
        if self._last == b"\r" and chunk.startswith(b"\n"):
            self._both += 1
        self._last = chunk[-1:]
        self.size += len(chunk)

    @property
    def lines(self) -> int:
        """Lines that end in LF, CR LF or a CR alone, and a last one without an end."""
        return self._ends + (self._last not in (b"", b"\n", b"\r"))

    @property
    def _ends(self) -> int:
        return self._feeds + self._returns - self._both

    @property
    def mixed_ends(self) -> bool:
        """Whether lines end otherwise than all in LF or all in CR LF."""
        return self._returns > 0 and not self._feeds == self._returns == self._both


def _with_plain_ends(path: Path) -> Path:
    """A copy in which every line ends in LF: the reader wants one kind of end, people mix them."""
    target = _fresh(path.parent)
    with target.open("xb") as plain:
        held = b""
        for chunk in _chunks(path):
            whole = held + chunk
            held = whole[-1:] if whole.endswith(b"\r") else b""
            whole = whole[: len(whole) - len(held)]
            plain.write(whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        plain.write(held.replace(b"\r", b"\n"))
    return target


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _check_line_lengths(chunk: bytes, name: str, ends: int) -> None:
    """Refuse a file with a line of megabytes: each window as wide as a limit must hold an end.

    ``ends``: the lines that ended before the chunk. Lines just above the limit are rejects of
    their own, by the reader.
    """
    width = limits.MAX_LIST_LINE_BYTES * 8
    for start in range(0, len(chunk) - width + 1, width):
        window = (start, start + width)
        if chunk.find(b"\n", *window) < 0 and chunk.find(b"\r", *window) < 0:
            line = ends + max(chunk.count(b"\n", 0, start), chunk.count(b"\r", 0, start)) + 1
            detail = f"a line of more than {width:,} bytes: not a list of lines"
            raise Refused("file-line-too-long", detail, where=f"{name}: line {line}")


def _first_line(first: bytes, name: str) -> str:
    line = first.splitlines()[0] if first else b""
    if first.startswith(_UTF16) or b"\0" in line:
        raise Refused("file-encoding", "binary, or UTF-16: save it as CSV (UTF-8)", where=name)
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        detail = f"line 1 is not UTF-8 at byte {error.start}: save it as CSV (UTF-8)"
        raise Refused("file-encoding", detail, where=f"{name}: line 1") from error


def _fields(line: str) -> tuple[str, ...]:
    try:
        row = next(csv.reader([line], strict=True), [])
    except csv.Error:
        row = [line]
    return tuple(field.strip().casefold() for field in row)


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except _SPOILED as error:
        detail = f"damaged or cut short: {error}"
        raise Refused("file-damaged", detail, where=name) from error


def _fresh(scratch: Path) -> Path:
    return scratch / f"piece-{len(list(scratch.glob('piece-*')))}.csv"


def _shown(member: str) -> str:
    """A zip member's name, made harmless to print."""
    return "".join(char if char.isprintable() else "?" for char in member)[:200]
