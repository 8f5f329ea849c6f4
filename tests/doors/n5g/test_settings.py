"""Settings that are unsafe or cannot work are refused with their reason."""

from pathlib import Path

import pytest

from eir.doors.n5g_settings import N5gSettings, NrfSettings, OAuth2Settings, TlsSettings
from eir.errors import Refused

UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
TLS = TlsSettings(certificate=Path("c"), key=Path("k"))


def nrf(**changes) -> NrfSettings:
    return NrfSettings(
        **({"urls": ("http://127.0.0.1:1",), "address": "10.0.0.1", "port": 80} | changes)
    )


def oauth2(**changes) -> OAuth2Settings:
    return OAuth2Settings(**({"keys": "keys.json", "issuers": ("nrf",)} | changes))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "plaintext": "accepted"},
        {"host": "10.1.2.3", "tls": TLS},
        {"unknown": "GREYLISTED"},
    ],
)
def test_what_may_be(settings):
    N5gSettings(**settings)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: N5gSettings(host="0.0.0.0"), "listen-plaintext"),
        (lambda: N5gSettings(host="eir.example.org"), "listen-plaintext"),
        (lambda: N5gSettings(unknown="404"), "n5g-unknown-answer"),
        (lambda: N5gSettings(port=65_536), "n5g-port"),
        (lambda: N5gSettings(max_gathered=0), "n5g-limits"),
        (lambda: N5gSettings(max_gathered=10_000), "n5g-limits"),
        (lambda: N5gSettings(instance_id="eir-1"), "n5g-instance-id"),
        (lambda: N5gSettings(nrf=nrf()), "n5g-instance-id"),
        (lambda: oauth2(keys=""), "oauth2-no-keys"),
        (lambda: oauth2(issuers=()), "oauth2-no-issuer"),
        (lambda: oauth2(issuers=("",)), "oauth2-no-issuer"),
        (lambda: oauth2(leeway_s=-1), "oauth2-times"),
        (lambda: oauth2(keys="http://keys.example.org/jwks"), "oauth2-keys-url"),
        (lambda: oauth2(keys="ftp://127.0.0.1/jwks"), "oauth2-keys-url"),
        (lambda: nrf(urls=()), "nrf-no-url"),
        (lambda: nrf(urls=("nrf.example.org",)), "nrf-url"),
        (lambda: nrf(plmns=("4321x",)), "nrf-plmn"),
        (lambda: nrf(plmns=("۴۳۲۱۱",)), "nrf-plmn"),
        (lambda: nrf(port=0), "nrf-address"),
        (lambda: nrf(heartbeat_s=0), "nrf-times"),
    ],
)
def test_what_may_not(make, reason):
    with pytest.raises(Refused) as refused:
        make()
    assert refused.value.reason == reason


def test_keys_come_by_https_or_from_this_machine():
    assert oauth2(keys="https://nrf.example.org/jwks").is_url
    assert oauth2(keys="http://127.0.0.1:8/jwks").is_url
    assert not oauth2(keys="/etc/eir/jwks.json").is_url
    N5gSettings(instance_id=UUID, nrf=nrf(), oauth2=oauth2())
