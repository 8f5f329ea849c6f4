"""Law 12 for a base that takes over: ended at any step, a restart has all that was there."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.feed.codec import SnapshotHead, write_generation
from eir.store.depot import Depot
from tests.faults.test_depot_writes import Killed, engine_at_old, failing
from tests.scenarios.world import FEED, Engine, white

CONTENT = white(1, 2, 3)


def grown(folder: Path) -> Engine:
    """A node at serial 4, by deltas on serial 1."""
    engine, registry = engine_at_old(folder)
    for content in (white(1, 2, 5), CONTENT):
        registry.say(content)
    registry.announce()
    assert engine.sync().to_serial == 4
    return engine


def compacted_at(depot: Depot, serial: int) -> None:
    opened = depot.open_newest(FEED, serial=serial)
    made = opened.generation
    head = SnapshotHead(FEED, made.registry_id, made.session, serial, made.made_at)
    facts = write_generation(depot.new_path(), head, made)
    depot.adopt_base(facts, head, of=opened.kept.file)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    compacted_at(grown(tmp_path / "compiled").depot, 3)  # what compiles writes files, too
    counted = grown(tmp_path / "counted")
    with failing(monkeypatch, 0, after=False, how=Killed()) as done:
        compacted_at(counted.depot, 3)
    assert len(done) > 6
    moved = []
    for nth in range(1, len(done) + 1):
        engine = grown(tmp_path / f"{nth}")
        with failing(monkeypatch, nth, after=after, how=Killed()), pytest.raises(Killed):
            compacted_at(engine.depot, 3)
        assert engine.holds(CONTENT)
        assert engine.serial == 4
        moved.append(engine.depot.kept(FEED)[0].serial == 3)
        for serial in (2, 3):
            assert engine.depot.open_newest(FEED, serial=serial).generation.serial == serial
    assert moved == sorted(moved)
    assert (moved[0], moved[-1]) == (False, True)
