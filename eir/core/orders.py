"""What an operator orders by hand: overrides of a device or number, holds on refusals, the mode,
and items of lists.

Few (at most a million, 64, and a hundred thousand), so they are kept as values with who, when and
why, and laid out as arrays only for the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eir import limits
from eir.errors import Refused

_REASON = re.compile(r"[a-z0-9-]{1,32}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
HOLDABLE_REASONS = (
    "grace", "grace-expired", "bound-to-other", "not-activated", "not-registered",
)  # fmt: skip
"""Rows 12–16: what a hold can cover."""
MODES = ("mode.enforce", "mode.shadow")
LISTS_BY_HAND = (
    "exempt.equipment", "exempt.subscriber.all", "exempt.subscriber.registration", "released",
)  # fmt: skip
"""What an Order can be of: the mode, and lists of which single items are put in by hand."""


@dataclass(frozen=True, slots=True, order=True)
class Override:
    """Allow or deny a pair, a device (msisdn 0) or a number (imei 0).

    ``until``: Unix seconds UTC, 0 = for ever. ``forced`` lets an allow clear ``black.stolen`` too.
    """

    imei: int
    msisdn: int
    allow: bool
    until: int = 0
    forced: bool = False
    who: str = ""
    at: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Hold:
    """Until a date, rows 12–16 refuse nobody it covers. Every given criterion must match.

    ``tacs``: 8-digit TACs as integers, empty = all. ``reason``: one of rows 12–16's reason codes,
    empty = all. ``msisdn_prefix``: leading digits, empty = all (and those without a number).
    """

    until: int
    tacs: tuple[int, ...] = ()
    reason: str = ""
    msisdn_prefix: str = ""
    who: str = ""
    at: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Order:
    """Who gave any other order, when and why.

    ``what``: one of MODES (``low`` and ``high`` are 0; at most one of them stands), or one of
    LISTS_BY_HAND: the key ``low``, or the range ``low`` to ``high``, is in that list by hand.
    """

    what: str
    low: int = 0
    high: int = 0
    who: str = ""
    at: int = 0
    why: str = ""


def check_override(row: Override) -> None:
    """Raises Refused ``override-invalid`` where a field is out of its domain."""
    good = (
        _typed((row.imei, row.msisdn, row.until, row.at), int)
        and _typed((row.allow, row.forced), bool)
        and 0 <= row.imei <= limits.MAX_IMEI_KEY
        and 0 <= row.msisdn < 10**limits.MAX_MSISDN_DIGITS
        and (row.imei or row.msisdn)
        and 0 <= row.until < 1 << 32
        and 0 <= row.at < 1 << 32
        and not (row.forced and not row.allow)
        and _texts_fit(row.who, row.why)
    )
    if not good:
        raise Refused(
            "override-invalid", f"{row}: an IMEI or a number, a date, forced only to allow"
        )


def check_hold(row: Hold) -> None:
    """Raises Refused ``hold-invalid`` where a field is out of its domain."""
    good = (
        _typed((row.until, row.at, *row.tacs), int)
        and 0 < row.until < 1 << 32
        and 0 <= row.at < 1 << 32
        and len(row.tacs) <= limits.MAX_HOLD_TACS
        and all(0 <= tac < 10**limits.TAC_DIGITS for tac in row.tacs)
        and list(row.tacs) == sorted(set(row.tacs))
        and (row.reason == "" or row.reason in HOLDABLE_REASONS)
        and _texts_fit(row.msisdn_prefix, row.who, row.why)
        and re.fullmatch(r"([1-9][0-9]{0,14})?", row.msisdn_prefix) is not None
    )
    if not good:
        raise Refused(
            "hold-invalid",
            f"hold until {row.until}: wants a date, sorted TACs, one of {HOLDABLE_REASONS}, digits",
        )


def check_overrides(rows: Sequence[Override]) -> None:
    """Raises Refused ``override-invalid``, ``override-twice`` or ``too-many-overrides``."""
    if len(rows) > limits.MAX_OVERRIDES:
        raise Refused(
            "too-many-overrides", f"{len(rows)} overrides; at most {limits.MAX_OVERRIDES}"
        )
    seen = set()
    for row in rows:
        check_override(row)
        if (row.imei, row.msisdn) in seen:
            raise Refused("override-twice", f"two overrides for IMEI {row.imei}, {row.msisdn}")
        seen.add((row.imei, row.msisdn))


def check_holds(rows: Sequence[Hold]) -> None:
    """Raises Refused ``hold-invalid`` or ``too-many-holds``."""
    if len(rows) > limits.MAX_HOLDS:
        raise Refused("too-many-holds", f"{len(rows)} holds; at most {limits.MAX_HOLDS}")
    for row in rows:
        check_hold(row)


def check_orders(rows: Sequence[Order]) -> None:
    """Raises Refused ``order-invalid`` or ``too-many-orders``."""
    if len(rows) > limits.MAX_ORDERS:
        raise Refused("too-many-orders", f"{len(rows)} orders; at most {limits.MAX_ORDERS}")
    for row in rows:
        good = (
            _typed((row.low, row.high, row.at), int)
            and (row.low == row.high == 0 if row.what in MODES else 0 < row.low <= row.high)
            and row.what in (*MODES, *LISTS_BY_HAND)
            and row.high < 1 << 54
            and 0 <= row.at < 1 << 32
            and _texts_fit(row.who, row.why)
        )
        if not good:
            raise Refused("order-invalid", f"{row}: a mode, or an item of a list, and who said so")
    named = [(row.what, row.low, row.high) for row in rows]
    if len(set(named)) < len(named) or sum(row.what in MODES for row in rows) > 1:
        raise Refused("order-invalid", "one item twice, or two modes")


def mode_order(rows: Sequence[Override | Hold | Order]) -> Order | None:
    """The order of the mode among these, if one stands."""
    return next((row for row in rows if isinstance(row, Order) and row.what in MODES), None)


def reason_name(text: str) -> str:
    """The text, where it is a black list's reason; raises Refused ``reason-name`` else."""
    if not _REASON.match(text):
        raise Refused("reason-name", f"{text!r}: a reason is 1 to 32 of a–z, 0–9 and -")
    return text


def _typed(values: tuple[object, ...], kind: type) -> bool:
    """What a file says may be of any type, and True is an int."""
    return all(type(value) is kind for value in values)


def _texts_fit(*texts: str) -> bool:
    """One line each, trimmed, so that they stand in a CSV as they are."""
    return _typed(texts, str) and all(
        len(text) <= limits.MAX_TEXT_FIELD_CHARS
        and text == text.strip()
        and not _CONTROL.search(text)
        for text in texts
    )
