"""The guard: whom a change newly refuses is what the naive question to everybody says."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from hypothesis import given, settings

from eir.core.delta import between
from eir.core.orders import Hold, Override
from eir.core.policy import Policy, Status
from eir.core.tables import Tables
from eir.serve.affected import population
from eir.serve.guard import GuardLimits, impact, objection
from tests.core.contents import (
    KEYS,
    NUMBERS,
    OPERATOR_CONTENTS,
    REGISTRY_CONTENTS,
    Content,
    Listed,
    generation_of,
)

NOW = 1_760_000_000
EVERYBODY = np.array([(key, number) for key in KEYS for number in (0, *NUMBERS)], np.uint64)


def tables(registry: Content, operator: Content | None = None, policy: Policy | None = None):
    own = generation_of(operator, feed="operator") if operator is not None else None
    return Tables(generation_of(registry), own, policy or Policy())


def white(count: int) -> Content:
    return {"white": Listed(frozenset((key,) for key in range(1, count + 1)))}


def black(*keys: int) -> Content:
    return {**white(3000), "black.stolen": Listed(frozenset((key,) for key in keys))}


def refused(of: Tables) -> set[tuple[int, int]]:
    counts = np.zeros((256, 5), np.uint64)
    imei, msisdn = EVERYBODY[:, 0].copy(), EVERYBODY[:, 1].copy()
    rows = of.check(imei, msisdn, np.zeros_like(imei), now=NOW, grace_time=NOW, counts=counts).rows
    strict = (Status.BLACKLISTED, Status.UNKNOWN)
    return {
        tuple(map(int, pair))
        for pair, row in zip(EVERYBODY, rows, strict=False)
        if row[0] in strict
    }


@settings(max_examples=60, deadline=None)
@given(old=REGISTRY_CONTENTS, new=REGISTRY_CONTENTS)
def test_what_the_lists_can_tell_of_is_counted(old: Content, new: Content) -> None:
    """A device alone that is newly refused, and that the delta or its ranges name, is found."""
    before, after = tables(old), tables(new)
    delta = between(before.registry, after.registry)
    from eir.serve.affected import touched

    asked = {
        (int(i), int(m))
        for imei, msisdn, _ in touched(delta, (before.registry, after.registry))
        for i, m in zip(imei, msisdn, strict=True)
    }
    known = {row[0] for each in (old, new) for listed in each.values() for row in listed.rows}
    for imei, msisdn in refused(after) - refused(before):
        if imei in known and msisdn == 0:
            assert (imei, 0) in asked
        bound = {
            row[1]
            for each in (old, new)
            for name in ("bindings", "grey")
            if name in each
            for row in each[name].rows
            if row[0] == imei
        }
        if msisdn in bound:
            assert (imei, msisdn) in asked


@settings(max_examples=40, deadline=None)
@given(registry=REGISTRY_CONTENTS, old=OPERATOR_CONTENTS, new=OPERATOR_CONTENTS)
def test_the_operators_changes_are_asked_about_too(
    registry: Content, old: Content, new: Content
) -> None:
    before, after = tables(registry, old), tables(registry, new)
    assert before.operator is not None
    assert after.operator is not None
    change = between(before.operator, after.operator)
    text = objection(
        GuardLimits(max_newly_refused=0), before, after, [change], now=NOW, grace_time=NOW
    )
    bound = {tuple(row) for row in registry.get("bindings", Listed()).rows}
    if (refused(after) - refused(before)) & bound:
        assert "newly refused" in text


def test_each_is_counted_once_by_reason_and_tac() -> None:
    before, after = tables(black()), tables(black(1, 2, 3))
    delta = between(before.registry, after.registry)
    text = objection(GuardLimits(2), before, after, [delta], now=NOW, grace_time=NOW)
    assert (
        text == "3 of 3 devices and pairs newly refused (by reason: stolen 3; by TAC: 00000000 3),"
        " beyond [guard] max_newly_refused = 2"
    )
    assert not objection(GuardLimits(3), before, after, [delta], now=NOW, grace_time=NOW)


@settings(max_examples=60, deadline=None)
@given(registry=REGISTRY_CONTENTS)
def test_the_population_names_everybody_and_nobody_twice(registry: Content) -> None:
    asked = [
        tuple(map(int, each))
        for queries in population(generation_of(registry))
        for each in zip(*queries, strict=True)
    ]
    lists = [name for name in registry if name not in ("bindings", "bindings.imsi", "grey")]
    paired = {
        (*row[:2], 0) for name in ("bindings", "grey") for row in registry.get(name, Listed()).rows
    }
    by_imsi = {(row[0], 0, row[1]) for row in registry.get("bindings.imsi", Listed()).rows}
    alone = {(row[0], 0, 0) for name in lists for row in registry[name].rows}
    firsts = [(block[0], 0, 0) for name in lists for block in registry[name].ranges]
    assert sorted(asked) == sorted([*(paired | by_imsi | alone), *firsts])


def test_who_is_admitted_again_is_no_objection() -> None:
    before, after = tables(black(1, 2, 3)), tables(black())
    delta = between(before.registry, after.registry)
    assert not objection(GuardLimits(0), before, after, [delta], now=NOW, grace_time=NOW)


def change(old: int, new: int, **bounds: float) -> str:
    before, after = tables(white(old)), tables(white(new))
    delta = between(before.registry, after.registry)
    return objection(GuardLimits(**bounds), before, after, [delta], now=NOW, grace_time=NOW)


def test_a_list_may_neither_shrink_nor_grow_too_much() -> None:
    nobody = "devices and pairs newly refused"
    assert change(10_000, 7_000) == (
        "white shrinks from 10,000 items to 7,000, beyond [guard] max_shrink = 0.2;"
        f" 0 of 3,000 {nobody}"
    )
    assert change(1_000, 10_000) == (
        "white grows from 1,000 items to 10,000, beyond [guard] max_growth_percent = 100;"
        f" 0 of 9,000 {nobody}"
    )
    assert not change(10_000, 9_000)
    assert not change(10, 500)
    assert "shrinks" in change(10_000, 0)


def test_a_first_load_has_to_bring_enough() -> None:
    least: Mapping[str, int] = {"white": 5_000, "bindings": 0}
    text = objection(
        GuardLimits(least_items=least), None, tables(white(10)), [], now=NOW, grace_time=NOW
    )
    assert text == "white has 10 items, at least 5,000 are expected"


def test_a_stricter_policy_waits() -> None:
    before = tables(white(3))
    for strict in (
        Policy(status={"not-registered": Status.BLACKLISTED}),
        Policy(status={"not-activated": Status.UNKNOWN}),
    ):
        after = Tables(before.registry, None, strict)
        assert "becomes" in objection(GuardLimits(), before, after, [], now=NOW, grace_time=NOW)


def test_enforcing_asks_everybody() -> None:
    content = black(*range(1, 1_200))
    shadow = tables(content, policy=Policy(mode="shadow"))
    enforced = Tables(shadow.registry, None, replace(shadow.policy, mode="enforce"))
    text = objection(GuardLimits(), shadow, enforced, [], now=NOW, grace_time=NOW)
    assert text.startswith(("1,199 of", "2,398 of"))
    assert not objection(GuardLimits(), enforced, shadow, [], now=NOW, grace_time=NOW)


def test_nothing_asked_is_nothing_refused() -> None:
    one = tables(white(3))
    assert impact(one, one, [], now=NOW, grace_time=NOW).newly_refused == 0


DAY_S = 86_400
MANY = range(1, 31)
FIRST_NUMBER = 989_120_000_000
IMSI = 432_111_111_111_111 << 4 | 15


def listed(*rows: tuple[int, ...]) -> Listed:
    return Listed(frozenset(rows))


def ordered(*orders: Hold | Override) -> Listed:
    return Listed(orders=frozenset(orders))


def said(before: Tables, after: Tables, **more: int) -> str:
    """What the guard says where nobody may be refused unasked."""
    pairs = ((before.registry, after.registry), (before.operator, after.operator))
    deltas = [between(old, new) for old, new in pairs if old and new]
    times = {"now": NOW, "grace_time": NOW, **more}
    return objection(GuardLimits(0), before, after, deltas, **times)


def counted(count: int, reason: str) -> str:
    return f"{count} of {count} devices and pairs newly refused (by reason: {reason} {count};"


def test_numbers_that_are_denied_count_in_grey_and_without_any_device() -> None:
    grey = listed(*((n, FIRST_NUMBER + n, NOW + 9 * DAY_S) for n in range(1, 11)))
    denied = (Override(0, FIRST_NUMBER + n, allow=False) for n in MANY)
    before = tables({"grey": grey}, {})
    after = tables({"grey": grey}, {"overrides": ordered(*denied)})
    assert said(before, after).startswith(counted(30, "override-deny"))
    assert said(before, after).count("00000000 10")


def test_a_number_that_is_exempt_no_more_counts_with_its_grey_devices() -> None:
    registry = {"grey": listed(*((n, FIRST_NUMBER, NOW - 9) for n in MANY))}
    before = tables(registry, {"exempt.subscriber.all": listed((FIRST_NUMBER,))})
    after = tables(registry, {"exempt.subscriber.all": Listed()})
    assert said(before, after).startswith(counted(30, "grace-expired"))


def test_a_policy_hides_no_change_of_the_data() -> None:
    strict = Policy(status={"not-registered": Status.BLACKLISTED})
    stricter = replace(strict, black_order=("lost",))
    before, after = tables(white(30), policy=strict), tables({}, policy=stricter)
    assert said(before, after).startswith(counted(30, "not-registered"))
    kept = Tables(before.registry, None, stricter)
    assert not said(before, kept)


def test_a_hold_hides_no_other_order() -> None:
    hold = Hold(NOW + 9 * DAY_S, (), "grace-expired")
    before = tables({}, {"overrides": Listed()})
    deny = ordered(*(Override(n, 0, allow=False) for n in MANY))
    after = tables({}, {"holds": ordered(hold), "overrides": deny})
    assert said(before, after).startswith(counted(30, "override-deny"))


def test_who_is_bound_by_imsi_is_asked_by_it() -> None:
    grey = {"grey": listed(*((n, 0, NOW - 9) for n in MANY))}
    bound = {**grey, "bindings.imsi": listed(*((n, IMSI + 16 * n) for n in MANY), (99, IMSI))}
    before, after = tables(bound), tables({**grey, "bindings.imsi": listed((99, IMSI))})
    assert "60 of" in said(before, after)
    shadow = tables(black_and_bound(), policy=Policy(mode="shadow"))
    enforced = Tables(shadow.registry, None, Policy())
    assert "60 of" in said(shadow, enforced)


def black_and_bound() -> Content:
    pairs = listed(*((n, IMSI + 16 * n) for n in MANY))
    return {"black.stolen": listed(*((n,) for n in MANY)), "bindings.imsi": pairs}


def test_deadlines_put_just_ahead_count_as_of_a_day_from_now() -> None:
    def due(at: int) -> Tables:
        return tables({"grey": listed(*((n, FIRST_NUMBER + n, at) for n in MANY))})

    told = said(due(NOW + 300 * DAY_S), due(NOW + 60))
    assert told.startswith("in a day 30 of 60 devices and pairs newly refused")
    assert not said(due(NOW + 300 * DAY_S), due(NOW + 9 * DAY_S))
    assert not said(due(NOW + 90), due(NOW + 60))


def test_a_grace_time_that_goes_further_counts_who_it_passes() -> None:
    registry = {"grey": listed(*((n, FIRST_NUMBER + n, NOW - 9) for n in MANY))}
    one = tables(registry)
    assert said(one, one, grace_before=NOW - 99).startswith(counted(30, "grace-expired"))
    assert not said(one, one, grace_before=NOW)


def test_fewer_who_roam_waits() -> None:
    def at_home(*home: str, enforced: tuple[str, ...] = ()) -> Tables:
        return tables({}, policy=Policy(home_plmns=home, enforced_plmns=enforced))

    assert said(at_home("43211"), at_home("43211", enforced=("26201",))) == (
        "subscribers of 26201 roam no more"
    )
    assert said(at_home("43211"), at_home()) == "nobody roams any more: no home PLMN is set"
    assert not said(at_home(), at_home("43211"))
    assert not said(at_home("43211", "26201"), at_home("43211", enforced=("26201",)))


def test_strangers_of_a_device_count_with_it_once() -> None:
    strict = Policy(status={"bound-to-other": Status.BLACKLISTED})
    before = tables({"white": listed(*((n,) for n in MANY))}, policy=strict)
    elsewhere = listed(*((n,) for n in MANY))
    after = tables({"bound-elsewhere": elsewhere}, policy=strict)
    assert said(before, after).startswith(counted(30, "bound-to-other"))
    bound = {"bindings": listed(*((n, FIRST_NUMBER) for n in MANY))}
    expired = {**bound, "grey": listed(*((n, 0, NOW - 9) for n in MANY))}
    told = said(tables(bound), tables(expired))
    assert "30 of" in told
    assert "grace-expired 30" in told
    after = tables({**bound, "black.cloned": elsewhere})
    assert "cloned 30" in said(tables(bound), after)


def test_an_activation_takes_nothing_from_strangers() -> None:
    strict = Policy(status={"bound-to-other": Status.BLACKLISTED})
    before = tables({"grey": listed(*((n, 0, NOW + 9) for n in MANY))}, policy=strict)
    after = tables({"bindings": listed(*((n, FIRST_NUMBER) for n in MANY))}, policy=strict)
    assert not said(before, after)
