"""A population: sorted, unique, the same again, and shaped like a nation's devices."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir import limits
from eir.core.orders import Override, check_override
from eir.core.subscriber import ImsiCode, imsi_text
from eir.ops.demo import population as pop
from eir.ops.demo.population import LISTS, SECTIONS, device_arrays, plan_population

NOW = 1_750_000_000
SIZES = st.integers(1, 3_000)
SEEDS = st.integers(0, 2**32)
KEYED = (*LISTS, "bindings", "bindings.imsi", "grey")


def ascends(columns: pop.Columns) -> bool:
    rows = list(zip(*(column.tolist() for column in columns[:2]), strict=True))
    return all(before < after for before, after in pairwise(rows))


@pytest.fixture(scope="module")
def town() -> dict[str, pop.Columns]:
    return device_arrays(60_000, seed=3, now=NOW)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pop, "CHUNK_DEVICES", 200)


@settings(max_examples=25, deadline=None)
@given(SIZES, SEEDS, st.booleans())
def test_every_section_ascends_and_stays_in_its_domain(
    devices: int, seed: int, uniform: bool
) -> None:
    arrays = device_arrays(devices, seed=seed, now=NOW, uniform=uniform)
    assert set(arrays) == set(SECTIONS)
    for name in (*KEYED, *pop.UNORDERED):
        assert ascends(arrays[name]), name
    for name in KEYED:
        keys = arrays[name][0]
        assert keys.dtype == np.uint64
        tacs = keys // np.uint64(limits.SERIAL_SPAN_KEYS)
        assert set((tacs // np.uint64(1_000_000)).tolist()) <= set(pop.BODIES)
        assert not ((tacs >= pop.RESERVED_TAC) & (tacs < pop.RESERVED_TAC + 100)).any()


@settings(max_examples=10, deadline=None)
@given(SIZES, SEEDS)
def test_one_device_has_one_story(devices: int, seed: int) -> None:
    """White and legacy exclude each other, and nobody stands in two black lists."""
    arrays = device_arrays(devices, seed=seed, now=NOW)
    black = [arrays[name][0] for name in LISTS if name.startswith("black.")]
    black_keys = np.concatenate(black)
    assert len(np.unique(black_keys)) == len(black_keys)
    assert not np.intersect1d(arrays["white"][0], arrays["legacy"][0]).size


@pytest.mark.usefixtures("small_chunks")
def test_batches_of_a_section_go_on_where_the_last_ended() -> None:
    population = plan_population(4_000, seed=5, now=NOW)
    assert population.chunks > 5
    assert sum(population.chunk_devices(i) for i in range(population.chunks)) == 4_000
    for name in KEYED:
        batches = list(population.section(name))
        assert len(batches) == population.chunks
        assert ascends(tuple(np.concatenate(parts) for parts in zip(*batches, strict=True)))


@pytest.mark.usefixtures("small_chunks")
def test_a_chunk_is_made_without_the_others() -> None:
    population = plan_population(2_000, seed=5, now=NOW)
    for index in reversed(range(population.chunks)):
        again = plan_population(2_000, seed=5, now=NOW).rows(index)
        for name, columns in population.rows(index).items():
            for column, same in zip(columns, again[name], strict=True):
                assert np.array_equal(column, same)


def test_another_seed_is_another_nation() -> None:
    one, other = (device_arrays(500, seed=seed, now=NOW)["white"][0] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_it_is_shaped_like_a_nation(town: dict[str, pop.Columns]) -> None:
    imeis = np.unique(np.concatenate([town[name][0] for name in (*LISTS, "grey")]))
    assert 1.65 < len(imeis) / 60_000 < 1.75
    assert 1.6 < len(town["bindings"][0]) / len(imeis) < 1.85
    _, popularity = np.unique(imeis // np.uint64(limits.SERIAL_SPAN_KEYS), return_counts=True)
    popularity = np.sort(popularity)[::-1]
    assert popularity[: len(popularity) // 10].sum() > 0.3 * len(imeis)
    assert (np.diff(imeis) == 1).mean() > 0.5


def test_uniform_serials_are_not_clustered(town: dict[str, pop.Columns]) -> None:
    white = device_arrays(60_000, seed=3, now=NOW, uniform=True)["white"][0]
    span = np.uint64(limits.SERIAL_SPAN_KEYS)
    assert (white % span).max() > 990_000
    gaps = np.diff(white)[np.diff(white // span) == 0]
    assert np.median(gaps[gaps > 1]) > 10 * np.median(np.diff(town["white"][0]))


def test_numbers_and_imsis_are_iranian_and_belong_together(town: dict[str, pop.Columns]) -> None:
    codes, numbers = town["imsi-msisdn"]
    assert len(np.unique(codes)) == len(np.unique(numbers)) == len(codes)
    networks = {f"{pop.MCC}{mnc}": prefixes for mnc, prefixes in pop.OPERATORS.items()}
    seen = set()
    for code, number in zip(codes[::97].tolist(), numbers[::97].tolist(), strict=True):
        text = imsi_text(ImsiCode(code))
        assert len(text) == 15
        assert len(str(number)) == 12
        assert int(str(number)[2:5]) in networks[text[:5]]
        seen.add(text[:5])
    assert seen == set(networks)


def test_whoever_is_bound_can_be_found_by_imsi(town: dict[str, pop.Columns]) -> None:
    codes, numbers = town["imsi-msisdn"]
    own = np.isin(town["bindings"][1], numbers)
    assert own.mean() > 0.99
    assert np.isin(town["bindings.imsi"][1], codes).all()


def test_overrides_are_such_as_a_feed_takes(town: dict[str, pop.Columns]) -> None:
    rows = list(zip(*(column.tolist() for column in town["overrides"]), strict=True))
    assert len(rows) == len({row[:2] for row in rows}) > 0
    for imei, msisdn, allow, until, forced in rows:
        check_override(Override(imei, msisdn, allow, until, forced))


def test_deadlines_lie_before_soon_after_and_long_after(town: dict[str, pop.Columns]) -> None:
    _, numbers, deadlines = town["grey"]
    ahead = deadlines - NOW
    assert (ahead < 0).any()
    assert ((ahead > 0) & (ahead < 14 * pop.DAY_S)).any()
    assert (ahead > 30 * pop.DAY_S).any()
    assert (numbers == 0).any()
    assert (numbers > 0).any()


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2**40), unique_by=lambda n: n % pop.SUBSCRIBERS, max_size=50))
def test_no_two_subscribers_share_a_number_or_an_imsi(subscribers: list[int]) -> None:
    wanted = np.array(subscribers, np.uint64)
    assert len(set(pop.subscriber_msisdn(wanted).tolist())) == len(subscribers)
    codes = pop.subscriber_imsi(wanted).tolist()
    assert len(set(codes)) == len(subscribers)
    assert all(int(imsi_text(ImsiCode(code))[5:]) < pop.MSINS for code in codes)


@pytest.mark.parametrize("devices", [0, -1, pop.MAX_DEVICES + 1])
def test_no_population_is_refused(devices: int) -> None:
    with pytest.raises(ValueError, match="devices"):
        plan_population(devices, seed=1, now=NOW)


def test_shares_add_up() -> None:
    assert sum(story.share for story in pop.STORIES.values()) == pytest.approx(1.0)
    assert sum(pop.BODIES.values()) == pytest.approx(1.0)
