"""Pages of a mapped file: all of them come, none is lost, and a disk that fails is an error."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from eir import limits
from eir.feed import paging

_SIZE = limits.PREFAULT_PIECE_BYTES + 3 * mmap.PAGESIZE + 5


def mapped(path: Path) -> np.ndarray:
    """Two pieces of a file, the second one short and no whole number of pages."""
    path.write_bytes(np.arange(_SIZE, dtype=np.uint32).astype(np.uint8).tobytes())
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)


def resident(pages: np.ndarray) -> int:
    """Bytes of the mapping that this process has mapped now."""
    at = f"{pages.ctypes.data:x}-"
    lines = iter(Path("/proc/self/smaps").read_text("ascii").splitlines())
    for line in lines:
        if line.startswith(at):
            return next(int(row.split()[1]) << 10 for row in lines if row.startswith("Rss:"))
    raise AssertionError("no such mapping")


@pytest.mark.parametrize("advice", [paging._POPULATE_READ, 9_999])
def test_every_page_is_brought_in_by_a_system_that_can_be_asked_and_by_one_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advice: int
) -> None:
    monkeypatch.setattr(paging, "_POPULATE_READ", advice)
    pages = mapped(tmp_path / "file")
    before = pages.tobytes()
    for piece in paging.pieces(pages):
        paging.give_back(piece)
    assert resident(pages) == 0
    for piece in paging.pieces(pages):
        paging.bring_in(piece)
    assert resident(pages) >= _SIZE
    assert pages.tobytes() == before


def test_a_piece_that_begins_within_a_page_is_brought_in_whole(tmp_path: Path) -> None:
    pages = mapped(tmp_path / "file")
    paging.bring_in(pages[mmap.PAGESIZE - 1 : 2 * mmap.PAGESIZE + 1])
    assert resident(pages) >= 3 * mmap.PAGESIZE


def test_what_the_disk_does_not_give_is_an_error_and_no_signal(tmp_path: Path) -> None:
    pages = mapped(tmp_path / "file")
    with (tmp_path / "file").open("r+b") as file:
        file.truncate(limits.PREFAULT_PIECE_BYTES)
    first, second = paging.pieces(pages)
    paging.bring_in(first)
    with pytest.raises(OSError, match="Input/output error"):
        paging.bring_in(second)
