"""What Prometheus reads: every figure of the node, made when it is asked for.

docs/metrics.md explains each; a test holds the page against what is exposed. Holds no state: the
figures are the keeper's and the workers' own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, cast

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from eir.doors.grpc_admin import NodeStatus
from eir.errors import Refused
from eir.ops.compaction import CompactionState
from eir.ops.compaction_meters import compaction_metrics
from eir.ops.outbox import OutboxFigures
from eir.ops.sync_meters import FeedFigures, sync_metrics
from eir.ops.tally import Tally
from eir.ops.watch import WatchFigures

_SHORTEST_SPAN = 10
"""Decisions are told apart from 2^10 ns up, about a microsecond."""


class Node(Protocol):
    """Whose figures they are. Asked from a thread of its own."""

    def status(self) -> NodeStatus:
        """What serves and how."""

    def tally(self) -> Tally:
        """What was counted since the start."""

    def reloads(self) -> Mapping[str, int]:
        """By outcome."""

    def watched(self) -> WatchFigures:
        """How breaker and clock stand."""

    def sightings(self) -> OutboxFigures | None:
        """How sightings go out; None where nothing is noted."""

    def feeds(self) -> Sequence[FeedFigures]:
        """The feeds that are followed."""

    def compactions(self) -> Mapping[str, CompactionState]:
        """How far overlays have grown, by feed."""


class MetricsPage:
    """``/metrics`` over HTTP, from creation to ``close``."""

    def __init__(self, listen: str, node: Node) -> None:
        """Raises Refused ``listen-failed``."""
        host, _, port = listen.rpartition(":")
        registry = CollectorRegistry()
        registry.register(NodeCollector(node))
        try:
            self._server, self._thread = start_http_server(
                int(port), host.strip("[]"), registry=registry
            )
        except (OSError, socket.gaierror) as fault:
            raise Refused("listen-failed", fault.strerror or str(fault), where=listen) from fault
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class NodeCollector(Collector):
    """The node's figures, in Prometheus's own model."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """Every metric, as things stand now."""
        status, tally = self._node.status(), self._node.tally()
        yield InfoMetricFamily("eir_build", "The engine.", {"version": status.version})
        yield from _state(status)
        yield from _data(status)
        yield from _answers(tally)
        yield from _workers(status)
        yield from sync_metrics(self._node.feeds())
        yield from compaction_metrics(self._node.compactions())
        yield from _watched(self._node.watched(), tally)
        yield from _sighted(self._node.sightings())
        reloads = CounterMetricFamily("eir_reloads", "Reloads, by outcome.", labels=["outcome"])
        for outcome, times in self._node.reloads().items():
            reloads.add_metric([outcome], times)
        yield reloads

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: asking the node is for ``collect``."""
        return iter(())


def _state(status: NodeStatus) -> Iterator[Metric]:
    yield _gauge("eir_ready", "1 while a generation serves.", status.ready)
    yield _gauge("eir_stale", "1 while answers are marked stale.", status.stale)
    yield _gauge("eir_shadow", "1 while nobody is refused.", status.mode == "shadow")
    yield _gauge("eir_alarms", "What an operator should look at.", len(status.alarms))
    yield _gauge("eir_start_time_seconds", "When the keeper started.", status.started_at)


def _data(status: NodeStatus) -> Iterator[Metric]:
    serial = GaugeMetricFamily("eir_serial", "The serial served.", labels=["feed"])
    made = GaugeMetricFamily(
        "eir_made_at_seconds", "When the feed made what is served.", labels=["feed"]
    )
    items = GaugeMetricFamily("eir_items", "Items of what is served.", labels=["feed", "section"])
    for served in status.generations:
        feed = served.origin.feed
        serial.add_metric([feed], served.origin.serial)
        made.add_metric([feed], served.made_at)
        for section, count in served.items.items():
            items.add_metric([feed, section], count)
    yield from (serial, made, items)


