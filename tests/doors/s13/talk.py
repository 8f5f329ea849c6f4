"""What the S13 tests say to a peer or a door, and a checker that answers by a table."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import avp, avp_u32
from eir.doors.s13_door import S13Door
from eir.doors.s13_ecr import ecr_body
from eir.doors.s13_settings import PeerRule, S13Settings
from eir.errors import Unavailable

EIR, MME, REALM = "eir.epc.example.org", "mme.epc.example.org", "epc.example.org"
ORIGIN = avp(wire.ORIGIN_HOST, MME.encode()) + avp(wire.ORIGIN_REALM, REALM.encode())
SESSION = b"mme.epc.example.org;7;9"
WHITE, BLACK, UNKNOWN = 49015420323751, 35332811001001, 35693803564380
STATUS_BY_KEY = {WHITE: 1, BLACK: 3, UNKNOWN: 4}
GREY_STATUS = 2


@dataclass
class Said:
    status: np.ndarray


@dataclass
class TableChecker:
    """Answers by STATUS_BY_KEY, else GREYLISTED; keeps what each call asked."""

    ready: bool = True
    wrong: Exception | None = None
    batches: list[list[tuple[int, int, int]]] = field(default_factory=list)

    def check(self, imei, msisdn, imsi) -> Said:
        assert imei.dtype == msisdn.dtype == imsi.dtype == np.uint64
        if not self.ready:
            raise Unavailable("nothing serves")
        if self.wrong:
            raise self.wrong
        self.batches.append(list(zip(imei.tolist(), msisdn.tolist(), imsi.tolist(), strict=True)))
        return Said(np.array([STATUS_BY_KEY.get(key, 2) for key in imei.tolist()], np.uint8))


def settings(**changes) -> S13Settings:
    values = {
        "origin_host": EIR,
        "origin_realm": REALM,
        "peers": (PeerRule(origin_host=MME, msisdn_from=(MME,)),),
        "port": 0,
    } | changes
    return S13Settings(**values)


def cer(*, host=MME, offers=None, extra=b"") -> bytes:
    names = avp(wire.ORIGIN_HOST, host.encode()) + avp(wire.ORIGIN_REALM, REALM.encode())
    body = (
        names
        + avp(wire.HOST_IP_ADDRESS, b"\0\1\x7f\0\0\1")
        + avp_u32(wire.VENDOR_ID, 10415)
        + avp(wire.PRODUCT_NAME, b"test", flags=0)
        + (avp_u32(wire.AUTH_APPLICATION_ID, wire.S13_APPLICATION) if offers is None else offers)
        + extra
    )
    return base(wire.CAPABILITIES, body)


def base(command: int, body: bytes = ORIGIN, *, number: int = 1) -> bytes:
    return wire.request(command, 0, body, flags=0, hop_by_hop=number, end_to_end=number)


def dpr(cause: int = 0) -> bytes:
    return base(wire.DISCONNECT, ORIGIN + avp_u32(wire.DISCONNECT_CAUSE, cause), number=99)


def ecr(
    imei: bytes = b"490154203237510",
    *,
    number: int = 5,
    body: bytes | None = None,
    flags: int = wire.PROXIABLE,
    application: int = wire.S13_APPLICATION,
    command: int = wire.EQUIPMENT,
    imsi: bytes = b"432110123456789",
    extra: bytes = b"",
) -> bytes:
    if body is None:
        body = ecr_body(
            session=SESSION, origin=ORIGIN, realm=REALM.encode(), imei=imei, imsi=imsi, extra=extra
        )
    return wire.request(
        command, application, body, flags=flags, hop_by_hop=number, end_to_end=number + 1000
    )


def parts(**without_or_with: bytes | None) -> dict[str, bytes]:
    """The AVPs of an ECR by name, to leave out (None) or replace."""
    imei = avp(wire.IMEI, b"490154203237510", vendor=10415)
    whole = {
        "session": avp(wire.SESSION_ID, SESSION),
        "state": wire.NO_STATE,
        "host": avp(wire.ORIGIN_HOST, MME.encode()),
        "realm": avp(wire.ORIGIN_REALM, REALM.encode()),
        "to": avp(wire.DESTINATION_REALM, REALM.encode()),
        "terminal": avp(wire.TERMINAL_INFORMATION, imei, vendor=10415),
        "extra": b"",
    }
    return {k: v for k, v in (whole | without_or_with).items() if v is not None}


def ecr_of(**changes: bytes | None) -> bytes:
    return ecr(body=b"".join(parts(**changes).values()))


@dataclass(frozen=True)
class Message:
    head: wire.Head
    avps: list[wire.Avp]

    def value(self, code: int, vendor: int = 0) -> bytes | None:
        return next((a.value for a in self.avps if (a.code, a.vendor) == (code, vendor)), None)

    def number(self, code: int, vendor: int = 0) -> int | None:
        value = self.value(code, vendor)
        return None if value is None else int.from_bytes(value, "big")

    @property
    def result(self) -> int | None:
        return self.number(wire.RESULT_CODE)

    @property
    def failed(self) -> wire.Avp:
        inside, fault = wire.read_avps(self.value(wire.FAILED_AVP), 0, len(self.value(279)))
        assert fault is None
        assert len(inside) == 1
        return inside[0]


def messages(octets: bytes) -> list[Message]:
    """All messages of a stream that must hold whole messages only."""
    found, at = [], 0
    while at < len(octets):
        head = wire.read_head(octets, at)
        assert head.version == 1
        assert at + head.length <= len(octets)
        avps, fault = wire.read_avps(octets, at + 20, at + head.length)
        assert fault is None
        found.append(Message(head, avps))
        at += head.length
    return found


@dataclass
class Link:
    """A client's connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self) -> Message:
        async with asyncio.timeout(20):
            head = await self.reader.readexactly(20)
            rest = await self.reader.readexactly(int.from_bytes(head[1:4], "big") - 20)
        return messages(head + rest)[0]

    async def hangs_up(self) -> None:
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                assert await self.reader.read() == b""

    def say(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def ask(self, octets: bytes) -> Message:
        self.say(octets)
        return await self.hear()

    def hang_up(self) -> None:
        self.writer.transport.abort()


async def dial(door: S13Door, **how) -> Link:
    return Link(*await asyncio.open_connection("127.0.0.1", door.port, **how))


async def opened(door: S13Door, host: str = MME, **how) -> Link:
    link = await dial(door, **how)
    answer = await link.ask(cer(host=host))
    assert answer.result == 2001
    return link


@contextlib.asynccontextmanager
async def running(checker=None, **changes) -> AsyncIterator[S13Door]:
    changes = {"leave_seconds": 0.2} | changes
    door = S13Door(settings(**changes), checker or TableChecker(), origin_state_id=7)
    await door.start()
    try:
        yield door
    finally:
        await door.stop()


async def until(condition) -> None:
    """Wait for a condition that other tasks of this loop bring about."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def asked_by(door: S13Door, peer: str) -> int:
    """How many questions of this peer were answered."""
    return sum(
        times for (_, event, _, who), times in door.events if (event, who) == ("answer", peer)
    )
