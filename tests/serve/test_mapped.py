"""Mapped files: brought in whole, given back whole, readable all the while."""

from __future__ import annotations

import os
import re

import pytest

from eir import limits
from eir.serve.mapped import map_file


def resident(name: str) -> int:
    """Kilobytes of this process's mapping of a file."""
    with open("/proc/self/smaps") as lines:
        text = lines.read()
    (block,) = re.findall(rf"{re.escape(name)}\n((?:\w+: .*\n)+)", text)
    return int(re.search(r"(?m)^Rss: +(\d+) kB", block)[1])


def test_all_pages_come_in_go_away_and_come_again(tmp_path):
    path = tmp_path / "file"
    size = 2 * limits.PREFAULT_PIECE_BYTES + 12_345
    path.write_bytes(os.urandom(size))
    with path.open("rb") as file:
        mapped = map_file(file.fileno())
    whole = -(-size // 4096) * 4
    mapped.prefault()
    assert resident(str(path)) == whole
    mapped.release()
    assert resident(str(path)) == 0
    assert mapped.pages.tobytes() == path.read_bytes()
    with pytest.raises(ValueError, match="read-only"):
        mapped.pages[0] = 1
