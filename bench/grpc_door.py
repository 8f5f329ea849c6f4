"""How fast the grpcio door carries questions: Check, CheckBatch, CheckStream; a constant answers.

    python bench/grpc_door.py [--seconds 5] [--in-flight 64] [--batch 512]

Prints one JSON line for each. The server is one process, the client another on the same machine,
so a rate here is what both reach together; ``server_cpu_us`` is the server's own time for a
message, and ``messages_per_core_s`` its inverse: what a core carries when clients are elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import grpc
import grpc.aio
import numpy as np

from eir.doors.eligibility_codec import Keys
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.serve.checker import Answer
from eir.wire.v1 import eligibility_pb2 as wire

SERVICE = "/eir.v1.Eligibility/"


class Constant:
    """A checker that decides nothing: every device is bound."""

    ready = True

    def check(self, imei: Keys, msisdn: Keys, imsi: Keys) -> Answer:
        """WHITELISTED, whoever it is."""
        size = len(imei)
        status = np.ones(size, np.uint8)
        return Answer(
            status=status,
            decided=status,
            code=status,
            reason=np.full(size, 9, np.uint16),
            valid_until=np.zeros(size, np.int64),
            registry_serial=1,
            operator_serial=1,
            stale=False,
            reason_names={9: "bound"},
        )


def serve(told: Connection) -> None:
    async def forever() -> None:
        door = GrpcDoor(GrpcSettings(listen=("127.0.0.1:0",)), Constant())
        await door.start()
        told.send(door.addresses[0])
        await asyncio.Event().wait()

    asyncio.run(forever())


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def asked_for(seconds: float, in_flight: int, ask: Callable[[], Awaitable[object]]) -> int:
    """How many messages are answered when so many are always in flight."""
    end, done = time.perf_counter() + seconds, 0

    async def one_after_another() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask()
            done += 1

    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return done


async def streamed_for(
    seconds: float, in_flight: int, channel: grpc.aio.Channel, raw: bytes
) -> int:
    stream = channel.stream_stream(f"{SERVICE}CheckStream", None, None)()
    end, done = time.perf_counter() + seconds, 0
    for _ in range(in_flight):
        await stream.write(raw)
    while time.perf_counter() < end:
        await stream.read()
        await stream.write(raw)
        done += 1
    stream.cancel()
    return done


async def measure(address: str, pid: int, chosen: argparse.Namespace) -> None:
    keys = np.arange(35_000_000_000_000, 35_000_000_000_000 + chosen.batch, dtype=np.uint64)
    numbers = keys % np.uint64(1_000_000) + np.uint64(989_120_000_000)
    one = wire.CheckRequest(imei="490154203237518", msisdn="989121234567").SerializeToString()
    many = wire.CheckBatchRequest(imei14=keys.tolist(), msisdn=numbers.tolist())
    tagged = wire.CheckStreamRequest(tag=1, batch=many).SerializeToString()
    many_raw = many.SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        check = channel.unary_unary(f"{SERVICE}Check", None, None)
        batch = channel.unary_unary(f"{SERVICE}CheckBatch", None, None)
        runs = [
            ("Check", 1, lambda s: asked_for(s, chosen.in_flight, lambda: check(one))),
            ("CheckBatch", chosen.batch, lambda s: asked_for(s, 16, lambda: batch(many_raw))),
            ("CheckStream", chosen.batch, lambda s: streamed_for(s, 16, channel, tagged)),
        ]
        for name, size, run in runs:
            await run(0.5)
            cpu, begun = cpu_seconds(pid), time.perf_counter()
            messages = await run(chosen.seconds)
            report(name, size, messages, time.perf_counter() - begun, cpu_seconds(pid) - cpu)


def report(name: str, size: int, messages: int, wall: float, cpu: float) -> None:
    line = {
        "bench": f"grpcio door, {name}, constant answer",
        "checks_per_message": size,
        "messages_per_s": round(messages / wall),
        "checks_per_s": round(messages * size / wall),
        "server_cpu_us": round(cpu / messages * 1e6, 1),
        "messages_per_core_s": round(messages / cpu),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--batch", type=int, default=512)
    chosen = parser.parse_args()
    told, telling = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(telling,), daemon=True
    )
    server.start()
    asyncio.run(measure(told.recv(), server.pid or 0, chosen))
    server.terminate()
    server.join()


if __name__ == "__main__":
    main()
