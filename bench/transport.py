"""How fast and how late the doors and their peers answer, every answer verified.

Each server is held to its own cores and the load generator to others, so that "one core" means one.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypedDict, Unpack

import grpc

from bench.lines import Lines, Sample, interleaved
from bench.machine import cpu_seconds, pss_bytes
from bench.processes import held_to
from bench.questions import BATCH
from bench.subjects import Subject
from bench.toolchain import command

CHECK: Final = "/eir.v1.Eligibility/Check"
CHECK_BATCH: Final = "/eir.v1.Eligibility/CheckBatch"
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 128
BATCHES_IN_FLIGHT: Final = 8
HALF: Final = 0.5
LOADS: Final = (0.25, HALF, 0.75)
ABLE: Final = 0.75
"""A peer is asked at so much of its peak at the most: more is not kept up in open loop."""

FEW: Final = 3
"""Rounds of what is only to be seen, and no target's measure."""

WARM_SECONDS: Final = 0.5
LIMIT: Final = "C++ gRPC, constant"
NODE: Final = "node, "
"""What the names of our own doors begin with."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share. ``files``: question files by kind ("check", "batch", and with
    "-constant" for servers that answer one; "get"). ``first``: words before the generator's own,
    which have it go before all others; empty where that is not allowed.
    """

    lines: Lines
    load: Path
    files: Mapping[str, Path]
    client_cpus: frozenset[int]
    server_cpus: frozenset[int]
    rounds: int
    seconds: float
    devices: int
    first: tuple[str, ...] = ()


def before_all_others() -> tuple[str, ...]:
    """The words that start a command in real time; none where this user may not."""
    words = ("chrt", "--rr", "1")
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True).returncode == 0
    except OSError:
        allowed = False
    return words if allowed else ()


def _questions(bench: Bench, subject: Subject, kind: str) -> Path:
    return bench.files[f"{kind}-constant" if subject.constant else kind]


class How(TypedDict, total=False):
    """What ``asking`` takes."""

    kind: str
    rate: float
    in_flight: int
    connections: int
    seconds: float


@contextlib.contextmanager
def asking(
    bench: Bench,
    subject: Subject,
    *,
    kind: str = "check",
    rate: float = 0.0,
    in_flight: int = IN_FLIGHT,
    connections: int = CONNECTIONS,
    seconds: float = 0.0,
) -> Iterator[subprocess.Popen[str]]:
    """The load generator, at work. Rate 0: as fast as it goes; seconds 0: as long as any run.

    Where the system lets it, it goes before all others, as a machine of its own would: what the
    server's side does must not make the questions late.
    """
    words = [
        *bench.first,
        bench.load,
        subject.protocol,
        "127.0.0.1",
        subject.port,
        CHECK_BATCH if kind == "batch" else CHECK,
        _questions(bench, subject, kind),
        rate,
        in_flight,
        connections,
        WARM_SECONDS,
        seconds or bench.seconds,
    ]
    with held_to(bench.client_cpus):
        process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def load(bench: Bench, subject: Subject, **how: Unpack[How]) -> Sample:
    """One run of the load generator; CPU of the server by check."""
    before = cpu_seconds(subject.pid)
    with asking(bench, subject, **how) as process:
        said, _ = process.communicate()
    told = json.loads(said)
    if "failed" in told:
        raise RuntimeError(f"{subject.name}: {told['failed']}")
    answered = told["sent"] - told["refused"] - told["missing"]
    told["cpu_us"] = (cpu_seconds(subject.pid) - before) / max(answered, 1) * 1e6
    return {name: float(value) for name, value in told.items()}


