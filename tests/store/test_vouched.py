"""A base that was verified once is known by its hash; nothing else about it is believed."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from eir.core.generation import OPERATOR, REGISTRY
from eir.errors import Corrupt
from eir.feed import codec, paging
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.store import vouched
from eir.store.depot import Depot
from eir.store.kept import Kept
from eir.store.vouched import VERIFIED_BY, mark_of, open_base
from tests.feed.small import SESSIONS, STEPS

FEEDS = pytest.mark.parametrize("feed", [REGISTRY, OPERATOR])


def keep(depot: Depot, feed: str, serial: int, *, verified: bool) -> Kept:
    head = SnapshotHead(feed, "nation", SESSIONS[feed], serial, 1_750_000_000 + serial)
    writer = SnapshotWriter(head)
    for step in STEPS[feed]():
        step(writer)
    return depot.adopt(writer.write(depot.new_path()), head, verified=verified)


def snapshot(depot: Depot, row: Kept) -> Path:
    return depot.folder / "snapshots" / row.file


def spoil(path: Path, at: int) -> None:
    """Flip a bit of a byte, on the disk, as nobody may."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sections whose items are read."""
    seen: list[str] = []
    real = codec.of_section
    monkeypatch.setattr(codec, "of_section", lambda s: seen.append(s.name) or real(s))
    return seen


@FEEDS
def test_what_was_verified_when_it_came_is_only_hashed(
    tmp_path: Path, feed: str, walks: list[str]
) -> None:
    depot = Depot(tmp_path)
    row = keep(depot, feed, 1, verified=True)
    walks.clear()
    opened = depot.open_newest(feed)
    opened.close_unless_in(None)
    assert (walks, opened.generation.digest) == ([], row.digest)


def test_the_keeper_verifies_once_what_nobody_has(tmp_path: Path, walks: list[str]) -> None:
    depot = Depot(tmp_path)
    row = keep(depot, REGISTRY, 1, verified=False)
    walks.clear()
    with depot.held_by_keeper():
        opened = depot.open_newest(REGISTRY)
    assert walks
    assert opened.kept == replace(row, verified=mark_of(snapshot(depot, row)))
    assert Depot(tmp_path).kept(REGISTRY) == (opened.kept,)
    walks.clear()
    again = Depot(tmp_path).open_newest(REGISTRY)
    assert walks == []
    assert again.generation.digest == opened.generation.digest
    assert again.generation.sieve is not None
    for each in (opened, again):
        each.close_unless_in(None)


