"""From text and octets to a subscriber, and the reasons why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.core.subscriber import (
    NO_IMSI,
    NO_MSISDN,
    ImsiCode,
    Msisdn,
    Numbering,
    imsi_from_digits,
    imsi_from_typed,
    imsi_text,
    masked_imsi,
    masked_msisdn,
    msisdn_from_digits,
    msisdn_from_tbcd,
    msisdn_from_typed,
)
from eir.errors import Refused

HERE = Numbering()
NUMBERS = st.integers(10_000, 10**15 - 1)
IMSIS = st.text("0123456789", min_size=5, max_size=15)


@given(NUMBERS)
def test_msisdn_from_digits(number: int) -> None:
    assert msisdn_from_digits(str(number)) == msisdn_from_digits(str(number).encode()) == number


@pytest.mark.parametrize(
    "text",
    ["", "1234", "1" * 16, "0912345", "+98912", "98912 34", "۹۸۹۱۲۱۲۳", "98912123²", "98\ud8001"],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert msisdn_from_digits(text) == NO_MSISDN


@given(NUMBERS)
def test_msisdn_from_tbcd(number: int) -> None:
    digits = str(number) + "f" * (len(str(number)) % 2)
    swapped = "".join(digits[i + 1] + digits[i] for i in range(0, len(digits), 2))
    assert msisdn_from_tbcd(bytes.fromhex(swapped)) == number


@pytest.mark.parametrize(
    "octets", ["", "ff", "8919", "89f9214365", "891921436587092143f5", "00" * 6]
)
def test_tbcd_that_is_no_number(octets: str) -> None:
    assert msisdn_from_tbcd(bytes.fromhex(octets)) == NO_MSISDN


@given(st.binary(max_size=20))
def test_any_octets_are_a_subscriber_or_none(octets: bytes) -> None:
    for number in (msisdn_from_digits(octets), msisdn_from_tbcd(octets)):
        assert number == NO_MSISDN or 10_000 <= number < 10**15
    code = imsi_from_digits(octets)
    assert code == NO_IMSI or imsi_text(code).encode() == octets


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+989121234567", 989121234567),
        ("00989121234567", 989121234567),
        ("989121234567", 989121234567),
        ("09121234567", 989121234567),
        ("9121234567", 989121234567),
        ("۰۹۱۲۱۲۳۴۵۶۷", 989121234567),
        ("+۹۸ ۹۱۲ ۱۲۳ ۴۵۶۷", 989121234567),
        ("\u200e+98-912-1234567", 989121234567),
        ("\u202a+989121234567\u202c", 989121234567),
        ("0912 123-4567", 989121234567),
        ("02188776655", 982188776655),
        ("+4915112345678", 4915112345678),
        ("004915112345678", 4915112345678),
        ("4915112345678", 4915112345678),
    ],
)
def test_typed(text: str, number: int) -> None:
    assert msisdn_from_typed(text, HERE) == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "msisdn-characters"),
        ("+", "msisdn-characters"),
        ("0912x", "msisdn-characters"),
        ("++98912", "msisdn-characters"),
        ("98+9121234567", "msisdn-characters"),
        ("0912", "msisdn-length"),
        ("912", "msisdn-length"),
        ("0", "msisdn-length"),
        ("00", "msisdn-length"),
        ("091212345678", "msisdn-length"),
        ("+9809121234567", "msisdn-length"),
        ("+98912", "msisdn-length"),
        ("+1234567890123456", "msisdn-length"),
        ("+0912", "msisdn-length"),
        ("1" * 65, "msisdn-length"),
    ],
)
def test_typed_and_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        msisdn_from_typed(text, HERE)
    assert refused.value.reason == reason


def test_another_country_writes_otherwise() -> None:
    numbering = Numbering("1", "", "011", 10, 10)
    assert msisdn_from_typed("212 555 0123", numbering) == 12125550123
    assert msisdn_from_typed("011 98 912 123 4567", numbering) == 989121234567


@given(IMSIS)
def test_imsi_keeps_its_leading_zeros(text: str) -> None:
    code = imsi_from_digits(text)
    assert code != NO_IMSI
    assert imsi_text(code) == text
    assert imsi_from_typed(text) == code


@given(IMSIS, IMSIS)
def test_imsi_codes_are_one_to_one(one: str, other: str) -> None:
    assert (imsi_from_digits(one) == imsi_from_digits(other)) == (one == other)


@pytest.mark.parametrize("text", ["", "4321", "4" * 16, "43211x", "۴۳۲۱۱۱", "4321١"])
def test_what_is_no_imsi_is_none(text: str) -> None:
    assert imsi_from_digits(text) == NO_IMSI


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("43211x", "imsi-characters"),
        ("1" * 65, "imsi-characters"),
        ("", "imsi-length"),
        ("4321", "imsi-length"),
        ("4" * 16, "imsi-length"),
    ],
)
def test_imsi_typed_and_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        imsi_from_typed(text)
    assert refused.value.reason == reason


def test_imsi_typed_in_another_script() -> None:
    assert imsi_text(imsi_from_typed("۰۰۱ ۰۱ ۱۲۳")) == "00101123"


def test_a_log_shows_the_beginning_only() -> None:
    assert masked_msisdn(Msisdn(989121234567)) == "98912*******"
    assert masked_imsi(imsi_from_digits("001011234567890")) == "00101**********"
    assert (masked_msisdn(NO_MSISDN), masked_imsi(ImsiCode(0))) == ("", "")
