"""What the micro benchmarks share. A saved run names the kind of machine, never the machine."""

from __future__ import annotations

import numpy as np
import pytest

from bench.machine import about
from eir.core.generation import REGISTRY
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.ops.demo.population import device_arrays

DEVICES, NOW = 100_000, 1_750_000_000
SESSION = "8f9a2c1e-0000-4000-8000-000000000001"


def pytest_benchmark_generate_machine_info() -> dict[str, object]:
    """CPU model, cores and versions; no host name."""
    return {key: value for key, value in about().items() if key != "date"}


def pytest_benchmark_generate_commit_info() -> dict[str, object]:
    """Nothing: the baseline is committed with what it measured."""
    return {"id": "", "dirty": False}


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """A registry of 10^5 devices, mapped."""
    arrays = device_arrays(DEVICES, seed=1, now=NOW)
    path = tmp_path_factory.mktemp("micro") / "registry.snap"
    writer = SnapshotWriter(SnapshotHead(REGISTRY, "bench", SESSION, 1, NOW))
    for name in ("white", "legacy", "bound-elsewhere"):
        writer.add_list(name, [arrays[name][0]])
    writer.add_list("black.stolen", [arrays["black.stolen"][0]], reason_id=256)
    writer.add_pairs("bindings", [arrays["bindings"]])
    writer.add_deadlines("grey", [arrays["grey"]])
    writer.write(path)
    return Tables(open_snapshot(path), None, Policy())


@pytest.fixture(scope="session")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Bound pairs in random order: keys, numbers."""
    keys, numbers = device_arrays(DEVICES, seed=1, now=NOW)["bindings"]
    order = np.random.default_rng(3).permutation(len(keys))
    return keys[order].copy(), numbers[order].copy()
