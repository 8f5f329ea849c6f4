"""The publisher's side of a feed's address: immutable files first, then one change of the head.

Promises: a file of the feed is never changed under its name; the head is replaced whole, and only
by a publisher who knew the one that it replaces, so the second of two publishers loses; in a folder
everything is durable before the head names it. Never looks into what it writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from eir import limits
from eir.errors import Conflict, Refused
from eir.feed.head import HEAD_NAME, KEYS_NAME, FeedFile, Serial, is_file_name

_UNPREDICTABLE_BYTES: Final = 16
_CAPS: Final = {HEAD_NAME: limits.MAX_HEAD_BYTES, KEYS_NAME: limits.MAX_KEYS_BYTES}
_LOCK: Final = ".publish.lock"
_SCRATCH: Final = re.compile(r"\..+\.[0-9a-f]{16}")
"""What a file is called in a folder until it is whole; ``FolderSite`` alone makes such names."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A small file as it stands, and the tag by which ``Site.swap`` knows it again."""

    raw: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One immutable file at the site: ``size`` in bytes, ``put_at`` in Unix seconds."""

    name: str
    size: int
    put_at: int


class Site(Protocol):
    """Where a publisher writes.

    All raise Refused (``fetch-…``, ``feed-…``) for what the place refuses; a folder's OSError
    passes through. ``near``: its files lie on this machine, so nobody needs copies of them.
    """

    @property
    def near(self) -> bool:
        """See above."""

    def read(self, name: str) -> Tagged | None:
        """The head or the keys file, None if there is none yet."""

    def add(self, name: str, path: Path) -> None:
        """Put the file at ``path`` under a new name. Raises Conflict if the name is taken."""

    def swap(self, name: str, raw: bytes, *, was: str | None) -> str:
        """Replace the head or the keys file whose tag is ``was`` (None: there is none yet).

        The new tag. Raises Conflict if another publisher was first: read again, and begin anew.
        """

    def bring(self, file: FeedFile, aside: Path) -> Path:
        """The file on this machine: where it stands in a folder, else fetched into ``aside``.

        Raises Refused ``fetch-missing`` where it is gone, ``fetch-hash`` where it is another.
        """

    def fetch(self, name: str, cap: int) -> bytes:
        """An immutable file, or as much of it as ``cap`` bytes and one more.

        Raises Refused ``fetch-missing`` where there is none.
        """

    def standing(self) -> list[Standing]:
        """The immutable files, by name."""

    def remove(self, name: str) -> None:
        """Take an immutable file away; no matter if it is gone."""

    def clear(self, *, before: int) -> None:
        """Take away what publishers that were killed left half-written, last touched before then
        (Unix seconds); whatever is younger may still be in the making.
        """


def file_name(kind: Literal["snapshot", "delta"], serial: Serial) -> str:
    """A new name for a file of ``serial``, with a part that nobody can predict."""
    return f"{kind}-{serial}-{secrets.token_hex(_UNPREDICTABLE_BYTES)}"


def check_changing(name: str, raw: bytes = b"") -> None:
    """Raise ValueError unless ``name`` is one of the two that change, ``raw`` within its cap."""
    if name not in _CAPS or len(raw) > _CAPS[name]:
        raise ValueError(f"{name!r} of {len(raw)} bytes is neither head nor keys")


def check_immutable(name: str) -> None:
    """Raise ValueError unless ``name`` may name an immutable file."""
    if not is_file_name(name):
        raise ValueError(f"{name!r} is no file name of a feed")


def check_hash(path: Path, file: FeedFile) -> None:
    """Raises Refused ``fetch-hash`` unless ``path`` holds what the head says of ``file``."""
    with path.open("rb") as raw:
        if hashlib.file_digest(raw, "sha256").hexdigest() != file.sha256:
            raise Refused("fetch-hash", "not the bytes that the head names", where=file.name)


class FolderSite:
    """A Site in a folder: fsynced files, hard renames, one publisher at a time by ``flock``."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._folder = folder

    @property
    def near(self) -> bool:
        """See Site."""
        return True

    def read(self, name: str) -> Tagged | None:
        """See Site."""
        check_changing(name)
        try:
            with (self._folder / name).open("rb") as file:
                raw = file.read(_CAPS[name] + 1)
        except FileNotFoundError:
            return None
        return Tagged(raw, _tag(raw))

    def add(self, name: str, path: Path) -> None:
        """See Site."""
        check_immutable(name)
        scratch = self._folder / f".{name}.{secrets.token_hex(8)}"
        try:
            with path.open("rb") as source, scratch.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fchmod(target.fileno(), 0o444)
                os.fsync(target.fileno())
            os.link(scratch, self._folder / name)
        except FileExistsError:
            raise Conflict(f"{name} stands there already") from None
        finally:
            scratch.unlink(missing_ok=True)
        self._sync_folder()

    def swap(self, name: str, raw: bytes, *, was: str | None) -> str:
        """See Site."""
        check_changing(name, raw)
        with self._locked():
            standing = self.read(name)
            if (standing.tag if standing else None) != was:
                raise Conflict(f"another publisher changed {name}")
            scratch = self._folder / f".{name}.{secrets.token_hex(8)}"
            try:
                with scratch.open("xb") as target:
                    target.write(raw)
                    target.flush()
                    os.fchmod(target.fileno(), 0o644)
                    if standing:
                        self._make_later(target.fileno(), name)
                    os.fsync(target.fileno())
                scratch.replace(self._folder / name)
            finally:
                scratch.unlink(missing_ok=True)
            self._sync_folder()
        return _tag(raw)

    def bring(self, file: FeedFile, aside: Path) -> Path:
        """See Site."""
        path = self._folder / file.name
        if not path.is_file():
            raise Refused("fetch-missing", "not there", where=file.name)
        check_hash(path, file)
        return path

    def fetch(self, name: str, cap: int) -> bytes:
        """See Site."""
        check_immutable(name)
        try:
            with (self._folder / name).open("rb") as file:
                return file.read(cap + 1)
        except FileNotFoundError:
            raise Refused("fetch-missing", "not there", where=name) from None

    def standing(self) -> list[Standing]:
        """See Site."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not is_file_name(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(FileNotFoundError):  # another publisher took it away
                    facts = entry.stat()
                    found.append(Standing(entry.name, facts.st_size, int(facts.st_mtime)))
        return sorted(found, key=lambda each: each.name)

    def remove(self, name: str) -> None:
        """See Site."""
        check_immutable(name)
        (self._folder / name).unlink(missing_ok=True)

    def clear(self, *, before: int) -> None:
        """See Site."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if not _SCRATCH.fullmatch(entry.name):
                    continue
                with contextlib.suppress(FileNotFoundError):  # it has just become whole
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make_later(self, fd: int, name: str) -> None:
        """Give the file a later second than the one that it replaces: many a web server's ETag is
        length and second, and one who asks by it must not miss this one.
        """
        was, now = (self._folder / name).stat().st_mtime, os.fstat(fd).st_mtime
        if int(now) <= int(was):
            os.utime(fd, (int(was) + 1, int(was) + 1))

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _tag(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
