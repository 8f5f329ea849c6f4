"""The depot's own operator feed, and a node that follows both feeds by the same code."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from eir.core.policy import FIXED_REASONS
from eir.errors import Refused
from eir.feed.head import HEAD_NAME, open_head
from eir.feed.keys import key_text, open_keys
from eir.feed.publish import Habits, Published
from eir.ops.desk import Desk
from eir.ops.own_feed import has_word, own_desk
from eir.ops.settings.config import load_config
from eir.store.depot import Depot
from tests.core.contents import Listed, generation_of
from tests.ops.conftest import Node, run, serving, write_config

TERMINAL, PHONE = 35_999_901_000_010, 35_999_901_000_028
NOW = int(time.time()) - 1_000


def publish(desk: Desk, *exempt: int, now: int) -> Published:
    rows = frozenset((key,) for key in exempt)
    content = generation_of({"exempt.equipment": Listed(rows)}, feed="operator")
    with desk.at_work(Habits()) as publisher:
        edition = publisher.look([desk.root], now=now)
        return publisher.publish(content, edition, now=now)


def reason(config: Path, imei: int) -> str:
    told = run("check", f"{imei}", "--config", config, "--json").document
    return next(n for n, code in FIXED_REASONS.items() if code == told["reason"])


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    first, again = own_desk(tmp_path / "own"), own_desk(tmp_path / "own")
    assert first == again
    for path in (first.folder, first.key, first.folder / "root.key"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    keys = open_keys((first.folder / "feed" / "keys").read_bytes(), [first.root], now=NOW)
    assert len(keys.keys) == 1


def test_a_depot_that_was_moved_finds_its_own_feed(tmp_path: Path) -> None:
    before = own_desk(tmp_path / "here" / "own")
    publish(before, TERMINAL, now=NOW)
    (tmp_path / "here").rename(tmp_path / "there")
    after = own_desk(tmp_path / "there" / "own")
    assert after.root_key == before.root_key
    assert publish(after, TERMINAL, PHONE, now=NOW + 1).head.serial == 2


def test_a_quiet_head_is_signed_anew(tmp_path: Path) -> None:
    follow = load_config(write_config(tmp_path)).operator_feed
    assert not has_word(follow)
    assert follow.desk is not None
    desk = own_desk(follow.desk)
    publish(desk, TERMINAL, now=NOW)
    path = follow.address.folder / HEAD_NAME
    os.utime(path, (NOW, NOW))
    keys = open_keys((path.parent / "keys").read_bytes(), [desk.root], now=NOW)
    assert has_word(follow, lambda: NOW + 1_000)
    assert open_head(path.read_bytes(), keys.keys).made_at == NOW
    assert has_word(follow, lambda: NOW + 2_000)
    assert open_head(path.read_bytes(), keys.keys).made_at == NOW + 2_000


def test_a_damaged_key_stops_no_node(tmp_path: Path) -> None:
    follow = load_config(write_config(tmp_path)).operator_feed
    assert follow.desk is not None
    own_desk(follow.desk).key.write_text("not a key")
    assert not has_word(follow)
    with pytest.raises(Refused, match="key-file-malformed"):
        own_desk(follow.desk)


@pytest.fixture
def config(tmp_path: Path, loaded: Path) -> Path:
    """A node with registry data, whose registry id in the own feed is the one of these tests."""
    config = write_config(tmp_path / "node", '[operator_feed]\nregistry = "test"\nevery = 1\n')
    with_registry(config, loaded)
    return config


def with_registry(config: Path, loaded: Path) -> None:
    """The sample's registry data, and no operator's."""
    depot = config.parent / "depot"
    shutil.copytree(loaded / "depot", depot, ignore=shutil.ignore_patterns("*.sock", "operator*"))
    manifest = json.loads((depot / "manifest.json").read_text())
    manifest["feeds"]["operator"] = []
    (depot / "manifest.json").write_text(json.dumps(manifest))


def test_its_word_arrives_while_checks_go_on(config: Path) -> None:
    with serving(config.parent) as node:
        assert reason(config, TERMINAL) != "exempt-equipment"
        desk = own_desk(config.parent / "depot" / "operator")
        publish(desk, TERMINAL, now=NOW)
        node.wait_for("operator feed, sync: snapshot [first-load]")
        assert reason(config, TERMINAL) == "exempt-equipment"
        publish(desk, TERMINAL, PHONE, now=NOW + 1)
        node.wait_for("operator feed, sync: deltas [deltas]")
        assert reason(config, PHONE) == "exempt-equipment"
        told = run("sync", "status", "--operator", "--config", config, "--json").document
        assert (told["serial"], told["stale"]) == (2, False)
    with serving(config.parent):
        assert reason(config, PHONE) == "exempt-equipment"


def test_nodes_that_name_it_share_one_truth(tmp_path: Path, config: Path, loaded: Path) -> None:
    desk = own_desk(tmp_path / "desk")
    publish(desk, TERMINAL, now=NOW)
    more = (
        f'[operator_feed]\nurl = "../desk/feed"\nroot_key = "{key_text(desk.root, "root")}"\n'
        'registry = "test"\nevery = 1\n'
    )
    others = [write_config(tmp_path / name, more) for name in ("a", "b")]
    for other in others:
        with_registry(other, loaded)
        with serving(other.parent) as node:
            node.wait_for("operator feed, sync: snapshot [first-load]")
            assert reason(other, TERMINAL) == "exempt-equipment"


def test_what_newly_refuses_too_many_waits(config: Path, loaded: Path) -> None:
    config.write_text(config.read_text() + "[guard]\nmax_newly_refused = 0\n")
    white = next(
        Depot(loaded / "depot").open_newest("registry").generation.sections["white"].rows()
    )
    stolen = Listed(frozenset([(int(white[0, 0]),)]))
    desk = own_desk(config.parent / "depot" / "operator")
    content = generation_of({"black.stolen": stolen}, feed="operator")
    with desk.at_work(Habits()) as publisher:
        publisher.publish(content, publisher.look([desk.root], now=NOW), now=NOW)
    with serving(config.parent) as node:
        held_then_accepted(node, config)


def held_then_accepted(node: Node, config: Path) -> None:
    node.wait_for("operator feed, sync: held [guard]")
    told = run("sync", "status", "--operator", "--config", config, "--json")
    assert told.code == 2
    assert "newly refused (by reason: stolen" in str(told.document["waiting"])
    assert run("sync", "accept", "--yes", "--config", config).code == 0
    node.wait_for("operator feed, sync: snapshot")
