"""Every door of a node as it is run: a keeper, two workers, S13 in one of them, either gRPC engine.

The S13 peer is python-diameter, which no one here wrote.
"""

import asyncio
import os
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from eir.client.node import NodeClient
from eir.doors import s13_codec as wire
from eir.ops.demo import cast
from tests.doors.s13 import talk
from tests.doors.s13.peers import Mme, needs_module
from tests.doors.s13.talk import EIR, MME, REALM
from tests.doors.test_every_door import (
    BY_EQUIPMENT_STATUS,
    Asked,
    by_grpc,
    by_n5g,
    everyone,
    tbcd,
)
from tests.ops.conftest import Node, run, serving, until

SETTINGS = f"""
[node]
depot = "depot"
[workers]
count = 2
[grpc]
engine = "ENGINE"
listen = ["127.0.0.1:0"]
[metrics]
listen = "127.0.0.1:0"
[policy]
home_plmns = ["43211", "43220", "43235"]
[policy.status]
not-registered = "UNKNOWN"
[s13]
listen = "127.0.0.1:0"
origin_host = "{EIR}"
origin_realm = "{REALM}"
leave_seconds = 5
watchdog_seconds = 6
[s13.peers."{MME}"]
msisdn_from = ["{MME}"]
[s13.peers."ping.epc.example.org"]
[n5g]
listen = "127.0.0.1:0"
drain_seconds = 1
"""


@dataclass(frozen=True)
class Serving:
    """A node that answers, and where."""

    node: Node
    grpc: str
    s13: int
    n5g: str
    metrics: str

    def worker(self, slot: int) -> int:
        """The process that has this place now."""
        with NodeClient(f"unix:{self.node.config.parent}/depot/admin.sock") as client:
            return next(each.pid for each in client.status().workers if each.slot == slot)

    def counted(self) -> dict[tuple[str, str, str, str], float]:
        """``eir_door_events_total`` by its labels."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as page:
            rows = re.findall(r"(?m)^eir_door_events_total\{(.*)\} (\S+)$", page.read().decode())
        found = {}
        for labels, times in rows:
            said = dict(re.findall(r'(\w+)="(.*?)"', labels))
            found[said["door"], said["event"], said["what"], said["peer"]] = float(times)
        return found


@pytest.fixture(params=["grpcio", "native"])
def served(request: pytest.FixtureRequest, folder: Path) -> Iterator[Serving]:
    (folder / "eir.toml").write_text(SETTINGS.replace("ENGINE", request.param))
    with serving(folder) as node:
        (line,) = re.findall(r"answering on (.*)", node.log)
        (metrics,) = re.findall(r"metrics on (\S+)", node.log)
        grpc, s13, n5g = line.strip('"').split(", ")
        yield Serving(node, grpc, int(s13.rpartition(":")[2]), n5g, metrics)


def by_mme(mme: Mme, asked: list[Asked]) -> list[str]:
    said = []
    for imei, msisdn, imsi in asked:
        answer = mme.ask(imei, user_name=imsi or None, msisdn=tbcd(msisdn) if msisdn else b"")
        status = getattr(answer, "equipment_status", None)
        if status is None:
            assert answer.experimental_result.experimental_result_code == 5422
        said.append(BY_EQUIPMENT_STATUS[status])
    return said


def listeners(port: int) -> int:
    """How many sockets listen on this port of loopback."""
    rows = [
        row
        for family in ("tcp", "tcp6")
        for row in Path(f"/proc/net/{family}").read_text().splitlines()[1:]
    ]
    return sum(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)


async def test_one_verdict_through_every_door_of_a_node(served: Serving) -> None:
    needs_module("diameter")
    asked = everyone()[:16] + everyone()[16::7]
    async with an_mme(served.s13) as mme:
        await one_verdict(served, mme, asked)
        assert await asyncio.to_thread(served.node.stop) == 0
        assert mme.peer.counters.dpr == 1
    assert "dpa-timeout" not in served.node.log


@asynccontextmanager
async def an_mme(port: int) -> AsyncIterator[Mme]:
    mme = Mme(port)
    try:
        await asyncio.to_thread(mme.start)
        mme.peer.persistent = False
        yield mme
    finally:
        await asyncio.to_thread(mme.stop)


async def one_verdict(served: Serving, mme: Mme, asked: list[Asked]) -> None:
    told = await asyncio.to_thread(by_grpc, served.grpc, asked)
    assert await asyncio.to_thread(by_mme, mme, asked) == told
    assert await by_n5g(served.n5g, asked) == told
    assert set(told) == set(BY_EQUIPMENT_STATUS.values())
    await talk.until(lambda: mme.peer.counters.dwr > 0)  # ours, after Tw without a word
    mme.node.send_dwr(mme.peer.connection)
    await talk.until(lambda: not mme.peer.connection.is_waiting_for_dwa)
    late = await asyncio.to_thread(mme.ask, asked[0][0], destination_host=b"hss.epc.example.org")
    assert late.result_code == 3002
    counted = served.counted()
    for door, peer in (("grpc", "127.0.0.1"), ("s13", MME), ("n5g", "127.0.0.1")):
        answers = {key[2]: n for key, n in counted.items() if key[:2] == (door, "answer")}
        assert answers == Counter(status.lower() for status in told)
        assert {key[3] for key in counted if key[:2] == (door, "answer")} == {peer}
    assert counted["s13", "fault", "3002", MME] == 1
    assert [listeners(int(port)) for port in ports(served)] == [2, 1, 2]


def ports(served: Serving) -> tuple[str, ...]:
    return (served.grpc.rpartition(":")[2], str(served.s13), served.n5g.rpartition(":")[2])


def ping(served: Serving, *more: str) -> tuple[int, str]:
    """``eir s13 ping``: exit code, and what it prints."""
    words = ("--origin-host", "ping.epc.example.org", "--origin-realm", REALM)
    ran = run("s13", "ping", "127.0.0.1", "--port", served.s13, *words, *more)
    return ran.code, ran.out + ran.err


@asynccontextmanager
async def linked(served: Serving) -> AsyncIterator[tuple[talk.Link, int]]:
    """A connection past its CER, and the Origin-State-Id that its CEA told."""
    link = await talk.dial(SimpleNamespace(port=served.s13))
    answer = await link.ask(talk.cer())
    number = answer.number(wire.ORIGIN_STATE_ID)
    assert answer.result == 2001
    assert number is not None
    yield link, number
    link.hang_up()


async def test_a_ping_of_a_node_and_of_what_follows_a_killed_worker(served: Serving) -> None:
    stolen = cast.questions()[5]
    code, said = await asyncio.to_thread(ping, served, "--imei", stolen.imei)
    assert (code, "BLACKLISTED" in said) == (0, True), said
    async with linked(served) as (link, before):
        pid = served.worker(0)
        os.kill(pid, signal.SIGKILL)
        await link.hangs_up()

    def again() -> bool:
        return ping(served, "--imei", stolen.imei)[0] == 0

    await asyncio.to_thread(until, again, f"S13 after process {pid}")
    async with linked(served) as (link, after):
        assert after > before, "RFC 6733 8.16: it rises at each restart"
        assert (await link.ask(talk.ecr(stolen.imei.encode()))).number(1445, 10415) == 1
    assert served.worker(0) != pid
    assert listeners(served.s13) == 1
    status = await asyncio.to_thread(run, "status", "--config", served.node.config)
    assert status.code == 0, status.err
