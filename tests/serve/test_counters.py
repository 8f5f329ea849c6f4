"""Counters are seen by others at once, are final when their worker is gone, and need no luck."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core import policy
from eir.serve.counters import SPANS, Counters, CountersFile, living, read_counters
from eir.serve.locked import new_locked

CHILD = """
import sys
from pathlib import Path
from eir.serve.counters import CountersFile
file = CountersFile(Path(sys.argv[1]))
file.counters.checks[0, 5, 3] += 7
sys.stdout.write("counted\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.fixture
def child(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "counted\n"
    yield process
    process.kill()
    process.wait()


def test_a_killed_workers_figures_are_still_there(child, tmp_path):
    (path,) = tmp_path.iterdir()
    counters = read_counters(path)
    child.kill()
    child.wait()
    assert counters.checks[0, 5, 3] == 7
    assert counters.checks.sum() == 7


def test_who_lives_is_known_by_the_lock_and_the_dead_are_swept(child, tmp_path):
    assert list(living(tmp_path)) == [child.pid]
    child.kill()
    child.wait()
    assert list(living(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_its_room_beforehand_and_is_nobody_elses(tmp_path):
    file = CountersFile(tmp_path)
    facts = file.path.stat()
    assert facts.st_mode & 0o777 == 0o600
    assert facts.st_blocks * 512 >= facts.st_size > policy.CODES * 5 * 8
    assert file.path.name.startswith(f"{os.getpid()}-")


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_batches_are_told_apart_by_how_long_they_took(times):
    counters = Counters()
    for time in times:
        counters.decided(time)
    assert counters.busy_ns[0] == sum(times)
    bounds = [2**n for n in range(SPANS - 1)] + [2**64]
    expected = np.zeros(SPANS, np.uint64)
    for time in times:
        expected[next(n for n, bound in enumerate(bounds) if time < bound)] += 1
    assert (counters.spans == expected).all()


def test_what_others_read_can_not_be_written_by_them(tmp_path):
    file = CountersFile(tmp_path)
    seen = read_counters(file.path)
    file.counters.decided(5)
    assert seen.busy_ns[0] == 5
    with pytest.raises(ValueError, match="read-only"):
        seen.checks[0, 0, 0] = 1


def test_what_is_not_whole_yet_is_nobodys_and_stays(tmp_path):
    (tmp_path / ".7-ab").touch()
    assert list(living(tmp_path)) == []
    assert (tmp_path / ".7-ab").exists()


def test_a_file_has_its_name_only_when_it_is_locked_and_whole(tmp_path, monkeypatch):
    seen = []

    def rename(self: Path, name: Path) -> Path:
        with self.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        seen.append((self.name, self.stat().st_size))
        return self.replace(name)

    monkeypatch.setattr(Path, "rename", rename)
    os.close(new_locked(tmp_path / "7-ab", 4096))
    assert seen == [(".7-ab", 4096)]
    assert [path.name for path in tmp_path.iterdir()] == ["7-ab"]


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room"):
        CountersFile(tmp_path)
    assert list(tmp_path.iterdir()) == []
