"""The cast: one hand-made device for each row of the decision table, and the question to ask it.

Promises that a registry holding the cast gives every row of the table, whatever its size, with the
policy of HOME_PLMNS and BINDING_OVERRIDES. Its TACs, numbers and IMSIs occur in no population.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from eir.core.imei import ImeiKey, digits15
from eir.ops.demo.population import DAY_S, RESERVED_TAC, Columns

HOME_PLMNS: Final = ("43211", "43220", "43235")
BINDING_OVERRIDES: Final = ("cloned",)
"""The black lists whose bound users keep service: without this row 4 and row 5 never occur."""

CAST_TAC: Final = RESERVED_TAC + 1
_FIRST_KEY: Final = CAST_TAC * 1_000_000
_FIRST_NUMBER: Final = 989_990_000_000
_FIRST_IMSI: Final = 432_119_999_000_000
_STRANGER: Final = 989_990_000_099
_UNMAPPED_IMSI: Final = "432119999999999"
_FOREIGN_IMSI: Final = "262011234567890"

BLOCKED_TACS: Final[Mapping[str, tuple[int, ...]]] = {
    "black.non-homologated": (RESERVED_TAC + 10, RESERVED_TAC + 11),
    "exempt.equipment": (RESERVED_TAC + 20,),
}
"""Section -> whole TACs in it."""

BLOCKS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    "black.smuggled": (
        (35_999_930_000_000, 35_999_930_004_999),
        (35_999_930_010_000, 35_999_930_010_099),
    ),
    "exempt.subscriber.registration": ((989_995_000_000, 989_995_000_999),),
}
"""Section -> inclusive ranges of keys or numbers in it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A query with its expected row and reason; identities as the network sends them, or empty."""

    row: int
    name: str
    reason: str
    imei: str
    msisdn: str = ""
    imsi: str = ""


def questions() -> tuple[Question, ...]:
    """One question for each row of the decision table, in its order."""
    return (
        _ask(1, "the operator denies this device", "override-deny"),
        _ask(2, "a subscriber who may use any device", "exempt-subscriber"),
        Question(3, "twelve digits are no IMEI", "malformed-imei", "359999010003", _number(3)),
        _ask(4, "a cloned IMEI, with its rightful user", "bound-exception"),
        Question(5, "a cloned IMEI, and nobody known", "black-subscriber-unknown", _imei(5)),
        _ask(6, "a stolen device", "stolen"),
        Question(7, "a visitor from abroad", "roamer", _imei(7), imsi=_FOREIGN_IMSI),
        _ask(8, "a payment terminal", "exempt-equipment"),
        Question(9, "activated, and known by IMSI", "bound", _imei(9), imsi=_imsi(9)),
        _ask(10, "in use since before the plan", "legacy"),
        Question(11, "bound, but whose SIM?", "subscriber-unknown", _imei(11), imsi=_UNMAPPED_IMSI),
        _ask(12, "not activated, ten years to go", "grace"),
        _ask(13, "not activated, and time is up", "grace-expired"),
        _ask(14, "activated for somebody else", "bound-to-other"),
        _ask(15, "imported, not yet activated", "not-activated"),
        _ask(16, "a device nobody registered", "not-registered"),
    )


def cast_rows(now: int) -> dict[str, Columns]:
    """What each section holds about the cast, sorted; deadlines in Unix seconds around ``now``."""
    bound = (1, 4, 5, 6, 9, 11)
    return {
        "white": _keys(1, 4, 5, 6, 9, 11, 12, 13, 14, 15),
        "legacy": _keys(10),
        "black.smuggled": _keys(2),
        "black.cloned": _keys(4, 5),
        "black.stolen": _keys(6),
        "exempt.equipment": _keys(8),
        "exempt.subscriber.all": (_plus(_FIRST_NUMBER, 2),),
        "bindings": (
            _plus(_FIRST_KEY, *bound, 14),
            np.append(_plus(_FIRST_NUMBER, *bound), np.uint64(_STRANGER)),
        ),
        "grey": (
            _plus(_FIRST_KEY, 12, 13),
            np.array([_FIRST_NUMBER + 12, 0], np.uint64),
            np.array([now + 3_650 * DAY_S, now - 30 * DAY_S], np.int64),
        ),
        "imsi-msisdn": (
            _plus(_FIRST_IMSI, *range(1, 17)) << np.uint64(4) | np.uint64(15),
            _plus(_FIRST_NUMBER, *range(1, 17)),
        ),
        "overrides": (
            _plus(_FIRST_KEY, 1),
            np.zeros(1, np.uint64),
            np.zeros(1, np.bool_),
            np.zeros(1, np.int64),
            np.zeros(1, np.bool_),
        ),
    }


def _ask(row: int, name: str, reason: str) -> Question:
    return Question(row, name, reason, _imei(row), _number(row))


def _imei(row: int) -> str:
    return digits15(ImeiKey(_FIRST_KEY + row))


def _number(row: int) -> str:
    return str(_FIRST_NUMBER + row)


def _imsi(row: int) -> str:
    return str(_FIRST_IMSI + row)


def _keys(*rows: int) -> Columns:
    return (_plus(_FIRST_KEY, *rows),)


def _plus(base: int, *rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.array([base + row for row in rows], np.uint64)