def test_whoever_only_reads_writes_nothing(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    keep(depot, REGISTRY, 1, verified=False)
    before = (tmp_path / "manifest.json").read_bytes()
    depot.open_newest(REGISTRY).close_unless_in(None)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_other_code_verifies_anew(
    tmp_path: Path, walks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    depot = Depot(tmp_path)
    keep(depot, REGISTRY, 1, verified=True)
    monkeypatch.setattr(vouched, "VERIFIED_BY", "of tomorrow")
    walks.clear()
    with depot.held_by_keeper():
        depot.open_newest(REGISTRY).close_unless_in(None)
    assert walks
    assert depot.kept(REGISTRY)[0].verified.startswith("of tomorrow-")


@pytest.mark.parametrize("how", ["cp -a", "ln"])
def test_a_copy_is_verified_anew(tmp_path: Path, walks: list[str], how: str) -> None:
    """A mark that comes with a backup is the word of whoever had the backup."""
    depot = Depot(tmp_path / "one")
    row = keep(depot, REGISTRY, 1, verified=True)
    copy = Depot(tmp_path / "other")
    subprocess.run([*how.split(), snapshot(depot, row), snapshot(copy, row)], check=True)
    (copy.folder / "manifest.json").write_bytes((depot.folder / "manifest.json").read_bytes())
    walks.clear()
    copy.open_newest(REGISTRY).close_unless_in(None)
    assert walks


def test_the_stamp_is_of_what_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vouched._stamp() == VERIFIED_BY
    monkeypatch.setattr(vouched, "STAMP", "another core")
    assert vouched._stamp() != VERIFIED_BY
    monkeypatch.undo()
    (tmp_path / "codec.py").write_text("another feed")
    monkeypatch.setattr(vouched.eir.feed, "__file__", str(tmp_path / "__init__.py"))
    assert vouched._stamp() != VERIFIED_BY


def test_a_hash_that_is_not_the_files_vouches_for_nothing(tmp_path: Path, walks: list[str]) -> None:
    depot = Depot(tmp_path)
    row = keep(depot, REGISTRY, 1, verified=True)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(row.sha256, "0" * 64))
    walks.clear()
    with depot.held_by_keeper():
        depot.open_newest(REGISTRY).close_unless_in(None)
    assert walks
    noted = replace(row, sha256="0" * 64, verified="")
    manifest.write_text(manifest.read_text().replace(row.verified, ""))
    with depot.held_by_keeper():
        depot.open_newest(REGISTRY).close_unless_in(None)
    assert depot.kept(REGISTRY) == (noted,)


@FEEDS
def test_any_damage_is_found_and_named_as_without_the_record(
    tmp_path: Path, feed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        vouched, "mark_of", lambda _: row.verified
    )  # a disk that rots tells no time
    depot = Depot(tmp_path)
    row = keep(depot, feed, 1, verified=True)
    path = snapshot(depot, row)
    size = path.stat().st_size
    for at in range(0, size, max(1, size // 97)):
        spoil(path, at)
        with path.open("rb") as file, pytest.raises(Corrupt) as found:
            open_base(file, row)
        with pytest.raises(Corrupt) as whole:
            open_snapshot(path)
        assert (found.value.section, found.value.detail) == (
            whole.value.section, whole.value.detail,
        )  # fmt: skip
        spoil(path, at)
    with path.open("rb") as file:
        opened = open_base(file, row)
    assert opened.mark == row.verified
    opened.laid.close()


def cut(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    "harm", [lambda path: spoil(path, path.stat().st_size // 2), cut, Path.unlink]
)
def test_the_generation_before_serves_where_a_verified_file_is_harmed(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    depot = Depot(tmp_path)
    keep(depot, REGISTRY, 1, verified=True)
    harm(snapshot(depot, keep(depot, REGISTRY, 2, verified=True)))
    with depot.held_by_keeper():
        opened = depot.open_newest(REGISTRY)
    opened.close_unless_in(None)
    assert opened.generation.serial == 1
    assert len(opened.damaged) == 1


def test_a_disk_that_does_not_give_the_file_is_damage_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot = Depot(tmp_path)
    keep(depot, REGISTRY, 1, verified=True)
    broken = snapshot(depot, keep(depot, REGISTRY, 2, verified=True))
    real, size = mmap.mmap, broken.stat().st_size

    def unread(file: int, *given: int, **named: int) -> mmap.mmap:
        """A file that ends early after it was mapped is to who touches it as a bad disk is."""
        mapped = real(file, *given, **named)
        if os.readlink(f"/proc/self/fd/{file}") == str(broken):
            broken.chmod(0o600)
            os.truncate(broken, 0)
        return mapped

    monkeypatch.setattr(vouched.mmap, "mmap", unread)
    opened = depot.open_newest(REGISTRY)
    opened.close_unless_in(None)
    assert opened.generation.serial == 1
    (damage,) = opened.damaged
    assert (damage.section, damage.where) == ("file", str(broken))
    assert (damage.detail, size > 0) == (os.strerror(errno.EIO), True)


@pytest.mark.parametrize("size", [0, 1, 4096, (4 << 20) + 1])
def test_the_hash_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    raw = os.urandom(size)
    (tmp_path / "file").write_bytes(raw)
    with (tmp_path / "file").open("rb") as file:
        assert vouched.sha256_of(file.fileno()) == hashlib.sha256(raw).hexdigest()


def test_a_system_that_can_not_be_asked_is_read_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "_POPULATE_READ", 9_999)
    depot = Depot(tmp_path)
    keep(depot, REGISTRY, 1, verified=True)
    depot.open_newest(REGISTRY).close_unless_in(None)


def test_a_manifest_of_before_says_of_no_file_that_it_was_verified(tmp_path: Path) -> None:
    depot = Depot(tmp_path)
    row = keep(depot, REGISTRY, 1, verified=True)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f', "verified": "{row.verified}"', ""))
    assert depot.kept(REGISTRY) == (replace(row, verified=""),)
