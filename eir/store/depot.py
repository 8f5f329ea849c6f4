"""The folder that survives a restart. Files under new names, one manifest that names the good ones.

    depot/  0700
      manifest.json        per feed, newest first: what is kept, with hash and digest
      snapshots/           <feed>-<serial>-<random>.snap, 0444, never rewritten
      scratch/             <pid>-<random>/: being built; swept when its process is gone
      workers/             <pid>-<random>: what a worker counts, locked while it lives
      keeper.lock          held by the one node that serves from here
      write.lock           held while the manifest changes

The order of every write: file fsynced → renamed into snapshots/ → folder fsynced → manifest
written aside and fsynced → renamed over the old → folder fsynced → what is no longer named is
removed. Killed anywhere, a restart finds the complete old or the complete new.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from eir import limits
from eir.core.generation import FEEDS, Generation
from eir.errors import Corrupt, Refused, Unavailable
from eir.feed.codec import SnapshotFacts, SnapshotHead, open_file

FORMAT = 1
KEEP_GENERATIONS = 3


@dataclass(frozen=True, slots=True)
class Kept:
    """One snapshot that the manifest names. ``file``: its name in snapshots/; ``size`` in bytes."""

    file: str
    registry_id: str
    session: str
    serial: int
    made_at: int
    digest: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The newest good generation of a feed, and what had to be passed over to reach it.

    ``file``: the very file that was verified, open, and the caller's to close.
    """

    generation: Generation
    kept: Kept
    damaged: tuple[Corrupt, ...]
    file: BinaryIO


class Depot:
    """One depot folder; made, with its parents, where it is not there.

    Raises Refused ``depot-unusable`` where the folder can't be made or entered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._snapshots = folder / "snapshots"
        self._scratch = folder / "scratch"
        self.workers = folder / "workers"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for inner in (self._snapshots, self._scratch, self.workers):
                inner.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Refused("depot-unusable", f"{error.strerror}", where=str(folder)) from error

    @contextlib.contextmanager
    def held_by_keeper(self) -> Iterator[None]:
        """Serve from here, alone, and sweep what dead processes left in scratch/.

        Raises Refused ``depot-in-use`` where another node does.
        """
        with self._locked("keeper.lock", wait=False) as lock:
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            self._sweep()
            yield

    def new_path(self) -> Path:
        """A name in a folder of its own in scratch/, to build a file that ``adopt`` will take."""
        folder = self._scratch / f"{os.getpid()}-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        return folder / "snapshot"

    def adopt(
        self, facts: SnapshotFacts, head: SnapshotHead, *, keep: int = KEEP_GENERATIONS
    ) -> Kept:
        """Make a built snapshot file the newest of its feed, durably; keep ``keep`` of them."""
        name = f"{head.feed}-{head.serial}-{secrets.token_hex(8)}.snap"
        kept = Kept(
            file=name,
            registry_id=head.registry_id,
            session=head.session,
            serial=head.serial,
            made_at=head.made_at,
            digest=facts.digest,
            sha256=facts.sha256,
            size=facts.size,
        )
        with self._locked("write.lock", wait=True):
            feeds = self._read()
            os.rename(facts.path, self._snapshots / name)
            _fsync_folder(self._snapshots)
            feeds[head.feed] = [kept, *feeds[head.feed]][: max(keep, 1)]
            self._write(feeds)
            self._prune(feeds)
        shutil.rmtree(facts.path.parent, ignore_errors=True)
        return kept

    def kept(self, feed: str) -> tuple[Kept, ...]:
        """What the manifest names of a feed, newest first. Raises Corrupt where it is damaged."""
        return tuple(self._read()[feed])

    def open_newest(self, feed: str) -> Opened:
        """The newest generation whose file is good.

        Raises Unavailable where none was ever kept, Corrupt where none of those kept is good.
        """
        damaged: list[Corrupt] = []
        for kept in self.kept(feed):
            try:
                return self._open(feed, kept, tuple(damaged))
            except Corrupt as error:
                damaged.append(error)
        if damaged:
            raise Corrupt("file", f"no good {feed} snapshot is left; the newest: {damaged[0]}")
        raise Unavailable(f"the depot has no {feed} snapshot yet: {self.folder}")

    def _open(self, feed: str, kept: Kept, damaged: tuple[Corrupt, ...]) -> Opened:
        path = self._snapshots / kept.file
        with contextlib.ExitStack() as until_good:
            try:
                file = until_good.enter_context(path.open("rb"))
                found = open_file(file)
            except OSError as error:
                raise Corrupt("file", error.strerror or str(error), where=str(path)) from error
            except Corrupt as error:
                raise Corrupt(error.section, error.detail, where=str(path)) from error
            named = (feed, kept.session, kept.serial, kept.digest)
            if (found.feed, found.session, found.serial, found.digest) != named:
                raise Corrupt(
                    "header", "is not the snapshot that the manifest names", where=str(path)
                )
            until_good.pop_all()
            return Opened(found, kept, damaged, file)

    @contextlib.contextmanager
    def _locked(self, name: str, *, wait: bool) -> Iterator[int]:
        lock = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                holder = os.read(lock, 32).decode("ascii", "replace") or "unknown"
                raise Refused(
                    "depot-in-use",
                    f"another node (process {holder}) serves from this depot: stop it, or give"
                    " this one a depot of its own",
                    where=str(self.folder),
                ) from None
            yield lock
        finally:
            os.close(lock)

    def _read(self) -> dict[str, list[Kept]]:
        path = self.folder / "manifest.json"
        try:
            with path.open("rb") as file:
                raw = file.read(limits.MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return {feed: [] for feed in FEEDS}
        try:
            fields = json.loads(raw)
            if fields["format"] != FORMAT:
                raise ValueError(f"format {fields['format']}")
            feeds = {feed: [Kept(**row) for row in fields["feeds"].get(feed, [])] for feed in FEEDS}
            if any(
                os.path.basename(row.file) != row.file for rows in feeds.values() for row in rows
            ):
                raise ValueError("a file's name leaves the folder")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(
                "manifest", f"unreadable ({error}): move it away and load again", where=str(path)
            ) from error
        return feeds

    def _write(self, feeds: dict[str, list[Kept]]) -> None:
        rows = {feed: [asdict(kept) for kept in listed] for feed, listed in feeds.items()}
        text = json.dumps({"format": FORMAT, "feeds": rows}, indent=1)
        aside = self.folder / "manifest.json.new"
        with open(aside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self.folder / "manifest.json")
        _fsync_folder(self.folder)

    def _prune(self, feeds: dict[str, list[Kept]]) -> None:
        named = {kept.file for listed in feeds.values() for kept in listed}
        for path in self._snapshots.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        for path in self._scratch.iterdir():
            owner = path.name.partition("-")[0]
            if not (owner.isdigit() and _alive(int(owner))):
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
