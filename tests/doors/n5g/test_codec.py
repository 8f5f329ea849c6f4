"""Every query string has exactly one outcome; every outcome is well-formed and names nobody."""

import json
from http import HTTPStatus
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir import limits
from eir.core.imei import MALFORMED, ImeiKey
from eir.core.policy import Status
from eir.core.subscriber import imsi_from_digits
from eir.doors import n5g_codec as codec

KEY = 49015420323751
WHITE_PEI = "pei=imei-490154203237518"


def asked(query: str) -> codec.Question:
    outcome = codec.question(query)
    assert isinstance(outcome, codec.Question), outcome
    return outcome


def refused(query: str) -> codec.Problem:
    outcome = codec.question(query)
    assert isinstance(outcome, codec.Problem), outcome
    return outcome


@pytest.mark.parametrize(
    ("pei", "key"),
    [
        ("imei-490154203237518", KEY),
        ("imei-490154203237510", KEY),  # the spare digit, as the network sends it
        ("imei-49015420323751", KEY),
        ("imeisv-4901542032375101", KEY),
        ("imeisv-490154203237518", KEY),
        ("imei-000000000000010", 1),
        ("%69mei-49015420323751%38", KEY),
        ("imei-000000000000000", MALFORMED),
        ("imei-1234", MALFORMED),
        ("imei-49015420323751812", MALFORMED),
        ("imei-4901542O3237518", MALFORMED),
        ("imei-" + quote("۴۹۰۱۵۴۲۰۳۲۳۷۵۱۸"), MALFORMED),
        ("imei--490154203237518", MALFORMED),
    ],
)
def test_digits_behind_imei_are_a_question_whatever_their_number(pei, key):
    assert asked(f"pei={pei}") == (key, 0, 0)


@pytest.mark.parametrize(
    "pei",
    [
        "mac-00-11-22-33-44-55",
        "mac-00-11-22-33-44-55-untrusted",
        "eui-00-11-22-33-44-55-66-77",
        "490154203237518",
        "IMEI-490154203237518",
        "imei",
        "imeisv",
        "x",
    ],
)
def test_other_peis_are_unknown_equipment(pei):
    problem = refused(f"pei={pei}")
    assert (problem.status, problem.cause) == (404, "ERROR_EQUIPMENT_UNKNOWN")


