"""Opening a kept snapshot: by its hash alone, where these very bytes were verified before.

To verify a nation's file is to read every item of it, several times the work of hashing it. So
the manifest says of a file that it was verified whole (``Kept.verified``): by which code, and which
file of this disk it was. While both are the same, its SHA-256 proves the rest. Where it says
nothing, or names other code or another file, as of a depot that was copied or restored, or the hash
is another, the file is verified whole again, and whatever is wrong with it is found and named.

Promises that what it returns was verified whole by this code, here or before. Writes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

import msgpack
import numpy as np
import pyroaring

import eir.feed
from eir.core.generation import Generation
from eir.core.jit import STAMP
from eir.core.sieving import with_sieve
from eir.feed import paging
from eir.feed.codec import map_snapshot, open_mapped
from eir.feed.memory_file import mapped, read_base, write_base
from eir.store.kept import Kept


def _stamp() -> str:
    """A hash of all that verifies: core, feed, and the libraries that both stand on."""
    seen = hashlib.sha256(STAMP.encode())
    for source in sorted(Path(eir.feed.__file__).parent.glob("*.py")):
        seen.update(source.read_bytes())
    seen.update(repr((msgpack.version, pyroaring.__version__)).encode())
    return seen.hexdigest()[:16]


VERIFIED_BY: Final = _stamp()
"""Names the code that verifies here; another version of it verifies anew."""


def mark_of(file: int | Path) -> str:
    """What is noted of a file that was verified whole: by what code, and which file it is. Nobody
    can give a file a moment of change that he chose, so a mark that came with a copy is void.
    """
    found = os.stat(file)
    return f"{VERIFIED_BY}-{found.st_ino}-{found.st_ctime_ns}"


@dataclass(frozen=True, slots=True)
class OpenedBase:
    """A snapshot's generation, with its sieve. ``laid``: a file in memory, the caller's to close,
    with all that was derived of it.

    ``mark``: what the manifest may say of the snapshot; "" where its bytes are not those of the
    hash that stands there.
    """

    generation: Generation
    laid: BinaryIO
    mark: str


def open_base(file: BufferedReader, row: Kept) -> OpenedBase:
    """What a kept file, open at its beginning, holds. Raises Corrupt, naming the section, and
    OSError where the disk does not give it.
    """
    mark = mark_of(file.fileno())
    if sha256_of(file.fileno()) != row.sha256:
        mark = ""
    known = mark != "" and row.verified == mark
    snapshot = map_snapshot(file)
    verified = open_mapped(snapshot, trusted=known)
    laid = write_base(with_sieve(verified), snapshot)
    return OpenedBase(read_base(mapped(laid), snapshot), laid, mark)


def sha256_of(file: int) -> str:
    """Of all bytes of a file that is open. Raises OSError where the disk does not give them.

    Who reads it first settles in what pages the system keeps it: it is asked for huge ones, which
    save a probe most of its misses of the TLB. What is kept already stays as it is.
    """
    seen = hashlib.sha256()
    if os.fstat(file).st_size == 0:
        return seen.hexdigest()
    mapped = mmap.mmap(file, 0, prot=mmap.PROT_READ)
    with contextlib.suppress(OSError):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    pages = np.frombuffer(mapped, np.uint8)
    with ThreadPoolExecutor(1, "read") as ahead:
        brought = ahead.map(paging.bring_in, paging.pieces(pages))
        for piece, _ in zip(paging.pieces(pages), brought, strict=True):
            seen.update(piece.data)
    return seen.hexdigest()
