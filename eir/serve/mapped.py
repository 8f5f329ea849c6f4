"""A file mapped for reading, brought in and let go of a piece at a time (``feed.paging``)."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.feed import paging


@dataclass(frozen=True, slots=True)
class Mapped:
    """``pages`` uint8[size]: the whole file; it keeps its mapping alive."""

    pages: NDArray[np.uint8]

    def prefault(self) -> None:
        """Map every page, so that no answer waits for one. Raises OSError as ``bring_in``."""
        for piece in paging.pieces(self.pages):
            paging.bring_in(piece)

    def release(self) -> None:
        """Give the pages back by pieces; unmapping what is left is quick then."""
        for piece in paging.pieces(self.pages):
            paging.give_back(piece)


def map_file(descriptor: int) -> Mapped:
    """The file behind an open descriptor, which may be closed afterwards. Raises OSError."""
    return Mapped(np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), np.uint8))
