"""The depot's folder: it holds a nation's devices with their subscribers, and is its owner's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from eir.store.depot import Depot


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_nobody_else_looks_into_a_depot(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        depot = Depot(tmp_path / "var" / "depot")
        with depot.held_by_keeper():
            made = [depot.folder, *depot.folder.rglob("*"), depot.new_path().parent]
    finally:
        os.umask(before)
    assert len(made) > 4
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in made} == {0}
