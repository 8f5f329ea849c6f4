"""What the N5g-eir door, its tokens and its NRF registration are set to: checked values, no action.

A combination that would be unsafe or could never work is Refused here, before a socket opens.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from eir import limits
from eir.doors.n5g_codec import UnknownAnswer
from eir.errors import Refused

_PLMN = re.compile(r"[0-9]{5,6}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Our certificate (PEM chain) and key. With ``client_ca`` every peer must show one it signed.

    ``crl`` files list client certificates that are no longer believed.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    crl: tuple[Path, ...] = ()
    min_version: Literal["1.2", "1.3"] = "1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2Settings:
    """Bearer tokens (TS 29.510 6.3): who may issue them, and where the issuers' public keys are.

    ``keys`` is the path of a PEM public key or JWKS file, or the https URL of a JWKS. ``ca`` is
    the PEM bundle that a URL's server must chain to; None means the system's.
    """

    keys: str
    issuers: tuple[str, ...]
    audiences: tuple[str, ...] = ("5G_EIR",)
    leeway_s: int = 30
    refresh_s: int = 3_600
    ca: Path | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise Refused("oauth2-no-keys", "name a key file or a JWKS URL")
        if not self.issuers or not all(self.issuers):
            raise Refused("oauth2-no-issuer", "name at least one issuer (the NRF's instance id)")
        if self.leeway_s < 0 or self.refresh_s < 1:
            raise Refused("oauth2-times", "leeway_s is 0 or more, refresh_s 1 or more")
        if self.is_url:
            _secure_url(self.keys)

    @property
    def is_url(self) -> bool:
        """Whether ``keys`` names a URL, not a file."""
        return "://" in self.keys


@dataclass(frozen=True, slots=True, kw_only=True)
class NrfSettings:
    """Registration with the NRF (TS 29.510 5.2): API roots tried in turn, and how we are reached.

    ``plmns`` are MCC+MNC digits. ``heartbeat_s`` is our proposal; the NRF's answer rules.
    ``ca`` and the pair ``certificate``, ``key`` serve TLS towards the NRF.
    """

    urls: tuple[str, ...]
    address: str
    port: int
    plmns: tuple[str, ...] = ()
    heartbeat_s: int = 30
    timeout_s: float = 5.0
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if not self.urls:
            raise Refused("nrf-no-url", "name at least one NRF API root")
        for url in self.urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise Refused("nrf-url", f"{url!r} is no http or https URL")
        for plmn in self.plmns:
            if not _PLMN.fullmatch(plmn):
                raise Refused("nrf-plmn", f"a PLMN is 5 or 6 digits (MCC, MNC); got {plmn!r}")
        if not self.address or not 1 <= self.port <= 65_535:
            raise Refused("nrf-address", "the NRF needs the address and port that peers reach")
        if self.heartbeat_s < 1 or self.timeout_s <= 0:
            raise Refused("nrf-times", "heartbeat_s is 1 or more, timeout_s above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class N5gSettings:
    """The door. ``port`` 0 takes a free one. ``max_gathered`` questions may wait at once, else 429.

    ``instance_id`` is our NF instance id, a UUID: an audience of tokens, and our name at the NRF.
    """

    host: str = "127.0.0.1"
    port: int = 29_511
    instance_id: str = ""
    unknown: UnknownAnswer = "not-found"
    http1: bool = False
    plaintext: Literal["", "accepted"] = ""
    tls: TlsSettings | None = None
    oauth2: OAuth2Settings | None = None
    nrf: NrfSettings | None = None
    max_connections: int = 4_096
    max_streams: int = 256
    max_gathered: int = limits.MAX_N5G_GATHERED
    retry_after_s: int = 5
    drain_s: int = 5

    def __post_init__(self) -> None:
        if self.unknown not in get_args(UnknownAnswer):
            raise Refused("n5g-unknown-answer", f"unknown is one of {get_args(UnknownAnswer)}")
        if not 0 <= self.port <= 65_535:
            raise Refused("n5g-port", "a port is 0 to 65535")
        if min(self.max_connections, self.max_streams, self.max_gathered, self.drain_s) < 1:
            raise Refused("n5g-limits", "limits and drain_s are 1 or more")
        if self.max_gathered > limits.MAX_CHECKS_PER_MESSAGE:
            raise Refused("n5g-limits", f"at most {limits.MAX_CHECKS_PER_MESSAGE} may be gathered")
        if self.instance_id and not _is_uuid(self.instance_id):
            raise Refused("n5g-instance-id", "instance_id is a UUID (TS 29.571 5.3.2)")
        if self.nrf is not None and not self.instance_id:
            raise Refused("n5g-instance-id", "NRF registration needs an instance_id")
        if self.tls is None and self.plaintext != "accepted" and not _is_loopback(self.host):
            raise Refused(
                "listen-plaintext",
                f'{self.host} is no loopback address: set tls, or plaintext = "accepted"',
            )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _secure_url(url: str) -> None:
    """Keys decide who is believed: they come by https, or from this very machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return
    raise Refused("oauth2-keys-url", "token keys are fetched by https, or from loopback")
