"""What a usual EIR is made of: primary-key look-ups in PostgreSQL and SQLite, verified."""

from __future__ import annotations

import random
import re
import sqlite3
import subprocess
import time
from functools import partial
from pathlib import Path

from bench.lines import Lines, Sample, interleaved
from bench.machine import cpu_seconds
from bench.processes import held_to
from bench.subjects import PGBENCH_SCRIPT
from bench.toolchain import command


def postgres(
    lines: Lines, folder: Path, pid: int, *, rows: int, rounds: int, seconds: float, cpus: set[int]
) -> None:
    """pgbench with prepared statements, one client at a time and 16."""
    runs = {
        f"{clients} client{'s' * (clients > 1)}": partial(
            _pgbench, folder, pid, rows, clients, seconds, cpus
        )
        for clients in (1, 16)
    }
    for ask, samples in interleaved(rounds, runs).items():
        lines.add("lookup", "PostgreSQL, primary key", samples, ask=ask, devices=rows)


def _pgbench(
    folder: Path, pid: int, rows: int, clients: int, seconds: float, cpus: set[int]
) -> Sample:
    words = [command("pgbench"), "-n", "-M", "prepared", "-f", PGBENCH_SCRIPT, "-D", f"rows={rows}"]
    words += ["-c", clients, "-j", 1, "-T", max(1, round(seconds)), "-h", folder, "-U", "eir"]
    before = cpu_seconds(pid)
    words = [*words, "postgres"]
    with held_to(cpus):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    asked = re.search(r"actually processed: (\d+)", done.stdout)
    if not rate or not asked:
        raise RuntimeError(f"pgbench: {done.stderr[-300:]}")
    return {
        "checks_per_s": float(rate[1]),
        "cpu_us_per_check": (cpu_seconds(pid) - before) / max(int(asked[1]), 1) * 1e6,
        "wrong": float(len(re.findall("aborted", done.stderr))),
    }


def sqlite(lines: Lines, folder: Path, *, rows: int, rounds: int, seconds: float) -> None:
    """A prepared SELECT by primary key within this process: no transport at all."""
    path = folder / "devices.sqlite"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE device (imei INTEGER PRIMARY KEY, status INT NOT NULL)")
        devices = ((35_000_000_000_000 + 7 * n, n % 4 + 1) for n in range(rows))
        made.executemany("INSERT INTO device VALUES (?, ?)", devices)
    samples = [_select_for(path, rows, seconds) for _ in range(rounds)]
    lines.add("lookup", "SQLite, primary key", samples, ask="in process", devices=rows)


def _select_for(path: Path, rows: int, seconds: float) -> Sample:
    rng = random.Random(7)
    asked = [rng.randrange(rows) for _ in range(20_000)]
    select, done, wrong = "SELECT status FROM device WHERE imei = ?", 0, 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as read:
        begun, cpu = time.perf_counter(), time.process_time()
        while (wall := time.perf_counter() - begun) < seconds:
            for n in asked:
                (status,) = read.execute(select, (35_000_000_000_000 + 7 * n,)).fetchone()
                wrong += status != n % 4 + 1
            done += len(asked)
        cpu = time.process_time() - cpu
    return {
        "checks_per_s": done / wall,
        "cpu_us_per_check": cpu / done * 1e6,
        "wrong": float(wrong),
    }
