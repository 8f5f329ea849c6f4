"""The naive EIR: the decision table as one would read it aloud, on plain sets and dicts.

Knows nothing of the engine and imports nothing of it: the compiled kernel is right when it agrees
with this, for any facts, policy, query and time. IMEIs are the 14 digits as an integer (0, or above
14 digits: malformed), MSISDNs integers (0: none), IMSIs text ("": none), times Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WHITELISTED, GREYLISTED, BLACKLISTED, UNKNOWN = 1, 2, 3, 4

DEFAULT_STATUS = {
    "override-deny": BLACKLISTED,
    "override-allow": WHITELISTED,
    "exempt-subscriber": WHITELISTED,
    "malformed-imei": GREYLISTED,
    "bound-exception": WHITELISTED,
    "black-subscriber-unknown": GREYLISTED,
    "roamer": WHITELISTED,
    "exempt-equipment": WHITELISTED,
    "bound": WHITELISTED,
    "legacy": WHITELISTED,
    "subscriber-unknown": WHITELISTED,
    "grace": GREYLISTED,
    "grace-expired": BLACKLISTED,
    "bound-to-other": GREYLISTED,
    "not-activated": GREYLISTED,
    "not-registered": GREYLISTED,
}


@dataclass(frozen=True, slots=True)
class Members:
    """A list: single keys, and ranges (first, last) with both ends in. 0, none, is in no list."""

    keys: frozenset[int] = frozenset()
    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, key: int) -> bool:
        if key == 0:
            return False
        return key in self.keys or any(first <= key <= last for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class Override:
    allow: bool
    until: int = 0
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    until: int
    tacs: frozenset[int] = frozenset()
    reason: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class BlackList:
    status: int = BLACKLISTED
    binding_overrides: bool = False
    legacy_overrides: bool = False
    bound_overrides: bool = False
    active_from: int = 0
    active_until: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    mode: str = "enforce"
    status: Mapping[str, int] = field(default_factory=dict)
    black: Mapping[str, BlackList] = field(default_factory=dict)
    black_order: tuple[str, ...] = ()
    home_plmns: tuple[str, ...] = ()
    enforced_plmns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What both feeds say. A pair is (IMEI, MSISDN), with 0 for "any" or "not given"."""

    white: Members = Members()
    legacy: Members = Members()
    bound_elsewhere: Members = Members()
    black: Mapping[str, Members] = field(default_factory=dict)
    bindings: Mapping[int, frozenset[int]] = field(default_factory=dict)
    imsi_bindings: Mapping[int, frozenset[str]] = field(default_factory=dict)
    grey: Mapping[tuple[int, int], int] = field(default_factory=dict)
    imsi_msisdn: Mapping[str, int] = field(default_factory=dict)
    exempt_all: Members = Members()
    exempt_registration: Members = Members()
    exempt_equipment: Members = Members()
    released: Members = Members()
    overrides: Mapping[tuple[int, int], Override] = field(default_factory=dict)
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    imei: int
    msisdn: int = 0
    imsi: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``decided`` is the table's status, ``status`` the one that leaves."""

    row: int
    reason: str
    decided: int
    status: int
    valid_until: int = 0


def check(facts: Facts, policy: Policy, query: Query, now: int, grace_time: int) -> Verdict:
    imei = query.imei if query.imei < 10**14 else 0
    msisdn = query.msisdn or facts.imsi_msisdn.get(query.imsi, 0)
    row, reason, valid_until = decide(facts, policy, imei, msisdn, query.imsi, now, grace_time)
    if row == 6:
        decided = policy.black.get(reason, BlackList()).status
    else:
        decided = policy.status.get(reason, DEFAULT_STATUS[reason])
    held = row >= 12 and any(covers(hold, imei, msisdn, reason, grace_time) for hold in facts.holds)
    refuses = decided in (BLACKLISTED, UNKNOWN)
    spared = refuses and (held or policy.mode == "shadow")
    return Verdict(row, reason, decided, GREYLISTED if spared else decided, valid_until)


