"""Killed at any step of taking, signing and putting out, a restart tells every sighting once."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from eir.core.golden import NOW, VECTORS, golden_tables
from eir.core.sighting import numbers_of
from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.sightings import open_sightings
from eir.feed.site import FolderSite
from eir.ops.outbox import Outbox
from eir.ops.settings.outbox_config import OutboxSettings
from eir.store import sighting_spool
from eir.store.sighting_spool import SightingSpool, node_key
from tests.serve.test_sighting_ring import Node, unknown

BEGIN = NOW


class Killed(BaseException):
    """The process is gone: nothing after this line was done."""


class World:
    """A depot with rings, an outbox, and keepers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = float(BEGIN)
        self.out = folder / "outbox"
        self.keeper = self.started()
        self.worker = Node(folder / "sightings" / "rings")

    def started(self, rows: int = 40) -> Outbox:
        settings = OutboxSettings(Address(str(self.out)), False, 5, rows, 100_000)
        return Outbox(settings, self.folder, tables=lambda: None, clock=lambda: self.clock)

    def turns(self, count: int = 4) -> None:
        for _ in range(count):
            self.clock += 3
            self.keeper.turn()

    def told(self) -> list[int]:
        """The IMEIs of every file in the outbox; each file is good and follows the one before."""
        key = node_key(self.folder / "sightings").public
        files = sorted(p for p in self.out.iterdir() if not p.name.startswith("."))
        found = [open_sightings(path.read_bytes(), [key]) for path in files]
        assert [each.sequence for each in found] == list(range(1, len(found) + 1))
        return [int(imei) for each in found for imei in each.rows[:, 0]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_each_pair_is_told_once_whatever_is_asked(world: World) -> None:
    for begin in (0, 30, 60):
        world.worker.check(unknown(60, begin=begin))
        world.turns(2)
    world.turns()
    assert sorted(world.told()) == unknown(120).tolist()
    figures = world.keeper.figures()
    assert (figures.noted, figures.pending_rows, figures.waiting_files) == (120, 0, 0)
    assert figures.files == figures.sequence - 1


STEPS = ("write", "fsync", "rename", "unlink", "link", "truncate")


def killing(at: int) -> tuple[dict[str, object], list[int]]:
    """Calls of the file system, of which the ``at``-th does not happen, nor any after it."""
    count = [0]

    def guarded(real):
        def step(*arguments, **options):
            count[0] += 1
            if count[0] >= at:
                raise Killed
            return real(*arguments, **options)

        return step

    names = {name: guarded(getattr(os, name)) for name in STEPS}
    return names, count


def run_until_killed(world: World, at: int) -> bool:
    """One keeper's life up to its ``at``-th step; False where it had not so many."""
    names, count = killing(at)
    remember = sighting_spool.Seen.remember

    def guarded(self, marks):
        count[0] += 1
        if count[0] >= at:
            raise Killed
        remember(self, marks)

    with (
        patch.multiple(os, **names),
        patch.object(sighting_spool.Seen, "remember", guarded),
    ):
        try:
            world.keeper = world.started()
            world.turns(6)
        except Killed:
            return True
    return False


def test_a_keeper_that_is_killed_at_any_step(tmp_path: Path) -> None:
    at, killed = 1, True
    while killed:
        folder = tmp_path / str(at)
        folder.mkdir()
        world = World(folder)
        world.worker.check(unknown(100))
        killed = run_until_killed(world, at)
        world.worker.check(unknown(50, begin=80))
        world.keeper = world.started()
        world.turns(8)
        assert sorted(world.told()) == unknown(130).tolist(), f"killed at step {at}"
        at += 1
    assert at > 20, "steps were killed"


def test_an_outbox_that_is_away_keeps_nobody_waiting(world: World) -> None:
    world.worker.check(unknown(100))
    with patch.object(FolderSite, "add", side_effect=Refused("fetch-failed", "no route")):
        world.turns(6)
        assert world.keeper.figures().waiting_files == 3
        assert "no route" in world.keeper.alarms()[0]
    world.keeper = world.started()
    world.turns()
    assert sorted(world.told()) == unknown(100).tolist()
    assert world.keeper.alarms() == []


def test_a_full_disk_takes_nothing_and_loses_nothing(world: World) -> None:
    world.worker.check(unknown(30))
    with patch.object(os, "fsync", side_effect=OSError(28, "No space left on device")):
        world.turns()
        assert "No space left" in world.keeper.alarms()[0]
        assert world.keeper.figures().noted == 0
    world.turns()
    assert sorted(world.told()) == unknown(30).tolist()


def test_what_nobody_can_be_is_not_told(world: World) -> None:
    numbers = np.array([10**15, 0, (1 << 64) - 1, 7], np.uint64)
    world.worker.check(unknown(4), numbers)
    world.turns()
    assert world.told() == unknown(4)[[1, 3]].tolist()


def test_another_node_with_the_same_key_is_seen(world: World) -> None:
    world.worker.check(unknown(10))
    world.out.mkdir(exist_ok=True)
    name = f"sightings-{node_key(world.folder / 'sightings').public.id.hex()}-0000000001"
    (world.out / name).write_bytes(b"somebody else's")
    world.turns()
    assert "another file has this name" in world.keeper.alarms()[0]
    assert world.keeper.figures().waiting_files == 1


def test_a_torn_tail_of_what_was_pending_is_cut_off(world: World) -> None:
    world.worker.check(unknown(10))
    world.keeper.turn()
    world.keeper.turn()
    (pending,) = (world.folder / "sightings").glob("pending-*")
    whole = pending.read_bytes()
    with pending.open("ab") as file:
        file.write(whole[:17])
    spool = SightingSpool(world.folder / "sightings", remember=10)
    assert spool.pending == 10
    assert pending.read_bytes() == whole


def test_the_number_comes_from_the_operators_table() -> None:
    tables = golden_tables()
    imsis = {vector.imsi for vector in VECTORS if vector.imsi}
    known = {imsi: tables.facts(1, 0, imsi, now=0, grace_time=0).number for imsi in imsis}
    assert any(known.values())
    for imsi, number in known.items():
        noted = np.array([[1, 0, imsi, 0], [2, 77, imsi, 0], [3, 0, 0, 0]], np.uint64)
        assert numbers_of(tables, noted).tolist() == [number, 77, 0]
