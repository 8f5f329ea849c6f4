"""The settings of the doors that core networks ask through: S13 (Diameter) and N5g-eir (HTTP/2).

Declarations only, as in ``sections``. Both doors are shut until ``listen`` names an address.
"""

# ruff: noqa: RUF009 - the calls in these classes are field specifiers, and declare a field each

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eir import limits
from eir.ops.settings import forms, setting

_STATUSES = ("UNKNOWN", "WHITELISTED", "GREYLISTED", "BLACKLISTED")


def _plaintext() -> str:
    return setting.choice(
        "refused",
        "Without TLS, only loopback may be listened on, unless this is `accepted`: identities of"
        " subscribers then cross the network readable by all.",
        words=("refused", "accepted"),
    )


def _listen(port: int) -> str:
    return setting.text(
        "",
        f"Address that the door listens on, usually with port {port}; port 0 takes any free port;"
        " empty shuts the door.",
        form=forms.TCP_FORM,
        check=forms.tcp_address_or_none,
    )


def _seconds(default: int, doc: str, *, low: int = 1, high: int = 600) -> int:
    return setting.whole(default, doc, low=low, high=high, unit="seconds")


@dataclass(frozen=True, slots=True)
class PeerSection:
    """One peer that may connect."""

    addresses: tuple[str, ...] = setting.texts(
        (),
        "Where the peer may come from; empty is anywhere.",
        form="IP addresses and networks",
        check=forms.network,
        most=64,
    )
    msisdn_from: tuple[str, ...] = setting.texts(
        (),
        "Origin-Hosts whose MSISDN (AVP 701) is believed when their request comes through this"
        ' peer: its own name for an MME, `["*"]` for all behind a relay.',
        form="Diameter identities",
        check=forms.identity,
        most=1_024,
    )


@dataclass(frozen=True, slots=True)
class S13Section:
    """The door for MMEs and SGSNs: Diameter S13 and S13' over TCP. One process of a node has it."""

    listen: str = _listen(3_868)
    origin_host: str = setting.text(
        "",
        "Our Diameter identity; needed when the door is open.",
        form="host name",
        check=forms.identity_or_none,
    )
    origin_realm: str = setting.text(
        "",
        "Our realm; needed when the door is open.",
        form="host name",
        check=forms.identity_or_none,
    )
    realms: tuple[str, ...] = setting.texts(
        (),
        "Further Destination-Realms that are served besides `origin_realm`.",
        form="realms",
        check=forms.identity,
        most=64,
    )
    plaintext: str = _plaintext()
    tls_cert: Path | None = setting.path_or_none(
        "PEM file with our certificate chain; given, the door speaks TLS from the first octet."
    )
    tls_key: Path | None = setting.path_or_none("PEM file with the key of `tls_cert`.")
    client_ca: Path | None = setting.path_or_none(
        "PEM file with the authorities that sign peers' certificates; given, a peer must show one"
        " that names its Origin-Host."
    )
    unknown_answer: str = setting.choice(
        "UNKNOWN",
        "What the verdict UNKNOWN leaves as: itself (5422, equipment unknown), which cores take"
        " differently, or an Equipment-Status.",
        words=_STATUSES,
    )
    not_ready_answer: str = setting.choice(
        "busy",
        "While nothing serves: `busy` keeps the door shut, so that the core asks its next EIR; a"
        " status keeps it open and gives every device that answer.",
        words=("busy", *_STATUSES),
    )
    product_name: str = setting.text(
        "eir", "Product-Name of our CEA.", form="short text", check=forms.name
    )
    watchdog_seconds: int = _seconds(
        30, "Idle time, ± 2, before our own DWR; two unanswered end the connection.", low=6
    )
    cer_seconds: int = _seconds(10, "Time for the first message, and for the TLS handshake.")
    message_seconds: int = _seconds(10, "Time for a message that has begun to be complete.")
    leave_seconds: int = _seconds(
        5, "How long a DPA is waited for, and a peer that said DPR may take to hang up."
    )
    slow_reader_seconds: int = _seconds(
        10, "A peer that does not read its answers is dropped after so long."
    )
    max_connections: int = setting.whole(
        1_024,
        "Connections of all peers together; one more is closed at once.",
        low=1,
        high=limits.MAX_S13_CONNECTIONS,
        unit="connections",
    )
    max_connections_per_peer: int = setting.whole(
        64,
        "Connections of one peer; one more is answered 3004.",
        low=1,
        high=limits.MAX_S13_CONNECTIONS,
        unit="connections",
    )
    max_message_bytes: int = setting.whole(
        limits.MAX_S13_MESSAGE_BYTES,
        "The longest message; a longer one is answered 5015, and the connection closed.",
        low=128,
        high=limits.MAX_S13_MESSAGE_BYTES,
        unit="bytes",
    )
    max_unsent_bytes: int = setting.whole(
        1 << 20,
        "A peer with so much unread is not read from until it reads.",
        low=4_096,
        high=1 << 26,
        unit="bytes",
    )
    peers: Mapping[str, PeerSection] = setting.sections_by_name(
        PeerSection(),
        "One table for each peer, under the Origin-Host that its CER must say. Nobody else may"
        " connect.",
        entries={},
        check=forms.identity,
        most=limits.MAX_S13_PEERS,
        example="mme1.epc.example.org",
    )