@pytest.mark.parametrize(
    ("query", "cause", "param"),
    [
        ("", "MANDATORY_QUERY_PARAM_MISSING", "pei"),
        ("supi=imsi-001010000000001", "MANDATORY_QUERY_PARAM_MISSING", "pei"),
        ("PEI=imei-490154203237518", "MANDATORY_QUERY_PARAM_MISSING", "pei"),
        ("pei", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        ("pei=", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        ("pei=imei-", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        ("pei=imeisv-", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        ("pei=imei-%ff", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        ("pei=imei-1%4", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        ("pei=imei-" + "1" * 60, "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        (f"{WHITE_PEI}&{WHITE_PEI}", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        (f"{WHITE_PEI}&p%65i=imei-1", "MANDATORY_QUERY_PARAM_INCORRECT", "pei"),
        (f"{WHITE_PEI}&supi=", "OPTIONAL_QUERY_PARAM_INCORRECT", "supi"),
        (f"{WHITE_PEI}&supi=imsi-1234", "OPTIONAL_QUERY_PARAM_INCORRECT", "supi"),
        (f"{WHITE_PEI}&supi=imsi-1234567890123456", "OPTIONAL_QUERY_PARAM_INCORRECT", "supi"),
        (f"{WHITE_PEI}&supi=imsi-12345x", "OPTIONAL_QUERY_PARAM_INCORRECT", "supi"),
        (f"{WHITE_PEI}&gpsi", "OPTIONAL_QUERY_PARAM_INCORRECT", "gpsi"),
        (f"{WHITE_PEI}&gpsi=msisdn-1234", "OPTIONAL_QUERY_PARAM_INCORRECT", "gpsi"),
        (f"{WHITE_PEI}&gpsi=msisdn-%2B989121234567", "OPTIONAL_QUERY_PARAM_INCORRECT", "gpsi"),
        (f"{WHITE_PEI}&supported-features=0g", "OPTIONAL_QUERY_PARAM_INCORRECT",
         "supported-features"),
        ("pei=mac-00-11-22-33-44-55&supi=imsi-1", "OPTIONAL_QUERY_PARAM_INCORRECT", "supi"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(query, cause, param):
    problem = refused(query)
    assert (problem.status, problem.cause) == (HTTPStatus.BAD_REQUEST, cause)
    assert [name for name, _ in problem.invalid] == [f"query {param}"]


@pytest.mark.parametrize(
    ("rest", "msisdn", "imsi"),
    [
        ("gpsi=msisdn-989121234567", 989121234567, 0),
        ("supi=imsi-001010000000001", 0, imsi_from_digits("001010000000001")),
        ("supi=imsi-43211000000001&gpsi=msisdn-98912", 98912, imsi_from_digits("43211000000001")),
        ("gpsi=msisdn-09121234567", 0, 0),  # the standard's form, yet no E.164 number
        ("gpsi=extid-a%40example.org", 0, 0),
        ("supi=nai-a%40example.org", 0, 0),
        ("supi=gci-1&gpsi=anything", 0, 0),
        ("supported-features=", 0, 0),
        ("supported-features=aF09", 0, 0),
        ("requester-plmn=x&foo&%ff=1&=2&&", 0, 0),
    ],
)
def test_who_the_subscriber_is(rest, msisdn, imsi):
    assert asked(f"{WHITE_PEI}&{rest}") == (KEY, msisdn, imsi)
    assert asked(f"{rest}&{WHITE_PEI}") == (KEY, msisdn, imsi)


PIECES = st.sampled_from(
    ["pei", "supi", "gpsi", "supported-features", "=", "&", "imei-", "imeisv-", "imsi-", "msisdn-",
     "%", "%ff", "%31", "0", "12345", "49015420323751", "+", "x", "۱", "\x00"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=24).map("".join)))
def test_any_query_string_has_exactly_one_well_formed_outcome(query):
    outcome = codec.question(query)
    if isinstance(outcome, codec.Question):
        assert 0 <= outcome.key <= limits.MAX_IMEI_KEY
        assert 0 <= outcome.msisdn < 10**limits.MAX_MSISDN_DIGITS
        assert 0 <= outcome.imsi >> 4 < 10**limits.MAX_IMSI_DIGITS
        return
    reply = codec.problem_reply(outcome)
    body = json.loads(reply.body)
    assert reply.status == body["status"] in (400, 404)
    assert dict(reply.headers)["content-type"] == "application/problem+json"
    assert body["title"] == HTTPStatus(reply.status).phrase
    assert (reply.status == 400) == ("invalidParams" in body)


@given(
    st.integers(1, limits.MAX_IMEI_KEY),
    st.sampled_from(["", "0", "9", "01"]),
    st.one_of(st.none(), st.from_regex(r"[0-9]{5,15}", fullmatch=True)),
    st.one_of(st.none(), st.from_regex(r"[1-9][0-9]{4,14}", fullmatch=True)),
    st.randoms(use_true_random=False),
)
def test_what_a_core_asks_is_what_is_read(key, tail, imsi, msisdn, random):
    pairs = [("pei", f"imei-{key:014d}{tail}")]
    pairs += [("supi", f"imsi-{imsi}")] if imsi else []
    pairs += [("gpsi", f"msisdn-{msisdn}")] if msisdn else []
    random.shuffle(pairs)
    spelled = "&".join(
        f"{name}={''.join(quote(c) if random.random() < 0.7 else f'%{ord(c):02x}' for c in value)}"
        for name, value in pairs
    )
    wanted_imsi = imsi_from_digits(imsi) if imsi else 0
    assert asked(spelled) == (ImeiKey(key), int(msisdn or 0), wanted_imsi)


@settings(max_examples=500)
@given(
    st.from_regex(codec._USUAL, fullmatch=True)
    | st.from_regex(
        r"pei=imei(sv)?-[0-9]{12,17}(&(supi|gpsi)=(imsi|msisdn)-[0-9]{4,16}){0,3}", fullmatch=True
    )
)
def test_the_usual_form_is_read_as_any_form(query):
    assert codec.question(query) == codec._of_any_form(query)


@given(st.from_regex(r"[0-9]{15}", fullmatch=True), st.from_regex(r"[0-9]{5}", fullmatch=True))
def test_no_problem_repeats_an_identity(digits, number):
    for query in (f"pei=mac-{digits}", f"pei=imei-{digits}&supi=imsi-{number}x",
                  f"pei=imei-{digits}&gpsi=msisdn-{number}-"):  # fmt: skip
        body = codec.problem_reply(refused(query)).body.decode()
        assert digits not in body
        assert number not in body


def test_the_three_statuses_and_the_fourth():
    replies = codec.verdict_replies("not-found")
    for status in (Status.WHITELISTED, Status.GREYLISTED, Status.BLACKLISTED):
        assert replies[status].status == 200
        assert json.loads(replies[status].body) == {"status": status.name}
        assert ("content-type", "application/json") in replies[status].headers
    assert replies[Status.UNKNOWN].status == 404
    assert json.loads(replies[Status.UNKNOWN].body)["cause"] == "ERROR_EQUIPMENT_UNKNOWN"
    assert replies[0].status == 500


@pytest.mark.parametrize("name", ["WHITELISTED", "GREYLISTED", "BLACKLISTED"])
def test_unknown_leaves_as_the_setting_says(name):
    replies = codec.verdict_replies(name)
    assert json.loads(replies[Status.UNKNOWN].body) == {"status": name}


@pytest.mark.parametrize(
    ("lines", "good"),
    [
        ([], True),
        ([""], True),
        (["*/*"], True),
        (["application/json"], True),
        (["Application/JSON;charset=utf-8"], True),
        (["application/json, application/problem+json"], True),
        (["application/problem+json", "application/json"], True),
        (["text/html", "application/*;q=0.1"], True),
        (["text/html, */*;q=0.8"], True),
        (["text/html"], False),
        (["application/problem+json"], False),
        (["application/json;q=0"], False),
        (["application/json;q=0, */*"], False),
        (["*/*;q=0.0"], False),
        (["*/*, application/*;q=0"], False),
        (["application/json;q=abc"], False),
        (["garbage"], False),
        (["application/json," * 100], False),
    ],
)
def test_accept(lines, good):
    assert codec.accepts_json(lines) is good


@given(st.lists(st.text(max_size=60), max_size=4))
def test_accept_is_total(lines):
    assert codec.accepts_json(lines) in (True, False)
