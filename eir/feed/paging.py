"""The pages of a mapped file: brought in, and given back, a piece at a time.

Promises that no call keeps the interpreter lock, and none the process's memory map for longer than
a piece takes: a thread that answers goes on answering beside it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir import limits

_POPULATE_READ: Final = 22
"""MADV_POPULATE_READ of Linux's asm-generic/mman-common.h; Python has no name for it."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.madvise.restype = ctypes.c_int


def pieces(pages: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """All of a mapping, cut as the calls here want it."""
    for at in range(0, len(pages), limits.PREFAULT_PIECE_BYTES):
        yield pages[at : at + limits.PREFAULT_PIECE_BYTES]


def bring_in(piece: NDArray[np.uint8]) -> None:
    """Have all pages of a piece read from the disk and mapped, without one fault for each.

    Raises OSError where the disk does not give them; who touched them would be ended by SIGBUS.
    """
    fault = _advise(piece, _POPULATE_READ)
    if fault == errno.EFAULT:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    if fault:  # a system before Linux 5.14; numpy lets other threads run
        piece[:: mmap.PAGESIZE].max()


def give_back(piece: NDArray[np.uint8]) -> None:
    """Unmap a piece's pages. Whoever reads on gets them again, from the file."""
    _advise(piece, mmap.MADV_DONTNEED)


def _advise(piece: NDArray[np.uint8], advice: int) -> int:
    """0, or the error's number. The system wants whole pages: the first one begins the piece's."""
    before = piece.ctypes.data % mmap.PAGESIZE
    done = _libc.madvise(piece.ctypes.data - before, piece.nbytes + before, advice)
    return ctypes.get_errno() if done else 0
