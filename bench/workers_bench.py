"""What workers cost: memory for each, time to replace one, and what a hand-over does to answers.

    python -m bench.workers_bench [--devices 1000000] [--workers 2] [--rounds 5] [--rate 500]
        [--engine grpcio]

Prints one JSON line. ``replaced_s``: from SIGKILL of a node's only worker to the first verdict of
its successor, client's connecting included. ``quiet`` and ``hand_over``: latencies of open-loop
checks at ``--rate`` a second, without and while another generation of as many devices is verified,
handed over and swapped in, all on the same machine. ``busiest_share_of_n``: of the checks of n
connections, how many the busiest worker answered, median and worst of ``--trials`` sets of fresh
connections. A wrong answer fails the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import numpy as np

from eir.client.node import NodeClient
from eir.errors import Unavailable
from eir.feed.codec import SnapshotHead, SnapshotWriter
from eir.store.depot import Depot
from eir.wire.v1 import admin_pb2
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc

SESSION = "8f9a2c1e-0000-4000-8000-000000000001"
FIRST = 35_000_000_000_000
BATCH = 1 << 20
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64)


def keys_of(devices: int) -> Iterator[np.ndarray]:
    """Ascending keys in batches: TACs with 2,500 serials each."""
    for start in range(0, devices, BATCH):
        places = np.arange(start, min(start + BATCH, devices), dtype=np.uint64)
        yield FIRST + places // 2_500 * 1_000_000 + places % 2_500


def publish(depot: Depot, serial: int, devices: int) -> None:
    """Every device is bound, and in even serials legacy besides: nobody is newly refused."""
    head = SnapshotHead("registry", "bench", SESSION, serial, int(time.time()))
    writer = SnapshotWriter(head)
    writer.add_pairs("bindings", ((k, k % 10_000_000 + 989_120_000_000) for k in keys_of(devices)))
    if serial % 2 == 0:
        writer.add_list("legacy", keys_of(devices))
    depot.adopt(writer.write(depot.new_path()), head)


@contextmanager
def serving(folder: Path, workers: int, engine: str) -> Iterator[tuple[str, str]]:
    """A node; its address and its admin address."""
    config = folder / "eir.toml"
    config.write_text(
        f'[node]\ndepot = "depot"\n[workers]\ncount = {workers}\n'
        f'[grpc]\nengine = "{engine}"\nlisten = ["127.0.0.1:0"]\n'
    )
    program = "from eir.ops.cli.main import main; main()"
    node = subprocess.Popen(
        [sys.executable, "-c", program, "serve", "-c", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stderr is not None
    line = next(line for line in node.stderr if "answering on" in line)
    try:
        yield line.rpartition(" ")[2].strip(), f"unix:{folder}/depot/admin.sock"
    finally:
        node.terminate()
        node.stderr.read()
        node.wait()


def status_of(admin: str) -> admin_pb2.StatusReply:
    """The node's own word."""
    with NodeClient(admin) as client:
        return client.status()


def replaced(address: str, admin: str) -> float:
    """Seconds from the only worker's death to a verdict of the next one."""
    pid = status_of(admin).workers[0].pid
    begun = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            with NodeClient(address) as client:
                client.check(f"{FIRST:014d}", "", "")
            return time.perf_counter() - begun
        except Unavailable:
            continue


def busiest_share(address: str, admin: str, connections: int) -> float:
    """How much of the load of so many fresh connections the busiest worker has; 1: all of it.

    The system picks a worker for each connection by a hash of addresses and ports.
    """
    request = wire.CheckRequest(imei=f"{FIRST:014d}")
    before = [worker.checks for worker in status_of(admin).workers]
    options = (("grpc.use_local_subchannel_pool", 1),)
    for _ in range(connections):
        with grpc.insecure_channel(address, options) as channel:
            wire_grpc.EligibilityStub(channel).Check(request, timeout=30)
    after = [worker.checks for worker in status_of(admin).workers]
    answered = [now - then for now, then in zip(after, before, strict=True)]
    if sum(answered) != connections:
        raise SystemExit(f"wrong: {answered} answered of {connections}")
    return max(answered) / connections


