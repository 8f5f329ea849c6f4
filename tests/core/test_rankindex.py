"""A ranked index against the sorted keys it was made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core import rankindex
from eir.core.rankindex import LINE_BITS, RankIndex
from eir.errors import Corrupt
from tests.core.strategies import CARDS, KEYS, U64, cut, stretch


def keys_of(index: RankIndex) -> U64:
    ranked = list(index.chunks())
    assert [rank for rank, _ in ranked] == np.cumsum([0, *(len(k) for _, k in ranked)])[
        :-1
    ].tolist()
    return np.concatenate([np.empty(0, np.uint64), *(keys for _, keys in ranked)])


@settings(max_examples=150, deadline=None)
@given(KEYS, st.data())
def test_any_cut_gives_the_bytes_of_one_batch(keys: U64, data: st.DataObject) -> None:
    whole = rankindex.build([keys])
    pieces = rankindex.build(keys[piece] for piece in data.draw(cut(len(keys))))
    assert pieces.containers.tobytes() == whole.containers.tobytes()
    assert pieces.data.tobytes() == whole.data.tobytes()
    assert np.array_equal(keys_of(whole), keys)
    assert whole.size == len(keys)


@pytest.mark.parametrize("card", [*CARDS, LINE_BITS - 1, LINE_BITS, LINE_BITS + 1])
@pytest.mark.parametrize("step", [1, 2, 7, 8, 9, 40])
@pytest.mark.parametrize("first", [0, 1, 65535])
def test_every_kind_of_container(card: int, step: int, first: int) -> None:
    keys = stretch((3 << 32) + first, card, step)
    assert np.array_equal(keys_of(rankindex.build([keys])), keys)


def test_dense_keys_take_little_more_than_a_bit() -> None:
    index = rankindex.build([np.arange(1 << 20, dtype=np.uint64)])
    assert (len(index.data) + index.containers.nbytes) * 8 < 1.05 * (1 << 20)


def test_chunks_are_bounded() -> None:
    keys = np.arange((1 << 21) + 5, dtype=np.uint64)
    sizes = [len(chunk) for _, chunk in rankindex.build([keys]).chunks()]
    assert (max(sizes), sum(sizes)) == (1 << 20, len(keys))


@pytest.mark.parametrize("batches", [[[2, 1]], [[1, 1]], [[1, 2], [2]], [[3], [1]]])
def test_keys_out_of_order_are_refused(batches: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        rankindex.build(np.array(batch, np.uint64) for batch in batches)


SMALL = KEYS.filter(lambda keys: 0 < len(keys) < 5000)


@settings(max_examples=200, deadline=None)
@given(SMALL, st.data())
def test_bytes_that_are_accepted_are_canonical(keys: U64, data: st.DataObject) -> None:
    """One byte changed in either part, or a part cut short: refused, or another canonical index."""
    index = rankindex.build([keys])
    parts = {"containers": bytearray(index.containers.tobytes()), "data": bytearray(index.data)}
    name = data.draw(st.sampled_from(sorted(parts)))
    place = data.draw(st.integers(0, len(parts[name]) - 1))
    parts[name][place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del parts[name][place // 32 * 32 :]
    broken = RankIndex(
        np.frombuffer(bytes(parts["containers"]), np.uint64).reshape(-1, 4),
        np.frombuffer(bytes(parts["data"]), np.uint8),
    )
    try:
        found = keys_of(broken)
    except Corrupt:
        return
    again = rankindex.build([found])
    assert again.containers.tobytes() == broken.containers.tobytes()
    assert again.data.tobytes() == broken.data.tobytes()


def test_ranks_that_jump_ask_for_no_memory() -> None:
    """A hundred thousand containers that claim to be full, and one byte of data."""
    containers = np.zeros((100_000, 4), np.uint64)
    containers[:, 0] = np.arange(100_000)
    containers[:, 1] = np.arange(100_000) * 65536
    containers[:, 2] = 65536 | 1 << 40 | 65535 << 44
    full = RankIndex(containers, np.zeros(1, np.uint8))
    with pytest.raises(Corrupt):
        next(full.chunks())
    jump = replace(full, containers=containers[::-1].copy())
    with pytest.raises(Corrupt, match="ranks"):
        next(jump.chunks())
