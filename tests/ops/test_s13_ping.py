"""``eir s13 ping`` against our door, and against what is no EIR."""

import asyncio
import json
import socket
import threading

import pytest
from click.testing import Result
from typer.testing import CliRunner

from eir.errors import Refused, Unavailable
from eir.ops.cli.main import app
from eir.ops.s13_ping import PingAsk, ping
from tests.doors.s13 import talk
from tests.doors.s13.talk import BLACK, MME, UNKNOWN, TableChecker, running


def ask(port: int, **changes) -> PingAsk:
    values = {"host": "127.0.0.1", "port": port, "origin_host": MME, "origin_realm": talk.REALM}
    return PingAsk(**values | changes)


@pytest.mark.parametrize(
    ("key", "status", "result"),
    [
        (BLACK, "BLACKLISTED", 2001),
        (UNKNOWN, "UNKNOWN", 5422),
        (12345678901234, "GREYLISTED", 2001),
    ],
)
async def test_a_ping_tells_verdict_and_times(key, status, result):
    async with running() as door:
        outcome = await asyncio.to_thread(ping, ask(door.port, imei=f"{key}0"))
    assert outcome.is_well
    assert outcome.status == status
    assert outcome.results == {"cer": 2001, "dwr": 2001, "ecr": result, "dpr": 2001}
    assert (outcome.origin_host, outcome.product_name) == (talk.EIR, "eir")
    assert set(outcome.milliseconds) == {"connect", "cer", "dwr", "ecr", "dpr"}
    assert all(took > 0 for took in outcome.milliseconds.values())


async def test_a_ping_of_nobody_we_know_says_so():
    async with running() as door:
        outcome = await asyncio.to_thread(ping, ask(door.port, origin_host="stranger.example.org"))
    assert outcome.results == {"cer": 3010}
    assert not outcome.is_well


async def test_an_eir_that_is_not_ready_is_not_well():
    checker = TableChecker()
    async with running(checker) as door:
        checker.ready = False
        outcome = await asyncio.to_thread(ping, ask(door.port))
    assert outcome.results["ecr"] == 3004
    assert not outcome.is_well


@pytest.mark.parametrize(
    ("speech", "raised"),
    [(b"", Unavailable), (b"HTTP/1.1 400 Bad Request\r\n\r\n", Refused), (None, Unavailable)],
)
def test_what_is_no_eir(speech, raised):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.recv(4096)
                if speech is None:
                    link.recv(4096)  # silent until the pinger gives up
                else:
                    link.sendall(speech)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(raised):
            ping(ask(server.getsockname()[1], timeout_seconds=0.3))
        thread.join()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unavailable):
        ping(ask(port))


def eir(*words: object) -> Result:
    return CliRunner().invoke(app, ["s13", "ping", "127.0.0.1", *map(str, words)])


async def test_the_command_prints_verdict_and_times():
    async with running() as door:
        ours = ("--port", door.port, "--origin-host", MME, "--origin-realm", talk.REALM)
        ran = await asyncio.to_thread(eir, *ours, "--imei", f"{BLACK}0")
        assert ran.exit_code == 0
        assert "BLACKLISTED" in ran.output
        assert "2001" in ran.output
        ran = await asyncio.to_thread(eir, *ours, "--imei", f"{UNKNOWN}0", "--json")
        told = json.loads(ran.output)
        assert (told["well"], told["status"], told["results"]["ecr"]) == (True, "UNKNOWN", 5422)
        ran = await asyncio.to_thread(eir, "--port", door.port)
        assert ran.exit_code == 1, "as nobody that is allowed"
        assert "3010" in ran.output
    ran = await asyncio.to_thread(eir, "--port", door.port)
    assert isinstance(ran.exception, Unavailable)


def test_certificates_need_an_authority():
    ran = eir("--cert", "c.pem")
    assert isinstance(ran.exception, Refused)
    assert ran.exception.reason == "client-tls"
    assert eir("--ca", "nowhere.pem").exception.reason == "client-tls"
