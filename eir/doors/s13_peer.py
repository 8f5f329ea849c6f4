"""One connected peer, sans-IO (RFC 6733 5, RFC 3539): octets and ``now`` in, events and octets out.

                 connection accepted
                        |
                        v
                  +-----------+  anything but a CER, late or bad CER: CEA with the error
                  |  WAITING  | -------------------------------------------------------+
                  +-----------+                                                        |
                        | CER of an allowed peer / CEA 2001, Opened                    |
                        v                                                              |
                  +-----------+  two DWRs unanswered, message unfinished or unframed   |
      DWR / DWA --|   OPEN    | -----------------------------------------------------> |
      ECR / (door)+-----------+                                                        v
        leave() / DPR |    | DPR / DPA                                            +--------+
                      v    v                                                      | CLOSED |
           +-----------+  +----------+  the peer hangs up, or leave_seconds       +--------+
           |  LEAVING  |  | DISMISSED| -------------------------------------------->  ^
           +-----------+  +----------+                                                |
                | DPA, or leave_seconds: ECRs are answered until then                 |
                +---------------------------------------------------------------------+

Promises: each ``receive`` consumes what it is given, waits within ``max_message_bytes``, or
closes; messages give the same events however the octets are cut. Every request in OPEN and
LEAVING has an answer: here, or by the door for each Question. Never: a socket, a clock, a verdict.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import Avp, Fault, Head
from eir.doors.s13_ecr import Question, Reading, judge_ecr, read_ecr
from eir.doors.s13_settings import PeerRule, S13Settings

REBOOTING = 0
BUSY = 1
_UNANSWERED_DWRS_TO_DOWN = 2
_ECR_WORD = wire.REQUEST << 24 | wire.EQUIPMENT
_ECR_MASK = ~((wire.PROXIABLE | wire.RETRANSMITTED | 0x0F) << 24)


class Phase(Enum):
    """Where the connection is in its life."""

    WAITING = "waiting"
    OPEN = "open"
    LEAVING = "leaving"
    DISMISSED = "dismissed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Opened:
    """The capabilities exchange succeeded; ``origin_host`` is the rule's name for the peer."""

    origin_host: str


@dataclass(frozen=True, slots=True)
class Faulted:
    """A request was answered with an error: its Result-Code, and its command."""

    result: int
    command: int
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Send what is left, then close. ``reason`` is one of docs/s13.md's."""

    reason: str


Event = Opened | Question | Faulted | Closed


@dataclass(frozen=True, slots=True)
class Node:
    """What all peers of one door share: the settings, and our own AVPs encoded once.

    ``rules``: by Origin-Host, in small letters.
    """

    settings: S13Settings
    rules: Mapping[bytes, PeerRule]
    origin: bytes
    origin_state: bytes
    realms: frozenset[bytes]

    @classmethod
    def of(cls, settings: S13Settings, *, origin_state_id: int) -> Node:
        """The node of these settings; ``origin_state_id`` rises at each restart (RFC 6733 8.16)."""
        names = {settings.origin_realm, *settings.realms}
        return cls(
            settings=settings,
            rules={rule.origin_host.lower().encode(): rule for rule in settings.peers},
            origin=wire.avp(wire.ORIGIN_HOST, settings.origin_host.encode())
            + wire.avp(wire.ORIGIN_REALM, settings.origin_realm.encode()),
            origin_state=wire.avp_u32(wire.ORIGIN_STATE_ID, origin_state_id),
            realms=frozenset(name.lower().encode() for name in names),
        )


