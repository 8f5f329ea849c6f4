"""What every gRPC door must do: a verdict for a question, each error its code, limits kept.

These tests know an address and the checker behind it, and nothing of the engine between.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from eir import limits
from eir.core.policy import FIXED_REASONS, Status
from eir.serve.events import Events
from eir.wire.v1 import eligibility_pb2 as wire
from tests.doors.frames import CHECK, Frames

SERVICE = "eir.v1.Eligibility"
NAMES = {number: name for name, number in FIXED_REASONS.items()} | {256: "stolen", 600: "by-decree"}
SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)


def one(value):
    return np.array([value], dtype=np.uint64)


def test_check_carries_every_field_of_every_verdict(open_door, checker, stub_of):
    stub = stub_of(open_door(checker).address)
    seen = set()
    for key in range(10_000_000_000_001, 10_000_000_000_037):
        reply = stub.Check(wire.CheckRequest(imei=str(key)), timeout=30)
        answer = checker.verdicts(one(key), one(0), one(0), checker.serial)
        changed = answer.decided[0] != answer.status[0]
        assert reply.status == answer.status[0]
        assert reply.decided_status == (answer.decided[0] if changed else 0)
        assert reply.reason == answer.reason[0]
        assert reply.reason_name == NAMES[int(answer.reason[0])]
        assert reply.valid_until == answer.valid_until[0]
        assert (reply.registry_serial, reply.operator_serial) == (7, 1_007)
        assert not reply.stale
        seen.add((reply.reason, bool(changed), reply.valid_until > 0))
    assert {reason for reason, _, _ in seen} == set(NAMES)
    assert {changed for _, changed, _ in seen} == {True, False}
    assert {dated for _, _, dated in seen} == {True, False}


def test_stale_is_told(open_door, checker, stub_of, a_check):
    stub = stub_of(open_door(checker).address)
    checker.stale = True
    assert stub.Check(a_check, timeout=30).stale
    assert stub.CheckBatch(wire.CheckBatchRequest(imei14=[1]), timeout=30).stale


@pytest.mark.parametrize(
    ("imei", "key"),
    [
        ("49015420323751", 49015420323751),
        ("490154203237518", 49015420323751),
        ("490154203237510", 49015420323751),
        ("4901542032375101", 49015420323751),
        ("00440123456789", 440123456789),
        ("4901542032375", 0),
        ("49015420323751012", 0),
        ("49015420323751x", 0),
        ("۴۹۰۱۵۴۲۰۳۲۳۷۵۱", 0),
        (" 49015420323751", 0),
        ("00000000000000", 0),
        ("imei", 0),
        ("9" * 10_000, 0),
    ],
)
def test_any_text_for_an_imei_is_a_verdict(open_door, checker, stub_of, imei, key):
    stub_of(open_door(checker).address).Check(wire.CheckRequest(imei=imei), timeout=30)
    assert [int(a[0]) for a in checker.asked[-1]] == [key, 0, 0]


def test_identifiers_reach_the_checker_as_they_are(open_door, checker, stub_of):
    stub = stub_of(open_door(checker).address)
    stub.Check(
        wire.CheckRequest(imei="490154203237518", msisdn="989121234567", imsi="001010123456789"),
        timeout=30,
    )
    assert [int(a[0]) for a in checker.asked[-1]] == [
        49015420323751,
        989121234567,
        1010123456789 << 4 | 15,
    ]


def test_a_batch_equals_its_checks(open_door, checker, stub_of):
    stub = stub_of(open_door(checker).address)
    keys = np.arange(35_000_000_000_000, 35_000_000_000_600, dtype=np.uint64)
    numbers = keys * keys % 991 + 989_120_000_000
    codes = (keys % 777 + 432_110_000_000_000) << np.uint64(4) | np.uint64(15)
    batch = stub.CheckBatch(
        wire.CheckBatchRequest(imei14=keys.tolist(), msisdn=numbers.tolist(), imsi=codes.tolist()),
        timeout=30,
    )
    answer = checker.verdicts(keys, numbers, codes, checker.serial)
    assert list(batch.status) == answer.status.tolist()
    assert list(batch.decided_status) == answer.decided.tolist()
    assert list(batch.reason) == answer.reason.tolist()
    assert list(batch.valid_until) == answer.valid_until.tolist()
    assert answer.valid_until.any()
    assert (batch.registry_serial, batch.operator_serial) == (7, 1_007)
    assert len(checker.asked) == 1


def test_columns_that_say_nothing_are_left_out(open_door, checker, stub_of):
    """No verdict changed by a mode, and none with a date: the two columns are empty."""
    stub = stub_of(open_door(checker).address)
    keys = [k for k in range(1, 400) if (k + 7) % 4 == 0 and (k + 7) % 18 != 11]
    reply = stub.CheckBatch(wire.CheckBatchRequest(imei14=keys), timeout=30)
    assert len(reply.status) == len(reply.reason) == len(keys)
    assert not reply.decided_status
    assert not reply.valid_until


@pytest.mark.parametrize("key", [0, 10**14, 2**64 - 1])
def test_a_batch_key_that_is_no_imei_is_malformed(open_door, checker, stub_of, key):
    stub = stub_of(open_door(checker).address)
    stub.CheckBatch(wire.CheckBatchRequest(imei14=[1, key, 10**14 - 1]), timeout=30)
    assert checker.asked[-1][0].tolist() == [1, 0, 10**14 - 1]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (wire.CheckRequest(), "imei-missing"),
        (wire.CheckRequest(msisdn="989121234567"), "imei-missing"),
        (wire.CheckRequest(imei="490154203237518", msisdn="+989121234567"), "msisdn-unusable"),
        (wire.CheckRequest(imei="490154203237518", msisdn="09121234567"), "msisdn-unusable"),
        (wire.CheckRequest(imei="490154203237518", msisdn="9891"), "msisdn-unusable"),
        (wire.CheckRequest(imei="490154203237518", msisdn="9" * 16), "msisdn-unusable"),
        (wire.CheckRequest(imei="490154203237518", msisdn="۹۸۹۱۲۱۲۳"), "msisdn-unusable"),
        (wire.CheckRequest(imei="490154203237518", imsi="4321"), "imsi-unusable"),
        (wire.CheckRequest(imei="490154203237518", imsi="4" * 16), "imsi-unusable"),
        (wire.CheckRequest(imei="bad", msisdn="bad"), "msisdn-unusable"),
    ],
)
def test_what_cannot_be_asked(open_door, checker, stub_of, failure_of, request_, reason):
    stub = stub_of(open_door(checker).address)
    assert failure_of(stub.Check, request_) == (StatusCode.INVALID_ARGUMENT, reason)
    assert not checker.asked


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"imei14": []}, "batch-empty"),
        ({"msisdn": [989121234567]}, "batch-empty"),
        ({"imei14": [1, 2], "msisdn": [989121234567]}, "batch-uneven"),
        ({"imei14": [1], "imsi": [0, 0]}, "batch-uneven"),
        ({"imei14": [1, 2], "msisdn": [0, 9_999]}, "msisdn-unusable"),
        ({"imei14": [1], "msisdn": [10**15]}, "msisdn-unusable"),
        ({"imei14": [1], "imsi": [43211 << 4 | 4]}, "imsi-unusable"),
        ({"imei14": [1], "imsi": [100_000 << 4 | 5]}, "imsi-unusable"),
        ({"imei14": [1], "imsi": [432110123456789]}, "imsi-unusable"),
        ({"imei14": [1], "imsi": [2**64 - 1]}, "imsi-unusable"),
    ],
)
def test_batches_that_cannot_be_asked(open_door, checker, stub_of, failure_of, columns, reason):
    stub = stub_of(open_door(checker).address)
    request = wire.CheckBatchRequest(**columns)
    assert failure_of(stub.CheckBatch, request) == (StatusCode.INVALID_ARGUMENT, reason)
    assert not checker.asked


def test_the_least_and_the_greatest_identifiers_of_a_batch(open_door, checker, stub_of):
    numbers = [0, 10_000, 10**15 - 1]
    codes = [0, 0 << 4 | 5, (10**15 - 1) << 4 | 15]
    request = wire.CheckBatchRequest(imei14=[1, 2, 3], msisdn=numbers, imsi=codes)
    stub_of(open_door(checker).address).CheckBatch(request, timeout=30)
    assert checker.asked[-1][1].tolist() == numbers
    assert checker.asked[-1][2].tolist() == codes


def test_our_own_fault_is_internal_and_tells_nothing(
    open_door, checker, stub_of, failure_of, a_check, caplog
):
    stub = stub_of(open_door(checker).address)
    checker.failure = RuntimeError("secret 490154203237518")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(a_check, timeout=30)
    assert caught.value.code() is StatusCode.INTERNAL
    assert "secret" not in caught.value.details()
    assert "secret" in caplog.text
    checker.failure = None
    assert stub.Check(a_check, timeout=30).status


def test_an_unknown_method_is_unimplemented(open_door, checker, connect, failure_of):
    channel = connect(open_door(checker).address)
    call = channel.unary_unary(f"/{SERVICE}/Forget")
    assert failure_of(call, b"")[0] is StatusCode.UNIMPLEMENTED


def test_as_many_checks_as_a_message_may_hold_and_one_more(open_door, checker, stub_of, failure_of):
    stub = stub_of(open_door(checker).address)
    most = limits.MAX_CHECKS_PER_MESSAGE
    reply = stub.CheckBatch(wire.CheckBatchRequest(imei14=[5] * most), timeout=30)
    assert len(reply.status) == most
    longer = wire.CheckBatchRequest(imei14=[5] * (most + 1))
    assert failure_of(stub.CheckBatch, longer) == (StatusCode.INVALID_ARGUMENT, "batch-too-long")


def test_a_smaller_cap_by_configuration(open_door, checker, stub_of, failure_of):
    stub = stub_of(open_door(checker, max_checks_per_message=3).address)
    assert len(stub.CheckBatch(wire.CheckBatchRequest(imei14=[5] * 3), timeout=30).status) == 3
    longer = wire.CheckBatchRequest(imei14=[5] * 4)
    assert failure_of(stub.CheckBatch, longer) == (StatusCode.INVALID_ARGUMENT, "batch-too-long")


def test_as_large_a_message_as_is_taken_and_one_byte_more(open_door, checker, connect, failure_of):
    channel = connect(open_door(checker, max_message_bytes=4_096).address)
    call = channel.unary_unary(f"/{SERVICE}/Check")
    assert wire.CheckReply.FromString(call(_padded(4_096), timeout=30)).status
    assert failure_of(call, _padded(4_097))[0] is StatusCode.RESOURCE_EXHAUSTED


def _padded(size: int) -> bytes:
    """A CheckRequest of exactly ``size`` bytes: an unknown field makes up the rest."""
    body = wire.CheckRequest(imei="490154203237518").SerializeToString()
    filling = size - len(body) - 3
    assert 128 <= filling < 1 << 14
    return body + bytes((15 << 3 | 2, filling & 0x7F | 0x80, filling >> 7)) + bytes(filling)


def test_not_ready_is_unavailable_and_then_it_answers(
    open_door, checker, stub_of, failure_of, a_check
):
    checker.ready = False
    stub = stub_of(open_door(checker).address)
    assert failure_of(stub.Check, a_check) == (StatusCode.UNAVAILABLE, "not-ready")
    batch = wire.CheckBatchRequest(imei14=[1])
    assert failure_of(stub.CheckBatch, batch) == (StatusCode.UNAVAILABLE, "not-ready")
    checker.ready = True
    assert stub.Check(a_check, timeout=30).status


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_follows_readiness(open_door, checker, connect, service):
    checker.ready = False
    door = open_door(checker)
    health = health_pb2_grpc.HealthStub(connect(door.address))
    asked = health_pb2.HealthCheckRequest(service=service)
    watch = health.Watch(asked, timeout=30)
    assert next(watch).status == NOT_SERVING
    assert health.Check(asked, timeout=30).status == NOT_SERVING
    checker.ready = True
    door.readiness_changed()
    assert next(watch).status == SERVING
    assert health.Check(asked, timeout=30).status == SERVING
    checker.ready = False
    door.readiness_changed()
    assert next(watch).status == NOT_SERVING


def test_health_of_a_service_that_is_not_here(open_door, checker, connect, failure_of):
    health = health_pb2_grpc.HealthStub(connect(open_door(checker).address))
    asked = health_pb2.HealthCheckRequest(service="eir.v1.Admin")
    assert failure_of(health.Check, asked)[0] is StatusCode.NOT_FOUND
    first = next(health.Watch(asked, timeout=30))
    assert first.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_reflection_lists_the_services_and_their_files(open_door, checker, connect):
    stub = reflection_pb2_grpc.ServerReflectionStub(connect(open_door(checker).address))
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = stub.ServerReflectionInfo(iter(asked), timeout=30)
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    assert "eir.v1.Admin" not in names
    assert described.file_descriptor_response.file_descriptor_proto


def test_verdicts_and_failures_are_counted_by_peer(
    open_door, checker, stub_of, failure_of, a_check
):
    events = Events()
    door = open_door(checker, listen=("127.0.0.1:0", "[::1]:0"), events=events)
    batch = wire.CheckBatchRequest(imei14=range(1, 41))
    for address, host in zip(door.addresses, ("127.0.0.1", "::1"), strict=True):
        stub = stub_of(address)
        statuses = [stub.Check(a_check, timeout=30).status for _ in range(3)]
        statuses += stub.CheckBatch(batch, timeout=30).status
        failure_of(stub.Check, wire.CheckRequest())
        counted = {key[1:3]: times for key, times in events if key[3] == host}
        due = Counter(("answer", Status(status).name.lower()) for status in statuses)
        assert counted == {**due, ("fault", "INVALID_ARGUMENT"): 1}
    assert {key[0] for key, _ in events} == {"grpc"}


def test_a_deadline_is_kept_and_what_waits_past_it_is_not_decided(
    open_door, checker, stub_of, a_check
):
    """The caller has no clock: it is the door that says that the time is over."""
    door = open_door(checker)
    stub = stub_of(door.address)
    stub.Check(a_check, timeout=30)
    checker.gate, checker.entered = threading.Event(), threading.Event()
    held = stub.Check.future(a_check, timeout=30)
    assert checker.entered.wait(30)
    late = Frames(door.address)
    call = late.ask(CHECK, a_check.SerializeToString(), ("grpc-timeout", "100m"))
    late.send()
    assert late.ending(call)[b"grpc-status"] == b"4"
    decided = len(checker.asked)
    checker.gate.set()
    assert held.result(30).status
    assert stub.Check(a_check, timeout=30).status
    assert len(checker.asked) == decided + 1
    late.socket.close()


def test_a_drain_tells_watchers_first_and_does_not_wait_for_them(
    open_door, checker, loop_thread, stub_of, failure_of, a_check
):
    door = open_door(checker)

    async def watched() -> list[int]:
        async with grpc.aio.insecure_channel(door.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            told = [(await watch.read()).status]
            following = asyncio.create_task(watch.read())
            stopped = asyncio.wrap_future(door.stop(60))
            told.append((await following).status)
            assert await watch.read() is grpc.aio.EOF
            await stopped
            return told

    assert loop_thread.run(watched()) == [SERVING, NOT_SERVING]
    assert failure_of(stub_of(door.address).Check, a_check)[0] is StatusCode.UNAVAILABLE


def test_calls_in_flight_finish_in_a_drain(open_door, checker, stub_of, failure_of, a_check):
    """What had come before the drain began is answered, even what nobody had taken up yet.

    All of it comes in one piece: a client's library sends when it gets the processor, and what it
    sends while the door closes is cut.
    """
    door = open_door(checker)
    stub = stub_of(door.address)
    stub.Check(a_check, timeout=30)
    checker.gate, checker.entered = threading.Event(), threading.Event()
    asking = Frames(door.address)
    calls = [asking.ask(CHECK, a_check.SerializeToString()) for _ in range(20)]
    asking.send()
    assert checker.entered.wait(30)
    stopped = door.stop(30)
    checker.gate.set()
    assert [told[b"grpc-status"] for told in asking.endings(calls)] == [b"0"] * 20
    stopped.result(30)
    asking.socket.close()
    assert failure_of(stub.Check, a_check)[0] is StatusCode.UNAVAILABLE


def test_what_outlasts_the_drain_is_cut(open_door, checker, connect):
    door = open_door(checker)
    stub = reflection_pb2_grpc.ServerReflectionStub(connect(door.address))
    over = threading.Event()

    def asked():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        over.wait(30)

    replies = stub.ServerReflectionInfo(asked(), timeout=60)
    assert next(replies).HasField("list_services_response")
    door.stop(0.2).result(30)
    with pytest.raises(grpc.RpcError) as cut:
        next(replies)
    over.set()
    assert cut.value.code() in (StatusCode.CANCELLED, StatusCode.UNAVAILABLE)


def test_each_message_is_decided_on_one_generation(open_door, checker, stub_of):
    """What serves is swapped as fast as can be, and no batch holds verdicts of two serials."""
    address = open_door(checker).address
    keys = np.arange(1, 513, dtype=np.uint64)
    request = wire.CheckBatchRequest(imei14=keys.tolist())
    none = np.zeros_like(keys)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            checker.serial += 1

    def ask(_: int) -> set[int]:
        stub, seen = stub_of(address), set()
        for _round in range(60):
            reply = stub.CheckBatch(request, timeout=30)
            answer = checker.verdicts(keys, none, none, reply.registry_serial)
            assert list(reply.status) == answer.status.tolist()
            assert list(reply.reason) == answer.reason.tolist()
            assert list(reply.valid_until) == answer.valid_until.tolist()
            assert reply.operator_serial == reply.registry_serial + 1_000
            seen.add(reply.registry_serial)
        return seen

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        with ThreadPoolExecutor(4) as clients:
            seen = set().union(*clients.map(ask, range(4)))
    finally:
        over.set()
        swapper.join(30)
    assert len(seen) > 10
    assert len(checker.asked) == 240
