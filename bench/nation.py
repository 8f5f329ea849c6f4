"""What the doors' benchmarks decide on: one registry in memory, and who is asked about.

Half of the devices are bound, one in a hundred is black, the rest were imported; the operator's
table knows every bound subscriber's IMSI. The same in every run.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving

FIRST_NUMBER = 989_120_000_000
FIRST_IMSI = 432_110_000_000_000
EXPECTED = ("WHITELISTED", "GREYLISTED", "BLACKLISTED", "GREYLISTED")
"""What is answered to question n, by n mod 4: bound, imported, black, unknown."""


def white(devices: int) -> NDArray[np.uint64]:
    """IMEI keys, clustered by TAC: uint64, sorted, unique."""
    random = np.random.default_rng(5)
    tacs = 35_000_000 + random.integers(0, max(devices // 2_500, 1), devices, dtype=np.uint64)
    serials = random.integers(0, 1_000_000, devices, dtype=np.uint64)
    return np.unique(tacs * np.uint64(1_000_000) + serials)


def questions(devices: int, count: int) -> list[tuple[int, int]]:
    """(IMEI key, which subscriber) of bound, white, black and unknown devices in turn."""
    keys = white(devices) if devices else np.arange(1, 200_001, dtype=np.uint64)
    picks = np.random.default_rng(6).integers(0, len(keys) // 200 - 1, count) * 200
    asked = []
    for at, pick in enumerate(picks.tolist()):
        place = pick + (2, 1, 0, 2)[at % 4]
        asked.append((int(keys[place]) + (10**13 if at % 4 == 3 else 0), place // 2))
    return asked


def real_checker(devices: int) -> Checker:
    """A checker on snapshots in memory: white, black.stolen, bindings; IMSIs of all subscribers."""
    keys, now = white(devices), int(time.time())
    bound = keys[::2]
    subscribers = np.arange(len(bound), dtype=np.uint64)
    numbers = np.uint64(FIRST_NUMBER) + subscribers
    registry, operator = (
        SnapshotWriter(SnapshotHead(feed, "bench", str(uuid.UUID(int=1)), 1, now))
        for feed in ("registry", "operator")
    )
    registry.add_list("white", [keys])
    registry.add_list("black.stolen", [keys[::100]], reason_id=256)
    registry.add_pairs("bindings", [(bound, numbers)])
    imsis = np.uint64(FIRST_IMSI) + subscribers << np.uint64(4) | np.uint64(15)
    operator.add_pairs("imsi-msisdn", [(imsis, numbers)])
    with tempfile.TemporaryDirectory() as folder:
        registry.write(Path(folder) / "registry")
        operator.write(Path(folder) / "operator")
        tables = Tables(
            open_snapshot(Path(folder) / "registry"),
            open_snapshot(Path(folder) / "operator"),
            Policy(),
        )
    holder = Holder()
    holder.swap(Serving(tables, now))
    return Checker(holder)
