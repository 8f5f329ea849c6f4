"""The gRPC engines side by side, under h2load: the native door, grpcio's, and what bounds them.

    python bench/grpc_native.py [--devices 1000000] [--seconds 2] [--rounds 7] [--folder DIR]

In each round every server is loaded in turn for so many seconds, so that whatever else the machine
does falls on all alike. Prints one JSON line for each server: the median rate of the rounds and
their range, processor time of the server for a call, and the ratio to the first, the native front
whose Python answers a constant: all that is left to reach. h2load sends one question over and over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import grpc_door
import kernel_bench
import numpy as np
from pygrpc_native import NativeGrpcFront, __version__

from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.native_door import METHODS, NativeDoor, NativeSettings
from eir.feed.codec import open_snapshot
from eir.ops.demo.population import plan_population
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving
from eir.wire.v1 import eligibility_pb2 as wire

CONSTANT = wire.CheckReply(status=1, reason=9, reason_name="bound", registry_serial=1)
FINISHED = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
FAILED = re.compile(r"(\d+) failed, (\d+) errored, (\d+) timeout")
ANY = ("127.0.0.1:0",)


@dataclass(slots=True)
class Server:
    """A process that answers, and what was measured of it."""

    name: str
    checks_a_call: int
    path: str
    question: Path
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    address: str = ""
    pid: int = 0


def constant_front(told: Connection, _folder: Path) -> None:
    front = NativeGrpcFront(ANY[0], METHODS, io_threads=1)
    front.start()
    told.send(f"127.0.0.1:{front.bound_port}")
    reply = CONSTANT.SerializeToString()
    while (events := front.recv_batch(4_096)) is not None:
        for event in events:
            front.respond(event[1], reply)


def checker_of(folder: Path) -> Checker:
    registry = open_snapshot(folder / "registry.eirsnap", trusted=True)
    operator = open_snapshot(folder / "operator.eirsnap", trusted=True)
    holder = Holder()
    holder.swap(Serving(Tables(registry, operator, Policy()), registry.made_at))
    return Checker(holder)


def native_door(told: Connection, folder: Path) -> None:
    checker = checker_of(folder)

    async def forever() -> None:
        door = NativeDoor(
            NativeSettings(listen=ANY),
            checker,
            lambda address: GrpcDoor(GrpcSettings(listen=(address,)), checker),
        )
        await door.start()
        told.send(door.addresses[0])
        await asyncio.Event().wait()

    asyncio.run(forever())


def grpcio_door(told: Connection, folder: Path) -> None:
    checker = checker_of(folder)

    async def forever() -> None:
        door = GrpcDoor(GrpcSettings(listen=ANY), checker)
        await door.start()
        told.send(door.addresses[0])
        await asyncio.Event().wait()

    asyncio.run(forever())


def framed(message: bytes, path: Path) -> Path:
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    return path


def load(server: Server, chosen: argparse.Namespace) -> None:
    begun, cpu = time.perf_counter(), grpc_door.cpu_seconds(server.pid)
    command = ["h2load", "-D", str(chosen.seconds), "-c", str(chosen.connections)]
    command += ["-m", str(chosen.streams), "-d", server.question, "-H", "te: trailers"]
    command += ["-H", "content-type: application/grpc", f"http://{server.address}{server.path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, failed = FINISHED.search(done.stdout), FAILED.search(done.stdout)
    assert rate is not None, done.stdout
    assert failed is not None, done.stdout
    assert failed.groups() == ("0", "0", "0"), done.stdout
    server.rates.append(float(rate[1]))
    calls = float(rate[1]) * (time.perf_counter() - begun)
    server.cpu_us.append((grpc_door.cpu_seconds(server.pid) - cpu) / calls * 1e6)


def report(server: Server, first: Server, chosen: argparse.Namespace) -> None:
    rate = statistics.median(server.rates)
    ratios = [a / b for a, b in zip(server.rates, first.rates, strict=True)]
    line = {
        "bench": f"gRPC engines, {server.name}",
        "devices": chosen.devices,
        "calls_per_s": round(rate),
        "calls_per_s_range": [round(min(server.rates)), round(max(server.rates))],
        "checks_per_s": round(rate * server.checks_a_call),
        "server_cpu_us_a_call": round(statistics.median(server.cpu_us), 1),
        "ratio_to_constant_front": round(statistics.median(ratios), 3),
        "cpu_ratio_to_constant_front": round(
            statistics.median(first.cpu_us) / statistics.median(server.cpu_us), 3
        ),
        "rounds": chosen.rounds,
        "connections": chosen.connections,
        "streams": chosen.streams,
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "pygrpc_native": __version__,
    }
    print(json.dumps(line), flush=True)


def questions(folder: Path) -> tuple[bytes, bytes]:
    """A Check of a bound device, and a CheckBatch of 512 devices, encoded."""
    asked = np.load(folder / "questions.npz")["bound"][:512]
    imei, msisdn = asked[:, 0].tolist(), asked[:, 1].tolist()
    one = wire.CheckRequest(imei=f"{imei[0]:014d}0", msisdn=str(msisdn[0]))
    many = wire.CheckBatchRequest(imei14=imei, msisdn=msisdn)
    return one.SerializeToString(), many.SerializeToString()


def measure(folder: Path, chosen: argparse.Namespace) -> None:
    one, many = questions(folder)
    check, batch = framed(one, folder / "check.bin"), framed(many, folder / "batch.bin")
    spawning = multiprocessing.get_context("spawn")
    engines: Mapping[str, Callable[[Connection, Path], None]] = {
        "native front, constant answer": constant_front,
        "native door": native_door,
        "grpcio door": grpcio_door,
    }
    servers, running = [], []
    for name, serve in engines.items():
        told, telling = multiprocessing.Pipe()
        running.append(spawning.Process(target=serve, args=(telling, folder), daemon=True))
        running[-1].start()
        address, pid = told.recv(), running[-1].pid or 0
        for method, size, question in (("Check", 1, check), ("CheckBatch", 512, batch)):
            server = Server(f"{name}, {method}", size, f"/eir.v1.Eligibility/{method}", question)
            server.address, server.pid = address, pid
            servers.append(server)
    for each in range(chosen.rounds + 1):
        for server in servers:
            load(server, chosen)
            if each == 0:  # to warm up
                server.rates.clear()
                server.cpu_us.clear()
    for server in servers:
        first = next(s for s in servers if s.path == server.path)
        report(server, first, chosen)
    for process in running:
        process.terminate()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        if not (folder / "questions.npz").exists():
            kernel_bench.make(plan_population(chosen.devices, seed=1, now=kernel_bench.NOW), folder)
        measure(folder, chosen)


if __name__ == "__main__":
    main()
