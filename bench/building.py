"""From list files to a first verdict: time, peak memory, and bytes an item."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bench import kernel_bench
from bench.lines import Lines, Sample
from bench.machine import pss_bytes
from bench.subjects import EIR, Node, answers, free_port, start, stop, wait_for
from eir.client.node import NodeClient
from eir.core.generation import OPERATOR, REGISTRY, SECTIONS, Section
from eir.feed.codec import SnapshotFacts, SnapshotHead, open_snapshot
from eir.ops.demo.population import plan_population
from eir.ops.demo.sample import SampleFacts, write_sample
from eir.store.depot import Depot

START_ROUNDS: Final = 3
SEED: Final = 1
KERNEL_CHUNKS: Final = 48
"""Parts of the population that the kernel is asked about: each a quarter of a million devices."""

HEADER: Final = struct.Struct("<8sQ32s16x")
"""What a snapshot file begins with; docs/snapshot-format.md."""


def listed(lines: Lines, place: Node, devices: int) -> SampleFacts:
    """The list files of a sample registry, always the same but for its deadlines; measured."""
    print(f"drawing {devices:,} devices ...", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    facts = write_sample(place.folder / "lists", devices, seed=SEED)
    found = {
        "seconds": time.perf_counter() - begun,
        "rows": float(sum(facts.rows.values())),
        "bytes": float(sum(f.stat().st_size for f in (place.folder / "lists").iterdir())),
    }
    lines.add("lists", "list files of a sample registry, written", [found], devices=devices)
    return facts


def renew(place: Node) -> None:
    """Put another generation with the newest registry data's content into the depot, under a
    session of its own: the same file, but for what its header says.
    """
    depot = Depot(place.depot)
    newest = depot.kept(REGISTRY)[0]
    session, path = str(uuid.uuid4()), depot.new_path()
    shutil.copyfile(place.depot / "snapshots" / newest.file, path)
    with path.open("r+b") as file:
        magic, length, _ = HEADER.unpack(file.read(HEADER.size))
        packed = file.read(length).replace(newest.session.encode(), session.encode())
        file.seek(0)
        file.write(HEADER.pack(magic, length, hashlib.sha256(packed).digest()) + packed)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    head = SnapshotHead(REGISTRY, newest.registry_id, session, 1, int(time.time()))
    facts = SnapshotFacts(path, newest.size, sha256, newest.digest, {})
    if newest.serial != 1 or open_snapshot(path, trusted=True).session != session:
        raise RuntimeError(f"{newest.file} can't be made another session's")
    depot.adopt(facts, head)


def copied(place: Node, name: str) -> Node:
    """Another folder whose depot has hard links to the same snapshots, and all else for itself."""
    folder = place.folder.with_name(f"{place.folder.name}-{name}")
    shutil.rmtree(folder, ignore_errors=True)

    def copy(source: str, target: str) -> None:
        (os.link if Path(source).parent.name == "snapshots" else shutil.copy2)(source, target)

    living = shutil.ignore_patterns("*.lock", "*.sock", "workers", "control", "scratch", "lists")
    shutil.copytree(place.depot, folder / "depot", copy_function=copy, ignore=living)
    return Node(folder)


def for_the_kernel(place: Node, folder: Path, devices: int) -> None:
    """What ``bench.kernel_bench`` reads: the node's snapshots, and questions about all parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for feed in (REGISTRY, OPERATOR):
        newest, path = Depot(place.depot).kept(feed)[0], folder / f"{feed}.eirsnap"
        path.unlink(missing_ok=True)
        os.link(place.depot / "snapshots" / newest.file, path)
    population = plan_population(devices, seed=SEED, now=int(time.time()))
    rng = np.random.default_rng(11)
    chunks = rng.permutation(population.chunks)[:KERNEL_CHUNKS]
    wanted = -(-kernel_bench.QUESTIONS // len(chunks))
    drawn = [kernel_bench.draw(population.rows(int(index)), wanted, rng) for index in chunks]
    mixes = {
        mix: rng.permutation(np.concatenate([each[mix] for each in drawn]))
        for mix in kernel_bench.MIXES
    }
    np.savez(folder / "questions.npz", **mixes)


def load(config: Path, manifest: Path) -> tuple[Sample, Mapping[str, object]]:
    """``eir load`` as a process: wall seconds, CPU seconds, peak memory; and what it says.

    The peak is of the largest process, not of pages of the file that the system caches for it.
    """
    words = (*EIR, "load", str(manifest), "-c", str(config), "--json")
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    if process.returncode != 0:
        raise RuntimeError(f"eir load ended with {process.returncode}")
    summary = json.loads(told)
    rows = sum(file["rows"] for file in summary["files"])
    return {
        "seconds": wall,
        "rows_per_s": rows / wall,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024.0,
        "rows": float(rows),
        "snapshot_bytes": float(summary["bytes"]),
    }, summary


def measure_load(lines: Lines, node: Node, facts: SampleFacts) -> None:
    """Load both manifests, once each."""
    config = node.config("load")
    for feed, manifest in (
        ("registry", facts.registry_manifest),
        ("operator", facts.operator_manifest),
    ):
        found, _ = load(config, manifest)
        lines.add("load", f"eir load, {feed} data", [found], devices=facts.devices)


def measure_start(lines: Lines, node: Node, devices: int, cpus: set[int]) -> None:
    """``eir serve`` from nothing to its first verdict, and a worker's successor from the death of
    the only one to its; the compiled kernel is cached.
    """
    samples, successors = [], []
    for _ in range(START_ROUNDS + 1):
        port = free_port()
        config = node.config("start", [f'listen = ["127.0.0.1:{port}"]'], workers=len(cpus))
        process = start((*EIR, "serve", "-c", config), cpus)
        try:
            ready = partial(answers, port, "350000000000000", "")
            seconds = wait_for(ready, process)
            samples.append({"seconds": seconds, "pss_bytes": float(pss_bytes(process.pid))})
            if len(cpus) == 1:
                with NodeClient(f"unix:{node.folder / 'start.sock'}", timeout=30) as client:
                    os.kill(client.status().workers[0].pid, signal.SIGKILL)
                successors.append({"seconds": wait_for(ready, process)})
        finally:
            stop(process)
    lines.add("start", "eir serve, to its first verdict", samples[1:], devices=devices)
    if successors:
        lines.add("start", "a worker's successor", successors[1:], devices=devices)


def measure_sizes(lines: Lines, node: Node, devices: int) -> None:
    """Bytes of a list by IMEI, of a table by pair or row, as mapped."""
    newest = Depot(node.depot).kept(REGISTRY)[0]
    opened = open_snapshot(node.depot / "snapshots" / newest.file, trusted=True)
    for name, section in opened.sections.items():
        spec = SECTIONS.get(name)
        if section.items < 1_000:
            continue
        item = "pair" if spec and spec.kind == "pairs" else "item"
        sizes = {"bytes_per_item": _bytes_of(section) / section.items, "items": section.items}
        lines.add("size", name, [sizes], devices=devices, item=item)


def _bytes_of(section: Section) -> int:
    return _array_bytes(section.content)


def _array_bytes(value: object) -> int:
    """The bytes of all arrays that a frozen value is made of."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(_array_bytes(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, tuple | list):
        return sum(_array_bytes(each) for each in value)
    return 0
