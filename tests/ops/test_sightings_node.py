"""Sightings of a real node: asked through its door, told once, whoever is killed meanwhile."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from eir.client.node import NodeClient
from eir.ops.demo import cast
from tests.ops.conftest import Ran, run, serving, until, write_config

NUMBER = "989121234567"


def unknown(count: int, begin: int = 0) -> list[str]:
    """Devices that no list knows, without check digit."""
    return [f"{11_000_000_000_000 + begin + n:014d}" for n in range(count)]


def ask(folder: Path, imeis: Sequence[str]) -> None:
    with NodeClient(f"unix:{folder}/door") as client:
        for imei in imeis:
            client.check(imei, NUMBER, "")


@pytest.fixture
def telling(folder: Path) -> Path:
    """A node that puts what it has seen into a folder beside it, once a second."""
    config = folder / "eir.toml"
    config.write_text(config.read_text() + '\n[sightings]\noutbox = "../outbox"\nevery = 1\n')
    return folder


def outbox(folder: Path) -> Path:
    return folder.parent / "outbox"


def read(folder: Path, command: str, *words: str) -> Ran:
    told = run("sightings", "status", "--config", folder / "eir.toml", "--json").document
    return run("sightings", command, outbox(folder), "--key", told["key"], *words)


def told(folder: Path) -> list[str]:
    """The IMEIs of all files so far."""
    if not outbox(folder).exists():
        return []
    rows = csv.DictReader(io.StringIO(read(folder, "show").out))
    return [row["imei"] for row in rows]


def wait_for(folder: Path, imeis: Sequence[str]) -> None:
    until(lambda: set(imeis) <= set(told(folder)), "every sighting in the outbox")


def test_who_is_unknown_is_told_once_with_number_and_reason(telling: Path) -> None:
    bound = cast.questions()[8]
    assert bound.reason == "bound"
    with serving(telling):
        for _ in range(3):
            ask(telling, unknown(20))
        run("check", bound.imei, "--imsi", bound.imsi, "--config", telling / "eir.toml")
        wait_for(telling, unknown(20))
    assert sorted(told(telling)) == unknown(20)
    first = json.loads(read(telling, "show", "--json").out.splitlines()[0])
    assert (first["msisdn"], first["reason"]) == (NUMBER, "not-registered")
    ran = read(telling, "verify")
    assert (ran.code, "20 sightings" in ran.out) == (0, True)


def test_killed_workers_and_keepers_lose_nothing_and_repeat_nothing(telling: Path) -> None:
    with serving(telling) as node:
        ask(telling, unknown(30))
        for worker in workers(telling):
            os.kill(worker, signal.SIGKILL)
        wait_for(telling, unknown(30))
        until(lambda: bool(workers(telling)), "another worker")
        ask(telling, unknown(40, begin=10))
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        ask(telling, unknown(40, begin=30))
        with serving(telling):
            wait_for(telling, unknown(70))
            ask(telling, unknown(80))
            wait_for(telling, unknown(80))
    assert sorted(told(telling)) == unknown(80)
    document = json.loads(read(telling, "verify", "--json").out)
    (node_of,) = document["nodes"].values()
    assert (document["refused"], node_of["first"], node_of["missing"]) == ({}, 1, [])


def workers(folder: Path) -> list[int]:
    status = run("status", "--config", folder / "eir.toml", "--json").document
    return [each["pid"] for each in status["workers"] if each["state"] == "answering"]


def test_a_census_tells_everybody(telling: Path) -> None:
    config = telling / "eir.toml"
    config.write_text(config.read_text() + "census = true\n")
    with serving(telling), NodeClient(f"unix:{telling}/door") as client:
        for each in cast.questions():
            client.check(each.imei, each.msisdn, each.imsi)
        named = {each.imei[:14] for each in cast.questions() if each.reason != "malformed-imei"}
        wait_for(telling, sorted(named))
    assert set(told(telling)) == named


def test_the_registry_sees_holes_strangers_and_changes(telling: Path) -> None:
    with serving(telling):
        for begin in (0, 10, 20):
            ask(telling, unknown(10, begin=begin))
            wait_for(telling, unknown(10, begin=begin))
    first, second, *_ = sorted(outbox(telling).glob("sightings-*"))
    kept = second.read_bytes()
    second.unlink()
    ran = read(telling, "verify")
    assert (ran.code, "MISSING 2" in ran.out) == (2, True)
    second.write_bytes(first.read_bytes())
    ran = read(telling, "verify")
    assert (ran.code, "says it is 1" in ran.out) == (3, True)
    second.chmod(0o600)
    second.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert read(telling, "show").code == 3
    stranger = "eir-node-1:mfrggzdf-mztwq2lk-nnwg23tp-obyxe43u-ov3ho6dz-piydcmrt-gq2tmoa5"
    assert run("sightings", "verify", outbox(telling), "--key", stranger).code == 3


def test_without_an_outbox_nothing_is_noted(folder: Path) -> None:
    with serving(folder):
        ask(folder, unknown(5))
        assert run("sightings", "status", "--config", folder / "eir.toml").code == 3
    assert not (folder / "depot" / "sightings").exists()


def test_the_key_is_told_before_the_first_start_from_a_depot_that_is_closed_to_others(
    tmp_path: Path,
) -> None:
    config = write_config(tmp_path, '\n[sightings]\noutbox = "outbox"\n')
    first = run("sightings", "status", "--config", config, "--json").document
    assert first["key"] == run("sightings", "status", "--config", config, "--json").document["key"]
    assert (first["next_sequence"], first["pending_rows"]) == (1, 0)
    for folder in ("depot", "depot/sightings"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
