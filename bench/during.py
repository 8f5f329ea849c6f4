"""What those who ask feel while a node changes what it serves, or is stormed.

Open loop at half of the engine's own peak, in the quiet and while something happens, by turns: a
generation of the same size swaps in (built beforehand), a delta of a followed feed applies, the
next base is written, 1,000 connections come at once. A window lasts from just before until it is
over, so that a short event is not lost in a long run. Every answer is compared as always: what the
deltas touch is nobody that is asked about.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bench import building, subjects
from bench.delta import U64, changes, some_pairs
from bench.follow import KEY, POLL_S, Feed, back
from bench.lines import Sample
from bench.processes import held_to
from bench.subjects import Node, Subject
from bench.transport import WARM_SECONDS, Bench, asking, latencies, load
from eir.client.node import NodeClient
from eir.core.delta import Delta
from eir.core.generation import REGISTRY
from eir.errors import Refused, Unavailable
from eir.feed.keys import key_text
from eir.ops.demo import cast
from eir.store.depot import Depot

CHANGES: Final = (100_000, 1_000_000)
COMPACTION_CHANGES: Final = 1_000_000
CONNECTIONS: Final = 1_000
ROUNDS: Final = 3
_PEAK_RUNS: Final = 3
_LEAD_SECONDS: Final = 0.5
_EVENT_SECONDS: Final = 600.0
_NEVER, _AT_ONCE = 1_000_000_000, 10_000


@dataclass(frozen=True, slots=True)
class Door:
    """A node's door, its administration, and the rate at which it is asked."""

    subject: Subject
    admin: Path
    rate: float


def window(bench: Bench, door: Door, happen: Callable[[], None]) -> Sample:
    """Latencies from just before ``happen`` is called until it has returned."""
    with asking(bench, door.subject, rate=door.rate, seconds=_EVENT_SECONDS) as generator:
        time.sleep(WARM_SECONDS + _LEAD_SECONDS)
        begun = time.monotonic()
        try:
            happen()
        finally:
            lasted = time.monotonic() - begun
            generator.send_signal(signal.SIGINT)
            said, _ = generator.communicate(timeout=30)
    told = json.loads(said)
    if "failed" in told:
        raise RuntimeError(f"{door.subject.name}: {told['failed']}")
    found = dict(latencies(told))
    found["shed"] = found.pop("refused")  # as a node does past capacity: told, and no fault
    return {**found, "event_s": lasted, "window_s": float(told["seconds"])}


def quiet(bench: Bench, door: Door) -> Sample:
    """The same with nothing happening."""
    return window(bench, door, lambda: time.sleep(bench.seconds))


def compared(
    bench: Bench,
    door: Door,
    what: str,
    prepared: Callable[[], Callable[[], None]],
    *,
    rounds: int = ROUNDS,
) -> None:
    """Quiet and event by turns, a line for each; what is ``prepared`` is no part of a window."""
    found: dict[str, list[Sample]] = {"quiet": [], what: []}
    try:
        for _ in range(min(rounds, bench.rounds)):
            happen = prepared()
            found["quiet"].append(quiet(bench, door))
            found[what].append(window(bench, door, happen))
    finally:
        for when, samples in found.items():
            facts = {"event": what, "when": when, "rate_per_s": round(door.rate)}
            if samples:
                bench.lines.add(
                    "during", door.subject.name, samples, devices=bench.devices, **facts
                )


def hold_workers(admin: Path, cpus: frozenset[int]) -> None:
    """Workers have the servers' cores, as in every other part; their keeper has what is left of
    all. Where the scheduler moved a worker to the generator's core, it would wait there.
    """
    _until(admin.is_socket, f"{admin} is not there", every_s=0.01)
    with NodeClient(f"unix:{admin}", timeout=10) as node:
        pids = [worker.pid for worker in node.status().workers]
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), cpus)


def asked_at_half(bench: Bench, subject: Subject, admin: Path) -> Door:
    """The door at half of its peak, measured now."""
    hold_workers(admin, bench.server_cpus)
    load(bench, subject, seconds=1.0)
    peaks = [load(bench, subject)["per_s"] for _ in range(_PEAK_RUNS)]
    return Door(subject, admin, statistics.median(peaks) * 0.5)


def swaps_and_storms(bench: Bench, place: Node, engine: str, cpus: set[int]) -> None:
    """A node that follows nobody: connections at once; then generations that swap in."""
    with subjects.node(place, engine, cpus) as subject:
        door = asked_at_half(bench, subject, place.folder / f"{engine}.sock")
        storm = f"{CONNECTIONS:,} connections at once"
        compared(bench, door, storm, lambda: partial(_storm, bench, subject.port))
        swap = partial(_swap, door)

        def built() -> Callable[[], None]:
            building.renew(place)
            return swap

        built()()  # once unmeasured: what is read for the first time is read now
        compared(bench, door, "reload", built)


def _storm(bench: Bench, port: int) -> None:
    words = [sys.executable, "-m", "bench.storm", str(port), str(CONNECTIONS)]
    with held_to(bench.client_cpus):
        done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"storm: {done.stdout[-200:]}{done.stderr[-200:]}")


def _swap(door: Door) -> None:
    with NodeClient(f"unix:{door.admin}", timeout=60) as node:
        was = _session(node)
        os.kill(door.subject.pid, signal.SIGHUP)
        _until(lambda: _session(node) != was, "the new generation is not taken up", every_s=0.1)


def _session(node: NodeClient) -> str:
    return next(
        served.origin.session
        for served in node.status().generations
        if served.origin.feed == REGISTRY
    )


