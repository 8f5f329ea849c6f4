"""The benchmarks of single parts, each a script of its own beside this one, as parts of the run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.lines import Lines
from bench.toolchain import HERE

DELTA_CHANGES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
CROWD: Final = 100
MAX_CROWD_BASE: Final = 1_000_000
_TIMES: Final = ("seconds", "answered_s")


def kernel(lines: Lines, folder: Path, *, devices: int, rounds: int) -> None:
    """The decide kernel alone: nanoseconds a check, and bytes an item beside its directories."""
    words = ("--devices", devices, "--folder", folder, "--rounds", rounds)
    for row in _rows(lines, "kernel_bench", words):
        if row["bench"] == "kernel":
            samples = [
                {f"ns_at_{batch}": times[end] for batch, times in row["ns_a_check"].items()}
                for end in ("min", "median", "max")
            ]
            lines.add("kernel", row["mix"], samples, devices=devices, serials=row["serials"])
        else:
            _add(lines, "kernel-memory", row, devices=devices)


def delta(lines: Lines, *, devices: int, rounds: int) -> None:
    """What a delta costs, by its size."""
    changes = [count for count in DELTA_CHANGES if count <= devices // 4]
    words = ("--base", devices, "--changes", *changes, "--rounds", rounds)
    for row in _rows(lines, "delta", words):
        _add(lines, "delta", row, devices=devices)


def follow(lines: Lines, *, devices: Sequence[int], rounds: int) -> None:
    """From a head seen to served and durable, by sizes of base and delta; and a crowd of nodes."""
    crowd = ("--nodes", CROWD, "--crowd-base", min(max(devices), MAX_CROWD_BASE))
    words = ("--base", *devices, "--changes", *DELTA_CHANGES, "--rounds", rounds, *crowd)
    for row in _rows(lines, "follow", words):
        if row["bench"] != "delta":
            _add(lines, "follow", row, devices=row["base_devices"])
            continue
        ends = [{n: row[n][end] for n in _TIMES} for end in ("low", "median", "high")]
        rest = {n: row[n] for n in ("changes", "bytes_a_change")}
        lines.add("follow", "delta", [e | rest for e in ends], devices=row["base_devices"])


def doors(lines: Lines, *, devices: int, rounds: int, seconds: float) -> None:
    """S13 and N5g-eir beside their peers."""
    for row in _rows(lines, "s13_load", ("--seconds", seconds)):
        if row["wrong"]:
            lines.faults.append(f"s13_load: {row['wrong']} answers wrong")
        _add(lines, "door", row)
    words = ("--rounds", rounds, "--devices", min(devices, 1_000_000))
    for row in _rows(lines, "n5g_load", words):
        _add(lines, "door", row)


def overload(lines: Lines, *, devices: int, rounds: int, seconds: float) -> None:
    """What answered calls wait past a gRPC door's capacity, with its bound and without."""
    words = ("--devices", min(devices, 1_000_000), "--rounds", rounds, "--seconds", seconds)
    for row in _rows(lines, "overload", words):
        if row["wrong"]:
            lines.faults.append(f"{row['bench']}: {row['wrong']:.0f} answers wrong")
        _add(lines, "overload", row)


def workers(lines: Lines, *, devices: int, rounds: int) -> None:
    """What workers cost, and how evenly connections fall to them, with each gRPC engine."""
    for engine in ("grpcio", "native"):
        words = ("--devices", min(devices, 1_000_000), "--rounds", rounds, "--engine", engine)
        for row in _rows(lines, "workers_bench", words):
            _add(lines, "workers", {**row, "bench": f"workers, {engine} engine"})


def _rows(lines: Lines, script: str, words: tuple[object, ...]) -> Iterator[Mapping[str, Any]]:
    """The JSON lines that a script prints, also of a run that failed by wrong answers; told loudly
    where it can't be run.
    """
    command = [sys.executable, "-m", f"bench.{script}", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
    rows = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
    if done.returncode != 0 and not any(row.get("wrong") for row in rows):
        lines.miss(f"bench/{script}.py", (done.stderr or done.stdout).strip()[-300:])
        return
    yield from rows


def _add(lines: Lines, measure: str, row: Mapping[str, Any], **facts: object) -> None:
    """The numbers of a row, whatever it has; ranges by their medians."""
    found = {}
    for name, value in row.items():
        number = value.get("median") if isinstance(value, dict) else value
        if isinstance(number, int | float) and not isinstance(number, bool):
            found[name] = float(number)
    lines.add(measure, str(row.get("bench", measure)), [found], **facts)
