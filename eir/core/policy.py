"""The decision table: facts, a policy and a time in, a verdict out. This is its one text.

``decide`` is the table of sixteen rows, first match wins; everything before it only collects
facts. What a row answers, and what each black list may be overruled by, is operator policy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from eir import limits
from eir.core.jit import inlined, trailing_zeros
from eir.core.orders import reason_name
from eir.core.status import Status as Status
from eir.errors import Refused

# What the data say of one query: stage one fills these bits, stage two decides on nothing else.
MALFORMED = 1 << 0
OVERRIDE_DENY = 1 << 1
OVERRIDE_ALLOW = 1 << 2
OVERRIDE_FORCED = 1 << 3
EXEMPT_ALL = 1 << 4
EXEMPT_REGISTRATION = 1 << 5
ROAMER = 1 << 6
EXEMPT_EQUIPMENT = 1 << 7
BOUND = 1 << 8
HAS_BINDINGS = 1 << 9
BOUND_ELSEWHERE = 1 << 10
NUMBER_KNOWN = 1 << 11
LEGACY = 1 << 12
WHITE = 1 << 13
GREY = 1 << 14
RELEASED = 1 << 15

FACT_NAMES: Mapping[int, str] = MappingProxyType(
    {
        MALFORMED: "not an IMEI",
        OVERRIDE_DENY: "override: deny",
        OVERRIDE_ALLOW: "override: allow",
        OVERRIDE_FORCED: "the override is forced",
        EXEMPT_ALL: "subscriber exempt from everything",
        EXEMPT_REGISTRATION: "subscriber exempt from registration",
        ROAMER: "roamer",
        EXEMPT_EQUIPMENT: "exempt equipment",
        BOUND: "the pair is bound",
        HAS_BINDINGS: "the IMEI has bindings",
        BOUND_ELSEWHERE: "bound to another operator's subscriber",
        NUMBER_KNOWN: "the subscriber's number is known",
        LEGACY: "in legacy",
        WHITE: "in white",
        GREY: "a grey entry",
        RELEASED: "the number was released: it binds nothing",
    }
)

FIXED_REASONS: Mapping[str, int] = MappingProxyType(
    {
        "override-deny": 1,
        "override-allow": 2,
        "exempt-subscriber": 3,
        "malformed-imei": 4,
        "bound-exception": 5,
        "black-subscriber-unknown": 6,
        "roamer": 7,
        "exempt-equipment": 8,
        "bound": 9,
        "legacy": 10,
        "subscriber-unknown": 11,
        "grace": 12,
        "grace-expired": 13,
        "bound-to-other": 14,
        "not-activated": 15,
        "not-registered": 16,
    }
)
"""Reason codes of every row but 6, whose reasons are the black lists' own, from id 256 on."""

DEFAULT_STATUS: Mapping[str, Status] = MappingProxyType(
    {
        "override-deny": Status.BLACKLISTED,
        "override-allow": Status.WHITELISTED,
        "exempt-subscriber": Status.WHITELISTED,
        "malformed-imei": Status.GREYLISTED,
        "bound-exception": Status.WHITELISTED,
        "black-subscriber-unknown": Status.GREYLISTED,
        "roamer": Status.WHITELISTED,
        "exempt-equipment": Status.WHITELISTED,
        "bound": Status.WHITELISTED,
        "legacy": Status.WHITELISTED,
        "subscriber-unknown": Status.WHITELISTED,
        "grace": Status.GREYLISTED,
        "grace-expired": Status.BLACKLISTED,
        "bound-to-other": Status.GREYLISTED,
        "not-activated": Status.GREYLISTED,
        "not-registered": Status.GREYLISTED,
    }
)

ROWS: tuple[tuple[int, str], ...] = (
    (1, "an override for this pair, else this IMEI, else this number"),
    (2, "the subscriber is exempt from everything"),
    (3, "not 14 to 16 digits, or all zeros"),
    (4, "black only by lists that a binding overrides, and the pair is bound"),
    (5, "black only by such lists, the IMEI has bindings, and no number is known"),
    (6, "in a black list"),
    (7, "the subscriber is exempt from registration, or a roamer"),
    (8, "the equipment is exempt"),
    (9, "the pair is bound"),
    (10, "in use before the plan began"),
    (11, "the IMEI has bindings, and no number is known"),
    (12, "a grey entry whose deadline is not reached"),
    (13, "a grey entry whose deadline is reached"),
    (14, "the IMEI has bindings to others only"),
    (15, "legally imported, not activated"),
    (16, "none of these"),
)
"""The rows in words, as `explain` prints them."""

ENFORCE, SHADOW = "enforce", "shadow"
NEVER_CLEARED = "stolen"
"""The black list that an override clears only when forced."""

BLACK_BASE = 32
"""In a compiled verdict code: 1–16 are the fixed reasons, BLACK_BASE + n is black list n."""
CODES = BLACK_BASE + limits.MAX_BLACK_REASONS

# Places in the masks of black lists that ``decide`` takes.
BINDING_OVERRIDES, LEGACY_OVERRIDES, BOUND_OVERRIDES, STAYS_BLACK = 0, 1, 2, 3
NONE = np.uint64(0)

WHITELISTED, GREYLISTED, BLACKLISTED, UNKNOWN = (int(status) for status in Status)

_DEFAULT_ORDER = ("stolen", "lost", "cloned", "smuggled", "non-homologated", "withdrawn")


