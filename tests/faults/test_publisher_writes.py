"""A publisher ended at any step of its writing: readers see the old head or the new, whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from eir.feed.address import Address
from eir.feed.publish import Habits
from eir.sync.reader import Patience
from eir.sync.store_reader import StoreReader
from tests.faults.test_depot_writes import Killed, failing
from tests.faults.test_disk import no_room_beyond
from tests.scenarios.nation import Nation
from tests.scenarios.world import Content, Engine, white

OLD, NEW = white(*range(1, 900, 2)), white(*range(1, 900, 2), 4)
DUE = Habits(snapshot_every=1)


def nation_at_old(folder: Path, habits: Habits) -> Nation:
    folder.mkdir()
    nation = Nation(folder, habits=habits)
    nation.publish(OLD)
    return nation


def what_is_read(nation: Nation, name: str) -> Content:
    """By a node that begins with what stands there now."""
    reader = StoreReader(Address(str(nation.folder / "feed")), Patience())
    engine = Engine(nation.folder / name, reader)
    assert engine.sync().reason == "first-load"
    assert engine.sync().kind == "up-to-date"
    return NEW if engine.holds(NEW) else OLD if engine.holds(OLD) else {}


@pytest.mark.parametrize("habits", [Habits(), DUE], ids=["delta", "delta-and-snapshot"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, habits: Habits, after: bool
) -> None:
    came: list[bool] = []
    steps: set[str] = set()
    while True:
        nth = len(came) + 1
        nation = nation_at_old(tmp_path / f"{nth}", habits)
        with failing(monkeypatch, nth, after=after, how=Killed()) as done, suppress(Killed):
            nation.publish(NEW)
        if len(done) < nth:
            break
        steps.add(done[nth - 1])
        came.append(what_is_read(nation, "first") is NEW)
        assert nation.publish(NEW).head.serial == 2
        assert what_is_read(nation, "second") is NEW
    assert steps >= {"fsync", "link", "replace"}
    assert came == sorted(came), "what was once seen went away again"
    assert (came[0], came[-1]) == (False, True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refused = 0
    while True:
        nation = nation_at_old(tmp_path / f"{refused}", DUE)
        fault = OSError(number, os.strerror(number))
        step = failing(monkeypatch, refused + 1, after=False, how=fault)
        with step as done, suppress(OSError):
            nation.publish(NEW)
        if len(done) <= refused:
            break
        refused += 1
        assert what_is_read(nation, "first") in (OLD, NEW)
        assert nation.publish(NEW).head.serial == 2
        assert what_is_read(nation, "second") is NEW
    assert refused > 8


def test_a_publisher_whose_disk_is_full_leaves_the_old_head(tmp_path: Path) -> None:
    nation = nation_at_old(tmp_path / "nation", DUE)
    before = nation.site.read("head")
    refused, room = 0, 0
    while nation.site.read("head") == before:
        with no_room_beyond(room), suppress(OSError):
            nation.publish(NEW)
        refused, room = refused + 1, room + 101
        assert what_is_read(nation, f"node-{refused}") in (OLD, NEW)
    assert refused > 3
    assert nation.publish(NEW).head.serial == 2
    assert what_is_read(nation, "node") == NEW