async def latencies(address: str, rate: int, over: asyncio.Event) -> list[float]:
    """Of open-loop checks, from the moment that each was due."""
    request = wire.CheckRequest(imei=f"{FIRST:014d}", msisdn="989121234567")
    found: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = wire_grpc.EligibilityStub(channel)
        await stub.Check(request, timeout=30)

        async def ask(due: float) -> None:
            reply = await stub.Check(request, timeout=30)
            found.append(time.perf_counter() - due)
            expected = "bound-to-other" if reply.registry_serial % 2 else "legacy"
            if reply.reason_name != expected:
                raise SystemExit(f"wrong: serial {reply.registry_serial} {reply.reason_name}")

        begun = time.perf_counter()
        asking = []
        while not over.is_set():
            due = begun + len(asking) / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asking.append(asyncio.create_task(ask(due)))
        await asyncio.gather(*asking)
    return found


async def during(address: str, rate: int, work: list[str]) -> list[float]:
    """Latencies while a command runs beside."""
    over = asyncio.Event()
    asking = asyncio.create_task(latencies(address, rate, over))
    command = await asyncio.create_subprocess_exec(*work)
    assert await command.wait() == 0
    over.set()
    return await asking


def figures(found: list[float]) -> dict[str, float]:
    """Milliseconds."""
    cuts = np.percentile(found, [50, 99, 99.9, 100]) * 1e3
    names = ("p50_ms", "p99_ms", "p999_ms", "max_ms")
    return {"checks": len(found), **dict(zip(names, cuts.round(3).tolist(), strict=True))}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    for name, default in (("devices", 1_000_000), ("workers", 2), ("rounds", 5), ("rate", 500)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--trials", type=int, default=25)
    options.add_argument("--engine", default="grpcio", choices=("grpcio", "native"))
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        depot = Depot(folder / "depot")
        publish(depot, 1, chosen.devices)
        size = depot.kept("registry")[0].size
        with serving(folder, 1, chosen.engine) as (address, admin):
            again = [replaced(address, admin) for _ in range(chosen.rounds)]
            takeup = status_of(admin).workers[0].takeup_seconds
        with serving(folder, chosen.workers, chosen.engine) as (address, admin):
            shares = {
                count: [busiest_share(address, admin, count) for _ in range(chosen.trials)]
                for count in CONNECTIONS
            }
            memory = status_of(admin).workers
            quiet = asyncio.run(during(address, chosen.rate, ["sleep", "5"]))
            publish(depot, 2, chosen.devices)
            program = "from eir.ops.cli.main import main; main()"
            reload = [sys.executable, "-c", program, "reload", "-c", str(folder / "eir.toml")]
            moving = asyncio.run(during(address, chosen.rate, reload))
            swap = [worker.takeup_seconds for worker in status_of(admin).workers]
    line = {
        "bench": "workers",
        "devices": chosen.devices,
        "file_mb": round(size / 1e6, 1),
        "replaced_s": round(statistics.median(again), 3),
        "replaced_range_s": [round(min(again), 3), round(max(again), 3)],
        "takeup_s": round(takeup, 3),
        "engine": chosen.engine,
        **{
            f"busiest_share_of_{count}": {
                "median": round(statistics.median(found), 2),
                "worst": round(max(found), 2),
            }
            for count, found in shares.items()
        },
        "worker_pss_mb": [round(worker.pss_bytes / 1e6, 1) for worker in memory],
        "worker_rss_mb": [round(worker.rss_bytes / 1e6, 1) for worker in memory],
        "hand_over_s": [round(seconds, 3) for seconds in swap],
        "quiet": figures(quiet),
        "hand_over": figures(moving),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "processors": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
