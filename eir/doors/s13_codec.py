"""Diameter's wire (RFC 6733 3, 4): headers and AVPs, bytes to values and back; all numbers used.

Promises: reads nothing past the end it was given; every AVP consumes at least its own header, so
no length, zero included, spins the reader; a bad length becomes a Fault with what was read so far.
Never: a socket, a clock, a decision. The ECR and its answers are in ``s13_ecr``.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

VERSION: Final = 1
HEAD_BYTES: Final = 20

CAPABILITIES: Final = 257
WATCHDOG: Final = 280
DISCONNECT: Final = 282
EQUIPMENT: Final = 324

BASE_APPLICATION: Final = 0
S13_APPLICATION: Final = 16_777_252
RELAY_APPLICATION: Final = 0xFFFFFFFF
VENDOR_3GPP: Final = 10_415

REQUEST: Final = 0x80
PROXIABLE: Final = 0x40
ERROR: Final = 0x20
RETRANSMITTED: Final = 0x10

VENDOR_BIT: Final = 0x80
MANDATORY: Final = 0x40

USER_NAME: Final = 1
HOST_IP_ADDRESS: Final = 257
AUTH_APPLICATION_ID: Final = 258
ACCT_APPLICATION_ID: Final = 259
VENDOR_SPECIFIC_APPLICATION_ID: Final = 260
SESSION_ID: Final = 263
ORIGIN_HOST: Final = 264
SUPPORTED_VENDOR_ID: Final = 265
VENDOR_ID: Final = 266
FIRMWARE_REVISION: Final = 267
RESULT_CODE: Final = 268
PRODUCT_NAME: Final = 269
DISCONNECT_CAUSE: Final = 273
AUTH_SESSION_STATE: Final = 277
ORIGIN_STATE_ID: Final = 278
FAILED_AVP: Final = 279
ERROR_MESSAGE: Final = 281
ROUTE_RECORD: Final = 282
DESTINATION_REALM: Final = 283
PROXY_INFO: Final = 284
DESTINATION_HOST: Final = 293
ORIGIN_REALM: Final = 296
EXPERIMENTAL_RESULT: Final = 297
EXPERIMENTAL_RESULT_CODE: Final = 298
INBAND_SECURITY_ID: Final = 299
DRMP: Final = 301
# Vendor 10415
MSISDN: Final = 701
TERMINAL_INFORMATION: Final = 1401
IMEI: Final = 1402
SOFTWARE_VERSION: Final = 1403
EQUIPMENT_STATUS: Final = 1445
MEID: Final = 1471

BASE_AVPS: Final = frozenset(
    {1, 25, 27, 33, 44, 50, 55, 85, 480, 483, 485, DRMP}
    | {*range(257, 275), *range(276, 288), *range(291, 300)}
)
"""Every AVP of RFC 6733 4.5 (and DRMP, RFC 7944): understood wherever they stand."""

SUCCESS: Final = 2001
COMMAND_UNSUPPORTED: Final = 3001
UNABLE_TO_DELIVER: Final = 3002
REALM_NOT_SERVED: Final = 3003
TOO_BUSY: Final = 3004
APPLICATION_UNSUPPORTED: Final = 3007
INVALID_HEADER_BITS: Final = 3008
UNKNOWN_PEER: Final = 3010
AVP_UNSUPPORTED: Final = 5001
INVALID_AVP_VALUE: Final = 5004
MISSING_AVP: Final = 5005
AVP_OCCURS_TOO_MANY_TIMES: Final = 5009
NO_COMMON_APPLICATION: Final = 5010
UNSUPPORTED_VERSION: Final = 5011
UNABLE_TO_COMPLY: Final = 5012
INVALID_AVP_LENGTH: Final = 5014
INVALID_MESSAGE_LENGTH: Final = 5015
NO_COMMON_SECURITY: Final = 5017
EQUIPMENT_UNKNOWN: Final = 5422

_WORDS5 = Struct(">IIIII")
_WORDS3 = Struct(">III")
_WORDS2 = Struct(">II")
_WORD = Struct(">I")
_PAD = (b"", b"\0", b"\0\0", b"\0\0\0")


class Head(NamedTuple):
    """The 20 octets before the AVPs; a named tuple, since one is made for every message."""

    version: int
    length: int
    flags: int
    command: int
    application: int
    hop_by_hop: int
    end_to_end: int

    @property
    def is_request(self) -> bool:
        """True with the R bit."""
        return bool(self.flags & REQUEST)


class Avp(NamedTuple):
    """One AVP as it came: ``vendor`` is 0 without the V bit; ``value`` has no padding."""

    code: int
    flags: int
    vendor: int
    value: bytes

    def encode(self) -> bytes:
        """The AVP's octets, padded with zeros to a multiple of four."""
        return avp(self.code, self.value, vendor=self.vendor, flags=self.flags & ~VENDOR_BIT)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request is answered with an error: RFC 6733 7.1.

    ``failed`` is the offending AVP, encoded, for Failed-AVP (empty: none); ``detail`` becomes
    Error-Message, and holds no identifier of a device or subscriber.
    """

    result: int
    detail: str
    failed: bytes = b""

    @property
    def is_protocol_error(self) -> bool:
        """True for 3xxx: the answer has the E bit (RFC 6733 7.1.3)."""
        return 3000 <= self.result < 4000


def read_head(buffer: bytes, at: int) -> Head:
    """The header at ``at``; the caller has seen to it that 20 octets are there."""
    first, second, application, hop_by_hop, end_to_end = _WORDS5.unpack_from(buffer, at)
    return Head(
        version=first >> 24,
        length=first & 0xFFFFFF,
        flags=second >> 24,
        command=second & 0xFFFFFF,
        application=application,
        hop_by_hop=hop_by_hop,
        end_to_end=end_to_end,
    )


def frame_fault(first_word: int, *, max_message_bytes: int) -> Fault | None:
    """What is wrong with a message's first four octets, None when it can be framed.

    After such a fault the stream has no known message border: answer, then close.
    """
    length = first_word & 0xFFFFFF
    if first_word >> 24 != VERSION:
        return Fault(UNSUPPORTED_VERSION, f"version {first_word >> 24} is not 1")
    if length < HEAD_BYTES or length % 4 or length > max_message_bytes:
        return Fault(INVALID_MESSAGE_LENGTH, f"message length {length}")
    return None


def read_avps(buffer: bytes, at: int, end: int) -> tuple[list[Avp], Fault | None]:
    """The AVPs of ``buffer[at:end]``, up to the first whose length is impossible (RFC 6733 4.1)."""
    found: list[Avp] = []
    while at < end:
        if end - at < 8:
            rest = buffer[at:end] + bytes(8 - (end - at))
            code, word = _WORDS2.unpack(rest)
            return found, _length_fault(code, word, 0)
        code, word = _WORDS2.unpack_from(buffer, at)
        flags, length = word >> 24, word & 0xFFFFFF
        header = 12 if flags & VENDOR_BIT else 8
        if length < header or length > end - at:
            vendor = 0
            if header == 12 and end - at >= 12:
                vendor = _WORD.unpack_from(buffer, at + 8)[0]
            return found, _length_fault(code, word, vendor)
        vendor = _WORD.unpack_from(buffer, at + 8)[0] if header == 12 else 0
        found.append(Avp(code, flags, vendor, buffer[at + header : at + length]))
        at += (length + 3) & ~3
    return found, None


def avp(code: int, value: bytes, *, vendor: int = 0, flags: int = MANDATORY) -> bytes:
    """One AVP, padded; the V bit follows from ``vendor``."""
    if vendor:
        length = 12 + len(value)
        head = _WORDS3.pack(code, (flags | VENDOR_BIT) << 24 | length, vendor)
    else:
        length = 8 + len(value)
        head = _WORDS2.pack(code, flags << 24 | length)
    return head + value + _PAD[-length & 3]


def avp_u32(code: int, number: int, *, vendor: int = 0, flags: int = MANDATORY) -> bytes:
    """One Unsigned32 or Enumerated AVP."""
    return avp(code, _WORD.pack(number), vendor=vendor, flags=flags)


def u32(value: bytes) -> int | None:
    """The Unsigned32 of an AVP's value, None when it is not four octets."""
    return int.from_bytes(value, "big") if len(value) == 4 else None


