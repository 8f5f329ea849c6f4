"""Publishing into a folder: whole old or whole new, never changed, the second publisher loses."""

import os
import threading
from pathlib import Path

import pytest

from eir.errors import Conflict, Refused
from eir.feed.address import Address
from eir.feed.head import Serial, is_file_name
from eir.feed.open_site import open_site
from eir.feed.site import FolderSite, Site, file_name


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return open_site(Address(str(tmp_path / "feed")))


def source(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "made"
    path.write_bytes(content)
    return path


def test_a_head_is_read_back_and_replaced(site: Site) -> None:
    assert site.read("head") is None
    first = site.swap("head", b"one", was=None)
    found = site.read("head")
    assert found
    assert (found.raw, found.tag) == (b"one", first)
    second = site.swap("head", b"two", was=first)
    found = site.read("head")
    assert found
    assert (found.raw, found.tag) == (b"two", second)


def test_the_second_of_two_publishers_loses(site: Site) -> None:
    tag = site.swap("head", b"base", was=None)
    site.swap("head", b"first", was=tag)
    with pytest.raises(Conflict):
        site.swap("head", b"second", was=tag)
    with pytest.raises(Conflict):
        site.swap("head", b"second", was=None)
    found = site.read("head")
    assert found
    assert found.raw == b"first"


def test_of_many_publishers_at_once_one_wins(tmp_path: Path) -> None:
    folder = tmp_path / "feed"
    tag = FolderSite(folder).swap("head", b"base", was=None)
    start, won = threading.Barrier(8), []

    def publish(number: int) -> None:
        own = FolderSite(folder)
        start.wait()
        try:
            own.swap("head", b"%d" % number, was=tag)
        except Conflict:
            return
        won.append(number)

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert (folder / "head").read_bytes() == b"%d" % won[0]


def test_a_file_is_never_changed_under_its_name(site: Site, tmp_path: Path) -> None:
    name = file_name("snapshot", Serial(1))
    site.add(name, source(tmp_path, b"content"))
    with pytest.raises(Conflict):
        site.add(name, source(tmp_path, b"other"))
    folder = tmp_path / "feed"
    assert (folder / name).read_bytes() == b"content"
    assert (folder / name).stat().st_mode & 0o222 == 0
    assert sorted(path.name for path in folder.iterdir()) == [name]


def test_standing_files_are_listed_and_removed(site: Site, tmp_path: Path) -> None:
    names = sorted(file_name("delta", Serial(i)) for i in (2, 3))
    for name in names:
        site.add(name, source(tmp_path, b"12345"))
    site.swap("head", b"h", was=None)
    (tmp_path / "feed" / ".scratch").write_bytes(b"")
    standing = site.standing()
    assert [(each.name, each.size) for each in standing] == [(name, 5) for name in names]
    assert all(each.put_at > 1_700_000_000 for each in standing)
    for _ in range(2):
        site.remove(names[0])
    assert [each.name for each in site.standing()] == names[1:]


def test_each_head_is_of_a_later_second(site: Site, tmp_path: Path) -> None:
    """For servers that tell files of one length apart by that alone."""
    tag, seconds = None, []
    for raw in (b"1", b"2", b"3"):
        tag = site.swap("head", raw, was=tag)
        seconds.append(int((tmp_path / "feed" / "head").stat().st_mtime))
    assert seconds == sorted(set(seconds))


def test_only_what_was_left_half_written_long_ago_is_cleared(site: Site, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "feed", f".delta-2-aa.{'0f' * 8}"
    site.swap("head", b"h", was=None)
    site.add("delta-2-aa", source(tmp_path, b"12345"))
    for name in (scratch, ".well-known", ".htaccess.bak"):
        (folder / name).write_bytes(b"half")
    kept = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        os.utime(path, (1_000, 1_000))
    site.clear(before=1_000)
    assert {path.name for path in folder.iterdir()} == kept
    site.clear(before=1_001)
    assert {path.name for path in folder.iterdir()} == kept - {scratch}


def test_a_failed_write_leaves_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = site.swap("head", b"old", was=None)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        site.swap("head", b"new", was=tag)
    with pytest.raises(OSError, match="No space"):
        site.add("delta-2-aa", source(tmp_path, b"content"))
    folder = tmp_path / "feed"
    assert (folder / "head").read_bytes() == b"old"
    assert sorted(path.name for path in folder.iterdir()) == [".publish.lock", "head"]


def test_only_its_own_names(site: Site, tmp_path: Path) -> None:
    for name in ("head", "../x", ".x"):
        with pytest.raises(ValueError, match="no file name"):
            site.add(name, tmp_path)
        with pytest.raises(ValueError, match="no file name"):
            site.remove(name)
    with pytest.raises(ValueError, match="neither head nor keys"):
        site.swap("delta-1-aa", b"", was=None)
    with pytest.raises(ValueError, match="neither head nor keys"):
        site.swap("keys", b"x" * 20_000, was=None)


def test_names_are_valid_and_unpredictable() -> None:
    names = {file_name("delta", Serial((1 << 64) - 1)) for _ in range(100)}
    assert len(names) == 100
    assert all(is_file_name(name) for name in names)


def test_a_web_server_is_not_published_through() -> None:
    with pytest.raises(Refused, match="feed-read-only"):
        open_site(Address("https://feed.example/nation"))
