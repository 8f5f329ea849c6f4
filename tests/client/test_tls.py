"""TLS and mTLS between the asynchronous client and a real door."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.client import Client, ClientSettings, ClientTls
from eir.errors import Refused, Unavailable
from tests.client.nodes import Node
from tests.doors.conftest import Authority

SETTINGS = ClientSettings(deadline=20.0, attempt=20.0, attempts=2)


def write_pair(folder: Path, authority: Authority, name: str) -> tuple[Path, Path]:
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    for path, text in zip((key, cert), authority.issue(name), strict=True):
        path.write_bytes(text)
    return key, cert


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Authority, Path]:
    ours = Authority("ours")
    path = tmp_path / "ca.pem"
    path.write_bytes(ours.cert)
    return ours, path


@pytest.fixture
def node(start_node, tmp_path, authority) -> Node:
    key, cert = write_pair(tmp_path, authority[0], "node")
    return start_node(tls_cert=cert, tls_key=key, client_ca=authority[1])


async def status_of(node: Node, tls: ClientTls | None) -> int:
    port = node.address.rpartition(":")[2]
    async with Client([f"localhost:{port}"], SETTINGS, tls=tls) as client:
        return (await client.check("490154203237518")).registry_serial


async def test_a_client_of_the_authority_gets_its_verdict(node, authority, tmp_path):
    key, cert = write_pair(tmp_path, authority[0], "core")
    assert await status_of(node, ClientTls(ca=authority[1], cert=cert, key=key)) == 1


async def test_without_a_certificate_or_with_anothers_there_is_none(node, authority, tmp_path):
    key, cert = write_pair(tmp_path, Authority("theirs"), "core")
    for tls in (
        None,
        ClientTls(ca=authority[1]),
        ClientTls(ca=authority[1], cert=cert, key=key),
    ):
        with pytest.raises(Unavailable):
            await status_of(node, tls)


async def test_files_that_are_not_there_are_refused(node, tmp_path):
    with pytest.raises(Refused) as caught:
        await status_of(node, ClientTls(ca=tmp_path / "none.pem"))
    assert caught.value.reason == "client-tls"
