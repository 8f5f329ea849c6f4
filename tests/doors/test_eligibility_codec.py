"""Messages to arrays and back, without a server."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eir import limits
from eir.core.imei import key_from_digits
from eir.core.subscriber import imsi_from_digits, msisdn_from_digits
from eir.doors import eligibility_codec as codec
from eir.errors import Refused
from eir.serve.checker import Answer
from eir.wire.v1 import eligibility_pb2 as wire

NAMES = {number: f"reason-{number}" for number in range(2**16)}


@st.composite
def answers(draw, most=300):
    size = draw(st.integers(1, most))

    def column(dtype, low, high):
        return draw(arrays.arrays(dtype, size, elements=st.integers(low, high)))

    status = column(np.uint8, 1, 4)
    return Answer(
        status=status,
        decided=draw(st.sampled_from([status, column(np.uint8, 1, 4)])),
        code=np.zeros(size, np.uint8),
        reason=column(np.uint16, 0, 2**16 - 1),
        valid_until=draw(
            st.sampled_from([np.zeros(size, np.int64), column(np.int64, -(2**63), 2**63 - 1)])
        ),
        registry_serial=draw(st.integers(0, 2**64 - 1)),
        operator_serial=draw(st.integers(0, 2**64 - 1)),
        stale=draw(st.booleans()),
        reason_names=NAMES,
    )


def as_protobuf(answer: Answer) -> wire.CheckBatchReply:
    """The reply by protobuf's own road."""
    changed = (answer.decided != answer.status).any()
    return wire.CheckBatchReply(
        status=answer.status.tolist(),
        decided_status=answer.decided.tolist() if changed else (),
        reason=answer.reason.tolist(),
        valid_until=answer.valid_until.tolist() if answer.valid_until.any() else (),
        registry_serial=answer.registry_serial,
        operator_serial=answer.operator_serial,
        stale=answer.stale,
    )


@given(answer=answers())
def test_a_batch_reply_is_protobufs_own_bytes(answer):
    assert codec.write_batch(answer) == as_protobuf(answer).SerializeToString()


@given(answer=answers(), tag=st.integers(0, 2**64 - 1))
def test_a_stream_reply_is_protobufs_own_bytes(answer, tag):
    reply = wire.CheckStreamReply(tag=tag, batch=as_protobuf(answer))
    assert codec.write_stream(tag, answer) == reply.SerializeToString()


@given(answer=answers(most=1))
def test_a_check_reply_says_what_the_answer_says(answer):
    reply = wire.CheckReply.FromString(codec.write_check(answer))
    assert reply.status == answer.status[0]
    assert (reply.decided_status or reply.status) == answer.decided[0]
    assert (reply.reason, reply.reason_name) == (answer.reason[0], NAMES[answer.reason[0]])
    assert reply.valid_until == answer.valid_until[0]
    assert reply.registry_serial == answer.registry_serial
    assert reply.operator_serial == answer.operator_serial
    assert reply.stale == answer.stale


def test_columns_of_a_wider_table_are_written_too():
    """An answer's columns may be views with a stride."""
    table = np.array([[1, 2, 9, 9], [3, 4, 9, 9], [2, 2, 9, 9]], dtype=np.uint8)
    answer = Answer(
        status=table[:, 0],
        decided=table[:, 1],
        code=table[:, 2],
        reason=np.array([1, 256, 65_535], np.uint16),
        valid_until=np.array([0, 5, -1], np.int64),
        registry_serial=1,
        operator_serial=0,
        stale=False,
        reason_names=NAMES,
    )
    assert codec.write_batch(answer) == as_protobuf(answer).SerializeToString()


IDENTIFIERS = st.integers(0, 2**64 - 1) | st.integers(0, 10**15) | st.just(0)


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            IDENTIFIERS,
            st.integers(10**4, 10**15 - 1) | st.just(0),
            st.text("0123456789", min_size=5, max_size=15).map(imsi_from_digits) | st.just(0),
        ),
        min_size=1,
        max_size=50,
    )
)
def test_usable_identifiers_arrive_unchanged(rows):
    keys, numbers, codes = zip(*rows, strict=True)
    message = wire.CheckBatchRequest(imei14=keys, msisdn=numbers, imsi=codes).SerializeToString()
    asked = codec.read_batch(message, max_checks=50)
    assert asked.imei.tolist() == [key if key <= limits.MAX_IMEI_KEY else 0 for key in keys]
    assert asked.msisdn.tolist() == list(numbers)
    assert asked.imsi.tolist() == list(codes)


@given(imei=st.text(min_size=1), msisdn=st.text(), imsi=st.text())
def test_texts_are_read_as_the_vault_reads_them_or_refused(imei, msisdn, imsi):
    number, code = msisdn_from_digits(msisdn), imsi_from_digits(imsi)
    if (msisdn and not number) or (imsi and not code):
        with pytest.raises(Refused, match="unusable"):
            codec.read_texts(imei, msisdn, imsi)
    else:
        assert codec.read_texts(imei, msisdn, imsi) == (key_from_digits(imei), number, code)


def test_the_refused_place_is_named():
    message = wire.CheckBatchRequest(imei14=[1, 2, 3], msisdn=[0, 989121234567, 7])
    with pytest.raises(Refused, match=r"msisdn\[2\]"):
        codec.read_batch(message.SerializeToString(), max_checks=3)


COLUMN = st.lists(st.sampled_from([0, 1, 989121234567, 2**64 - 1, 6913761975308639]), max_size=40)
BATCHES = st.builds(
    lambda imei, msisdn, imsi: wire.CheckBatchRequest(
        imei14=imei, msisdn=msisdn, imsi=imsi
    ).SerializeToString(),
    COLUMN,
    COLUMN,
    COLUMN,
)
TOUCHED = st.builds(
    lambda message, place, bytes_: message[:place] + bytes_ + message[place + len(bytes_) :],
    BATCHES,
    st.integers(0, 400),
    st.binary(max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(BATCHES, TOUCHED, st.builds(bytes.__add__, BATCHES, BATCHES), st.binary()))
def test_a_batch_read_from_its_own_bytes_is_what_protobuf_reads(message):
    columns = codec._plain_columns(message)
    if columns is not None:
        request = wire.CheckBatchRequest.FromString(message)
        read = [list(map(int, column)) for column in columns]
        assert read == [list(request.imei14), list(request.msisdn), list(request.imsi)]


def test_a_batch_of_a_client_library_is_read_from_its_own_bytes():
    for size in (1, 15, 16, 2_047, 8_192):
        request = wire.CheckBatchRequest(imei14=range(size), imsi=range(size))
        columns = codec._plain_columns(request.SerializeToString())
        assert columns is not None
        assert [len(column) for column in columns] == [size, 0, size]
