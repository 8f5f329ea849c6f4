"""What an order by hand changes, and how a bulk load and orders by hand live in one content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core.amend import (
    ENDED_STAY_S,
    PROTECTED_STAY_S,
    exchanged,
    listed,
    loaded_into,
    overridden,
    unlisted,
    without_ended,
)
from eir.core.delta import Delta, apply, between
from eir.core.generation import Generation
from eir.core.orders import Hold, Order, Override, check_orders
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.errors import Refused
from tests.core.contents import Content, Listed, content_of, generation_of

NOW = 1_750_000_000
EQUIPMENT = "exempt.equipment"
HAND = Order("", who="ada", at=NOW, why="why")
SPANS = st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair)))


def operator(content: Content) -> Generation:
    return generation_of(content, feed="operator")


def after(content: Generation, change: Delta) -> Generation:
    return apply(content, change, serial=2, made_at=NOW, digest="")


def members(content: Generation, name: str = EQUIPMENT) -> set[int]:
    """Every key that is in a list, singly or in a range."""
    section = content.sections.get(name)
    if section is None:
        return set()
    keys = {int(key) for rows in section.rows() for key in rows[:, 0]}
    return keys | {key for low, high in section.ranges.tolist() for key in range(low, high + 1)}


@settings(max_examples=60, deadline=None)
@given(
    st.frozensets(st.integers(1, 50), max_size=6),
    st.lists(st.tuples(st.booleans(), SPANS), max_size=6),
)
def test_items_come_and_go_as_in_a_plain_set(
    keys: frozenset[int], orders: list[tuple[bool, tuple[int, int]]]
) -> None:
    content = operator({EQUIPMENT: Listed(frozenset((key,) for key in keys))})
    plain = set(keys)
    for put, span in orders:
        covered = set(range(span[0], span[1] + 1))
        if put:
            content = after(content, listed(content, EQUIPMENT, [span], HAND))
            plain |= covered
        else:
            content = after(content, unlisted(content, EQUIPMENT, [span]))
            plain -= covered
        assert members(content) == plain
        by_hand = [row for row in content.orders("orders") if isinstance(row, Order)]
        check_orders(by_hand)
        assert all(set(range(row.low, row.high + 1)) <= plain for row in by_hand)


@settings(max_examples=60, deadline=None)
@given(
    st.frozensets(st.integers(1, 50), max_size=8),
    st.lists(SPANS, max_size=3),
    st.frozensets(st.integers(1, 50), max_size=8),
)
def test_a_bulk_load_owns_its_lists_but_for_what_is_by_hand(
    before: frozenset[int], spans: list[tuple[int, int]], bulk: frozenset[int]
) -> None:
    released = Listed(frozenset([(12_345,)]))
    content = operator({EQUIPMENT: rows(before), "released": released})
    for span in spans:
        content = after(content, listed(content, EQUIPMENT, [span], HAND))
    merged = loaded_into(content, operator({EQUIPMENT: rows(bulk)}), {EQUIPMENT})
    by_hand = {key for low, high in spans for key in range(low, high + 1)}
    assert members(merged) == bulk | by_hand
    assert content_of(merged)["released"] == released
    assert merged.orders("orders") == content.orders("orders")
    again = loaded_into(merged, operator({EQUIPMENT: rows(bulk)}), {EQUIPMENT})
    assert len(between(merged, again)) == 0


def rows(keys: frozenset[int]) -> Listed:
    return Listed(frozenset((key,) for key in keys))


def test_an_override_takes_the_place_of_the_one_before() -> None:
    first = Override(1, 0, True, who="a", at=NOW)
    other = Override(1, 12_345, False, who="a", at=NOW)
    content = operator({"overrides": Listed(orders=frozenset([first, other]))})
    second = Override(1, 0, False, until=NOW + 9, who="b", at=NOW + 1)
    changed = after(content, overridden(content, [second]))
    assert set(changed.orders("overrides")) == {second, other}
    assert len(overridden(changed, [second])) == 0


def test_a_loaded_override_gives_way_to_one_by_hand() -> None:
    by_hand = Override(1, 0, True, who="ada", at=NOW)
    listed_before = Override(2, 0, True)
    old = operator({"overrides": Listed(orders=frozenset([by_hand, listed_before]))})
    loaded = operator({"overrides": Listed(orders=frozenset([Override(1, 0, False)]))})
    assert loaded_into(old, loaded, {"overrides"}).orders("overrides") == (by_hand,)


@pytest.mark.parametrize(("now", "grace_time"), [(NOW, NOW + 9), (NOW + 10**9, NOW)])
def test_what_protects_goes_long_after_the_earlier_of_both_times(now: int, grace_time: int) -> None:
    gone, stays = NOW - PROTECTED_STAY_S - 1, NOW - PROTECTED_STAY_S
    overrides = [Override(1, 0, True, gone), Override(2, 0, True, stays), Override(3, 0, True)]
    content = ordered(overrides, [Hold(gone), Hold(stays)])
    tidy = after(content, without_ended(content, now, grace_time=grace_time))
    assert tidy.orders("overrides") == (overrides[1], overrides[2])
    assert tidy.orders("holds") == (Hold(stays),)


@pytest.mark.parametrize("grace_time", [0, NOW])
def test_what_denies_goes_a_day_after_its_date_by_the_clock(grace_time: int) -> None:
    gone, stays = NOW - ENDED_STAY_S - 1, NOW - ENDED_STAY_S
    overrides = [Override(1, 0, False, gone), Override(2, 0, False, stays), Override(3, 0, False)]
    content = ordered(overrides, [])
    tidy = after(content, without_ended(content, NOW, grace_time=grace_time))
    assert tidy.orders("overrides") == (overrides[1], overrides[2])


def ordered(overrides: list[Override], holds: list[Hold]) -> Generation:
    """What the operator's feed says with these rows."""
    return operator(
        {
            "overrides": Listed(orders=frozenset(overrides)),
            "holds": Listed(orders=frozenset(holds)),
        }
    )


