"""A node that follows a feed in a folder: what is published arrives, and people have a say."""

from __future__ import annotations

import io
import json
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from eir.core.policy import FIXED_REASONS
from eir.feed.envelope import SecretKey
from eir.feed.head import KEYS_NAME
from eir.feed.keys import Keys, key_text, seal_keys
from eir.feed.publish import Habits, Published, Publisher
from eir.feed.site import FolderSite
from tests.core.contents import Listed, generation_of
from tests.ops.conftest import PATIENCE_S, Node, Ran, run, serving, write_config

pytest.importorskip("obstore")

ROOT, KEY = SecretKey(b"r" * 32), SecretKey(b"k" * 32)
FIRST = 35_999_900_000_000
NOT_ACTIVATED = FIXED_REASONS["not-activated"]


class Feed:
    """A registry's feed: its white list of so many devices, of which some are stolen."""

    def __init__(self, folder: Path) -> None:
        self.site = FolderSite(folder)
        self.now = int(time.time()) - 100
        keys = Keys(1, (KEY.public,), self.now - 100, self.now + 10**8)
        self.site.swap(KEYS_NAME, seal_keys(keys, ROOT), was=None)
        desk = folder.parent / "desk"
        desk.mkdir()
        self.publisher = Publisher(self.site, KEY, desk, Habits())

    def publish(
        self, count: int, stolen: Sequence[int] = (), *, new_session: bool = False, **more: Listed
    ) -> Published:
        self.now += 1
        white = frozenset((FIRST + n,) for n in range(0, 2 * count, 2))
        black = frozenset((FIRST + 2 * n,) for n in stolen)
        content = generation_of({"white": Listed(white), "black.stolen": Listed(black), **more})
        edition = self.publisher.look([ROOT.public], now=self.now)
        return self.publisher.publish(content, edition, now=self.now, new_session=new_session)


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    feed = Feed(tmp_path / "feed")
    feed.publish(5_000)
    return feed


@pytest.fixture
def config(tmp_path: Path, feed: Feed) -> Path:
    more = (
        '\n[metrics]\nlisten = "127.0.0.1:0"\n'
        f'\n[feed]\nurl = "../feed"\nroot_key = "{key_text(ROOT.public, "root")}"\n'
        'registry = "test"\nevery = 1\n[guard]\nmax_newly_refused = 10\n'
    )
    return write_config(tmp_path / "node", more)


@pytest.fixture
def node(config: Path) -> Iterator[Node]:
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        yield node


def alarms(config: Path) -> list[str]:
    return run("status", "--config", config, "--json").document["alarms"]  # type: ignore[return-value]


def status(config: Path) -> dict[str, object]:
    return run("sync", "status", "--config", config, "--json").document


def metrics(node: Node) -> dict[str, float]:
    """What the node exposes of its feed, by name and labels as they are written."""
    (address,) = re.findall(r"metrics on (\S+)", node.log)
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("eir_sync_")
    }


def served(config: Path) -> int:
    told = run("status", "--config", config, "--json").document
    (generation,) = told["generations"]  # type: ignore[misc]
    return int(generation["origin"]["serial"])


def sync(config: Path, *words: str) -> Ran:
    asked = ("run", *words) if words else ("--once",)
    return run("sync", *asked, "--config", config, "--json")


def test_what_is_published_is_answered(node: Node, feed: Feed, config: Path) -> None:
    feed.publish(5_000, stolen=[1])
    node.wait_for("sync: deltas [deltas]")
    told = run("check", f"{FIRST + 2}", "--config", config, "--json").document
    assert (told["status"], told["reason"]) == ("STATUS_BLACKLISTED", 256)
    told = run("check", f"{FIRST}", "--config", config, "--json").document
    assert told["reason"] == NOT_ACTIVATED
    assert served(config) == 2


def test_many_deltas_reach_the_workers_one_by_one(node: Node, feed: Feed, config: Path) -> None:
    for number in range(1, 6):
        feed.publish(5_000, stolen=range(number))
        assert sync(config).document["to"] == number + 1
        told = run("check", f"{FIRST + 2 * (number - 1)}", "--config", config, "--json").document
        assert told["status"] == "STATUS_BLACKLISTED"


def test_the_base_is_compacted_while_checks_go_on(feed: Feed, config: Path) -> None:
    config.write_text(config.read_text() + "[compaction]\nmax_deltas = 3\n")
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        for number in range(1, 4):
            feed.publish(5_000, stolen=range(number))
            assert sync(config).document["to"] == number + 1
        node.wait_for("compaction: registry serial 4: done")
        told = run("status", "--config", config, "--json").document["overlays"]
        assert "registry serial 4: done in " in told[0]["last"]  # type: ignore[index]
        assert "registry overlay" in run("status", "--config", config).out
        feed.publish(5_000, stolen=range(4))
        assert sync(config).document["to"] == 5
        assert served(config) == 5
        for number in range(4):
            told = run("check", f"{FIRST + 2 * number}", "--config", config, "--json").document
            assert told["status"] == "STATUS_BLACKLISTED"
        assert run("diff", 1, 3, "--config", config, "--json").document["sections"] == {
            "black.stolen": {"removed": 0, "added": 2}
        }
        assert node.stop() == 0
    with serving(config.parent):
        assert served(config) == 5


