"""The naive EIR against the decision table: an example for each row and each of its branches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.model.naive_eir import (
    BLACKLISTED,
    GREYLISTED,
    UNKNOWN,
    WHITELISTED,
    BlackList,
    Facts,
    Hold,
    Members,
    Override,
    Policy,
    Query,
    check,
)

NOW = 1_000_000
IMEI = 35_209_900_176_148
ME, OTHER = 989121234567, 989351234567
MY_IMSI, FOREIGN_IMSI = "432110000000001", "262010000000001"

HERE = Members(frozenset({IMEI}))
IN_BLOCK = Members(ranges=((35_209_900_000_000, 35_209_900_999_999),))
MINE = Members(frozenset({ME}))
BOUND = {IMEI: frozenset({ME, OTHER})}
BOUND_TO_OTHER = {IMEI: frozenset({OTHER})}
NOTHING = Facts()
PLAIN = Policy()
CLONES = Policy(black={"cloned": BlackList(binding_overrides=True)})
HOME = Policy(home_plmns=("43211", "43235"), enforced_plmns=("43214",))
ASKED = Query(IMEI, ME)


@dataclass(frozen=True, slots=True)
class Case:
    says: str
    row: int
    reason: str
    facts: Facts = NOTHING
    query: Query = ASKED
    policy: Policy = PLAIN
    status: int = GREYLISTED
    valid_until: int = 0
    grace_time: int = NOW


def overridden(**by: Override) -> dict[tuple[int, int], Override]:
    pairs = {"pair": (IMEI, ME), "imei": (IMEI, 0), "number": (0, ME)}
    return {pairs[name]: override for name, override in by.items()}


DENY, ALLOW = Override(False), Override(True)
STOLEN = Facts(black={"stolen": HERE}, bindings=BOUND)
CLONED = Facts(black={"cloned": HERE}, bindings=BOUND)
TWO_LISTS = Facts(black={"lost": HERE, "stolen": IN_BLOCK})

CASES = [
    Case("deny the pair", 1, "override-deny",
         Facts(overrides=overridden(pair=DENY), bindings=BOUND), status=BLACKLISTED),
    Case("the pair goes before the device, the device before the number", 1, "override-allow",
         Facts(overrides=overridden(pair=ALLOW, imei=DENY, number=DENY)), status=WHITELISTED),
    Case("the device goes before the number", 1, "override-allow",
         Facts(overrides=overridden(imei=ALLOW, number=DENY)), status=WHITELISTED),
    Case("the number alone, also with a malformed IMEI", 1, "override-deny",
         Facts(overrides=overridden(number=DENY)), Query(0, ME), status=BLACKLISTED),
    Case("an override until later says until when", 1, "override-allow",
         Facts(overrides=overridden(pair=Override(True, NOW + 1))), status=WHITELISTED,
         valid_until=NOW + 1),
    Case("a lapsed override does not exist, the next one does", 1, "override-deny",
         Facts(overrides=overridden(pair=Override(True, NOW), imei=DENY)), status=BLACKLISTED),
    Case("an allowing override ends by grace time, not by the clock", 1, "override-allow",
         Facts(overrides=overridden(pair=Override(True, NOW))), status=WHITELISTED,
         valid_until=NOW, grace_time=NOW - 1),
    Case("a denying override ends by the clock", 16, "not-registered",
         Facts(overrides=overridden(pair=Override(False, NOW))), grace_time=NOW - 1),
    Case("a denying override ends by grace time where the clock went back", 16, "not-registered",
         Facts(overrides=overridden(pair=Override(False, NOW + 9))), grace_time=NOW + 9),
    Case("an override of another pair is none", 16, "not-registered",
         Facts(overrides={(IMEI, OTHER): DENY})),
    Case("allow does not clear stolen", 6, "stolen",
         replace(STOLEN, overrides=overridden(pair=ALLOW)), status=BLACKLISTED),
    Case("allow clears stolen when forced", 1, "override-allow",
         replace(STOLEN, overrides=overridden(pair=Override(True, forced=True))),
         status=WHITELISTED),
    Case("allow clears another black list", 1, "override-allow",
         Facts(black={"lost": HERE}, overrides=overridden(imei=ALLOW)), status=WHITELISTED),
    Case("exempt from all, even with a stolen device", 2, "exempt-subscriber",
         replace(STOLEN, exempt_all=MINE), status=WHITELISTED),
    Case("exempt by the number of the IMSI", 2, "exempt-subscriber",
         Facts(exempt_all=MINE, imsi_msisdn={MY_IMSI: ME}), Query(IMEI, 0, MY_IMSI),
         status=WHITELISTED),
    Case("exempt from all, even with a malformed IMEI", 2, "exempt-subscriber",
         Facts(exempt_all=MINE), Query(0, ME), status=WHITELISTED),
    Case("no IMEI", 3, "malformed-imei", query=Query(0, ME)),
    Case("fifteen digits are no key", 3, "malformed-imei", query=Query(10**14, ME)),
    Case("a malformed IMEI is in no list", 3, "malformed-imei",
         Facts(black={"stolen": Members(ranges=((0, 10**15),))}), Query(0)),
    Case("a clone's rightful user", 4, "bound-exception", CLONED, policy=CLONES,
         status=WHITELISTED),
    Case("a clone's rightful user, by IMSI", 4, "bound-exception",
         Facts(black={"cloned": HERE}, imsi_bindings={IMEI: frozenset({MY_IMSI})}),
         Query(IMEI, 0, MY_IMSI), CLONES, WHITELISTED),
    Case("the list must be marked", 6, "cloned", CLONED, status=BLACKLISTED),
    Case("every list must be marked", 6, "lost",
         replace(CLONED, black={"cloned": HERE, "lost": HERE}),
         policy=replace(CLONES, black_order=("lost", "cloned")), status=BLACKLISTED),
    Case("an inactive list does not count", 4, "bound-exception",
         replace(CLONED, black={"cloned": HERE, "lost": HERE}),
         policy=Policy(black={**CLONES.black, "lost": BlackList(active_from=NOW + 1)}),
         status=WHITELISTED),
    Case("a clone, and nobody known", 5, "black-subscriber-unknown", CLONED, Query(IMEI), CLONES),
    Case("a clone, and an IMSI that is not mapped", 5, "black-subscriber-unknown", CLONED,
         Query(IMEI, 0, MY_IMSI), CLONES),
    Case("a clone with nobody bound", 6, "cloned", Facts(black={"cloned": HERE}), Query(IMEI),
         CLONES, BLACKLISTED),
    Case("a clone with a stranger", 6, "cloned", replace(CLONED, bindings=BOUND_TO_OTHER),
         policy=CLONES, status=BLACKLISTED),
    Case("stolen, and bound", 6, "stolen", STOLEN, status=BLACKLISTED),
    Case("a blocked TAC", 6, "non-homologated", Facts(black={"non-homologated": IN_BLOCK}),
         status=BLACKLISTED),
    Case("the highest list names the reason", 6, "stolen", TWO_LISTS,
         policy=Policy(black_order=("stolen", "lost")), status=BLACKLISTED),
    Case("lists without an order go by name", 6, "lost", TWO_LISTS, status=BLACKLISTED),
    Case("a list has its own status", 6, "lost", Facts(black={"lost": HERE}),
         policy=Policy(black={"lost": BlackList(UNKNOWN)}), status=UNKNOWN),
    Case("legacy overrides: not if legacy", 10, "legacy",
         Facts(black={"smuggled": HERE}, legacy=HERE),
         policy=Policy(black={"smuggled": BlackList(legacy_overrides=True)}), status=WHITELISTED),
    Case("legacy overrides: still if not legacy", 6, "smuggled", Facts(black={"smuggled": HERE}),
         policy=Policy(black={"smuggled": BlackList(legacy_overrides=True)}), status=BLACKLISTED),
    Case("bound overrides: not if bound", 9, "bound",
         Facts(black={"smuggled": HERE}, bindings=BOUND),
         policy=Policy(black={"smuggled": BlackList(bound_overrides=True)}), status=WHITELISTED),
    Case("bound overrides: still with a stranger", 6, "smuggled",
         Facts(black={"smuggled": HERE}, bindings=BOUND_TO_OTHER),
         policy=Policy(black={"smuggled": BlackList(bound_overrides=True)}), status=BLACKLISTED),
    Case("a list that drops out leaves the next", 6, "stolen",
         replace(TWO_LISTS, legacy=HERE),
         policy=Policy(black={"lost": BlackList(legacy_overrides=True)}), status=BLACKLISTED),
    Case("a list whose time has passed", 16, "not-registered", Facts(black={"lost": HERE}),
         policy=Policy(black={"lost": BlackList(active_until=NOW)})),
    Case("a list ends by the clock", 16, "not-registered", Facts(black={"lost": HERE}),
         policy=Policy(black={"lost": BlackList(active_until=NOW)}), grace_time=NOW - 1),
    Case("a list ends by grace time where the clock went back", 16, "not-registered",
         Facts(black={"lost": HERE}),
         policy=Policy(black={"lost": BlackList(active_until=NOW + 9)}), grace_time=NOW + 9),
    Case("a list begins by grace time, not by the clock", 16, "not-registered",
         Facts(black={"lost": HERE}),
         policy=Policy(black={"lost": BlackList(active_from=NOW)}), grace_time=NOW - 1),
    Case("exempt from registration", 7, "exempt-subscriber", Facts(exempt_registration=MINE),
         status=WHITELISTED),
    Case("exempt from registration clears no black list", 6, "stolen",
         replace(STOLEN, exempt_registration=MINE), status=BLACKLISTED),
    Case("a roamer", 7, "roamer", query=Query(IMEI, 0, FOREIGN_IMSI), policy=HOME,
         status=WHITELISTED),
    Case("a subscriber of ours is none", 16, "not-registered", query=Query(IMEI, ME, MY_IMSI),
         policy=HOME),
    Case("nor one of an enforced network", 16, "not-registered",
         query=Query(IMEI, 0, "432140000000001"), policy=HOME),
    Case("without home networks nobody roams", 16, "not-registered",
         query=Query(IMEI, 0, FOREIGN_IMSI)),
    Case("a payment terminal", 8, "exempt-equipment", Facts(exempt_equipment=HERE),
         status=WHITELISTED),
    Case("bound by number", 9, "bound", Facts(bindings=BOUND), status=WHITELISTED),
    Case("bound by the number of the IMSI", 9, "bound",
         Facts(bindings=BOUND, imsi_msisdn={MY_IMSI: ME}), Query(IMEI, 0, MY_IMSI),
         status=WHITELISTED),
    Case("the number in the query wins over the table", 14, "bound-to-other",
         Facts(bindings=BOUND_TO_OTHER, imsi_msisdn={MY_IMSI: OTHER}), Query(IMEI, ME, MY_IMSI)),
    Case("bound by IMSI", 9, "bound", Facts(imsi_bindings={IMEI: frozenset({MY_IMSI})}),
         Query(IMEI, ME, MY_IMSI), status=WHITELISTED),
    Case("a released number binds nothing", 14, "bound-to-other",
         Facts(bindings=BOUND, released=MINE)),
    Case("a binding to the IMSI stands though the number was released", 9, "bound",
         Facts(imsi_bindings={IMEI: frozenset({MY_IMSI})}, released=MINE),
         Query(IMEI, ME, MY_IMSI), status=WHITELISTED),
    Case("a released number is a known one", 14, "bound-to-other",
         Facts(bindings=BOUND, released=MINE, imsi_msisdn={MY_IMSI: ME}),
         Query(IMEI, 0, MY_IMSI)),
    Case("another's number, released, is still a binding", 14, "bound-to-other",
         Facts(white=HERE, bindings=BOUND_TO_OTHER, released=Members(frozenset({OTHER})))),
    Case("legacy, with any SIM", 10, "legacy", Facts(legacy=HERE, bindings=BOUND_TO_OTHER),
         status=WHITELISTED),
    Case("bound, and nobody known", 11, "subscriber-unknown", Facts(bindings=BOUND), Query(IMEI),
         status=WHITELISTED),
    Case("bound by IMSI, and nobody known", 11, "subscriber-unknown",
         Facts(imsi_bindings={IMEI: frozenset({MY_IMSI})}), Query(IMEI), status=WHITELISTED),
    Case("bound elsewhere, and nobody known", 11, "subscriber-unknown",
         Facts(bound_elsewhere=HERE), Query(IMEI, 0, MY_IMSI), status=WHITELISTED),
    Case("the pair's deadline lies ahead", 12, "grace", Facts(grey={(IMEI, ME): NOW + 1}),
         valid_until=NOW + 1),
    Case("any number's deadline lies ahead", 12, "grace", Facts(grey={(IMEI, 0): NOW + 1}),
         valid_until=NOW + 1),
    Case("any number's deadline, and nobody known", 12, "grace", Facts(grey={(IMEI, 0): NOW + 1}),
         Query(IMEI), valid_until=NOW + 1),
    Case("the pair's deadline goes before any number's", 12, "grace",
         Facts(grey={(IMEI, ME): NOW + 9, (IMEI, 0): NOW - 9}), valid_until=NOW + 9),
    Case("grace time stands still", 12, "grace", Facts(grey={(IMEI, ME): NOW - 10}),
         valid_until=NOW - 10, grace_time=NOW - 11),
    Case("a deadline is reached at its second", 13, "grace-expired",
         Facts(grey={(IMEI, ME): NOW}), status=BLACKLISTED),
    Case("the pair's deadline has passed, whatever any's", 13, "grace-expired",
         Facts(grey={(IMEI, ME): NOW - 9, (IMEI, 0): NOW + 9}), status=BLACKLISTED),
    Case("another pair's deadline says nothing", 14, "bound-to-other",
         Facts(grey={(IMEI, OTHER): NOW - 9}, bindings=BOUND_TO_OTHER)),
    Case("bound to others", 14, "bound-to-other", Facts(bindings=BOUND_TO_OTHER, white=HERE)),
    Case("bound elsewhere", 14, "bound-to-other", Facts(bound_elsewhere=HERE)),
    Case("imported, not activated", 15, "not-activated", Facts(white=IN_BLOCK)),
    Case("in no list", 16, "not-registered", Facts(white=Members(frozenset({IMEI + 1})))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}: {case.says}")
def test_row(case: Case) -> None:
    verdict = check(case.facts, case.policy, case.query, NOW, case.grace_time)
    assert (verdict.row, verdict.reason) == (case.row, case.reason)
    assert (verdict.status, verdict.valid_until) == (case.status, case.valid_until)
    assert verdict.decided == verdict.status


def test_every_row_has_an_example() -> None:
    assert {case.row for case in CASES} == set(range(1, 17))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}: {case.says}")
def test_shadow_refuses_nobody_and_says_what_it_would_have_done(case: Case) -> None:
    shadow = check(
        case.facts, replace(case.policy, mode="shadow"), case.query, NOW, case.grace_time
    )
    refused = case.status in (BLACKLISTED, UNKNOWN)
    assert shadow.decided == case.status
    assert shadow.status == (GREYLISTED if refused else case.status)


EXPIRED = Facts(grey={(IMEI, ME): NOW - 1})


@pytest.mark.parametrize(
    ("hold", "spared"),
    [
        (Hold(NOW + 1), True),
        (Hold(NOW), False),
        (Hold(NOW + 1, tacs=frozenset({35_209_900})), True),
        (Hold(NOW + 1, tacs=frozenset({35_209_901})), False),
        (Hold(NOW + 1, reason="grace-expired"), True),
        (Hold(NOW + 1, reason="not-registered"), False),
        (Hold(NOW + 1, prefix="98912"), True),
        (Hold(NOW + 1, prefix="98935"), False),
        (Hold(NOW + 1, frozenset({35_209_900}), "grace-expired", "98935"), False),
    ],
)
def test_a_hold_spares_whom_it_covers(hold: Hold, spared: bool) -> None:
    verdict = check(replace(EXPIRED, holds=(hold,)), PLAIN, ASKED, NOW, NOW)
    assert verdict.decided == BLACKLISTED
    assert verdict.status == (GREYLISTED if spared else BLACKLISTED)


@pytest.mark.parametrize(("grace_time", "spared"), [(NOW - 1, True), (NOW, False)])
def test_a_hold_ends_by_grace_time(grace_time: int, spared: bool) -> None:
    facts = Facts(bindings=BOUND_TO_OTHER, holds=(Hold(NOW),))
    policy = Policy(status={"bound-to-other": BLACKLISTED})
    for clock in (NOW - 99, NOW + 99):
        verdict = check(facts, policy, ASKED, clock, grace_time)
        assert verdict.status == (GREYLISTED if spared else BLACKLISTED)


def test_a_hold_by_number_covers_nobody_without_one() -> None:
    facts = Facts(grey={(IMEI, 0): NOW - 1}, holds=(Hold(NOW + 1, prefix="98"),))
    assert check(facts, PLAIN, Query(IMEI), NOW, NOW).status == BLACKLISTED


@pytest.mark.parametrize(
    "facts", [STOLEN, Facts(overrides=overridden(pair=DENY))], ids=["black", "override-deny"]
)
def test_a_hold_covers_neither_black_lists_nor_overrides(facts: Facts) -> None:
    verdict = check(replace(facts, holds=(Hold(NOW + 1),)), PLAIN, ASKED, NOW, NOW)
    assert verdict.status == BLACKLISTED


def test_a_hold_spares_the_unknown_too() -> None:
    policy = Policy(status={"not-registered": UNKNOWN})
    verdict = check(Facts(holds=(Hold(NOW + 1),)), policy, ASKED, NOW, NOW)
    assert (verdict.decided, verdict.status) == (UNKNOWN, GREYLISTED)


def test_every_default_can_be_changed() -> None:
    policy = Policy(status={"bound": UNKNOWN})
    assert check(Facts(bindings=BOUND), policy, ASKED, NOW, NOW).status == UNKNOWN
