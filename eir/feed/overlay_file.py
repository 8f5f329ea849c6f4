"""What deltas made of a snapshot, as a file in memory: the keeper writes it, workers map it.

    0    length of the index (u64 LE)
    8    index: a pickle, and behind it how long each array is that the pickle leaves out
    …    the arrays, each on a cache line's border

To apply a delta takes long, and most of it holds the interpreter lock. So that is done once, by
whoever verifies it, and all workers share the memory of what came of it. The snapshot's own tables
and orders are named, not repeated: whoever reads has them.

Both ends are this program on this machine, and nobody else can reach the file: it is trusted, and
never a format of the feed.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import Generation, Section
from eir.feed.codec import aligned

_LENGTH_BYTES: Final = 8


def write_overlays(generation: Generation, base: Generation) -> BinaryIO:
    """All of a generation but the contents of its base, in a new file in memory, the caller's to
    close. Raises OSError where there is no room.
    """
    arrays: list[pickle.PickleBuffer] = []
    packed = io.BytesIO()
    writer = _Naming(packed, base, arrays)
    writer.dump(replace(generation, sieve=None))
    raws = [array.raw() for array in arrays]
    index = pickle.dumps((packed.getvalue(), [raw.nbytes for raw in raws]))
    file = os.fdopen(os.memfd_create("overlays"), "r+b")
    try:
        file.write(len(index).to_bytes(_LENGTH_BYTES, "little") + index)
        for raw in raws:
            file.seek(aligned(file.tell()))
            file.write(raw)
        file.flush()
    except OSError:
        file.close()
        raise
    return file


def read_overlays(pages: NDArray[np.uint8], base: Generation) -> Generation:
    """The generation whose file is mapped as ``pages``, over the same base, with its sieve."""
    at = _LENGTH_BYTES
    end = at + int.from_bytes(pages[:at].tobytes(), "little")
    packed, lengths = pickle.loads(pages[at:end].tobytes())  # noqa: S301 (our own keeper's)
    arrays = []
    for length in lengths:
        begin = aligned(end)
        end = begin + length
        arrays.append(pages[begin:end].data)
    generation = _Named(io.BytesIO(packed), base, arrays).load()
    if not isinstance(generation, Generation):
        raise TypeError("the file in memory holds no generation")
    return replace(generation, sieve=base.sieve)


class _Naming(pickle.Pickler):
    """Writes a section's name for its base's content, and leaves arrays out."""

    def __init__(self, file: BinaryIO, base: Generation, arrays: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, protocol=5, buffer_callback=arrays.append)
        self._names = {id(section.content): name for name, section in base.sections.items()}

    def persistent_id(self, each: object) -> str | None:
        return self._names.get(id(each))


class _Named(pickle.Unpickler):
    """Puts the base's contents where their names stand."""

    def __init__(self, file: BinaryIO, base: Generation, arrays: list[memoryview]) -> None:
        super().__init__(file, buffers=arrays)
        self._sections: Mapping[str, Section] = base.sections

    def persistent_load(self, name: str) -> object:
        return self._sections[name].content
