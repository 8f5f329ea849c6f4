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

from bench.delta import base_generation, changes, some_pairs
from bench.subjects import EIR, free_port, start, stop
from eir.client.node import NodeClient
from eir.core.delta import Change, Delta
from eir.core.generation import REGISTRY, Generation
from eir.errors import Unavailable
from eir.feed.address import Address
from eir.feed.codec import open_snapshot
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A delta that stands in the feed, and the head that will name it."""

    serial: int
    facts: FileFacts
    content: Generation
    head: Head
    sealed: bytes


class Feed:
    """A feed in a folder, written delta by delta: a publisher without its comparing."""

    def __init__(self, folder: Path, snapshot: Path, devices: int) -> None:
        """It begins at a snapshot file, which it links. ``devices``: how large that is called."""
        self.folder = folder / "feed"
        self.devices = devices
        self._aside = folder
        self._site = FolderSite(self.folder)
        now = int(time.time())
        keys = Keys(1, (KEY.public,), now - 3_600, now + 10**8)
        self._site.swap(KEYS_NAME, seal_keys(keys, KEY), was=None)
        self.content = open_snapshot(snapshot, trusted=True)
        with snapshot.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = file_name("snapshot", Serial(self.content.serial))
        os.link(snapshot, self.folder / name)
        self.head = Head(
            registry_id=self.content.registry_id,
            epoch=1,
            session=self.content.session,
            serial=Serial(self.content.serial),
            made_at=now - 60,
            snapshot=FeedFile(
                Serial(self.content.serial),
                name,
                snapshot.stat().st_size,
                sha256,
                self.content.digest,
            ),
            counts=(),
            deltas=(),
        )
        self._tag = self._site.swap(HEAD_NAME, seal_head(self.head, KEY), was=None)

    def prepared(self, delta: Delta) -> Prepared:
        """All of publishing but the head."""
        old, now = self.content, int(time.time())
        after = str(Digest.parse(old.digest) + of_delta(delta))
        serial = Serial(old.serial + 1)
        said = DeltaHead(
            REGISTRY, old.registry_id, old.session, old.serial, serial, now, old.digest, after
        )
        facts = write_delta(self._aside / file_name("delta", serial), said, delta)
        self._site.add(facts.path.name, facts.path)
        facts.path.unlink()
        file = FeedFile(serial, facts.path.name, facts.size, facts.sha256, after)
        head = replace(self.head, serial=serial, made_at=now, deltas=(*self.head.deltas, file))
        return Prepared(serial, facts, advance(old, said, delta), head, seal_head(head, KEY))

    def publish(self, ready: Prepared) -> None:
        """Have the head name it; ``content`` goes on with it."""
        self.content, self.head = ready.content, ready.head
        self._tag = self._site.swap(HEAD_NAME, ready.sealed, was=self._tag)

    def step(self, delta: Delta) -> FileFacts:
        """Publish one delta."""
        ready = self.prepared(delta)
        self.publish(ready)
        return ready.facts


def made_feed(folder: Path, devices: int) -> Feed:
    """A feed whose snapshot is made here."""
    path = folder / "base"
    base_generation(path, devices, np.random.default_rng(devices))
    return Feed(folder, path, devices)


def back(delta: Delta) -> Delta:
    """The delta that takes it all back."""
    swapped = {name: Change(each.added, each.removed) for name, each in delta.changes.items()}
    return Delta(swapped, delta.reason_ids)


def node_config(folder: Path, port: int, feed: Feed) -> Path:
    """A node with one worker that follows the feed, and a guard that lets all of it pass."""
    path = folder / "eir.toml"
    path.write_text(
        f'[node]\ndepot = "depot"\n[workers]\ncount = 1\n[grpc]\nlisten = ["127.0.0.1:{port}"]\n'
        f'[feed]\nurl = "{feed.folder}"\nregistry = "{feed.head.registry_id}"\nevery = {POLL_S}\n'
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
def following(folder: Path, feed: Feed) -> Iterator[Following]:
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
    with following(folder, feed) as node:
        first = node.outcome_of(1)
        yield {
            "bench": "first load", "base_devices": feed.devices, "seconds": first.seconds,
            "bytes_a_device": first.fetched_bytes / feed.devices,
        }  # fmt: skip
        pairs = some_pairs(feed.content)
        for count in counts:
            forth = changes(feed.content, count, np.random.default_rng(count), pairs)
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
            REGISTRY,
            Address(str(feed.folder)),
            (KEY.public,),
            feed.head.registry_id,
            Pace(),
            PlanLimits(),
            1,
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
    options.add_argument("--base", type=int, nargs="*", default=[1_000_000])
    options.add_argument("--snapshot", type=Path, help="go on from this one besides, by a link")
    options.add_argument("--devices", type=int, default=0, help="how large that one is")
    options.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    options.add_argument(
        "--changes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000, 1_000_000]
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--nodes", type=int, default=100)
    options.add_argument("--crowd-base", type=int, default=100_000)
    given = options.parse_args()
    for devices in (*given.base, *([given.devices] if given.snapshot else ())):
        with tempfile.TemporaryDirectory(prefix="follow-", dir=given.folder) as name:
            folder = Path(name)
            linked = given.snapshot and devices == given.devices
            feed = Feed(folder, given.snapshot, devices) if linked else made_feed(folder, devices)
            counts = [count for count in given.changes if count <= devices // 4]
            for line in measure_steps(feed, folder, counts, given.rounds):
                print(json.dumps(line), flush=True)
    if given.nodes:
        with tempfile.TemporaryDirectory(prefix="follow-", dir=given.folder) as name:
            feed = made_feed(Path(name), given.crowd_base)
            for line in measure_crowd(feed, Path(name), given.nodes):
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
