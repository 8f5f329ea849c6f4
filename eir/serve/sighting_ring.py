"""A worker's ring of sightings: what it has noted and its keeper has not taken yet.

    sightings/rings/<pid>-<random>    0600, allocated whole

One writes, one reads, and neither waits. Full, what comes is dropped and counted. The worker holds
the file's lock as long as it lives; who is killed leaves its ring to be drained. The reader takes
only what was written before it looked the last time, so that a slot is whole when it is read,
whatever order a processor shows two stores in.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import sighting
from eir.core.sighting import DROPPED, READ, SLOT_WORDS, SLOTS_AT, WRITTEN
from eir.serve.locked import new_locked

U64 = NDArray[np.uint64]

_BYTES: Final = 8 * (SLOTS_AT + SLOT_WORDS * limits.SIGHTING_RING_SLOTS)
_RECENT_MARKS: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Noting:
    """What a batch needs in order to be noted. ``wanted`` uint16[CODES]: see core.sighting."""

    wanted: NDArray[np.uint16]
    ring: U64
    recent: U64

    def note(self, rows: NDArray[np.uint8], imei: U64, msisdn: U64, imsi: U64, now: int) -> None:
        """Note whom the registry should hear of; one batch at a time."""
        sighting.note(rows, imei, msisdn, imsi, self.wanted, self.ring, self.recent, now)


class RingFile:
    """The writing end, in a new file; it lives as long as its process."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the disk has no room."""
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._lock = new_locked(self.path, _BYTES)
        self._ring: U64 = np.frombuffer(mmap.mmap(self._lock, _BYTES), np.uint64)
        self._recent: U64 = np.zeros(_RECENT_MARKS, np.uint64)

    def noting(self, reasons: NDArray[np.uint16], *, census: bool) -> Noting:
        """For verdicts whose codes have these reason ids, uint16[CODES]."""
        wanted = sighting.wanted_reasons(reasons, census=census)
        return Noting(wanted, self._ring, self._recent)


class RingReader:
    """The reading end. ``look``, make durable what it gave, ``taken``; again and again."""

    def __init__(self, path: Path) -> None:
        """Raises OSError; ValueError where the file is not whole yet."""
        self.path = path
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size != _BYTES:
                raise ValueError(f"{path} is no ring, or not yet")
            self._ring: U64 = np.frombuffer(mmap.mmap(file.fileno(), _BYTES), np.uint64)
        self._seen = int(self._ring[READ])
        self._told = 0

    def look(self) -> U64:
        """Sightings as they were noted, uint64[n, 4], oldest first; those not ``taken`` again."""
        begin, end = int(self._ring[READ]), self._seen
        self._seen = int(self._ring[WRITTEN])
        slots = self._ring[SLOTS_AT:].reshape(-1, SLOT_WORDS)
        return slots[np.arange(begin, end) % len(slots)]

    def taken(self, count: int) -> None:
        """The oldest so many are durable elsewhere: their room is free."""
        self._ring[READ] += np.uint64(count)

    def dropped(self) -> int:
        """How many were dropped since it was last asked."""
        total = int(self._ring[DROPPED])
        fresh, self._told = total - self._told, total
        return fresh

    @property
    def drained(self) -> bool:
        """Whether nothing is left in it."""
        return int(self._ring[READ]) == int(self._ring[WRITTEN])

    def left_alone(self) -> bool:
        """Whether its worker is gone."""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True
