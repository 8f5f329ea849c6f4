"""N5g-eir under h2load: our door beside granian answering a constant, in turn, in one run.

Prints one JSON line: requests a second of each, server CPU microseconds a request, and the median
of the per-round ratios; ``cpu_ratio`` is the steadier one where others share the cores. The door
decides in full on ``--devices`` (half of them bound, one in a hundred black); 0 gives it a checker
that says WHITELISTED to all. Both get the same mix of bound, white, black and unknown devices, with
the subscriber's number. Every body is compared once before and once after the load; under it, all
of them by their octets, which is what h2load tells. A wrong one is exit code 1. Loopback only.

    python bench/n5g_load.py [--rounds 7] [--requests 40000] [--devices 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.nation import EXPECTED, FIRST_NUMBER, questions, real_checker

PATH = "/n5g-eir-eic/v1/equipment-status"
TICKS = os.sysconf("SC_CLK_TCK")
NAMES = ("constant", "door")


@dataclass(frozen=True, slots=True)
class Shot:
    """One h2load run against one server."""

    per_second: float
    cpu_us: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--devices", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.devices)
        return 0
    if shutil.which("h2load") is None:
        print("n5g_load: h2load is not installed (tests/peers/install.sh)", file=sys.stderr)
        return 2
    line = measure(options)
    print(json.dumps(line))
    return 1 if line["wrong"] else 0


def measure(options: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        uris = Path(folder) / "paths.txt"
        uris.write_text("".join(f"{PATH}?{query}\n" for query in queries(options.devices)))
        return measured(options, uris)


def measured(options: argparse.Namespace, uris: Path) -> dict[str, object]:
    servers = {name: start(name, options.devices) for name in NAMES}
    shots: dict[str, list[Shot]] = {name: [] for name in NAMES}
    wrong = 0
    try:
        for name in NAMES:
            shoot(*servers[name], options, uris, requests=2_000, name=name)
            wrong += wrong_bodies(servers[name][1], uris, statuses(name, options.devices))
        for turn in range(options.rounds):
            for name in NAMES if turn % 2 == 0 else reversed(NAMES):
                shot = shoot(*servers[name], options, uris, requests=options.requests, name=name)
                shots[name].append(shot)
        for name in NAMES:
            wrong += wrong_bodies(servers[name][1], uris, statuses(name, options.devices))
    finally:
        for server, _ in servers.values():
            server.terminate()
            server.wait()
    pairs = zip(shots["door"], shots["constant"], strict=True)
    ratios = sorted(door.per_second / constant.per_second for door, constant in pairs)
    line: dict[str, object] = {
        "bench": "n5g_load",
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "target": 0.7,
    }
    for name in NAMES:
        line[f"{name}_per_s"] = round(statistics.median(s.per_second for s in shots[name]))
        line[f"{name}_cpu_us"] = round(statistics.median(s.cpu_us for s in shots[name]), 1)
    line["wrong"] = wrong
    line["cpu_ratio"] = round(float(line["constant_cpu_us"]) / float(line["door_cpu_us"]), 3)
    settings = ("devices", "connections", "streams", "rounds", "requests")
    return line | {key: getattr(options, key) for key in settings}


def start(name: str, devices: int) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, __file__, "--serve", name, "--devices", str(devices)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def shoot(
    server: subprocess.Popen[str],
    port: int,
    options: argparse.Namespace,
    uris: Path,
    *,
    requests: int,
    name: str,
) -> Shot:
    """The tool compares no bodies: all of them have to have the octets of the right ones."""
    before = cpu_seconds(server.pid)
    load = ["-n", str(requests), "-c", str(options.connections), "-m", str(options.streams)]
    done = subprocess.run(
        ["h2load", *load, f"--base-uri=http://127.0.0.1:{port}", f"--input-file={uris}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rate = re.search(r"finished in [^,]+, ([0-9.]+) req/s", done)
    good = re.search(r"status codes: (\d+) 2xx", done)
    if rate is None or good is None or int(good[1]) != requests:
        raise SystemExit(f"n5g_load: not every request was answered 200:\n{done}")
    octets, told = re.search(r"\((\d+)\) data", done), statuses(name, options.devices)
    expected = sum(len(body_of(told[at % len(told)])) for at in range(requests))
    if octets is None or int(octets[1]) != expected:
        raise SystemExit(f"n5g_load: {expected} octets of bodies were expected:\n{done}")
    return Shot(float(rate[1]), (cpu_seconds(server.pid) - before) / requests * 1e6)


def statuses(name: str, devices: int) -> tuple[str, ...]:
    """The right answers to the questions, which come round."""
    return EXPECTED if name == "door" and devices else ("WHITELISTED",)


def body_of(status: str) -> bytes:
    return json.dumps({"status": status}, separators=(",", ":")).encode()


def wrong_bodies(port: int, uris: Path, told: tuple[str, ...]) -> int:
    """Every question once, by another client; how many bodies are not the right ones."""
    wrong = 0
    with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{port}") as client:
        for at, path in enumerate(uris.read_text().splitlines()):
            answer = client.get(path)
            right = body_of(told[at % len(told)])
            wrong += answer.status_code != 200 or answer.content != right
    return wrong


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def serve(name: str, devices: int) -> None:
    import uvloop

    uvloop.run(serve_constant() if name == "constant" else serve_door(devices))


async def serve_constant() -> None:
    """Granian embedded as our door embeds it, and nothing else."""
    from eir.doors import n5g_door
    from eir.doors.n5g_settings import N5gSettings

    body, headers = b'{"status":"WHITELISTED"}', [("content-type", "application/json")]

    async def app(_scope: object, proto: object) -> None:
        proto.response_bytes(200, headers, body)

    with n5g_door._claimed("127.0.0.1", 0) as claim:
        port = claim.getsockname()[1]
        serving = asyncio.create_task(n5g_door._server(N5gSettings(port=0), port, app).serve())
        await n5g_door._listening(claim, serving)
        settle()
        print(port, flush=True)
        await serving


async def serve_door(devices: int) -> None:
    from eir.doors.n5g_door import N5gDoor
    from eir.doors.n5g_settings import N5gSettings

    checker = real_checker(devices) if devices else ConstantChecker()
    one = np.ones(1, np.uint64)
    checker.check(one, one, one)
    door = N5gDoor(N5gSettings(port=0), checker)
    await door.start()
    settle()
    print(door.port, flush=True)
    await asyncio.Event().wait()


def settle() -> None:
    """Keep the collector off what lives as long as the server, as a serving process would."""
    gc.collect()
    gc.freeze()


class ConstantChecker:
    """WHITELISTED for all, at no price."""

    ready = True

    def check(self, imei, msisdn, imsi):
        """Verdicts of a batch."""
        return SimpleNamespace(status=(imei >= 0).view(np.uint8))


def queries(devices: int) -> list[str]:
    """1,024 questions: bound, white, black and unknown devices in turn, each with a number."""
    return [
        f"pei=imei-{key:014d}0&gpsi=msisdn-{FIRST_NUMBER + subscriber}"
        for key, subscriber in questions(devices, 1_024)
    ]


if __name__ == "__main__":
    sys.exit(main())
