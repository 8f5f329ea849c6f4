"""Laws 1 to 3 and 5: a delta is exactly the difference, applies strictly, and any path is equal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eir.core.delta import Delta, apply, between, merged
from eir.core.gather import rows_of
from eir.core.generation import BLACK_UNION, OPERATOR, Generation, spec_of
from eir.core.policy import CODES, Policy
from eir.core.tables import Tables
from eir.errors import Conflict, Refused
from eir.feed.digest import Digest, of_delta, of_section
from tests.core.contents import (
    HISTORIES,
    IMSIS,
    KEYS,
    NUMBERS,
    REGISTRY_CONTENTS,
    Content,
    Listed,
    changes_of,
    content_of,
    delta_of,
    difference,
    generation_of,
    without_empty,
)

History = tuple[str, list[Content]]


def walked(history: History) -> Generation:
    """The first content's base, with a delta applied for each that follows."""
    feed, contents = history
    generation = generation_of(contents[0], feed=feed)
    for content in contents[1:]:
        generation = step(generation, content)
    return generation


def step(generation: Generation, content: Content) -> Generation:
    delta = delta_of(difference(content_of(generation), content))
    digest = Digest.parse(generation.digest) + of_delta(delta)
    return apply(
        generation,
        delta,
        serial=generation.serial + 1,
        made_at=generation.made_at + 1,
        digest=str(digest),
    )


def full_digest(generation: Generation) -> str:
    sections = (s for name, s in generation.sections.items() if name != BLACK_UNION)
    return str(sum(map(of_section, sections), Digest()))


@settings(max_examples=120, deadline=None)
@given(HISTORIES)
def test_between_is_the_difference_and_apply_its_inverse(history: History) -> None:
    feed, contents = history
    old, new = (generation_of(content, feed=feed) for content in contents[:2])
    delta = between(old, new)
    assert changes_of(delta) == difference(contents[0], contents[1])
    after = apply(old, delta, serial=2, made_at=5, digest=new.digest)
    assert content_of(after) == without_empty(contents[1])
    assert (after.serial, after.made_at, after.digest) == (2, 5, new.digest)
    assert not len(between(after, new))
    assert not len(between(new, new))


@settings(max_examples=120, deadline=None)
@given(HISTORIES)
def test_any_path_leads_to_the_same_content_and_digest(history: History) -> None:
    feed, contents = history
    by_deltas, at_once = walked(history), generation_of(contents[-1], feed=feed)
    assert content_of(by_deltas) == without_empty(contents[-1])
    assert by_deltas.digest == at_once.digest == full_digest(by_deltas)
    for name, section in by_deltas.sections.items():
        if name != BLACK_UNION:
            listed = contents[-1].get(name, Listed())
            assert section.items == len(listed.rows) + len(listed.ranges) + len(listed.orders)


@settings(max_examples=100, deadline=None)
@given(HISTORIES)
def test_steps_merged_are_the_direct_difference(history: History) -> None:
    feed, contents = history
    generations = [generation_of(content, feed=feed) for content in contents]
    steps = [between(a, b) for a, b in pairwise(generations)]
    total = merged(steps)
    assert changes_of(total) == difference(contents[0], contents[-1])
    assert list(total.changes) == sorted(total.changes)
    direct = between(generations[0], generations[-1])
    assert total.reason_ids == direct.reason_ids
    for name, change in total.changes.items():
        for mine, its in zip(
            (change.removed, change.added),
            (direct.changes[name].removed, direct.changes[name].added),
            strict=True,
        ):
            assert np.array_equal(mine.rows, its.rows)
            assert np.array_equal(mine.ranges, its.ranges)
            assert mine.orders == its.orders


@settings(max_examples=100, deadline=None)
@given(HISTORIES, st.data())
def test_what_does_not_fit_is_refused_and_the_base_is_as_it_was(
    history: History, data: st.DataObject
) -> None:
    base = walked(history)
    here = content_of(base)
    assume(here)
    name = data.draw(st.sampled_from(sorted(here)))
    there, nothing = here[name], Listed()
    # Adding what is there; removing what is not; either beside a good change.
    again = delta_of({name: (nothing, there)})
    fresh = data.draw(st.sampled_from(sorted({*history[1][0], name})))
    good = difference(here, {**here, fresh: nothing})
    missing = step(base, {**here, name: nothing})
    for generation, changes in (
        (base, again),
        (missing, delta_of({name: (there, nothing)})),
        (base, delta_of({**good, name: (nothing, there)})),
    ):
        with pytest.raises(Conflict):
            apply(generation, changes, serial=9, made_at=9, digest="")
    assert content_of(base) == here
    assert base.digest == full_digest(base)
    with pytest.raises(Conflict, match="twice"):
        merged([again, again])