def test_the_ordered_mode_stands_above_the_setting() -> None:
    registry = generation_of({"black.stolen": Listed(frozenset([(7,)]))})
    nothing = operator({})
    shadow = Order("mode.shadow", who="ada", at=NOW, why="w")
    in_shadow = after(nothing, exchanged(nothing, "orders", (), [shadow]))
    policy = Policy()
    assert Tables(registry, nothing, policy).policy.mode == "enforce"
    assert Tables(registry, in_shadow, policy).policy == replace(policy, mode="shadow")
    ended = after(in_shadow, exchanged(in_shadow, "orders", [shadow], ()))
    assert Tables(registry, ended, policy).policy == policy


@pytest.mark.parametrize(
    "rows",
    [
        [Order("white", 1, 1)],
        [Order("mode.shadow", 1, 1)],
        [Order("mode.shadow"), Order("mode.enforce")],
        [Order("released", 5, 5), Order("released", 5, 5, "b")],
        [Order("released", 0, 5)],
        [Order("released", 6, 5)],
        [Order("released", 5, 5, who="two\nlines")],
        [Order("released", 5, 5, why=" blank before")],
    ],
)
def test_what_is_no_order_is_refused(rows: list[Order]) -> None:
    with pytest.raises(Refused, match="order-invalid"):
        check_orders(rows)


def test_single_keys_stay_beside_ranges() -> None:
    content = operator({EQUIPMENT: Listed(ranges=frozenset([(10, 19)]))})
    both = after(content, listed(content, EQUIPMENT, [(12, 12)], HAND))
    section = both.sections[EQUIPMENT]
    assert [int(key) for part in section.rows() for key in part[:, 0]] == [12]
    assert np.array_equal(section.ranges, np.array([[10, 19]], np.uint64))
