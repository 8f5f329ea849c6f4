"""Golden snapshots: format 1 is what these files are, and their digest is what it says on paper."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from eir.core.generation import BLACK_UNION, OPERATOR, REGISTRY, Section
from eir.feed.codec import open_snapshot
from eir.feed.digest import encode_order
from tests.feed import small

HERE = Path(__file__).parent / "snapshots"
GOLDEN = {
    REGISTRY: (
        "01b8a7c0c6a37d0cf63ce6f4a040aae0b98047484d7e8bc2e046b64d4c1bc758",
        "3b830f82bab035a06847165d483dbf51",
    ),
    OPERATOR: (
        "746f8b9fe49b33796be641c93dd430d6b7b025adddb8ebf1711b1d3b8ed24631",
        "cc6e09e21681d3ea965e11439a869ae5",
    ),
}
"""SHA-256 of each file, and the digest of its content."""

WORD = (1 << 64) - 1


def fmix64(x: int) -> int:
    """MurmurHash3's finaliser, from its public text."""
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & WORD
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & WORD
    return x ^ x >> 33


def lanes(name: str, form: str, items: list[list[int]]) -> tuple[int, int]:
    seed = hashlib.sha256(f"{name}\0{form}".encode()).digest()
    sums = []
    for start in seed[:8], seed[8:16]:
        total = 0
        for words in items:
            h = int.from_bytes(start, "little")
            for word in words:
                h = fmix64(h ^ word)
            total += h
        sums.append(total & WORD)
    return sums[0], sums[1]


def items_of(section: Section) -> list[tuple[str, list[list[int]]]]:
    orders = [hashlib.sha256(encode_order(row)).digest() for row in section.orders]
    words = [[int.from_bytes(o[i : i + 8], "little") for i in (0, 8)] for o in orders]
    rows = [row for rows in section.rows() for row in rows.tolist()]
    return [("", words), ("", rows), ("range", section.ranges.tolist())]


@pytest.fixture(params=[REGISTRY, OPERATOR])
def feed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_bytes_are_as_they_ever_were(feed: str, tmp_path: Path) -> None:
    golden = (HERE / f"{feed}.eirsnap").read_bytes()
    assert hashlib.sha256(golden).hexdigest() == GOLDEN[feed][0]
    assert small.write(feed, tmp_path / "now") == golden


def test_the_digest_is_as_it_ever_was_and_as_written_down(feed: str) -> None:
    generation = open_snapshot(HERE / f"{feed}.eirsnap")
    assert generation.digest == GOLDEN[feed][1]
    low, high = 0, 0
    for name, section in generation.sections.items():
        for form, items in items_of(section) if name != BLACK_UNION else ():
            one, other = lanes(name, form, items)
            low, high = low + one & WORD, high + other & WORD
    assert generation.digest == f"{low:016x}{high:016x}"
