"""Micro-benchmarks of a check and of a load: ``python -m pytest bench/test_kernel.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.kernel_bench import BATCHES, MIXES, NOW, make
from eir.core import imeiset, rankindex
from eir.core.generation import OPERATOR, REGISTRY
from eir.core.golden import verify_kernel
from eir.core.policy import CODES, Policy
from eir.core.sieving import with_sieve
from eir.core.tables import Tables
from eir.feed.codec import open_snapshot
from eir.ops.demo.population import plan_population

DEVICES = 50_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("population")
    make(plan_population(DEVICES, seed=1, now=NOW), made)
    return made


@pytest.fixture(scope="module")
def tables(folder: Path) -> Tables:
    registry, operator = (
        with_sieve(open_snapshot(folder / f"{feed}.eirsnap")) for feed in (REGISTRY, OPERATOR)
    )
    return Tables(registry, operator, Policy())


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("mix", MIXES)
def test_check(
    benchmark: BenchmarkFixture, folder: Path, tables: Tables, mix: str, batch: int
) -> None:
    queries = np.load(folder / "questions.npz")[mix][:batch].T.copy()
    counts = np.zeros((CODES, 5), np.uint64)
    benchmark(tables.check, *queries, now=NOW, grace_time=NOW, counts=counts)
    assert int(counts.sum()) % batch == 0


def test_open_snapshot(benchmark: BenchmarkFixture, folder: Path) -> None:
    generation = benchmark(open_snapshot, folder / f"{REGISTRY}.eirsnap")
    assert generation.sections["bindings"].items > DEVICES


def test_golden_table(benchmark: BenchmarkFixture) -> None:
    benchmark(verify_kernel)


@pytest.mark.parametrize("step", [1, 3, 40])
def test_build_list(benchmark: BenchmarkFixture, step: int) -> None:
    keys = np.arange(1, 200_000 * step, step, dtype=np.uint64)
    assert benchmark(imeiset.build, [keys]).items == len(keys)


@pytest.mark.parametrize("step", [1, 3, 40])
def test_build_index(benchmark: BenchmarkFixture, step: int) -> None:
    keys = np.arange(1, 200_000 * step, step, dtype=np.uint64)
    assert benchmark(rankindex.build, [keys]).size == len(keys)
