"""Run as a program: damaged parts of sections against their verifier, then against the kernel.

``python -m tests.feed.fuzz_sections SEED ROUNDS`` takes the parts of good sections, damages them at
random, puts each between two walls and opens them as the codec does once hashes are right. What is
refused must be refused as Corrupt; what is accepted must be exactly what building it anew from its
rows gives, and the kernel must find in it what its rows say and touch no byte outside. Prints one
JSON line: how many were accepted and refused, by kind. Any other end is a failure.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.core import deadlines, imeiset, kernel, pairtable
from eir.core.generation import DEADLINES, LIST, PAIRS, REGISTRY, Content, Generation, Section
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.errors import Corrupt
from eir.feed import sections
from eir.feed.digest import of_section
from tests.feed import small
from tests.feed.guarded import Yard

U64 = NDArray[np.uint64]
NAMES = {LIST: "white", PAIRS: "bindings", DEADLINES: "grey"}
HEADROOM_BYTES = 1 << 30
MOST_PROBES = 40
# fmt: off
INTERESTING = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x1001, 0x303A, 0x303B, 0x7FFF, 0x8000, 0xFFFF,
    0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 40, 1 << 63, (1 << 64) - 1,
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Sample:
    kind: str
    parts: dict[str, bytes]
    base: int
    items: int


def sample(kind: str, content: Content) -> Sample:
    parts = {name: part.tobytes() for name, part in sections.parts_of(content).items()}
    return Sample(kind, parts, sections.base_of(content), Section(NAMES[kind], content).items)


def samples() -> list[Sample]:
    rows = small.BINDINGS
    grey = np.array(small.GREY, np.uint64)
    spread = small.joined(*(small.span(n << 16, 3 + n % 5, 1 + n % 3) for n in range(1, 30)))
    lines = small.joined(small.span(7, 496), small.span(1 << 16, 992), small.span(1 << 17, 497))
    blocks = np.array([[5, 9], [20, 20], [10**6, 10**7]], np.uint64)
    return [
        sample(LIST, imeiset.build([small.WHITE])),
        sample(LIST, imeiset.build([small.CROWD], blocks)),
        sample(LIST, imeiset.build([small.array(3, 5)], blocks)),
        sample(LIST, imeiset.build([spread])),
        sample(PAIRS, pairtable.build([(rows[:, 0].copy(), rows[:, 1].copy())])),
        sample(PAIRS, pairtable.build([(spread, spread + np.uint64(7))])),
        sample(PAIRS, pairtable.of_rows(lines, lines)),
        sample(PAIRS, pairtable.of_rows(lines[:496], lines[:496])),
        sample(
            DEADLINES,
            deadlines.build([(grey[:, 0].copy(), grey[:, 1].copy(), grey[:, 2].astype(np.int64))]),
        ),
        sample(
            DEADLINES,
            deadlines.build([(spread, spread * np.uint64(0), spread.astype(np.int64))]),
        ),
    ]


def damaged(octets: bytes, rng: random.Random) -> bytes:
    """The bytes with one thing changed: a bit, a number, an entry, a stretch, the length."""
    size = rng.choice((1, 2, 4, 8))
    at = rng.randrange(len(octets) + 1) // size * size
    body = bytearray(octets)
    way = rng.randrange(8)
    if way == 0 and octets:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    elif way == 1:
        number = rng.choice(INTERESTING) & ((1 << 8 * size) - 1)
        body[at : at + size] = number.to_bytes(size, "little")
    elif way == 2:
        near = int.from_bytes(body[at : at + size], "little") + rng.choice((-2, -1, 1, 2))
        body[at : at + size] = (near & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    elif way == 3:
        other = rng.randrange(len(body) + 1) // size * size
        body[at : at + size], body[other : other + size] = (
            body[other : other + size], body[at : at + size],
        )  # fmt: skip
    elif way == 4:
        del body[at : at + size * rng.choice((1, 2, 4, 16))]
    elif way == 5:
        body[at:at] = rng.choice((bytes(size), rng.randbytes(size), bytes(body[:size])))
    elif way == 6:
        body[at:] = rng.randbytes(rng.randrange(40))
    else:
        other = rng.randrange(len(body) + 1) // size * size
        body[at : at + 32] = body[other : other + 32]
    return bytes(body)


def rebuilt(section: Section, base: int) -> dict[str, bytes]:
    """The parts that the rows of an accepted section give when it is built of them anew."""
    rows = np.concatenate([kernel_words(section.content), *section.rows()])
    columns = [rows[:, i].copy() for i in range(rows.shape[1])]
    content: Content
    if len(columns) == 1:
        content = imeiset.build([columns[0]], section.ranges)
    elif len(columns) == 2:
        content = pairtable._encode(iter([(columns[0], columns[1])]), base)
    else:
        content = deadlines.build([(columns[0], columns[1], columns[2].astype(np.int64))])
    return {name: part.tobytes() for name, part in sections.parts_of(content).items()}


def kernel_words(content: Content) -> U64:
    words = {imeiset.ImeiSet: 1, pairtable.PairTable: 2, deadlines.DeadlineTable: 3}
    return np.empty((0, words[type(content)]), np.uint64)


def probe(section: Section, rng: random.Random) -> None:
    """Ask the kernel for keys that are there, and for their neighbours that may not be."""
    generation = Generation(REGISTRY, "fuzz", "", 1, 0, "", {section.name: section})
    desc = Tables(generation, None, Policy()).desc
    rows = np.concatenate([kernel_words(section.content), *section.rows()])
    told: dict[int, dict[int, int]] = {}
    for row in rows.tolist():
        told.setdefault(row[0], {})[row[1] if len(row) > 1 else 0] = row[-1]
    some = {*rng.sample(sorted(told), min(MOST_PROBES, len(told))), *sorted(told)[:1]}
    some |= {*sorted(told)[-1:]}
    for key in {near for at in some for near in (at - 1, at, at + 1, at ^ 0xFFFF, at ^ 1 << 16)}:
        PROBES[section.name](desc, np.uint64(max(key, 0)), told.get(max(key, 0), {}), section)


def probe_list(desc: object, key: np.uint64, told: dict[int, int], section: Section) -> None:
    inside = any(low <= key <= high for low, high in section.ranges.tolist())
    found = kernel.in_list(desc, kernel.AT_WHITE, key, kernel.ALL_HINTS, 0)
    assert found == (bool(told) or inside)


def probe_pairs(desc: object, key: np.uint64, told: dict[int, int], section: Section) -> None:
    for value in {1, *list(told)[:5]}:
        found = kernel.pairs_of(
            desc, kernel.AT_BINDINGS, key, np.uint64(value), kernel.ALL_HINTS, -1
        )
        assert found[:2] == (bool(told), value in told)


def probe_deadlines(desc: object, key: np.uint64, told: dict[int, int], section: Section) -> None:
    for number in {1, *list(told)[:5]}:
        expected = told.get(number, told.get(0, -1))
        assert kernel.deadline_of(desc, key, np.uint64(number), kernel.ALL_HINTS, -1) == expected


PROBES: dict[str, Callable[[object, np.uint64, dict[int, int], Section], None]] = {
    "white": probe_list,
    "bindings": probe_pairs,
    "grey": probe_deadlines,
}


def once(of: Sample, parts: dict[str, bytes], yards: dict[str, Yard], rng: random.Random) -> bool:
    """Whether the parts were accepted."""
    at_end = rng.random() < 0.75
    held = {name: yards[name].hold(part, at_end=at_end) for name, part in parts.items()}
    try:
        content = sections.content_of(of.kind, held, base=of.base, items=of.items)
        section = Section(NAMES[of.kind], content)
        of_section(section)
    except Corrupt:
        return False
    except ValueError as error:
        if "not each is an" in str(error) or "is no" in str(error):
            return False
        raise
    assert rebuilt(section, of.base) == parts, "accepted, and not canonical"
    probe(section, rng)
    return True


def bound_memory() -> None:
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + HEADROOM_BYTES, now + HEADROOM_BYTES))


def main(seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    corpus = samples()
    names = {name for of in corpus for name in of.parts}
    yards = {name: Yard(1 << 16) for name in names}
    for of in corpus:
        assert once(of, of.parts, yards, rng), "a good section was refused"
    bound_memory()
    seen: Counter[str] = Counter()
    for _ in range(rounds):
        of = rng.choice(corpus)
        parts = dict(of.parts)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            name = rng.choice(sorted(parts))
            parts[name] = damaged(parts[name], rng)
        accepted = once(of, parts, yards, rng)
        seen[f"{of.kind} {'accepted' if accepted else 'refused'}"] += 1
    sys.stdout.write(json.dumps(dict(sorted(seen.items()))) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
