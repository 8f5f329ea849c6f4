"""The folder that survives a restart. Files under new names, one manifest that names the good ones.

    depot/  0700
      manifest.json        per feed, newest first: what is kept, with hash and digest
      <feed>.<note>        what a feed's gate and its people want remembered
      snapshots/           <feed>-<serial>-<random>.snap, 0444, never rewritten
      deltas/              <feed>-<serial>-<random>.delta, the same
      parts/               <sha256>: files of a feed that are coming; a cut one goes on
      scratch/             <pid>-<random>/: being built; swept when its process is gone
      served.jsonl         what served, and when; policies/: by which policy (``served``)
      workers/             <pid>-<random>: what a worker counts, locked while it lives
      sightings/           what the registry will be told, see sighting_spool
      control              what the keeper says to its workers between two swaps
      events.jsonl         what befell the node and what people did about it
      keeper.lock          held by the one node that serves from here
      write.lock           held while the manifest changes

What is kept of a feed are snapshots, each with the deltas since. The order of every write:
files fsynced → renamed into their folder → folder fsynced → manifest written aside and fsynced →
renamed over the old → folder fsynced → what is no longer named is removed. Killed anywhere, a
restart finds the complete old or the complete new.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from eir import limits
from eir.core.generation import FEEDS, Generation
from eir.errors import Conflict, Corrupt, Refused, Unavailable
from eir.feed.codec import SnapshotFacts, SnapshotHead
from eir.feed.delta_file import advance, decode_delta, write_frame
from eir.feed.memory_file import write_overlays
from eir.store.durable import fsync_folder, write_durably
from eir.store.kept import Kept, KeptDelta, NewFile, chain_of, kept_of, passing, retained
from eir.store.served import ServedLog
from eir.store.vouched import OpenedBase, mark_of, open_base

FORMAT = 1
KEEP_GENERATIONS = 3
KEEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Opened:
    """A good generation of a feed, and what had to be passed over to reach it.

    ``file``: the very snapshot file that was verified; ``chain``: the deltas since, verified, one
    frame behind the other, in the first ``chain_size`` bytes of a file without a name. Both are
    open, and the caller's to close.
    ``overlays``: a file in memory with what they made of it, closed together with the generation.
    ``base``: the snapshot alone; ``laid``: its file in memory, closed together with ``file``.
    """

    generation: Generation
    kept: Kept
    damaged: tuple[Corrupt, ...]
    file: BinaryIO
    chain: BinaryIO
    chain_size: int
    overlays: BinaryIO
    base: Generation
    laid: BinaryIO

    def close_unless_in(self, other: Opened | None) -> None:
        """Close the files that another one does not go on with."""
        if other is None or other.file is not self.file:
            self.file.close()
            self.laid.close()
        if other is None or other.chain is not self.chain:
            self.chain.close()
        if other is None or other.overlays is not self.overlays:
            self.overlays.close()


class Depot:
    """One depot folder; made, with its parents, where it is not there.

    ``keep_days``: how far back serials can be built again. Raises Refused ``depot-unusable`` where
    the folder can't be made or entered.
    """

    def __init__(self, folder: Path, *, keep_days: int = KEEP_DAYS) -> None:
        self.folder = folder
        self._keep_days = keep_days
        self._keeps = False
        self.served = ServedLog(folder, keep_days=keep_days)
        self._snapshots = folder / "snapshots"
        self._scratch = folder / "scratch"
        self._deltas = folder / "deltas"
        self._parts = folder / "parts"
        self.workers = folder / "workers"
        inners = (self._snapshots, self._deltas, self._parts, self._scratch, self.workers)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for inner in inners:
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
            self._keeps = True
            try:
                yield
            finally:
                self._keeps = False

    def new_path(self) -> Path:
        """A name in a folder of its own in scratch/, to build a file that ``adopt`` will take."""
        folder = self._scratch / f"{os.getpid()}-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        return folder / "snapshot"

    def part(self, sha256: str) -> Path:
        """Where a file of this hash is fetched to; what is there of it survives a restart."""
        return self._parts / sha256

    def adopt(
        self,
        facts: SnapshotFacts,
        head: SnapshotHead,
        *,
        deltas: Sequence[NewFile] = (),
        keep: int = KEEP_GENERATIONS,
        verified: bool = False,
    ) -> Kept:
        """Make a snapshot file, with deltas since, the newest of its feed; keep ``keep`` of them.

        ``verified``: this process has verified the whole file (``open_snapshot``). Durable, and one
        step: killed anywhere, all of it is kept or nothing.
        """
        with self._locked("write.lock", wait=True):
            feeds = self._read()
            came = tuple(self._moved_in(head.feed, delta) for delta in deltas)
            kept = _row(head, facts, came)
            _move(facts.path, self._snapshots / kept.file)
            if verified:
                kept = replace(kept, verified=mark_of(self._snapshots / kept.file))
            self._commit(feeds, head.feed, kept, keep)
        if facts.path.parent.parent == self._scratch:
            shutil.rmtree(facts.path.parent, ignore_errors=True)
        return kept

    def adopt_deltas(
        self,
        feed: str,
        deltas: Sequence[NewFile],
        *,
        session: str,
        from_serial: int,
        keep: int = KEEP_GENERATIONS,
    ) -> Kept:
        """Add deltas to the chain that reaches ``from_serial``, as ``adopt`` does.

        What stood behind it in the chain (it was damaged) goes. Raises Conflict where no chain
        reaches that serial of that session.
        """
        with self._locked("write.lock", wait=True):
            feeds = self._read()
            row = next((r for r in feeds[feed] if _reaches(r, session, from_serial)), None)
            if row is None:
                raise Conflict(f"{feed}: no kept chain reaches serial {from_serial} of {session}")
            before, _ = _cut(row.deltas, from_serial)
            came = tuple(self._moved_in(feed, delta) for delta in deltas)
            feeds[feed].remove(row)
            kept = replace(row, deltas=(*before, *came))
            self._commit(feeds, feed, kept, keep)
        return kept

    def adopt_base(
        self,
        facts: SnapshotFacts,
        head: SnapshotHead,
        *,
        of: str,
        keep: int = KEEP_GENERATIONS,
    ) -> Kept:
        """Have a snapshot of what a serial of the newest chain comes to take over as its base.

        The deltas after that serial go on from it; those up to it stay as long as the old base.
        Durable, and one step. Raises Conflict where the chain of base file ``of`` is the newest no
        more, or its serial has another content.
        """
        with self._locked("write.lock", wait=True):
            feeds = self._read()
            old = next(iter(feeds[head.feed]), None)
            passes = old is not None and old.digests.get(head.serial) == facts.digest
            if old is None or (old.file, old.session) != (of, head.session) or not passes:
                raise Conflict(f"{head.feed}: serial {head.serial} was overtaken meanwhile")
            before, since = _cut(old.deltas, head.serial)
            kept = _row(head, facts, since)
            _move(facts.path, self._snapshots / kept.file)
            feeds[head.feed][0] = replace(old, deltas=before)
            self._commit(feeds, head.feed, kept, keep)
        shutil.rmtree(facts.path.parent, ignore_errors=True)
        return kept

    def note(self, feed: str, name: str) -> bytes:
        """What was noted of a feed under this name; b"" if nothing was."""
        try:
            with (self.folder / f"{feed}.{name}").open("rb") as file:
                return file.read(limits.MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return b""

    def write_note(self, feed: str, name: str, raw: bytes) -> None:
        """Note it durably; b"" takes the note away."""
        path = self.folder / f"{feed}.{name}"
        if raw:
            write_durably(path, raw)
        else:
            path.unlink(missing_ok=True)
            fsync_folder(self.folder)

    def kept(self, feed: str) -> tuple[Kept, ...]:
        """What the manifest names of a feed, newest first. Raises Corrupt where it is damaged."""
        return tuple(self._read()[feed])

    def open_newest(
        self,
        feed: str,
        *,
        before: Opened | None = None,
        serial: int | None = None,
        session: str | None = None,
    ) -> Opened:
        """The newest generation whose files are good, or the newest that has this ``serial``, of
        this ``session`` where one is given.

        ``before``: opened earlier; what it has verified is not verified again. Raises Unavailable
        where none was ever kept, Corrupt where none of those kept is good, and Refused
        ``serial-not-kept``.
        """
        damaged: list[Corrupt] = []
        kept = rows = self.kept(feed)
        if serial is not None:
            rows = passing(kept, session, serial)
            if not rows:
                raise Refused("serial-not-kept", f"{feed} serial {serial}: {_span(kept)}")
        for row in rows:
            try:
                chain = chain_of(kept, row)
                return self._open(feed, row, chain, damaged, before, serial or limits.MAX_SERIAL)
            except Corrupt as error:
                damaged.append(error)
        if damaged:
            raise Corrupt("file", f"no good {feed} snapshot is left; the newest: {damaged[0]}")
        raise Unavailable(f"the depot has no {feed} snapshot yet: {self.folder}")

    def _open(
        self,
        feed: str,
        row: Kept,
        deltas: Sequence[KeptDelta],
        damaged: list[Corrupt],
        before: Opened | None,
        serial: int,
    ) -> Opened:
        """A kept chain as of a serial, or as far as its files are good."""
        if before is not None and before.kept.file == row.file:
            file, base, laid = before.file, before.base, before.laid
        else:
            file, found = self._open_snapshot(feed, row)
            base, laid = found.generation, found.laid
            if found.mark:
                row = self._noted_verified(feed, row, found.mark)
            before = None
        if before is not None and before.generation.serial <= serial:
            generation, chain, size = before.generation, before.chain, before.chain_size
        else:
            chain = self._nameless()
            generation, size = base, 0
        for delta in deltas:
            if not generation.serial < delta.serial <= serial:
                continue
            try:
                generation, raw = self._follow(generation, delta)
            except Corrupt as error:
                damaged.append(error)
                break
            size = write_frame(chain, raw, size)
        if before is not None and before.generation is generation:
            overlays = before.overlays
        else:
            generation, overlays = write_overlays(generation, base)
        return Opened(generation, row, tuple(damaged), file, chain, size, overlays, base, laid)

    def _nameless(self) -> BinaryIO:
        """A new file that is gone when nobody has it open any more."""
        descriptor, name = tempfile.mkstemp(dir=self._scratch)
        os.unlink(name)
        return open(descriptor, "r+b", buffering=0)

    def _open_snapshot(self, feed: str, row: Kept) -> tuple[BinaryIO, OpenedBase]:
        path = self._snapshots / row.file
        with contextlib.ExitStack() as until_good:
            try:
                file = until_good.enter_context(path.open("rb"))
                opened = open_base(file, row)
            except OSError as error:
                raise Corrupt("file", error.strerror or str(error), where=str(path)) from error
            except Corrupt as error:
                raise Corrupt(error.section, error.detail, where=str(path)) from error
            named = (feed, row.session, row.serial, row.digest)
            found = opened.generation
            if (found.feed, found.session, found.serial, found.digest) != named:
                raise Corrupt(
                    "header", "is not the snapshot that the manifest names", where=str(path)
                )
            until_good.pop_all()
        return file, opened

    def _noted_verified(self, feed: str, row: Kept, mark: str) -> Kept:
        """The row of a base that was verified whole; the keeper has the manifest say so.

        Where the disk refuses, the next start verifies it again.
        """
        noted = replace(row, verified=mark)
        if self._keeps and noted != row:
            with contextlib.suppress(OSError), self._locked("write.lock", wait=True):
                feeds = self._read()
                if row in feeds[feed]:
                    feeds[feed][feeds[feed].index(row)] = noted
                    self._write(feeds)
                    return noted
        return row

    def _follow(self, generation: Generation, delta: KeptDelta) -> tuple[Generation, bytes]:
        path = self._deltas / delta.file
        try:
            with path.open("rb") as file:
                raw = file.read(limits.MAX_DELTA_BYTES + 1)
            step = decode_delta(raw)
            if step[0].digest_after != delta.digest:
                raise Corrupt("header", "is not the delta that the manifest names")
            return advance(generation, *step), raw
        except OSError as error:
            raise Corrupt("file", error.strerror or str(error), where=str(path)) from error
        except Corrupt as error:
            raise Corrupt(error.section, error.detail, where=str(path)) from error
        except Conflict as error:
            raise Corrupt("file", str(error), where=str(path)) from error

    def _moved_in(self, feed: str, delta: NewFile) -> KeptDelta:
        name = f"{feed}-{delta.serial}-{secrets.token_hex(8)}.delta"
        _move(delta.path, self._deltas / name)
        return KeptDelta(name, delta.serial, delta.digest, delta.sha256, delta.size, delta.made_at)

    def _commit(self, feeds: dict[str, list[Kept]], feed: str, kept: Kept, keep: int) -> None:
        """The moved files are durable, then the manifest names them: the one step."""
        fsync_folder(self._snapshots)
        fsync_folder(self._deltas)
        last = self.served.last()
        serves = last.feeds.get(feed) if last else None
        feeds[feed] = retained(
            [kept, *feeds[feed]],
            keep=max(keep, 1),
            days=self._keep_days,
            served=(serves.session, serves.serial) if serves else None,
        )
        self._write(feeds)
        self._prune(feeds)

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
                raw = file.read(limits.MAX_DEPOT_MANIFEST_BYTES)
        except FileNotFoundError:
            return {feed: [] for feed in FEEDS}
        try:
            fields = json.loads(raw)
            if fields["format"] != FORMAT:
                raise ValueError(f"format {fields['format']}")
            listed = fields["feeds"]
            feeds = {feed: [kept_of(row) for row in listed.get(feed, [])] for feed in FEEDS}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(
                "manifest", f"unreadable ({error}): move it away and load again", where=str(path)
            ) from error
        return feeds

    def _write(self, feeds: dict[str, list[Kept]]) -> None:
        rows = {feed: [asdict(kept) for kept in listed] for feed, listed in feeds.items()}
        text = json.dumps({"format": FORMAT, "feeds": rows})
        write_durably(self.folder / "manifest.json", text.encode())

    def _prune(self, feeds: dict[str, list[Kept]]) -> None:
        rows = [kept for listed in feeds.values() for kept in listed]
        named = {row.file for row in rows} | {delta.file for row in rows for delta in row.deltas}
        for folder in (self._snapshots, self._deltas):
            for path in folder.iterdir():
                if path.name not in named:
                    path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        for path in self._scratch.iterdir():
            owner = path.name.partition("-")[0]
            if not (owner.isdigit() and _alive(int(owner))):
                shutil.rmtree(path, ignore_errors=True)


def _row(head: SnapshotHead, facts: SnapshotFacts, deltas: tuple[KeptDelta, ...]) -> Kept:
    """A snapshot as the manifest will name it, under a new file name."""
    return Kept(
        file=f"{head.feed}-{head.serial}-{secrets.token_hex(8)}.snap",
        registry_id=head.registry_id,
        session=head.session,
        serial=head.serial,
        made_at=head.made_at,
        digest=facts.digest,
        sha256=facts.sha256,
        size=facts.size,
        deltas=deltas,
    )


def _reaches(row: Kept, session: str, serial: int) -> bool:
    return row.session == session and row.serial <= serial <= row.last_serial


def _cut(
    deltas: Sequence[KeptDelta], serial: int
) -> tuple[tuple[KeptDelta, ...], tuple[KeptDelta, ...]]:
    """The deltas up to a serial, and those after it."""
    until = tuple(delta for delta in deltas if delta.serial <= serial)
    return until, tuple(deltas[len(until) :])


def _span(rows: Sequence[Kept]) -> str:
    """Which serials can be built again, for whoever asked for another."""
    spans: list[tuple[str, int, int]] = []
    before: Kept | None = None
    for row in reversed(rows):
        if before is not None and before.leads_to(row):
            spans[-1] = (row.session, spans[-1][1], row.last_serial)
        else:
            spans.append((row.session, row.serial, row.last_serial))
        before = row
    told = [f"{oldest} to {newest} of session {session}" for session, oldest, newest in spans]
    return f"is not kept; kept are {', '.join(told)}" if told else "is not kept: nothing is"


def _move(path: Path, target: Path) -> None:
    """A file that has come or was built to where it is kept, its bytes on disk first."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o444)
    os.rename(path, target)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
