"""A sieve never misses a key that is there, and seldom names one that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core import imeiset, kernel, pairtable, sieve
from eir.core.delta import Change, Delta, Items, apply
from eir.core.generation import OPERATOR, REGISTRY, Generation, Section
from eir.core.policy import CODES, Policy
from eir.core.sieve import sift, spread
from eir.core.sieving import of_overlays, with_sieve
from eir.core.tables import Tables
from tests.core.strategies import KEYS, U64

IMEI = 35_209_900_000_000
NO_RANGES = np.empty((0, 2), np.uint64)


def keys(*values: int) -> U64:
    return np.array(sorted(values), np.uint64)


def generation(feed: str = REGISTRY, **lists: U64) -> Generation:
    """Lists by name, "_" for "."; black lists with ids and their union."""
    named = {name.replace("_", "."): imeiset.build([some]) for name, some in lists.items()}
    black = [content.keys() for name, content in named.items() if name.startswith("black.")]
    if len(black) > 1:
        named["black-union"] = imeiset.build([np.unique(np.concatenate(black))])
    ids = {name: 512 + i for i, name in enumerate(named) if name.startswith("black.")}
    sections = {name: Section(name, of, ids.get(name, 0)) for name, of in named.items()}
    return Generation(feed, "r", "s", 1, 0, "", sections)


def may_hold(made: sieve.Sieve, name: str, key: int) -> bool:
    with np.errstate(over="ignore"):
        word = np.uint64(spread(np.uint64(key)))
        found = sift(made.lines.ctypes.data, len(made.lines), word)
    return bool(int(found) >> made.columns[name] & 1)


@settings(deadline=None)
@given(KEYS, KEYS)
def test_every_key_that_is_there_is_named(some: U64, others: U64) -> None:
    made = with_sieve(generation(legacy=some, black_stolen=others)).sieve or sieve.NO_SIEVE
    for name, members in (("legacy", some), ("black.stolen", others)):
        assert all(may_hold(made, name, key) for key in members[:200].tolist())


def test_few_keys_that_are_not_there_are_named() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.choice(10**7, 60_000, replace=False).astype(np.uint64) + np.uint64(IMEI)
    made = with_sieve(generation(legacy=np.sort(drawn[:20_000]))).sieve
    assert made is not None
    wrong = sum(may_hold(made, "legacy", key) for key in drawn[20_000:].tolist())
    assert wrong < 0.04 * 40_000


def test_what_most_devices_stand_in_has_no_column() -> None:
    white = np.arange(IMEI, IMEI + 100, dtype=np.uint64)
    made = with_sieve(generation(white=white, legacy=white[:26], grey=white[:25])).sieve
    assert made is not None
    assert made.columns.keys() == {"grey"}


def test_black_lists_beyond_the_columns_share_that_of_their_union() -> None:
    few = {f"black_reason-{i}": keys(IMEI + i) for i in range(20)}
    made = with_sieve(generation(**few, legacy=keys(IMEI))).sieve
    assert made is not None
    assert made.columns.keys() == {"black-union", "legacy"}


@pytest.mark.parametrize("reasons", [1, 2, 20])
@pytest.mark.parametrize("sieved", [False, True])
def test_black_lists_are_found_however_they_are_gated(reasons: int, sieved: bool) -> None:
    few = {f"black_reason-{i}": keys(IMEI + i) for i in range(reasons)}
    made = generation(**few, white=keys(*range(IMEI, IMEI + 50)))
    tables = Tables(with_sieve(made) if sieved else made, None, Policy())
    asked = keys(*range(IMEI, IMEI + 30))
    none = np.zeros(30, np.uint64)
    counts = np.zeros((CODES, 5), np.uint64)
    rows = tables.check(asked, none, none, now=0, grace_time=0, counts=counts).rows
    assert (rows[:, 3] == 6).tolist() == [i < reasons for i in range(30)]
    told = [tables.reason_names[int(tables.reasons[row[2]])] for row in rows[:reasons]]
    assert told == [f"reason-{i}" for i in range(reasons)]


def test_numbers_have_columns_of_their_own() -> None:
    number = 989_121_111_111
    made = with_sieve(generation(OPERATOR, released=keys(number), exempt_equipment=keys(IMEI)))
    desc = Tables(generation(white=keys(IMEI)), made, Policy()).desc
    released, exempt = (
        int(desc[at + kernel.STANDING]) for at in (kernel.AT_RELEASED, kernel.AT_EXEMPT_EQUIPMENT)
    )
    with np.errstate(over="ignore"):
        hints = int(kernel.hints_of(desc, np.uint64(IMEI), np.uint64(number)))
        swapped = int(kernel.hints_of(desc, np.uint64(number), np.uint64(IMEI)))
    assert hints & released
    assert hints & exempt
    assert not swapped & (released | exempt)


def test_touched_keys_are_named_and_nothing_else_is_asked() -> None:
    base = with_sieve(generation(legacy=keys(IMEI, IMEI + 1)))
    rows = keys(IMEI).reshape(-1, 1)
    gone = Items(rows, NO_RANGES, ())
    nothing = Items(rows[:0], NO_RANGES, ())
    after = apply(
        base, Delta({"legacy": Change(gone, nothing)}, {}), serial=2, made_at=0, digest=""
    )
    assert after.sieve is base.sieve
    made = of_overlays(after)
    assert may_hold(made, "legacy", IMEI)
    tables = Tables(after, None, Policy())
    asked, none = keys(IMEI, IMEI + 1), np.zeros(2, np.uint64)
    counts = np.zeros((CODES, 5), np.uint64)
    rows_hit = tables.check(asked, none, none, now=0, grace_time=0, counts=counts).rows[:, 3]
    assert rows_hit.tolist() == [16, 10]


def test_the_sieve_of_overlays_is_made_once_and_is_good_for_these_alone() -> None:
    base, none = generation(legacy=keys(IMEI)), Items(keys().reshape(-1, 1))
    first, second = (
        Delta({"legacy": Change(none, Items(keys(each).reshape(-1, 1)))}, {})
        for each in (IMEI + 7, IMEI + 8)
    )
    after = apply(base, first, serial=2, made_at=0, digest="")
    made = replace(after, overlay_sieve=of_overlays(after))
    assert of_overlays(made) is made.overlay_sieve
    further = apply(made, second, serial=3, made_at=0, digest="")
    assert may_hold(of_overlays(further), "legacy", IMEI + 8)
    assert not may_hold(of_overlays(made), "legacy", IMEI + 8)


def test_a_generation_without_keys_has_none() -> None:
    assert with_sieve(generation(white=keys())).sieve is None


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(IMEI, IMEI + 200), max_size=80), st.booleans())
def test_a_batch_says_what_single_checks_say(bound: set[int], sieved: bool) -> None:
    made = generation(white=keys(*range(IMEI, IMEI + 150)), legacy=keys(*range(IMEI, IMEI + 9)))
    rows = keys(*bound)
    pairs = {
        "bindings": Section("bindings", pairtable.of_rows(rows, rows % np.uint64(7) + np.uint64(1)))
    }
    made = replace(made, sections={**made.sections, **pairs})
    tables = Tables(with_sieve(made) if sieved else made, None, Policy())
    asked = np.arange(IMEI, IMEI + 220, dtype=np.uint64)
    numbers, none = asked % np.uint64(7), np.zeros(220, np.uint64)
    counts = np.zeros((CODES, 5), np.uint64)
    together = tables.check(asked, numbers, none, now=0, grace_time=0, counts=counts).rows
    for i in range(220):
        one = slice(i, i + 1)
        alone = tables.check(
            asked[one], numbers[one], none[one], now=0, grace_time=0, counts=counts
        ).rows
        assert alone.tolist() == together[one].tolist()
