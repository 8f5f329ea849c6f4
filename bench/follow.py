"""Following a feed: from head seen to served and durable, and what a crowd of nodes costs.

    python -m bench.follow [--base 1000000] [--changes 100 10000 1000000] [--rounds 3]
                           [--nodes 100] [--crowd-base 100000]

Prints one JSON line for each measurement. ``follow``: a real node with a worker and a gRPC door
follows a folder; ``seconds`` is its own run, from asking for the head until every worker has
swapped, the guard and the disk's fsyncs in it; ``answered_s`` is from the head's publication to the
first answer from it, so it has the wait for the next poll in it (0 to ``POLL_S`` s). ``crowd``: so
many nodes' gates, each with a depot of its own, on all cores: all take the snapshot, then a
delta, then ask again. Bytes are those that came, of a node.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.delta import base_generation, changes
from bench.subjects import EIR, free_port, start, stop
from eir.client.node import NodeClient
from eir.core.delta import Change, Delta
from eir.core.generation import REGISTRY, Generation
from eir.errors import Unavailable
from eir.feed.address import Address
from eir.feed.delta_file import DeltaHead, FileFacts, advance, write_delta
from eir.feed.digest import Digest, of_delta
from eir.feed.envelope import SecretKey
from eir.feed.head import HEAD_NAME, KEYS_NAME, FeedFile, Head, Serial, seal_head
from eir.feed.keys import Keys, key_text, seal_keys
from eir.feed.site import FolderSite, file_name
from eir.ops.following import STATUS, gate_of
from eir.ops.keeping import FeedKeeping
from eir.ops.settings.follow import Follow
from eir.store.depot import Depot
from eir.sync.client import run
from eir.sync.outcome import SyncOutcome
from eir.sync.pace import Pace
from eir.sync.plan import PlanLimits

POLL_S: Final = 1
PATIENCE_S: Final = 3_600.0
KEY: Final = SecretKey(bytes(range(32)))
"""Root and feed key at once: what is measured here is not secret."""


class Feed:
    """A feed in a folder, written delta by delta: a publisher without its comparing."""

    def __init__(self, folder: Path, devices: int) -> None:
        self.folder = folder / "feed"
        self._aside = folder
        self._site = FolderSite(self.folder)
        now = int(time.time())
        keys = Keys(1, (KEY.public,), now - 3_600, now + 10**8)
        self._site.swap(KEYS_NAME, seal_keys(keys, KEY), was=None)
        path = folder / file_name("snapshot", Serial(1))
        self.content = base_generation(path, devices, np.random.default_rng(devices))
        self.devices = self.content.sections["white"].items
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        facts = FileFacts(path, path.stat().st_size, sha256)
        snapshot = self._added(facts, 1, self.content.digest)
        path.unlink()
        self.head = Head(
            "bench", 1, self.content.session, Serial(1), now - 60, snapshot, (), ()
        )  # fmt: skip
        self._tag = self._site.swap(HEAD_NAME, seal_head(self.head, KEY), was=None)

    def step(self, delta: Delta) -> FileFacts:
        """Publish one delta; ``content`` goes on with it."""
        old, now = self.content, int(time.time())
        after = str(Digest.parse(old.digest) + of_delta(delta))
        serial = Serial(old.serial + 1)
        said = DeltaHead(
            REGISTRY, "bench", old.session, old.serial, serial, now, old.digest, after
        )  # fmt: skip
        facts = write_delta(self._aside / file_name("delta", serial), said, delta)
        self.content = advance(old, said, delta)
        file = self._added(facts, serial, after)
        facts.path.unlink()
        self.head = replace(self.head, serial=serial, made_at=now, deltas=(*self.head.deltas, file))
        self._tag = self._site.swap(HEAD_NAME, seal_head(self.head, KEY), was=self._tag)
        return facts

    def _added(self, facts: FileFacts, serial: int, digest: str) -> FeedFile:
        self._site.add(facts.path.name, facts.path)
        return FeedFile(Serial(serial), facts.path.name, facts.size, facts.sha256, digest)


def back(delta: Delta) -> Delta:
    """The delta that takes it all back."""
    swapped = {name: Change(each.added, each.removed) for name, each in delta.changes.items()}
    return Delta(swapped, delta.reason_ids)


def node_config(folder: Path, port: int, feed: Path) -> Path:
    """A node with one worker that follows the feed, and a guard that lets all of it pass."""
    path = folder / "eir.toml"
    path.write_text(
        f'[node]\ndepot = "depot"\n[workers]\ncount = 1\n[grpc]\nlisten = ["127.0.0.1:{port}"]\n'
        f'[feed]\nurl = "{feed}"\nregistry = "bench"\nevery = {POLL_S}\n'
        f'root_key = "{key_text(KEY.public, "root")}"\n'
        "[guard]\nmax_newly_refused = 1000000000\nmax_shrink = 1.0\nmax_growth_percent = 1000000\n"
    )
    return path


@dataclass(frozen=True, slots=True)
class Following:
    """A running node: when it answers from a serial, and what its runs came to."""

    depot: Depot
    client: NodeClient
    process: subprocess.Popen[bytes]

    def answers_from(self, serial: int) -> float:
        """The moment of the first answer from it, by ``time.perf_counter``."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended with {self.process.returncode}")
            try:
                if self.client.check("350000000000000", "", "").registry_serial >= serial:
                    return time.perf_counter()
            except Unavailable:
                pass
            time.sleep(0.002)
        raise RuntimeError(f"serial {serial} never served")

    def outcome_of(self, serial: int) -> SyncOutcome:
        """The run that reached it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            raw = self.depot.note(REGISTRY, STATUS)
            for _, fields in reversed(json.loads(raw)["outcomes"] if raw else []):
                if fields["to_serial"] == serial and fields["kind"] in ("deltas", "snapshot"):
                    return SyncOutcome(**{**fields, "counts": ()})
            time.sleep(0.01)
        raise RuntimeError(f"no run told of serial {serial}")


@contextmanager
def following(folder: Path, feed: Path) -> Iterator[Following]:
    """A node on this feed, from when it serves."""
    port = free_port()
    config = node_config(folder, port, feed)
    process = start((*EIR, "serve", "-c", config), os.sched_getaffinity(0))
    try:
        with NodeClient(f"127.0.0.1:{port}") as client:
            node = Following(Depot(folder / "depot"), client, process)
            node.answers_from(1)
            yield node
    finally:
        stop(process)


def measure_steps(feed: Feed, folder: Path, counts: list[int], rounds: int) -> Iterator[object]:
    """One line for the first load, and one for each size of a delta."""
    with following(folder, feed.folder) as node:
        first = node.outcome_of(1)
        yield {
            "bench": "first load", "base_devices": feed.devices, "seconds": first.seconds,
            "bytes_a_device": first.fetched_bytes / feed.devices,
        }  # fmt: skip
        for count in counts:
            forth = changes(feed.content, count, np.random.default_rng(count))
            runs, answered, size = [], [], 0
            for turn in range(2 * rounds):
                facts = feed.step(back(forth) if turn % 2 else forth)
                begun = time.perf_counter()
                serial = feed.content.serial
                answered.append(node.answers_from(serial) - begun)
                runs.append(node.outcome_of(serial).seconds)
                size = facts.size
            yield {
                "bench": "delta", "base_devices": feed.devices, "changes": len(forth),
                "seconds": spread(runs), "answered_s": spread(answered),
                "bytes_a_change": size / len(forth),
            }  # fmt: skip


def spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


class Crowd:
    """So many nodes' gates over depots of their own."""

    def __init__(self, folder: Path, feed: Feed, nodes: int) -> None:
        follow = Follow(
            REGISTRY, Address(str(feed.folder)), (KEY.public,), "bench", Pace(), PlanLimits(), 1
        )
        self._held: list[Generation | None] = [None] * nodes
        self._gates = [
            gate_of(
                follow,
                FeedKeeping(Depot(folder / f"node-{number}"), REGISTRY, 1),
                judge=lambda old, candidate: "",
            )
            for number in range(nodes)
        ]

    def ask(self, what: str) -> dict[str, object]:
        """All of them, once; each has to end at the head."""
        begun, cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outcomes = list(pool.map(self._run, range(len(self._gates))))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        bad = [outcome.line() for outcome in outcomes if not outcome.good]
        if bad:
            raise RuntimeError(f"{len(bad)} nodes did not get there: {bad[0]}")
        fetched = sum(outcome.fetched_bytes for outcome in outcomes)
        return {
            "bench": f"crowd, {what}", "nodes": len(outcomes), "seconds": seconds,
            "cpu_ms_a_node": cpu / len(outcomes) * 1e3, "bytes": fetched,
            "bytes_a_node": fetched / len(outcomes),
        }  # fmt: skip

    def _run(self, number: int) -> SyncOutcome:
        outcome, self._held[number] = run(self._gates[number], self._held[number])
        return outcome


