"""S13: ECR → ECA a second, our door against python-diameter as server, in one run.

A generator sends ECRs encoded beforehand over ``--connections`` connections, ``--window``
outstanding on each, and checks every answer. The door decides in full on ``--devices``, each ECR
with an IMSI that the operator's table maps to a number; 0 gives it a table for a checker (one numpy
look-up a batch), so that the figure is the door's alone. Prints one JSON line. Rates are of wall
time; ``server_cpu_us`` is the door's own processor time an ECR; from it ``per_core`` follows, and
``cpu_ratio``, the steadier one where others share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import multiprocessing
import os
import selectors
import socket
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.nation import EXPECTED, FIRST_IMSI, questions, real_checker
from eir.doors import s13_codec as wire
from eir.doors.s13_door import S13Door, run_loop
from eir.doors.s13_ecr import ecr_body
from eir.doors.s13_settings import PeerRule, S13Settings

REALM = "epc.example.org"
BY_STATUS = {"WHITELISTED": 0, "BLACKLISTED": 1, "GREYLISTED": 2}
HOST = "eir.epc.example.org"
CLIENT = "mme.epc.example.org"
ORIGIN = wire.avp(wire.ORIGIN_HOST, CLIENT.encode()) + wire.avp(wire.ORIGIN_REALM, REALM.encode())
TABLE = np.random.default_rng(1).integers(1, 5, 1 << 16).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class TableAnswer:
    """What a Checker answers, of it only what a door reads."""

    status: NDArray[np.uint8]


class TableChecker:
    """Status by the low 16 bits of the key."""

    ready = True

    def check(
        self, imei: NDArray[np.uint64], msisdn: NDArray[np.uint64], imsi: NDArray[np.uint64]
    ) -> TableAnswer:
        """One look-up for the batch."""
        return TableAnswer(TABLE[imei & np.uint64(0xFFFF)])


def serve_ours(pipe: Connection) -> None:
    devices = pipe.recv()

    async def run() -> None:
        rule = PeerRule(origin_host=CLIENT)
        settings = S13Settings(origin_host=HOST, origin_realm=REALM, peers=(rule,), port=0)
        door = S13Door(settings, real_checker(devices) if devices else TableChecker())
        await door.start()
        gc.collect()
        gc.freeze()
        pipe.send(door.port)
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        loop.add_reader(pipe.fileno(), asked.set)
        while True:
            await asked.wait()
            asked.clear()
            if pipe.recv() == "stop":
                break
            pipe.send(time.process_time())
        await door.stop()

    with asyncio.Runner(loop_factory=run_loop()) as runner:
        runner.run(run())


def serve_python_diameter(pipe: Connection) -> None:
    from diameter.message.commands import MeIdentityCheckAnswer
    from diameter.node import Node
    from diameter.node.application import SimpleThreadingApplication

    logging.disable(logging.CRITICAL)
    pipe.recv()

    def answer(app: SimpleThreadingApplication, message: object) -> MeIdentityCheckAnswer:
        reply = app.generate_answer(message, 2001)
        reply.auth_session_state = 1
        reply.equipment_status = 2
        return reply

    port = free_port()
    node = Node(HOST, REALM, ip_addresses=["127.0.0.1"], tcp_port=port, vendor_ids=[10415])
    app = SimpleThreadingApplication(
        wire.S13_APPLICATION, is_auth_application=True, request_handler=answer
    )
    peer = node.add_peer(f"aaa://{CLIENT}", REALM)
    node.add_application(app, [peer])
    node.start()
    pipe.send(port)
    while pipe.recv() != "stop":
        pipe.send(time.process_time())
    os._exit(0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ecrs(asked: list[tuple[int, int]], *, first: int) -> list[bytes]:
    """Encoded ECRs as an MME sends them: VSAI, User-Name, a 15-digit IMEI with the spare 0.

    Identifiers rise from ``first``, so that no two outstanding ones are equal.
    """
    return [
        wire.request(
            wire.EQUIPMENT,
            wire.S13_APPLICATION,
            ecr_body(
                session=f"{CLIENT};1;{at:06d}".encode(),
                origin=ORIGIN,
                realm=REALM.encode(),
                imei=f"{key:014d}0".encode(),
                imsi=str(FIRST_IMSI + subscriber).encode(),
            ),
            flags=wire.PROXIABLE,
            hop_by_hop=at,
            end_to_end=at,
        )
        for at, (key, subscriber) in enumerate(asked, first)
    ]


def opened(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = (
        ORIGIN
        + wire.avp(wire.HOST_IP_ADDRESS, b"\0\1\x7f\0\0\1")
        + wire.avp_u32(wire.VENDOR_ID, 0)
        + wire.avp(wire.PRODUCT_NAME, b"load", flags=0)
        + wire.avp_u32(wire.SUPPORTED_VENDOR_ID, wire.VENDOR_3GPP)
        + wire.avp_u32(wire.AUTH_APPLICATION_ID, wire.S13_APPLICATION)
    )
    link.sendall(wire.request(wire.CAPABILITIES, 0, body, flags=0, hop_by_hop=1, end_to_end=1))
    answer = link.recv(65_536)
    if b"\0\0\x07\xd1" not in answer:
        raise SystemExit(f"no CEA 2001: {answer!r}")
    return link


def drive(
    port: int,
    *,
    asked: list[tuple[int, int]],
    statuses: bytes,
    connections: int,
    window: int,
    seconds: float,
) -> dict[str, float]:
    """Keep ``window`` ECRs outstanding on each connection.

    Each answer's Equipment-Status, in its last octet, must be that of ``statuses`` for its number
    modulo the length; with none, only headers are looked at.
    """
    quarter = max(window // 4, 1)
    poll = selectors.DefaultSelector()
    links = [opened(port) for _ in range(connections)]
    state = {link: [b"", 0, 0] for link in links}
    refills: dict[socket.socket, list[bytes]] = {}
    for number, link in enumerate(links):
        encoded = ecrs(asked[: 8 * window], first=number * 8 * window)
        ends = range(0, len(encoded), quarter)
        refills[link] = [b"".join(encoded[at : at + quarter]) for at in ends]
    begun = time.perf_counter()
    for link in links:
        poll.register(link, selectors.EVENT_READ)
        link.sendall(b"".join(refills[link][-4:]))
    answered = wrong = 0
    taken = seconds
    outstanding = len(links) * 4 * quarter
    while outstanding:  # python-diameter's threads die of an answer that nobody waits for
        running = time.perf_counter() - begun < seconds
        ready = poll.select(10.0)
        if not ready:
            raise SystemExit(f"{outstanding} answers did not come within 10 s")
        for key, _ in ready:
            link = key.fileobj
            rest, owed, turn = state[link]
            octets = rest + link.recv(1 << 18)
            at = 0
            while len(octets) - at >= 20:
                end = at + int.from_bytes(octets[at + 1 : at + 4], "big")
                if end > len(octets):
                    break
                wrong += octets[at + 4 : at + 8] != b"\x40\x00\x01\x44"
                if statuses:
                    wrong += octets[end - 1] != statuses[octets[at + 15] % len(statuses)]
                owed, at, outstanding = owed + 1, end, outstanding - 1
                answered += running
            while owed >= quarter and running:
                link.sendall(refills[link][turn % len(refills[link])])
                owed, turn, outstanding = owed - quarter, turn + 1, outstanding + quarter
            state[link] = [octets[at:], owed, turn]
        taken = time.perf_counter() - begun if running else taken
    for link in links:
        link.close()
    return {"answered": answered, "wrong": wrong, "rate": answered / taken}


def measured(
    target: object, *, devices: int, rounds: int, seconds: float, statuses: bytes, **shape: int
) -> list[dict[str, float]]:
    """One server process of its own, warmed by a second of the same load; one figure a round."""
    asked = questions(devices, 8 * shape["window"])
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=target, args=(theirs,), daemon=True)  # type: ignore[arg-type]
    server.start()
    ours.send(devices)
    port = ours.recv()
    load = partial(drive, port, asked=asked, statuses=statuses, **shape)
    load(seconds=min(1.0, seconds))
    shots = []
    for _ in range(rounds):
        ours.send("cpu")
        before = ours.recv()
        figures = load(seconds=seconds)
        ours.send("cpu")
        figures["server_cpu_us"] = (ours.recv() - before) / max(figures["answered"], 1) * 1e6
        shots.append(figures)
    ours.send("stop")
    server.join(10)
    return shots


def spread(shots: list[dict[str, float]], name: str) -> tuple[float, float, float]:
    """Least, median and greatest over the rounds."""
    values = [shot[name] for shot in shots]
    return min(values), statistics.median(values), max(values)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--alone", action="store_true", help="without python-diameter")
    arguments = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    shape = {"devices": arguments.devices, "seconds": arguments.seconds, "rounds": arguments.rounds}
    ours = measured(
        serve_ours,
        statuses=bytes(BY_STATUS[name] for name in EXPECTED) if arguments.devices else b"",
        connections=arguments.connections,
        window=arguments.window,
        **shape,
    )
    rates, cpu = spread(ours, "rate"), spread(ours, "server_cpu_us")
    line = {
        "bench": "s13_load",
        "devices": arguments.devices,
        "connections": arguments.connections,
        "window": arguments.window,
        "ecr_bytes": len(ecrs([(35_332_811_000_001, 0)], first=1)[0]),
        "ecr_per_second": round(rates[1]),
        "ecr_per_second_range": [round(rates[0]), round(rates[2])],
        "server_cpu_us": round(cpu[1], 2),
        "per_core": round(1e6 / cpu[1]),
        "per_core_range": [round(1e6 / cpu[2]), round(1e6 / cpu[0])],
        "wrong": sum(shot["wrong"] for shot in ours),
        "target": 50_000,
    }
    if not arguments.alone:
        # its best shape: more connections or a larger window make it slower
        theirs = measured(
            serve_python_diameter, statuses=b"", connections=1, window=64, **shape | {"rounds": 1}
        )
        line["python_diameter_per_second"] = round(theirs[0]["rate"])
        line["ratio"] = round(rates[1] / max(theirs[0]["rate"], 1), 1)
        line["cpu_ratio"] = round(theirs[0]["server_cpu_us"] / cpu[1], 1)
        line["target_ratio"] = 30
    print(json.dumps(line))
    return 1 if line["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
