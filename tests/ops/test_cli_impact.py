"""Whom a change would newly refuse is told before it is made, by a command that changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.core.generation import OPERATOR, REGISTRY
from eir.core.orders import Hold, Override
from eir.feed.codec import SnapshotHead, write_generation
from eir.store.depot import Depot
from tests.core.contents import SESSION, Content, Listed, generation_of
from tests.ops.conftest import run, write_config
from tests.serve.test_forecast import DAY_S, FIRST, NUMBER, TAC

NOW = 1_800_000_000
HOLD = Hold(NOW + 365 * DAY_S, (TAC,), "grace-expired")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eir.ops.cli.impact.time.time", lambda: float(NOW))


def registry(stolen: int = 0) -> Content:
    devices = frozenset((FIRST + n,) for n in range(20))
    grey = frozenset((FIRST + 100 + n, NUMBER, NOW + n * DAY_S + 9) for n in range(3))
    black = Listed(frozenset((FIRST + n,) for n in range(stolen)))
    past = frozenset({(FIRST + 200, 0, NOW - 9)})
    return {"white": Listed(devices), "grey": Listed(grey | past), "black.stolen": black}


def snapshot(depot: Depot, feed: str, serial: int, content: Content) -> Path:
    made = generation_of(content, feed=feed, serial=serial)
    head = SnapshotHead(feed, "test", SESSION, serial, NOW)
    path = depot.new_path()
    depot.adopt(write_generation(path, head, made), head)
    return depot.folder / "snapshots" / depot.kept(feed)[0].file


@pytest.fixture
def config(tmp_path: Path) -> Path:
    config = write_config(tmp_path)
    depot = Depot(tmp_path / "depot")
    snapshot(depot, OPERATOR, 1, {"holds": Listed(orders=frozenset({HOLD}))})
    snapshot(depot, REGISTRY, 1, registry(stolen=4))
    snapshot(depot, REGISTRY, 2, registry())
    return config


def asked(config: Path, *words: object) -> dict[str, object]:
    ran = run("impact", *words, "--config", config, "--json")
    assert ran.code == 0, ran.err
    return ran.document


def refused(told: dict[str, object]) -> list[int]:
    return [day["newly_refused"] for day in told["days"]]  # type: ignore[attr-defined]


def test_deadlines_that_a_hold_covers_cut_nobody_until_it_ends(config: Path) -> None:
    told = asked(config)
    assert (told["change"], refused(told)) == (None, [0] * 7)
    told = asked(config, "--end-hold", 1, "--days", 4)
    assert told["change"] == {
        "asked": 24,
        "newly_refused": 1,
        "devices": 1,
        "newly_admitted": 0,
        "by_reason": {"grace-expired": 1},
        "by_tac": {f"{TAC:08d}": 1},
    }
    assert refused(told) == [1, 1, 1, 0]
    assert asked(config, "--end-hold", 0, "--days", 0)["change"] == told["change"]


def test_a_hold_that_would_be_added(config: Path, tmp_path: Path) -> None:
    free = ("--end-hold", 0)
    assert refused(asked(config, *free, "--days", 4)) == [1, 1, 1, 0]
    for criteria in ((), ("--tac", f"{TAC:08d}", "--reason", "grace-expired")):
        told = asked(config, *free, "--add-hold", "2d", *criteria, "--days", 4)
        assert told["change"]["newly_refused"] == 0  # type: ignore[index]
        assert refused(told) == [0, 3, 1, 0]
    other = ("--add-hold", "2d", "--tac", "35000000")
    assert refused(asked(config, *free, *other, "--days", 4)) == [1, 1, 1, 0]
    number = ("--add-hold", "2d", "--msisdn-prefix", str(NUMBER)[:5])
    assert refused(asked(config, *free, *number, "--days", 4)) == [0, 2, 1, 0]


def test_a_hold_where_the_operator_has_said_nothing_yet(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    snapshot(Depot(tmp_path / "depot"), REGISTRY, 1, registry(stolen=4))
    told = asked(config, "--add-hold", "7d", "--days", 0)["change"]
    assert (told["newly_refused"], told["newly_admitted"]) == (0, 1)  # type: ignore[index]
    deny = Listed(orders=frozenset({Override(FIRST + 9, 0, allow=False)}))
    path = tmp_path / "own.snap"
    head = SnapshotHead(OPERATOR, "test", SESSION, 1, NOW)
    write_generation(path, head, generation_of({"overrides": deny}, feed=OPERATOR))
    told = asked(config, "--snapshot", path, "--days", 0)["change"]
    assert told["by_reason"] == {"override-deny": 1}  # type: ignore[index]


def test_a_rollback_a_snapshot_and_a_mode(config: Path) -> None:
    told = asked(config, "--serial", 1, "--days", 0)["change"]
    assert told["by_reason"] == {"stolen": 4}  # type: ignore[index]
    depot = Depot(config.parent / "depot")
    file = snapshot(depot, REGISTRY, 3, registry(stolen=6))
    assert asked(config, "--serial", 2)["change"]["newly_admitted"] == 6  # type: ignore[index]
    shown = run("impact", "--snapshot", file, "--config", config).out
    assert "newly refused" in shown
    text = config.read_text()
    config.write_text(text + '[policy]\nmode = "shadow"\n')
    assert "--mode enforce shows who would be" in run("impact", "--config", config).out
    told = asked(config, "--mode", "enforce", "--days", 0)["change"]
    assert told["by_reason"] == {"stolen": 6}  # type: ignore[index]


def test_a_manifest_is_weighed_and_left_aside(config: Path) -> None:
    pytest.importorskip("duckdb")
    lists = config.parent
    (lists / "stolen.csv").write_text(f"imei\n{FIRST:014d}\n{FIRST + 1:014d}\n")
    (lists / "lists.toml").write_text(
        'feed = "registry"\nregistry = "test"\n'
        '[[file]]\npath = "stolen.csv"\nlist = "black.stolen"\nformat = "csv"\n'
    )
    told = asked(config, "--manifest", lists / "lists.toml", "--days", 0)["change"]
    assert told["by_reason"] == {"stolen": 2}  # type: ignore[index]
    assert [row.serial for row in Depot(lists / "depot").kept(REGISTRY)] == [2, 1]
    assert list((lists / "depot" / "scratch").iterdir()) == []


def test_what_cannot_be_asked_is_refused(config: Path, tmp_path: Path) -> None:
    ran = run("impact", "--end-hold", 2, "--config", config)
    assert (ran.code, "hold-unknown" in ran.err) == (3, True)
    ran = run("impact", "--tac", "35000000", "--config", config)
    assert (ran.code, "--add-hold" in ran.err) == (3, True)
    ran = run("impact", "--add-hold", "yesterday", "--config", config)
    assert (ran.code, "order-until" in ran.err) == (3, True)
    ran = run("impact", "--end-hold", -1, "--config", config)
    assert (ran.code, "--end-hold" in ran.err) == (3, True)
    ran = run("impact", "--mode", "strict", "--config", config)
    assert (ran.code, "policy-mode" in ran.err) == (3, True)
    ran = run("impact", "--serial", 9, "--config", config)
    assert (ran.code, "kept are" in ran.err) == (3, True)
    assert run("impact", "--config", write_config(tmp_path / "empty")).code == 2
