"""CheckStream: tagged batches over one call, for every engine that carries it."""

from __future__ import annotations

import asyncio
import queue
import threading

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc


def question(tag: int, keys: list[int]) -> wire.CheckStreamRequest:
    return wire.CheckStreamRequest(tag=tag, batch=wire.CheckBatchRequest(imei14=keys))


@pytest.fixture
def door(open_streaming_door, checker):
    return open_streaming_door(checker)


@pytest.fixture
def stub(door, stub_of):
    return stub_of(door.address)


class OpenStream:
    """A stream asked one question at a time."""

    def __init__(self, stub, timeout=30):
        self._questions = queue.SimpleQueue()
        self.replies = stub.CheckStream(iter(self._questions.get, None), timeout=timeout)

    def ask(self, tag=1, keys=(5,)):
        self._questions.put(question(tag, list(keys)))
        return next(self.replies)

    def send(self, request):
        self._questions.put(request)

    def close(self):
        self._questions.put(None)
        assert list(self.replies) == []


def test_answers_carry_the_tags_of_their_questions_with_many_in_flight(stub, checker):
    asked = {tag: list(range(tag + 1, tag + 1 + tag % 9 + 1)) for tag in range(500)}
    questions = (question(tag, keys) for tag, keys in asked.items())
    answered = {reply.tag: reply.batch for reply in stub.CheckStream(questions, timeout=30)}
    assert answered.keys() == asked.keys()
    for tag, keys in asked.items():
        array = np.array(keys, np.uint64)
        expected = checker.verdicts(array, array * 0, array * 0, checker.serial)
        assert list(answered[tag].status) == expected.status.tolist()
        assert list(answered[tag].reason) == expected.reason.tolist()


@pytest.mark.parametrize("tag", [0, 1, 2**64 - 1])
def test_any_tag_comes_back(stub, tag):
    stream = OpenStream(stub)
    assert stream.ask(tag).tag == tag
    stream.close()


def test_a_stream_of_nothing_ends_well(stub):
    assert list(stub.CheckStream(iter(()), timeout=30)) == []


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (wire.CheckStreamRequest(tag=4), "batch-empty"),
        (
            wire.CheckStreamRequest(
                tag=4, batch=wire.CheckBatchRequest(imei14=[1, 2], msisdn=[0, 0, 0])
            ),
            "batch-uneven",
        ),
    ],
)
def test_a_wrong_message_ends_the_stream_and_no_other(stub, request_, reason):
    stream, other = OpenStream(stub), OpenStream(stub)
    assert stream.ask(3).tag == 3
    assert other.ask(1).tag == 1
    stream.send(request_)
    with pytest.raises(grpc.RpcError) as ended:
        next(stream.replies)
    assert ended.value.code() is StatusCode.INVALID_ARGUMENT
    assert ended.value.details().startswith(f"{reason}:")
    assert other.ask(2).tag == 2


def test_a_stream_loses_readiness(stub, checker):
    stream = OpenStream(stub)
    assert stream.ask().tag == 1
    checker.ready = False
    with pytest.raises(grpc.RpcError) as ended:
        stream.ask()
    assert ended.value.code() is StatusCode.UNAVAILABLE


def test_as_many_streams_as_are_allowed_and_one_more(open_streaming_door, checker, stub_of):
    stub = stub_of(open_streaming_door(checker, max_streams=3).address)
    streams = [OpenStream(stub) for _ in range(3)]
    for stream in streams:
        stream.ask()
    with pytest.raises(grpc.RpcError) as refused:
        OpenStream(stub).ask()
    assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details().startswith("streams-exhausted:")
    streams.pop().close()
    assert OpenStream(stub).ask().tag == 1


def test_as_many_calls_as_are_allowed_and_one_more(open_streaming_door, checker, stub_of, a_check):
    stub = stub_of(open_streaming_door(checker, max_calls=3).address)
    streams = [OpenStream(stub) for _ in range(2)]
    for stream in streams:
        stream.ask()
    assert stub.Check(a_check, timeout=30).status
    streams.append(OpenStream(stub))
    streams[-1].ask()
    with pytest.raises(grpc.RpcError) as refused:
        OpenStream(stub).ask()
    assert refused.value.code() is StatusCode.RESOURCE_EXHAUSTED


