"""What is to be told the registry, until it is told: durable, each pair once, in bounded space.

    sightings/  0700
      node.key              signs this node's files; made at the first start
      seen                  marks of the pairs that were noted, the latest of them: mapped
      pending-<sequence>    rows of the file to come, appended; the sequence it will have
      outgoing/             signed files that the outbox does not have yet
      rings/                see serve.sighting_ring

Rows are durable in ``pending`` → their marks are in ``seen`` → only then their room in the ring is
free. A full ``pending`` is sealed: signed file aside → an empty one with the next sequence → the
signed file renamed, which is the moment that counts → the full one removed. Killed anywhere, a
restart finds every row in exactly one of them. Two halves of ``seen`` take turns, so that the
oldest marks are forgotten when there are too many; who was forgotten may be noted again.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import sighting
from eir.errors import Corrupt
from eir.feed.envelope import SecretKey
from eir.feed.keys import load_secret, new_secret
from eir.feed.sightings import FileName, Sightings, file_name, seal_sightings

U64 = NDArray[np.uint64]

_ROW_WORDS: Final = sighting.SLOT_WORDS + 1
_ROW_BYTES: Final = 8 * _ROW_WORDS
_PENDING: Final = "pending-"
_WHY: Final = np.uint64(sighting.WHY_BITS)
_WHY_MASK: Final = np.uint64((1 << sighting.WHY_BITS) - 1)


class Seen:
    """Marks of pairs: at least the last ``least`` of them, at most four times as many."""

    def __init__(self, path: Path, least: int) -> None:
        """What the file knows is kept, also where it is of another size. Raises OSError."""
        half = 1 << max(2 * least - 1, 4 * limits.MAX_SIGHTINGS_ROWS).bit_length()
        size = 8 * (_SEEN_HEAD + 2 * half)
        before = np.fromfile(path, np.uint64)[_SEEN_HEAD:] if path.exists() else None
        another = before is None or 8 * (len(before) + _SEEN_HEAD) != size
        if another:
            aside = path.with_name(f"{path.name}.new")
            with aside.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                os.posix_fallocate(file.fileno(), 0, size)
            aside.replace(path)
        with path.open("r+b") as file:
            words = np.frombuffer(mmap.mmap(file.fileno(), size), np.uint64)
        self._head = words[:_SEEN_HEAD]
        self._halves = words[_SEEN_HEAD:].reshape(2, half)
        if another and before is not None:
            self.remember(before[before != 0])

    def are_known(self, marks: U64) -> NDArray[np.bool_]:
        """Which of them were noted before."""
        known = [sighting.are_known(half, marks) for half in self._halves]
        return known[0] | known[1]

    def remember(self, marks: U64) -> None:
        """From now on they are known."""
        most = self._halves.shape[1] // 2
        for at in range(0, len(marks), limits.MAX_SIGHTINGS_ROWS):
            some = marks[at : at + limits.MAX_SIGHTINGS_ROWS]
            if int(self._head[_COUNT]) + len(some) > most:
                other = 1 - int(self._head[_TURN])
                self._halves[other] = 0
                self._head[_COUNT] = 0
                self._head[_TURN] = other
            turn = self._halves[int(self._head[_TURN])]
            self._head[_COUNT] += np.uint64(sighting.remember(turn, some))


_SEEN_HEAD, _COUNT, _TURN = 8, 0, 1


@dataclass(frozen=True, slots=True)
class Waiting:
    """One signed file that is to go out."""

    name: FileName
    path: Path
    size: int


class SightingSpool:
    """One node's. For one thread of one process: the depot's keeper."""

    def __init__(self, folder: Path, *, remember: int) -> None:
        """Made where it is not there. Raises OSError, and Refused as ``load_secret``."""
        self._folder = folder
        self.rings = folder / "rings"
        self._outgoing = folder / "outgoing"
        folder.mkdir(mode=0o700, exist_ok=True)
        for inner in (self.rings, self._outgoing):
            inner.mkdir(mode=0o700, exist_ok=True)
        self.key = node_key(folder)
        self._node = self.key.public.id.hex()
        self._seen = Seen(folder / "seen", remember)
        self._sweep()
        self.sequence, self._rows = self._begin()
        self._seen.remember(sighting.marks_of(self._rows))

    @property
    def pending(self) -> int:
        """How many rows the file to come has so far."""
        return len(self._rows)

    @property
    def oldest(self) -> int:
        """When the first of them was seen, Unix s; 0 where there is none."""
        return int(self._rows[0, 3] >> _WHY) if len(self._rows) else 0

    def unknown(self, noted: U64) -> U64:
        """Of sightings uint64[n, 4] those that were not noted before, each pair once."""
        marks = sighting.marks_of(noted)
        _, first = np.unique(marks, return_index=True)
        known = self._seen.are_known(marks)
        self._seen.remember(np.unique(marks[known]))
        fresh = np.zeros(len(noted), np.bool_)
        fresh[first] = True
        return noted[fresh & ~known]

    def add(self, noted: U64, numbers: U64) -> None:
        """Make sightings durable, with their numbers after mapping, and know them from now on.

        Raises ValueError for more than ``pending`` has room for; OSError, and nothing has changed.
        """
        if self.pending + len(noted) > limits.MAX_SIGHTINGS_ROWS:
            raise ValueError(f"{len(noted)} more: seal what is pending first")
        rows = np.column_stack([noted, numbers])
        path = self._path(self.sequence)
        with path.open("r+b", buffering=0) as file:
            file.seek(len(self._rows) * _ROW_BYTES)
            raw = memoryview(rows.tobytes())
            try:
                while raw:
                    raw = raw[file.write(raw) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(len(self._rows) * _ROW_BYTES)
                raise
        self._rows = np.concatenate([self._rows, rows])
        self._seen.remember(sighting.marks_of(noted))

    def seal(self, *, made_at: int, census: bool) -> Waiting:
        """Sign what is pending as the next file; what comes is for the one after.

        Raises OSError.
        """
        name = FileName(self._node, self.sequence)
        rows = _told(self._rows)
        raw = seal_sightings(Sightings(self.sequence, made_at, census, rows), self.key)
        aside = self._outgoing / f".{name}"
        _write(aside, raw)
        _write(self._path(self.sequence + 1), b"")
        _sync_folder(self._folder)
        target = self._outgoing / str(name)
        aside.rename(target)
        # From here the number is used up, whatever else fails: it never names other rows.
        done, self.sequence, self._rows = self.sequence, self.sequence + 1, self._rows[:0]
        _sync_folder(self._outgoing)
        self._path(done).unlink(missing_ok=True)
        return Waiting(name, target, len(raw))

    def waiting(self) -> list[Waiting]:
        """Signed files that are not out yet, the first of them first."""
        found = ((file_name(path.name), path) for path in self._outgoing.iterdir())
        named = [Waiting(name, path, path.stat().st_size) for name, path in found if name]
        return sorted(named, key=lambda each: each.name)

    def gone_out(self, waiting: Waiting) -> None:
        """The outbox has it."""
        if waiting.name.sequence != self.sequence:
            self._path(waiting.name.sequence).unlink(missing_ok=True)  # where a seal could not
        waiting.path.unlink()

    def _path(self, sequence: int) -> Path:
        return self._folder / f"{_PENDING}{sequence}"

    def _sweep(self) -> None:
        for path in self._outgoing.glob(".*"):
            path.unlink()

    def _begin(self) -> tuple[int, U64]:
        """The sequence to come and its rows so far; what a seal has left half done is done."""
        found = sorted(
            int(path.name.removeprefix(_PENDING)) for path in self._folder.glob(f"{_PENDING}*")
        )
        if not found:
            _write(self._path(1), b"")
            _sync_folder(self._folder)
            return 1, np.empty((0, _ROW_WORDS), np.uint64)
        if len(found) > 1:
            sealed = (self._outgoing / str(FileName(self._node, found[0]))).exists()
            self._path(found.pop(0 if sealed else 1)).unlink()
        if len(found) > 1:
            raise Corrupt("sightings", "several files are pending", where=str(self._folder))
        raw = self._path(found[0]).read_bytes()
        whole = len(raw) // _ROW_BYTES * _ROW_BYTES
        rows = np.frombuffer(raw[:whole], np.uint64).reshape(-1, _ROW_WORDS)
        good = rows[:, 0] != 0
        rows = rows[: len(rows) if good.all() else int(good.argmin())].copy()
        os.truncate(self._path(found[0]), len(rows) * _ROW_BYTES)
        return found[0], rows


@dataclass(frozen=True, slots=True)
class Standing:
    """What lies in a spool: the sequence of the file to come, its rows, and files not yet out."""

    sequence: int
    pending: int
    waiting: int


def standing_of(folder: Path) -> Standing:
    """How a spool stands that another process may be working with."""
    found = [
        (int(path.name.removeprefix(_PENDING)), path.stat().st_size // _ROW_BYTES)
        for path in folder.glob(f"{_PENDING}*")
    ]
    sequence, pending = max(found, default=(1, 0))
    outgoing = folder / "outgoing"
    names = (file_name(path.name) for path in outgoing.iterdir()) if outgoing.exists() else ()
    return Standing(sequence, pending, sum(name is not None for name in names))


def node_key(folder: Path) -> SecretKey:
    """The key that signs this node's sightings; made where there is none.

    Raises Refused as ``load_secret``.
    """
    path = folder / "node.key"
    if not path.exists():
        aside = folder / "node.key.new"
        aside.unlink(missing_ok=True)
        new_secret(aside, "node")
        aside.rename(path)
        _sync_folder(folder)
    return load_secret(path, "node")


def _told(pending: U64) -> U64:
    """Rows of a file from pending ones: sorted, and of a pair that stands twice the first seen."""
    imei, imsi, seen, number = pending[:, 0], pending[:, 2], pending[:, 3] >> _WHY, pending[:, 4]
    rows = np.column_stack([imei, number, imsi, pending[:, 3] & _WHY_MASK, seen])
    rows = rows[np.lexsort((seen, imsi, number, imei))]
    first = np.ones(len(rows), np.bool_)
    first[1:] = (rows[1:, :3] != rows[:-1, :3]).any(axis=1)
    return rows[first]


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
