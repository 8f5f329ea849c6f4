"""The S13 and N5g-eir sections: shut by default, wholly mapped, refused with a line."""

from dataclasses import fields
from pathlib import Path

import pytest

from eir.doors import n5g_settings, s13_settings
from eir.doors.n5g_settings import N5gSettings, NrfSettings, OAuth2Settings
from eir.doors.s13_settings import PeerRule, S13Settings
from eir.errors import Refused
from eir.ops.settings.config import Config, config_check, read_config

FOLDER = Path("/etc/eir")
S13 = "[s13]\nlisten = '127.0.0.1:3868'\norigin_host = 'eir.x'\norigin_realm = 'x'\n"
PEER = "[s13.peers.'mme.x']\n"
N5G = "[n5g]\nlisten = '[::1]:29511'\n"
INSTANCE = "4947a69a-f61b-4bc1-b9da-47c9c5d14b64"


def read(text: str) -> Config:
    return read_config(text, name="eir.toml", folder=FOLDER)


def test_both_doors_are_shut_until_they_have_an_address() -> None:
    config = read("[s13]\norigin_host = 'eir.x'\n[n5g]\nhttp1 = true\n")
    assert (config.s13, config.n5g) == (None, None)


def test_an_open_door_has_the_defaults_of_its_room() -> None:
    config = read(S13 + PEER + N5G)
    assert config.s13 == S13Settings(
        origin_host="eir.x",
        origin_realm="x",
        peers=(PeerRule(origin_host="mme.x"),),
        plaintext="accepted",
    )
    assert config.n5g == N5gSettings(host="::1", plaintext="accepted")


def test_every_setting_of_s13_is_in_force() -> None:
    config = read(
        """
        [s13]
        listen = "0.0.0.0:3869"
        origin_host = "eir.example.org"
        origin_realm = "example.org"
        realms = ["roaming.example.org"]
        tls_cert = "c.pem"
        tls_key = "k.pem"
        client_ca = "/ca.pem"
        unknown_answer = "GREYLISTED"
        not_ready_answer = "UNKNOWN"
        product_name = "our eir"
        watchdog_seconds = 6
        cer_seconds = 1
        message_seconds = 2
        leave_seconds = 3
        slow_reader_seconds = 4
        max_connections = 5
        max_connections_per_peer = 7
        max_message_bytes = 4096
        max_unsent_bytes = 8192
        [s13.peers."mme1.example.org"]
        addresses = ["10.0.0.0/8", "::1"]
        msisdn_from = ["mme1.example.org"]
        [s13.peers."dra.example.org"]
        msisdn_from = ["*"]
        """
    )
    settings = S13Settings(
        origin_host="eir.example.org",
        origin_realm="example.org",
        peers=(
            PeerRule(
                origin_host="mme1.example.org",
                addresses=("10.0.0.0/8", "::1"),
                msisdn_from=("mme1.example.org",),
            ),
            PeerRule(origin_host="dra.example.org", msisdn_from=("*",)),
        ),
        realms=("roaming.example.org",),
        address="0.0.0.0",
        port=3869,
        plaintext="accepted",
        tls=s13_settings.TlsSettings(
            certificate=FOLDER / "c.pem", key=FOLDER / "k.pem", client_ca=Path("/ca.pem")
        ),
        unknown_answer="greylisted",
        not_ready_answer="unknown",
        product_name="our eir",
        watchdog_seconds=6,
        cer_seconds=1,
        message_seconds=2,
        leave_seconds=3,
        slow_reader_seconds=4,
        max_connections=5,
        max_connections_per_peer=7,
        max_message_bytes=4096,
        max_unsent_bytes=8192,
    )
    assert config.s13 == settings
    assert all_differ(settings, config_of_defaults().s13)


N5G_WHOLE = f"""
[n5g]
listen = "192.0.2.1:1443"
http1 = true
tls_cert = "c.pem"
tls_key = "k.pem"
client_ca = "ca.pem"
client_crl = ["crl.pem"]
min_tls_version = "1.3"
instance_id = "{INSTANCE}"
unknown_answer = "BLACKLISTED"
max_connections = 10
max_streams = 11
max_gathered = 12
retry_after_seconds = 13
drain_seconds = 14
[n5g.oauth2]
keys = "jwks.json"
issuers = ["nrf-1"]
audiences = ["5G_EIR", "eir"]
leeway_seconds = 1
refresh_seconds = 2
ca = "nrf-ca.pem"
[n5g.nrf]
urls = ["https://nrf.example.org", "http://10.0.0.1:8000"]
address = "eir.example.org"
plmns = ["43211"]
heartbeat_seconds = 20
timeout_seconds = 3
ca = "nrf-ca.pem"
tls_cert = "us.pem"
tls_key = "us.key"
"""


