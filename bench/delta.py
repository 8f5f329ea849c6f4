"""What a delta costs: to write, to read, to apply, and on the wire; by its size and the base's.

    python bench/delta.py [--base 1000000 10000000] [--changes 100 10000 1000000] [--rounds 3]

Prints one JSON line for each pair. The base: ``base`` devices in clustered serials, each on a list
and bound. The changes, as a nation's day has them: 40 % bindings come, 20 % go, 20 % grey entries
with one deadline, 10 % imports in batches of consecutive serials, 10 % stolen devices. ``second_s``
is the cost of one more delta of 1,000 changes behind this one: O(delta + overlay).
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eir.core.delta import Change, Delta, Items, apply
from eir.core.generation import Generation
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.feed.delta_file import DeltaHead, advance, read_delta, write_delta
from eir.feed.digest import Digest, of_delta

U64 = NDArray[np.uint64]
T = TypeVar("T")

FIRST_TAC, TACS, SERIALS = 35_000_000, 40_000, 1_000_000
FIRST_NUMBER, NUMBERS = 989_100_000_000, 400_000_000
DEADLINE = 1_800_000_000
MOST_PAIRS = 4_000_000


def base_generation(path: Path, devices: int, rng: np.random.Generator) -> Generation:
    head = SnapshotHead("registry", "bench", str(uuid.UUID(int=1)), 1, 1_700_000_000)
    writer = SnapshotWriter(head)
    imeis = clustered(devices, rng)
    writer.add_list("white", batches(imeis))
    numbers = rng.integers(FIRST_NUMBER, FIRST_NUMBER + NUMBERS, len(imeis)).astype(np.uint64)
    writer.add_pairs("bindings", zip(batches(imeis), batches(numbers), strict=True))
    few = imeis[:: max(1, len(imeis) // 10_000)]
    writer.add_list("black.stolen", [few], reason_id=256)
    writer.add_deadlines(
        "grey", [(few, np.zeros(len(few), np.uint64), np.full(len(few), DEADLINE))]
    )
    writer.write(path)
    return open_snapshot(path)


def clustered(devices: int, rng: np.random.Generator) -> U64:
    """Half of the serials, in one run a TAC."""
    tacs = np.sort(rng.choice(TACS, max(1, min(TACS, devices // 2_000)), replace=False))
    each = -(-devices // len(tacs))
    found = []
    for tac in tacs:
        first = (FIRST_TAC + int(tac)) * SERIALS + int(rng.integers(0, SERIALS - 2 * each))
        inside = np.flatnonzero(rng.random(2 * each) < 0.5)
        found.append(first + inside.astype(np.uint64))
    return np.concatenate(found)[:devices]


def batches(column: U64) -> Iterator[U64]:
    for at in range(0, len(column), 1 << 20):
        yield column[at : at + (1 << 20)]


def some_pairs(base: Generation) -> U64:
    """Bindings to be changed, uint64[n, 2], ascending: all of a small base, some of a large one."""
    bindings = base.sections["bindings"]
    share = min(1.0, MOST_PAIRS / max(bindings.items, 1))
    rng = np.random.default_rng(2)
    return np.concatenate([rows[rng.random(len(rows)) < share] for rows in bindings.rows()])


def changes(
    base: Generation, count: int, rng: np.random.Generator, pairs: U64 | None = None
) -> Delta:
    """``pairs``: as ``some_pairs`` has them, found once for many deltas."""
    pairs = some_pairs(base) if pairs is None else pairs
    picked = rng.permutation(len(pairs))[: max(count, 10)]
    gone = ascending(pairs[picked[: count // 5]])
    bound = pairs[rng.permutation(len(pairs))[: count * 2 // 5]][:, 0]
    numbers = FIRST_NUMBER + NUMBERS + rng.integers(0, NUMBERS, len(bound))
    come = ascending(np.stack([bound, numbers.astype(np.uint64)], axis=1))
    foreign = np.unique(rng.integers(10**13, 3 * 10**13, count // 5)).astype(np.uint64)
    zeros, when = np.zeros(len(foreign), np.uint64), np.full(len(foreign), DEADLINE, np.uint64)
    imported = max(1, count // 10)
    starts = 9 * 10**13 + np.arange(-(-imported // 500)) * 10**7
    fresh = (starts[:, None] + np.arange(500)).reshape(-1)[:imported].astype(np.uint64)
    stolen = np.unique(rng.integers(4 * 10**13, 5 * 10**13, max(1, count // 10))).astype(np.uint64)
    none = np.empty((0, 1), np.uint64)
    return Delta(
        {
            "bindings": Change(Items(gone), Items(come)),
            "black.stolen": Change(Items(none), Items(stolen.reshape(-1, 1))),
            "grey": Change(
                Items(np.empty((0, 3), np.uint64)),
                Items(np.stack([foreign, zeros, when], axis=1)),
            ),
            "white": Change(Items(none), Items(fresh.reshape(-1, 1))),
        },
        {"black.stolen": 256},
    )


def ascending(rows: U64) -> U64:
    return rows[np.lexsort(rows.T[::-1])]


def as_csv(delta: Delta) -> bytes:
    """The same changes as a file of lines: list, + or -, IMEI, number, deadline."""
    lines = []
    for name, change in delta.changes.items():
        for sign, items in (("-", change.removed), ("+", change.added)):
            lines += [
                f"{name},{sign},{row[0]:014d}{''.join(f',{word}' for word in row[1:])}"
                for row in items.rows.tolist()
            ]
    return "\n".join(lines).encode()


def best(rounds: int, act: Callable[[], T]) -> tuple[float, T]:
    """The least seconds of a few rounds, and what came of the last."""
    least = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        made = act()
        least = min(least, time.perf_counter() - begun)
    return least, made


def measured(
    base: Generation, size: int, count: int, rounds: int, folder: Path
) -> dict[str, object]:
    """``size``: bytes of the base's file."""
    rng = np.random.default_rng(count)
    delta = changes(base, count, rng)
    after = str(Digest.parse(base.digest) + of_delta(delta))
    head = DeltaHead("registry", "bench", base.session, 1, 2, 1_700_000_100, base.digest, after)
    path = folder / f"delta-{base.sections['white'].items}-{count}"
    write_s, facts = best(1, lambda: write_delta(path, head, delta))
    read_s, (step, read) = best(rounds, lambda: read_delta(path))
    digest_s, _ = best(rounds, lambda: of_delta(read))
    advance_s, overlaid = best(rounds, lambda: advance(base, step, read))
    small = Delta({"white": Change(*second_step(overlaid))}, {})
    second_s, _ = best(rounds, lambda: apply(overlaid, small, serial=3, made_at=1, digest=after))
    csv = as_csv(delta)
    items = len(delta)
    return {
        "bench": "delta",
        "base_devices": base.sections["white"].items,
        "changes": items,
        "write_s": round(write_s, 6),
        "read_s": round(read_s, 6),
        "digest_s": round(digest_s, 6),
        "advance_s": round(advance_s, 6),
        "advance_us_a_change": round(advance_s / items * 1e6, 3),
        "second_s": round(second_s, 6),
        "bytes_a_change": round(facts.size / items, 3),
        "csv_bytes_a_change": round(len(csv) / items, 3),
        "csv_gzip_bytes_a_change": round(len(gzip.compress(csv, 6)) / items, 3),
        "bytes_a_base_device": round(size / base.sections["white"].items, 3),
    }


def second_step(generation: Generation) -> tuple[Items, Items]:
    none = np.empty((0, 1), np.uint64)
    fresh = np.arange(8 * 10**13, 8 * 10**13 + 1_000, dtype=np.uint64).reshape(-1, 1)
    return Items(none), Items(fresh)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--base", type=int, nargs="+", default=[1_000_000])
    options.add_argument(
        "--changes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000, 1_000_000]
    )
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for devices in given.base:
            rng = np.random.default_rng(devices)
            path = Path(folder) / f"base-{devices}"
            base = base_generation(path, devices, rng)
            for count in given.changes:
                line = measured(base, path.stat().st_size, count, given.rounds, Path(folder))
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
