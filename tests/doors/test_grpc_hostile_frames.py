"""What a client can do with well-formed HTTP/2 to harm others. While it does, others are answered.

Each attack keeps its connection open until the door has answered somebody else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from grpc import StatusCode

from eir.wire.v1 import eligibility_pb2 as wire
from tests.doors.frames import BATCH, CHECK, Frames


@pytest.fixture
def hostile(open_door, checker, stub_of, a_check) -> Iterator[Frames]:
    """A hostile connection; others are answered before, beside it, and after it."""
    address = open_door(checker).address
    stub = stub_of(address)
    assert answered(stub, a_check)
    attacker = Frames(address)
    yield attacker
    assert answered(stub, a_check)
    assert answered(stub_of(address), a_check)
    attacker.socket.close()
    assert answered(stub, a_check)


def answered(stub, request) -> bool:
    """As the page of the interface has clients do: what was shed is asked again after a pause."""
    shed = (StatusCode.RESOURCE_EXHAUSTED, StatusCode.CANCELLED)
    for pause in range(10):
        try:
            return bool(stub.Check(request, timeout=30).status)
        except grpc.RpcError as failure:
            if failure.code() not in shed:
                raise
            time.sleep(0.01 * 2**pause)
    return False


def test_half_a_message(hostile):
    stream = hostile.open(CHECK)
    hostile.h2.send_data(stream, b"\0\0\0\0\x64half")
    hostile.send()


@pytest.mark.parametrize("told", [0, 3, 2**31, 2**32 - 1])
def test_a_length_that_lies(hostile, told, a_check):
    hostile.ask(CHECK, a_check.SerializeToString(), told=told)
    hostile.send()


def test_headers_of_60_kb(hostile):
    for _ in range(4):
        hostile.open(CHECK, ("x", "y" * 60_000))
        hostile.send()


def test_a_thousand_streams_that_never_end(hostile):
    for _ in range(100):
        hostile.open(CHECK)
    hostile.send()
    for _ in range(900):
        hostile.h2.remote_settings.max_concurrent_streams = 10_000
        hostile.open(CHECK)
    hostile.send()


def test_resets_in_flight(hostile, a_check):
    message = a_check.SerializeToString()
    for _ in range(1_000):
        hostile.h2.reset_stream(hostile.ask(CHECK, message), error_code=8)
    hostile.send()


def test_answers_that_nobody_reads(hostile):
    """A window of nothing: five answers of 13 kB can't leave."""
    hostile.h2.update_settings({4: 0})
    message = wire.CheckBatchRequest(imei14=range(1, 1_001)).SerializeToString()
    for _ in range(5):
        hostile.ask(BATCH, message)
    hostile.send()


def test_unknown_methods_by_the_hundred(hostile):
    for number in range(50):
        hostile.ask(f"/eir.v1.Eligibility/M{number}", b"")
    hostile.send()


def test_two_messages_in_a_unary_call(hostile, a_check):
    message = a_check.SerializeToString()
    stream = hostile.open(CHECK)
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    hostile.h2.send_data(stream, framed * 2, end_stream=True)
    hostile.send()


def test_a_call_that_says_it_is_packed_and_is_not(open_door, checker, connect, failure_of):
    call = connect(open_door(checker).address).unary_unary(CHECK)
    code, _ = failure_of(call, b"\x1f\x8b" + bytes(20))
    assert code is StatusCode.INVALID_ARGUMENT