def test_every_setting_of_n5g_is_in_force() -> None:
    config = read(N5G_WHOLE)
    settings = N5gSettings(
        host="192.0.2.1",
        port=1443,
        instance_id=INSTANCE,
        unknown="BLACKLISTED",
        http1=True,
        plaintext="accepted",
        tls=n5g_settings.TlsSettings(
            certificate=FOLDER / "c.pem",
            key=FOLDER / "k.pem",
            client_ca=FOLDER / "ca.pem",
            crl=(FOLDER / "crl.pem",),
            min_version="1.3",
        ),
        oauth2=OAuth2Settings(
            keys="/etc/eir/jwks.json",
            issuers=("nrf-1",),
            audiences=("5G_EIR", "eir"),
            leeway_s=1,
            refresh_s=2,
            ca=FOLDER / "nrf-ca.pem",
        ),
        nrf=NrfSettings(
            urls=("https://nrf.example.org", "http://10.0.0.1:8000"),
            address="eir.example.org",
            port=1443,
            plmns=("43211",),
            heartbeat_s=20,
            timeout_s=3,
            ca=FOLDER / "nrf-ca.pem",
            certificate=FOLDER / "us.pem",
            key=FOLDER / "us.key",
        ),
        max_connections=10,
        max_streams=11,
        max_gathered=12,
        retry_after_s=13,
        drain_s=14,
    )
    assert config.n5g == settings
    assert all_differ(settings, config_of_defaults().n5g)


def config_of_defaults() -> Config:
    return read(S13 + PEER + N5G)


def all_differ(settings: object, usual: object) -> bool:
    """So that a setting that is not mapped is seen: but two that no file sets so."""
    names = {f.name for f in fields(settings)} - {"plaintext", "share_port"}
    return not [n for n in names if getattr(settings, n) == getattr(usual, n)]


def test_keys_of_tokens_may_be_a_url() -> None:
    url = "https://nrf.example.org/jwks"
    config = read(f"{N5G}[n5g.oauth2]\nkeys = '{url}'\nissuers = ['nrf']\n")
    assert config.n5g.oauth2 == OAuth2Settings(keys=url, issuers=("nrf",))


@pytest.mark.parametrize(
    ("text", "reason", "where"),
    [
        ("[s13]\nlisten = 'unix:x'", "config-range", "eir.toml:2: s13.listen"),
        ("[s13]\nlisten = 'localhost:3868'", "config-range", "eir.toml:2: s13.listen"),
        ("[s13]\norigin_host = 'a b'", "config-range", "eir.toml:2: s13.origin_host"),
        ("[s13]\nwatchdog_seconds = 5", "config-range", "eir.toml:2: s13.watchdog_seconds"),
        ("[s13]\nunknown_answer = 'busy'", "config-range", "eir.toml:2: s13.unknown_answer"),
        (S13, "config-conflict", "eir.toml:1: s13.peers"),
        (PEER + "addresses = ['10.0.0.1/8']", "config-range", 'eir.toml:2: s13.peers."mme.x".addr'),
        (S13 + PEER + "[s13.peers.'MME.x']", "config-conflict", 'eir.toml:6: s13.peers."MME.x"'),
        ("[s13.peers.'']", "config-range", "eir.toml:1: s13.peers."),
        (S13 + "tls_cert = 'c'\n" + PEER, "config-conflict", "eir.toml:5: s13.tls_cert"),
        (
            S13.replace("127.0.0.1", "0.0.0.0") + PEER,
            "config-plaintext",
            "eir.toml:2: s13.listen",
        ),
        ("[n5g]\nlisten = '0.0.0.0:1'", "config-plaintext", "eir.toml:2: n5g.listen"),
        ("[n5g]\nunknown_answer = 'not-found'", "config-range", "eir.toml:2: n5g.unknown_answer"),
        ("[n5g]\ninstance_id = 'eir'", "config-range", "eir.toml:2: n5g.instance_id"),
        ("[n5g.oauth2]\nkeys = 'http://nrf.x/k'", "config-range", "eir.toml:2: n5g.oauth2.keys"),
        (N5G + "[n5g.oauth2]\nkeys = 'k'", "config-conflict", "eir.toml:3: n5g.oauth2.issuers"),
        ("[n5g.nrf]\nurls = ['nrf.x']", "config-range", "eir.toml:2: n5g.nrf.urls"),
        (N5G + "[n5g.nrf]\nurls = ['http://n']", "config-conflict", "eir.toml:3: n5g.nrf.address"),
        (
            N5G + "[n5g.nrf]\nurls = ['http://n']\naddress = 'x'",
            "config-conflict",
            "eir.toml:1: n5g.instance_id",
        ),
        ("[n5g]\nmax_gathered = 9000", "config-range", "eir.toml:2: n5g.max_gathered"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_line(text: str, reason: str, where: str) -> None:
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.reason == reason
    assert caught.value.where.startswith(where)


@pytest.mark.parametrize("section", ["s13", "n5g"])
def test_named_certificates_must_be_there(tmp_path: Path, section: str) -> None:
    path = tmp_path / "eir.toml"
    path.write_text(f"[{section}]\ntls_cert = 'cert.pem'\ntls_key = 'key.pem'\n")
    (tmp_path / "cert.pem").touch()
    with pytest.raises(Refused) as caught:
        config_check(path)
    assert caught.value.where == f"{path}:3: {section}.tls_key"
