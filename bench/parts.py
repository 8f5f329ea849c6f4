"""The parts of a run, in order: each can be run by itself, and builds what it needs.

What is costly is built once for each size and kept in the scratch folder: a node's folder, with the
depot that was loaded from a sample registry's list files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from bench import building, during, lookups, others, questions, subjects, transport
from bench.lines import Lines
from bench.processes import sweep
from bench.subjects import ENGINES, Node, Subject
from bench.toolchain import Tools
from eir.core.generation import FEEDS
from eir.ops.settings.config import load_config
from eir.store.depot import Depot

MAX_PEER_ROWS: Final = 1_000_000
MAX_DELTA_BASE: Final = 10_000_000
MAX_CHANGE_BASE: Final = 10_000_000
"""A base is written behind everybody else: of 10^8 devices it would take most of the hour."""

MAX_UNIFORM: Final = 10_000_000
MAX_FOLLOW_ROUNDS: Final = 3
QUESTIONS: Final = 65_536
HOUR: Final = 3_600.0


@dataclass(frozen=True)
class Run:
    """What all parts share. ``servers``: the cores of the servers; the others ask."""

    lines: Lines
    scratch: Path
    tools: Tools
    devices: int
    smaller: tuple[int, ...]
    rounds: int
    seconds: float
    servers: frozenset[int]
    unloaded: set[int] = field(default_factory=set)
    """Sizes whose loading was begun in this run and did not succeed: not tried again and again."""

    @property
    def sizes(self) -> list[int]:
        """All sizes, the largest last."""
        return sorted({*self.smaller, self.devices})

    @property
    def askers(self) -> frozenset[int]:
        """The cores of the load generator."""
        return frozenset(os.sched_getaffinity(0)) - self.servers or self.servers

    def place(self, devices: int) -> Node:
        """A node's folder with both feeds' data of this size; loaded now if it is not there."""
        place = Node(self.scratch / f"node-{devices}")
        place.folder.mkdir(exist_ok=True)
        if devices in self.unloaded:
            raise RuntimeError(f"{devices:,} devices were not loaded")
        if not (place.folder / "loaded").exists():
            self.load(place, devices)
        return place

    def load(self, place: Node, devices: int) -> None:
        """Write the list files, load them, and let them go."""
        self.unloaded.add(devices)
        shutil.rmtree(place.depot, ignore_errors=True)
        facts = building.listed(self.lines, place, devices)
        building.measure_load(self.lines, place, facts)
        shutil.rmtree(place.folder / "lists")
        if not all(Depot(place.depot).kept(feed) for feed in FEEDS):
            raise RuntimeError("the depot lacks a feed")
        (place.folder / "loaded").touch()
        self.unloaded.discard(devices)

    @cached_property
    def asked(self) -> questions.Asked:
        """The questions, and the answers that they must get."""
        place = self.place(self.devices)
        policy = load_config(place.config("questions")).policy
        imei, msisdn = questions.draw(self.devices, building.SEED, QUESTIONS)
        return questions.answered(place.depot, policy, imei, msisdn)

    @cached_property
    def bench(self) -> transport.Bench:
        """The load generator, with questions for every kind of server."""
        checks, batches = questions.checks(self.asked), questions.batches(self.asked)
        rows = {
            "check": checks,
            "batch": batches,
            "check-constant": questions.constants(checks, 0),
            "batch-constant": questions.constants(batches, questions.BATCH),
            "get": questions.gets(self.asked),
        }
        files = {
            kind: questions.write(self.scratch / f"{kind}-{self.devices}.questions", found)
            for kind, found in rows.items()
        }
        return transport.Bench(
            lines=self.lines,
            load=self.tools.load,
            files=files,
            client_cpus=self.askers,
            server_cpus=self.servers,
            rounds=self.rounds,
            seconds=self.seconds,
            devices=self.devices,
            first=transport.before_all_others(),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """How it is measured, and the seconds that it may take at most."""

    measure: Callable[[Run], None]
    seconds: float = HOUR / 3


def _load(run: Run) -> None:
    for devices in run.sizes:
        place = Node(run.scratch / f"node-{devices}")
        place.folder.mkdir(exist_ok=True)
        (place.folder / "loaded").unlink(missing_ok=True)
        run.load(place, devices)


def _start(run: Run) -> None:
    for devices in run.sizes:
        building.measure_start(run.lines, run.place(devices), devices, set(run.servers))


def _size(run: Run) -> None:
    for devices in run.sizes:
        building.measure_sizes(run.lines, run.place(devices), devices)


def _kernel(run: Run) -> None:
    for devices in run.sizes:
        folder = run.scratch / f"kernel-{devices}"
        building.for_the_kernel(run.place(devices), folder, devices)
        others.kernel(run.lines, folder, devices=devices, rounds=run.rounds)
        shutil.rmtree(folder)
    devices = min(run.devices, MAX_UNIFORM)
    folder = run.scratch / f"kernel-uniform-{devices}"
    others.kernel(run.lines, folder, devices=devices, rounds=run.rounds, uniform=True)
    shutil.rmtree(folder, ignore_errors=True)


def _transport(run: Run) -> None:
    """Everything that the load generator asks, all servers running at the same time."""
    bench, lines, cpus = run.bench, run.lines, set(run.servers)
    with contextlib.ExitStack() as stack:
        asked: list[Subject] = []
        for engine in ENGINES:
            place = building.copied(run.place(run.devices), f"transport-{engine}")
            stack.callback(shutil.rmtree, place.folder)
            with _told(lines, f"node, {engine} door"):
                asked.append(stack.enter_context(subjects.node(place, engine, cpus)))
        for name, command in subjects.constant_peers(run.tools.constant).items():
            with _told(lines, name):
                asked.append(stack.enter_context(subjects.constant(name, command, cpus)))
        peaks = transport.throughput(bench, asked)
        with _told(lines, "Redis"):
            redis = stack.enter_context(_redis(run, cpus))
            keys = min(run.devices, MAX_PEER_ROWS)
            peaks[redis.name] = transport.redis_throughput(bench, redis, keys)
            asked.append(redis)
        with _told(lines, "h2load"):
            transport.h2load(bench, asked, peaks)
        transport.latency(bench, asked, peaks)
        transport.footprint(bench, asked)


def _redis(run: Run, cpus: set[int]) -> contextlib.AbstractContextManager[Subject]:
    gets = questions.gets(run.asked)
    filler = max(0, min(run.devices, MAX_PEER_ROWS) - len(gets))
    return subjects.redis(run.scratch / "redis", gets, filler, cpus)


def _swap(run: Run) -> None:
    for engine in ENGINES:
        with _told(run.lines, f"{engine} door"), _copy(run, f"swap-{engine}") as place:
            during.swaps_and_storms(run.bench, place, engine, set(os.sched_getaffinity(0)))


def _change(run: Run) -> None:
    run = replace(run, devices=min(run.devices, MAX_CHANGE_BASE))
    for engine in ENGINES:
        with _told(run.lines, f"{engine} door"), _copy(run, f"change-{engine}") as place:
            during.changes_and_compactions(
                run.bench, place, engine, set(os.sched_getaffinity(0)), asked=run.asked.imei
            )


@contextlib.contextmanager
def _copy(run: Run, name: str) -> Iterator[Node]:
    place = building.copied(run.place(run.devices), name)
    try:
        yield place
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)


@contextlib.contextmanager
def _told(lines: Lines, what: str) -> Iterator[None]:
    """What fails here fails the run at its end, and keeps nothing else from being measured."""
    try:
        yield
    except Exception as error:
        lines.fail(what, f"{type(error).__name__}: {error}")


def _delta(run: Run) -> None:
    devices = min(run.devices, MAX_DELTA_BASE)
    others.delta(run.lines, devices=devices, rounds=min(run.rounds, MAX_FOLLOW_ROUNDS))


def _follow(run: Run) -> None:
    for devices in run.sizes:
        with _told(run.lines, f"{devices:,} devices"):
            depot = run.place(devices).depot
            snapshot = depot / "snapshots" / Depot(depot).kept("registry")[0].file
            rounds = min(run.rounds, MAX_FOLLOW_ROUNDS)
            others.follow(run.lines, snapshot, run.scratch, devices=devices, rounds=rounds)
        sweep()


def _crowd(run: Run) -> None:
    others.crowd(run.lines, run.scratch, devices=run.devices)


def _s13(run: Run) -> None:
    rounds = min(run.rounds, 5)
    others.s13(run.lines, devices=run.devices, rounds=rounds, seconds=run.seconds)


def _n5g(run: Run) -> None:
    others.n5g(run.lines, devices=run.devices, rounds=run.rounds)


def _overload(run: Run) -> None:
    rounds = min(run.rounds, MAX_FOLLOW_ROUNDS)
    others.overload(run.lines, devices=run.devices, rounds=rounds, seconds=run.seconds)


def _workers(run: Run) -> None:
    others.workers(run.lines, devices=run.devices, rounds=min(run.rounds, 5))


def _look_up(run: Run) -> None:
    rows, cpus = min(run.devices, MAX_PEER_ROWS), set(run.servers)
    rounds = min(run.rounds, transport.FEW)
    with _told(run.lines, "PostgreSQL"):
        folder = run.scratch / "postgres"
        shutil.rmtree(folder, ignore_errors=True)
        with subjects.postgres(folder, rows, cpus) as (socket, pid):
            lookups.postgres(
                run.lines, socket, pid, rows=rows, rounds=rounds, seconds=run.seconds,
                cpus=set(run.askers),
            )  # fmt: skip
    lookups.sqlite(run.lines, run.scratch, rows=rows, rounds=rounds, seconds=run.seconds)


PARTS: Final[Mapping[str, Part]] = {
    "load": Part(_load),
    "transport": Part(_transport),
    "kernel": Part(_kernel),
    "change": Part(_change),
    "swap": Part(_swap),
    "s13": Part(_s13),
    "n5g": Part(_n5g),
    "start": Part(_start),
    "size": Part(_size),
    "follow": Part(_follow),
    "delta": Part(_delta),
    "crowd": Part(_crowd),
    "overload": Part(_overload),
    "workers": Part(_workers),
    "lookup": Part(_look_up),
}
"""By name; what the targets are about comes first."""
