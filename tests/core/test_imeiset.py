"""A list against a plain set, and its bytes against another maker of them."""

from __future__ import annotations

import numpy as np
import pyroaring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core import imeiset
from eir.core.imeiset import ImeiSet
from eir.errors import Corrupt
from tests.core.strategies import CARDS, KEYS, U64, cut, stretch

NO_RANGES = np.empty((0, 2), np.uint64)


def roaring(keys: U64) -> bytes:
    bitmap = pyroaring.BitMap64(keys)
    bitmap.run_optimize()
    return bytes(bitmap.serialize())


@settings(max_examples=150, deadline=None)
@given(KEYS, st.data())
def test_any_cut_gives_the_bytes_of_one_batch(keys: U64, data: st.DataObject) -> None:
    batches = [keys[piece] for piece in data.draw(cut(len(keys)))]
    built = imeiset.build(batches)
    assert built.data.tobytes() == roaring(keys)
    assert np.array_equal(built.keys(), keys)
    assert built.items == len(keys)


@settings(max_examples=100, deadline=None)
@given(KEYS)
def test_opening_its_bytes_gives_the_same_set(keys: U64) -> None:
    built = imeiset.build([keys])
    opened = imeiset.open_parts(built.data.copy(), built.ranges)
    assert np.array_equal(opened.containers, built.containers)
    assert np.array_equal(opened.cards, built.cards)
    assert np.array_equal(np.concatenate([keys[:0], *opened.chunks()]), keys)


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("step", [1, 2, 3, 16])
def test_every_type_of_container(card: int, step: int) -> None:
    keys = stretch(5 << 32, card, step)
    built = imeiset.build([keys])
    assert built.data.tobytes() == roaring(keys)
    assert np.array_equal(built.keys(), keys)


@pytest.mark.parametrize("containers", [1, 3, 4, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("step", [1, 2])
def test_offsets_and_run_flags_at_every_count_of_containers(containers: int, step: int) -> None:
    keys = np.concatenate([stretch(c << 16, 100, step) for c in range(containers)])
    built = imeiset.build([keys])
    assert built.data.tobytes() == roaring(keys)
    assert np.array_equal(built.keys(), keys)


def test_chunks_are_bounded_and_whole_containers() -> None:
    keys = np.arange(3 * imeiset.CHUNK_KEYS + 5, dtype=np.uint64)
    chunks = list(imeiset.build([keys]).chunks())
    assert [len(chunk) for chunk in chunks] == [imeiset.CHUNK_KEYS] * 3 + [5]


@pytest.mark.parametrize(
    "batches",
    [[[2, 1]], [[1, 1]], [[1, 2], [2]], [[3], [1]], [[1], [], [1]], [[5, 6, 7], [0]]],
)
def test_keys_out_of_order_are_refused(batches: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        imeiset.build([np.array(batch, np.uint64) for batch in batches])


def test_the_empty_list() -> None:
    nothing = imeiset.empty()
    assert (nothing.items, nothing.data.tobytes()) == (0, bytes(8))
    assert len(nothing.keys()) == 0


RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=12,
)


@given(RANGES)
def test_merged_ranges_hold_the_same_keys_apart(ranges: list[tuple[int, int]]) -> None:
    merged = imeiset.merged_ranges(np.array(ranges, np.uint64).reshape(-1, 2))
    assert {k for low, high in merged.tolist() for k in range(low, high + 1)} == {
        k for low, high in ranges for k in range(low, high + 1)
    }
    assert all(
        high + 1 < low
        for (_, high), (low, _) in zip(merged.tolist(), merged.tolist()[1:], strict=False)
    )


@given(RANGES, st.randoms(use_true_random=False))
def test_the_order_of_ranges_does_not_matter(ranges: list[tuple[int, int]], random: object) -> None:
    shuffled = list(ranges)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        imeiset.merged_ranges(np.array(rows, np.uint64).reshape(-1, 2))
        for rows in (ranges, shuffled)
    )
    assert np.array_equal(one, other)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="end"):
        imeiset.build([], np.array([[5, 4]], np.uint64))


def test_a_range_is_one_item() -> None:
    built = imeiset.build([np.array([7], np.uint64)], np.array([[10, 10**6]], np.uint64))
    assert built.items == 2


@pytest.mark.parametrize(
    "ranges", [[[1, 5], [5, 9]], [[1, 5], [6, 9]], [[6, 9], [1, 5]], [[5, 1]], [[1, 9], [2, 3]]]
)
def test_opening_refuses_ranges_that_are_not_apart(ranges: list[list[int]]) -> None:
    with pytest.raises(Corrupt) as corrupt:
        imeiset.open_parts(imeiset.empty().data, np.array(ranges, np.uint64))
    assert corrupt.value.section == "ranges"


def read(octets: bytes) -> ImeiSet:
    opened = imeiset.open_parts(np.frombuffer(octets, np.uint8), NO_RANGES)
    opened.keys()
    return opened


BROKEN = KEYS.filter(lambda keys: 0 < len(keys) < 5000)


@settings(max_examples=150, deadline=None)
@given(BROKEN, st.data())
def test_bytes_that_are_accepted_are_canonical(keys: U64, data: st.DataObject) -> None:
    """Whatever one byte is changed to, or wherever it ends: refused, or another canonical set."""
    octets = bytearray(roaring(keys))
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del octets[place:]
    try:
        found = read(bytes(octets)).keys()
    except Corrupt:
        return
    assert roaring(found) == bytes(octets)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_random_bytes_are_refused(octets: bytes, buckets: int) -> None:
    whole = buckets.to_bytes(8, "little") + octets
    if buckets == 0 and not octets:
        return
    with pytest.raises(Corrupt):
        read(whole)


def test_what_another_maker_writes_uncompacted_is_refused() -> None:
    plain = pyroaring.BitMap64(np.arange(1000, dtype=np.uint64), optimize=False)
    with pytest.raises(Corrupt):
        read(plain.serialize())
