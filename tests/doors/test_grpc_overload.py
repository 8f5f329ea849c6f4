"""Past its capacity the door sheds what comes, at once, and answers what it took up."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

import grpc
import pytest

from eir import limits
from eir.wire.v1 import eligibility_pb2 as wire
from tests.doors.conftest import FakeChecker

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


@dataclass(slots=True)
class Metronome(FakeChecker):
    """Lets two messages be sent for each that it decides, and goes on when they are on their way:
    twice the capacity, whatever that is.
    """

    decided: list[int] = field(default_factory=list)
    sent: int = 0
    turn: threading.Condition = field(default_factory=threading.Condition)

    def check(self, imei, msisdn, imsi):
        answer = FakeChecker.check(self, imei, msisdn, imsi)
        with self.turn:
            self.decided += imei.tolist()
            self.turn.notify_all()
            assert self.turn.wait_for(lambda: self.sent >= min(self.due, MESSAGES), 30)
        return answer

    @property
    def due(self) -> int:
        return 2 * len(self.decided) + 4


MESSAGES = 1_000


def test_at_twice_the_capacity_the_excess_is_shed_and_the_rest_does_not_wait(
    open_door, connect, stub_of, monkeypatch
):
    """Time is told in messages decided: without a bound, the last ones would wait for 500."""
    monkeypatch.setattr(limits, "MAX_GRPC_WAITING_CALLS", 32)
    checker = Metronome()
    address = open_door(checker, max_calls=32).address
    stubs = [stub_of(address) for _ in range(4)]
    calls, sent_at = [], []
    for number in range(1, MESSAGES + 1):
        request = wire.CheckBatchRequest(imei14=[number])
        with checker.turn:
            assert checker.turn.wait_for(lambda: checker.sent < checker.due, 30)
            sent_at.append(len(checker.decided))
            calls.append(stubs[number % 4].CheckBatch.future(request, timeout=60))
            checker.sent += 1
            checker.turn.notify_all()
    codes = Counter(call.code() for call in calls)
    shed = codes.total() - codes[grpc.StatusCode.OK]
    assert set(codes) <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,  # grpcio's own word for it
    }
    assert shed > 100, codes
    assert codes[grpc.StatusCode.OK] == len(checker.decided), "work was done for nobody"
    decided_at = {number: at for at, number in enumerate(checker.decided)}
    waits = [decided_at[n] - sent for n, sent in enumerate(sent_at, 1) if n in decided_at]
    assert max(waits) < 250, "what is taken up waits, though what comes is shed"