def test_a_restart_serves_base_and_deltas(feed: Feed, config: Path) -> None:
    assert sync(config).document["reason"] == "first-load"
    feed.publish(5_000, stolen=[1, 2])
    assert sync(config).document["kind"] == "deltas"
    with serving(config.parent):
        assert served(config) == 2
        told = run("check", f"{FIRST + 4}", "--config", config, "--json").document
        assert told["status"] == "STATUS_BLACKLISTED"


def test_too_much_waits_for_a_person(node: Node, feed: Feed, config: Path) -> None:
    feed.publish(5_000, stolen=range(11))
    node.wait_for("sync: held [guard]")
    told = status(config)
    assert (told["serial"], told["head_serial"]) == (1, 2)
    assert "11 of 11 devices and pairs newly refused (by reason: stolen 11" in told["waiting"]
    assert served(config) == 1
    ran = run("sync", "accept", "--yes", "--config", config)
    assert ran.code == 0, ran.err
    assert "stolen 11" in ran.out
    node.wait_for("sync: deltas [deltas]")
    assert served(config) == 2
    assert run("sync", "accept", "--yes", "--config", config).code == 3


def test_the_metrics_tell_of_the_feed(node: Node, feed: Feed, config: Path) -> None:
    one = '{feed="registry"}'
    told = metrics(node)
    assert told[f"eir_sync_serial{one}"] == told[f"eir_sync_head_serial{one}"] == 1
    assert told['eir_sync_runs_total{feed="registry",kind="snapshot",reason="first-load"}'] == 1
    assert told[f"eir_sync_bytes_total{one}"] > 1_000
    assert 0 < told[f"eir_sync_age_seconds{one}"] < 3_600
    feed.publish(5_000, stolen=range(11))
    node.wait_for("sync: held [guard]")
    told = metrics(node)
    assert (told[f"eir_sync_held{one}"], told[f"eir_sync_lag_serials{one}"]) == (1, 1)
    assert told['eir_sync_runs_total{feed="registry",kind="held",reason="guard"}'] >= 1
    assert run("rollback", 1, "--config", config).code == 0
    assert metrics(node)[f"eir_sync_pinned{one}"] == 1
    assert told[f"eir_sync_stale{one}"] == told[f"eir_sync_detached{one}"] == 0


def test_a_rollback_pins_until_released(node: Node, feed: Feed, config: Path) -> None:
    feed.publish(5_000, stolen=[1])
    assert sync(config).document["to"] == 2
    assert run("rollback", 1, "--config", config).code == 0
    assert served(config) == 1
    told = run("status", "--config", config, "--json").document
    assert any("pinned to serial 1" in alarm for alarm in told["alarms"])
    feed.publish(5_000, stolen=[1, 2])
    assert sync(config).document["to"] == 3
    assert (served(config), status(config)["serial"]) == (1, 3)
    assert run("rollback", 0, "--config", config).code == 0
    assert served(config) == 3
    assert run("rollback", 99, "--config", config).code == 3
    shown = run("diff", 1, 3, "--config", config, "--json").document
    assert shown["sections"] == {"black.stolen": {"removed": 0, "added": 2}}


def test_a_pin_means_the_same_in_a_new_session(feed: Feed, config: Path) -> None:
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        old = status(config)["session"]
        feed.publish(5_000, stolen=[1])
        assert sync(config).document["to"] == 2
        assert run("rollback", 1, "--config", config).code == 0
        feed.publish(5_000, stolen=[1], new_session=True)
        ran = sync(config).document
        assert (ran["reason"], ran["to"]) == ("new-session", 1)
        told = status(config)
        assert (told["pinned"], told["pinned_session"]) == (1, old)
        assert told["session"] != old
        assert f"serial 1 of session {old}" in run("sync", "status", "--config", config).out
        asked = "check", FIRST + 2, "--config", config, "--json"
        assert run(*asked).document["status"] == "STATUS_GREYLISTED"
        assert node.stop() == 0
    with serving(config.parent):
        assert run(*asked).document["status"] == "STATUS_GREYLISTED"
        assert run("rollback", 0, "--config", config).code == 0
        assert run(*asked).document["status"] == "STATUS_BLACKLISTED"


