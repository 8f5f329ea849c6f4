"""Where a door may listen, what it makes of Unix sockets, that a failed start leaves nothing."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading

import pytest

from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.rpc_listen import accept_no_more, listening
from eir.errors import Refused

CLEAR_ELSEWHERE = ["0.0.0.0:0", "[::]:0", "192.0.2.7:50061", "eir.example:50061", "*:50061"]


@pytest.fixture
def start(new_door, loop_thread, checker):
    doors = []

    def started(*addresses, **settings):
        chosen = GrpcSettings(listen=addresses, **settings)
        doors.append(new_door(chosen, checker))
        loop_thread.run(doors[-1].start())
        return doors[-1]

    yield started
    for door in doors:
        if door.addresses:
            loop_thread.run(door.stop(0))


@pytest.mark.parametrize("address", CLEAR_ELSEWHERE)
def test_clear_text_stays_on_this_machine(start, address):
    with pytest.raises(Refused) as refused:
        start(address)
    assert refused.value.reason == "listen-plaintext"
    assert refused.value.where == address


def test_clear_text_elsewhere_when_the_operator_accepts_it(start, stub_of, a_check):
    door = start("0.0.0.0:0", plaintext_accepted=True)
    port = door.addresses[0].rpartition(":")[2]
    assert stub_of(f"127.0.0.1:{port}").Check(a_check, timeout=30).status


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.0.0.9:0"])
def test_loopback_needs_no_leave(start, stub_of, a_check, address):
    door = start(address)
    assert not door.addresses[0].endswith(":0")
    assert stub_of(door.addresses[0]).Check(a_check, timeout=30).status


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":50061", "127.0.0.1:", "h:x", "h:۱۲"])
def test_what_is_no_address(start, address):
    with pytest.raises(Refused) as refused:
        start(address)
    assert refused.value.reason == "listen-malformed"


def test_several_addresses_are_one_door(start, tmp_path, stub_of, a_check):
    door = start("127.0.0.1:0", f"unix:{tmp_path}/s")
    assert [stub_of(address).Check(a_check, timeout=30).status > 0 for address in door.addresses]


def test_a_failed_start_lets_go_of_what_it_had(start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Refused) as refused:
            start(f"unix:{tmp_path}/s", f"127.0.0.1:{port}")
    assert refused.value.reason == "listen-failed"
    assert os.listdir(tmp_path) == []
    start(f"unix:{tmp_path}/s", f"127.0.0.1:{port}")


def test_a_port_is_not_shared_by_accident_but_by_setting(start):
    address = start("127.0.0.1:0").addresses[0]
    with pytest.raises(Refused, match="listen-failed"):
        start(address)
    shared = start("127.0.0.1:0", share_port=True).addresses[0]
    assert start(shared, share_port=True).addresses == (shared,)


def test_a_unix_socket_is_for_owner_and_group(start, tmp_path, stub_of, a_check):
    path = tmp_path / "s"
    door = start(f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    assert stub_of(door.addresses[0]).Check(a_check, timeout=30).status


def test_a_stopped_door_takes_its_socket_away(start, tmp_path, loop_thread):
    path = tmp_path / "s"
    door = start(f"unix:{path}")
    loop_thread.run(door.stop(0))
    assert not path.exists()


def test_a_stopped_door_leaves_its_successors_socket(start, tmp_path, loop_thread):
    path = tmp_path / "s"
    door = start(f"unix:{path}")
    path.unlink()
    start(f"unix:{path}")
    loop_thread.run(door.stop(0))
    assert path.exists()


def test_a_dead_nodes_socket_is_replaced(start, tmp_path, stub_of, a_check):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    assert stub_of(start(f"unix:{path}").addresses[0]).Check(a_check, timeout=30).status


def test_a_live_nodes_socket_is_not(start, tmp_path):
    start(f"unix:{tmp_path}/s")
    with pytest.raises(Refused, match="another server"):
        start(f"unix:{tmp_path}/s")


def test_a_file_in_the_way_is_left_alone(start, tmp_path):
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(Refused, match="taken"):
        start(f"unix:{path}")
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there(start, tmp_path):
    with pytest.raises(Refused, match="listen-failed"):
        start(f"unix:{tmp_path}/none/s")


def test_a_successor_takes_the_name_in_one_step_and_the_old_one_leaves_it(
    start, tmp_path, stub_of, a_check, loop_thread
):
    address = f"unix:{tmp_path}/s"
    old = start(address)
    start(address, take_over=True)
    loop_thread.run(old.stop(0))
    assert stub_of(address).Check(a_check, timeout=30).status


def test_what_is_no_socket_is_taken_over_by_nobody(start, tmp_path):
    (tmp_path / "s").write_text("mine")
    with pytest.raises(Refused) as refused:
        start(f"unix:{tmp_path}/s", take_over=True)
    assert refused.value.reason == "listen-failed"
    assert (tmp_path / "s").read_text() == "mine"


def test_a_server_that_ends_by_itself_ends_its_worker(checker, loop_thread, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr("eir.doors.grpc_door.end_loudly", lambda *_: ended.set())
    door = GrpcDoor(GrpcSettings(listen=("127.0.0.1:0",)), checker)
    loop_thread.run(door.start())
    loop_thread.run(door._server.stop(None))
    assert ended.wait(30)


def test_a_server_that_never_stops_is_left(checker, loop_thread, monkeypatch):
    monkeypatch.setattr("eir.doors.grpc_door._STOP_MARGIN_SECONDS", 0.01)
    door = GrpcDoor(GrpcSettings(listen=("127.0.0.1:0",)), checker)
    loop_thread.run(door.start())
    stop = door._server.stop

    async def stuck(_: float | None) -> None:
        await asyncio.Event().wait()

    door._server.stop = stuck
    loop_thread.run(door.stop(0))
    loop_thread.run(stop(None))


@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix:{}/s"])
def test_who_is_stopping_accepts_nobody_and_answers_who_is_connected(
    new_door, checker, tmp_path, stub_of, a_check, loop_thread, monkeypatch, capfd, place
):
    """Else a client that another worker sends off comes here, to be sent off at once."""
    draining, quiet = threading.Event(), asyncio.Event()

    async def until_told(door: GrpcDoor, seconds: float) -> None:
        draining.set()
        await quiet.wait()

    monkeypatch.setattr(GrpcDoor, "_quiet", until_told)
    door, other = (
        new_door(GrpcSettings(listen=(each,)), checker)
        for each in (place.format(tmp_path), "127.0.0.1:0")
    )
    loop_thread.run(door.start())
    loop_thread.run(other.start())
    stub = stub_of(door.addresses[0])
    assert stub.Check(a_check, timeout=30).status
    stopping = loop_thread.submit(door.stop(30))
    assert draining.wait(30)
    try:
        with pytest.raises(OSError, match="refused"):
            _connected(door.addresses[0])
        assert stub.Check(a_check, timeout=30).status
        _connected(other.addresses[0])
        assert stub_of(other.addresses[0]).Check(a_check, timeout=30).status
    finally:
        loop_thread.loop.call_soon_threadsafe(quiet.set)
        stopping.result(30)
        loop_thread.run(other.stop(0))
    assert "accept" not in capfd.readouterr().err


def test_a_drain_leaves_no_descriptor(new_door, checker, tmp_path, loop_thread):
    for _ in range(2):
        door = new_door(GrpcSettings(listen=("127.0.0.1:0", f"unix:{tmp_path}/s")), checker)
        loop_thread.run(door.start())
        assert len(listening()) >= 2
        loop_thread.run(door.stop(0))
        assert listening() == frozenset()


def test_who_was_not_taken_up_yet_is_reset_and_an_engine_finds_nobody_to_accept():
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket() as early:
        door.setblocking(False)
        early.connect(door.getsockname())
        inode = os.fstat(door.fileno()).st_ino
        assert inode in listening()
        accept_no_more(frozenset([inode]))
        with pytest.raises(ConnectionResetError):
            early.recv(1)
        with pytest.raises(BlockingIOError):
            door.accept()


def _connected(address: str) -> None:
    if address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(address.removeprefix("unix:"))
        return
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), 30).close()
