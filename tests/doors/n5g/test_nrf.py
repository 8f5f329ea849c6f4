"""The life of our registration, against a small NRF in the shape of TS 29.510 6.1."""

import asyncio
import json
import logging
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from eir.doors import n5g_nrf
from eir.doors.n5g_nrf import NrfRegistration, nf_profile
from eir.doors.n5g_settings import NrfSettings

UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


@dataclass
class SmallNrf:
    """Keeps profiles as the standard says, over HTTP/2 by prior knowledge; can be made to fail."""

    heartbeat_s: int = 1
    fail_next: list[int] = field(default_factory=list)
    profiles: dict[str, dict] = field(default_factory=dict)
    calls: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def answer(self, method: str, path: str, headers: dict, body: bytes) -> tuple[int, object]:
        found = re.fullmatch(r"/nnrf-nfm/v1/nf-instances/([0-9a-f-]{36})", path)
        if found is None:
            return 404, {"status": 404}
        if self.fail_next:
            return self.fail_next.pop(0), {"status": 0}
        return getattr(self, method.lower())(found[1], headers, body)

    def put(self, name: str, headers: dict, body: bytes) -> tuple[int, object]:
        profile = json.loads(body)
        required = {"nfInstanceId", "nfType", "nfStatus"}
        good = required <= profile.keys() and profile["nfInstanceId"] == name
        if not good or headers["content-type"] != "application/json":
            return 400, {"status": 400}
        created = name not in self.profiles
        self.profiles[name] = profile | {"heartBeatTimer": self.heartbeat_s}
        return 201 if created else 200, self.profiles[name]

    def patch(self, name: str, headers: dict, body: bytes) -> tuple[int, object]:
        if headers["content-type"] != "application/json-patch+json":
            return 415, {"status": 415}
        if name not in self.profiles:
            return 404, {"status": 404, "cause": "RESOURCE_URI_STRUCTURE_NOT_FOUND"}
        for step in json.loads(body):
            assert step["op"] == "replace"
            self.profiles[name][step["path"].removeprefix("/")] = step["value"]
        return 204, None

    def delete(self, name: str, _headers: dict, _body: bytes) -> tuple[int, object]:
        return (204, None) if self.profiles.pop(name, None) else (404, {"status": 404})

    async def until(self, condition) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(condition), 10)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="ascii"))
        h2.initiate_connection()
        streams: dict[int, tuple[dict, bytearray]] = {}
        while raw := await reader.read(65_536):
            for event in h2.receive_data(raw):
                if isinstance(event, RequestReceived):
                    streams[event.stream_id] = (dict(event.headers), bytearray())
                elif isinstance(event, DataReceived):
                    streams[event.stream_id][1].extend(event.data)
                elif isinstance(event, StreamEnded):
                    await self.reply(h2, event.stream_id, *streams.pop(event.stream_id))
            writer.write(h2.data_to_send())
        writer.close()

    async def reply(self, h2: H2Connection, stream: int, headers: dict, body: bytearray) -> None:
        method = headers[":method"]
        status, answer = self.answer(method, headers[":path"], headers, bytes(body))
        h2.send_headers(stream, [(":status", str(status)), ("content-type", "application/json")])
        h2.send_data(stream, b"" if answer is None else json.dumps(answer).encode(), True)
        async with self.changed:
            self.calls.append((method, status))
            self.changed.notify_all()


@asynccontextmanager
async def running(nrf: SmallNrf):
    server = await asyncio.start_server(nrf.serve, "127.0.0.1", 0)
    nrf.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield nrf


class Node:
    """Ready or not, as the test says."""

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready


