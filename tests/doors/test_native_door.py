"""What is the native door's own: many messages decided as one, and no more of them than may wait.

What it has in common with the other gRPC engine is in the conformance tests.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from eir import limits
from eir.core.golden import golden_tables
from eir.core.policy import Policy
from eir.doors import eligibility_codec as codec
from eir.doors.check_reader import read_checks
from eir.doors.check_replies import CheckReplies
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.native_door import NativeDoor, NativeSettings, _Desk
from eir.doors.rpc_counts import RpcCounts
from eir.errors import Refused
from eir.ops.doors import open_doors
from eir.ops.settings.config import read_config
from eir.serve.checker import Checker
from eir.serve.events import Events
from eir.serve.holder import Holder, Serving
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc
from tests.doors.conftest import FakeChecker, OutsideItsLoop

DIGITS = st.text("0123456789", max_size=17)
PLAIN = st.builds(
    lambda imei, msisdn, imsi: wire.CheckRequest(
        imei=imei, msisdn=msisdn, imsi=imsi
    ).SerializeToString(),
    st.from_regex(r"\A[0-9]{13,17}\Z") | DIGITS | st.text(max_size=16),
    st.from_regex(r"\A[0-9]{4,16}\Z") | st.just(""),
    st.from_regex(r"\A[0-9]{4,16}\Z") | st.just(""),
)
CUT = st.builds(lambda message, end: message[:end], PLAIN, st.integers(0, 40))
FLIPPED = st.builds(
    lambda message, place, byte: message[:place] + bytes((byte,)) + message[place + 1 :],
    PLAIN,
    st.integers(0, 40),
    st.integers(0, 255),
)
JOINED = st.builds(lambda one, other: one + other, PLAIN, PLAIN)
MESSAGES = st.lists(PLAIN | CUT | FLIPPED | JOINED | st.binary(max_size=40), min_size=1, max_size=8)


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_many_messages_are_read_as_each_by_itself(messages):
    gathered = read_checks(messages)
    rows, refused = [], {}
    for place, message in enumerate(messages):
        try:
            one = codec.read_check(message)
        except Refused as refusal:
            refused[place] = refusal.reason
        else:
            rows.append((one.imei[0], one.msisdn[0], one.imsi[0]))
    assert {place: refusal.reason for place, refusal in gathered.refused.items()} == refused
    asked = gathered.asked
    assert list(zip(asked.imei, asked.msisdn, asked.imsi, strict=True)) == rows


def test_replies_are_those_of_the_codec_also_when_the_data_change():
    checker, replies = FakeChecker(), CheckReplies()
    keys = np.arange(1, 200, dtype=np.uint64)
    none = np.zeros_like(keys)
    for serial, stale in ((7, False), (7, True), (8, True), (7, False)):
        checker.stale = stale
        answer = checker.verdicts(keys, none, none, serial)
        for place, reply in enumerate(replies.write(answer)):
            one = checker.verdicts(keys[place : place + 1], none[:1], none[:1], serial)
            assert reply == codec.write_check(one)


class Crowd:
    """Calls that wait while one is being decided: all have come when ``gather`` returns."""

    def __init__(self, checker, channel, a_check):
        self._checker = checker
        self._channel = channel
        self._a_check = a_check
        self._stub = wire_grpc.EligibilityStub(channel)

    def gather(self, requests):
        self._checker.gate, self._checker.entered = threading.Event(), threading.Event()
        self.held = self._stub.Check.future(self._a_check, timeout=60)
        assert self._checker.entered.wait(30)
        calls = [self._stub.Check.future(request, timeout=60) for request in requests]
        health = health_pb2_grpc.HealthStub(self._channel)
        for _ in range(2):  # behind the calls on the same connection, answered by another road
            health.Check(health_pb2.HealthCheckRequest(), timeout=30)
        return calls

    def release(self):
        self._checker.gate.set()
        assert self.held.result(30).status


def outcomes(calls):
    return Counter(call.code() for call in calls)


def test_what_waits_is_decided_together(open_native, checker, connect, a_check):
    crowd = Crowd(checker, connect(open_native(checker).address), a_check)
    keys = range(35_000_000_000_000, 35_000_000_000_100)
    calls = crowd.gather([wire.CheckRequest(imei=str(key)) for key in keys])
    crowd.release()
    replies = [call.result(30) for call in calls]
    assert len(checker.asked) < 10
    for key, reply in zip(keys, replies, strict=True):
        one = np.array([key], np.uint64)
        due = checker.verdicts(one, one * 0, one * 0, checker.serial)
        assert (reply.status, reply.reason) == (due.status[0], due.reason[0])


def test_one_bad_question_is_refused_alone(open_native, checker, connect, a_check):
    crowd = Crowd(checker, connect(open_native(checker).address), a_check)
    bad = wire.CheckRequest(imei="490154203237518", msisdn="bad")
    calls = crowd.gather([a_check, bad, a_check, wire.CheckRequest(), a_check])
    crowd.release()
    assert outcomes(calls) == {StatusCode.OK: 3, StatusCode.INVALID_ARGUMENT: 2}
    assert calls[1].details().startswith("msisdn-unusable:")
    assert calls[3].details().startswith("imei-missing:")


def test_a_fault_of_ours_ends_the_calls_decided_with_it_and_no_other(
    open_native, checker, connect, a_check, stub_of
):
    door = open_native(checker)
    crowd = Crowd(checker, connect(door.address), a_check)
    calls = crowd.gather([a_check] * 5)
    checker.failure = RuntimeError("ours")
    checker.gate.set()
    assert outcomes(calls) == {StatusCode.INTERNAL: 5}
    checker.failure = None
    assert stub_of(door.address).Check(a_check, timeout=30).status


def test_beyond_what_may_wait_calls_are_refused_before_anything_is_decided(
    open_native, checker, connect, a_check, stub_of
):
    events = Events()
    door = open_native(checker, max_calls=8, events=events)
    crowd = Crowd(checker, connect(door.address), a_check)
    calls = crowd.gather([a_check] * 100)
    refused = queue.SimpleQueue()
    for call in calls:
        call.add_done_callback(refused.put)
    held, checker.gate = checker.gate, threading.Event()
    held.set()  # the next decision is held again
    for _ in range(92):
        call = refused.get(timeout=30)
        assert call.code() is StatusCode.RESOURCE_EXHAUSTED
        assert call.details().startswith("calls-exhausted:")
    assert refused.empty()
    checker.gate.set()
    assert outcomes(calls) == {StatusCode.OK: 8, StatusCode.RESOURCE_EXHAUSTED: 92}
    assert events["grpc", "fault", "RESOURCE_EXHAUSTED", "127.0.0.1"] == 92
    assert sum(len(imei) for imei, _, _ in checker.asked) == 1 + 8, "work was done for nobody"
    assert stub_of(door.address).Check(a_check, timeout=30).status


def test_beyond_what_a_connection_may_have_open_its_client_waits(
    loop_thread, checker, stub_of, a_check
):
    checker.gate = threading.Event()
    address = ("127.0.0.1:0",)
    chosen = NativeSettings(listen=address, calls_per_connection=4)
    door = NativeDoor(
        chosen, checker, lambda behind: GrpcDoor(GrpcSettings(listen=(behind,)), checker)
    )
    outside = OutsideItsLoop(loop_thread, door)
    try:
        stub = stub_of(outside.address)
        calls = [stub.Check.future(a_check, timeout=60) for _ in range(40)]
        assert checker.entered.wait(30)
        checker.gate.set()
        assert outcomes(calls) == {StatusCode.OK: 40}
        assert max(len(imei) for imei, _, _ in checker.asked) <= 4
    finally:
        outside.stop(0).result(30)


def test_no_more_bytes_wait_than_may(open_native, checker, connect, a_check, monkeypatch):
    monkeypatch.setattr(limits, "MAX_WAITING_BYTES", 40_000)
    crowd = Crowd(checker, connect(open_native(checker).address), a_check)
    long = wire.CheckRequest(imei="9" * 10_000)
    calls = crowd.gather([long] * 20)
    crowd.release()
    ended = outcomes(calls)
    assert set(ended) == {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}
    assert ended[StatusCode.OK] >= 3


ONE = wire.CheckRequest(imei="490154203237518").SerializeToString()
MANY = wire.CheckBatchRequest(imei14=[49_015_420_323_751]).SerializeToString()
COSTS = st.lists(st.sampled_from([0.0, 1 / 1024, 1 / 128, 1 / 64, 1 / 16, 1 / 4]), max_size=40)


class Slow:
    """A front and what decides: takes of batches and two checks, and how long each decision lasts.

    ``ended`` has for each take of each call how, and when its decision began.
    """

    def __init__(self, takes):
        self.takes, self.ended, self.now = takes, [], 0.0

    def start(self): ...

    def recv_batch(self, *_):
        self.ended.append({})
        if len(self.ended) > len(self.takes):
            return None
        self.costs = iter(self.takes[len(self.ended) - 1])
        methods = [1] * len(self.takes[len(self.ended) - 1]) + [0, 0]
        return [(0, at, of, (ONE, MANY)[of], "unix:") for at, of in enumerate(methods)]

    def decide(self, asked):
        self.begun = self.now
        self.now += next(self.costs, 0.0)
        return FakeChecker().check(asked.imei, asked.msisdn, asked.imsi)

    def respond(self, number, _reply):
        assert number not in self.ended[-1]
        self.ended[-1][number] = ("answered", self.begun)

    def fail(self, number, code, words):
        assert (code, words.partition(":")[0]) == (8, "calls-exhausted")
        assert number not in self.ended[-1]
        self.ended[-1][number] = ("refused", self.now)
        return True


@settings(max_examples=200, deadline=None)
@given(st.lists(COSTS.map(lambda costs: [0.0, *costs]), max_size=6))
def test_a_take_is_worked_at_for_so_long_and_the_rest_refused(takes):
    slow = Slow(takes)
    desk = _Desk(slow, NativeSettings(), slow.decide, RpcCounts(None), lambda: slow.now)
    desk.open()
    desk.join()
    taken_at = 0.0
    for costs, ended in zip(takes, slow.ended, strict=False):
        assert sorted(ended) == list(range(len(costs) + 2)), "a call has no end"
        assert {ended[len(costs)], ended[len(costs) + 1]} == {("answered", taken_at)}
        for how, at in ended.values():
            assert (how == "answered") == (at <= taken_at + limits.MAX_TAKE_SECONDS)
        answered = sum(how == "answered" for how, _ in ended.values()) - 2
        assert all(ended[number][0] == "answered" for number in range(answered)), "out of turn"
        taken_at += sum(costs[: answered + 1])


NATIVE = '[grpc]\nlisten = ["127.0.0.1:0"]\nengine = "native"\n'


async def test_a_node_opens_the_engine_that_is_configured(tmp_path):
    config = read_config(NATIVE + "calls_per_connection = 7\n", name="test", folder=tmp_path)
    holder = Holder()
    holder.swap(Serving(golden_tables(Policy()), 1_750_000_000))
    doors = await open_doors(config, Checker(holder), holder, only_one=True)
    try:
        assert [type(door).__name__ for door in doors.doors] == ["NativeDoor"]
        assert doors.doors[0]._settings.calls_per_connection == 7
        async with grpc.aio.insecure_channel(doors.addresses[0]) as channel:
            reply = await wire_grpc.EligibilityStub(channel).Check(
                wire.CheckRequest(imei="not one"), timeout=30
            )
            assert reply.reason_name == "malformed-imei"
    finally:
        await doors.stop()


def test_native_and_tls_exclude_each_other(tmp_path):
    text = NATIVE + 'tls_cert = "a.pem"\ntls_key = "b.pem"\n'
    with pytest.raises(Refused) as refused:
        read_config(text, name="test", folder=tmp_path)
    assert refused.value.reason == "config-conflict"
    assert "native speaks no TLS" in refused.value.detail


def test_a_desk_that_fails_ends_its_worker(monkeypatch):
    class Broken:
        def start(self) -> None: ...

        def recv_batch(self, *_: object) -> None:
            raise RuntimeError("out of order")

    ended = []
    monkeypatch.setattr("eir.doors.native_door.end_loudly", lambda _, why: ended.append(str(why)))
    desk = _Desk(Broken(), NativeSettings(), FakeChecker().check, RpcCounts(None))
    desk.open()
    desk.join()
    assert ended == ["out of order"]
