"""What a person types when ordering: a device, a number, a span of devices, a moment.

Strict where a slip would strike another than was meant, lenient in how it is written: digits of any
script, blanks and dashes, numbers as people write them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from eir import limits
from eir.core.digits import ascii_digits
from eir.core.imei import key_from_typed
from eir.core.orders import HOLDABLE_REASONS
from eir.core.subscriber import Numbering, msisdn_from_typed
from eir.errors import Refused

_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_LATEST: Final = (1 << 32) - 1
_MAX_TAC_FILE_BYTES: Final = 16 << 20


def identity(words: Sequence[str], numbering: Numbering, meant: str = "") -> tuple[int, int]:
    """(key, MSISDN), 0 for none, of an IMEI, an IMEI and a number, or a number alone.

    One word with + or of fewer than 14 digits is a number, another an IMEI; ``meant`` ("imei",
    "number") settles it. Raises Refused as ``key_from_typed`` and ``msisdn_from_typed``, and
    ``order-ambiguous``, ``order-identity``.
    """
    if len(words) == 2:
        return key_from_typed(words[0]), msisdn_from_typed(words[1], numbering)
    if len(words) != 1:
        raise Refused("order-identity", "an IMEI, an IMEI and a number, or a number")
    word = words[0]
    digits = ascii_digits(word) or ""
    if meant == "number" or (not meant and len(digits) < limits.IMEI_DIGITS):
        return 0, msisdn_from_typed(word, numbering)
    abroad = numbering.international_prefix
    if not meant and abroad and digits.startswith(abroad) and _is_number(word, numbering):
        detail = f"{word!r} may be a number and may be an IMEI: say which, with --as"
        raise Refused("order-ambiguous", detail)
    return key_from_typed(word), 0


def device_span(word: str) -> tuple[int, int]:
    """The keys of one IMEI, or of all devices of a TAC (8 digits).

    Raises Refused as ``key_from_typed``.
    """
    if len(ascii_digits(word) or "") == limits.TAC_DIGITS:
        low = tac(word) * limits.SERIAL_SPAN_KEYS
        return low, low + limits.SERIAL_SPAN_KEYS - 1
    key = key_from_typed(word)
    return key, key


def tac(word: str) -> int:
    """A TAC: 8 digits, not all zeros. Raises Refused ``order-tac``."""
    digits = ascii_digits(word) or ""
    if len(digits) != limits.TAC_DIGITS or int(digits) == 0:
        raise Refused("order-tac", f"a TAC is 8 digits, not all zeros; got {word!r}")
    return int(digits)


def held_reason(text: str) -> str:
    """A reason that a hold can be for, "" for all. Raises Refused ``hold-invalid``."""
    if text and text not in HOLDABLE_REASONS:
        raise Refused("hold-invalid", f"one of {', '.join(HOLDABLE_REASONS)}; got {text!r}")
    return text


def tacs_in(path: Path) -> list[int]:
    """The TACs of a file, one a line; blank lines, and a header `tac`, are passed over.

    Raises Refused ``order-tac``, with the line, or ``order-file``.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_TAC_FILE_BYTES + 1)
        lines = raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise Refused("order-file", f"{error.strerror or error}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise Refused("order-file", f"can't be read: {error}", where=str(path)) from error
    if len(raw) > _MAX_TAC_FILE_BYTES:
        raise Refused("order-file", f"more than {_MAX_TAC_FILE_BYTES} bytes", where=str(path))
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not (number == 1 and line.strip().lower() == "tac"):
            try:
                found.append(tac(line))
            except Refused as refused:
                where = f"{path}: line {number}"
                raise Refused("order-tac", refused.detail, where=where) from refused
    return found


def prefix(word: str, numbering: Numbering) -> str:
    """The leading digits of numbers, international: 0912 is 98912. Raises Refused."""
    digits = ascii_digits(word.strip().removeprefix("+")) or ""
    for before in (numbering.international_prefix, numbering.trunk_prefix):
        if not word.strip().startswith("+") and before and digits.startswith(before):
            rest = digits.removeprefix(before)
            digits = (
                rest if before == numbering.international_prefix else numbering.country_code + rest
            )
            break
    if not re.fullmatch(r"[1-9][0-9]{0,14}", digits):
        raise Refused("order-prefix", f"the leading digits of numbers, as 98912; got {word!r}")
    return digits


def moment(word: str, zone: str, *, now: int) -> int:
    """Unix seconds of a moment to come: a date (its end), a time with its offset, or how long.

    ``2026-03-21``, ``2026-03-21T08:00+03:30``, ``30m``, ``12h``, ``7d``, ``2w``. Raises Refused
    ``order-until``.
    """
    text = word.strip()
    plain = ascii_digits(text) if not any(c in text for c in "T:+Zmhdw") else None
    seconds = _duration(text)
    if seconds:
        return _to_come(now + seconds, word, now)
    if plain and re.fullmatch(r"1[345][0-9]{6}", plain):
        raise Refused("order-until", f"{word!r} looks like a Jalali date: write a Gregorian one")
    try:
        if plain and len(plain) == 8:
            day = datetime(int(plain[:4]), int(plain[4:6]), int(plain[6:]), tzinfo=ZoneInfo(zone))
            return _to_come(int((day + timedelta(days=1)).timestamp()), word, now)
        at = datetime.fromisoformat(text)
    except ValueError as error:
        detail = f"{word!r}: write 2026-03-21, 2026-03-21T08:00+03:30, 12h, 7d"
        raise Refused("order-until", detail) from error
    if at.tzinfo is None:
        raise Refused("order-until", f"{word!r}: say its offset from UTC, as +03:30, or Z")
    return _to_come(int(at.timestamp()), word, now)


def _duration(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,5})\s*([mhdw])", text, re.ASCII)
    return int(found[1]) * _UNITS[found[2]] if found else 0


def _to_come(at: int, word: str, now: int) -> int:
    if not now < at <= _LATEST:
        raise Refused("order-until", f"{word!r} is past, or after 2105")
    return at


def _is_number(word: str, numbering: Numbering) -> bool:
    try:
        msisdn_from_typed(word, numbering)
    except Refused:
        return False
    return True
