"""Claims on ports: settled once, shared by ours, never with a stranger, and never answered on."""

from __future__ import annotations

import socket

import pytest

from eir.errors import Refused
from eir.ops.ports import Ports


def listener(address: str) -> socket.socket:
    """As a worker's door listens."""
    host, _, port = address.rpartition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, int(port)))
    made.listen()
    return made


def test_port_0_becomes_one_port_that_workers_share():
    ports = Ports(("127.0.0.1:0", "unix:/run/eir.sock"), shared=False)
    tcp, unix = ports.addresses
    assert unix == "unix:/run/eir.sock"
    assert not tcp.endswith(":0")
    with listener(tcp) as first, listener(tcp) as second:
        assert first.getsockname() == second.getsockname()
    ports.close()


def test_no_connection_comes_to_a_claim():
    ports = Ports(("127.0.0.1:0",), shared=False)
    place = ("127.0.0.1", int(ports.addresses[0].rpartition(":")[2]))
    with socket.socket() as early:
        assert early.connect_ex(place) != 0
    with listener(ports.addresses[0]) as only:
        for _ in range(20):
            with socket.create_connection(place) as client:
                accepted, peer = only.accept()
                accepted.close()
                assert peer == client.getsockname()
    ports.close()


def test_a_port_that_others_listen_on_is_not_joined_unless_they_are_ours():
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        with pytest.raises(Refused) as refused:
            Ports(("127.0.0.1:0", address), shared=False)
        assert (refused.value.reason, refused.value.where) == ("listen-failed", address)
        ours = Ports((address,), shared=True)
        assert ours.addresses == (address,)
        ours.close()


def test_a_name_that_is_no_address_is_refused():
    with pytest.raises(Refused, match="listen-failed"):
        Ports(("no-such-host.invalid:1",), shared=False)