class Peer:
    """The responder's side of one connection; see the drawing above.

    ``address`` is the peer's, ``local_address`` ours (for Host-IP-Address). ``admit`` is asked
    with the rule's Origin-Host whether one more connection of it is within bounds.
    ``certificate_names`` are those of the peer's certificate, None without one. ``jitter`` gives
    seconds to add to each watchdog interval (RFC 3539 3.4.1: within ± 2).
    """

    def __init__(
        self,
        node: Node,
        *,
        address: str,
        local_address: str,
        now: float,
        admit: Callable[[str], bool] = lambda _: True,
        certificate_names: frozenset[str] | None = None,
        jitter: Callable[[], float] = lambda: 0.0,
        first_id: int = 1,
    ) -> None:
        self.phase = Phase.WAITING
        self.rule: PeerRule | None = None
        self._node = node
        self._address = address
        self._local_address = local_address
        self._admit = admit
        self._certificate_names = certificate_names
        self._jitter = jitter
        self._next_id = first_id
        self._reading = Reading(
            node.settings.origin_host.lower().encode(), node.realms, frozenset()
        )
        self._pending = bytearray()
        self._needed = 0
        self._out: list[bytes] = []
        self._last_words = b""
        self._deadline = now + node.settings.cer_seconds
        self._unfinished_since: float | None = None
        self._unanswered = 0

    @property
    def is_closed(self) -> bool:
        """True once a Closed event was given: nothing more is read."""
        return self.phase is Phase.CLOSED

    @property
    def waiting_bytes(self) -> int:
        """Octets of an unfinished message kept: less than ``max_message_bytes``."""
        return len(self._pending)

    def receive(self, octets: bytes, now: float) -> list[Event]:
        """Everything that follows from ``octets``, in the order of the messages."""
        if self.is_closed:
            return []
        if self._pending:
            self._pending += octets
            if len(self._pending) < self._needed:
                return []
            octets = bytes(self._pending)
            self._pending.clear()
        events: list[Event] = []
        at = self._messages(octets, now, events)
        if self.is_closed:
            return events
        if at:
            self._heard(now)
        self._unfinished_since = None
        if at < len(octets):
            self._pending += octets[at:]
            self._unfinished_since = now
            rest = len(octets) - at
            unread = rest < wire.HEAD_BYTES
            self._needed = 20 if unread else int.from_bytes(octets[at + 1 : at + 4], "big")
        return events

    def tick(self, now: float) -> list[Event]:
        """What follows from time alone; call at least once a second."""
        settings = self._node.settings
        since = self._unfinished_since
        if self.is_closed:
            return []
        if since is not None and now - since >= settings.message_seconds:
            return [self._close("message-timeout")]
        if now < self._deadline:
            return []
        if self.phase is Phase.WAITING:
            return [self._close("cer-timeout")]
        if self.phase is Phase.LEAVING:
            return [self._close("dpa-timeout")]
        if self.phase is Phase.DISMISSED:
            return [self._close("left")]
        if self._unanswered >= _UNANSWERED_DWRS_TO_DOWN:  # RFC 3539 3.4.1: SUSPECT, then DOWN
            return [self._close("watchdog")]
        self._unanswered += 1
        self._deadline = now + settings.watchdog_seconds + self._jitter()
        self._ask(wire.WATCHDOG, self._node.origin + self._node.origin_state)
        return []

    def leave(self, cause: int, now: float) -> list[Event]:
        """Say DPR with this Disconnect-Cause; a peer that is not open is closed at once."""
        if self.phase is Phase.WAITING:
            return [self._close("leaving")]
        if self.phase is Phase.OPEN:
            self.phase = Phase.LEAVING
            self._deadline = now + self._node.settings.leave_seconds
            cause_avp = wire.avp_u32(wire.DISCONNECT_CAUSE, cause)
            self._ask(wire.DISCONNECT, self._node.origin + cause_avp)
        return []

    def send(self, octets: bytes) -> None:
        """Answers of the door, to go out before any farewell of the same read."""
        self._out.append(octets)

    def take(self) -> bytes:
        """The octets to send now; empties the outbox."""
        octets = b"".join(self._out) + self._last_words
        self._out.clear()
        self._last_words = b""
        return octets

    def _messages(self, octets: bytes, now: float, events: list[Event]) -> int:
        """Take whole messages off the front; where the first unfinished one begins."""
        at, size, cap = 0, len(octets), self._node.settings.max_message_bytes
        while size - at >= 4 and not self.is_closed:
            first = int.from_bytes(octets[at : at + 4], "big")
            end = at + (first & 0xFFFFFF)
            if first >> 24 != 1 or not 20 <= end - at <= cap or end & 3:
                return self._unframed(octets, at, events)
            if end > size:
                return at
            question = None
            if self.phase is Phase.OPEN and _is_ecr(octets, at):
                question = read_ecr(octets, at, end, self._reading)
            if question is not None:
                events.append(question)
            else:
                self._message(octets, at, end, now, events)
            at = end
        return at

    def _unframed(self, octets: bytes, at: int, events: list[Event]) -> int:
        """A header that cannot be framed: answered once all 20 octets are there, then closed."""
        if self.phase is Phase.WAITING:
            events.append(self._close("no-diameter"))
        elif len(octets) - at >= wire.HEAD_BYTES:
            cap = self._node.settings.max_message_bytes
            first = int.from_bytes(octets[at : at + 4], "big")
            fault = wire.frame_fault(first, max_message_bytes=cap)
            head = wire.read_head(octets, at)
            if fault is not None and head.is_request:
                events.append(self._refuse(head, [], fault, last=True))
            events.append(self._close("unframed"))
        return at

    def _message(self, octets: bytes, at: int, end: int, now: float, events: list[Event]) -> None:
        head = wire.read_head(octets, at)
        if self.phase is Phase.WAITING and (head.command, head.flags & 0x80) != (257, 0x80):
            events.append(self._close("no-cer"))
            return
        avps, cut = wire.read_avps(octets, at + wire.HEAD_BYTES, end)
        if not head.is_request:
            if head.command == wire.DISCONNECT and self.phase is Phase.LEAVING:
                events.append(self._close("left"))
        elif self.phase is not Phase.DISMISSED:
            self._request(head, avps, cut, now, events)

    def _request(
        self, head: Head, avps: list[Avp], cut: Fault | None, now: float, events: list[Event]
    ) -> None:
        if head.command == wire.CAPABILITIES and head.application == wire.BASE_APPLICATION:
            self._capabilities(head, avps, cut, now, events)
            return
        fault = _header_fault(head)
        if fault is None and head.command == wire.EQUIPMENT:
            judged = judge_ecr(head, avps, cut, self._reading)
            if isinstance(judged, Question):
                events.append(judged)
                return
            fault = judged
        fault = fault or cut
        if fault is not None:
            events.append(self._refuse(head, avps, fault))
        elif head.command == wire.WATCHDOG:
            self._answer(head, wire.SUCCESS, self._node.origin_state)
        else:  # DPR
            self._answer(head, wire.SUCCESS, b"", last=True)
            self.phase = Phase.DISMISSED
            self._deadline = now + self._node.settings.leave_seconds

    def _capabilities(
        self, head: Head, avps: list[Avp], cut: Fault | None, now: float, events: list[Event]
    ) -> None:
        host = next((a.value for a in avps if a.code == wire.ORIGIN_HOST and not a.vendor), b"")
        rule = self._node.rules.get(host.lower())
        fault = cut or _header_fault(head) or self._capabilities_fault(avps, rule)
        if fault is None and rule is not None and self.rule in (None, rule):
            self._answer(head, wire.SUCCESS, self._own_capabilities())
            if self.rule is None:
                self._open(rule, now)
                events.append(Opened(rule.origin_host))
            return
        fault = fault or Fault(wire.UNKNOWN_PEER, "this connection is another peer's")
        if cut is not None or fault.result == wire.MISSING_AVP:
            events.append(self._refuse(head, avps, fault, last=True))
        else:
            in_error = wire.ERROR if fault.is_protocol_error else 0
            words = wire.avp(wire.ERROR_MESSAGE, fault.detail.encode(), flags=0)
            body = self._own_capabilities() + words
            self._answer(head, fault.result, body, flags=in_error, last=True)
            events.append(Faulted(fault.result, head.command, fault.detail))
        events.append(self._close("cer-refused"))

    def _capabilities_fault(self, avps: list[Avp], rule: PeerRule | None) -> Fault | None:
        for code in (wire.ORIGIN_HOST, wire.ORIGIN_REALM):
            if not any(a.code == code and a.value for a in avps):
                return Fault(wire.MISSING_AVP, f"AVP {code} is missing", wire.minimal(code))
        if rule is None or not rule.allows(self._address):
            return Fault(wire.UNKNOWN_PEER, "no such peer is allowed from this address")
        names = self._certificate_names
        if names is not None and rule.origin_host.lower() not in names:
            return Fault(wire.UNKNOWN_PEER, "the certificate is not this peer's")
        if not _offers_s13(avps):
            return Fault(wire.NO_COMMON_APPLICATION, "S13 (16777252) is not offered")
        security = [wire.u32(a.value) for a in avps if a.code == wire.INBAND_SECURITY_ID]
        if security and 0 not in security:
            return Fault(wire.NO_COMMON_SECURITY, "in-band TLS is not offered here")
        if self.rule is None and not self._admit(rule.origin_host):
            return Fault(wire.TOO_BUSY, "too many connections of this peer")
        return None

    def _open(self, rule: PeerRule, now: float) -> None:
        self.phase = Phase.OPEN
        self.rule = rule
        trusted = frozenset(name.lower().encode() for name in rule.msisdn_from)
        self._reading = Reading(self._reading.host, self._reading.realms, trusted)
        self._heard(now)

    def _own_capabilities(self) -> bytes:
        """What a CEA says of us (RFC 6733 5.3.2): S13 both as 3GPP writes it and to relays."""
        address = ipaddress.ip_address(self._local_address)
        family = b"\0\1" if address.version == 4 else b"\0\2"
        vendor = wire.avp_u32(wire.VENDOR_ID, wire.VENDOR_3GPP)
        s13 = wire.avp_u32(wire.AUTH_APPLICATION_ID, wire.S13_APPLICATION)
        return (
            wire.avp(wire.HOST_IP_ADDRESS, family + address.packed)
            + wire.avp_u32(wire.VENDOR_ID, 0)
            + wire.avp(wire.PRODUCT_NAME, self._node.settings.product_name.encode(), flags=0)
            + self._node.origin_state
            + wire.avp_u32(wire.SUPPORTED_VENDOR_ID, wire.VENDOR_3GPP)
            + wire.avp(wire.VENDOR_SPECIFIC_APPLICATION_ID, vendor + s13)
        )

    def _answer(
        self, head: Head, result: int, body: bytes, *, flags: int = 0, last: bool = False
    ) -> None:
        whole = wire.avp_u32(wire.RESULT_CODE, result) + self._node.origin + body
        self._put(wire.message(head, whole, flags=head.flags & wire.PROXIABLE | flags), last=last)

    def _refuse(self, head: Head, avps: list[Avp], fault: Fault, *, last: bool = False) -> Faulted:
        self._put(wire.fault_answer(head, avps, fault, self._node.origin), last=last)
        return Faulted(fault.result, head.command, fault.detail)

    def _ask(self, command: int, body: bytes) -> None:
        number = self._next_id & 0xFFFFFFFF
        self._next_id += 1
        self._put(wire.request(command, 0, body, flags=0, hop_by_hop=number, end_to_end=number))

    def _put(self, octets: bytes, *, last: bool = False) -> None:
        if last:
            self._last_words += octets
        else:
            self._out.append(octets)

    def _heard(self, now: float) -> None:
        """Any whole message shows that the peer lives (RFC 3539 3.4.1)."""
        if self.phase is Phase.OPEN:
            self._unanswered = 0
            self._deadline = now + self._node.settings.watchdog_seconds + self._jitter()

    def _close(self, reason: str) -> Closed:
        self.phase = Phase.CLOSED
        self._pending.clear()
        return Closed(reason)