def message(head: Head, body: bytes, *, flags: int) -> bytes:
    """A message with ``head``'s command, application and identifiers, and these flags."""
    head_octets = _WORDS5.pack(
        VERSION << 24 | HEAD_BYTES + len(body),
        flags << 24 | head.command,
        head.application,
        head.hop_by_hop,
        head.end_to_end,
    )
    return head_octets + body


def request(
    command: int, application: int, body: bytes, *, flags: int, hop_by_hop: int, end_to_end: int
) -> bytes:
    """A request; the R bit is added to ``flags``."""
    head = Head(VERSION, 0, 0, command, application, hop_by_hop, end_to_end)
    return message(head, body, flags=flags | REQUEST)


def fault_answer(head: Head, avps: list[Avp], fault: Fault, origin: bytes) -> bytes:
    """The answer that reports a fault (RFC 6733 7.2), with the Session-Id and Proxy-Infos read.

    ``origin`` is Origin-Host and Origin-Realm, encoded. Permanent failures of an ECR keep the
    ECA's grammar; where that cannot be (no Session-Id), the E bit says so (RFC 6733 7.1.5).
    """
    session = next((a.encode() for a in avps if a.code == SESSION_ID and not a.vendor), b"")
    proxies = b"".join(a.encode() for a in avps if a.code == PROXY_INFO and not a.vendor)
    has_session = head.command in (CAPABILITIES, WATCHDOG, DISCONNECT) or bool(session)
    in_error = fault.is_protocol_error or not has_session
    state = NO_STATE if head.command == EQUIPMENT and not in_error else b""
    failed = avp(FAILED_AVP, fault.failed) if fault.failed else b""
    words = avp(ERROR_MESSAGE, fault.detail.encode(), flags=0)
    result = avp_u32(RESULT_CODE, fault.result)
    body = session + result + state + origin + words + failed + proxies
    return message(head, body, flags=head.flags & PROXIABLE | (ERROR if in_error else 0))