def decide(  # noqa: C901 - sixteen rows are sixteen branches
    facts: Facts, policy: Policy, imei: int, msisdn: int, imsi: str, now: int, grace_time: int
) -> tuple[int, str, int]:
    """The decision table: (row, reason, valid until) of the first row that fits."""
    numbers = facts.bindings.get(imei, frozenset())
    imsis = facts.imsi_bindings.get(imei, frozenset())
    bound = (msisdn in numbers and msisdn not in facts.released) or imsi in imsis
    has_bindings = bool(numbers or imsis)
    elsewhere = imei in facts.bound_elsewhere
    flags = {reason: policy.black.get(reason, BlackList()) for reason in facts.black}
    counts = {reason for reason, flag in flags.items() if active(flag, now, grace_time)}
    black = [r for r in in_order(facts, policy) if imei in facts.black[r] and r in counts]
    clones_only = bool(black) and all(flags[reason].binding_overrides for reason in black)
    override = override_of(facts, imei, msisdn, now, grace_time)
    deadline = facts.grey.get((imei, msisdn), facts.grey.get((imei, 0)))

    if override and not override.allow:
        return 1, "override-deny", override.until
    if override and ("stolen" not in black or override.forced):
        return 1, "override-allow", override.until
    if msisdn in facts.exempt_all:
        return 2, "exempt-subscriber", 0
    if imei == 0:
        return 3, "malformed-imei", 0
    if clones_only and bound:
        return 4, "bound-exception", 0
    if clones_only and has_bindings and not msisdn:
        return 5, "black-subscriber-unknown", 0
    for reason in black:
        by_legacy = flags[reason].legacy_overrides and imei in facts.legacy
        by_binding = flags[reason].bound_overrides and bound
        if not by_legacy and not by_binding:
            return 6, reason, 0
    if msisdn in facts.exempt_registration:
        return 7, "exempt-subscriber", 0
    if imsi and policy.home_plmns and not at_home(policy, imsi):
        return 7, "roamer", 0
    if imei in facts.exempt_equipment:
        return 8, "exempt-equipment", 0
    if bound:
        return 9, "bound", 0
    if imei in facts.legacy:
        return 10, "legacy", 0
    if (has_bindings or elsewhere) and not msisdn:
        return 11, "subscriber-unknown", 0
    if deadline is not None and grace_time < deadline:
        return 12, "grace", deadline
    if deadline is not None:
        return 13, "grace-expired", 0
    if has_bindings or elsewhere:
        return 14, "bound-to-other", 0
    if imei in facts.white:
        return 15, "not-activated", 0
    return 16, "not-registered", 0


def in_order(facts: Facts, policy: Policy) -> list[str]:
    """The black lists, highest first: as the policy orders them, the others after, by name."""
    ordered = [reason for reason in policy.black_order if reason in facts.black]
    return ordered + sorted(set(facts.black) - set(ordered))


def active(black: BlackList, now: int, grace_time: int) -> bool:
    """What refuses begins by grace time, and ends by whichever time is the later."""
    ended = black.active_until != 0 and max(now, grace_time) >= black.active_until
    return black.active_from <= grace_time and not ended


def override_of(facts: Facts, imei: int, msisdn: int, now: int, grace_time: int) -> Override | None:
    """The pair's, else the device's, else the number's; one that has lapsed does not exist."""
    for pair in (imei, msisdn), (imei, 0), (0, msisdn):
        override = facts.overrides.get(pair)
        if pair == (0, 0) or not override:
            continue
        ends_by = grace_time if override.allow else max(now, grace_time)
        if override.until == 0 or ends_by < override.until:
            return override
    return None


def at_home(policy: Policy, imsi: str) -> bool:
    return any(imsi.startswith(plmn) for plmn in policy.home_plmns + policy.enforced_plmns)


def covers(hold: Hold, imei: int, msisdn: int, reason: str, grace_time: int) -> bool:
    """Every criterion that the hold names must fit; one that names none covers all."""
    return (
        grace_time < hold.until
        and (not hold.tacs or imei // 1_000_000 in hold.tacs)
        and (not hold.reason or hold.reason == reason)
        and (not hold.prefix or (msisdn > 0 and str(msisdn).startswith(hold.prefix)))
    )