def _answers(tally: Tally) -> Iterator[Metric]:
    checks = CounterMetricFamily(
        "eir_checks", "Checks answered.", labels=["door", "reason", "status"]
    )
    for words, times in sorted(tally.checks.items()):
        checks.add_metric(list(words), times)
    yield checks
    events = CounterMetricFamily(
        "eir_door_events", "What else happened.", labels=["door", "event", "what", "peer"]
    )
    for name, times in sorted(tally.events.items()):
        events.add_metric(list(name), times)
    yield events
    buckets = []
    seen = 0
    for power, times in enumerate(tally.spans[:-1]):
        seen += int(times)
        if power >= _SHORTEST_SPAN:
            buckets.append((repr(2**power / 1e9), seen))
    buckets.append(("+Inf", seen + int(tally.spans[-1])))
    decide = HistogramMetricFamily("eir_decide_seconds", "Time to decide one message's checks.")
    decide.add_metric([], cast("list[tuple[str, float]]", buckets), tally.busy_ns / 1e9)
    yield decide


def _workers(status: NodeStatus) -> Iterator[Metric]:
    states = GaugeMetricFamily("eir_workers", "Workers by state.", labels=["state"])
    found = [worker.state for worker in status.workers]
    for state in sorted({"answering", *found}):
        states.add_metric([state], found.count(state))
    yield states
    by_slot = ["worker"]
    restarts = CounterMetricFamily("eir_worker_restarts", "Ends unasked for.", labels=by_slot)
    checks = GaugeMetricFamily(
        "eir_worker_checks", "Checks answered by the worker that runs now.", labels=by_slot
    )
    takeup = GaugeMetricFamily(
        "eir_worker_takeup_seconds", "How long its newest data took to serve.", labels=by_slot
    )
    resident = GaugeMetricFamily("eir_worker_rss_bytes", "Resident memory.", labels=by_slot)
    share = GaugeMetricFamily(
        "eir_worker_pss_bytes", "Memory, shared pages shared out.", labels=by_slot
    )
    for worker in status.workers:
        if worker.slot >= 0:
            slot = [str(worker.slot)]
            restarts.add_metric(slot, worker.restarts)
            checks.add_metric(slot, worker.checks)
            takeup.add_metric(slot, worker.takeup_seconds)
            resident.add_metric(slot, worker.rss)
            share.add_metric(slot, worker.pss)
    yield from (restarts, checks, takeup, resident, share)


def _watched(watched: WatchFigures, tally: Tally) -> Iterator[Metric]:
    yield _gauge("eir_breaker_open", "1 while nobody is refused.", watched.open_since > 0)
    yield _gauge("eir_breaker_refusals", "Refusals of the last minute.", watched.rate)
    yield _gauge("eir_breaker_usual", "What is usual in a minute.", watched.baseline)
    yield CounterMetricFamily("eir_refusals_spared", "What it let through.", value=tally.spared)
    yield _gauge("eir_clock_jumped", "1 while the clock is not trusted.", watched.clock_jumped)


def _sighted(figures: OutboxFigures | None) -> Iterator[Metric]:
    counters = (
        ("eir_sightings_noted", "Pairs noted for the first time.", "noted"),
        ("eir_sightings_known", "Pairs that were known already.", "known"),
        ("eir_sightings_dropped", "Pairs for which a ring had no room.", "dropped"),
        ("eir_sightings_files", "Signed files that the outbox has taken.", "files"),
    )
    gauges = (
        ("eir_sightings_pending_rows", "Rows of the file to come.", "pending_rows"),
        ("eir_sightings_waiting_files", "Signed files to go out.", "waiting_files"),
        ("eir_sightings_sequence", "The sequence of the file to come.", "sequence"),
    )
    for name, says, field in counters:
        counter = CounterMetricFamily(name, says, labels=())
        if figures is not None:
            counter.add_metric((), getattr(figures, field))
        yield counter
    for name, says, field in gauges:
        gauge = GaugeMetricFamily(name, says, labels=())
        if figures is not None:
            gauge.add_metric((), getattr(figures, field))
        yield gauge


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, value=float(value))
