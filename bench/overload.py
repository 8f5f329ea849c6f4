"""Past capacity: what is still answered, how soon, and what becomes of the rest.

    python -m bench.overload [--devices 1000000] [--rounds 3] [--seconds 3] [--bounds 256 0]

For each gRPC engine and each bound (calls that may wait; 0: none, as if there were no bound), on a
server process on a core of its own: the peak by a closed loop, then open loops at shares of that
peak, from many connections. A question that is due while no connection may open another stream is
*held*: HTTP/2 has told the client to wait, and this client asks elsewhere. So no queue of the
generator's is in any figure; by how much it was late in sending is told beside.

Prints one JSON line for each: what was answered, over the peak too; its p50 and p99 from when the
question left until the answer was there; which shares were refused, held or never answered. A wrong
verdict fails the run; a refused call is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from bench import questions
from bench.nation import EXPECTED, FIRST_NUMBER, real_checker
from bench.nation import questions as nation_questions
from bench.processes import held_to
from bench.toolchain import prepare
from bench.transport import before_all_others
from eir import limits
from eir.core.policy import Status
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.native_door import NativeDoor, NativeSettings
from eir.wire.v1 import eligibility_pb2 as wire

SERVER_CPUS: Final = frozenset({min(os.sched_getaffinity(0))})
CHECK: Final = "/eir.v1.Eligibility/Check"
OWN_BOUND: Final = {
    "grpcio": limits.MAX_GRPC_WAITING_CALLS,
    "native": limits.MAX_NATIVE_WAITING_CALLS,
}
NO_BOUND: Final = 1 << 20
CONNECTIONS: Final = 64
IN_FLIGHT: Final = 128
WARM_SECONDS: Final = 1.0
SHARES: Final = (0.5, 1.2, 1.5, 2.0, 3.0)
TWICE: Final = (2.0,)


def serve(told: Connection, engine: str, devices: int, bound: int) -> None:
    """A door of this engine, in which so many calls may wait."""
    checker, any_port = real_checker(devices), ("127.0.0.1:0",)
    one = np.ones(1, np.uint64)
    checker.check(one, one, one)  # loads what is compiled
    limits.MAX_GRPC_WAITING_CALLS = bound  # type: ignore[misc]
    if bound == NO_BOUND:
        limits.MAX_WAITING_BYTES = 1 << 40  # type: ignore[misc]
        limits.MAX_TAKE_SECONDS = math.inf  # type: ignore[misc]
    of_one = limits.NATIVE_CALLS_PER_CONNECTION if bound != NO_BOUND else NO_BOUND

    async def forever() -> None:
        if engine == "native":
            door: NativeDoor | GrpcDoor = NativeDoor(
                NativeSettings(listen=any_port, max_calls=bound, calls_per_connection=of_one),
                checker,
                lambda address: GrpcDoor(GrpcSettings(listen=(address,)), checker),
            )
        else:
            door = GrpcDoor(GrpcSettings(listen=any_port, max_calls=NO_BOUND), checker)
        await door.start()
        told.send(door.addresses[0])
        await asyncio.Event().wait()

    asyncio.run(forever())


def asked(devices: int) -> list[tuple[bytes, bytes]]:
    """Checks, framed, and how the right answer begins: with its status."""
    rows = []
    for at, (key, subscriber) in enumerate(nation_questions(devices, 4_096)):
        request = wire.CheckRequest(imei=f"{key:014d}0", msisdn=str(FIRST_NUMBER + subscriber))
        message = request.SerializeToString()
        reply = wire.CheckReply(status=Status[EXPECTED[at % 4]].value).SerializeToString()
        rows.append((b"\0" + len(message).to_bytes(4, "big") + message, reply))
    return rows


def load(tool: Path, address: str, file: Path, *, rate: float, seconds: float) -> dict[str, float]:
    """One run of the load generator, on all cores but the server's; rate 0 is a closed loop."""
    host, _, port = address.rpartition(":")
    words = (*before_all_others(), tool, "grpc", host, port, CHECK, file, rate, IN_FLIGHT)
    command = [str(word) for word in (*words, CONNECTIONS, WARM_SECONDS, seconds, "held")]
    with held_to(os.sched_getaffinity(0) - SERVER_CPUS or SERVER_CPUS):
        done = subprocess.run(command, capture_output=True, text=True)
    said: dict[str, float] = json.loads(done.stdout)
    if "failed" in said:
        raise SystemExit(f"overload: {said}")
    return said