def measure_crowd(feed: Feed, folder: Path, nodes: int) -> Iterator[object]:
    """A snapshot, a delta of 1,000 changes, and a head that did not change, for all of them."""
    crowd, facts = Crowd(folder, feed, nodes), {"base_devices": feed.devices}
    yield crowd.ask("snapshot") | facts
    feed.step(changes(feed.content, 1_000, np.random.default_rng(1)))
    yield crowd.ask("delta of 1,000") | facts
    yield crowd.ask("nothing new") | facts


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--base", type=int, nargs="+", default=[1_000_000])
    options.add_argument(
        "--changes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000, 1_000_000]
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--nodes", type=int, default=100)
    options.add_argument("--crowd-base", type=int, default=100_000)
    given = options.parse_args()
    for devices in given.base:
        with tempfile.TemporaryDirectory(prefix="eir-bench-") as name:
            folder = Path(name)
            counts = [count for count in given.changes if count <= devices // 4]
            for line in measure_steps(Feed(folder, devices), folder, counts, given.rounds):
                print(json.dumps(line), flush=True)
    if given.nodes:
        with tempfile.TemporaryDirectory(prefix="eir-bench-") as name:
            feed = Feed(Path(name), given.crowd_base)
            for line in measure_crowd(feed, Path(name), given.nodes):
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
