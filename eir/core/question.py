"""A question as the network asks it. Nothing unusable is ever taken for "not known"."""

from __future__ import annotations

from eir.core.imei import ImeiKey, key_from_digits
from eir.core.subscriber import (
    NO_IMSI,
    NO_MSISDN,
    ImsiCode,
    Msisdn,
    imsi_from_digits,
    msisdn_from_digits,
)
from eir.errors import Refused


def read_texts(imei: str, msisdn: str, imsi: str) -> tuple[ImeiKey, Msisdn, ImsiCode]:
    """Key (0 = malformed), number and IMSI code (0 = none) of identifiers as the network has them.

    Raises Refused: ``imei-missing``; ``msisdn-unusable`` and ``imsi-unusable`` for a text that is
    there and names no subscriber.
    """
    if not imei:
        raise Refused("imei-missing", "the field imei is empty")
    number, code = msisdn_from_digits(msisdn), imsi_from_digits(imsi)
    if msisdn and number == NO_MSISDN:
        raise Refused("msisdn-unusable", "msisdn is not 5 to 15 digits, the first of them not 0")
    if imsi and code == NO_IMSI:
        raise Refused("imsi-unusable", "imsi is not 5 to 15 digits")
    return key_from_digits(imei), number, code