def measure(tool: Path, file: Path, engine: str, bound: int, chosen: argparse.Namespace) -> float:
    """The lines of one engine with one bound; how many answers were wrong."""
    told, telling = multiprocessing.Pipe()
    server = multiprocessing.Process(
        target=serve, args=(telling, engine, chosen.devices, bound), daemon=True
    )
    with held_to(SERVER_CPUS):
        server.start()
    address = told.recv()
    shares = TWICE if bound == NO_BOUND else SHARES
    peaks: list[dict[str, float]] = []
    runs: dict[float, list[dict[str, float]]] = {share: [] for share in shares}
    try:
        for _ in range(chosen.rounds):
            peaks.append(load(tool, address, file, rate=0, seconds=chosen.seconds))
            for share, found in runs.items():
                rate = peaks[-1]["per_s"] * share
                run = load(tool, address, file, rate=rate, seconds=chosen.seconds)
                found.append(run | {"of_peak": run["per_s"] / peaks[-1]["per_s"]})
    finally:
        server.terminate()
        server.join()
    facts = {"devices": chosen.devices, "connections": CONNECTIONS, "rounds": chosen.rounds}
    for share, found in runs.items():
        name = f"overload, {engine}, {_bound_in_words(bound)}, {share:g} x peak"
        line = {"bench": name} | _told(peaks, found, share) | facts
        print(json.dumps(line | {"cores": os.cpu_count()}), flush=True)
    return sum(run["wrong"] for found in runs.values() for run in found)


def _told(
    peaks: Sequence[dict[str, float]], found: Sequence[dict[str, float]], share: float
) -> dict[str, float]:
    """The medians of the rounds; ``share`` of the peak was asked."""

    def middle(runs: Sequence[dict[str, float]], name: str) -> float:
        return statistics.median(run[name] for run in runs)

    line = {
        "peak_per_s": round(middle(peaks, "per_s")),
        "peak_p50_us": round(middle(peaks, "p50_us")),
        "peak_p99_us": round(middle(peaks, "p99_us")),
        "asked_per_s": round(middle(peaks, "per_s") * share),
        "answered_per_s": round(middle(found, "per_s")),
        "answered_of_peak": round(middle(found, "of_peak"), 3),
    }
    for name in ("node_p50_us", "node_p99_us", "node_max_us", "refused_p99_us", "late_p99_us"):
        line[name.replace("node", "answered")] = round(middle(found, name))
    for name in ("refused", "held", "missing"):
        of_all = [run[name] / (run["sent"] + run["held"]) for run in found]
        line[f"{name}_share"] = round(statistics.median(of_all), 3)
    return line | {"wrong": sum(run["wrong"] for run in found)}


def _bound_in_words(bound: int) -> str:
    return "no bound" if bound == NO_BOUND else f"{bound} may wait"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--engines", default=",".join(OWN_BOUND))
    parser.add_argument("--bounds", type=int, nargs="*", help="default: the door's own, and none")
    chosen = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    wrong = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        tool = prepare(Path(scratch), install=False).load
        file = questions.write(Path(scratch) / "questions", asked(chosen.devices))
        for engine in chosen.engines.split(","):
            for bound in chosen.bounds or (OWN_BOUND[engine], 0):
                wrong += measure(tool, file, engine, bound or NO_BOUND, chosen)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
