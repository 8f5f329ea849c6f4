"""What an operator sets of the S13 door: names, peers, limits, and the answers that are policy.

A value here is checked when it is made: an S13Settings that exists can be served. Never: a file
opened, a socket, a default that lets a stranger in (no peer is allowed until one is named).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from eir import limits
from eir.errors import Refused

UNKNOWN_ANSWERS: Final = ("unknown", "whitelisted", "greylisted", "blacklisted")
NOT_READY_ANSWERS: Final = ("busy", *UNKNOWN_ANSWERS)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRule:
    """One peer that may connect.

    ``origin_host`` is what its CER must say; ``addresses`` are networks it may come from (none:
    any); ``msisdn_from`` are the Origin-Hosts whose MSISDN (AVP 701) is believed when an ECR comes
    through this peer: its own name for a directly connected MME, ``*`` for all behind a relay.
    """

    origin_host: str
    addresses: tuple[str, ...] = ()
    msisdn_from: tuple[str, ...] = ()
    _networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _checked_identity(self.origin_host, "peers.origin_host")
        try:
            networks = tuple(ipaddress.ip_network(text) for text in self.addresses)
        except ValueError as wrong:
            raise Refused("s13-address", str(wrong), where="peers.addresses") from wrong
        object.__setattr__(self, "_networks", networks)

    def allows(self, address: str) -> bool:
        """True when a connection from this address may be this peer."""
        source = ipaddress.ip_address(address)
        mapped = getattr(source, "ipv4_mapped", None)
        source = mapped or source
        return not self._networks or any(source in network for network in self._networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """TLS from the first octet (RFC 6733 13.1).

    With ``client_ca`` a peer must show a certificate of that CA, and its Origin-Host must be among
    the certificate's names.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class S13Settings:
    """The S13 door. Seconds are of wall time, sizes in octets. Raises Refused when inconsistent.

    ``share_port``: the successor of this process may listen before it is gone (SO_REUSEPORT).
    ``unknown_answer`` is what UNKNOWN becomes: ``unknown`` (5422) or an Equipment-Status.
    ``not_ready_answer`` ``busy`` keeps the door shut while no list serves; an Equipment-Status (or
    ``unknown``) keeps it open and gives every device that answer.
    """

    origin_host: str
    origin_realm: str
    peers: tuple[PeerRule, ...]
    realms: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    port: int = 3868
    share_port: bool = False
    plaintext: str = ""
    tls: TlsSettings | None = None
    unknown_answer: str = "unknown"
    not_ready_answer: str = "busy"
    product_name: str = "eir"
    watchdog_seconds: float = 30.0
    cer_seconds: float = 10.0
    message_seconds: float = 10.0
    leave_seconds: float = 5.0
    slow_reader_seconds: float = 10.0
    max_connections: int = 1_024
    max_connections_per_peer: int = 64
    max_message_bytes: int = limits.MAX_S13_MESSAGE_BYTES
    max_unsent_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for text in (self.origin_host, self.origin_realm, *self.realms):
            _checked_identity(text, "origin_host, origin_realm, realms")
        names = [rule.origin_host.lower() for rule in self.peers]
        if len(set(names)) != len(names):
            raise Refused("s13-peer-twice", "an Origin-Host is named by two peers", where="peers")
        if self.unknown_answer not in UNKNOWN_ANSWERS:
            raise Refused("s13-answer", f"one of {UNKNOWN_ANSWERS}", where="unknown_answer")
        if self.not_ready_answer not in NOT_READY_ANSWERS:
            raise Refused("s13-answer", f"one of {NOT_READY_ANSWERS}", where="not_ready_answer")
        self._check_limits()
        self._check_exposure()

    def _check_limits(self) -> None:
        if not 128 <= self.max_message_bytes <= limits.MAX_S13_MESSAGE_BYTES:
            most = limits.MAX_S13_MESSAGE_BYTES
            raise Refused("s13-limit", f"128 to {most} octets", where="max_message_bytes")
        if not 1 <= self.max_connections <= limits.MAX_S13_CONNECTIONS:
            most = limits.MAX_S13_CONNECTIONS
            raise Refused("s13-limit", f"1 to {most}", where="max_connections")
        if self.max_connections_per_peer < 1 or self.max_unsent_bytes < 4_096:
            detail = "at least 1 connection a peer and 4,096 unsent octets"
            raise Refused("s13-limit", detail, where="max_connections_per_peer, max_unsent_bytes")
        seconds = (self.cer_seconds, self.message_seconds, self.leave_seconds)
        if self.watchdog_seconds < 6 or min(*seconds, self.slow_reader_seconds) <= 0:
            # RFC 3539 3.4.1: Tw below 6 s is not to be set
            raise Refused("s13-limit", "watchdog_seconds >= 6, the others > 0", where="*_seconds")

    def _check_exposure(self) -> None:
        try:
            loopback = ipaddress.ip_address(self.address).is_loopback
        except ValueError as wrong:
            raise Refused("s13-address", str(wrong), where="address") from wrong
        if self.tls is None and not loopback and self.plaintext != "accepted":
            raise Refused(
                "listen-plaintext",
                f'{self.address} without TLS: set tls, or plaintext = "accepted"',
                where="address",
            )


def _checked_identity(text: str, where: str) -> None:
    """A DiameterIdentity (RFC 6733 4.3.1): a host name of ASCII, no blanks."""
    plain = text.isascii() and text.isprintable() and " " not in text
    if not plain or not 0 < len(text) <= limits.MAX_S13_IDENTITY_BYTES:
        raise Refused("s13-identity", f"{text!r} is no Diameter identity", where=where)
