"""Orders by hand, typed at a real node, and without one: they serve, last, end and wait."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eir.core.policy import FIXED_REASONS
from eir.ops import ordering
from eir.ops.order_words import standing_orders
from eir.ops.own_feed import own_desk
from eir.ops.settings.config import load_config
from eir.store.depot import Depot
from eir.store.served import Served
from tests.ops.conftest import Node, run, serving, until, write_config
from tests.ops.test_own_feed import with_registry

pytest.importorskip("duckdb")

STOLEN, GRACE_EXPIRED, UNKNOWN = "359999010000065", "359999010000131", "359999010000164"
NUMBER = "09990000013"
WHY = ("--why", "ticket 4711")


@pytest.fixture
def config(tmp_path: Path, loaded: Path) -> Path:
    """A node with the sample's registry data, and nothing of the operator's."""
    config = write_config(tmp_path / "node", "\n[operator_feed]\nevery = 1\n")
    with_registry(config, loaded)
    return config


@pytest.fixture
def node(config: Path) -> Iterator[Node]:
    with serving(config.parent) as node:
        yield node


def told(config: Path, *words: str) -> dict[str, object]:
    """What the node answers about a device: status and reason."""
    return run("check", *words, "--config", config, "--json").document


def order(config: Path, *words: str, code: int = 0) -> dict[str, object]:
    ran = run(*words, "--config", config, "--json")
    assert ran.code == code, ran.err + ran.out
    return ran.document


def by(config: Path, *words: str) -> list[dict[str, object]]:
    return json.loads(run(*words, "--config", config, "--json").out)


def test_an_order_serves_when_the_command_ends(node: Node, config: Path) -> None:
    assert told(config, STOLEN)["status"] == "STATUS_BLACKLISTED"
    given = order(config, "override", "allow", STOLEN, "--forced", "--until", "7d", *WHY)
    assert (given["fate"], given["serial"]) == ("serves", 1)
    assert told(config, STOLEN)["reason"] == FIXED_REASONS["override-allow"]
    (row,) = by(config, "override", "list")
    assert (row["imei"], row["why"], bool(row["who"])) == (STOLEN[:14], "ticket 4711", True)
    order(config, "override", "end", STOLEN)
    assert told(config, STOLEN)["status"] == "STATUS_BLACKLISTED"
    assert order(config, "hold", "add", "--until", "2d", "--reason", "grace-expired", *WHY)
    assert told(config, GRACE_EXPIRED, NUMBER)["status"] == "STATUS_GREYLISTED"
    assert told(config, STOLEN)["status"] == "STATUS_BLACKLISTED"
    status = run("status", "--config", config, "--json").document
    (standing,) = status["orders"]  # type: ignore[misc]
    assert standing["what"].endswith("grace-expired")
    (hold,) = by(config, "hold", "list")
    order(config, "hold", "end", str(hold["hold"]))
    assert told(config, GRACE_EXPIRED, NUMBER)["status"] == "STATUS_BLACKLISTED"
    order(config, "exempt", "add", "equipment", UNKNOWN[:8], *WHY)
    assert told(config, UNKNOWN)["reason"] == FIXED_REASONS["exempt-equipment"]
    order(config, "exempt", "remove", "equipment", UNKNOWN)
    assert told(config, UNKNOWN)["reason"] == FIXED_REASONS["not-registered"]


def test_shadow_is_one_command_and_the_way_back_is_weighed(node: Node, config: Path) -> None:
    config.write_text(config.read_text() + "\n[guard]\nmax_newly_refused = 10\n")
    assert run("reload", "--config", config).code == 0
    order(config, "mode", "shadow", *WHY)
    assert told(config, STOLEN)["status"] == "STATUS_GREYLISTED"
    status = run("status", "--config", config, "--json").document
    assert status["mode"] == "shadow"
    held = order(config, "mode", "setting", *WHY, code=2)
    assert held["fate"] == "held"
    assert "newly refused" in str(held["detail"])
    assert told(config, STOLEN)["status"] == "STATUS_GREYLISTED"
    assert run("sync", "accept", "--yes", "--config", config).code == 0
    until(lambda: told(config, STOLEN)["status"] == "STATUS_BLACKLISTED", "enforced again")


def test_an_order_behind_one_that_a_start_holds_is_held_too_and_says_why(config: Path) -> None:
    with serving(config.parent):
        assert told(config, UNKNOWN)["status"] == "STATUS_GREYLISTED"
    assert order(config, "override", "deny", UNKNOWN, "--forever", *WHY)["fate"] == "kept"
    config.write_text(config.read_text() + "\n[guard]\nmax_newly_refused = 0\n")
    with serving(config.parent) as node:
        node.wait_for("guard-held")
        ran = run("override", "allow", STOLEN, "--forced", "--forever", *WHY, "--config", config)
        assert ran.code == 2
        figures = "newly refused (by reason: override-deny 1; by TAC: 35999901 1)"
        rule = "beyond [guard] max_newly_refused = 0"
        for shown in (ran.out, run("override", "list", "--config", config).out):
            assert "HELD" in shown
            assert f"{figures}, {rule}" in shown
            assert "`eir sync accept`" in shown
        waits = run("sync", "status", "--operator", "--config", config)
        assert (waits.code, rule in waits.out) == (2, True)
        assert told(config, STOLEN)["status"] == "STATUS_BLACKLISTED"
        assert run("sync", "accept", "--yes", "--config", config).code == 0
        assert told(config, STOLEN)["reason"] == FIXED_REASONS["override-allow"]
        assert told(config, UNKNOWN)["status"] == "STATUS_BLACKLISTED"
        assert "HELD" not in run("override", "list", "--config", config).out


def test_an_order_does_not_wait_for_what_a_reload_holds(config: Path) -> None:
    config.write_text(config.read_text().replace("every = 1\n", "every = 1800\n"))
    with serving(config.parent):
        order(config, "override", "deny", UNKNOWN, "--forever", *WHY)
        strict = '\n[policy.status]\nnot-registered = "BLACKLISTED"\n'
        config.write_text(config.read_text() + strict)
        assert "guard-held" in run("reload", "--config", config).err
        given = order(config, "override", "allow", STOLEN, "--forced", "--forever", *WHY)
        assert given["fate"] == "serves"
        assert told(config, STOLEN)["reason"] == FIXED_REASONS["override-allow"]


def test_a_reason_is_shown_as_it_was_typed(config: Path) -> None:
    why = "see [red] :warning: [/b]"
    order(config, "override", "allow", STOLEN, "--forever", "--why", why)
    assert why in run("override", "list", "--config", config).out


def test_it_lasts_over_a_kill_and_a_registry_load(config: Path, lists: Path) -> None:
    with serving(config.parent):
        order(config, "override", "allow", STOLEN, "--forced", "--forever", *WHY)
        order(config, "mode", "shadow", *WHY)
    given = order(config, "override", "deny", UNKNOWN, "--forever", *WHY)
    assert (given["fate"], given["serial"]) == ("kept", 3)
    assert run("load", lists / "registry.toml", "--config", config).code == 0
    with serving(config.parent):
        assert told(config, STOLEN)["reason"] == FIXED_REASONS["override-allow"]
        denied = FIXED_REASONS["override-deny"]
        until(lambda: told(config, UNKNOWN)["reason"] == denied, "the order without a node")
        verdict = told(config, UNKNOWN)
        assert verdict["decided_status"] == "STATUS_BLACKLISTED"
        assert verdict["status"] == "STATUS_GREYLISTED"


def test_it_ends_by_itself(node: Node, config: Path) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 20))
    order(config, "override", "allow", STOLEN, "--forced", "--until", moment, *WHY)
    until(lambda: told(config, STOLEN)["status"] == "STATUS_BLACKLISTED", "the override ended")


def test_no_order_after_a_jump_of_the_clock_takes_protection_away(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time())
    Depot(config.parent / "depot").served.append(Served(now, {}, "", now, 3600), b"")
    order(config, "hold", "add", "--until", "2d", *WHY)
    order(config, "override", "allow", STOLEN, "--until", "2d", *WHY)
    order(config, "override", "deny", UNKNOWN, "--until", "2d", *WHY)
    monkeypatch.setattr(time, "time", lambda: now + 400 * 86_400.0)
    order(config, "exempt", "add", "equipment", UNKNOWN, *WHY)
    (hold,) = by(config, "hold", "list")
    (override,) = by(config, "override", "list")
    assert override["action"] == "allow"
    for words in (("hold", "list"), ("override", "list")):
        assert "ended" not in run(*words, "--config", config).out
    settings = load_config(config)
    content = ordering.standing(settings, ordering.desk_of(settings))
    (told_of,) = standing_orders(content, ordering.grace_time(settings, int(time.time())))
    assert str(hold["hold"]) in told_of.what


def test_a_load_leaves_what_is_by_hand(node: Node, config: Path, lists: Path) -> None:
    order(config, "override", "allow", STOLEN, "--forced", "--forever", *WHY)
    order(config, "exempt", "add", "all", NUMBER, *WHY)
    config.write_text(config.read_text() + "\n[guard]\nmax_newly_refused = 1000000\n")
    assert run("reload", "--config", config).code == 0
    given = order(config, "load", str(lists / "operator.toml"))
    assert (given["fate"], given["serial"]) == ("serves", 3)
    assert told(config, STOLEN)["reason"] == FIXED_REASONS["override-allow"]
    assert told(config, GRACE_EXPIRED, NUMBER)["reason"] == FIXED_REASONS["exempt-subscriber"]
    assert order(config, "load", str(lists / "operator.toml"))["serial"] == 3


def test_every_node_of_the_feed_has_it(tmp_path: Path, loaded: Path) -> None:
    desk = own_desk(tmp_path / "desk")
    more = (
        f'\n[operator_feed]\nurl = "{desk.url}"\nroot_key = "{desk.root_key}"\n'
        'registry = "local"\nevery = 1\n'
    )
    configs = [write_config(tmp_path / name, more) for name in ("a", "b")]
    for config in configs:
        with_registry(config, loaded)
    ran = run("override", "deny", UNKNOWN, "--forever", *WHY, "--config", configs[0])
    assert ran.code == 3
    assert "order-elsewhere" in ran.err
    with serving(configs[0].parent), serving(configs[1].parent):
        given = order(
            configs[0], "override", "deny", UNKNOWN, "--forever", *WHY, "--desk", str(desk.folder)
        )
        assert given["fate"] == "serves"
        for config in configs:
            until(
                lambda config=config: told(config, UNKNOWN)["status"] == "STATUS_BLACKLISTED",  # type: ignore[misc]
                "it reached the other node",
            )


def test_what_can_not_be_meant_changes_nothing(config: Path) -> None:
    for words, code in (
        (("override", "allow", "359999010000064", "--forever", *WHY), "imei-check-digit"),
        (("override", "allow", STOLEN, *WHY), "order-until"),
        (("override", "allow", STOLEN, "--forever", "--why", " "), "order-why"),
        (("hold", "add", "--until", "1d", "--reason", "stolen", *WHY), "hold-invalid"),
        (("hold", "end", "abcdef"), "order-none"),
        (("mode", "off", *WHY), "order-mode"),
        (("exempt", "add", "everything", NUMBER, *WHY), "order-scope"),
    ):
        ran = run(*words, "--config", config)
        assert (ran.code, code in ran.err) == (3, True), ran.err
    assert by(config, "override", "list") == []