def throughput(bench: Bench, subjects: Sequence[Subject]) -> dict[str, float]:
    """Check, and CheckBatch of 512; the peak of each subject by Check, checks/s."""
    peaks = {}
    few = min(FEW, bench.rounds)
    kinds = (("check", IN_FLIGHT, 1, bench.rounds), ("batch", BATCHES_IN_FLIGHT, BATCH, few))
    for kind, in_flight, size, rounds in kinds:
        runs = {
            each.name: partial(load, bench, each, kind=kind, in_flight=in_flight)
            for each in subjects
            if each.protocol == "grpc"
        }
        for name, samples in interleaved(rounds, runs).items():
            shown = [
                {
                    "checks_per_s": sample["per_s"] * size,
                    "cpu_us_per_check": sample["cpu_us"] / size,
                    "wrong": sample["wrong"],
                    "refused": sample["refused"],
                    "missing": sample["missing"],
                }
                for sample in samples
            ]
            if kind == "check":
                peaks[name] = sorted(s["checks_per_s"] for s in shown)[len(shown) // 2]
            ask = "Check" if kind == "check" else f"CheckBatch of {BATCH}"
            facts = {"ask": ask, "in_flight": in_flight, "connections": CONNECTIONS}
            bench.lines.add("throughput", name, shown, devices=bench.devices, **facts)
    return peaks


def redis_throughput(bench: Bench, subject: Subject, keys: int) -> float:
    """Plain GET and pipelined by 32; the plain peak, commands/s."""
    runs = {
        "GET": partial(load, bench, subject, kind="get", in_flight=64, connections=64),
        "GET, pipelined by 32": partial(
            load, bench, subject, kind="get", in_flight=2_048, connections=64
        ),
    }
    peak = 0.0
    for ask, samples in interleaved(min(FEW, bench.rounds), runs).items():
        shown = [
            {
                "checks_per_s": sample["per_s"],
                "cpu_us_per_check": sample["cpu_us"],
                "wrong": sample["wrong"],
                "refused": sample["refused"],
                "missing": sample["missing"],
            }
            for sample in samples
        ]
        peak = peak or sorted(s["checks_per_s"] for s in shown)[len(shown) // 2]
        bench.lines.add("throughput", subject.name, shown, ask=ask, devices=keys)
    return peak


def latency(bench: Bench, subjects: Sequence[Subject], peaks: Mapping[str, float]) -> None:
    """Open loop at shares of each own door's peak; at half of it, the peers that can beside it.

    Redis and the slower peers are asked at half of their own peak besides.
    """
    doors = [each for each in subjects if each.name.startswith(NODE)]
    limit = [each for each in subjects if each.name == LIMIT]
    plans: list[tuple[float, str, list[Subject], int]] = []
    for door in doors:
        for share in LOADS:
            rate = peaks[door.name] * share
            peers = [each for each in subjects if each.constant] if share == HALF else limit
            able = [each for each in peers if ABLE * peaks[each.name] >= rate]
            rounds = bench.rounds if share == HALF else FEW
            plans.append((rate, f"{share:.0%} of the peak of {door.name}", [door, *able], rounds))
    plans += [
        (peaks[each.name] * HALF, "50% of its own peak", [each], FEW)
        for each in subjects
        if each not in doors
    ]
    for rate, load_name, asked, rounds in plans:
        runs = {
            each.name: partial(
                load, bench, each, kind="check" if each.protocol == "grpc" else "get", rate=rate
            )
            for each in asked
        }
        for name, samples in interleaved(min(rounds, bench.rounds), runs).items():
            facts = {"load": load_name, "rate_per_s": round(rate), "devices": bench.devices}
            bench.lines.add("latency", name, [latencies(s) for s in samples], **facts)


def latencies(sample: Sample) -> Sample:
    """What is told of an open loop."""
    names = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "late_p99_us")
    names += ("wrong", "refused", "missing")
    return {name: float(sample[name]) for name in names}


def footprint(bench: Bench, subjects: Sequence[Subject]) -> None:
    """Memory of each server as it is now."""
    for each in subjects:
        sample = {"pss_bytes": float(pss_bytes(each.pid))}
        bench.lines.add("memory", each.name, [sample], devices=bench.devices)


def h2load(bench: Bench, subjects: Sequence[Subject], peaks: Mapping[str, float]) -> None:
    """The same by the usual tool, one question again and again, as a cross-check of our generator.

    Wrong or missing: by status and by the bytes of the answers, which are all that it tells.
    """
    runs = {
        each.name: partial(_h2load, bench, each, int(peaks[each.name] * bench.seconds) + IN_FLIGHT)
        for each in subjects
        if each.protocol == "grpc"
    }
    for name, samples in interleaved(min(FEW, bench.rounds), runs).items():
        facts = {"ask": "Check", "in_flight": IN_FLIGHT, "connections": CONNECTIONS}
        bench.lines.add("h2load", name, samples, devices=bench.devices, **facts)


def _h2load(bench: Bench, subject: Subject, requests: int) -> Sample:
    raw = _questions(bench, subject, "check").read_bytes()
    size = struct.unpack_from("<I", raw, 4)[0]
    question = raw[12 : 12 + size]
    body = bench.files["check"].with_name("body")
    body.write_bytes(question)
    with grpc.insecure_channel(f"127.0.0.1:{subject.port}") as channel:
        reply = channel.unary_unary(CHECK, None, None)(question[5:], timeout=10)
    words = ["-n", requests, "-c", CONNECTIONS, "-m", IN_FLIGHT // CONNECTIONS, "-d", body]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    words = [command("h2load"), *words, *headers, f"http://127.0.0.1:{subject.port}{CHECK}"]
    with held_to(bench.client_cpus):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", done.stdout)
    good = re.search(r"(\d+) succeeded", done.stdout)
    octets = re.search(r"\((\d+)\) data", done.stdout)
    if not (rate and good and octets):
        raise RuntimeError(f"h2load: {done.stdout[-300:]}{done.stderr[-300:]}")
    expected = int(good[1]) * (5 + len(reply))
    return {
        "checks_per_s": float(rate[1]),
        "missing": float(requests - int(good[1])),
        "wrong": float(expected != int(octets[1])),
    }
