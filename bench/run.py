"""The benchmark: this engine and its peers, measured side by side in one run.

    python -m bench.run [--quick] [--devices N] [--growth N,N] [--only load,start,size,…]

from the root of the source tree. Peers are set up here (Debian packages, our own few lines of
C++); one that can't be is named, never left out in silence. Every answer is verified; a run with a
wrong or a missing one ends with exit code 1. Writes JSON lines, docs/benchmarks.md and its plots.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench import building, lookups, others, questions, report, subjects, transport
from bench.lines import Lines, read
from bench.machine import about
from bench.subjects import ENGINES, Node, Subject
from bench.toolchain import Tools, prepare
from eir.ops.settings.config import load_config

ROOT: Final = Path(__file__).resolve().parent.parent
PARTS: Final = (
    *("load", "start", "size", "kernel", "transport", "reload", "redis"),
    *("delta", "follow", "doors", "overload", "workers", "lookup"),
)
SEED: Final = 1
MAX_PEER_ROWS: Final = 1_000_000
MAX_DELTA_BASE: Final = 10_000_000
QUESTIONS: Final = 65_536


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="10^5 devices, one short round; not into docs/"
    )
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--growth", help="smaller sizes, for load, start and size: 100000,1000000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one run of a generator")
    parser.add_argument("--only", help=f"parts, by comma: {','.join(PARTS)}")
    parser.add_argument("--server-cpus", default="0", help="cores of the servers, by comma")
    parser.add_argument("--scratch", type=Path, help="folder for files; default: a temporary one")
    parser.add_argument("--out", type=Path, help="lines; page and plots beside; default: docs/")
    parser.add_argument("--no-install", action="store_true", help="install no Debian package")
    chosen = parser.parse_args(words)
    if chosen.quick:
        chosen.devices, chosen.rounds, chosen.seconds = 100_000, 1, 1.0
    folder = ROOT / ".eir" / "bench" if chosen.quick else ROOT / "docs"
    chosen.out = (chosen.out or folder / "benchmarks.jsonl").absolute()
    return chosen


def main(words: Sequence[str]) -> int:
    """Exit code 1 when an answer was wrong or missing, or a part failed."""
    chosen = parsed(words)
    parts = tuple(chosen.only.split(",")) if chosen.only else PARTS
    if unknown := set(parts) - set(PARTS):
        print(f"no such part: {', '.join(unknown)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: end what was started
    os.environ["PYTHONPATH"] = str(ROOT)  # of the processes started here, installed or not
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.unlink(missing_ok=True)
    lines = Lines(chosen.out, about())
    with contextlib.ExitStack() as stack:
        scratch = chosen.scratch
        if scratch is None:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eir-bench-")))
            scratch.chmod(0o755)  # PostgreSQL's user must come through
        scratch.mkdir(parents=True, exist_ok=True)
        tools = prepare(scratch, install=not chosen.no_install)
        for absent in tools.absent:
            lines.miss(absent, "not installed, and could not be")
        _measure(chosen, parts, lines, scratch, tools)
    report.write(read(chosen.out), chosen.out.parent)
    for fault in lines.faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    for absent in lines.absent:
        print(f"NOT MEASURED: {absent}", file=sys.stderr)
    return 1 if lines.faults else 0


def _measure(
    chosen: argparse.Namespace, parts: Sequence[str], lines: Lines, scratch: Path, tools: Tools
) -> None:
    servers = {int(cpu) for cpu in chosen.server_cpus.split(",")}
    smaller = [int(size) for size in chosen.growth.split(",")] if chosen.growth else []
    rounds, seconds = chosen.rounds, chosen.seconds
    for devices in [*smaller, chosen.devices]:
        place = Node(scratch / f"node-{devices}")
        place.folder.mkdir(exist_ok=True)
        building.measure_load(lines, place, building.sample(place.folder / "lists", devices))
        if "start" in parts:
            with _told(lines, "start"):
                building.measure_start(lines, place, devices, servers)
        if "size" in parts:
            building.measure_sizes(lines, place, devices)
        if "kernel" in parts:
            folder = scratch / f"kernel-{devices}"
            others.kernel(lines, folder, devices=devices, rounds=rounds)
    carried = set(parts) & {"transport", "reload", "redis"}
    if carried:
        with _told(lines, "the doors and their peers"):
            _carry(chosen, carried, lines, scratch, tools, place)
    if "delta" in parts:
        others.delta(lines, devices=min(chosen.devices, MAX_DELTA_BASE), rounds=rounds)
    if "follow" in parts:
        sizes = sorted({min(size, MAX_DELTA_BASE) for size in (*smaller, chosen.devices)})
        others.follow(lines, devices=sizes, rounds=rounds)
    if "doors" in parts:
        others.doors(lines, devices=chosen.devices, rounds=rounds, seconds=seconds)
    if "overload" in parts:
        others.overload(lines, devices=chosen.devices, rounds=rounds, seconds=seconds)
    if "workers" in parts:
        others.workers(lines, devices=chosen.devices, rounds=rounds)
    if "lookup" in parts:
        _look_up(chosen, lines, scratch, servers)


@contextlib.contextmanager
def _told(lines: Lines, what: str) -> Iterator[None]:
    """A part that fails fails the run at its end, and keeps no other from being measured."""
    try:
        yield
    except (RuntimeError, subprocess.CalledProcessError) as error:
        lines.faults.append(f"{what}: {error}")


def _carry(
    chosen: argparse.Namespace,
    parts: set[str],
    lines: Lines,
    scratch: Path,
    tools: Tools,
    place: Node,
) -> None:
    """Everything that the load generator asks, all servers running at the same time."""
    servers = {int(cpu) for cpu in chosen.server_cpus.split(",")}
    rest = frozenset(os.sched_getaffinity(0)) - servers
    files, gets = _write_questions(scratch, place, chosen.devices)
    bench = transport.Bench(
        lines,
        tools.load,
        files,
        rest or frozenset(servers),
        chosen.rounds,
        chosen.seconds,
        chosen.devices,
    )
    with contextlib.ExitStack() as stack:
        nodes = _started(lines, stack, place, servers)
        peers = []
        for name, command in subjects.constant_peers(tools.constant).items():
            try:
                peers.append(stack.enter_context(subjects.constant(name, command, servers)))
            except RuntimeError as error:
                lines.miss(name, error)
        grpc_subjects = [*nodes, *peers]
        peaks = transport.throughput(bench, grpc_subjects)
        if "redis" in parts:
            redis = _redis(lines, stack, scratch, gets, chosen.devices, servers)
            if redis:
                keys = min(chosen.devices, MAX_PEER_ROWS)
                peaks[redis.name] = transport.redis_throughput(bench, redis, keys)
                grpc_subjects.append(redis)
        if "transport" in parts:
            try:
                transport.h2load(bench, grpc_subjects, peaks)
            except RuntimeError as error:
                lines.miss("h2load", error)
            transport.latency(bench, grpc_subjects, peaks)
            transport.footprint(bench, grpc_subjects)
        if "reload" in parts:
            manifest = place.folder / "lists" / "registry.toml"
            aside = place.config("aside")
            for each in nodes:
                admin = place.folder / f"{each.name.split()[1]}.sock"
                with _told(lines, f"latency in a reload, {each.name}"):
                    transport.latency_in_reload(
                        bench, each, peaks[each.name], admin, lambda: _build(aside, manifest)
                    )


def _build(config: Path, manifest: Path) -> None:
    building.load(config, manifest)


def _started(
    lines: Lines, stack: contextlib.ExitStack, place: Node, servers: set[int]
) -> list[Subject]:
    """A node for each engine there is. One depot has one keeper, so each has its own copy."""
    nodes = []
    for engine in ENGINES:
        folder = place.folder if not nodes else _copied(place)
        try:
            nodes.append(stack.enter_context(subjects.node(Node(folder), engine, servers)))
        except RuntimeError as error:
            lines.miss(f"node, {engine} door", error)
    return nodes


def _copied(place: Node) -> Path:
    """Another folder whose depot has hard links to the same snapshots, and all else for itself."""
    folder = place.folder.with_name(f"{place.folder.name}-copy")
    folder.mkdir(exist_ok=True)

    def copy(source: str, target: str) -> None:
        (os.link if Path(source).parent.name == "snapshots" else shutil.copy2)(source, target)

    living = shutil.ignore_patterns("*.lock", "*.sock", "workers", "control")
    shutil.copytree(place.depot, folder / "depot", copy_function=copy, ignore=living)
    return folder


def _write_questions(
    scratch: Path, place: Node, devices: int
) -> tuple[dict[str, Path], list[tuple[bytes, bytes]]]:
    policy = load_config(place.config("questions")).policy
    imei, msisdn = questions.draw(devices, SEED, QUESTIONS)
    asked = questions.answered(place.depot, policy, imei, msisdn)
    checks, batches, gets = questions.checks(asked), questions.batches(asked), questions.gets(asked)
    rows = {
        "check": checks,
        "batch": batches,
        "check-constant": questions.constants(checks, 0),
        "batch-constant": questions.constants(batches, questions.BATCH),
        "get": gets,
    }
    files = {kind: questions.write(scratch / f"{kind}.questions", r) for kind, r in rows.items()}
    return files, gets


def _redis(
    lines: Lines,
    stack: contextlib.ExitStack,
    scratch: Path,
    gets: list[tuple[bytes, bytes]],
    devices: int,
    servers: set[int],
) -> Subject | None:
    filler = max(0, min(devices, MAX_PEER_ROWS) - len(gets))
    try:
        return stack.enter_context(subjects.redis(scratch / "redis", gets, filler, servers))
    except RuntimeError as error:
        lines.miss("Redis", error)
        return None


def _look_up(chosen: argparse.Namespace, lines: Lines, scratch: Path, servers: set[int]) -> None:
    rows = min(chosen.devices, MAX_PEER_ROWS)
    rounds, seconds = chosen.rounds, chosen.seconds
    rest = set(os.sched_getaffinity(0)) - servers
    try:
        with subjects.postgres(scratch / "postgres", rows, servers) as (folder, pid):
            lookups.postgres(
                lines,
                folder,
                pid,
                rows=rows,
                rounds=rounds,
                seconds=seconds,
                cpus=rest or servers,
            )
    except (RuntimeError, subprocess.CalledProcessError) as error:
        lines.miss("PostgreSQL", error)
    lookups.sqlite(lines, scratch, rows=rows, rounds=rounds, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
