"""A disk that is full or read-only: the old goes on, the reason is told, all heals by itself."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.test_depot_writes import NEW, OLD, announce_new, engine_at_old

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.truncate"}
_read_only: list[str] = []


def _deny(event: str, args: tuple[object, ...]) -> None:
    """Refuse to change what lies in a folder that is read-only: as the system would, before it is
    done.
    """
    if not _read_only:
        return
    if event == "open":
        path, _, flags = args
        changes = isinstance(flags, int) and flags & _WRITES
    else:
        path, changes = (args or [""])[0], event in _CHANGES
    named = isinstance(path, str | os.PathLike) and os.fspath(path).startswith(_read_only[0])
    if changes and named:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


sys.addaudithook(_deny)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    _read_only.append(str(folder))
    try:
        yield
    finally:
        _read_only.clear()


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: the write itself fails (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("by_snapshot", [False, True], ids=["delta", "snapshot"])
def test_a_disk_that_is_full_at_any_byte(tmp_path: Path, by_snapshot: bool) -> None:
    engine, registry = engine_at_old(tmp_path / "node")
    announce_new(registry, by_snapshot=by_snapshot)
    file = registry.snapshots[3] if by_snapshot else registry.deltas[3]
    refused, room = 0, 0
    while engine.serial < 3:
        with no_room_beyond(room):
            outcome = engine.sync()
        if not outcome.good:
            assert (outcome.reason, outcome.alarm, outcome.to_serial) == ("disk-error", True, 2)
            assert engine.holds(OLD)
            refused += 1
        room += 61
    assert refused >= file.size // 61
    assert engine.holds(NEW)


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    engine, registry = engine_at_old(tmp_path / "node")
    announce_new(registry, by_snapshot=False)
    depot = tmp_path / "node" / "depot"
    before = {path: path.stat().st_mtime_ns for path in depot.rglob("*")}
    with read_only(depot):
        for _ in range(3):
            outcome = engine.sync()
            assert (outcome.kind, outcome.reason, outcome.alarm) == ("failed", "disk-error", True)
            assert (engine.serial, len(engine.published)) == (2, 1)
    assert {path: path.stat().st_mtime_ns for path in depot.rglob("*")} == before
    engine.restart()
    assert engine.holds(OLD)
    assert engine.sync().to_serial == 3
    assert engine.holds(NEW)
