"""From the sections of the S13 and N5g-eir doors to the doors' own settings.

Holds what several settings of one door come to together. Faults are noted at their spot; None
comes back for a door that is shut, or can't be opened so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from eir.doors import n5g_settings, s13_settings
from eir.doors.n5g_codec import UnknownAnswer
from eir.doors.n5g_settings import N5gSettings, NrfSettings, OAuth2Settings
from eir.doors.s13_settings import PeerRule, S13Settings
from eir.errors import Refused
from eir.ops.settings.door_sections import N5gSection, NrfSection, OAuth2Section, S13Section
from eir.ops.settings.forms import split_address
from eir.ops.settings.setting import Spot


def s13_of(section: S13Section, spot: Spot) -> S13Settings | None:
    """What the S13 door is set to."""
    needed = ("origin_host", "origin_realm", "peers")
    if not section.listen or _lacks(section, needed, spot, beside="listen"):
        return None
    if not _peers_differ(section, spot.at("peers")):
        return None
    address, port = split_address(section.listen)
    tls = None
    if section.tls_cert and section.tls_key:
        tls = s13_settings.TlsSettings(
            certificate=section.tls_cert, key=section.tls_key, client_ca=section.client_ca
        )
    return S13Settings(
        origin_host=section.origin_host,
        origin_realm=section.origin_realm,
        peers=tuple(
            PeerRule(origin_host=name, addresses=peer.addresses, msisdn_from=peer.msisdn_from)
            for name, peer in section.peers.items()
        ),
        realms=section.realms,
        address=address,
        port=port,
        plaintext="accepted",  # config has refused it already where it is not
        tls=tls,
        unknown_answer=section.unknown_answer.lower(),
        not_ready_answer=section.not_ready_answer.lower(),
        product_name=section.product_name,
        watchdog_seconds=section.watchdog_seconds,
        cer_seconds=section.cer_seconds,
        message_seconds=section.message_seconds,
        leave_seconds=section.leave_seconds,
        slow_reader_seconds=section.slow_reader_seconds,
        max_connections=section.max_connections,
        max_connections_per_peer=section.max_connections_per_peer,
        max_message_bytes=section.max_message_bytes,
        max_unsent_bytes=section.max_unsent_bytes,
    )


def n5g_of(section: N5gSection, folder: Path, spot: Spot) -> N5gSettings | None:
    """What the N5g-eir door is set to; relative paths start at ``folder``."""
    if not section.listen:
        return None
    host, port = split_address(section.listen)
    tls = None
    if section.tls_cert and section.tls_key:
        tls = n5g_settings.TlsSettings(
            certificate=section.tls_cert,
            key=section.tls_key,
            client_ca=section.client_ca,
            crl=tuple(folder / name for name in section.client_crl),
            min_version=cast(Literal["1.2", "1.3"], section.min_tls_version),
        )
    nrf = _nrf(section.nrf, folder, port, spot.at("nrf"))
    if nrf is not None and _lacks(section, ("instance_id",), spot, beside="nrf.urls"):
        nrf = None
    return N5gSettings(
        host=host,
        port=port,
        instance_id=section.instance_id,
        unknown=_unknown(section.unknown_answer),
        http1=section.http1,
        plaintext="accepted",  # config has refused it already where it is not
        tls=tls,
        oauth2=_oauth2(section.oauth2, folder, spot.at("oauth2")),
        nrf=nrf,
        max_connections=section.max_connections,
        max_streams=section.max_streams,
        max_gathered=section.max_gathered,
        retry_after_s=section.retry_after_seconds,
        drain_s=section.drain_seconds,
    )


def _oauth2(section: OAuth2Section, folder: Path, spot: Spot) -> OAuth2Settings | None:
    if not section.keys or _lacks(section, ("issuers",), spot, beside="keys"):
        return None
    is_url = "://" in section.keys
    return OAuth2Settings(
        keys=section.keys if is_url else str(folder / section.keys),
        issuers=section.issuers,
        audiences=section.audiences,
        leeway_s=section.leeway_seconds,
        refresh_s=section.refresh_seconds,
        ca=folder / section.ca if section.ca else None,
    )


def _nrf(section: NrfSection, folder: Path, port: int, spot: Spot) -> NrfSettings | None:
    section = replace(section, port=section.port or port)
    if not section.urls or _lacks(section, ("address", "port"), spot, beside="urls"):
        return None
    if (section.tls_cert is None) != (section.tls_key is None):
        spot.refuse(Refused("config-conflict", "tls_cert and tls_key go together"))
    return NrfSettings(
        urls=section.urls,
        address=section.address,
        port=section.port,
        plmns=section.plmns,
        heartbeat_s=section.heartbeat_seconds,
        timeout_s=section.timeout_seconds,
        ca=folder / section.ca if section.ca else None,
        certificate=folder / section.tls_cert if section.tls_cert else None,
        key=folder / section.tls_key if section.tls_key else None,
    )


def _unknown(answer: str) -> UnknownAnswer:
    return "not-found" if answer == "UNKNOWN" else cast(UnknownAnswer, answer)


def _lacks(section: object, needed: tuple[str, ...], spot: Spot, *, beside: str) -> bool:
    """Whether a needed setting is empty; each such is noted."""
    missing = [key for key in needed if not getattr(section, key)]
    for key in missing:
        spot.at(key).refuse(Refused("config-conflict", f"needed beside {beside}"))
    return bool(missing)


def _peers_differ(section: S13Section, spot: Spot) -> bool:
    """Whether no two peers are one: case does not tell Diameter identities apart."""
    names = [name.lower() for name in section.peers]
    twice = [name for name in section.peers if names.count(name.lower()) > 1]
    if twice:
        fault = Refused("config-conflict", f"{twice[0]} is the same peer: case does not count")
        spot.at(twice[-1]).refuse(fault)
    return not twice
