"""All doors at once, on the engine itself: one device and subscriber get one verdict through each.

The data are the cast: a device for each row of the table, each asked about with every subscriber.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from eir.client.node import NodeClient
from eir.core.generation import OPERATOR, REGISTRY, WELL_KNOWN_REASONS
from eir.core.orders import Override
from eir.core.policy import Status
from eir.core.tables import Tables
from eir.doors import s13_codec as wire
from eir.doors.n5g_codec import RESOURCE_PATH
from eir.doors.s13_codec import avp
from eir.doors.s13_door import S13Door
from eir.errors import Refused, Unavailable
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.ops.demo import cast
from eir.ops.doors import OpenDoors, open_doors
from eir.ops.settings.config import Config, read_config
from eir.ops.tally import Tally, code_names
from eir.serve.checker import Checker
from eir.serve.events import Events
from eir.serve.holder import Holder, Serving
from tests.doors.s13 import talk
from tests.doors.s13.talk import EIR, MME, REALM, until

NOW = 1_800_000_000
SESSION = "5b0e6f9c-7a53-4d3f-9d51-0c8f2a6e1b0"
BY_EQUIPMENT_STATUS = {0: "WHITELISTED", 1: "BLACKLISTED", 2: "GREYLISTED", None: "UNKNOWN"}
DOORS = f"""
[grpc]
listen = ["127.0.0.1:0"]
[policy]
home_plmns = ["43211", "43220", "43235"]
[policy.status]
not-registered = "UNKNOWN"
[s13]
listen = "127.0.0.1:0"
origin_host = "{EIR}"
origin_realm = "{REALM}"
leave_seconds = 1
[s13.peers."{MME}"]
msisdn_from = ["{MME}"]
[n5g]
listen = "127.0.0.1:0"
drain_seconds = 1
"""

Asked = tuple[str, str, str]
"""IMEI, MSISDN and IMSI as digits; empty is not known."""


@dataclass(frozen=True)
class Node:
    """Doors that are open, and what they answer from."""

    doors: OpenDoors
    holder: Holder
    serving: Serving
    events: Events

    @property
    def s13(self) -> S13Door:
        return next(door for door in self.doors.doors if isinstance(door, S13Door))

    async def ready(self) -> None:
        """As another thread of the process would bring it about."""
        await asyncio.to_thread(self.holder.swap, self.serving)
        await until(lambda: self.s13.is_listening)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("cast")
    rows = cast.cast_rows(NOW)
    registry, operator = (
        SnapshotWriter(SnapshotHead(feed, "test", f"{SESSION}{number}", 1, NOW))
        for number, feed in enumerate((REGISTRY, OPERATOR))
    )
    for section in ("white", "legacy", "black.smuggled", "black.cloned", "black.stolen"):
        reason_id = WELL_KNOWN_REASONS.get(section.removeprefix("black."), 0)
        registry.add_list(section, rows[section], reason_id=reason_id)
    registry.add_pairs("bindings", [rows["bindings"]])
    registry.add_deadlines("grey", [rows["grey"]])
    operator.add_list("exempt.equipment", rows["exempt.equipment"])
    operator.add_list("exempt.subscriber.all", rows["exempt.subscriber.all"])
    operator.add_pairs("imsi-msisdn", [rows["imsi-msisdn"]])
    imei, msisdn, allow, until_, forced = (column.tolist() for column in rows["overrides"])
    operator.add_overrides(map(Override, imei, msisdn, map(bool, allow), until_, map(bool, forced)))
    registry.write(folder / "registry")
    operator.write(folder / "operator")
    return Tables(
        open_snapshot(folder / "registry"), open_snapshot(folder / "operator"), config().policy
    )


def config(text: str = DOORS) -> Config:
    return read_config(text, name="test", folder=Path("/nowhere"))


@contextlib.asynccontextmanager
async def a_node(tables: Tables, text: str = DOORS) -> AsyncIterator[Node]:
    holder = Holder()
    checker = Checker(holder, lambda: NOW)
    events = Events()
    doors = await open_doors(config(text), checker, holder, only_one=True, events=events)
    try:
        yield Node(doors, holder, Serving(tables, NOW), events)
    finally:
        await doors.stop()


def everyone() -> list[Asked]:
    """Each of the cast's devices, with each of its subscribers, with their SIM alone, with nobody.

    The sixteen questions themselves come first.
    """
    questions = cast.questions()
    subscribers = [(q.msisdn, "") for q in questions] + [("", q.imsi) for q in questions]
    subscribers += [("", f"4321199990000{row:02d}") for row in range(1, 17)]
    rest = [(q.imei, *who) for q in questions for who in dict.fromkeys(subscribers)]
    return [*((q.imei, q.msisdn, q.imsi) for q in questions), *rest]


def by_grpc(address: str, asked: list[Asked]) -> list[str]:
    with NodeClient(address, timeout=60) as client:
        return [Status(client.check(*each).status).name for each in asked]


async def by_s13(door: S13Door, asked: list[Asked]) -> list[str]:
    """All of them outstanding at once, as an MME has them."""
    link = await talk.opened(door)
    for number, (imei, msisdn, imsi) in enumerate(asked, 1_000):
        owner = avp(701, tbcd(msisdn), vendor=10415, flags=0) if msisdn else b""
        link.say(talk.ecr(imei.encode(), imsi=imsi.encode(), number=number, extra=owner))
    said = {}
    for _ in asked:
        answer = await link.hear()
        assert (answer.result == wire.SUCCESS) == (answer.number(1445, 10415) is not None)
        said[answer.head.hop_by_hop] = BY_EQUIPMENT_STATUS[answer.number(1445, 10415)]
    link.hang_up()
    return [said[number] for number in sorted(said)]


async def by_n5g(address: str, asked: list[Asked]) -> list[str]:
    async with httpx.AsyncClient(http1=False, http2=True, timeout=60) as client:
        answers = [client.get(f"http://{address}{RESOURCE_PATH}?{n5g(*each)}") for each in asked]
        return [said_by_n5g(answer) for answer in await asyncio.gather(*answers)]


def said_by_n5g(answer: httpx.Response) -> str:
    said = answer.json()
    if answer.status_code == 200:
        return said["status"]
    return {"ERROR_EQUIPMENT_UNKNOWN": "UNKNOWN"}.get(said.get("cause"), str(answer.status_code))


def n5g(imei: str, msisdn: str, imsi: str) -> str:
    query = f"pei=imei-{imei}"
    query += f"&gpsi=msisdn-{msisdn}" if msisdn else ""
    return query + (f"&supi=imsi-{imsi}" if imsi else "")


def tbcd(digits: str) -> bytes:
    padded = digits + "f" * (len(digits) % 2)
    return bytes.fromhex("".join(b + a for a, b in zip(padded[::2], padded[1::2], strict=True)))


@pytest.mark.parametrize("engine", ["grpcio", "native"])
async def test_one_verdict_through_every_door(tables: Tables, engine: str) -> None:
    asked = everyone()
    async with a_node(tables, DOORS.replace("[grpc]", f'[grpc]\nengine = "{engine}"')) as node:
        await node.ready()
        grpc, s13, n5g_address = node.doors.addresses
        assert s13 == f"127.0.0.1:{node.s13.port}"
        told = await asyncio.to_thread(by_grpc, grpc, asked)
        assert await by_s13(node.s13, asked) == told
        assert await by_n5g(n5g_address, asked) == told
    assert len(asked) > 500
    assert set(told) == {status.name for status in Status}
    with_policy = {q.reason: status for q, status in zip(cast.questions(), told, strict=False)}
    assert with_policy["not-registered"] == "UNKNOWN"
    assert with_policy["stolen"] == with_policy["override-deny"] == "BLACKLISTED"
    assert with_policy["bound"] == with_policy["roamer"] == "WHITELISTED"


async def test_the_cast_stands_for_every_row(tables: Tables) -> None:
    async with a_node(tables) as node:
        await node.ready()

        def reasons() -> list[str]:
            with NodeClient(node.doors.addresses[0], timeout=60) as client:
                asked = [(q.imei, q.msisdn, q.imsi) for q in cast.questions()]
                return [client.check(*each).reason_name for each in asked]

        assert await asyncio.to_thread(reasons) == [q.reason for q in cast.questions()]


@pytest.mark.parametrize("answer", ["WHITELISTED", "GREYLISTED", "BLACKLISTED"])
async def test_unknown_leaves_each_door_as_it_is_set(tables: Tables, answer: str) -> None:
    other = {"WHITELISTED": "GREYLISTED", "GREYLISTED": "BLACKLISTED", "BLACKLISTED": "WHITELISTED"}
    text = DOORS.replace("leave_seconds", f'unknown_answer = "{answer}"\nleave_seconds')
    text = text.replace("drain_seconds", f'unknown_answer = "{other[answer]}"\ndrain_seconds')
    nobody = cast.questions()[15]
    asked = [(nobody.imei, nobody.msisdn, "")]
    async with a_node(tables, text) as node:
        await node.ready()
        assert await asyncio.to_thread(by_grpc, node.doors.addresses[0], asked) == ["UNKNOWN"]
        assert await by_s13(node.s13, asked) == [answer]
        assert await by_n5g(node.doors.addresses[2], asked) == [other[answer]]


async def test_not_ready_is_each_door_s_own_way_of_saying_ask_another(tables: Tables) -> None:
    asked = [("490154203237518", "", "")]
    async with a_node(tables) as node:
        grpc, _, n5g_address = node.doors.addresses
        for _ in range(2):
            assert not node.s13.is_listening
            with pytest.raises(Unavailable):
                await asyncio.to_thread(by_grpc, grpc, asked)
            assert await by_n5g(n5g_address, asked) == ["503"]
            await node.ready()
            assert len(set(await by_s13(node.s13, asked) + await by_n5g(n5g_address, asked))) == 1
            link = await talk.opened(node.s13)
            await asyncio.to_thread(node.holder.swap, None)
            farewell = await link.hear()
            assert (farewell.head.command, farewell.number(wire.DISCONNECT_CAUSE)) == (282, 1)
            assert (await link.ask(talk.ecr())).result == 3004
            link.hang_up()
            await until(lambda: not node.s13.is_listening)


async def test_every_verdict_is_counted_by_door_status_and_reason_and_by_peer(
    tables: Tables,
) -> None:
    asked = everyone()[:16]
    async with a_node(tables) as node:
        await node.ready()
        told = await asyncio.to_thread(by_grpc, node.doors.addresses[0], asked)
        await by_s13(node.s13, asked * 2)
        await by_n5g(node.doors.addresses[2], asked * 3)
        with pytest.raises(Refused):
            await asyncio.to_thread(
                by_grpc, node.doors.addresses[0], [("490154203237518", "x", "")]
            )
        async with httpx.AsyncClient(http1=False, http2=True) as client:
            await client.get(f"http://{node.doors.addresses[2]}/elsewhere")
        unsure = await talk.opened(node.s13)
        assert (await unsure.ask(talk.ecr_of(state=None))).result == 5005
        unsure.hang_up()
        await until(lambda: node.events["s13", "closed", "peer-gone"] == 2)
    tally = Tally()
    tally.add(node.serving.counters, code_names(tables))
    verdicts = [(q.reason, told[at]) for at, q in enumerate(cast.questions())]
    for times, door in enumerate(("grpc", "s13", "n5g"), 1):
        counted = {(r, s): n for (d, r, s), n in tally.checks.items() if d == door}
        assert counted == dict.fromkeys(verdicts, times)
    forms = Counter(status.lower() for status in told * 2)
    for form, times in forms.items():
        assert node.events["s13", "answer", form, MME] == times
    assert node.events["s13", "fault", "5005", MME] == 1
    assert node.events["s13", "opened", "", MME] == 2
    for door, doubled in (("n5g", 3), ("grpc", 1)):
        for status, times in Counter(status.lower() for status in told * doubled).items():
            assert node.events[door, "answer", status, "127.0.0.1"] == times
    assert node.events["n5g", "fault", "404", "127.0.0.1"] == 1
    assert node.events["grpc", "fault", "INVALID_ARGUMENT", "127.0.0.1"] == 1


async def test_only_one_process_opens_what_can_t_be_shared(tables: Tables) -> None:
    holder = Holder()
    holder.swap(Serving(tables, NOW))
    text = DOORS.replace('["127.0.0.1:0"]', '["127.0.0.1:0", "unix:x.sock"]')
    doors = await open_doors(config(text), Checker(holder), holder, only_one=False)
    kinds = [type(door).__name__ for door in doors.doors]
    addresses = doors.addresses
    await doors.stop()
    assert kinds == ["GrpcDoor", "N5gDoor"]
    assert all(address.startswith("127.0.0.1:") for address in addresses)


async def test_where_one_door_can_t_open_none_stays_open(tables: Tables) -> None:
    holder = Holder()
    holder.swap(Serving(tables, NOW))
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    text = DOORS.replace('[n5g]\nlisten = "127.0.0.1:0"', f'[n5g]\nlisten = "127.0.0.1:{port}"')
    with pytest.raises(Refused) as caught:
        await open_doors(config(text), Checker(holder), holder, only_one=True)
    assert caught.value.reason == "listen-failed"
    taken.close()
    open_now = [
        t for t in asyncio.all_tasks() if "S13" in repr(t) and t is not asyncio.current_task()
    ]
    assert not open_now


async def test_no_log_names_a_device_or_subscriber(
    tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked = [q for q in everyone() if q[0]][:40]
    odd = [("35999901000316x", "989990000003", ""), ("3" * 65, "", "")]
    async with a_node(tables) as node:
        await node.ready()
        await asyncio.to_thread(by_grpc, node.doors.addresses[0], asked)
        await by_s13(node.s13, asked)
        link = await talk.opened(node.s13)
        for imei, msisdn, _ in odd:
            owner = avp(701, tbcd(msisdn) + b"\xff", vendor=10415, flags=0)
            await link.ask(talk.ecr(imei.encode(), imsi=b"432119999000003", extra=owner))
        link.hang_up()
        await by_n5g(node.doors.addresses[2], asked + odd)
    told = "\n".join(record.getMessage() for record in ours(caplog.records))
    assert "S13 peer" in told
    for imei, msisdn, imsi in [*asked, *odd]:
        for identity in (imei[:14], msisdn, imsi, "432119999000003"):
            assert not identity or identity not in told


def ours(records: list[logging.LogRecord]) -> list[logging.LogRecord]:
    """Not the clients' own: httpx says which URL it asks."""
    return [record for record in records if record.name.startswith("eir")]
