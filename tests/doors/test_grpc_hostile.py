"""Whatever bytes come, each gRPC door answers as the interface says and goes on serving others."""

from __future__ import annotations

import contextlib
import socket

import grpc
import pytest
from google.protobuf.message import DecodeError
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eir import limits
from eir.core.subscriber import imsi_from_digits, msisdn_from_digits
from eir.wire.v1 import eligibility_pb2 as wire

SERVICE = "eir.v1.Eligibility"


def _expected(method: str, message: bytes) -> bool:
    """Whether the message can be asked, told by another road than the door's."""
    kind = wire.CheckRequest if method == "Check" else wire.CheckBatchRequest
    try:
        request = kind.FromString(message)
    except DecodeError:
        return False
    if method == "Check":
        number, code = msisdn_from_digits(request.msisdn), imsi_from_digits(request.imsi)
        return (
            bool(request.imei)
            and (not request.msisdn or number > 0)
            and (not request.imsi or code > 0)
        )
    size = len(request.imei14)
    return (
        0 < size <= limits.MAX_CHECKS_PER_MESSAGE
        and len(request.msisdn) in (0, size)
        and len(request.imsi) in (0, size)
        and all(number == 0 or msisdn_from_digits(str(number)) for number in request.msisdn)
        and all(
            code == 0 or imsi_from_digits(f"{code >> 4:0{max(code & 15, 1)}d}") == code
            for code in request.imsi
        )
    )


MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda imei, msisdn, imsi: wire.CheckRequest(
            imei=imei, msisdn=msisdn, imsi=imsi
        ).SerializeToString(),
        st.text(max_size=20),
        st.sampled_from(["", "989121234567", "0912", "٩٨٩"]),
        st.sampled_from(["", "432110123456789", "4321"]),
    ),
    st.builds(
        lambda imei, msisdn, imsi, cut: wire.CheckBatchRequest(
            imei14=imei, msisdn=msisdn, imsi=imsi
        ).SerializeToString()[:cut],
        st.lists(st.integers(0, 2**64 - 1), max_size=4),
        st.lists(st.integers(0, 10**16), max_size=4),
        st.lists(st.integers(0, 2**64 - 1) | st.just(432110123456789 << 4 | 15), max_size=4),
        st.none() | st.integers(0, 100),
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(method=st.sampled_from(["Check", "CheckBatch"]), message=MESSAGES)
def test_any_bytes_get_a_verdict_or_invalid_argument(fuzzed_channel, method, message):
    call = fuzzed_channel.unary_unary(f"/{SERVICE}/{method}")
    if _expected(method, message):
        assert call(message, timeout=30)
        return
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=30)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    assert caught.value.details().partition(":")[0].replace("-", "").isalpha()


@pytest.fixture
def fuzzed_channel(open_door, checker, connect):
    return connect(open_door(checker).address)


def test_packed_fields_may_come_in_pieces_or_unpacked(open_door, checker, connect):
    """As protobuf allows: one column in two packed pieces, another one value a field."""
    raw = bytes((0x0A, 8)) + (11).to_bytes(8, "little")
    raw += bytes((0x0A, 8)) + (12).to_bytes(8, "little")
    raw += bytes((0x11,)) + (989121234567).to_bytes(8, "little")
    raw += bytes((0x11,)) + (0).to_bytes(8, "little")
    call = connect(open_door(checker).address).unary_unary(f"/{SERVICE}/CheckBatch")
    call(raw, timeout=30)
    assert [column.tolist() for column in checker.asked[-1]] == [
        [11, 12],
        [989121234567, 0],
        [0, 0],
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(4_096),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
    ],
)
def test_garbage_on_the_socket_harms_nobody_else(open_door, checker, stub_of, a_check, raw):
    address = open_door(checker).address
    stub = stub_of(address)
    stub.Check(a_check, timeout=30)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as hostile:
        hostile.sendall(raw)
        with contextlib.suppress(OSError):  # it may have hung up on us already
            hostile.shutdown(socket.SHUT_WR)
        assert stub.Check(a_check, timeout=30).status
        with contextlib.suppress(ConnectionResetError):
            while hostile.recv(4_096):
                pass
    assert stub.Check(a_check, timeout=30).status
