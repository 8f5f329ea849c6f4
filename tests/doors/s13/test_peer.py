"""The peer's life: what is heard, when, and what follows."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import avp, avp_u32
from eir.doors.s13_ecr import Question
from eir.doors.s13_peer import BUSY, REBOOTING, Closed, Faulted, Node, Opened, Peer, Phase
from eir.doors.s13_settings import PeerRule
from tests.doors.s13 import talk
from tests.doors.s13.talk import MME, ORIGIN, base, cer, dpr, ecr, ecr_of, messages

RELAY = "dra.epc.example.org"


def peer(now=0.0, address="127.0.0.1", admit=lambda _: True, names=None, **changes) -> Peer:
    node = Node.of(talk.settings(**changes), origin_state_id=7)
    return Peer(
        node,
        address=address,
        local_address="127.0.0.1",
        now=now,
        admit=admit,
        certificate_names=names,
    )


def opened(now=0.0, **changes) -> Peer:
    one = peer(now, **changes)
    assert one.receive(cer(), now) == [Opened(MME)]
    one.take()
    return one


def said(one: Peer) -> list[talk.Message]:
    return messages(one.take())


def test_cer_is_answered_with_what_we_are():
    one = peer()
    assert one.receive(cer(), 0) == [Opened(MME)]
    (cea,) = said(one)
    assert cea.result == 2001
    assert cea.head.flags == 0
    assert cea.number(wire.ORIGIN_STATE_ID) == 7
    assert cea.number(wire.SUPPORTED_VENDOR_ID) == 10415
    assert cea.value(260) == avp_u32(266, 10415) + avp_u32(258, 16777252)
    assert cea.value(wire.HOST_IP_ADDRESS) == b"\0\1\x7f\0\0\1"


VSAI = avp(260, avp_u32(266, 10415) + avp_u32(258, 16777252))


@pytest.mark.parametrize(
    "offers", [VSAI, avp_u32(258, 16777252), avp_u32(258, 0xFFFFFFFF), avp_u32(258, 4) + VSAI]
)
def test_each_way_of_offering_s13(offers):
    one = peer()
    assert one.receive(cer(offers=offers), 0) == [Opened(MME)]


@pytest.mark.parametrize(
    ("octets", "changes", "result", "error"),
    [
        (cer(host="stranger.example.org"), {}, 3010, True),
        (cer(), {"address": "10.9.9.9"}, 3010, True),
        (cer(), {"names": frozenset(["other.example.org"])}, 3010, True),
        (cer(), {"admit": lambda _: False}, 3004, True),
        (cer(offers=avp_u32(258, 16777251)), {}, 5010, False),
        (cer(offers=b""), {}, 5010, False),
        (cer(extra=avp_u32(299, 1)), {}, 5017, False),
        (base(257, avp(264, MME.encode())), {}, 5005, False),
        (base(257, b"\0\0\1\7\x40\0\0\1"), {}, 5014, False),
    ],
)
def test_a_cer_that_is_refused_is_told_why_and_closed(octets, changes, result, error):
    rule = PeerRule(origin_host=MME, addresses=("127.0.0.0/8",))
    one = peer(peers=(rule,), **changes)
    events = one.receive(octets + ecr(), 0)
    assert [type(event) for event in events] == [Faulted, Closed]
    assert events[0].result == result
    assert events[1].reason == "cer-refused"
    (answer,) = said(one)
    assert answer.result == result
    assert answer.head.command == 257
    assert bool(answer.head.flags & wire.ERROR) == error
    assert one.receive(ecr(), 1) == []


def test_names_are_compared_without_case():
    one = peer(names=frozenset([MME]))
    assert one.receive(cer(host=MME.upper()), 0) == [Opened(MME)]


def test_a_second_cer_is_answered_again_but_changes_nobody():
    one = opened()
    assert one.receive(cer(), 1) == []
    assert said(one)[0].result == 2001
    rules = (PeerRule(origin_host=MME), PeerRule(origin_host=RELAY))
    other = opened(peers=rules)
    assert other.receive(cer(host=RELAY), 1)[-1] == Closed("cer-refused")
    assert said(other)[0].result == 3010


@pytest.mark.parametrize("octets", [ecr(), base(280), dpr(), b"GET / HTTP/1.1\r\n\r\n", bytes(40)])
def test_before_the_cer_there_is_nothing_to_say(octets):
    one = peer()
    (closed,) = one.receive(octets, 0)
    assert closed.reason in ("no-cer", "no-diameter")
    assert one.take() == b""


def test_dwr_is_answered_at_once():
    one = opened()
    assert one.receive(base(280, number=8), 1) == []
    (dwa,) = said(one)
    assert (dwa.result, dwa.head.command, dwa.head.hop_by_hop) == (2001, 280, 8)
    assert dwa.number(wire.ORIGIN_STATE_ID) == 7


def test_own_dwr_only_when_idle_and_two_unanswered_end_it():
    one = opened(0.0)
    assert one.tick(29.9) == []
    one.receive(ecr(), 29.9)
    assert one.tick(59.8) == []
    assert one.take() == b"", "traffic put it off"
    assert one.tick(60.0) == []
    (dwr,) = said(one)
    assert (dwr.head.command, dwr.head.flags) == (280, 0x80)
    assert one.tick(90.1) == []
    assert len(said(one)) == 1
    assert one.tick(120.2) == [Closed("watchdog")]


def test_any_message_shows_that_the_peer_lives():
    one = opened(0.0)
    for round_ in range(1, 6):
        assert one.tick(31.0 * round_) == []
        (dwr,) = said(one)
        dwa = wire.message(dwr.head, avp_u32(268, 2001) + ORIGIN, flags=0)
        assert one.receive(dwa, 31.0 * round_) == []
    assert one.phase is Phase.OPEN


def test_dpr_is_answered_after_the_answers_of_the_same_read():
    one = opened()
    (question,) = one.receive(ecr() + dpr() + ecr(), 1)
    assert isinstance(question, Question)
    one.send(b"the answer")
    octets = one.take()
    assert octets.startswith(b"the answer")
    (dpa,) = messages(octets[len(b"the answer") :])
    assert (dpa.head.command, dpa.result) == (282, 2001)
    assert one.tick(5.9) == []
    assert one.tick(6.0) == [Closed("left")]


@pytest.mark.parametrize("cause", [REBOOTING, BUSY])
def test_leaving_says_dpr_and_answers_until_the_dpa(cause):
    one = opened()
    assert one.leave(cause, 1) == []
    assert one.leave(cause, 1) == []
    (dpr_,) = said(one)
    assert (dpr_.head.command, dpr_.number(273)) == (282, cause)
    (question,) = one.receive(ecr(), 2)
    assert isinstance(question, Question)
    dpa = wire.message(dpr_.head, avp_u32(268, 2001) + ORIGIN, flags=0)
    assert one.receive(dpa, 3) == [Closed("left")]


def test_leaving_without_dpa_ends_too():
    one = opened()
    one.leave(REBOOTING, 1)
    assert one.tick(5.9) == []
    assert one.tick(6.0) == [Closed("dpa-timeout")]


def test_leaving_before_the_cer_is_a_close():
    assert peer().leave(REBOOTING, 0) == [Closed("leaving")]


def test_no_cer_in_time():
    one = peer(now=100.0)
    assert one.tick(109.9) == []
    assert one.tick(110.0) == [Closed("cer-timeout")]


def test_a_message_that_never_ends_is_not_waited_for():
    one = opened()
    octets = ecr()
    assert one.receive(octets + octets[:50], 1.0)[1:] == []
    assert one.receive(octets[50:60], 10.9) == []
    assert one.tick(10.9) == []
    assert one.tick(11.0) == [Closed("message-timeout")]


@pytest.mark.parametrize(
    ("octets", "result", "error"),
    [
        (ecr(command=316), 3001, True),
        (ecr(command=324, application=16777251), 3007, True),
        (ecr(command=316, application=16777251), 3007, True),
        (ecr(command=324, application=0), 3007, True),
        (ecr(command=280), 3001, True),
        (base(271), 3001, True),
        (ecr(flags=0x60), 3008, True),
        (base(280, b"\0\0\1\7\x40\0\0\0"), 5014, False),
        (ecr_of(session=None), 5005, True),
        (ecr_of(state=None), 5005, False),
    ],
)
def test_a_request_in_error_is_answered_and_the_connection_lives(octets, result, error):
    one = opened()
    events = one.receive(octets + ecr(), 1)
    assert [type(e) for e in events] == [Faulted, Question]
    assert events[0].result == result
    (answer,) = said(one)
    assert answer.result == result
    assert bool(answer.head.flags & wire.ERROR) == error
    assert answer.head.hop_by_hop == wire.read_head(octets, 0).hop_by_hop


@pytest.mark.parametrize(
    ("first", "result"), [("02000014", 5011), ("01000010", 5015), ("01fffffc", 5015)]
)
def test_a_request_that_cannot_be_framed_is_answered_and_closed(first, result):
    one = opened()
    octets = bytes.fromhex(first) + ecr()[4:]
    for at in range(19):
        assert one.receive(octets[at : at + 1], 1) == []
    events = one.receive(octets[19:], 1)
    assert [type(e) for e in events] == [Faulted, Closed]
    assert said(one)[0].result == result


def test_an_answer_nobody_asked_for_is_ignored():
    one = opened()
    stray = wire.message(wire.read_head(ecr(), 0), avp_u32(268, 2001), flags=0)
    assert one.receive(stray + base(280), 1) == []
    assert len(said(one)) == 1


def test_a_retransmission_is_answered_as_the_first():
    one = opened()
    first, again = one.receive(ecr() + ecr(flags=0x50), 1)
    assert first == again


SPEECHES = {
    "cer": cer(),
    "ecr": ecr(),
    "other ecr": ecr(b"353328110010010", number=9, extra=avp(284, b"state")),
    "bad ecr": ecr_of(state=None),
    "dwr": base(280),
    "dpr": dpr(),
    "unknown": base(271),
    "unframed": bytes.fromhex("01000010") + ecr()[4:],
    "noise": b"\x16\x03\x01\x02\x00" + bytes(30),
}


def heard(pieces: list[bytes]) -> tuple[list[object], bytes]:
    one, events, octets = peer(), [], b""
    for piece in pieces:
        for event in one.receive(piece, 1.0):
            events.append(event)
            if isinstance(event, Question):
                one.send(b"")
        octets += one.take()
    return events, octets


@pytest.mark.parametrize(
    "pair", [("cer", "ecr"), ("cer", "dwr"), ("cer", "unframed"), ("noise", "cer")]
)
def test_two_messages_cut_at_every_octet_give_the_same_events(pair):
    whole = SPEECHES[pair[0]] + SPEECHES[pair[1]]
    expected = heard([whole])
    for at in range(1, len(whole)):
        assert heard([whole[:at], whole[at:]]) == expected, at
    assert heard([whole[at : at + 1] for at in range(len(whole))]) == expected


@hypothesis_settings(max_examples=150)
@given(
    st.lists(st.sampled_from(sorted(SPEECHES)), min_size=1, max_size=6),
    st.lists(st.integers(0, 2000), max_size=12),
)
def test_any_speech_cut_anywhere_gives_the_same_events(names, cuts):
    whole = SPEECHES["cer"] + b"".join(SPEECHES[name] for name in names)
    borders = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[a:b] for a, b in pairwise(borders)]
    assert heard(pieces) == heard([whole])


@hypothesis_settings(max_examples=300)
@given(
    st.lists(
        st.one_of(st.binary(max_size=200), st.sampled_from(sorted(SPEECHES)).map(SPEECHES.get)),
        max_size=10,
    )
)
def test_each_receive_consumes_waits_within_the_cap_or_closes(pieces):
    one = peer(max_message_bytes=1024)
    for piece in pieces:
        one.receive(piece, 1.0)
        assert one.waiting_bytes < 1024
        assert not (one.is_closed and one.waiting_bytes)
    if one.waiting_bytes:
        assert one.tick(12.0) in ([Closed("message-timeout")], [Closed("cer-timeout")])
