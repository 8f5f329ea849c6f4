"""Reads a folder of this machine, with nothing but the machine's own calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from eir.errors import Refused
from eir.sync.reader import Body, Piece

_READ_BYTES: Final = 1 << 20


class FolderReader:
    """A Reader of a folder; a file's tag is its inode, its time and its size."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str, *, etag: str = "", offset: int = 0) -> Body | None:
        """See Reader."""
        try:
            file = (self._folder / name).open("rb")
        except FileNotFoundError:
            raise Refused("fetch-missing", "not there", where=name) from None
        except PermissionError as error:
            raise Refused("fetch-denied", str(error.strerror), where=name) from error
        except OSError as error:
            raise Refused("fetch-failed", str(error.strerror), where=name) from error
        found = os.fstat(file.fileno())
        tag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
        if tag == etag:
            file.close()
            return None
        file.seek(offset)
        return Body(found.st_size, tag, offset, _pieces(file, name), file.close)


def _pieces(file: BinaryIO, name: str) -> Iterator[Piece]:
    try:
        while piece := file.read(_READ_BYTES):
            yield piece
    except OSError as error:
        raise Refused("fetch-failed", str(error.strerror), where=name) from error