def _until(done: Callable[[], bool], otherwise: str, *, every_s: float) -> None:
    end = time.monotonic() + _EVENT_SECONDS / 2
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(every_s)


class Changing:
    """A node that follows a feed, which begins at what its depot has."""

    def __init__(self, bench: Bench, door: Door, feed: Feed, pairs: U64, engine: str) -> None:
        """``pairs``: bindings that nobody asks about, for deltas to change."""
        self._bench, self._door, self._feed, self._pairs = bench, door, feed, pairs
        self._engine = engine
        self._taken_back: Delta | None = None

    def deltas(self, count: int) -> None:
        """Deltas of so many changes, forth and back."""
        forth = changes(self._feed.content, count, np.random.default_rng(count), self._pairs)
        compared(self._bench, self._door, f"delta of {count:,}", lambda: self._publishing(forth))
        self._even()

    def compaction(self, count: int) -> None:
        """The next base: a delta of so many changes serves, then one is due at once."""
        forth = changes(self._feed.content, count, np.random.default_rng(3), self._pairs)

        def grown() -> Callable[[], None]:
            self._publishing(forth)()
            return self._compact

        compared(self._bench, self._door, "compaction", grown, rounds=1)
        self._even()

    def _publishing(self, forth: Delta) -> Callable[[], None]:
        """Publish the delta, or the one that takes it back, by turns; and wait until it serves."""
        delta = self._taken_back or forth
        self._taken_back = None if self._taken_back else back(forth)
        ready = self._feed.prepared(delta)

        def publish() -> None:
            self._feed.publish(ready)
            self._served(ready.serial)

        return publish

    def _even(self) -> None:
        if self._taken_back is not None:
            self._publishing(self._taken_back)()

    def _served(self, serial: int) -> None:
        with NodeClient(f"127.0.0.1:{self._door.subject.port}", timeout=10) as client:

            def there() -> bool:
                with contextlib.suppress(Unavailable, Refused):
                    return client.check("350000000000000", "", "").registry_serial >= serial
                return False

            _until(there, f"serial {serial} is not served", every_s=0.01)

    def _compact(self) -> None:
        """From the reload that makes it due until it serves; then due no more."""
        with NodeClient(f"unix:{self._door.admin}", timeout=60) as node:
            self._due_at(_AT_ONCE)
            os.kill(self._door.subject.pid, signal.SIGHUP)
            _until(lambda: _overlay(node) == 0, "the next base does not serve", every_s=1.0)
            self._due_at(_NEVER)
            os.kill(self._door.subject.pid, signal.SIGHUP)

    def _due_at(self, keys: int) -> None:
        folder, port = self._door.admin.parent, self._door.subject.port
        configured(folder, port, self._engine, self._feed.folder, due_at=keys)


def _overlay(node: NodeClient) -> int:
    """Deltas behind the registry's base. Raises RuntimeError where a compaction failed."""
    status = node.status()
    for alarm in status.alarms:
        if alarm.startswith("compaction"):
            raise RuntimeError(alarm)
    return sum(overlay.deltas for overlay in status.overlays if overlay.feed == REGISTRY)


def configured(folder: Path, port: int, engine: str, feed: Path, *, due_at: int) -> Path:
    """A node with one worker that follows, and a guard that lets all of it pass.

    ``due_at``: touched keys at which the next base is due.
    """
    path = folder / "following.toml"
    plmns = ", ".join(f'"{plmn}"' for plmn in cast.HOME_PLMNS)
    path.write_text(
        f'[node]\ndepot = "depot"\n[workers]\ncount = 1\n[admin]\nsocket = "following.sock"\n'
        f'[grpc]\nlisten = ["127.0.0.1:{port}"]\nengine = "{engine}"\n'
        f"[policy]\nhome_plmns = [{plmns}]\n"
        f'[feed]\nurl = "{feed}"\nregistry = "local"\nevery = {POLL_S}\n'
        f'root_key = "{key_text(KEY.public, "root")}"\n'
        "[guard]\nmax_newly_refused = 1000000000\nmax_shrink = 1.0\n"
        "max_growth_percent = 1000000\n"
        f"[compaction]\nmax_touched_keys = {due_at}\nmax_touched_share = 1.0\n"
    )
    return path


def changes_and_compactions(
    bench: Bench, place: Node, engine: str, cpus: set[int], *, asked: U64
) -> None:
    """A node that follows a feed: deltas that apply; then the next base, written.

    ``place``: a node's folder with the depot to begin at, which is its alone. ``asked``: the IMEI
    keys that questions are about.
    """
    folder = place.folder
    kept = Depot(place.depot).kept(REGISTRY)[0]
    feed = Feed(folder, place.depot / "snapshots" / kept.file, bench.devices)
    pairs = some_pairs(feed.content)
    pairs = pairs[~np.isin(pairs[:, 0], asked)]
    port = subjects.free_port()
    config = configured(folder, port, engine, feed.folder, due_at=_NEVER)
    words = (*subjects.EIR, "serve", "-c", config)
    ready = partial(subjects.answers, port, "350000000000000", "")
    with subjects.running(words, cpus, ready) as process:
        subject = Subject(f"node, {engine} door", port, process.pid)
        door = asked_at_half(bench, subject, folder / "following.sock")
        changing = Changing(bench, door, feed, pairs, engine)
        for count in CHANGES:
            if count <= len(pairs):
                changing.deltas(count)
        changing.compaction(min(COMPACTION_CHANGES, len(pairs) // 2))
