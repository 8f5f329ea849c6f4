"""How fast and how late the doors and their peers answer, every answer verified.

Each server is held to its own cores and the load generator to others, so that "one core" means one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc

from bench.lines import Lines, Sample, interleaved
from bench.machine import cpu_seconds, pss_bytes
from bench.questions import BATCH
from bench.subjects import Subject
from bench.toolchain import command
from eir.client.node import NodeClient

CHECK: Final = "/eir.v1.Eligibility/Check"
CHECK_BATCH: Final = "/eir.v1.Eligibility/CheckBatch"
CONNECTIONS: Final = 4
IN_FLIGHT: Final = 128
BATCHES_IN_FLIGHT: Final = 8
LOADS: Final = (0.25, 0.5, 0.75)
WARM_SECONDS: Final = 0.5
SWAP_SECONDS: Final = 120.0
NODE: Final = "node, "
"""What the names of our own doors begin with."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share. ``files``: question files by kind ("check", "batch", and with
    "-constant" for servers that answer one; "get").
    """

    lines: Lines
    load: Path
    files: Mapping[str, Path]
    client_cpus: frozenset[int]
    rounds: int
    seconds: float
    devices: int


def _questions(bench: Bench, subject: Subject, kind: str) -> Path:
    return bench.files[f"{kind}-constant" if subject.constant else kind]


def load(
    bench: Bench,
    subject: Subject,
    *,
    kind: str = "check",
    rate: float = 0.0,
    in_flight: int = IN_FLIGHT,
    connections: int = CONNECTIONS,
    seconds: float | None = None,
) -> Sample:
    """One run of the load generator; CPU of the server by check. Rate 0: as fast as it goes."""
    words = [
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
    before = cpu_seconds(subject.pid)
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, bench.client_cpus),
    )
    told = json.loads(done.stdout)
    if "failed" in told:
        raise RuntimeError(f"{subject.name}: {told['failed']}")
    answered = told["sent"] - told["missing"]
    told["cpu_us"] = (cpu_seconds(subject.pid) - before) / max(answered, 1) * 1e6
    return {name: float(value) for name, value in told.items()}


def throughput(bench: Bench, subjects: Sequence[Subject]) -> dict[str, float]:
    """Check, and CheckBatch of 512; the peak of each subject by Check, checks/s."""
    peaks = {}
    kinds = (("check", IN_FLIGHT, 1), ("batch", BATCHES_IN_FLIGHT, BATCH))
    for kind, in_flight, size in kinds:
        runs = {
            each.name: partial(load, bench, each, kind=kind, in_flight=in_flight)
            for each in subjects
            if each.protocol == "grpc"
        }
        for name, samples in interleaved(bench.rounds, runs).items():
            shown = [
                {
                    "checks_per_s": sample["per_s"] * size,
                    "cpu_us_per_check": sample["cpu_us"] / size,
                    "wrong": sample["wrong"],
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
    for ask, samples in interleaved(bench.rounds, runs).items():
        shown = [
            {
                "checks_per_s": sample["per_s"],
                "cpu_us_per_check": sample["cpu_us"],
                "wrong": sample["wrong"],
                "missing": sample["missing"],
            }
            for sample in samples
        ]
        peak = peak or sorted(s["checks_per_s"] for s in shown)[len(shown) // 2]
        bench.lines.add("throughput", subject.name, shown, ask=ask, devices=keys)
    return peak


def latency(bench: Bench, subjects: Sequence[Subject], peaks: Mapping[str, float]) -> None:
    """Open loop at shares of each own door's peak; every gRPC subject that can, at the same rates.

    Redis and the slower peers are asked at half of their own peak besides.
    """
    doors = [each for each in subjects if each.name.startswith(NODE)]
    plans: list[tuple[float, str, list[Subject]]] = []
    for door in doors:
        for share in LOADS:
            rate = peaks[door.name] * share
            able = [s for s in subjects if s is door or 0.85 * peaks[s.name] >= rate]
            able = [s for s in able if s is door or s.constant]
            plans.append((rate, f"{share:.0%} of the peak of {door.name}", able))
    plans += [
        (peaks[each.name] * 0.5, "50% of its own peak", [each])
        for each in subjects
        if each not in doors
    ]
    for rate, load_name, asked in plans:
        runs = {
            each.name: partial(
                load, bench, each, kind="check" if each.protocol == "grpc" else "get", rate=rate
            )
            for each in asked
        }
        for name, samples in interleaved(bench.rounds, runs).items():
            facts = {"load": load_name, "rate_per_s": round(rate), "devices": bench.devices}
            bench.lines.add("latency", name, [_latencies(s) for s in samples], **facts)


def _latencies(sample: Sample) -> Sample:
    names = ("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "late_p99_us", "wrong", "missing")
    return {name: sample[name] for name in names}


def latency_in_reload(
    bench: Bench, subject: Subject, peak: float, admin: Path, build: Callable[[], None]
) -> None:
    """Open loop at half of the peak, quiet and while another generation swaps in, by turns.

    ``build`` puts a new generation in the depot beforehand. A run lasts twice as long as a swap
    took with nobody asking, at least. Raises RuntimeError where a generation is not taken up.
    """
    rate = peak * 0.5
    hangup = partial(os.kill, subject.pid, signal.SIGHUP)
    build()
    before = _session(admin)
    begun = time.monotonic()
    hangup()
    _until_other_than(before, admin)
    alone = time.monotonic() - begun
    seconds = max(bench.seconds, 2 * alone + 1)

    def quiet() -> Sample:
        return _latencies(load(bench, subject, rate=rate, seconds=seconds))

    def swapping() -> Sample:
        build()
        before = _session(admin)
        timer = threading.Timer(WARM_SECONDS + seconds / 4, hangup)
        timer.start()
        sample = _latencies(load(bench, subject, rate=rate, seconds=seconds))
        timer.join()
        _until_other_than(before, admin)
        return sample

    rounds = min(bench.rounds, 3)
    for when, samples in interleaved(rounds, {"quiet": quiet, "reload": swapping}).items():
        facts = {"when": when, "load": "50% of its own peak", "rate_per_s": round(rate)}
        facts |= {"devices": bench.devices, "alone_seconds": round(alone, 2)}
        bench.lines.add("latency-reload", subject.name, samples, **facts)


def _until_other_than(session: str, admin: Path) -> None:
    """Wait until another generation serves. Raises RuntimeError after SWAP_SECONDS."""
    end = time.monotonic() + SWAP_SECONDS
    while _session(admin) == session:
        if time.monotonic() > end:
            raise RuntimeError("the new generation is not taken up")
        time.sleep(0.02)


def _session(admin: Path) -> str:
    with NodeClient(f"unix:{admin}", timeout=60) as node:
        return next(
            served.origin.session
            for served in node.status().generations
            if served.origin.feed == "registry"
        )


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
    for name, samples in interleaved(bench.rounds, runs).items():
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
    done = subprocess.run(
        [str(w) for w in (command("h2load"), *words, *headers)]
        + [f"http://127.0.0.1:{subject.port}{CHECK}"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, bench.client_cpus),
    )
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
