"""What noting sightings costs a check: the checker with it off and on, at batches of 1, 16 and 512.

    python -m bench.sightings_cost [--devices 1000000] [--rounds 15]

Prints one JSON line: nanoseconds of processor time a check, the median over rounds in which all
cases take turns, with their range. ``off``: not configured. ``bound``: everybody is bound, and
nobody noted, which is nearly all of a network's life. ``known``: everybody is unknown and was noted
lately. ``new``: everybody is unknown and never came before, and a keeper makes room.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench import machine
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving
from eir.serve.sighting_ring import RingFile, RingReader

FIRST, NUMBER, UNKNOWN = 35_209_900_000_000, 989_100_000_000, 11_000_000_000_000
NOW = 1_750_000_000
SIZES = (1, 16, 512)
ENOUGH_S = 0.15


def tables_of(folder: Path, devices: int) -> Tables:
    head = SnapshotHead("registry", "bench", str(uuid.UUID(int=1)), 1, NOW)
    writer = SnapshotWriter(head)
    keys = np.arange(FIRST, FIRST + devices, dtype=np.uint64)
    writer.add_list("white", [keys])
    writer.add_pairs("bindings", [(keys, keys - np.uint64(FIRST - NUMBER))])
    writer.write(folder / "snapshot")
    return Tables(open_snapshot(folder / "snapshot"), None, Policy())


class Case:
    """A checker, and the queries that it is asked, in order, again and again."""

    def __init__(self, checker: Checker, pairs: tuple[np.ndarray, np.ndarray]) -> None:
        self.checker, self.pairs = checker, pairs
        self.taken: dict[int, list[float]] = {size: [] for size in SIZES}

    def measure(self, size: int, room: Callable[[], None]) -> None:
        """One round at this batch size; ``room`` is called where no clock runs."""
        keys, numbers = self.pairs
        nobody, total, count, at = np.zeros(size, np.uint64), 0.0, 0, 0
        while total < ENOUGH_S:
            if at + 64 * size > len(keys):
                at = 0
            batches = [slice(at + n * size, at + (n + 1) * size) for n in range(64)]
            at += 64 * size
            begun = time.thread_time()
            for batch in batches:
                self.checker.check(keys[batch], numbers[batch], nobody)
            total += time.thread_time() - begun
            count += 64 * size
            room()
        self.taken[size].append(total / count * 1e9)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--devices", type=int, default=1_000_000)
    words.add_argument("--rounds", type=int, default=15)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tables = tables_of(Path(name), asked.devices)
        ring = RingFile(Path(name))
        reader = RingReader(ring.path)
        cases = cases_of(tables, ring, asked.devices)

        def room() -> None:
            reader.taken(len(reader.look()))

        for number in range(asked.rounds + 1):
            for size in SIZES:
                for case in cases.values():
                    case.measure(size, room)
                    if number == 0:
                        case.taken[size].clear()
    figures = {
        name: {str(size): told(case.taken[size]) for size in SIZES} for name, case in cases.items()
    }
    line = {"what": "sightings", "devices": asked.devices, "ns_a_check": figures, **machine.about()}
    print(json.dumps(line))


def cases_of(tables: Tables, ring: RingFile, devices: int) -> dict[str, Case]:
    chance = np.random.default_rng(7)
    keys = chance.integers(FIRST, FIRST + devices, 1 << 18).astype(np.uint64)
    bound = (keys, keys - np.uint64(FIRST - NUMBER))
    few = np.tile(np.arange(UNKNOWN, UNKNOWN + 2_000, dtype=np.uint64), 132)
    many = np.arange(UNKNOWN + 10**6, UNKNOWN + 5 * 10**6, dtype=np.uint64)
    noting = ring.noting(tables.reasons, census=False)
    off, on = (Holder() for _ in range(2))
    off.swap(Serving(tables, NOW))
    on.swap(Serving(tables, NOW, noting=noting))
    silent, telling = (Checker(holder, lambda: NOW) for holder in (off, on))
    return {
        "off, bound": Case(silent, bound),
        "on, bound": Case(telling, bound),
        "off, unknown": Case(silent, (few, few)),
        "on, known": Case(telling, (few, few)),
        "on, new": Case(telling, (many, many)),
    }


def told(taken: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(taken), 1),
        "least": round(min(taken), 1),
        "most": round(max(taken), 1),
    }


if __name__ == "__main__":
    main()
