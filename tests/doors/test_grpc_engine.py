"""The door with the real engine behind it: verdicts of the table, and law 11 across swaps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eir.wire.v1 import eligibility_pb2 as wire


@pytest.fixture
def door(open_streaming_door, engine):
    return open_streaming_door(engine.checker)


def test_the_same_verdicts_by_every_road(door, engine, stub_of):
    engine.holder.swap(engine.first)
    stub = stub_of(door.address)
    batch = stub.CheckBatch(engine.batch, timeout=60)
    (streamed,) = stub.CheckStream(
        iter([wire.CheckStreamRequest(tag=9, batch=engine.batch)]), timeout=60
    )
    assert streamed.batch == batch
    for place in range(0, len(engine.keys), 37):
        request = wire.CheckRequest(
            imei=f"{engine.batch.imei14[place]:014d}0", msisdn=str(engine.batch.msisdn[place])
        )
        reply = stub.Check(request, timeout=60)
        assert reply.status == batch.status[place]
        assert reply.reason == batch.reason[place]
        assert reply.reason_name == engine.reason_names[reply.reason]
        assert reply.valid_until == batch.valid_until[place]
        assert reply.registry_serial == batch.registry_serial == 1
    assert list(batch.reason) == engine.reasons[1]


def test_each_request_sees_exactly_one_generation(door, engine, stub_of):
    """Generations in which no device has the same verdict are swapped under batches and streams."""
    engine.holder.swap(engine.first)
    stub = stub_of(door.address)
    stub.CheckBatch(engine.batch, timeout=60)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            engine.holder.swap(engine.second)
            engine.holder.swap(engine.first)

    def batches(_: int) -> set[int]:
        replies = [stub.CheckBatch(engine.batch, timeout=60) for _ in range(50)]
        return {_serial_of(engine, reply) for reply in replies}

    def streamed(_: int) -> set[int]:
        questions = (wire.CheckStreamRequest(tag=t, batch=engine.batch) for t in range(50))
        return {_serial_of(engine, r.batch) for r in stub.CheckStream(questions, timeout=60)}

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        with ThreadPoolExecutor(4) as clients:
            seen = [*clients.map(batches, range(2)), *clients.map(streamed, range(2))]
    finally:
        over.set()
        swapper.join(60)
    assert set().union(*seen) == {1, 2}


def _serial_of(engine, reply) -> int:
    assert list(reply.reason) == engine.reasons[reply.registry_serial]
    return reply.registry_serial


def test_the_door_follows_the_holder(door, engine, connect, stub_of, failure_of, a_check):
    engine.holder.listen(lambda _: door.readiness_changed())
    watch = health_pb2_grpc.HealthStub(connect(door.address)).Watch(
        health_pb2.HealthCheckRequest(), timeout=60
    )
    stub = stub_of(door.address)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert failure_of(stub.Check, a_check)[0] is StatusCode.UNAVAILABLE
    engine.holder.swap(engine.first)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    assert stub.Check(a_check, timeout=60).reason_name == "not-registered"
    engine.holder.swap(None)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert failure_of(stub.Check, a_check)[0] is StatusCode.UNAVAILABLE
