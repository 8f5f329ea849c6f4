"""How fast the kernel decides, and how much memory a nation takes.

    python bench/kernel_bench.py [--devices 1000000] [--uniform] [--folder DIR] [--rounds 5]

Makes a population of devices, as a registry snapshot and a small operator one (kept in ``--folder``
for the next run, else thrown away), then prints one JSON line of memory and one for each mix of
questions: nanoseconds of processor time a check, at batches of 1, 16 and 512, the median of the
rounds and their range. Questions are drawn at random over all devices. What Python does to call the
kernel is in it (at batch 1 that is most of it), what the doors do is not. ``--unsieved`` decides
without the sieves, as a guard does that weighs a candidate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import BLACK, OPERATOR, REGISTRY, WELL_KNOWN_REASONS, Generation, Table
from eir.core.imeiset import ImeiSet
from eir.core.pairtable import PairTable
from eir.core.policy import CODES, Policy
from eir.core.sieving import with_sieve
from eir.core.tables import Tables
from eir.core.view import view_of
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.ops.demo.population import Columns, Population, plan_population
from eir.store.vouched import sha256_of

U64 = NDArray[np.uint64]
NOW = 1_750_000_000
BATCHES = (1, 16, 512)
QUESTIONS = 1 << 19
MOST_CALLS = 100_000
SMALL = ("exempt.equipment", "exempt.subscriber.all", "exempt.subscriber.registration", "released")
MIXES = ("bound", "to another", "white", "unknown", "black", "bound, by IMSI")
IMSIS, MOST_IMSIS = "imsi-msisdn", 1 << 25
STREAMED = ("white", "bindings")
"""Too large to be held: each is streamed in a pass of its own."""


def make(population: Population, folder: Path) -> None:
    """Write the two snapshots and the questions."""
    held: dict[str, list[Columns]] = {}
    asked: dict[str, list[U64]] = {mix: [] for mix in MIXES}
    rng = np.random.default_rng(11)
    wanted = -(-QUESTIONS // population.chunks)
    for index in range(population.chunks):
        rows = population.rows(index)
        if sum(len(columns[0]) for columns in held.get(IMSIS, [])) > MOST_IMSIS:
            rows[IMSIS] = tuple(column[:0] for column in rows[IMSIS])
        for mix, questions in draw(rows, wanted, rng).items():
            asked[mix].append(questions)
        for name, columns in rows.items():
            if name not in STREAMED:
                held.setdefault(name, []).append(columns)
    for feed in (REGISTRY, OPERATOR):
        write(feed, population, held, folder / f"{feed}.eirsnap")
    mixes = {mix: rng.permutation(np.concatenate(parts)) for mix, parts in asked.items()}
    np.savez(folder / "questions.npz", **mixes)


def draw(rows: Mapping[str, Columns], wanted: int, rng: np.random.Generator) -> dict[str, U64]:
    """Questions uint64[≤ wanted, 3] of each mix about the devices of a chunk: (IMEI, MSISDN, IMSI
    code), one of these 0.
    """
    keys, numbers = rows["bindings"]
    black = np.concatenate([rows[name][0] for name in rows if name.startswith(BLACK)])
    white = np.setdiff1d(rows["white"][0], keys, assume_unique=False)
    some = rng.choice(rows["white"][0], wanted)
    absent = some // 1_000_000 * 1_000_000 + rng.integers(0, 1_000_000, wanted, np.uint64)
    place = rng.integers(0, len(keys), wanted)
    codes, mapped = (column[np.argsort(rows[IMSIS][1])] for column in rows[IMSIS])
    known = place[np.isin(numbers[place], mapped)]
    code = codes[np.searchsorted(mapped, numbers[known])]
    none = np.zeros_like(absent)
    return {
        "bound": np.stack([keys[place], numbers[place], none], axis=1),
        "to another": np.stack([keys[place], numbers[place - 977], none], axis=1),
        "white": np.stack([rng.choice(white, wanted), numbers[place], none], axis=1),
        "unknown": np.stack([absent, numbers[place], none], axis=1),
        "black": np.stack([rng.choice(black, wanted), numbers[place], none], axis=1),
        "bound, by IMSI": np.stack([keys[known], np.zeros_like(code), code], axis=1),
    }


def write(feed: str, population: Population, held: Mapping[str, list[Columns]], path: Path) -> None:
    """One snapshot; what is held in memory is let go as it is written."""
    writer = SnapshotWriter(SnapshotHead(feed, "bench", "bench", 1, NOW))
    if feed == REGISTRY:
        writer.add_list("white", (columns[0] for columns in population.section("white")))
        writer.add_pairs("bindings", ((k, n) for k, n in population.section("bindings")))
        writer.add_deadlines("grey", ((k, n, d) for k, n, d in held["grey"]))
        writer.add_pairs("bindings.imsi", ((k, c) for k, c in held["bindings.imsi"]))
        reasons = WELL_KNOWN_REASONS
        for name in (each for each in held if each.removeprefix(BLACK) in reasons):
            ids = reasons[name.removeprefix(BLACK)]
            writer.add_list(name, (columns[0] for columns in held[name]), reason_id=ids)
        for name in ("legacy", "bound-elsewhere"):
            writer.add_list(name, (columns[0] for columns in held[name]))
    else:
        for name in SMALL:
            keys = np.unique(np.concatenate([columns[0] for columns in held[name]]))
            writer.add_list(name, [keys])
        codes, numbers = (np.concatenate(each) for each in zip(*held[IMSIS], strict=True))
        codes, first = np.unique(codes, return_index=True)
        writer.add_pairs(IMSIS, [(codes, numbers[first])])
        writer.add_list("black.unpaid", (c[0] for c in held["black.unpaid"]), reason_id=32_768)
    path.unlink(missing_ok=True)
    writer.write(path)


def table_bytes(table: Table) -> dict[str, int]:
    """Bytes in the file, and of the directory and fences that are derived at load."""
    if isinstance(table, ImeiSet):
        stored = table.data.nbytes + table.ranges.nbytes
    else:
        stored = table.index.data.nbytes + table.index.containers.nbytes
        rest = (table.values, table.words) if isinstance(table, PairTable) else ()
        stored += sum(part.nbytes for part in rest)
    return {"stored": stored, "derived": view_of(table).derived.nbytes}


def memory(registry: Generation) -> dict[str, object]:
    """Bytes an IMEI of the white list, and a pair of the bindings; with what is derived, too."""
    white, bindings = (registry.sections[name] for name in ("white", "bindings"))
    if not isinstance(white.content, ImeiSet) or not isinstance(bindings.content, PairTable):
        raise TypeError("a list and pairs were expected")
    lists, bound = table_bytes(white.content), table_bytes(bindings.content)
    return {
        "imeis": white.items,
        "pairs": bindings.items,
        "pairs_an_imei": round(bindings.items / bindings.content.index.size, 3),
        "bytes_an_imei": round(lists["stored"] / white.items, 3),
        "bytes_an_imei_with_derived": round(sum(lists.values()) / white.items, 3),
        "bytes_a_pair": round(bound["stored"] / bindings.items, 3),
        "bytes_a_pair_with_derived": round(sum(bound.values()) / bindings.items, 3),
    }


def seconds_of(tables: Tables, questions: list[tuple[U64, U64, U64]], counts: U64) -> float:
    """The thread's own time: what others do on the machine meanwhile is not in it."""
    began = time.thread_time()
    for imei, msisdn, imsi in questions:
        tables.check(imei, msisdn, imsi, now=NOW, grace_time=NOW, counts=counts)
    return time.thread_time() - began


