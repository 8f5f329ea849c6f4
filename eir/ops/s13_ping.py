"""``eir s13 ping``: talk to an S13 responder once, as an MME would, and time each exchange.

CER, DWR, one ECR, DPR, over one connection, blocking, within one deadline. Works against any EIR,
not only ours. Never: a load generator, a retry.
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

from eir import limits
from eir.doors import s13_codec as wire
from eir.doors.s13_codec import Avp, Head
from eir.doors.s13_ecr import ecr_body
from eir.errors import Refused, Unavailable

_STATUS_NAMES: Final = {0: "WHITELISTED", 1: "BLACKLISTED", 2: "GREYLISTED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PingAsk:
    """Whom to ask and as whom. ``imei`` is sent as typed; the test IMEI names no real device.

    ``realm`` is the Destination-Realm, empty for the one the responder names in its CEA.
    """

    host: str
    port: int = 3868
    origin_host: str = "ping.eir.invalid"
    origin_realm: str = "eir.invalid"
    realm: str = ""
    imei: str = "004401234567890"
    imsi: str = ""
    timeout_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOutcome:
    """What the responder said, and how long each exchange took in milliseconds.

    ``results`` are Result-Codes (or Experimental-Result-Codes) by exchange: cer, dwr, ecr; one
    that was not reached, since the one before was refused, is absent. ``status`` is the
    Equipment-Status by name, UNKNOWN for 5422, empty without a verdict.
    """

    origin_host: str
    product_name: str
    results: dict[str, int]
    milliseconds: dict[str, float]
    status: str

    @property
    def is_well(self) -> bool:
        """True when every exchange succeeded and the ECR has a verdict."""
        return self.results.get("dwr") == wire.SUCCESS and bool(self.status)


def ping(ask: PingAsk, *, tls: ssl.SSLContext | None = None) -> PingOutcome:
    """One round of all exchanges.

    Raises Unavailable when the connection fails, ends or stays silent past the deadline, and
    Refused (``s13-answer-unreadable``) when what comes back is no Diameter.
    """
    deadline = time.monotonic() + ask.timeout_seconds
    begun = time.perf_counter()
    try:
        with socket.create_connection((ask.host, ask.port), timeout=ask.timeout_seconds) as plain:
            link = tls.wrap_socket(plain, server_hostname=ask.host) if tls else plain
            with link:
                connected = (time.perf_counter() - begun) * 1000
                return _Talk(link, ask, deadline).run(connected)
    except OSError as failed:  # a timeout, a refusal, a TLS error: all say "ask another"
        raise Unavailable(f"{ask.host} port {ask.port}: {failed}") from failed


class _Talk:
    """The exchanges over one connected socket."""

    def __init__(self, link: socket.socket, ask: PingAsk, deadline: float) -> None:
        self._link = link
        self._ask = ask
        self._deadline = deadline
        self._number = random.getrandbits(31)
        self._origin = wire.avp(wire.ORIGIN_HOST, ask.origin_host.encode()) + wire.avp(
            wire.ORIGIN_REALM, ask.origin_realm.encode()
        )
        self._times: dict[str, float] = {}
        self._results: dict[str, int] = {}

    def run(self, connected: float) -> PingOutcome:
        self._times["connect"] = connected
        cea = self._exchange("cer", wire.CAPABILITIES, self._capabilities())
        status = ""
        if self._results["cer"] == wire.SUCCESS:
            self._exchange("dwr", wire.WATCHDOG, self._origin)
            realm = self._ask.realm.encode() or _value(cea, wire.ORIGIN_REALM)
            eca = self._exchange("ecr", wire.EQUIPMENT, self._question(realm))
            status = self._status(eca)
            cause = wire.avp_u32(wire.DISCONNECT_CAUSE, 2)  # DO_NOT_WANT_TO_TALK_TO_YOU
            self._exchange("dpr", wire.DISCONNECT, self._origin + cause)
        return PingOutcome(
            origin_host=_value(cea, wire.ORIGIN_HOST).decode("utf-8", "replace"),
            product_name=_value(cea, wire.PRODUCT_NAME).decode("utf-8", "replace"),
            results=self._results,
            milliseconds=self._times,
            status=status,
        )

    def _capabilities(self) -> bytes:
        local = self._link.getsockname()[0]
        family, packed = (
            (b"\0\2", socket.inet_pton(socket.AF_INET6, local))
            if ":" in local
            else (b"\0\1", socket.inet_aton(local))
        )
        vendor = wire.avp_u32(wire.VENDOR_ID, wire.VENDOR_3GPP)
        s13 = wire.avp_u32(wire.AUTH_APPLICATION_ID, wire.S13_APPLICATION)
        return (
            self._origin
            + wire.avp(wire.HOST_IP_ADDRESS, family + packed)
            + wire.avp_u32(wire.VENDOR_ID, 0)
            + wire.avp(wire.PRODUCT_NAME, b"eir-ping", flags=0)
            + wire.avp_u32(wire.SUPPORTED_VENDOR_ID, wire.VENDOR_3GPP)
            + wire.avp(wire.VENDOR_SPECIFIC_APPLICATION_ID, vendor + s13)
        )

    def _question(self, realm: bytes) -> bytes:
        ask = self._ask
        session = f"{ask.origin_host};{int(time.time())};{self._number}".encode()
        return ecr_body(
            session=session,
            origin=self._origin,
            realm=realm,
            imei=ask.imei.encode(),
            imsi=ask.imsi.encode(),
        )

    def _exchange(self, name: str, command: int, body: bytes) -> list[Avp]:
        self._number = self._number + 1 & 0xFFFFFFFF
        is_ecr = command == wire.EQUIPMENT
        octets = wire.request(
            command,
            wire.S13_APPLICATION if is_ecr else wire.BASE_APPLICATION,
            body,
            flags=wire.PROXIABLE if is_ecr else 0,
            hop_by_hop=self._number,
            end_to_end=self._number,
        )
        begun = time.perf_counter()
        self._link.sendall(octets)
        while True:
            head, avps = self._hear()
            if not head.is_request and head.hop_by_hop == self._number:
                break
            if head.is_request and head.command in (wire.WATCHDOG, wire.DISCONNECT):
                done = wire.avp_u32(wire.RESULT_CODE, wire.SUCCESS) + self._origin
                self._link.sendall(wire.message(head, done, flags=0))
        self._times[name] = (time.perf_counter() - begun) * 1000
        self._results[name] = _result(avps)
        return avps

    def _hear(self) -> tuple[Head, list[Avp]]:
        first = self._read(wire.HEAD_BYTES)
        head = wire.read_head(first, 0)
        fault = wire.frame_fault(
            int.from_bytes(first[:4], "big"), max_message_bytes=limits.MAX_S13_MESSAGE_BYTES
        )
        if fault is None:
            body = self._read(head.length - wire.HEAD_BYTES)
            avps, fault = wire.read_avps(body, 0, len(body))
            if fault is None:
                return head, avps
        raise Refused("s13-answer-unreadable", fault.detail, where=self._ask.host)

    def _read(self, size: int) -> bytes:
        octets = b""
        while len(octets) < size:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {self._ask.timeout_seconds:g} s")
            self._link.settimeout(left)
            piece = self._link.recv(size - len(octets))
            if not piece:
                raise ConnectionResetError("the responder hung up")
            octets += piece
        return octets

    def _status(self, avps: list[Avp]) -> str:
        status = wire.u32(_value(avps, wire.EQUIPMENT_STATUS, vendor=wire.VENDOR_3GPP))
        if self._results["ecr"] == wire.SUCCESS and status is not None:
            return _STATUS_NAMES.get(status, str(status))
        return "UNKNOWN" if self._results["ecr"] == wire.EQUIPMENT_UNKNOWN else ""


def _value(avps: list[Avp], code: int, *, vendor: int = 0) -> bytes:
    return next((a.value for a in avps if (a.code, a.vendor) == (code, vendor)), b"")


def _result(avps: list[Avp]) -> int:
    plain = wire.u32(_value(avps, wire.RESULT_CODE))
    if plain is not None:
        return plain
    inside = _value(avps, wire.EXPERIMENTAL_RESULT)
    group, _ = wire.read_avps(inside, 0, len(inside))
    return wire.u32(_value(group, wire.EXPERIMENTAL_RESULT_CODE)) or 0