@settings(max_examples=60, deadline=None)
@given(HISTORIES, st.sets(st.sampled_from([*KEYS, *NUMBERS, *IMSIS, 7, 70_000])))
def test_gathered_rows_are_those_of_the_keys(history: History, asked: set[int]) -> None:
    generation = walked(history)
    keys = np.array(sorted(asked), np.uint64)
    for name, section in generation.sections.items():
        if spec_of(name).words and name != BLACK_UNION:
            listed = history[1][-1].get(name, Listed())
            found = [tuple(map(int, row)) for row in rows_of(section, keys)]
            assert found == sorted(row for row in listed.rows if row[0] in asked)


QUERIES = np.array(
    [
        (imei, number, imsi)
        for imei in [0, 4, 15, 20, 65_500, 250_000, *KEYS]
        for number in [0, 77, *NUMBERS]
        for imsi in [0, *IMSIS]
    ],
    np.uint64,
)


def verdicts(registry: Generation, operator: Generation) -> np.ndarray:
    tables = Tables(registry, operator, Policy())
    counts = np.zeros((CODES, 5), np.uint64)
    columns = (np.ascontiguousarray(column) for column in QUERIES.T)
    found = tables.check(*columns, now=1_750_000_000, grace_time=1_750_000_000, counts=counts)
    codes = tables.reasons[found.rows[:, 2]]
    return np.column_stack([found.rows[:, [0, 1, 3]], codes, found.valid_until])


@settings(max_examples=60, deadline=None)
@given(st.lists(REGISTRY_CONTENTS, min_size=2, max_size=4), HISTORIES)
def test_base_and_overlay_answer_as_a_base_built_anew(
    contents: list[Content], other: History
) -> None:
    operators = other[1] if other[0] == OPERATOR else [{}]
    overlaid = walked(("registry", contents)), walked((OPERATOR, operators))
    anew = (
        generation_of(contents[-1], union=False),
        generation_of(operators[-1], feed=OPERATOR),
    )
    assert np.array_equal(verdicts(*overlaid), verdicts(*anew))


def test_a_device_that_a_delta_blackens_passes_the_union() -> None:
    white = Listed(frozenset({(1,)}))
    base = generation_of({"black.lost": white, "black.stolen": white})
    after = step(
        base,
        {
            "black.lost": white,
            "black.stolen": Listed(frozenset({(1,), (7,)}), frozenset({(10, 19)})),
        },
    )
    union = after.sections[BLACK_UNION]
    assert [int(row[0]) for chunk in union.rows() for row in chunk] == [1, 7]
    assert union.ranges.tolist() == [[10, 19]]
    assert union.items == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grey": (Listed(), Listed(frozenset({(1, 0, 5), (1, 0, 6)})))}, "two deadlines"),
        ({"grey": (Listed(), Listed(frozenset({(1, 0, 1 << 32)})))}, "beyond 2106"),
        ({"white": (Listed(), Listed(ranges=frozenset({(5, 9), (8, 12)})))}, "overlap"),
        ({"white": (Listed(), Listed(ranges=frozenset({(5, 9), (10, 12)})))}, "touch"),
        ({"released": (Listed(), Listed(frozenset({(1,)})))}, "no list of the registry feed"),
        ({"black.new": (Listed(), Listed(frozenset({(1,)})))}, "its id is"),
        ({"nowhere": (Listed(), Listed())}, "no list is called"),
        ({BLACK_UNION: (Listed(), Listed(frozenset({(1,)})))}, "no list of the registry feed"),
    ],
)
def test_a_malformed_change_is_a_conflict(
    changes: dict[str, tuple[Listed, Listed]], says: str
) -> None:
    base = generation_of({"white": Listed(frozenset({(1,)}))})
    try:
        delta = delta_of(changes)
    except Refused:
        delta = Delta(dict.fromkeys(changes, between(base, generation_of({})).changes["white"]), {})
    with pytest.raises(Conflict, match=says):
        apply(base, delta, serial=2, made_at=2, digest="")


def test_items_out_of_order_are_a_conflict() -> None:
    delta = delta_of({"white": (Listed(), Listed(frozenset({(1,), (2,)})))})
    rows = delta.changes["white"].added.rows
    rows[:] = rows[::-1].copy()
    with pytest.raises(Conflict, match="do not ascend"):
        apply(generation_of({}), delta, serial=2, made_at=2, digest="")


def test_a_new_black_list_may_not_take_anothers_id() -> None:
    base = generation_of({"black.stolen": Listed(frozenset({(1,)}))})
    changes = delta_of({"black.lost": (Listed(), Listed(frozenset({(1,)})))}).changes
    with pytest.raises(Conflict, match="has the id 256"):
        apply(base, Delta(changes, {"black.lost": 256}), serial=2, made_at=2, digest="")
