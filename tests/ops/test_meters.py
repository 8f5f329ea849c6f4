"""Every metric says what the node says; page and dashboard speak of those and of no others."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eir.core.explanation import Origin
from eir.core.policy import BLACK_BASE, Status
from eir.doors.grpc_admin import NodeStatus, ServedGeneration, WorkerStatus
from eir.errors import Refused
from eir.ops.compaction import CompactionOutcome, CompactionState
from eir.ops.meters import MetricsPage
from eir.ops.outbox import OutboxFigures
from eir.ops.sync_meters import FeedFigures
from eir.ops.tally import Tally
from eir.ops.watch import WatchFigures
from eir.serve.counters import Counters

ROOT = Path(__file__).resolve().parents[2]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class ToyNode:
    def status(self) -> NodeStatus:
        return NodeStatus(
            version="1.2.3",
            started_at=1_700_000_000,
            now=1_700_000_100,
            ready=True,
            stale=True,
            mode="shadow",
            generations=[
                ServedGeneration(
                    origin=Origin("registry", "local", "s", 7, "d"),
                    made_at=1_699_999_999,
                    items={"white": 5, "black.stolen": 2},
                )
            ],
            alarms=["one", "two"],
            workers=[
                WorkerStatus(
                    slot=0,
                    pid=11,
                    state="answering",
                    restarts=3,
                    checks=40,
                    takeup_seconds=0.5,
                    rss=1_000,
                    pss=400,
                ),
                WorkerStatus(slot=1, pid=0, state="absent", restarts=1),
                WorkerStatus(slot=-1, pid=12, state="orphan", rss=9),
            ],
        )

    def tally(self) -> Tally:
        tally = Tally()
        counters = Counters()
        counters.checks[0, 9, Status.WHITELISTED] = 4
        counters.checks[2, BLACK_BASE, Status.BLACKLISTED] = 2
        for nanoseconds in (900, 1_500, 1_500, 1 << 40):
            counters.decided(nanoseconds)
        tally.add(counters, ["bound" if code == 9 else "stolen" for code in range(96)])
        tally.events["s13", "closed", "watchdog", "mme.x"] = 5
        tally.spared = 6
        return tally

    def watched(self) -> WatchFigures:
        return WatchFigures(open_since=1_700_000_000, rate=50, baseline=4.5, clock_jumped=True)

    def reloads(self) -> dict[str, int]:
        return {"done": 4, "refused": 1}

    def sightings(self) -> OutboxFigures:
        return OutboxFigures(
            noted=11,
            known=12,
            dropped=13,
            files=14,
            pending_rows=15,
            waiting_files=16,
            sequence=17,
        )

    def feeds(self) -> list[FeedFigures]:
        return [
            FeedFigures(
                feed="registry",
                reached=8,
                served=6,
                head=9,
                age_s=12.5,
                stale=True,
                held=True,
                pinned=True,
                detached=True,
                runs={("held", "guard"): 3, ("deltas", "deltas"): 2},
                fetched_bytes=4_321,
                last_at=1_700_000_050,
                last_s=0.25,
            )
        ]

    def compactions(self) -> dict[str, CompactionState]:
        done = CompactionOutcome("done", "registry", 7, seconds=12.5, peak_bytes=2_000_000)
        counts = {"done": 3, "overtaken": 2, "failed": 1}
        return {"registry": CompactionState(500, 900, 12, True, counts, done, done)}


@pytest.fixture
def page() -> Iterator[MetricsPage]:
    made = MetricsPage("127.0.0.1:0", ToyNode())
    yield made
    made.close()


@pytest.fixture
def text(page) -> str:
    with urllib.request.urlopen(f"http://{page.address}/metrics") as answer:
        return answer.read().decode()


@pytest.fixture
def samples(text) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


PROVEN: list[tuple[str, dict[str, str], float]] = [
    ("eir_build_info", {"version": "1.2.3"}, 1),
    ("eir_ready", {}, 1),
    ("eir_stale", {}, 1),
    ("eir_shadow", {}, 1),
    ("eir_alarms", {}, 2),
    ("eir_start_time_seconds", {}, 1_700_000_000),
    ("eir_serial", {"feed": "registry"}, 7),
    ("eir_made_at_seconds", {"feed": "registry"}, 1_699_999_999),
    ("eir_items", {"feed": "registry", "section": "white"}, 5),
    ("eir_items", {"feed": "registry", "section": "black.stolen"}, 2),
    ("eir_reloads_total", {"outcome": "done"}, 4),
    ("eir_reloads_total", {"outcome": "refused"}, 1),
    ("eir_overlay_keys", {"feed": "registry"}, 500),
    ("eir_overlay_due_keys", {"feed": "registry"}, 900),
    ("eir_overlay_deltas", {"feed": "registry"}, 12),
    ("eir_compaction_running", {"feed": "registry"}, 1),
    ("eir_compaction_last_seconds", {"feed": "registry"}, 12.5),
    ("eir_compaction_last_peak_bytes", {"feed": "registry"}, 2_000_000),
    ("eir_compactions_total", {"feed": "registry", "outcome": "done"}, 3),
    ("eir_compactions_total", {"feed": "registry", "outcome": "overtaken"}, 2),
    ("eir_compactions_total", {"feed": "registry", "outcome": "failed"}, 1),
    ("eir_checks_total", {"door": "grpc", "reason": "bound", "status": "WHITELISTED"}, 4),
    ("eir_checks_total", {"door": "n5g", "reason": "stolen", "status": "BLACKLISTED"}, 2),
    (
        "eir_door_events_total",
        {"door": "s13", "event": "closed", "what": "watchdog", "peer": "mme.x"},
        5,
    ),
    ("eir_decide_seconds_bucket", {"le": "1.024e-06"}, 1),
    ("eir_decide_seconds_bucket", {"le": "2.048e-06"}, 3),
    ("eir_decide_seconds_bucket", {"le": "1.073741824"}, 3),
    ("eir_decide_seconds_bucket", {"le": "+Inf"}, 4),
    ("eir_decide_seconds_count", {}, 4),
    ("eir_decide_seconds_sum", {}, (3_900 + (1 << 40)) / 1e9),
    ("eir_workers", {"state": "answering"}, 1),
    ("eir_workers", {"state": "absent"}, 1),
    ("eir_workers", {"state": "orphan"}, 1),
    ("eir_worker_restarts_total", {"worker": "0"}, 3),
    ("eir_worker_restarts_total", {"worker": "1"}, 1),
    ("eir_worker_checks", {"worker": "0"}, 40),
    ("eir_worker_takeup_seconds", {"worker": "0"}, 0.5),
    ("eir_worker_rss_bytes", {"worker": "0"}, 1_000),
    ("eir_worker_pss_bytes", {"worker": "0"}, 400),
    ("eir_breaker_open", {}, 1),
    ("eir_breaker_refusals", {}, 50),
    ("eir_breaker_usual", {}, 4.5),
    ("eir_refusals_spared_total", {}, 6),
    ("eir_clock_jumped", {}, 1),
    ("eir_sightings_noted_total", {}, 11),
    ("eir_sightings_known_total", {}, 12),
    ("eir_sightings_dropped_total", {}, 13),
    ("eir_sightings_files_total", {}, 14),
    ("eir_sightings_pending_rows", {}, 15),
    ("eir_sightings_waiting_files", {}, 16),
    ("eir_sightings_sequence", {}, 17),
    ("eir_sync_serial", {"feed": "registry"}, 8),
    ("eir_sync_head_serial", {"feed": "registry"}, 9),
    ("eir_sync_lag_serials", {"feed": "registry"}, 3),
    ("eir_sync_age_seconds", {"feed": "registry"}, 12.5),
    ("eir_sync_stale", {"feed": "registry"}, 1),
    ("eir_sync_held", {"feed": "registry"}, 1),
    ("eir_sync_pinned", {"feed": "registry"}, 1),
    ("eir_sync_detached", {"feed": "registry"}, 1),
    ("eir_sync_last_run_time_seconds", {"feed": "registry"}, 1_700_000_050),
    ("eir_sync_last_run_seconds", {"feed": "registry"}, 0.25),
    ("eir_sync_runs_total", {"feed": "registry", "kind": "held", "reason": "guard"}, 3),
    ("eir_sync_runs_total", {"feed": "registry", "kind": "deltas", "reason": "deltas"}, 2),
    ("eir_sync_bytes_total", {"feed": "registry"}, 4_321),
]


@pytest.mark.parametrize(("name", "labels", "value"), PROVEN)
def test_a_metric_says_what_the_node_says(samples, name, labels, value):
    assert samples[name, frozenset(labels.items())] == value


def test_no_metric_is_exposed_without_proof(samples):
    assert {name for name, _ in samples} == {name for name, _, _ in PROVEN}


def test_the_page_explains_every_metric_with_its_kind_and_labels(text):
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(
            r"(?m)^\| `(eir_\w+)` \| (\w+) \| ([^|]*)\|", (ROOT / "docs/metrics.md").read_text()
        )
    }
    kinds = {"unknown": "gauge", "info": "gauge"}
    exposed = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[name] = (kinds.get(family.type, family.type), labels)
    assert documented == exposed


def test_the_dashboard_shows_every_metric_and_no_other(text):
    board = json.loads((ROOT / "deploy/grafana/eir.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in board["templating"]["list"]]
    used = {name for query in queries for name in re.findall(r"\beir_\w+", query)}
    series = {name for name, _, _ in PROVEN}
    assert used == series
    known = {
        label
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for label in sample.labels
    } | {"instance"}
    legends = [target["legendFormat"] for panel in board["panels"] for target in panel["targets"]]
    assert set(re.findall(r"\{\{(\w+)\}\}", " ".join(legends))) <= known
    grouped = re.findall(r"by \(([\w, ]+)\)", " ".join(queries))
    assert {label for group in grouped for label in group.split(", ")} <= known


def test_panels_do_not_lie_on_each_other():
    board = json.loads((ROOT / "deploy/grafana/eir.json").read_text())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_a_port_that_is_taken_is_refused(page):
    with pytest.raises(Refused) as refused:
        MetricsPage(page.address, ToyNode())
    assert refused.value.reason == "listen-failed"
    assert refused.value.where == page.address


def test_a_closed_page_answers_no_more():
    page = MetricsPage("127.0.0.1:0", ToyNode())
    host, _, port = page.address.rpartition(":")
    page.close()
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0