def _is_ecr(octets: bytes, at: int) -> bool:
    word = int.from_bytes(octets[at + 4 : at + 8], "big")
    return word & _ECR_MASK == _ECR_WORD and octets[at + 8 : at + 12] == b"\x01\x00\x00\x24"


def _header_fault(head: Head) -> Fault | None:
    """What the header alone says: RFC 6733 7.1.3."""
    known = {
        wire.BASE_APPLICATION: (wire.CAPABILITIES, wire.WATCHDOG, wire.DISCONNECT),
        wire.S13_APPLICATION: (wire.EQUIPMENT,),
    }.get(head.application)
    if known is None or (head.command == wire.EQUIPMENT and wire.EQUIPMENT not in known):
        return Fault(wire.APPLICATION_UNSUPPORTED, f"application {head.application} is not served")
    if head.command not in known:
        return Fault(wire.COMMAND_UNSUPPORTED, f"command {head.command} is not served")
    if head.flags & wire.ERROR:
        return Fault(wire.INVALID_HEADER_BITS, "a request with the E bit")
    return None


def _offers_s13(avps: list[Avp]) -> bool:
    """A common application: S13 or a relay's, plain or within Vendor-Specific-Application-Id."""
    offered: list[bytes] = []
    for found in avps:
        if found.code == wire.VENDOR_SPECIFIC_APPLICATION_ID:
            inside, _ = wire.read_avps(found.value, 0, len(found.value))
            offered += [a.value for a in inside if a.code == wire.AUTH_APPLICATION_ID]
        elif found.code == wire.AUTH_APPLICATION_ID:
            offered.append(found.value)
    common = (wire.S13_APPLICATION, wire.RELAY_APPLICATION)
    return any(wire.u32(value) in common for value in offered)