@dataclass(frozen=True, slots=True)
class OAuth2Section:
    """Bearer tokens (TS 33.501 13.4.1). Asked for when `keys` is set."""

    keys: str = setting.text(
        "",
        "The issuers' public keys: a PEM or JWKS file, or the https URL of a JWKS; empty asks for"
        " no token.",
        form="path, URL or empty",
        check=forms.keys_or_none,
    )
    issuers: tuple[str, ...] = setting.texts(
        (),
        "Who may issue tokens: the instance ids of the NRFs; needed with `keys`.",
        form="instance ids",
        check=forms.name,
        most=64,
    )
    audiences: tuple[str, ...] = setting.texts(
        ("5G_EIR",),
        "Audiences that mean this node, besides its `instance_id`.",
        form="names",
        check=forms.name,
        most=64,
    )
    leeway_seconds: int = _seconds(30, "How far the issuers' clocks may be off.", low=0)
    refresh_seconds: int = _seconds(3_600, "How often the keys are read again.", high=30 * 86_400)
    ca: Path | None = setting.path_or_none(
        "PEM file with the authorities that the URL's server must chain to; empty: the system's."
    )


@dataclass(frozen=True, slots=True)
class NrfSection:
    """Registration with the NRF (TS 29.510 5.2). Done when `urls` has one."""

    urls: tuple[str, ...] = setting.texts(
        (),
        "API roots of NRFs, tried in turn; empty registers nowhere.",
        form="URLs",
        check=forms.http_url,
        most=16,
    )
    address: str = setting.text(
        "",
        "The IP address or host name at which consumers reach the door; needed with `urls`.",
        form="host name",
        check=forms.identity_or_none,
    )
    port: int = setting.whole(
        0,
        "The port at which consumers reach the door; 0 is the one of `listen`.",
        low=0,
        high=65_535,
        unit="as port",
    )
    plmns: tuple[str, ...] = setting.texts(
        (), "PLMNs that we serve.", form="PLMNs of 5 or 6 digits", check=forms.plmn, most=12
    )
    heartbeat_seconds: int = _seconds(
        30, "The heartbeat that we propose; the NRF's answer rules.", high=3_600
    )
    timeout_seconds: int = _seconds(5, "How long the NRF may take to answer.", high=60)
    ca: Path | None = setting.path_or_none(
        "PEM file with the authorities that the NRF must chain to; empty: the system's."
    )
    tls_cert: Path | None = setting.path_or_none("PEM file with what we show the NRF.")
    tls_key: Path | None = setting.path_or_none("PEM file with the key of `tls_cert`.")


@dataclass(frozen=True, slots=True)
class N5gSection:
    """The door for AMFs: N5g-eir over HTTP/2. Needs the extra `n5g`."""

    listen: str = _listen(29_511)
    http1: bool = setting.switch(False, "Speak HTTP/1.1 as well, for tools.")
    plaintext: str = _plaintext()
    tls_cert: Path | None = setting.path_or_none(
        "PEM file with our certificate chain; given, the door speaks TLS (ALPN h2)."
    )
    tls_key: Path | None = setting.path_or_none("PEM file with the key of `tls_cert`.")
    client_ca: Path | None = setting.path_or_none(
        "PEM file with the authorities that sign consumers' certificates; given, a consumer must"
        " show one (mTLS)."
    )
    client_crl: tuple[str, ...] = setting.texts(
        (),
        "PEM files that list consumers' certificates which are no longer believed.",
        form="paths",
        check=forms.file_path,
        most=16,
    )
    min_tls_version: str = setting.choice(
        "1.2", "The least version of TLS that is spoken.", words=("1.2", "1.3")
    )
    instance_id: str = setting.text(
        "",
        "Our NF instance id: an audience of tokens, and our name at the NRF.",
        form="UUID or empty",
        check=forms.instance_id_or_none,
    )
    unknown_answer: str = setting.choice(
        "UNKNOWN",
        "What the verdict UNKNOWN leaves as: itself (404, `ERROR_EQUIPMENT_UNKNOWN`), which cores"
        " take differently, or another status.",
        words=_STATUSES,
    )
    max_connections: int = setting.whole(
        4_096,
        "Open connections; further ones wait in the listen queue.",
        low=1,
        high=65_536,
        unit="connections",
    )
    max_streams: int = setting.whole(
        256, "Open requests of one connection.", low=1, high=65_536, unit="requests"
    )
    max_gathered: int = setting.whole(
        limits.MAX_N5G_GATHERED,
        "Questions that may wait for one check; one more is answered 429.",
        low=1,
        high=limits.MAX_CHECKS_PER_MESSAGE,
        unit="questions",
    )
    retry_after_seconds: int = _seconds(5, "What 429 and 503 tell the consumer to wait.", low=0)
    drain_seconds: int = _seconds(
        5, "How long requests that have begun may take to end when the node stops."
    )
    oauth2: OAuth2Section = setting.section(OAuth2Section())
    nrf: NrfSection = setting.section(NrfSection())