def test_a_deadline_ends_a_stream(stub):
    stream = OpenStream(stub, timeout=0.3)
    stream.ask()
    with pytest.raises(grpc.RpcError) as ended:
        next(stream.replies)
    assert ended.value.code() is StatusCode.DEADLINE_EXCEEDED


def test_a_client_that_does_not_read_is_not_read_from(door, checker, loop_thread):
    """Of 400 messages with 400 kB answers, the door takes up the few that the transport buffers."""
    big = question(1, [5] * 8_000)

    async def asked_without_reading() -> int:
        async with grpc.aio.insecure_channel(door.address) as channel:
            stream = wire_grpc.EligibilityStub(channel).CheckStream()
            sent = 0
            try:
                while sent < 400:
                    await asyncio.wait_for(stream.write(big), 1.0)
                    sent += 1
            except TimeoutError:
                return sent
            finally:
                stream.cancel()
            return sent

    assert loop_thread.run(asked_without_reading()) < 400
    assert len(checker.asked) < 400


def test_each_message_of_a_stream_is_decided_on_one_generation(stub, checker):
    keys = np.arange(1, 257, dtype=np.uint64)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            checker.serial += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        questions = (question(tag, keys.tolist()) for tag in range(200))
        replies = list(stub.CheckStream(questions, timeout=30))
    finally:
        over.set()
        swapper.join(30)
    for reply in replies:
        expected = checker.verdicts(keys, keys * 0, keys * 0, reply.batch.registry_serial)
        assert list(reply.batch.status) == expected.status.tolist()
        assert list(reply.batch.reason) == expected.reason.tolist()
    assert len(replies) == 200
    assert len({reply.batch.registry_serial for reply in replies}) > 10


def test_a_drain_ends_waiting_streams_at_once(door, stub):
    stream = OpenStream(stub)
    stream.ask()
    door.stop(60).result(30)
    with pytest.raises(grpc.RpcError) as ended:
        next(stream.replies)
    assert ended.value.code() is StatusCode.UNAVAILABLE


def test_a_drain_leaves_a_busy_stream_with_whole_answers(door, checker, loop_thread):
    """What is answered before the end is a beginning of what was asked, each answer right."""

    async def busy() -> tuple[list[int], StatusCode]:
        async with grpc.aio.insecure_channel(door.address) as channel:
            stream = wire_grpc.EligibilityStub(channel).CheckStream()
            tags, stopped = [], None
            for tag in range(1_000):
                await stream.write(question(tag, [tag + 1]))
            while (reply := await _read(stream)) is not None:
                expected = checker.verdicts(
                    *(np.array([n], np.uint64) for n in (reply.tag + 1, 0, 0)), 7
                )
                assert list(reply.batch.status) == expected.status.tolist()
                tags.append(reply.tag)
                if len(tags) == 10:
                    stopped = asyncio.wrap_future(door.stop(30))
            code = await stream.code()
            await stopped
            return tags, code

    tags, code = loop_thread.run(busy())
    assert tags == list(range(len(tags)))
    assert len(tags) >= 10
    assert code in (StatusCode.UNAVAILABLE, StatusCode.OK)


async def _read(stream):
    try:
        reply = await stream.read()
    except grpc.aio.AioRpcError:
        return None
    return None if reply is grpc.aio.EOF else reply


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    message=st.binary(max_size=60)
    | st.builds(
        lambda tag, keys, cut: question(tag, keys).SerializeToString()[cut:],
        st.integers(0, 2**64 - 1),
        st.lists(st.integers(0, 2**64 - 1), max_size=5),
        st.integers(0, 3),
    )
)
def test_any_bytes_on_a_stream_are_answered(raw_stream, message):
    call = raw_stream(iter((message,)), timeout=30)
    if _can_be_asked(message):
        assert len(list(call)) == 1
        return
    with pytest.raises(grpc.RpcError) as ended:
        list(call)
    assert ended.value.code() is StatusCode.INVALID_ARGUMENT


def _can_be_asked(message: bytes) -> bool:
    try:
        batch = wire.CheckStreamRequest.FromString(message).batch
    except DecodeError:
        return False
    columns = len(batch.msisdn), len(batch.imsi)
    return len(batch.imei14) > 0 and columns == (0, 0)


@pytest.fixture
def raw_stream(door, connect):
    return connect(door.address).stream_stream("/eir.v1.Eligibility/CheckStream")
