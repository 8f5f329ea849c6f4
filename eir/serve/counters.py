"""What a worker counts, in a mapped file that its keeper reads while it is written.

    workers/<pid>-<random>    0600, allocated whole, so that a full disk kills nobody later

The worker holds the file's lock as long as it lives: whoever can take the lock knows that the
worker is gone, and that the numbers are final. One file counts under one naming of verdict codes.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir.core import policy
from eir.serve.locked import new_locked

U64 = NDArray[np.uint64]

DOORS: Final = ("grpc", "s13", "n5g")
"""Through which protocols verdicts leave."""

SPANS: Final = 32
"""How many spans batches are counted by: span n has those that took less than 2^n ns."""

_STATUSES = 5
_CHECK_WORDS = len(DOORS) * policy.CODES * _STATUSES
_BYTES = 8 * (_CHECK_WORDS + SPANS + 1)


class Counters:
    """``checks`` uint64[DOORS, CODES, 5]: how often each door answered each (code, status);
    of status 0 stand those that the breaker has let through, which are also under GREYLISTED.

    ``spans`` uint64[SPANS]: batches by how long deciding took, the last for all longer ones;
    ``busy_ns``: uint64[1], their time together.
    """

    def __init__(self, memory: bytearray | mmap.mmap | None = None) -> None:
        """Over a mapped file, else over memory of this process alone."""
        memory = memory if memory is not None else bytearray(_BYTES)
        words = np.frombuffer(memory, np.uint64)
        self.checks: U64 = words[:_CHECK_WORDS].reshape(len(DOORS), policy.CODES, _STATUSES)
        self.by_door = tuple(self.checks)
        self.spans: U64 = words[_CHECK_WORDS : _CHECK_WORDS + SPANS]
        self.busy_ns: U64 = words[_CHECK_WORDS + SPANS :]
        self._live = memoryview(memory).cast("Q")

    def decided(self, nanoseconds: int) -> None:
        """One batch was decided in so long."""
        self._live[_CHECK_WORDS + min(nanoseconds.bit_length(), SPANS - 1)] += 1
        self._live[_CHECK_WORDS + SPANS] += nanoseconds

    def refused(self) -> int:
        """How many were refused, and would have been but for the breaker."""
        refused = self.checks[:, :, policy.BLACKLISTED :].sum() + self.checks[:, :, 0].sum()
        return int(refused)


class CountersFile:
    """Counters that others may read, and the lock that says that this process lives."""

    def __init__(self, folder: Path) -> None:
        """A new file in the folder. Raises OSError where the disk has no room."""
        self.path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._lock = new_locked(self.path, _BYTES)
        self.counters = Counters(mmap.mmap(self._lock, _BYTES))

    def close(self) -> None:
        """Others count in its place: the lock goes with the last who still has the counters."""
        os.close(self._lock)


def read_counters(path: Path) -> Counters:
    """The counters of another process, as they stand whenever one looks. Raises OSError."""
    with path.open("rb") as file:
        return Counters(mmap.mmap(file.fileno(), _BYTES, prot=mmap.PROT_READ))


def living(folder: Path) -> Iterator[int]:
    """Process numbers of the living workers that count in this folder; the files of dead ones go.

    A number may come more than once.
    """
    for path in sorted(folder.glob("[!.]*")):
        owner = path.name.partition("-")[0]
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield int(owner)
            else:
                path.unlink()