@asynccontextmanager
async def registered(node: Node, *urls: str):
    settings = NrfSettings(urls=urls, address="10.1.2.3", port=29_511, plmns=("43211",))
    life = NrfRegistration(settings, instance_id=UUID, scheme="http", ready=lambda: node.ready)
    await life.start()
    try:
        yield life
    finally:
        await life.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(n5g_nrf, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(n5g_nrf, "MAX_PAUSE_S", 0.04)


async def test_register_heartbeat_deregister():
    async with running(SmallNrf()) as nrf:
        async with registered(Node(), nrf.url) as life:
            await nrf.until(lambda: nrf.calls[:2] == [("PUT", 201), ("PATCH", 204)])
            assert life.phase == "registered"
            assert nrf.profiles[UUID]["nfStatus"] == "REGISTERED"
        assert life.phase == "gone"
        assert nrf.calls[-1] == ("DELETE", 204)
        assert nrf.profiles == {}


async def test_not_ready_is_suspended_and_a_turn_is_told_at_once():
    async with running(SmallNrf(heartbeat_s=3_600)) as nrf:
        node = Node(ready=False)
        async with registered(node, nrf.url) as life:
            await nrf.until(lambda: UUID in nrf.profiles)
            assert nrf.profiles[UUID]["nfStatus"] == "SUSPENDED"
            for ready, status in ((True, "REGISTERED"), (False, "SUSPENDED")):
                node.ready = ready
                await asyncio.to_thread(life.readiness_changed)
                await nrf.until(lambda status=status: nrf.profiles[UUID]["nfStatus"] == status)


async def test_an_nrf_that_forgot_us_hears_from_us_again():
    async with running(SmallNrf(heartbeat_s=3_600)) as nrf, registered(Node(), nrf.url) as life:
        await nrf.until(lambda: UUID in nrf.profiles)
        nrf.profiles.clear()
        life.readiness_changed()
        await nrf.until(lambda: nrf.calls[-1] == ("PUT", 201) and len(nrf.calls) == 3)
        assert nrf.calls == [("PUT", 201), ("PATCH", 404), ("PUT", 201)]


@pytest.mark.parametrize("fault", [400, 403, 404, 500, 503])
async def test_a_refused_registration_is_tried_again(fault, caplog):
    async with running(SmallNrf(fail_next=[fault, fault, fault])) as nrf:
        with caplog.at_level(logging.WARNING):
            async with registered(Node(), nrf.url):
                await nrf.until(lambda: UUID in nrf.profiles)
        assert nrf.calls[:4] == [("PUT", fault)] * 3 + [("PUT", 201)]
    assert str(fault) in caplog.text


async def test_the_next_nrf_takes_over_from_a_dead_one():
    async with running(SmallNrf()) as dead:
        pass
    async with running(SmallNrf()) as alive, registered(Node(), dead.url, alive.url):
        await alive.until(lambda: UUID in alive.profiles)


async def test_an_answer_past_the_cap_is_no_answer(monkeypatch):
    monkeypatch.setattr(n5g_nrf.limits, "MAX_NRF_ANSWER_BYTES", 10)
    async with running(SmallNrf()) as nrf, registered(Node(), nrf.url) as life:
        await nrf.until(lambda: len(nrf.calls) >= 2)
        assert life.phase == "away"


async def test_stop_does_not_hang_on_an_nrf_that_never_answers():
    held = asyncio.Event()

    async def mute(reader, _writer):
        await reader.read(1)
        held.set()
        await reader.read(-1)

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = NrfSettings(urls=(url,), address="h", port=1, timeout_s=0.2)
        life = NrfRegistration(settings, instance_id=UUID, scheme="http", ready=lambda: True)
        await life.start()
        await asyncio.wait_for(held.wait(), 5)
        await asyncio.wait_for(life.stop(), 5)
        assert life.phase == "gone"


@pytest.mark.parametrize(
    ("address", "profile_part", "endpoint"),
    [
        ("10.1.2.3", {"ipv4Addresses": ["10.1.2.3"]}, {"ipv4Address": "10.1.2.3"}),
        ("fd00::1", {"ipv6Addresses": ["fd00::1"]}, {"ipv6Address": "fd00::1"}),
        ("eir.example.org", {"fqdn": "eir.example.org"}, {}),
    ],
)
def test_the_profile_says_what_and_where_we_are(address, profile_part, endpoint):
    settings = NrfSettings(urls=("http://n:1",), address=address, port=7, plmns=("43211", "432110"))
    profile = nf_profile(settings, instance_id=UUID, scheme="https", status="SUSPENDED")
    assert profile_part.items() <= profile.items()
    assert profile["nfType"] == "5G_EIR"
    assert profile["nfStatus"] == "SUSPENDED"
    assert profile["plmnList"] == [{"mcc": "432", "mnc": "11"}, {"mcc": "432", "mnc": "110"}]
    [service] = profile["nfServices"]
    assert service["serviceName"] == "n5g-eir-eic"
    assert service["scheme"] == "https"
    assert service["ipEndPoints"] == [{"transport": "TCP", "port": 7} | endpoint]
    assert service["versions"] == [{"apiVersionInUri": "v1", "apiFullVersion": "1.0.0"}]
    assert ("fqdn" in service) == ("fqdn" in profile)
