"""A start is weighed against what served last; what served once can be asked about later."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from eir.store.depot import Depot
from eir.store.served import Served, ServedFeed, ServedLog
from tests.core.contents import Listed
from tests.ops.conftest import Node, run, serving
from tests.ops.test_following import FIRST, Feed, config, feed, node, served, status, sync

__all__ = ["config", "feed", "node"]

DAY = 86_400
STRICT = '\n[policy.status]\nnot-registered = "BLACKLISTED"\n'


def asked(config: Path, device: int, *more: object) -> dict[str, object]:
    return run("check", f"{device:014d}", *more, "--config", config, "--json").document


def explained(config: Path, device: int, serial: int) -> dict[str, object]:
    return run(
        "explain", f"{device:014d}", "--as-of", serial, "--config", config, "--json"
    ).document


def alarms(config: Path) -> list[str]:
    return run("status", "--config", config, "--json").document["alarms"]  # type: ignore[return-value]


def test_a_policy_that_a_reload_refused_does_not_serve_after_a_restart(
    feed: Feed, config: Path
) -> None:
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        config.write_text(config.read_text() + STRICT)
        assert run("reload", "--config", config).code == 3
        assert node.stop() == 0
    with serving(config.parent) as node:
        node.wait_for("not-registered becomes BLACKLISTED")
        assert asked(config, 10**13)["status"] == "STATUS_GREYLISTED"
        assert any("held: not-registered becomes" in alarm for alarm in alarms(config))
        feed.publish(5_000, stolen=[1])
        node.wait_for("sync: deltas [deltas]")
        assert asked(config, FIRST + 2)["status"] == "STATUS_BLACKLISTED"
        assert asked(config, 10**13)["status"] == "STATUS_GREYLISTED"
        ran = run("sync", "accept", "--yes", "--why", "as agreed", "--config", config)
        assert ran.code == 0, ran.err
        assert asked(config, 10**13)["status"] == "STATUS_BLACKLISTED"
        assert not any("held" in alarm for alarm in alarms(config))
        assert node.stop() == 0
    with serving(config.parent):
        assert asked(config, 10**13)["status"] == "STATUS_BLACKLISTED"


def test_what_came_while_no_node_ran_is_weighed_at_its_start(feed: Feed, config: Path) -> None:
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        assert node.stop() == 0
    for number in (1, 2):
        feed.publish(5_000, stolen=range(number * 8))
        assert sync(config).document["to"] == number + 1
    with serving(config.parent) as node:
        node.wait_for("16 of 16 devices and pairs newly refused")
        assert served(config) == 1
        assert asked(config, FIRST + 2)["status"] == "STATUS_GREYLISTED"
        feed.publish(5_000, stolen=range(17))
        node.wait_for("sync: refused [guard-held]")
        assert served(config) == 1
        assert run("sync", "accept", "--yes", "--config", config).code == 0
        assert served(config) == 4


def test_a_lag_that_lets_more_deadlines_pass_is_weighed_at_a_start(
    feed: Feed, config: Path
) -> None:
    first, number, deadline = FIRST + 20_001, 989_120_000_000, feed.now + 20
    grey = frozenset((first + n, number + n, deadline) for n in range(11))
    feed.publish(5_000, grey=Listed(grey))
    text = config.read_text()
    config.write_text(text + "[grace]\ngrace_lag = 0\n")
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        assert asked(config, first, number)["status"] == "STATUS_GREYLISTED"
        assert node.stop() == 0
    config.write_text(text)
    with serving(config.parent) as node:
        node.wait_for("grace-expired 11")
        feed.publish(5_000, stolen=[1], grey=Listed(grey))
        node.wait_for("sync: deltas [deltas]")
        assert asked(config, FIRST + 2)["status"] == "STATUS_BLACKLISTED"
        assert asked(config, first, number)["status"] == "STATUS_GREYLISTED"
        assert run("sync", "accept", "--yes", "--config", config).code == 0
        assert asked(config, first, number)["status"] == "STATUS_BLACKLISTED"
        assert node.stop() == 0
    with serving(config.parent):
        assert asked(config, first, number)["status"] == "STATUS_BLACKLISTED"


def test_too_little_for_a_first_load_does_not_serve(feed: Feed, config: Path) -> None:
    assert sync(config).document["reason"] == "first-load"
    text = config.read_text()
    config.write_text(text.replace("[guard]\n", "[guard]\nleast_white = 6000\n"))
    with serving(config.parent) as node:
        node.wait_for("white has 5,000 items, at least 6,000 are expected")
        told = run("status", "--config", config, "--json").document
        assert told["ready"] is False
        assert run("sync", "accept", "--yes", "--config", config).code == 0
        assert run("status", "--config", config, "--json").document["ready"] is True


def test_as_of_a_serial_that_served(feed: Feed, config: Path) -> None:
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        feed.publish(5_000, stolen=[1])
        assert sync(config).document["to"] == 2
        assert node.stop() == 0
    then, now = explained(config, FIRST + 2, 1), explained(config, FIRST + 2, 2)
    assert (then["status"], now["status"]) == ("STATUS_GREYLISTED", "STATUS_BLACKLISTED")
    assert then["as_of"]["serial"] == 1  # type: ignore[index]
    assert then["as_of"]["served_until"] == now["as_of"]["served_from"]  # type: ignore[index]
    assert [int(each["serial"]) for each in then["origins"]] == [1]  # type: ignore[union-attr]
    config.write_text(config.read_text() + '[policy]\nmode = "shadow"\n')
    assert explained(config, FIRST + 2, 2)["status"] == "STATUS_BLACKLISTED"
    ran = run("explain", f"{FIRST + 2:014d}", "--as-of", 1, "--config", config)
    assert "as of serial 1, which served from" in ran.out
    ran = run("explain", f"{FIRST + 2:014d}", "--as-of", 9, "--config", config)
    assert (ran.code, "kept are 1 to 2 of session" in ran.err) == (3, True)


def test_as_of_a_serial_that_came_with_others(feed: Feed, config: Path) -> None:
    assert sync(config).document["to"] == 1
    for number in (1, 2):
        feed.publish(5_000, stolen=range(number))
    assert sync(config).document["to"] == 3
    told = explained(config, FIRST + 2, 2)
    assert told["as_of"] == {"serial": 2, "served_from": 0, "served_until": 0}
    assert told["status"] == "STATUS_GREYLISTED"
    assert explained(config, FIRST, 2)["status"] == "STATUS_BLACKLISTED"


def test_as_of_a_serial_whose_files_are_damaged(feed: Feed, config: Path) -> None:
    assert sync(config).document["to"] == 1
    feed.publish(5_000, stolen=[1])
    assert sync(config).document["to"] == 2
    (delta,) = (config.parent / "depot/deltas").iterdir()
    delta.chmod(0o600)
    raw = bytearray(delta.read_bytes())
    raw[-1] ^= 1
    delta.write_bytes(raw)
    ran = run("explain", f"{FIRST + 2:014d}", "--as-of", 2, "--config", config)
    assert (ran.code, ran.out) == (1, "")
    assert "registry serial 2 can't be built again: 1 is good" in ran.err


def test_who_did_what_is_told(node: Node, feed: Feed, config: Path) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    feed.publish(5_000, stolen=[1])
    assert sync(config).document["to"] == 2
    assert run("rollback", 1, "--why", "a wrong list", "--config", config).code == 0
    told = status(config)
    (act,) = told["events"]  # type: ignore[misc]
    pin = f"serial {told['pinned']} of session {told['pinned_session']}"
    assert (act["what"], act["why"], act["detail"]) == (
        "rolled-back",
        "a wrong list",
        f"registry {pin}",
    )
    assert me in act["who"]
    now = run("status", "--config", config, "--json").document
    assert now["happenings"][0]["what"] == "rolled-back"  # type: ignore[index]
    assert (told["pinned"], told["pinned_session"]) == (1, told["session"])
    assert any(f"pinned to {pin} by {act['who']}" in alarm for alarm in alarms(config))
    assert run("rollback", 0, "--config", config).code == 0
    assert "released" in run("sync", "status", "--config", config).out
    assert "a wrong list" in run("status", "--config", config).out


def line(at: int, serial: int, policy: str = "p") -> Served:
    return Served(at, {"registry": ServedFeed("s", serial, f"{serial}", at)}, policy, at, 3_600)


def policy_named(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()


def test_a_cut_line_is_left_out_and_the_next_is_whole(tmp_path: Path) -> None:
    log = ServedLog(tmp_path, keep_days=30)
    assert log.last() is None
    raw = b"policy"
    first, second = (line(n, n, policy_named(raw)) for n in (1, 2))
    log.append(first, raw)
    with (tmp_path / "served.jsonl").open("ab") as file:
        file.write(b'{"at": 2, "feeds"')
    assert log.last() == first
    log.append(second, raw)
    assert list(log.lines()) == [first, second]
    assert log.policy(first.policy) == raw
    (tmp_path / "policies" / f"{first.policy}.json").write_bytes(b"another")
    assert log.policy(first.policy) is None


def test_lines_and_policies_go_with_what_they_tell_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eir.store.served._PRUNE_EVERY", 1)
    log = ServedLog(tmp_path, keep_days=2)
    for day in range(6):
        raw = f"policy {day // 2}".encode()
        log.append(line(day * DAY, day + 1, policy_named(raw)), raw)
    told = [each.feeds["registry"].serial for each in log.lines()]
    assert told == [2, 3, 4, 5, 6]
    log.append(line(20 * DAY, 9, policy_named(b"new")), b"new")
    log.append(line(21 * DAY, 10, policy_named(b"new")), b"new")
    assert [each.feeds["registry"].serial for each in log.lines()] == [6, 9, 10]
    assert len(list((tmp_path / "policies").iterdir())) == 2


def test_what_serves_is_not_pruned(tmp_path: Path) -> None:
    from tests.faults.conftest import publish

    depot = Depot(tmp_path)
    publish(depot, 1)
    (row,) = depot.kept("registry")
    raw = b"policy"
    feeds = {"registry": ServedFeed(row.session, 1, row.digest, 1)}
    depot.served.append(Served(1, feeds, policy_named(raw), 1, 1), raw)
    for serial in range(2, 9):
        publish(depot, serial)
    assert [each.serial for each in depot.kept("registry")] == [8, 7, 6, 1]
