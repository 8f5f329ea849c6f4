"""From text and octets to a key, and the reasons why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir import limits
from eir.core.imei import (
    MALFORMED,
    ImeiKey,
    check_digit,
    digits14,
    digits15,
    key_from_digits,
    key_from_tbcd,
    key_from_typed,
    masked,
    tac,
)
from eir.errors import Refused

KEYS = st.integers(1, limits.MAX_IMEI_KEY).map(ImeiKey)
VALID = ["490154203237518", "353328110010012"]
"""IMEIs whose check digit is right."""
NOT_VALID = "356938035643803"
"""A simulator's default: its check digit should be 9, and real traffic has it."""


@pytest.mark.parametrize("text", VALID)
def test_check_digit(text: str) -> None:
    assert digits15(ImeiKey(int(text[:14]))) == text


def test_check_digit_that_is_wrong_in_the_wild() -> None:
    assert check_digit(ImeiKey(int(NOT_VALID[:14]))) == 9
    assert key_from_digits(NOT_VALID) == 35_693_803_564_380


@given(KEYS)
def test_check_digit_makes_the_luhn_sum_whole(key: ImeiKey) -> None:
    digits = [int(digit) for digit in reversed(digits15(key))]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    assert (sum(digits[0::2]) + sum(doubled)) % 10 == 0


@given(KEYS, st.text("0123456789", max_size=2))
def test_from_digits(key: ImeiKey, more: str) -> None:
    text = digits14(key) + more
    assert key_from_digits(text) == key_from_digits(text.encode()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3520990017614",
        "35209900176148012",
        "3520990017614A",
        "+3520990017614",
        " 35209900176148",
        "35209900176148\n",
        "352099001761_8",
        "00000000000000",
        "000000000000009",
        "۳۵۲۰۹۹۰۰۱۷۶۱۴۸",
        "3520990017614۸",
        "3520990017614²",
        "۳۵۲۰۹۹۰",
        "352099001761\ud800",
    ],
)
def test_what_is_no_imei_is_malformed_and_never_an_error(text: str) -> None:
    assert key_from_digits(text) == MALFORMED
    assert key_from_digits(text.encode("utf-8", "surrogatepass")) == MALFORMED


def test_digits_of_other_scripts_would_have_passed_as_python_sees_them() -> None:
    persian = "۳۵۲۰۹۹۰۰۱۷۶۱۴۸"
    assert persian.isdigit()
    assert int(persian) == 35_209_900_176_148
    assert key_from_digits(persian) == MALFORMED


@given(st.binary(max_size=20))
def test_any_octets_are_a_key_or_malformed(octets: bytes) -> None:
    for key in (key_from_digits(octets), key_from_tbcd(octets)):
        assert 0 <= key <= limits.MAX_IMEI_KEY


@pytest.mark.parametrize(
    ("octets", "key"),
    [
        ("539029001067418f", 0),
        ("53029900711684", 35_209_900_176_148),
        ("94104502237315f8", 49_015_420_323_751),
        ("9410450223731508", 49_015_420_323_751),
        ("94104502237315", 49_015_420_323_751),
        ("941045022373150801", 0),
        ("9410450223f31508", 0),
        ("94104502237315ff", 0),
        ("", 0),
        ("f0", 0),
        ("00000000000000f0", 0),
    ],
)
def test_tbcd(octets: str, key: int) -> None:
    assert key_from_tbcd(bytes.fromhex(octets)) == key


@given(KEYS, st.integers(0, 99))
def test_tbcd_of_an_imeisv(key: ImeiKey, version: int) -> None:
    digits = f"{digits14(key)}{version:02d}"
    octets = bytes.fromhex("".join(digits[i + 1] + digits[i] for i in range(0, 16, 2)))
    assert key_from_tbcd(octets) == key


@given(KEYS)
def test_tbcd_of_fifteen_digits_ends_in_a_filler(key: ImeiKey) -> None:
    digits = digits15(key) + "f"
    octets = bytes.fromhex("".join(digits[i + 1] + digits[i] for i in range(0, 16, 2)))
    assert key_from_tbcd(octets) == key


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("490154203237518", 49_015_420_323_751),
        ("49-015420-323751-8", 49_015_420_323_751),
        (" 49 015420 323751 ", 49_015_420_323_751),
        ("4901542032375199", 49_015_420_323_751),
        ("۴۹۰۱۵۴۲۰۳۲۳۷۵۱۸", 49_015_420_323_751),
        ("٤٩٠١٥٤٢٠٣٢٣٧٥١", 49_015_420_323_751),
        ("00000000000001", 1),
    ],
)
def test_typed(text: str, key: int) -> None:
    assert key_from_typed(text) == key


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("49015420323751O", "imei-characters"),
        ("4901542032375²", "imei-characters"),
        ("", "imei-length"),
        ("4901542032375", "imei-length"),
        ("49015420323751899", "imei-length"),
        ("4" * 65, "imei-length"),
        ("490154203237519", "imei-check-digit"),
        (NOT_VALID, "imei-check-digit"),
        ("00000000000000", "imei-zero"),
        ("000000000000000", "imei-zero"),
    ],
)
def test_typed_and_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        key_from_typed(text)
    assert refused.value.reason == reason


@given(KEYS)
def test_what_is_shown_can_be_typed(key: ImeiKey) -> None:
    assert key_from_typed(digits15(key)) == key_from_typed(digits14(key)) == key


def test_leading_zeros_are_real() -> None:
    key = key_from_digits("01234567000009")
    assert (key, digits14(key), tac(key)) == (1_234_567_000_009, "01234567000009", 1_234_567)


def test_a_log_shows_the_tac_only() -> None:
    assert masked(ImeiKey(1_234_567_000_009)) == "01234567******"
