"""S13: ECR → ECA a second, our door against python-diameter as server, in one run.

A generator sends ECRs encoded beforehand over ``--connections`` connections, ``--window``
outstanding on each, and counts and checks the answers. The door runs with a table for a checker
(one numpy look-up a batch), so the figure is the door's: codec, peer, socket and answer.
Prints one JSON line. Rates are of wall time; ``server_cpu_us`` is the door's own processor time
an ECR, from which ``per_core`` follows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from eir.doors import s13_codec as wire
from eir.doors.s13_door import S13Door, run_loop
from eir.doors.s13_ecr import ecr_body
from eir.doors.s13_settings import PeerRule, S13Settings

REALM = "epc.example.org"
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
    async def run() -> None:
        rule = PeerRule(origin_host=CLIENT)
        settings = S13Settings(origin_host=HOST, origin_realm=REALM, peers=(rule,), port=0)
        door = S13Door(settings, TableChecker())
        await door.start()
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


def ecrs(count: int, *, first: int) -> list[bytes]:
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
                imei=f"35332811{at:06d}0".encode(),
                imsi=f"432110{at:09d}".encode(),
            ),
            flags=wire.PROXIABLE,
            hop_by_hop=at,
            end_to_end=at,
        )
        for at in range(first, first + count)
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


def drive(port: int, *, connections: int, window: int, seconds: float) -> dict[str, float]:
    """Keep ``window`` ECRs outstanding on each connection; count whole answers by header."""
    quarter = max(window // 4, 1)
    poll = selectors.DefaultSelector()
    links = [opened(port) for _ in range(connections)]
    state = {link: [b"", 0, 0] for link in links}
    refills: dict[socket.socket, list[bytes]] = {}
    for number, link in enumerate(links):
        encoded = ecrs(8 * window, first=1 + number * 8 * window)
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


def measured(target: object, *, seconds: float, **shape: int) -> dict[str, float]:
    """One server process of its own, warmed by a second of the same load."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=target, args=(theirs,))  # type: ignore[arg-type]
    server.start()
    port = ours.recv()
    drive(port, **shape, seconds=min(1.0, seconds))
    ours.send("cpu")
    before = ours.recv()
    figures = drive(port, **shape, seconds=seconds)
    ours.send("cpu")
    spent = ours.recv() - before
    ours.send("stop")
    server.join(10)
    figures["server_cpu_us"] = spent / max(figures["answered"], 1) * 1e6
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--alone", action="store_true", help="without python-diameter")
    arguments = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    ours = measured(
        serve_ours,
        seconds=arguments.seconds,
        connections=arguments.connections,
        window=arguments.window,
    )
    line = {
        "bench": "s13_load",
        "connections": arguments.connections,
        "window": arguments.window,
        "ecr_bytes": len(ecrs(1, first=1)[0]),
        "ecr_per_second": round(ours["rate"]),
        "server_cpu_us": round(ours["server_cpu_us"], 2),
        "per_core": round(1e6 / ours["server_cpu_us"]),
        "wrong": ours["wrong"],
        "target": 50_000,
    }
    if not arguments.alone:
        other = measured(serve_python_diameter, seconds=arguments.seconds, connections=1, window=64)
        # its best shape: more connections or a larger window make it slower
        line["python_diameter_per_second"] = round(other["rate"])
        line["ratio"] = round(ours["rate"] / max(other["rate"], 1), 1)
        line["target_ratio"] = 30
    print(json.dumps(line))
    return 1 if ours["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
