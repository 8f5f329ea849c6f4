"""The benchmarks of single parts, each a script of its own beside this one, as parts of the run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.lines import Lines
from bench.toolchain import HERE

DELTA_CHANGES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
CROWD: Final = 100
MAX_CROWD_BASE: Final = 100_000
MAX_DOOR_DEVICES: Final = 1_000_000
_TIMES: Final = ("seconds", "answered_s")


def kernel(lines: Lines, folder: Path, *, devices: int, rounds: int, uniform: bool = False) -> None:
    """The decide kernel alone: nanoseconds a check, and bytes an item beside its directories."""
    words = ("--devices", devices, "--folder", folder, "--rounds", rounds)
    for row in _rows(lines, "kernel_bench", (*words, *(["--uniform"] if uniform else []))):
        serials = row["serials"]
        if row["bench"] == "kernel":
            samples = [
                {f"ns_at_{batch}": times[end] for batch, times in row["ns_a_check"].items()}
                for end in ("min", "median", "max")
            ]
            lines.add("kernel", row["mix"], samples, devices=devices, serials=serials)
        else:
            _add(lines, "kernel-memory", row, devices=devices, serials=serials)


def delta(lines: Lines, *, devices: int, rounds: int) -> None:
    """What a delta costs, by its size."""
    changes = [count for count in DELTA_CHANGES if count <= devices // 4]
    words = ("--base", devices, "--changes", *changes, "--rounds", rounds)
    for row in _rows(lines, "delta", words):
        _add(lines, "delta", row, devices=devices)


def follow(lines: Lines, snapshot: Path, folder: Path, *, devices: int, rounds: int) -> None:
    """From a head seen to served and durable, on a node's own data, by sizes of the delta."""
    begun = ("--base", "--snapshot", snapshot, "--devices", devices, "--folder", folder)
    words = (*begun, "--changes", *DELTA_CHANGES, "--rounds", rounds, "--nodes", 0)
    for row in _rows(lines, "follow", words):
        if row["bench"] != "delta":
            _add(lines, "follow", row, devices=row["base_devices"])
            continue
        ends = [{n: row[n][end] for n in _TIMES} for end in ("low", "median", "high")]
        rest = {n: row[n] for n in ("changes", "bytes_a_change")}
        lines.add("follow", "delta", [e | rest for e in ends], devices=row["base_devices"])


def crowd(lines: Lines, folder: Path, *, devices: int) -> None:
    """Many nodes that follow one feed."""
    base = min(devices, MAX_CROWD_BASE)
    words = ("--base", "--folder", folder, "--nodes", CROWD, "--crowd-base", base)
    for row in _rows(lines, "follow", words):
        _add(lines, "follow", row, devices=base)


def s13(lines: Lines, *, devices: int, rounds: int, seconds: float) -> None:
    """S13 beside python-diameter as server."""
    size = min(devices, MAX_DOOR_DEVICES)
    words = ("--seconds", seconds, "--rounds", rounds, "--devices", size)
    for row in _rows(lines, "s13_load", words):
        _add(lines, "door", row)


def n5g(lines: Lines, *, devices: int, rounds: int) -> None:
    """N5g-eir beside granian answering a constant."""
    words = ("--rounds", rounds, "--devices", min(devices, MAX_DOOR_DEVICES))
    for row in _rows(lines, "n5g_load", words):
        _add(lines, "door", row)


def overload(lines: Lines, *, devices: int, rounds: int, seconds: float) -> None:
    """What answered calls wait past a gRPC door's capacity, with its bound and without."""
    words = ("--devices", min(devices, MAX_DOOR_DEVICES), "--rounds", rounds, "--seconds", seconds)
    for row in _rows(lines, "overload", words):
        _add(lines, "overload", row)


def workers(lines: Lines, *, devices: int, rounds: int) -> None:
    """What workers cost, and how evenly connections fall to them, with each gRPC engine."""
    for engine in ("grpcio", "native"):
        words = (
            "--devices",
            min(devices, MAX_DOOR_DEVICES),
            "--rounds",
            rounds,
            "--engine",
            engine,
        )
        for row in _rows(lines, "workers_bench", words):
            _add(lines, "workers", {**row, "bench": f"workers, {engine} engine"})


def _rows(lines: Lines, script: str, words: tuple[object, ...]) -> Iterator[Mapping[str, Any]]:
    """The JSON lines that a script prints, as they come; told loudly where it ends otherwise."""
    command = [sys.executable, "-m", f"bench.{script}", *map(str, words)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=HERE.parent
        ) as process,
    ):
        assert process.stdout is not None
        told = False
        for text in process.stdout:
            if text.startswith("{"):
                row = json.loads(text)
                told = told or bool(row.get("wrong"))
                yield row
        if process.wait() != 0 and not told:
            errors.seek(0)
            lines.fail(f"bench/{script}.py", errors.read().strip()[-300:] or process.returncode)


def _add(lines: Lines, measure: str, row: Mapping[str, Any], **facts: object) -> None:
    """The numbers of a row, whatever it has; ranges by their medians."""
    found = {}
    for name, value in row.items():
        number = value.get("median") if isinstance(value, dict) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            found[name] = float(number)
    lines.add(measure, str(row.get("bench", measure)), [found], **facts)
