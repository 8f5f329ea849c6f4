"""The wire: AVPs and headers, whatever the octets."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.doors import s13_codec as wire
from tests.doors.s13.talk import ecr, messages

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/s13.json").read_text())

avps = st.builds(
    lambda code, flags, vendor, value: wire.Avp(
        code, flags | (0x80 if vendor else 0), vendor, value
    ),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from([0, 0x40, 0x20]),
    st.sampled_from([0, 10415, 0xFFFFFFFF]),
    st.binary(max_size=40),
)


@given(st.lists(avps, max_size=8))
def test_what_is_encoded_is_read_back(listed):
    octets = b"".join(a.encode() for a in listed)
    assert len(octets) % 4 == 0
    assert wire.read_avps(octets, 0, len(octets)) == (listed, None)


@given(st.binary(max_size=120))
def test_reading_ends_and_what_was_read_lies_within(octets):
    found, fault = wire.read_avps(octets, 0, len(octets))
    assert sum(8 + len(a.value) for a in found) <= len(octets)
    assert fault is not None or sum(len(a.encode()) for a in found) >= len(octets)
    if fault is not None:
        assert fault.result == wire.INVALID_AVP_LENGTH
        again, inner = wire.read_avps(fault.failed, 0, len(fault.failed))
        assert inner is None, "Failed-AVP can itself be read"
        assert len(again) == 1


@pytest.mark.parametrize("length", [0, 1, 7, 11])
def test_a_zero_or_short_length_does_not_spin(length):
    octets = (263).to_bytes(4, "big") + (0xC0000000 | length).to_bytes(4, "big") + bytes(24)
    found, fault = wire.read_avps(octets, 0, len(octets))
    assert found == []
    assert fault.result == 5014


@pytest.mark.parametrize(
    ("word", "result"),
    [
        (0x02000014, 5011),
        (0x00000014, 5011),
        (0x01000000, 5015),
        (0x01000010, 5015),
        (0x01000015, 5015),
        (0x01FFFFFC, 5015),
        (0x01008004, 5015),
    ],
)
def test_a_header_that_cannot_be_framed(word, result):
    assert wire.frame_fault(word, max_message_bytes=32_768).result == result


def test_a_header_that_can():
    assert wire.frame_fault(0x01000014, max_message_bytes=32_768) is None


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda v: v["name"])
def test_golden_octets_read_as_their_writer_meant(vector):
    (message,) = messages(bytes.fromhex(vector["hex"]))
    head = message.head
    expected = vector["head"]
    assert [head.flags, head.command, head.application] == expected
    for code, vendor, value in vector["avps"]:
        assert message.value(code, vendor) == bytes.fromhex(value), code


def test_a_missing_avp_is_shown_with_the_least_value_of_its_type():
    assert wire.minimal(277) == bytes.fromhex("000001154000000c00000000")
    assert wire.minimal(1401, vendor=10415) == bytes.fromhex("00000579c000000c000028af")


def test_an_ecr_is_what_it_was():
    (message,) = messages(ecr(flags=0x50))
    assert message.head.flags == 0xD0
    assert message.value(1) == b"432110123456789"
