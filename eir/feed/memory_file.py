"""A generation as a file in memory: whoever verified it lays it out once, workers map it.

    0    length of the index (u64 LE)
    8    index: a pickle, and behind it where each array stands that the pickle leaves out
    …    the arrays that stand nowhere else, each on a cache line's border

To apply a delta takes long, and so does what is derived of lists before they can be asked: where
their containers are, directories, fences, sieves. All that is done once, and all workers share the
memory of it. A base's file stands over its snapshot, whose bytes it names and does not repeat; that
of overlays over the base, whose contents it names: whoever reads has them.

Both ends are this program on this machine, and nobody else can reach the file: it is trusted, and
never a format of the feed.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import Generation
from eir.core.sieving import of_overlays
from eir.core.view import lay_over, tables_of, view_of
from eir.feed.codec import aligned

Pages = NDArray[np.uint8]

_LENGTH_BYTES: Final = 8


def write_base(generation: Generation, snapshot: Pages) -> BinaryIO:
    """A snapshot's generation and all that is derived of it, but the bytes of the snapshot, which
    is mapped here; in a new file in memory, the caller's to close.

    Raises OSError where there is no room.
    """
    return _written("base", generation, {}, snapshot)


def read_base(pages: Pages, snapshot: Pages) -> Generation:
    """The generation whose file is mapped as ``pages``, over the same snapshot, mapped anywhere."""
    return _read(pages, {}, snapshot)


def write_overlays(generation: Generation, base: Generation) -> tuple[Generation, BinaryIO]:
    """The generation with a sieve of its overlays; and all of it but what is its base's, as
    ``write_base`` does.
    """
    made = replace(generation, overlay_sieve=of_overlays(generation))
    return made, _written("overlays", made, _parts_of(base), np.empty(0, np.uint8))


def read_overlays(pages: Pages, base: Generation) -> Generation:
    """The generation whose file is mapped as ``pages``, over the same base."""
    return _read(pages, _parts_of(base), np.empty(0, np.uint8))


def mapped(file: BinaryIO) -> Pages:
    """All of a file, which may be closed afterwards."""
    return np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)


def _parts_of(base: Generation) -> dict[str, object]:
    """What a generation shares with its base, by name."""
    return {"": base.sieve, **{name: each.content for name, each in base.sections.items()}}


def _written(
    name: str, generation: Generation, named: Mapping[str, object], snapshot: Pages
) -> BinaryIO:
    arrays: list[pickle.PickleBuffer] = []
    packed = io.BytesIO()
    own = [table for table in tables_of(generation) if not any(table is n for n in named.values())]
    writer = _Naming(packed, named, arrays)
    writer.dump((generation, [(table, view_of(table).derived) for table in own]))
    raws = [np.frombuffer(array.raw(), np.uint8) for array in arrays]
    places = [(_place_in(snapshot, raw), len(raw)) for raw in raws]
    index = pickle.dumps((packed.getvalue(), places))
    file = os.fdopen(os.memfd_create(name), "r+b")
    try:
        file.write(len(index).to_bytes(_LENGTH_BYTES, "little") + index)
        for raw, (place, _) in zip(raws, places, strict=True):
            if place is None:
                file.seek(aligned(file.tell()))
                file.write(raw.data)
        file.flush()
    except OSError:
        file.close()
        raise
    return file


def _read(pages: Pages, named: Mapping[str, object], snapshot: Pages) -> Generation:
    end = _LENGTH_BYTES + int.from_bytes(pages[:_LENGTH_BYTES].tobytes(), "little")
    packed, places = pickle.loads(pages[_LENGTH_BYTES:end].tobytes())  # noqa: S301 (our own)
    arrays = []
    for place, length in places:
        begin = aligned(end) if place is None else place
        end = begin + length if place is None else end
        arrays.append((pages if place is None else snapshot)[begin : begin + length].data)
    generation, derived = _Named(io.BytesIO(packed), named, arrays).load()
    if not isinstance(generation, Generation):
        raise TypeError("the file in memory holds no generation")
    for table, words in derived:
        lay_over(table, words)
    return generation


class _Naming(pickle.Pickler):
    """Writes the name of what has one, and leaves arrays out."""

    def __init__(
        self, file: BinaryIO, named: Mapping[str, object], arrays: list[pickle.PickleBuffer]
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=arrays.append)
        self._names = {id(each): name for name, each in named.items() if each is not None}

    def persistent_id(self, each: object) -> str | None:
        return self._names.get(id(each))


class _Named(pickle.Unpickler):
    """Puts what was named where its name stands."""

    def __init__(
        self, file: BinaryIO, named: Mapping[str, object], arrays: list[memoryview]
    ) -> None:
        super().__init__(file, buffers=arrays)
        self._named = named

    def persistent_load(self, name: str) -> object:
        return self._named[name]


def _place_in(snapshot: Pages, raw: Pages) -> int | None:
    """Where an array lies in the snapshot; None where it does not."""
    at = raw.ctypes.data - snapshot.ctypes.data
    return at if at >= 0 and at + len(raw) <= len(snapshot) else None
