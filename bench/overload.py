"""Past capacity: what a call that is answered waits, with the doors' bounds and without.

    python -m bench.overload [--devices 1000000] [--rounds 3] [--seconds 3] [--bounds 256 0]

For each gRPC engine and each bound (calls that may wait; 0: none, as if there were no bound), on a
server process of its own: the peak by a closed loop, then an open loop at half of the peak and at
twice the peak. Prints one JSON line for each: p50 and p99 of the calls that were answered, how many
were, and how many were refused. A wrong verdict fails the run; a refused call is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench import questions
from bench.nation import EXPECTED, FIRST_NUMBER, real_checker
from bench.nation import questions as nation_questions
from bench.toolchain import prepare
from eir import limits
from eir.core.policy import Status
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.native_door import NativeDoor, NativeSettings
from eir.wire.v1 import eligibility_pb2 as wire

CHECK: Final = "/eir.v1.Eligibility/Check"
OWN_BOUND: Final = {
    "grpcio": limits.MAX_GRPC_WAITING_CALLS,
    "native": limits.MAX_NATIVE_WAITING_CALLS,
}
NO_BOUND: Final = 1 << 20
CONNECTIONS: Final = 64
IN_FLIGHT: Final = 128
WARM_SECONDS: Final = 1.0


def serve(told: Connection, engine: str, devices: int, bound: int) -> None:
    """A door of this engine, in which so many calls may wait."""
    checker, any_port = real_checker(devices), ("127.0.0.1:0",)
    one = np.ones(1, np.uint64)
    checker.check(one, one, one)  # loads what is compiled
    limits.MAX_GRPC_WAITING_CALLS = bound  # type: ignore[misc]
    if bound == NO_BOUND:
        limits.MAX_WAITING_BYTES = 1 << 40  # type: ignore[misc]
        limits.MAX_NATIVE_STREAMS_PER_CONNECTION = NO_BOUND  # type: ignore[misc]

    async def forever() -> None:
        if engine == "native":
            door: NativeDoor | GrpcDoor = NativeDoor(
                NativeSettings(listen=any_port, max_calls=bound),
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
    """One run of the load generator; rate 0 is a closed loop."""
    host, _, port = address.rpartition(":")
    words = (tool, "grpc", host, port, CHECK, file, rate, IN_FLIGHT, CONNECTIONS)
    command = [str(word) for word in (*words, WARM_SECONDS, seconds)]
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
    server.start()
    address = told.recv()
    try:
        peaks, runs = [], {0.5: [], 2.0: []}  # type: ignore[var-annotated]
        for _ in range(chosen.rounds):
            peak = load(tool, address, file, rate=0, seconds=chosen.seconds)["per_s"]
            peaks.append(peak)
            for share, found in runs.items():
                found.append(load(tool, address, file, rate=peak * share, seconds=chosen.seconds))
    finally:
        server.terminate()
        server.join()
    wrong = 0.0
    facts = {"devices": chosen.devices, "connections": CONNECTIONS, "rounds": chosen.rounds}
    for share, found in runs.items():
        line: dict[str, Any] = {
            "bench": f"overload, {engine}, {_bound_in_words(bound)}, {share:g} x peak",
            "peak_per_s": round(statistics.median(peaks)),
            "asked_per_s": round(statistics.median(peaks) * share),
        }
        for name in ("per_s", "p50_us", "p99_us", "max_us"):
            line["answered_" + name] = round(statistics.median(run[name] for run in found))
        line["refused_share"] = round(
            statistics.median((run["refused"] + run["missing"]) / run["sent"] for run in found), 3
        )
        line["wrong"] = sum(run["wrong"] for run in found)
        wrong += line["wrong"]
        print(json.dumps(line | facts | {"cores": os.cpu_count()}), flush=True)
    return wrong


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