def minimal(code: int, *, vendor: int = 0) -> bytes:
    """An example of a missing AVP, with the least value of its type (RFC 6733 7.5)."""
    return avp(code, bytes(_LEAST_BYTES.get(code, 0)), vendor=vendor)


def _length_fault(code: int, word: int, vendor: int) -> Fault:
    flags, length = word >> 24, word & 0xFFFFFF
    least = bytes(_LEAST_BYTES.get(code, 0))
    failed = avp(code, least, vendor=vendor, flags=flags & ~VENDOR_BIT)
    return Fault(INVALID_AVP_LENGTH, f"AVP {code} has length {length}", failed)


_LEAST_BYTES: Final = {
    AUTH_APPLICATION_ID: 4,
    ACCT_APPLICATION_ID: 4,
    VENDOR_ID: 4,
    SUPPORTED_VENDOR_ID: 4,
    RESULT_CODE: 4,
    DISCONNECT_CAUSE: 4,
    AUTH_SESSION_STATE: 4,
    ORIGIN_STATE_ID: 4,
    INBAND_SECURITY_ID: 4,
    DRMP: 4,
    HOST_IP_ADDRESS: 6,
}

NO_STATE: Final = avp_u32(AUTH_SESSION_STATE, 1)
"""Auth-Session-State NO_STATE_MAINTAINED: the only one on S13 (TS 29.272 7.1.3)."""
