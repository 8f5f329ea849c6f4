"""The command of S13 (TS 29.272 7.2.19): ME-Identity-Check-Request read, its answer composed.

Two readers, one meaning. ``read_ecr`` is the short way for the ECR as networks send it: one pass,
and None at the first thing out of the ordinary. ``judge_ecr`` is the full reading: it gives the
same Question, or the Fault to answer with. Whatever the short way accepts, the full one reads
alike (a law of the tests). Never: a decision about a device, a clock, a socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

from eir import limits
from eir.core.imei import key_from_digits
from eir.core.subscriber import imsi_from_digits, msisdn_from_tbcd
from eir.doors import s13_codec as wire
from eir.doors.s13_codec import Avp, Fault, Head

ANY_HOST: Final = b"*"


class Question(NamedTuple):
    """One well-formed ECR; a named tuple, since tens of thousands are made a second.

    ``ids`` is hop-by-hop and end-to-end; ``session`` and ``proxies`` are the octets that the
    answer repeats; ``imei`` is a key (0 malformed), ``msisdn`` 0 for none or not trusted, ``imsi``
    a code (0 none).
    """

    proxiable: int
    ids: bytes
    session: bytes
    proxies: bytes
    imei: int
    msisdn: int
    imsi: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader must know of the node and of the peer that asks.

    ``host`` and ``realms`` are ours, in lower case; ``msisdn_from`` holds the Origin-Hosts (lower
    case, or ``*``) whose AVP 701 is believed when it comes through this peer. ``known`` is filled
    by ``judge_ecr``: octets of AVPs already judged, with their bit; at most MAX_KNOWN of them.
    """

    host: bytes
    realms: frozenset[bytes]
    msisdn_from: frozenset[bytes]
    known: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of answer: what stands between Session-Id and Proxy-Info, and the E bit or 0."""

    name: str
    flags: int
    tail: bytes


_AVP_HEAD: Final = Struct(">II").unpack_from
_INNER_HEADS: Final = Struct(">IIII").unpack_from
_VENDOR_WORD: Final = Struct(">I").unpack_from
_ANSWER_HEAD: Final = Struct(">III8s").pack
_PAD: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_S13_VSAI: Final = wire.avp(
    wire.VENDOR_SPECIFIC_APPLICATION_ID,
    wire.avp_u32(wire.VENDOR_ID, wire.VENDOR_3GPP)
    + wire.avp_u32(wire.AUTH_APPLICATION_ID, wire.S13_APPLICATION),
)

_TEXT, _IDENTITY, _U32, _GROUPED, _OPAQUE = range(5)
_G: Final = wire.VENDOR_3GPP
_KINDS: Final[dict[tuple[int, int], int]] = {
    # Every AVP of RFC 6733 4.5 is understood; those that an ECR can hold are also checked.
    **dict.fromkeys(((0, code) for code in wire.BASE_AVPS), _OPAQUE),
    (0, wire.SESSION_ID): _TEXT,
    (0, wire.USER_NAME): _TEXT,
    (0, wire.ORIGIN_HOST): _IDENTITY,
    (0, wire.ORIGIN_REALM): _IDENTITY,
    (0, wire.DESTINATION_HOST): _IDENTITY,
    (0, wire.DESTINATION_REALM): _IDENTITY,
    (0, wire.AUTH_SESSION_STATE): _U32,
    (0, wire.DRMP): _U32,
    (0, wire.VENDOR_SPECIFIC_APPLICATION_ID): _GROUPED,
    (_G, wire.TERMINAL_INFORMATION): _GROUPED,
    (_G, wire.MSISDN): _OPAQUE,
    (_G, wire.IMEI): _TEXT,
    (_G, wire.SOFTWARE_VERSION): _TEXT,
    (_G, wire.MEID): _OPAQUE,
}
_REQUIRED: Final = (
    (0, wire.SESSION_ID),
    (0, wire.AUTH_SESSION_STATE),
    (0, wire.ORIGIN_HOST),
    (0, wire.ORIGIN_REALM),
    (0, wire.DESTINATION_REALM),
    (_G, wire.TERMINAL_INFORMATION),
)
_BITS: Final = {
    (0, wire.SESSION_ID): 1,
    (0, wire.ORIGIN_HOST): 2,
    (0, wire.ORIGIN_REALM): 4,
    (0, wire.DESTINATION_REALM): 8,
    (0, wire.AUTH_SESSION_STATE): 16,
    (_G, wire.TERMINAL_INFORMATION): 32,
    (0, wire.USER_NAME): 64,
    (0, wire.DESTINATION_HOST): 128,
    (0, wire.VENDOR_SPECIFIC_APPLICATION_ID): 256,
    (_G, wire.MSISDN): 512,
    (0, wire.DRMP): 1024,
}
"""What an ECR holds at most once, each a bit for the short way; the lowest six it must hold."""
_ONCE: Final = frozenset(_BITS) | {(_G, wire.IMEI), (_G, wire.SOFTWARE_VERSION)}
_NEVER_KNOWN: Final = frozenset(
    {
        (0, wire.SESSION_ID),
        (0, wire.USER_NAME),
        (0, wire.PROXY_INFO),
        (_G, wire.TERMINAL_INFORMATION),
        (_G, wire.MSISDN),
    }
)
MAX_KNOWN: Final = 256
MAX_KNOWN_BYTES: Final = 255


def read_ecr(buffer: bytes, at: int, end: int, reading: Reading) -> Question | None:
    """The Question in ``buffer[at:end]``, a framed message with command 324 and application S13.

    None for anything but the ordinary: then ``judge_ecr`` says what it is. What a peer says in
    every ECR (its names, ours, the application) is looked up as octets once judged. Codes stand
    here as numbers: a global's look-up for each AVP is a tenth of this function's time.
    """
    proxiable, ids = buffer[at + 4] & 0x40, buffer[at + 12 : at + 20]
    known = reading.known
    seen = imsi = imei = 0
    session = origin = number = b""
    at += 20
    while at <= end - 8:
        code, word = _AVP_HEAD(buffer, at)
        stop = at + (word & 0xFFFFFF)
        if not at + 8 < stop <= end:
            return None
        if (bit := known.get(buffer[at:stop], -1)) >= 0:
            if code == 264:
                origin = buffer[at + 8 : stop]
        elif code == 263 and word >> 24 == 0x40:
            bit, session = 1, buffer[at:stop] + _PAD[-stop & 3]
        elif code == 1401 and (imei := _short_imei(buffer, at, stop)):
            bit = 32
        elif code == 1 and word >> 24 == 0x40:
            bit, imsi = 64, imsi_from_digits(buffer[at + 8 : stop])
        elif code == 701 and word >> 24 & 0xBF == 0x80 and _is_3gpp(buffer, at, stop):
            bit, number = 512, buffer[at + 12 : stop]
        else:
            return None
        if seen & bit:
            return None
        seen |= bit
        at = (stop + 3) & ~3
    if at != end or seen & 63 != 63 or (seen & 64 and not imsi) or not session.isascii():
        return None
    msisdn = _believed(number, origin, reading) if number else 0
    return Question(proxiable, ids, session, b"", imei, msisdn, imsi)


def judge_ecr(head: Head, avps: list[Avp], cut: Fault | None, reading: Reading) -> Question | Fault:
    """The full reading of an ECR's AVPs; ``cut`` is the fault that ended their list, if one did.

    The first fault found is the answer: unframed AVPs, then routing, then AVP by AVP in the order
    sent, then what is missing (RFC 6733 7.1.5, TS 29.272 7.2.19).
    """
    fault = cut or _routing_fault(avps, reading)
    first: dict[tuple[int, int], Avp] = {}
    for found in avps:
        fault = fault or _avp_fault(found, first)
        first.setdefault((found.vendor, found.code), found)
    imei, inner_fault = _terminal(first.get((_G, wire.TERMINAL_INFORMATION)))
    fault = fault or inner_fault or _missing(first, imei)
    if fault is not None:
        return fault
    assert imei is not None  # noqa: S101 - _missing has seen it
    _remember(avps, reading)
    number = first.get((_G, wire.MSISDN))
    user = first.get((0, wire.USER_NAME))
    origin = first[0, wire.ORIGIN_HOST].value
    return Question(
        proxiable=head.flags & wire.PROXIABLE,
        ids=head.hop_by_hop.to_bytes(4, "big") + head.end_to_end.to_bytes(4, "big"),
        session=first[0, wire.SESSION_ID].encode(),
        proxies=b"".join(a.encode() for a in avps if (a.vendor, a.code) == (0, wire.PROXY_INFO)),
        imei=key_from_digits(imei.value),
        msisdn=_believed(number.value, origin, reading) if number else 0,
        imsi=imsi_from_digits(user.value) if user else 0,
    )


def forms(origin: bytes) -> dict[str, Form]:
    """Every answer to a well-formed ECR by name; ``origin`` is Origin-Host and -Realm, encoded.

    ``busy`` is DIAMETER_TOO_BUSY, ``failed`` DIAMETER_UNABLE_TO_COMPLY; the rest are statuses.
    """

    def result(code: int) -> bytes:
        return wire.avp_u32(wire.RESULT_CODE, code)

    def status(number: int) -> bytes:
        return wire.avp_u32(wire.EQUIPMENT_STATUS, number, vendor=wire.VENDOR_3GPP)

    unknown = wire.avp(  # TS 29.272 7.4.3: Experimental-Result stands instead of Result-Code
        wire.EXPERIMENTAL_RESULT,
        wire.avp_u32(wire.VENDOR_ID, wire.VENDOR_3GPP)
        + wire.avp_u32(wire.EXPERIMENTAL_RESULT_CODE, wire.EQUIPMENT_UNKNOWN),
    )
    common = wire.NO_STATE + origin
    success = result(wire.SUCCESS) + common
    return {
        "whitelisted": Form("whitelisted", 0, success + status(0)),
        "blacklisted": Form("blacklisted", 0, success + status(1)),
        "greylisted": Form("greylisted", 0, success + status(2)),
        "unknown": Form("unknown", 0, unknown + common),
        "busy": Form("busy", wire.ERROR, result(wire.TOO_BUSY) + common),
        "failed": Form("failed", 0, result(wire.UNABLE_TO_COMPLY) + common),
    }


def compose(questions: Sequence[Question], answers: Sequence[Form]) -> bytes:
    """The ECAs of ``questions``, one form each, in order, as one run of octets."""
    parts: list[bytes] = []
    for question, form in zip(questions, answers, strict=True):
        proxiable, ids, session, proxies, _, _, _ = question
        tail = form.tail
        length = 20 + len(session) + len(tail) + len(proxies)
        word = (form.flags | proxiable) << 24 | 324
        parts += (_ANSWER_HEAD(1 << 24 | length, word, 16777252, ids), session, tail, proxies)
    return b"".join(parts)


def ecr_body(
    *,
    session: bytes,
    origin: bytes,
    realm: bytes,
    imei: bytes,
    imsi: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    """The AVPs of an ECR as our client sends it; ``origin`` is encoded, the rest are values."""
    identity = wire.avp(wire.IMEI, imei, vendor=wire.VENDOR_3GPP)
    return (
        wire.avp(wire.SESSION_ID, session)
        + _S13_VSAI
        + wire.NO_STATE
        + origin
        + wire.avp(wire.DESTINATION_REALM, realm)
        + wire.avp(wire.TERMINAL_INFORMATION, identity, vendor=wire.VENDOR_3GPP)
        + (wire.avp(wire.USER_NAME, imsi) if imsi else b"")
        + extra
    )


def _short_imei(buffer: bytes, at: int, stop: int) -> int:
    """The key in a Terminal-Information of IMEI and at most Software-Version; else 0."""
    if buffer[at + 4] != 0xC0 or stop < at + 24:
        return 0
    outer, code, word, vendor = _INNER_HEADS(buffer, at + 8)
    inner_stop = at + 12 + (word & 0xFFFFFF)
    if outer != 10415 or code != 1402 or vendor != 10415 or word >> 24 != 0xC0:
        return 0
    if inner_stop > stop or inner_stop < at + 24:
        return 0
    following = at + ((inner_stop - at + 3) & ~3)
    if following < stop and not _is_software_version(buffer, following, stop):
        return 0
    return key_from_digits(buffer[at + 24 : inner_stop])


def _is_software_version(buffer: bytes, at: int, stop: int) -> bool:
    if stop < at + 12:
        return False
    code, word = _AVP_HEAD(buffer, at)
    ends = at + (word & 0xFFFFFF)
    whole = at + 12 <= ends <= stop <= (ends + 3) & ~3
    vendor = _VENDOR_WORD(buffer, at + 8)[0]
    known = code == 1403 and word >> 24 == 0xC0 and vendor == 10415
    return known and whole and buffer[at + 12 : ends].isascii()


def _remember(avps: list[Avp], reading: Reading) -> None:
    """Keep what this peer will say again; only of an ECR that was accepted whole."""
    for found in avps:
        key = (found.vendor, found.code)
        octets = found.encode()[: _header_bytes(found) + len(found.value)]
        room = len(reading.known) < MAX_KNOWN and len(octets) <= MAX_KNOWN_BYTES
        plain = bool(found.vendor) == bool(found.flags & wire.VENDOR_BIT)
        if room and plain and found.value and key not in _NEVER_KNOWN:
            reading.known[octets] = _BITS.get(key, 0)


def _header_bytes(found: Avp) -> int:
    return 12 if found.flags & wire.VENDOR_BIT else 8


def _is_3gpp(buffer: bytes, at: int, stop: int) -> bool:
    return stop >= at + 12 and _VENDOR_WORD(buffer, at + 8)[0] == 10415


def _routing_fault(avps: list[Avp], reading: Reading) -> Fault | None:
    for found in avps:
        key = (found.vendor, found.code)
        if key == (0, wire.DESTINATION_REALM) and found.value.lower() not in reading.realms:
            return Fault(wire.REALM_NOT_SERVED, "Destination-Realm is not served here")
        if key == (0, wire.DESTINATION_HOST) and found.value.lower() != reading.host:
            return Fault(wire.UNABLE_TO_DELIVER, "Destination-Host is another node")
    return None


def _avp_fault(found: Avp, first: Mapping[tuple[int, int], Avp]) -> Fault | None:
    key = (found.vendor, found.code)
    kind = _KINDS.get(key)
    if kind is None:
        if found.flags & wire.MANDATORY:
            return Fault(wire.AVP_UNSUPPORTED, f"AVP {found.code} is unknown", found.encode())
        return None
    if key in first and key in _ONCE:
        return Fault(
            wire.AVP_OCCURS_TOO_MANY_TIMES, f"AVP {found.code} occurs twice", found.encode()
        )
    return _value_fault(found, kind)


def _value_fault(found: Avp, kind: int) -> Fault | None:
    value, code = found.value, found.code
    if kind == _U32 and len(value) != 4:
        detail = f"AVP {code} has {len(value)} octets of value"
        return Fault(wire.INVALID_AVP_LENGTH, detail, found.encode())
    if kind == _GROUPED:
        _, cut = wire.read_avps(value, 0, len(value))
        failed = wire.avp(code, cut.failed, vendor=found.vendor) if cut else b""
        return Fault(cut.result, cut.detail, failed) if cut else None
    wrong = (
        (kind == _TEXT and not _is_text(value))
        or (kind == _IDENTITY and not (value and value.isascii()))
        or (code == wire.SESSION_ID and not value)
        or (code == wire.IMEI and not 0 < len(value) <= limits.MAX_S13_IMEI_BYTES)
        or (code == wire.AUTH_SESSION_STATE and wire.u32(value) not in (0, 1))
    )
    return (
        Fault(wire.INVALID_AVP_VALUE, f"AVP {code} has a wrong value", found.encode())
        if wrong
        else None
    )


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _terminal(group: Avp | None) -> tuple[Avp | None, Fault | None]:
    """The IMEI in a Terminal-Information of checked framing, and the first fault inside."""
    if group is None:
        return None, None
    inside, _ = wire.read_avps(group.value, 0, len(group.value))
    first: dict[tuple[int, int], Avp] = {}
    for found in inside:
        fault = _avp_fault(found, first)
        if fault is not None:
            failed = wire.avp(group.code, fault.failed, vendor=group.vendor)
            return None, Fault(fault.result, fault.detail, failed)
        first.setdefault((found.vendor, found.code), found)
    return first.get((_G, wire.IMEI)), None


def _missing(first: Mapping[tuple[int, int], Avp], imei: Avp | None) -> Fault | None:
    for vendor, code in _REQUIRED:
        if (vendor, code) not in first:
            example = wire.minimal(code, vendor=vendor)
            return Fault(wire.MISSING_AVP, f"AVP {code} is missing", example)
    if imei is None:
        inner = wire.minimal(wire.IMEI, vendor=_G)
        group = wire.avp(wire.TERMINAL_INFORMATION, inner, vendor=_G)
        return Fault(wire.MISSING_AVP, f"AVP {wire.IMEI} is missing", group)
    return None


def _believed(number: bytes, origin: bytes, reading: Reading) -> int:
    trusted = reading.msisdn_from
    if trusted and (ANY_HOST in trusted or origin.lower() in trusted):
        return msisdn_from_tbcd(number)
    return 0
