"""What a gate and its people note in the depot is there after a restart, and is theirs alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.errors import Corrupt
from eir.feed.head import Serial
from eir.ops.keeping import FeedKeeping, Pin, may_be_pinned
from eir.store.depot import Depot
from eir.sync.client import Change, Memory
from eir.sync.plan import Mark

NUMBERS = st.integers(1, 2**64 - 1)
CHANGES = st.builds(Change, st.uuids().map(str), NUMBERS, st.text("0123456789abcdef", min_size=32))
MEMORIES = st.builds(
    Memory,
    keys=st.binary(max_size=40),
    highest=st.none() | st.builds(Mark, NUMBERS, st.uuids().map(str), NUMBERS.map(Serial), NUMBERS),
    failed=st.frozensets(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=3),
    waiting=st.none() | CHANGES,
    figures=st.text(max_size=40),
)


def keeping(folder: Path) -> FeedKeeping:
    return FeedKeeping(Depot(folder), "registry", 3)


@settings(max_examples=50, deadline=None)
@given(memory=MEMORIES)
def test_a_memory_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, memory: Memory
) -> None:
    folder = tmp_path_factory.mktemp("depot")
    keeping(folder).remember(memory)
    assert keeping(folder).memory() == memory


def test_nothing_is_remembered_at_first(tmp_path: Path) -> None:
    fresh = keeping(tmp_path / "depot")
    assert fresh.memory() == Memory()
    assert (fresh.pinned(), fresh.detached(), fresh.reached(), fresh.seen()) == (
        None,
        False,
        None,
        {},
    )


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"keys": ""}', b"\xff"])
def test_a_damaged_memory_is_no_empty_one(tmp_path: Path, raw: bytes) -> None:
    damaged = keeping(tmp_path / "depot")
    damaged.depot.write_note("registry", "memory", raw)
    with pytest.raises(Corrupt, match="memory"):
        damaged.memory()


@pytest.mark.parametrize(
    "raw", [b"9", b"x s", b"\xff\xff", b"9 \xff", "۳ s".encode(), b" s", b"{}"]
)
def test_a_damaged_pin_is_no_released_one(tmp_path: Path, raw: bytes) -> None:
    damaged = keeping(tmp_path / "depot")
    damaged.depot.write_note("registry", "pin", raw)
    with pytest.raises(Corrupt, match="pin") as found:
        damaged.pinned()
    assert found.value.where == str(tmp_path / "depot" / "registry.pin")
    assert may_be_pinned(damaged.depot, "registry")
    damaged.pin(Pin("s", 9))
    assert damaged.pinned() == Pin("s", 9)


def test_one_change_is_accepted_and_no_other(tmp_path: Path) -> None:
    one = keeping(tmp_path / "depot")
    change = Change("s", 7, "d")
    assert not one.accepted(change)
    one.accept(change)
    assert one.accepted(change)
    assert not one.accepted(Change("s", 8, "d"))
    assert not one.accepted(Change("s", 7, "e"))


def test_a_pin_and_a_detachment_last_until_taken_back(tmp_path: Path) -> None:
    one = keeping(tmp_path / "depot")
    one.pin(Pin("s", 9))
    one.detach()
    assert (keeping(tmp_path / "depot").pinned(), one.detached()) == (Pin("s", 9), True)
    one.pin(None)
    one.attach()
    assert (one.pinned(), one.detached()) == (None, False)


def test_what_waits_is_weighed_again_when_asked(tmp_path: Path) -> None:
    one = keeping(tmp_path / "depot")
    mark = Mark(1, "s", Serial(2), 3)
    one.remember(Memory(highest=mark, waiting=Change("s", 7, "d"), figures="9 newly refused"))
    one.weigh_again()
    assert one.memory() == Memory(highest=mark)
