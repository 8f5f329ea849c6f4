"""A ring between one worker and its keeper: nothing twice, nothing torn, nobody waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir import limits
from eir.core import sighting
from eir.core.golden import GRACE_TIME, NOW, VECTORS, golden_tables, queries
from eir.core.policy import FIXED_REASONS
from eir.serve.checker import Checker
from eir.serve.counters import Counters
from eir.serve.holder import Holder, Serving
from eir.serve.sighting_ring import RingFile, RingReader
from eir.store.sighting_spool import Seen

FIRST = 35_209_900_000_000


class Node:
    """A worker with a ring, and the keeper's end of it."""

    def __init__(self, folder: Path, *, census: bool = False) -> None:
        self.ring = RingFile(folder)
        self.reader = RingReader(self.ring.path)
        tables = golden_tables()
        noting = self.ring.noting(tables.reasons, census=census)
        self.holder = Holder()
        serving = Serving(tables, GRACE_TIME, 0, counters=Counters(), noting=noting)
        self.holder.swap(serving)
        self.checker = Checker(self.holder, lambda: NOW)

    def check(self, keys: np.ndarray, numbers: np.ndarray | None = None) -> None:
        nobody = np.zeros(len(keys), np.uint64)
        self.checker.check(keys, nobody if numbers is None else numbers, nobody)

    def take(self) -> list[list[int]]:
        """What the keeper gets by looking twice."""
        self.reader.look()
        noted = self.reader.look()
        self.reader.taken(len(noted))
        return noted.tolist()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def unknown(count: int, begin: int = 0) -> np.ndarray:
    """Keys that no list knows."""
    first = 11_000_000_000_000 + begin
    return np.arange(first, first + count, dtype=np.uint64)


@pytest.mark.parametrize("census", [False, True])
def test_exactly_the_rows_that_the_registry_wants_are_noted(tmp_path: Path, census: bool) -> None:
    node = Node(tmp_path, census=census)
    node.checker.check(*np.ascontiguousarray(queries().T))
    expected = {
        (vector.imei, vector.msisdn, vector.imsi, FIXED_REASONS.get(vector.reason, -1))
        for vector in VECTORS
        if (vector.reason in sighting.NOTABLE or census) and vector.reason != "malformed-imei"
    }
    found = {(imei, msisdn, imsi, why & 0xFFFF) for imei, msisdn, imsi, why in node.take()}
    pairs = {each[:3] for each in expected}
    assert {each[:3] for each in found} == pairs
    assert {each for each in found if each[3] < 256} == {each for each in expected if each[3] > 0}
    assert len(found) > (20 if census else 4)


def test_who_comes_again_takes_no_room(node: Node) -> None:
    for _ in range(50):
        node.check(unknown(20))
    noted = node.take()
    assert [row[0] for row in noted] == unknown(20).tolist()
    assert {row[3] for row in noted} == {NOW << 16 | FIXED_REASONS["not-registered"]}
    assert node.reader.drained


def test_a_slot_is_read_only_a_look_after_it_was_written(node: Node) -> None:
    node.check(unknown(5))
    assert len(node.reader.look()) == 0
    assert len(node.reader.look()) == 5
    assert len(node.reader.look()) == 5, "until it is taken"
    node.reader.taken(3)
    assert len(node.reader.look()) == 2


def test_a_full_ring_drops_and_says_how_many_and_goes_on_when_there_is_room(node: Node) -> None:
    slots = limits.SIGHTING_RING_SLOTS
    node.check(unknown(slots + 100))
    assert node.reader.dropped() == 100
    assert len(node.take()) == slots
    node.check(unknown(100, begin=slots))
    assert [row[0] for row in node.take()] == unknown(100, begin=slots).tolist()
    assert node.reader.dropped() == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30_000), st.booleans()), min_size=1, max_size=12))
def test_around_the_ring_and_around_again(tmp_path_factory, waves: list[tuple[int, bool]]) -> None:
    node = Node(tmp_path_factory.mktemp("ring"))
    got: list[int] = []
    asked = 0
    for count, look in waves:
        node.check(unknown(count, begin=asked))
        asked += count
        if look:
            got += [row[0] for row in node.take()]
    got += [row[0] for row in node.take()]
    assert len(got) + node.reader.dropped() == asked
    assert got == sorted(set(got))


def test_a_worker_that_is_killed_leaves_its_ring_to_be_drained(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib, numpy as np\n"
        "from tests.serve.test_sighting_ring import Node, unknown\n"
        "node = Node(pathlib.Path(sys.argv[1]))\n"
        "node.check(unknown(1000))\n"
        "sys.stdout.write('noted'); sys.stdout.flush(); time.sleep(600)\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ, cwd=root) as child:
        assert child.stdout is not None
        assert child.stdout.read(5) == b"noted"
        (path,) = tmp_path.iterdir()
        reader = RingReader(path)
        assert not reader.left_alone()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert reader.left_alone()
    reader.look()
    assert len(reader.look()) == 1_000


def test_what_is_no_ring_yet_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "1-a").write_bytes(b"")
    with pytest.raises(ValueError, match="not yet"):
        RingReader(tmp_path / "1-a")


def test_marks_are_known_again_until_far_more_have_come(tmp_path: Path) -> None:
    seen = Seen(tmp_path / "seen", 1_000)
    chance = np.random.default_rng(1)
    marks = chance.integers(1, 1 << 63, 2_000_000, dtype=np.uint64)
    for part in np.array_split(marks, 40):
        assert not seen.are_known(part).any()
        seen.remember(part)
        assert seen.are_known(part).all()
    assert seen.are_known(marks[-limits.MAX_SIGHTINGS_ROWS :]).all()
    assert not seen.are_known(marks[:1_000]).any(), "memory is bounded"
    again = Seen(tmp_path / "seen", 1_000)
    assert again.are_known(marks[-1_000:]).all(), "another process goes on with it"
    larger = Seen(tmp_path / "seen", 1_000_000)
    assert larger.are_known(marks[-1_000:]).all(), "and so does one that remembers more"
