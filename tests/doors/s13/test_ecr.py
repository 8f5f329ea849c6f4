"""The ECR's two readings, every error row, and the answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core.imei import key_from_digits
from eir.core.subscriber import imsi_from_digits
from eir.doors import s13_codec as wire
from eir.doors.s13_codec import Fault, avp, avp_u32
from eir.doors.s13_ecr import MAX_KNOWN, Question, Reading, compose, forms, judge_ecr, read_ecr
from tests.doors.s13 import talk
from tests.doors.s13.talk import MME, ORIGIN, REALM, WHITE, ecr, ecr_of, messages

G = 10415
VSAI = avp(260, avp_u32(266, G) + avp_u32(258, wire.S13_APPLICATION))
NUMBER = avp(701, bytes.fromhex("8919214365f7"), vendor=G, flags=0)  # +98 91 12 34 56 7


def reading(*trusted: bytes) -> Reading:
    return Reading(talk.EIR.encode(), frozenset([REALM.encode()]), frozenset(trusted))


def judged(octets: bytes, how: Reading) -> Question | Fault:
    avps, cut = wire.read_avps(octets, 20, len(octets))
    return judge_ecr(wire.read_head(octets, 0), avps, cut, how)


def terminal(*inside: bytes) -> bytes:
    return avp(1401, b"".join(inside), vendor=G)


def imei(value: bytes, flags: int = 0x40) -> bytes:
    return avp(1402, value, vendor=G, flags=flags)


def test_the_ordinary_ecr_goes_the_short_way_once_its_peer_is_known():
    how, octets = reading(), ecr()
    assert read_ecr(octets, 0, len(octets), how) is None, "nothing is known of the peer yet"
    question = judged(octets, how)
    assert question.imei == WHITE
    assert question.imsi == imsi_from_digits("432110123456789")
    assert read_ecr(octets, 0, len(octets), how) == question


PIECES = {
    "session": [
        avp(263, b"a;1;2"),
        avp(263, b""),
        avp(263, b"\xff\xfe"),
        avp(263, b"a;1", flags=0),
    ],
    "state": [wire.NO_STATE, avp_u32(277, 0), avp_u32(277, 5), avp(277, b"\0\0\1")],
    "host": [
        avp(264, MME.encode()),
        avp(264, b""),
        avp(264, b"h\xf6st"),
        avp(264, b"other.example"),
    ],
    "realm": [avp(296, REALM.encode()), avp(296, b"")],
    "to": [avp(283, REALM.encode()), avp(283, REALM.upper().encode()), avp(283, b"elsewhere")],
    "terminal": [
        terminal(imei(b"490154203237510")),
        terminal(imei(b"49015420323751"), avp(1403, b"07", vendor=G)),
        terminal(imei(b"4901542032375107"), avp(1403, b"\xff", vendor=G)),
        terminal(imei(b"12345")),
        terminal(imei(b"")),
        terminal(imei(b"490154203237510"), imei(b"490154203237510")),
        terminal(avp(1403, b"07", vendor=G)),
        terminal(imei(b"490154203237510"), avp(9999, b"x", vendor=G)),
        terminal(imei(b"490154203237510") + b"\0\0\0\1"),
        avp(1401, imei(b"490154203237510")),
        terminal(imei(b"490154203237510", flags=0)),
    ],
    "extra": [
        b"",
        VSAI,
        VSAI + VSAI,
        NUMBER,
        avp(701, b"\x89", vendor=G),
        avp(1, b"432110123456789"),
        avp(1, b"432110123456789") * 2,
        avp(1, b"someone@example.org"),
        avp(293, talk.EIR.encode()),
        avp(293, b"other"),
        avp(282, b"relay.example.org") * 2,
        avp(284, avp(280, b"p") + avp(33, b"s")) * 2,
        avp(7777, b"unknown", flags=0),
        avp(7777, b"unknown"),
        avp_u32(301, 3, flags=0),
        b"\0\0\0\1\0\0\0\0",
        b"\0\0\1\7",
    ],
}


@settings(max_examples=300)
@given(
    st.fixed_dictionaries({name: st.sampled_from([*some, None]) for name, some in PIECES.items()}),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_what_the_short_way_accepts_the_full_reading_reads_alike(chosen, random, trusted):
    how = reading(MME.encode()) if trusted else reading()
    judged(ecr(), how)
    listed = [value for value in chosen.values() if value is not None]
    random.shuffle(listed)
    octets = ecr(body=b"".join(listed))
    full = judged(octets, how)
    for _ in range(2):  # the second time with all that the first has made known
        short = read_ecr(octets, 0, len(octets), how)
        assert short is None or short == full


@settings(max_examples=300)
@given(st.data())
def test_a_changed_octet_is_read_alike_by_both(data):
    how = reading(MME.encode())
    octets = bytearray(ecr(extra=NUMBER))
    judged(bytes(octets), how)
    assert read_ecr(bytes(octets), 0, len(octets), how) is not None
    at = data.draw(st.integers(20, len(octets) - 1))
    octets[at] = data.draw(st.integers(0, 255))
    short = read_ecr(bytes(octets), 0, len(octets), how)
    assert short is None or short == judged(bytes(octets), how)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_no_octets_break_either_reading_nor_reach_past_the_end(body, after):
    body = body[: len(body) // 4 * 4]
    octets = ecr(body=body)
    how = reading()
    alone, followed = (
        read_ecr(octets, 0, len(octets), how),
        read_ecr(octets + after, 0, len(octets), how),
    )
    assert alone == followed
    assert isinstance(judged(octets, how), Question | Fault)


@pytest.mark.parametrize(
    ("changes", "result", "failed"),
    [
        ({"session": None}, 5005, (263, b"")),
        ({"state": None}, 5005, (277, bytes(4))),
        ({"host": None}, 5005, (264, b"")),
        ({"realm": None}, 5005, (296, b"")),
        ({"to": None}, 5005, (283, b"")),
        ({"terminal": None}, 5005, (1401, b"")),
        ({"terminal": terminal()}, 5005, (1401, imei(b""))),
        ({"terminal": terminal(imei(b""))}, 5004, (1401, imei(b""))),
        ({"terminal": terminal(imei(b"\xff1"))}, 5004, (1401, imei(b"\xff1"))),
        ({"terminal": terminal(imei(b"1" * 65))}, 5004, (1401, imei(b"1" * 65))),
        ({"state": avp_u32(277, 2)}, 5004, (277, b"\0\0\0\2")),
        ({"session": avp(263, b"")}, 5004, (263, b"")),
        ({"host": avp(264, b"\xc3\xb6")}, 5004, (264, b"\xc3\xb6")),
        ({"extra": avp(1, b"\xff")}, 5004, (1, b"\xff")),
        ({"extra": avp(7777, b"abc")}, 5001, (7777, b"abc")),
        ({"extra": avp(264, MME.encode())}, 5009, (264, MME.encode())),
        ({"extra": NUMBER + NUMBER}, 5009, (701, NUMBER[12:18])),
        ({"terminal": terminal(imei(b"1"), imei(b"2"))}, 5009, (1401, imei(b"2"))),
        ({"state": avp(277, b"\0\1")}, 5014, (277, b"\0\1")),
        ({"extra": b"\0\0\1\7\x40\0\0\0"}, 5014, (263, b"")),
        ({"extra": b"\0\0\1\x15\x40\0\1\0" + bytes(8)}, 5014, (277, bytes(4))),
        ({"extra": b"\0\0\1\7"}, 5014, (263, b"")),
        ({"terminal": terminal(imei(b"1")[:-4])}, 5014, (1401, imei(b""))),
        ({"to": avp(283, b"elsewhere")}, 3003, None),
        ({"extra": avp(293, b"hss.epc.example.org")}, 3002, None),
    ],
)
def test_each_error_row(changes, result, failed):
    octets = ecr_of(**changes)
    fault = judged(octets, reading())
    assert isinstance(fault, Fault)
    assert fault.result == result
    avps, _ = wire.read_avps(octets, 20, len(octets))
    (answer,) = messages(wire.fault_answer(wire.read_head(octets, 0), avps, fault, ORIGIN))
    assert answer.result == result
    has_session = any(a.code == 263 for a in avps)
    is_protocol = 3000 <= result < 4000
    assert bool(answer.head.flags & wire.ERROR) == (is_protocol or not has_session)
    assert answer.head.flags & wire.PROXIABLE
    assert not answer.head.is_request
    assert (answer.value(263) is not None) == has_session
    if failed is None:
        assert answer.value(279) is None
    else:
        assert (answer.failed.code, answer.failed.value) == failed


@pytest.mark.parametrize("length", [14, 15, 16])
@pytest.mark.parametrize("spare", [b"0", b"5"])
def test_14_15_and_16_digits_are_one_device_whatever_the_spare_digit(length, spare):
    digits = (b"35693803564380" + spare + b"1")[:length]
    assert judged(ecr(digits), reading()).imei == 35693803564380


@pytest.mark.parametrize(
    "text", [b"3569380356438", b"35693803564380123", b"35693803564380A", "۳۵۶۹۳۸۰۳۵۶۴۳۸".encode()]
)
def test_what_decodes_but_is_no_imei_is_a_verdict(text):
    question = judged(ecr(text), reading())
    assert question.imei == 0 == key_from_digits(text)


def test_an_ecr_as_seen_on_the_wire():
    """No VSAI, no Software-Version, spare 0 where Luhn gives another digit, MSISDN without M."""
    body = talk.parts(
        terminal=terminal(imei(b"490154203237510")), user=avp(1, b"432110123456789"), number=NUMBER
    )
    octets = ecr(body=b"".join(body.values()))
    assert judged(octets, reading()).msisdn == 0, "not trusted"
    assert judged(octets, reading(MME.encode())).msisdn == 98911234567
    assert judged(octets, reading(b"*")).msisdn == 98911234567
    assert judged(octets, reading(b"another.example.org")).msisdn == 0


def test_trust_is_by_the_ecrs_origin_host_on_the_short_way_too():
    how = reading(b"far.example.org")
    near = ecr_of(extra=NUMBER)
    far = ecr_of(extra=NUMBER, host=avp(264, b"Far.example.org"))
    for octets in (near, far):
        judged(octets, how)
    assert read_ecr(near, 0, len(near), how).msisdn == 0
    assert read_ecr(far, 0, len(far), how).msisdn == 98911234567


def test_proxy_infos_come_back_in_order_and_route_records_do_not():
    proxies = [avp(284, avp(280, b"p%d" % n) + avp(33, bytes(n))) for n in (1, 2, 3)]
    question = judged(ecr(extra=avp(282, b"relay") + b"".join(proxies)), reading())
    assert question.proxies == b"".join(proxies)
    (answer,) = messages(compose([question], [forms(ORIGIN)["whitelisted"]]))
    assert [a.encode() for a in answer.avps if a.code == 284] == proxies
    assert answer.value(282) is None


@pytest.mark.parametrize(
    ("name", "result", "status", "experimental", "error"),
    [
        ("whitelisted", 2001, 0, None, False),
        ("blacklisted", 2001, 1, None, False),
        ("greylisted", 2001, 2, None, False),
        ("unknown", None, None, avp_u32(266, G) + avp_u32(298, 5422), False),
        ("busy", 3004, None, None, True),
        ("failed", 5012, None, None, False),
    ],
)
@pytest.mark.parametrize("flags", [0, 0x40, 0x50])
def test_each_answer(name, result, status, experimental, error, flags):
    question = judged(ecr(flags=flags, number=77), reading())
    (answer,) = messages(compose([question], [forms(ORIGIN)[name]]))
    head = answer.head
    assert (head.command, head.application) == (324, 16777252)
    assert (head.hop_by_hop, head.end_to_end) == (77, 1077)
    assert head.flags == (flags & 0x40) | (0x20 if error else 0), "P copied; T and R are not"
    assert answer.avps[0].value == talk.SESSION
    assert answer.number(277) == 1
    assert (answer.result, answer.number(1445, G)) == (result, status)
    assert answer.value(297) == experimental


def test_what_is_known_of_a_peer_is_bounded():
    how = reading()
    for number in range(2 * MAX_KNOWN):
        judged(ecr(extra=avp(7777, b"%d" % number, flags=0)), how)
    judged(ecr(extra=avp(7777, bytes(1000), flags=0)), how)
    assert len(how.known) == MAX_KNOWN
    assert max(map(len, how.known)) <= 255
