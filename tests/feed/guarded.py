"""Memory with a wall at each end: one byte read outside an array ends the interpreter at once."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
from numpy.typing import NDArray

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)


class Yard:
    """Holds one array at a time, flush against the wall before it or the wall behind it."""

    def __init__(self, capacity: int) -> None:
        inside = -(-capacity // _PAGE) * _PAGE
        self._map = mmap.mmap(-1, inside + 2 * _PAGE)
        whole = np.frombuffer(self._map, np.uint8)
        for wall in (whole.ctypes.data, whole.ctypes.data + _PAGE + inside):
            done = _LIBC.mprotect(ctypes.c_void_p(wall), ctypes.c_size_t(_PAGE), 0)
            if done != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        self._inside = whole[_PAGE : _PAGE + inside]

    def hold(self, octets: bytes, *, at_end: bool) -> NDArray[np.uint8]:
        """The bytes, readable until the next call."""
        start = len(self._inside) - len(octets) if at_end else 0
        self._inside[start : start + len(octets)] = np.frombuffer(octets, np.uint8)
        held = self._inside[start : start + len(octets)]
        held.flags.writeable = False
        return held
