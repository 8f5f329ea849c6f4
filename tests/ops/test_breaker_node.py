"""The breaker and the clock of a real node, as its operator meets them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from eir.ops.demo import cast
from eir.serve.control import open_control
from tests.ops.conftest import Node, Ran, run, serving, until

STOLEN = cast.questions()[5]


def check(folder: Path) -> tuple[str, str]:
    """The status that leaves, and the one that was decided."""
    words = (STOLEN.imei, STOLEN.msisdn, "--config", folder / "eir.toml", "--json")
    told = run("check", *words).document
    return str(told["status"]), str(told["decided_status"])


def alarms(folder: Path) -> str:
    return str(run("status", "--config", folder / "eir.toml", "--json").document["alarms"])


def breaker(folder: Path, *words: str) -> Ran:
    return run("breaker", *words, "--config", folder / "eir.toml")


def learned(folder: Path, minutes: int = 60) -> None:
    """The node's page as if it had refused nobody for so long."""
    page = open_control(folder / "depot" / "control")
    for _ in range(minutes):
        page.learn(0)


@pytest.fixture
def quick(folder: Path) -> Path:
    """A node whose breaker opens above nine refusals a minute."""
    config = folder / "eir.toml"
    config.write_text(config.read_text() + "\n[breaker]\nleast_refusals = 10\n")
    learned(folder)
    return folder


def open_it(folder: Path, node: Node) -> None:
    for _ in range(12):
        check(folder)
    node.wait_for("the breaker is open")


def test_too_many_refusals_open_it_until_a_person_resets_it(quick: Path) -> None:
    with serving(quick) as node:
        assert check(quick) == ("STATUS_BLACKLISTED", "STATUS_UNSPECIFIED")
        assert breaker(quick, "status").code == 0
        open_it(quick, node)
        assert check(quick) == ("STATUS_GREYLISTED", "STATUS_BLACKLISTED")
        assert "the breaker is open since" in alarms(quick)
        shown = run("explain", STOLEN.imei, STOLEN.msisdn, "--config", quick / "eir.toml")
        assert "GREYLISTED: stolen, decided BLACKLISTED, made milder by breaker" in shown.out
        ran = breaker(quick, "status")
        assert (ran.code, "OPEN since" in ran.out) == (2, True)
        assert breaker(quick, "reset", "--as-normal", "--why", "it was a test").code == 0
        assert check(quick) == ("STATUS_BLACKLISTED", "STATUS_UNSPECIFIED")
        told = json.loads(breaker(quick, "status", "--json").out)
        assert [each["what"] for each in told["events"]] == ["breaker-reset", "breaker-opened"]
        assert told["events"][0]["why"] == "it was a test"
        assert told["events"][0]["who"]
        assert "the breaker is open" not in alarms(quick)
        assert breaker(quick, "reset", "--why", "again").code == 3


def test_it_is_open_still_when_the_keeper_was_killed_and_another_began(quick: Path) -> None:
    with serving(quick) as node:
        open_it(quick, node)
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        assert check(quick)[0] == "STATUS_GREYLISTED", "workers need no keeper to know"
        with serving(quick):
            assert check(quick)[0] == "STATUS_GREYLISTED"
            assert "the breaker is open since" in alarms(quick)
            assert breaker(quick, "reset", "--why", "looked").code == 0
            assert check(quick)[0] == "STATUS_BLACKLISTED"


def test_a_clock_that_has_jumped_is_settled_by_a_person(folder: Path) -> None:
    page = open_control(folder / "depot" / "control")
    page.stand_still(1_700_000_000, jumped_by=4_000)
    config = folder / "eir.toml"
    with serving(folder):
        assert "the clock jumped by +4000 s" in alarms(folder)
        words = (STOLEN.imei, STOLEN.msisdn, "--config", config, "--json")
        assert run("explain", *words).document["grace_time"] == "1700000000"
        assert run("clock", "status", "--config", config).code == 2
        ran = run("clock", "settle", "--why", "compared", "--config", config)
        assert ran.code == 0, ran.err
        until(lambda: run("clock", "status", "--config", config).code == 0, "settled")
        told = run("clock", "status", "--config", config, "--json").document
        assert [each["what"] for each in told["events"]] == ["clock-settled"]  # type: ignore[attr-defined]
        assert int(str(run("explain", *words).document["grace_time"])) > 1_700_000_000
        assert run("clock", "settle", "--why", "again", "--config", config).code == 3