@dataclass(frozen=True, slots=True)
class BlackList:
    """How one black list refuses. Times are Unix seconds UTC, 0 = no bound.

    ``binding_overrides``: where every black list that names a device is so marked (clones), its
    bound users keep service. ``legacy_overrides``, ``bound_overrides``: this list does not count
    for a legacy device, or for a bound pair.
    """

    status: Status = Status.BLACKLISTED
    binding_overrides: bool = False
    legacy_overrides: bool = False
    bound_overrides: bool = False
    active_from: int = 0
    active_until: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides. Raises Refused ``policy-…`` for anything inconsistent.

    ``status``: by fixed reason, missing ones as the default. ``black``: by reason name, missing
    ones as BlackList(). ``black_order``: whose name is told where several lists hold a device;
    lists not named come last, by name. ``home_plmns``, ``enforced_plmns``: 5 or 6 digits; a
    roamer is a subscriber of neither, and none is while no home PLMN is set.
    """

    mode: str = ENFORCE
    status: Mapping[str, Status] = field(default_factory=dict)
    black: Mapping[str, BlackList] = field(
        default_factory=lambda: {"cloned": BlackList(binding_overrides=True)}
    )
    black_order: tuple[str, ...] = _DEFAULT_ORDER
    home_plmns: tuple[str, ...] = ()
    enforced_plmns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in (ENFORCE, SHADOW):
            raise Refused("policy-mode", f"mode {self.mode!r}: it is {ENFORCE!r} or {SHADOW!r}")
        unknown = sorted(set(self.status) - set(FIXED_REASONS))
        if unknown:
            raise Refused("policy-reason", f"no row has the reason {unknown[0]!r}")
        for name in (*self.black, *self.black_order):
            reason_name(name)
        for name, of in self.black.items():
            if not 0 <= of.active_from < 1 << 32 or not 0 <= of.active_until < 1 << 32:
                raise Refused("policy-times", f"black list {name!r}: a time outside 1970–2106")
        if len(set(self.black_order)) != len(self.black_order):
            raise Refused("policy-order", "a black list stands twice in the order")
        plmns = (*self.home_plmns, *self.enforced_plmns)
        if len(plmns) > limits.MAX_PLMNS:
            raise Refused("policy-plmn", f"{len(plmns)} PLMNs; at most {limits.MAX_PLMNS}")
        for plmn in plmns:
            if not re.fullmatch(r"[0-9]{5,6}", plmn, re.ASCII):
                raise Refused("policy-plmn", f"{plmn!r}: a PLMN is MCC and MNC, 5 or 6 digits")

    def status_of(self, reason: str) -> Status:
        """The status of a fixed reason's row, or of a black list."""
        if reason in FIXED_REASONS:
            return self.status.get(reason, DEFAULT_STATUS[reason])
        return self.black.get(reason, BlackList()).status

    def refuses_all_in(self, reason: str) -> bool:
        """Whether nothing but an override or an exemption clears a device of a black list."""
        flags = self.black.get(reason, BlackList())
        yields = flags.binding_overrides or flags.legacy_overrides or flags.bound_overrides
        return not (yields or flags.active_from or flags.active_until)

    def ranked(self, reasons: list[str]) -> list[str]:
        """Black lists with the highest first."""
        place = {name: i for i, name in enumerate(self.black_order)}
        return sorted(reasons, key=lambda name: (place.get(name, len(place)), name))


@inlined
def decide(facts, black, deadline, grace_time, masks):  # noqa: C901 (a table, not a tangle)
    """The table: (row, code), where code is a fixed reason or BLACK_BASE + the black list's bit.

    ``black`` and ``masks`` (uint64[4]): bit n is black list n, the highest-ranked the
    lowest bit. ``deadline`` counts only with the GREY fact.
    """
    bound = facts & BOUND
    clones_only = black != NONE and black & ~masks[BINDING_OVERRIDES] == NONE
    refusing = black
    if facts & LEGACY:
        refusing &= ~masks[LEGACY_OVERRIDES]
    if bound:
        refusing &= ~masks[BOUND_OVERRIDES]

    if facts & OVERRIDE_DENY:
        return 1, 1
    if facts & OVERRIDE_ALLOW and (facts & OVERRIDE_FORCED or black & masks[STAYS_BLACK] == NONE):
        return 1, 2
    if facts & EXEMPT_ALL:
        return 2, 3
    if facts & MALFORMED:
        return 3, 4
    if clones_only and bound:
        return 4, 5
    if clones_only and facts & HAS_BINDINGS and not facts & NUMBER_KNOWN:
        return 5, 6
    if refusing != NONE:
        return 6, BLACK_BASE + trailing_zeros(refusing)
    if facts & EXEMPT_REGISTRATION:
        return 7, 3
    if facts & ROAMER:
        return 7, 7
    if facts & EXEMPT_EQUIPMENT:
        return 8, 8
    if bound:
        return 9, 9
    if facts & LEGACY:
        return 10, 10
    if facts & (HAS_BINDINGS | BOUND_ELSEWHERE) and not facts & NUMBER_KNOWN:
        return 11, 11
    if facts & GREY and grace_time < deadline:
        return 12, 12
    if facts & GREY:
        return 13, 13
    if facts & (HAS_BINDINGS | BOUND_ELSEWHERE):
        return 14, 14
    if facts & WHITE:
        return 15, 15
    return 16, 16


@inlined
def leaves_as(status, row, held, shadow):
    """What a decided status leaves as: in shadow nobody is refused, a hold spares rows 12–16."""
    if status in (BLACKLISTED, UNKNOWN) and (shadow or (held and row >= 12)):
        return GREYLISTED
    return status
