"""Past its capacity the door sheds what comes, at once, and answers what it took up."""

from __future__ import annotations

import threading
from collections import Counter

import grpc
import pytest

from eir import limits

A_FEW = 16


@pytest.fixture
def slow(checker):
    """A checker that holds its first check, and with it the door, until the gate opens."""
    checker.gate = threading.Event()
    yield checker
    checker.gate.set()


def test_what_waits_is_bounded_and_the_rest_is_shed_at_once(open_grpcio, stub_of, a_check, slow):
    """The native door has bounds, and a test, of its own."""
    stub = stub_of(open_grpcio(slow).address)
    first = stub.Check.future(a_check, timeout=60)
    assert slow.entered.wait(30)
    shed: Counter[grpc.StatusCode] = Counter()
    told = threading.Condition()

    def ended(call: grpc.Future) -> None:
        with told:
            shed[call.code()] += 1
            told.notify_all()

    asked = [
        stub.Check.future(a_check, timeout=60) for _ in range(2 * limits.MAX_GRPC_WAITING_CALLS)
    ]
    for call in asked:
        call.add_done_callback(ended)
    with told:
        enough = limits.MAX_GRPC_WAITING_CALLS - A_FEW
        assert told.wait_for(lambda: shed.total() >= enough, 30), shed
        assert set(shed) <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    slow.gate.set()
    codes = Counter(call.code() for call in asked)
    assert first.result().reason
    assert 0 < codes[grpc.StatusCode.OK] <= limits.MAX_GRPC_WAITING_CALLS + A_FEW
    assert len(slow.asked) == codes[grpc.StatusCode.OK] + 1, "work was done for nobody"
