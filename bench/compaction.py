"""What the next base costs, and what those who are asked meanwhile feel of it.

    python -m bench.compaction [--base 1000000 10000000] [--share 0.05] [--folder FOLDER]

Prints one JSON line for each size. The base is that of ``bench.delta``: each device on a list and
bound; one delta touches ``share`` of its items. The process that writes is the one of the node.
``check_…_us``: a batch of 512 decided by this process, again and again, in the quiet and while the
other writes; ``checks_…`` how many batches a second that came to. ``open_s``: verifying the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench.delta import base_generation, changes
from bench.machine import about
from eir.core.generation import Generation
from eir.core.policy import CODES, Policy
from eir.core.tables import Tables
from eir.feed.codec import open_snapshot
from eir.feed.delta_file import DeltaHead, advance, read_delta, write_delta, write_frame
from eir.feed.digest import Digest, of_delta
from eir.ops.compaction import touched_keys
from eir.ops.compactor import ONE_THREAD, Order

BATCH = 512
QUIET_S = 5.0


def grown(
    base: Generation, share: float, folder: Path, rng: np.random.Generator
) -> tuple[Generation, bytes]:
    """The base with a delta that touches so much of it, and the delta's file."""
    items = sum(section.items for section in base.sections.values())
    delta = changes(base, max(10, int(items * share / 1.2)), rng)
    after = str(Digest.parse(base.digest) + of_delta(delta))
    head = DeltaHead("registry", "bench", base.session, 1, 2, 1_700_000_100, base.digest, after)
    path = folder / f"delta-{items}"
    write_delta(path, head, delta)
    return advance(base, *read_delta(path)), path.read_bytes()


def decided(tables: Tables, goes_on: Callable[[], bool]) -> np.ndarray:
    """Microseconds of each batch, as long as it goes on; asked are devices of all kinds."""
    rng = np.random.default_rng(3)
    pairs = np.concatenate(
        [
            rows
            for rows, _ in zip(tables.registry.sections["bindings"].rows(), range(2), strict=False)
        ]
    )
    counts, none, spent = np.zeros((CODES, 5), np.uint64), np.zeros(BATCH, np.uint64), []
    while goes_on():
        picked = pairs[rng.integers(0, len(pairs), BATCH)]
        imei, number = picked[:, 0].copy(), picked[:, 1].copy()
        imei[::4] += np.uint64(10**13)
        begun = time.perf_counter_ns()
        tables.check(imei, number, none, now=10**9, grace_time=10**9, counts=counts)
        spent.append(time.perf_counter_ns() - begun)
    return np.array(spent) / 1e3


def felt(name: str, spent: np.ndarray, seconds: float) -> dict[str, float]:
    """Percentiles and rate of the batches."""
    p50, p99 = np.percentile(spent, [50, 99])
    rate = len(spent) / seconds
    return {
        f"check_{name}_p50_us": round(float(p50), 1),
        f"check_{name}_p99_us": round(float(p99), 1),
        f"checks_{name}_batches_s": round(rate),
    }


def order_of(made: Generation, base: Path, chain: Path, path: Path) -> tuple[Order, list[int]]:
    """The order that the node would give, and the files that go with it."""
    files = [os.open(base, os.O_RDONLY), os.open(chain, os.O_RDONLY)]
    order = Order(
        made.feed, made.registry_id, made.session, made.serial, made.made_at, made.digest,
        files[0], files[1], str(path), os.getpid(),
    )  # fmt: skip
    return order, files


def measured(devices: int, share: float, folder: Path) -> dict[str, object]:
    """One size: everything but the machine."""
    rng = np.random.default_rng(devices)
    base_path, chain_path, path = (
        folder / f"{name}-{devices}" for name in ("base", "chain", "next")
    )
    base = base_generation(base_path, devices, rng)
    made, raw = grown(base, share, folder, rng)
    with chain_path.open("w+b", buffering=0) as chain:
        write_frame(chain, raw, 0)
    tables = Tables(made, None, Policy())
    decided(tables, iter([True] * 50 + [False]).__next__)
    until = time.monotonic() + QUIET_S
    quiet = felt("quiet", decided(tables, lambda: time.monotonic() < until), QUIET_S)
    order, files = order_of(made, base_path, chain_path, path)
    command = [sys.executable, "-P", "-m", "eir.ops.compactor", json.dumps(asdict(order))]
    begun = time.monotonic()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, pass_fds=files, env=os.environ | ONE_THREAD
    )
    spent = decided(tables, lambda: child.poll() is None)
    seconds = time.monotonic() - begun
    assert child.stdout is not None
    told = json.loads(child.stdout.read())
    if told["reason"]:
        raise RuntimeError(told["detail"])
    begun = time.monotonic()
    found = open_snapshot(path)
    return {
        "bench": "compaction",
        "base_devices": devices,
        "items": sum(section.items for section in found.sections.values()),
        "touched_keys": touched_keys(made),
        "digest_is_the_pinned_one": found.digest == made.digest,
        "seconds": round(seconds, 3),
        "busy_s": round(told["busy_s"], 3),
        "peak_bytes": told["peak_bytes"],
        "base_bytes": base_path.stat().st_size,
        "next_bytes": told["size"],
        "open_s": round(time.monotonic() - begun, 3),
        **quiet,
        **felt("meanwhile", spent, seconds),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--base", type=int, nargs="+", default=[1_000_000])
    options.add_argument("--share", type=float, default=0.05)
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for devices in given.base:
            line = measured(devices, given.share, Path(folder))
            print(json.dumps({**line, **about()}), flush=True)


if __name__ == "__main__":
    main()
