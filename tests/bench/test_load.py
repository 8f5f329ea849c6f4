"""The load generator counts every answer that is wrong, refused or missing, and fails by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import questions
from bench.toolchain import HERE
from eir.wire.v1 import eligibility_pb2 as wire
from tests.client import nodes

CHECK = "/eir.v1.Eligibility/Check"
Row = tuple[bytes, bytes]
Load = Callable[..., tuple[int, dict[str, float]]]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("load") / "load"
    warnings = ("-Wall", "-Wextra", "-Werror")
    subprocess.run(
        ["cc", "-O1", "-std=gnu11", *warnings, "-o", made, HERE / "load/load.c", "-lm"], check=True
    )
    return made


@pytest.fixture
def load(generator: Path, tmp_path: Path) -> Load:
    def run(
        port: int, rows: list[Row], *, rate: float = 0, protocol: str = "grpc", path: str = CHECK
    ) -> tuple[int, dict[str, float]]:
        asked = questions.write(tmp_path / "questions", rows)
        words = [generator, protocol, "127.0.0.1", port, path, asked, rate, 32, 4, 0.1, 0.5]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=30)
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.fixture
def port(start_node) -> int:
    return port_of(start_node())


def port_of(node: nodes.Node) -> int:
    return int(node.address.rpartition(":")[2])


def checks(count: int) -> list[Row]:
    rows = []
    for n in range(count):
        key, number = 35_000_000_000_000 + n, 989_120_000_000 + n
        status, name, until = nodes.expected(key, number, 0)
        reason = next(i for i, each in nodes.NAMES.items() if each == name)
        reply = wire.CheckReply(status=status, reason=reason, reason_name=name, valid_until=until)
        question = wire.CheckRequest(imei=f"{key:014d}0", msisdn=str(number)).SerializeToString()
        framed = struct.pack(">BI", 0, len(question)) + question
        rows.append((framed, reply.SerializeToString() + b"\x30"))
    return rows


@pytest.mark.parametrize("rate", [0, 400])
def test_right_answers_pass(load, port, rate):
    code, told = load(port, checks(50), rate=rate)
    assert code == 0
    assert told["right"] > 20
    assert (told["wrong"], told["missing"]) == (0, 0)
    assert 0 < told["p50_us"] <= told["p99_us"] <= told["max_us"]
    if rate:
        assert told["sent"] == pytest.approx(rate * 0.6, rel=0.3)


def test_batches_pass(load, port):
    rows = []
    for begin in range(0, 4_096, 512):
        keys = [35_000_000_000_000 + begin + n for n in range(512)]
        expected = [nodes.expected(key, 0, 0) for key in keys]
        ids = {name: number for number, name in nodes.NAMES.items()}
        reply = wire.CheckBatchReply(
            status=[status for status, _, _ in expected],
            reason=[ids[name] for _, name, _ in expected],
            valid_until=[until for _, _, until in expected],
        )
        asked = wire.CheckBatchRequest(imei14=keys).SerializeToString()
        framed = struct.pack(">BI", 0, len(asked)) + asked
        rows.append((framed, reply.SerializeToString() + b"\x28"))
    code, told = load(port, rows, path="/eir.v1.Eligibility/CheckBatch")
    assert code == 0
    assert told["right"] > 8


@pytest.mark.parametrize("place", [0, -2, -1])
def test_one_octet_that_differs_is_a_wrong_answer(load, port, place):
    rows = checks(50)
    question, answer = rows[9]
    changed = bytearray(answer)
    changed[place] ^= 1
    rows[9] = (question, bytes(changed))
    code, told = load(port, rows)
    assert code == 1
    assert told["wrong"] > 0
    assert told["right"] > told["wrong"]


def test_an_error_is_a_refused_answer(load, port):
    rows = checks(50)
    empty = wire.CheckRequest().SerializeToString()
    rows[3] = (struct.pack(">BI", 0, len(empty)) + empty, rows[3][1])
    code, told = load(port, rows)
    assert code == 1
    assert told["refused"] > 0
    assert told["wrong"] == told["missing"] == 0


def test_a_node_that_serves_nothing_refuses_all(load, start_node):
    code, told = load(port_of(start_node(ready=False)), checks(5))
    assert code == 1
    assert told["refused"] == told["sent"] > 0


def test_a_node_that_hangs_misses_what_is_out(load, start_node):
    node = start_node()
    node.hang()
    code, told = load(port_of(node), checks(5))
    assert code == 1
    assert told["missing"] == told["sent"] == 32


def test_latency_counts_from_the_time_a_question_was_due(load, start_node):
    """A node that stands still for a while: an honest generator sees all of that time."""
    node = start_node()
    load(port_of(node), checks(5))
    node.hang()
    timer = threading.Timer(1.0, node.go_on)
    timer.start()
    code, told = load(port_of(node), checks(50), rate=200)
    timer.join()
    assert code == 0
    assert told["max_us"] > 400_000
    assert told["p50_us"] > 100_000


def test_what_has_no_room_waits_and_does_not_spin(load, start_node):
    """Who spins has a node answer one question at a time, which is the dearest way."""
    node = start_node()
    node.hang()
    timer, before = threading.Timer(1.0, node.go_on), resource.getrusage(resource.RUSAGE_CHILDREN)
    timer.start()
    _, told = load(port_of(node), checks(50), rate=1_000_000)
    timer.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert told["wrong"] == told["missing"] == 0 < told["sent"]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_a_node_that_dies_fails_the_run(load, start_node):
    node = start_node()
    timer = threading.Timer(0.2, node.child.kill)
    timer.start()
    code, told = load(port_of(node), checks(5))
    timer.join()
    assert code == 1
    assert "closed" in told["failed"] or "goodbye" in told["failed"]


def test_nobody_there(load):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, told = load(taken.getsockname()[1], checks(1))
    assert (code, told["failed"]) == (1, "can't connect")


@pytest.fixture
def redis_port() -> Iterator[int]:
    """A few lines that answer GET as Redis does, from a table."""
    values = {b"a": b"$3\r\n1:9\r\n", b"b": b"$-1\r\n", b"c": b"$2\r\n\r\n\r\n"}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                key = (await reader.readuntil(b"\r\n"), *[await reader.readline() for _ in "1234"])
                writer.write(values[key[4].strip()])
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def get(key: str, answer: bytes) -> Row:
    return f"*2\r\n$3\r\nGET\r\n$1\r\n{key}\r\n".encode(), answer


def test_redis_answers_are_compared_whole(load, redis_port):
    a, b, c = get("a", b"$3\r\n1:9\r\n"), get("b", b"$-1\r\n"), get("c", b"$2\r\n\r\n\r\n")
    code, told = load(redis_port, [a, b, c], protocol="resp")
    assert code == 0
    assert told["right"] > 20
    code, told = load(redis_port, [a, get("b", b"$3\r\n1:9\r\n")], protocol="resp")
    assert code == 1
    assert told["wrong"] > 0
