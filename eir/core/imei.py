"""The identity of a device: 14 digits as one integer. The only way from text or octets to a key.

What comes from the network is never refused here: anything that is no IMEI becomes MALFORMED, and
the decision table gives it a verdict. What a person types is checked strictly, and refused with
the reason.
"""

from __future__ import annotations

from typing import NewType

from eir import limits
from eir.core.digits import ascii_digits
from eir.errors import Refused

ImeiKey = NewType("ImeiKey", int)

MALFORMED = ImeiKey(0)
"""The key of everything that is not 14–16 ASCII digits, and of all zeros."""


def key_from_digits(text: str | bytes) -> ImeiKey:
    """Key of an IMEI (14 or 15 digits) or IMEISV (16) as the network sends it, else MALFORMED.

    The 15th digit is not looked at: on the air it is the spare digit 0, not the check digit
    (TS 23.003 6.2.1).
    """
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if 14 <= len(raw) <= 16 and raw.isdigit():
        return ImeiKey(int(raw[:14]))
    return MALFORMED


def key_from_tbcd(octets: bytes) -> ImeiKey:
    """Key of a TBCD IMEI(SV), low nibble first, filler F (TS 29.002 17.7.8), else MALFORMED."""
    if len(octets) > 8:
        return MALFORMED
    nibbles = octets.hex()
    swapped = "".join(nibbles[i + 1] + nibbles[i] for i in range(0, len(nibbles), 2))
    return key_from_digits(swapped[:-1] if swapped.endswith("f") else swapped)


def key_from_typed(text: str) -> ImeiKey:
    """Key of what a person typed: any script's digits, spaces and dashes allowed.

    With 15 digits the last one is verified as the check digit. Raises Refused with
    ``imei-characters``, ``imei-length``, ``imei-check-digit`` or ``imei-zero``.
    """
    if len(text) > limits.MAX_TYPED_CHARS:
        raise Refused(
            "imei-length", f"an IMEI has 14 to 16 digits; this has {len(text)} characters"
        )
    digits = ascii_digits(text)
    if digits is None:
        raise Refused("imei-characters", f"an IMEI is digits only; got {text!r}")
    if not 14 <= len(digits) <= 16:
        raise Refused("imei-length", f"an IMEI has 14 to 16 digits; {text!r} has {len(digits)}")
    key = int(digits[:14])
    if key == 0:
        raise Refused("imei-zero", "an IMEI of zeros only names no device")
    if len(digits) == 15 and int(digits[14]) != check_digit(ImeiKey(key)):
        raise Refused(
            "imei-check-digit",
            f"the last digit of {text!r} should be {check_digit(ImeiKey(key))}: a digit is mistyped"
            " (type only the first 14 to skip this test)",
        )
    return ImeiKey(key)


def check_digit(key: ImeiKey) -> int:
    """The Luhn digit of the 14 (TS 23.003 annex B): every second one, from the second, doubled."""
    total = 0
    for place, digit in enumerate(f"{key:014d}"):
        value = int(digit)
        if place % 2 == 1:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return -total % 10


def digits14(key: ImeiKey) -> str:
    """The 14 digits, leading zeros kept."""
    return f"{key:014d}"


def digits15(key: ImeiKey) -> str:
    """The 15 digits as on the box, with the check digit."""
    return f"{key:014d}{check_digit(key)}"


def tac(key: ImeiKey) -> int:
    """The Type Allocation Code: the first 8 digits, as an integer."""
    return key // limits.SERIAL_SPAN_KEYS


def masked(key: ImeiKey) -> str:
    """For logs: TAC shown, serial starred."""
    return f"{tac(key):08d}******"
