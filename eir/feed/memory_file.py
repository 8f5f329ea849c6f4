"""A generation as a file in memory: whoever verified it lays it out once, workers map it.

    0    length of the index (u64 LE)
    8    index: a pickle, and behind it where each array stands that the pickle leaves out
    …    the arrays that stand nowhere else, each on a cache line's border

To apply a delta takes long, and so does what is derived of lists before they can be asked: where
their containers are, directories, fences, sieves. All that is done once, and all workers share the
memory of it. Arrays that lie in files *beneath*, which whoever reads has mapped too, are named and
not repeated: a base's file stands over its snapshot, that of what deltas made of it over both.

Both ends are this program on this machine, and nobody else can reach the file: it is trusted, and
never a format of the feed.
"""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core.generation import Generation
from eir.core.sieving import of_overlays
from eir.core.view import derived_of, lay_over, tables_of

Pages = NDArray[np.uint8]

_LENGTH_BYTES: Final = 8
_ALIGN: Final = limits.SECTION_ALIGNMENT_BYTES
_HERE: Final = -1


def write_generation(
    generation: Generation, beneath: Sequence[Pages], *, name: str
) -> tuple[Generation, BinaryIO]:
    """The generation with a sieve of its overlays; and all of it, with what is derived of its
    tables, in a new file in memory, the caller's to close. Raises OSError where there is no room.

    ``beneath``: files as this process has them mapped. ``name``: the file's, for people to see.
    """
    made = replace(generation, overlay_sieve=of_overlays(generation))
    arrays: list[pickle.PickleBuffer] = []
    derived = [(table, derived_of(table)) for table in tables_of(made)]
    packed = pickle.dumps((made, derived), protocol=5, buffer_callback=arrays.append)
    raws = [np.frombuffer(array.raw(), np.uint8) for array in arrays]
    places = [_place_in(beneath, raw) for raw in raws]
    index = pickle.dumps((packed, places))
    file = os.fdopen(os.memfd_create(name), "r+b")
    try:
        file.write(len(index).to_bytes(_LENGTH_BYTES, "little") + index)
        for raw, (where, _, _) in zip(raws, places, strict=True):
            if where == _HERE:
                file.seek(_aligned(file.tell()))
                file.write(raw.data)
        file.flush()
    except OSError:
        file.close()
        raise
    return made, file


def read_generation(pages: Pages, beneath: Sequence[Pages]) -> Generation:
    """The generation whose file is mapped as ``pages``, over the same files, mapped anywhere."""
    end = _LENGTH_BYTES + int.from_bytes(pages[:_LENGTH_BYTES].tobytes(), "little")
    packed, places = pickle.loads(pages[_LENGTH_BYTES:end].tobytes())  # noqa: S301 (our own)
    arrays = []
    for where, at, length in places:
        if where == _HERE:
            at = _aligned(end)
            end = at + length
        file = pages if where == _HERE else beneath[where]
        arrays.append(file[at : at + length].data)
    generation, derived = pickle.loads(packed, buffers=arrays)  # noqa: S301 (our own)
    if not isinstance(generation, Generation):
        raise TypeError("the file in memory holds no generation")
    for table, words in derived:
        lay_over(table, words)
    return generation


def mapped(file: BinaryIO) -> Pages:
    """All of a file, which may be closed afterwards."""
    return np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)


def _place_in(beneath: Sequence[Pages], raw: Pages) -> tuple[int, int, int]:
    """(which file beneath, or ``_HERE``; where in it; how many bytes)."""
    for number, pages in enumerate(beneath):
        at = raw.ctypes.data - pages.ctypes.data
        if at >= 0 and at + len(raw) <= len(pages):
            return number, at, len(raw)
    return _HERE, 0, len(raw)


def _aligned(at: int) -> int:
    return -(-at // _ALIGN) * _ALIGN
