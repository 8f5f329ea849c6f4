"""TLS with ALPN h2, and mutual TLS: who shows no certificate of ours is not heard."""

import httpx
import pytest

from eir.doors.n5g_client import open_client
from eir.doors.n5g_codec import RESOURCE_PATH
from eir.doors.n5g_settings import TlsSettings
from eir.errors import Refused
from tests.doors.n5g.told import answers

WHITE = RESOURCE_PATH + "?pei=imei-490154203237518"


async def test_alpn_gives_http2(open_door, authority, run):
    ca = authority("ca")
    ours = ca.issue("door")
    tls = TlsSettings(certificate=ours.certificate, key=ours.key)
    async with open_door(tls=tls) as (_, url):
        async with open_client(timeout_s=5, ca=ca.path) as client:
            answer = await client.get(url + WHITE)
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
        said = await run("curl", "-si", "--cacert", str(ca.path), url + WHITE)
        assert said.startswith("HTTP/2 200")


@pytest.mark.parametrize(("version", "code"), [("1.2", 0), ("1.3", 35)])
async def test_the_least_tls_version_is_kept(open_door, authority, run, version, code):
    ca = authority("ca")
    ours = ca.issue("door")
    tls = TlsSettings(certificate=ours.certificate, key=ours.key, min_version=version)
    async with open_door(tls=tls) as (_, url):
        await run("curl", "-s", "--tls-max", "1.2", "--cacert", str(ca.path), url + WHITE,
                  code=code)  # fmt: skip


async def test_mutual_tls_hears_only_our_authority_s_peers(open_door, authority):
    ca, other = authority("ca"), authority("other")
    ours, amf, stranger = ca.issue("door"), ca.issue("amf"), other.issue("stranger")
    tls = TlsSettings(certificate=ours.certificate, key=ours.key, client_ca=ca.path)
    async with open_door(tls=tls) as (door, url):
        async with open_client(
            timeout_s=5, ca=ca.path, certificate=amf.certificate, key=amf.key
        ) as client:
            assert (await client.get(url + WHITE)).status_code == 200
        async with open_client(
            timeout_s=5, ca=ca.path, certificate=stranger.certificate, key=stranger.key
        ) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(url + WHITE)
        async with open_client(timeout_s=5, ca=ca.path) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(url + WHITE)
        assert answers(door) == {"whitelisted": 1}


def test_a_client_whose_files_do_not_load_is_refused(tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(Refused) as refused:
        open_client(timeout_s=1, ca=tmp_path / "no.pem")
    assert refused.value.reason == "tls-unusable"
