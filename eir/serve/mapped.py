"""A file mapped for reading, brought in and let go of a piece at a time.

Promises that no call keeps the interpreter lock, or the process's memory map, for longer than a
piece takes: a thread that answers goes on answering beside it.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir import limits


@dataclass(frozen=True, slots=True)
class Mapped:
    """``pages`` uint8[size]: the whole file, and what keeps its mapping alive."""

    pages: NDArray[np.uint8]
    _map: mmap.mmap

    def prefault(self) -> None:
        """Touch every page, so that no answer waits for one. numpy lets other threads run."""
        for at in range(0, len(self.pages), limits.PREFAULT_PIECE_BYTES):
            self.pages[at : at + limits.PREFAULT_PIECE_BYTES : mmap.PAGESIZE].max()

    def release(self) -> None:
        """Give the pages back by pieces; unmapping what is left is quick then.

        Whoever still reads gets them again from the file.
        """
        for at in range(0, len(self.pages), limits.PREFAULT_PIECE_BYTES):
            length = min(limits.PREFAULT_PIECE_BYTES, len(self.pages) - at)
            self._map.madvise(mmap.MADV_DONTNEED, at, length)


def map_file(descriptor: int) -> Mapped:
    """The file behind an open descriptor, which may be closed afterwards. Raises OSError."""
    mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    return Mapped(np.frombuffer(mapping, np.uint8), mapping)
