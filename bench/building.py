"""From list files to a first verdict: time, peak memory, and bytes an item."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bench.lines import Lines, Sample
from bench.subjects import EIR, Node, answers, free_port, start, stop, wait_for
from eir.core.generation import REGISTRY, SECTIONS, Section
from eir.ops.demo.sample import SampleFacts, write_sample
from eir.store.depot import Depot

START_ROUNDS: Final = 3


def sample(folder: Path, devices: int) -> SampleFacts:
    """The list files of a sample registry, always the same but for its deadlines."""
    print(f"drawing {devices:,} devices ...", file=sys.stderr, flush=True)
    return write_sample(folder, devices, seed=1)


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
    """``eir serve`` from nothing to its first verdict; the compiled kernel is cached."""
    samples = []
    for _ in range(START_ROUNDS + 1):
        port = free_port()
        config = node.config("start", [f'listen = ["127.0.0.1:{port}"]'], workers=len(cpus))
        process = start((*EIR, "serve", "-c", config), cpus)
        try:
            ready = partial(answers, port, "350000000000000", "")
            samples.append({"seconds": wait_for(ready, process)})
        finally:
            stop(process)
    lines.add("start", "eir serve, to its first verdict", samples[1:], devices=devices)


def measure_sizes(lines: Lines, node: Node, devices: int) -> None:
    """Bytes of a list by IMEI, of a table by pair or row, as mapped."""
    for name, section in Depot(node.depot).open_newest(REGISTRY).generation.sections.items():
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
