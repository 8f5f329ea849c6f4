"""What every octet string must satisfy at the S13 codec and peer, for fuzzer and replay."""

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import Fault
from eir.doors.s13_ecr import Question, Reading, compose, forms, judge_ecr, read_ecr
from eir.doors.s13_peer import Node, Peer
from tests.doors.s13 import talk

CAP = 4_096
NODE = Node.of(talk.settings(max_message_bytes=CAP), origin_state_id=7)
FORM = forms(NODE.origin)["greylisted"]


def one_input(octets: bytes) -> None:
    """Run the octets through a peer that is open, and as one ECR through both readings."""
    peer = Peer(NODE, address="127.0.0.1", local_address="127.0.0.1", now=0.0)
    peer.receive(talk.cer(), 0.0)
    peer.take()
    half = len(octets) // 2
    for piece in (octets[:half], octets[half:]):
        for event in peer.receive(piece, 1.0):
            if isinstance(event, Question):
                peer.send(compose([event], [FORM]))
        assert peer.waiting_bytes < CAP
    assert not peer.is_closed or peer.waiting_bytes == 0
    talk.messages(peer.take())  # all that we say can be read
    ecr(octets[: len(octets) // 4 * 4])


def ecr(body: bytes) -> None:
    """The two readings agree on these AVPs, however often the peer says them."""
    reading = Reading(talk.EIR.encode(), frozenset([talk.REALM.encode()]), frozenset([b"*"]))
    octets = talk.ecr(body=body)
    avps, cut = wire.read_avps(octets, 20, len(octets))
    head = wire.read_head(octets, 0)
    full = judge_ecr(head, avps, cut, reading)
    short = read_ecr(octets, 0, len(octets), reading)
    assert short is None or short == full
    if isinstance(full, Fault):
        (answer,) = talk.messages(wire.fault_answer(head, avps, full, NODE.origin))
        assert answer.result == full.result