def test_a_pin_that_cant_be_read_lets_nothing_newer_serve(feed: Feed, config: Path) -> None:
    pin = config.parent / "depot" / "registry.pin"
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        assert run("rollback", 1, "--config", config).code == 0
        pin.write_bytes(b"\xff" * 8)
        feed.publish(5_001)
        node.wait_for(f"{pin}: section pin: ")
        (alarm,) = (line for line in alarms(config) if "the pin can't be read" in line)
        assert str(pin) in alarm
        ran = run("reload", "--config", config)
        assert ran.code == 3
        assert str(pin) in ran.err
        assert served(config) == 1
        node.stop()
    with serving(config.parent) as node:
        assert served(config) == 1
        assert run("rollback", 0, "--config", config).code == 0
        assert served(config) == 2
        assert not any("pin" in line for line in alarms(config))


def test_lists_are_loaded_only_when_the_feed_is_left(feed: Feed, config: Path) -> None:
    pytest.importorskip("duckdb")
    folder = config.parent
    (folder / "white.csv").write_text("imei\n35999900000000\n")
    manifest = folder / "lists.toml"
    manifest.write_text(
        'feed = "registry"\nregistry = "local"\n'
        '[[file]]\npath = "white.csv"\nlist = "white"\nformat = "csv"\n'
    )
    ran = run("load", manifest, "--config", config)
    assert ran.code == 3
    assert "feed-followed" in ran.err
    assert run("load", manifest, "--detach-feed", "--config", config).code == 0
    assert status(config)["detached"] is True
    grown = "white grows from 1 items to 5,000, beyond [guard] max_growth_percent = 100"
    nobody = "0 of 4,999 devices and pairs newly refused"
    assert sync(config).document["detail"] == f"{grown}; {nobody}"
    assert run("sync", "accept", "--yes", "--config", config).code == 0
    assert sync(config).document["reason"] == "new-session"
    assert status(config)["detached"] is False


def test_a_policy_that_refuses_more_waits_at_reload(node: Node, config: Path) -> None:
    strict = '\n[policy.status]\nnot-registered = "BLACKLISTED"\n'
    config.write_text(config.read_text() + strict)
    ran = run("reload", "--config", config)
    assert ran.code == 3
    assert "not-registered becomes BLACKLISTED" in ran.err
    told = run("check", "10000000000000", "--config", config, "--json").document
    assert told["status"] == "STATUS_GREYLISTED"
    assert run("sync", "accept", "--yes", "--config", config).code == 0
    told = run("check", "10000000000000", "--config", config, "--json").document
    assert told["status"] == "STATUS_BLACKLISTED"


def test_status_without_a_feed_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path / "node")
    ran = run("sync", "status", "--config", config)
    assert ran.code == 3
    assert "feed-none" in ran.err


def test_status_without_a_node_goes_by_the_clock(feed: Feed, config: Path) -> None:
    ran = run("sync", "status", "--config", config)
    assert ran.code == 2
    assert "none yet of 0" in ran.out
    sync(config)
    assert status(config)["stale"] is False
    config.write_text(config.read_text().replace("every = 1\n", "every = 1\nstale_after = 2\n"))
    assert status(config)["stale"] is True
    assert run("sync", "status", "--config", config).code == 2


def test_runs_that_came_to_the_same_are_one_line(node: Node, feed: Feed, config: Path) -> None:
    for _ in range(3):
        assert sync(config).document["reason"] == "up-to-date"
    told: list[dict[str, object]] = status(config)["outcomes"]  # type: ignore[assignment]
    assert [each["reason"] for each in told] == ["first-load", "up-to-date"]


def test_who_does_not_say_yes_accepts_nothing(
    feed: Feed, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(config)
    feed.publish(9)
    assert sync(config).document["kind"] == "held"
    for typed in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        ran = run("sync", "accept", "--config", config)
        assert ran.code == 1
        assert ran.err == "error: nobody said yes: nothing has changed\n"
        shrunk = "white shrinks from 5,000 items to 9, beyond [guard] max_shrink = 0.2"
        assert f"{shrunk}; 0 of 4,991 devices" in ran.out
    assert sync(config).document["kind"] == "held"


def test_a_feed_that_is_gone_makes_what_serves_stale(feed: Feed, config: Path) -> None:
    config.write_text(config.read_text().replace("every = 1\n", "every = 1\nstale_after = 2\n"))
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        until = time.monotonic() + PATIENCE_S
        while not run("status", "--config", config, "--json").document["stale"]:
            assert time.monotonic() < until
        told = json.loads(run("check", f"{FIRST}", "--config", config, "--json").out)
        assert told["stale"] is True
        assert told["reason"] == NOT_ACTIVATED


def test_a_depot_that_was_damaged_is_healed_by_the_feed(feed: Feed, config: Path) -> None:
    assert sync(config).document["reason"] == "first-load"
    (snapshot,) = (config.parent / "depot" / "snapshots").iterdir()
    snapshot.chmod(0o600)
    raw = snapshot.read_bytes()
    snapshot.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with serving(config.parent) as node:
        node.wait_for("sync: snapshot [first-load]")
        assert served(config) == 1