def measure(tables: Tables, mix: U64, batch: int, rounds: int) -> dict[str, float]:
    """Nanoseconds a check: median, least and most of the rounds."""
    calls = min(MOST_CALLS, len(mix) // batch)
    counts = np.zeros((CODES, 5), np.uint64)
    columns = mix.T.copy()
    cuts = [slice(at, at + batch) for at in range(0, calls * batch, batch)]
    questions = [(columns[0, cut], columns[1, cut], columns[2, cut]) for cut in cuts]
    seconds_of(tables, questions[: calls // 10], counts)
    times = [seconds_of(tables, questions, counts) / (calls * batch) * 1e9 for _ in range(rounds)]
    median, low, high = statistics.median(times), min(times), max(times)
    return {"median": round(median, 1), "min": round(low, 1), "max": round(high, 1)}


def rows_hit(tables: Tables, mix: U64) -> dict[str, float]:
    """Which rows of the decision table the mix hits, as shares."""
    counts = np.zeros((CODES, 5), np.uint64)
    verdicts = tables.check(*mix.T.copy(), now=NOW, grace_time=NOW, counts=counts)
    rows, counts = np.unique(verdicts.rows[:, 3], return_counts=True)
    return {str(row): round(count / len(mix), 3) for row, count in zip(rows, counts, strict=True)}


def sieve_bytes(generation: Generation) -> dict[str, object]:
    """Bytes of the sieve, and by key that it holds."""
    if generation.sieve is None:
        return {}
    columns, size = generation.sieve.columns, generation.sieve.lines.nbytes
    keys = sum(generation.sections[name].items for name in columns)
    return {"sieve_bytes": size, "sieve_bytes_a_key": round(size / keys, 3)}


def read_questions(folder: Path) -> dict[str, U64]:
    """The mixes that a folder has, each uint64[n, 3]; of two columns, the IMSI codes are 0."""
    found = np.load(folder / "questions.npz")
    return {mix: np.pad(found[mix], ((0, 0), (0, 3 - found[mix].shape[1]))) for mix in found.files}


def as_kept(path: Path) -> Generation:
    """Opened as by a keeper after a boot: from the disk, in huge pages where the system can."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        sha256_of(file.fileno())
    return open_snapshot(path)


def report(
    folder: Path, about: Mapping[str, object], rounds: int, *, sieved: bool
) -> Iterator[dict[str, object]]:
    began = time.perf_counter()
    registry, operator = (as_kept(folder / f"{feed}.eirsnap") for feed in (REGISTRY, OPERATOR))
    opened = time.perf_counter()
    if sieved:
        registry, operator = with_sieve(registry), with_sieve(operator)
    built = time.perf_counter()
    tables = Tables(registry, operator, Policy())
    laid_out = time.perf_counter()
    times = {
        "open_s": round(opened - began, 2),
        "sieve_s": round(built - opened, 2),
        "tables_s": round(laid_out - built, 3),
    }
    yield {"bench": "memory", **about, **memory(registry), **sieve_bytes(registry), **times}
    mixes = read_questions(folder)
    for mix in mixes:
        speed = {str(batch): measure(tables, mixes[mix], batch, rounds) for batch in BATCHES}
        rows = rows_hit(tables, mixes[mix])
        yield {"bench": "kernel", **about, "mix": mix, "rows": rows, "ns_a_check": speed}


def machine() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} CPUs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--uniform", action="store_true", help="serials scattered over each TAC")
    parser.add_argument("--folder", type=Path, help="keep the snapshots here, and use them if so")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--unsieved", action="store_true", help="decide without the sieves")
    chosen = parser.parse_args()
    population = plan_population(chosen.devices, seed=1, now=NOW, uniform=chosen.uniform)
    about = {
        "devices": chosen.devices,
        "serials": "uniform" if chosen.uniform else "clustered",
        "machine": machine(),
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as thrown_away:
        folder = chosen.folder or Path(thrown_away)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "questions.npz").exists():
            make(population, folder)
        for line in report(folder, about, chosen.rounds, sieved=not chosen.unsieved):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
