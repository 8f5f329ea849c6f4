"""Random damage with right hashes: refused as Corrupt, or accepted and exactly right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eir.core.generation import REGISTRY
from eir.errors import Corrupt
from eir.feed.codec import open_snapshot
from tests.feed import small
from tests.feed.surgery import enclose

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 6000


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_sections_between_walls(seed: int) -> None:
    """In a program of its own: a byte read outside, memory without bound or a loop end it."""
    done = run("tests.feed.fuzz_sections", seed, ROUNDS)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout)
    assert sum(seen.values()) == ROUNDS
    for kind in ("list", "pairs", "deadlines"):
        assert seen[f"{kind} refused"] > ROUNDS // 20
        assert seen[f"{kind} accepted"] > ROUNDS // 200


def test_the_walls_are_walls() -> None:
    """The proof above rests on this: one byte behind, or before, ends the interpreter."""
    reach = (
        "import ctypes; from tests.feed.guarded import Yard; a = Yard(5).hold(b'12345', at_end={})"
    )
    for at_end, place in (True, 5), (False, -1):
        code = f"{reach.format(at_end)}; ctypes.string_at(a.ctypes.data + {place}, 1)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode < 0, (at_end, place, done.stderr)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small.write(REGISTRY, tmp_path_factory.mktemp("good") / "a")


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_header_with_its_right_hash(
    data: st.DataObject, good: bytes, tmp_path: Path
) -> None:
    length = int.from_bytes(good[8:16], "little")
    packed = bytearray(good[64 : 64 + length])
    at = data.draw(st.integers(0, length - 1))
    if data.draw(st.booleans()):
        packed[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        packed[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    body = good[-(-(64 + length) // 64) * 64 :]
    path = tmp_path / "bad"
    path.write_bytes(enclose(bytes(packed), [body]))
    try:
        opened = open_snapshot(path)
    except Corrupt:
        return
    path.write_bytes(good)
    assert opened.digest == open_snapshot(path).digest
    assert (opened.feed, opened.serial > 0, opened.made_at >= 0) == (REGISTRY, True, True)
