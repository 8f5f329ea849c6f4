"""The identity of a subscriber: an MSISDN, or an IMSI as one integer.

Two roads in, as for IMEIs: what the network sends becomes 0 (none) when it is no number; what a
person types is normalised by Numbering, and refused with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from eir import limits
from eir.core.digits import ascii_digits
from eir.errors import Refused

Msisdn = NewType("Msisdn", int)
"""E.164 digits as an integer; 0 is none. E.164 numbers begin with 1–9, so nothing is lost."""

ImsiCode = NewType("ImsiCode", int)
"""IMSI digits << 4 | number of digits, so that leading zeros live; 0 is none."""

NO_MSISDN = Msisdn(0)
NO_IMSI = ImsiCode(0)


@dataclass(frozen=True, slots=True)
class Numbering:
    """How numbers are written here: the ``[numbering]`` settings."""

    country_code: str = "98"
    trunk_prefix: str = "0"
    international_prefix: str = "00"
    min_national_digits: int = 8
    max_national_digits: int = 10


def msisdn_from_digits(text: str | bytes) -> Msisdn:
    """The MSISDN of 5–15 ASCII digits (E.164), else 0."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    in_size = limits.MIN_MSISDN_DIGITS <= len(raw) <= limits.MAX_MSISDN_DIGITS
    if in_size and raw.isdigit() and raw[0] != 0x30:
        return Msisdn(int(raw))
    return NO_MSISDN


def imsi_from_digits(text: str | bytes) -> ImsiCode:
    """The code of an IMSI of 5–15 ASCII digits (TS 23.003 2.2), else 0."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if limits.MIN_IMSI_DIGITS <= len(raw) <= limits.MAX_IMSI_DIGITS and raw.isdigit():
        return ImsiCode(int(raw) << 4 | len(raw))
    return NO_IMSI


def msisdn_from_tbcd(octets: bytes) -> Msisdn:
    """The MSISDN of a TBCD string (AVP 701, TS 29.329 6.3.2), low nibble first; else 0."""
    if len(octets) > 9:
        return NO_MSISDN
    nibbles = octets.hex()
    swapped = "".join(nibbles[i + 1] + nibbles[i] for i in range(0, len(nibbles), 2))
    return msisdn_from_digits(swapped[:-1] if swapped.endswith("f") else swapped)


def msisdn_from_typed(text: str, numbering: Numbering) -> Msisdn:
    """The MSISDN a person meant: +98912…, 0098912…, 98912…, 0912… and 912… are one number.

    Raises Refused with ``msisdn-characters`` or ``msisdn-length``.
    """
    if len(text) > limits.MAX_TYPED_CHARS:
        raise Refused(
            "msisdn-length", f"a number has at most 15 digits; got {len(text)} characters"
        )
    stripped = text.strip().lstrip("\u200e\u200f\u202a")
    plus = stripped.startswith("+")
    digits = ascii_digits(stripped[1:] if plus else stripped)
    if digits is None or not digits:
        raise Refused(
            "msisdn-characters", f"a number is digits, with a + before at most; got {text!r}"
        )
    digits = digits if plus else _international(digits, numbering)
    number = msisdn_from_digits(digits)
    if number == NO_MSISDN or not _country_fits(digits, numbering):
        low, high = numbering.min_national_digits, numbering.max_national_digits
        raise Refused(
            "msisdn-length",
            f"{text!r} is no number: {low} to {high} digits after +{numbering.country_code},"
            " or a foreign number of 5 to 15 digits with + before it",
        )
    return number


def imsi_from_typed(text: str) -> ImsiCode:
    """The code of an IMSI a person typed. Raises Refused: ``imsi-characters``, ``imsi-length``."""
    digits = ascii_digits(text) if len(text) <= limits.MAX_TYPED_CHARS else None
    if digits is None:
        raise Refused("imsi-characters", f"an IMSI is 5 to 15 digits; got {text[:20]!r}")
    code = imsi_from_digits(digits)
    if code == NO_IMSI:
        raise Refused("imsi-length", f"an IMSI has 5 to 15 digits; {text!r} has {len(digits)}")
    return code


def imsi_text(code: ImsiCode) -> str:
    """The IMSI's digits, leading zeros kept."""
    return f"{code >> 4:0{code & 15}d}"


def masked_msisdn(number: Msisdn) -> str:
    """For logs: the first five digits, the rest starred; empty for none."""
    text = str(number) if number else ""
    return text[:5] + "*" * (len(text) - 5)


def masked_imsi(code: ImsiCode) -> str:
    """For logs: the PLMN part shown, the rest starred; empty for none."""
    text = imsi_text(code) if code else ""
    return text[:5] + "*" * (len(text) - 5)


def _international(digits: str, numbering: Numbering) -> str:
    prefix, trunk, country = (
        numbering.international_prefix,
        numbering.trunk_prefix,
        numbering.country_code,
    )
    if prefix and digits.startswith(prefix):
        return digits[len(prefix) :]
    if trunk and digits.startswith(trunk):
        return country + digits[len(trunk) :]
    if digits.startswith(country) and _country_fits(digits, numbering):
        return digits
    return country + digits if len(digits) <= numbering.max_national_digits else digits


def _country_fits(digits: str, numbering: Numbering) -> bool:
    if not digits.startswith(numbering.country_code):
        return True
    national = len(digits) - len(numbering.country_code)
    return numbering.min_national_digits <= national <= numbering.max_national_digits
