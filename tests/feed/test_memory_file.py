"""What deltas made of a base, written by one process's hand and mapped by another's."""

from __future__ import annotations

import numpy as np
import pytest

from eir.core import deadlines, imeiset, pairtable
from eir.core.delta import Change, Delta, Items, apply
from eir.core.generation import Generation, Section
from eir.core.orders import Override
from eir.core.policy import Policy
from eir.core.sieving import with_sieve
from eir.core.tables import Tables
from eir.core.view import view_of
from eir.feed.memory_file import (
    Pages,
    mapped,
    read_base,
    read_overlays,
    write_base,
    write_overlays,
)

KEYS = np.arange(35_000_000_000_000, 35_000_000_001_000, dtype=np.uint64)
NUMBERS = np.arange(989_120_000_000, 989_120_001_000, dtype=np.uint64)
NOTHING = np.empty((0, 1), np.uint64)


def rows(*columns):
    return np.column_stack(columns).astype(np.uint64)


def registry() -> Generation:
    tables = {
        "white": imeiset.build([KEYS[:500]], np.array([[1_000, 2_000]], np.uint64)),
        "bindings": pairtable.of_rows(KEYS[:300], NUMBERS[:300]),
        "grey": deadlines.build([(KEYS[300:310], NUMBERS[:10], np.full(10, 2_000_000_000))]),
    }
    sections = {name: Section(name, table) for name, table in tables.items()}
    return Generation("registry", "local", "s" * 36, 1, 1_700_000_000, "0" * 32, sections)


def operator() -> Generation:
    sections = {"released": Section("released", imeiset.build([NUMBERS[:20]]))}
    return Generation("operator", "local", "o" * 36, 1, 1_700_000_000, "0" * 32, sections)


def of_registry() -> Delta:
    def grey(begin: int) -> Items:
        return Items(rows(KEYS[begin : begin + 5], NUMBERS[:5], np.full(5, 2_100_000_000)))

    return Delta(
        {
            "white": Change(
                Items(KEYS[:9].reshape(-1, 1), np.array([[1_000, 2_000]], np.uint64)),
                Items(KEYS[600:700].reshape(-1, 1), np.array([[1_000, 1_500]], np.uint64)),
            ),
            "bindings": Change(
                Items(rows(KEYS[5:50], NUMBERS[5:50])), Items(rows(KEYS[5:90], NUMBERS[105:190]))
            ),
            "grey": Change(Items(grey(0).rows[:0]), grey(400)),
            "black.stolen": Change(Items(NOTHING), Items(KEYS[7:900:7].reshape(-1, 1))),
        },
        {"black.stolen": 256},
    )


def of_operator() -> Delta:
    override = Override(int(KEYS[3]), int(NUMBERS[3]), True, 2_000_000_000)
    return Delta(
        {
            "released": Change(Items(NOTHING), Items(NUMBERS[50:60].reshape(-1, 1))),
            "overrides": Change(
                Items(np.empty((0, 0), np.uint64)),
                Items(np.empty((0, 0), np.uint64), orders=(override,)),
            ),
        },
        {},
    )


def laid(base: Generation) -> tuple[Generation, Pages]:
    """The base as it is read of its file, and the file's pages. There is no snapshot beneath."""
    nothing = np.empty(0, np.uint8)
    with write_base(base, nothing) as file:
        pages = mapped(file)
    return read_base(pages, nothing), pages


def overlaid(made: Generation, base: Generation) -> tuple[Generation, Pages]:
    """The same of what deltas made of a base."""
    _, file = write_overlays(made, base)
    with file:
        pages = mapped(file)
    return read_overlays(pages, base), pages


def after(base: Generation, delta: Delta) -> Generation:
    return apply(base, delta, serial=2, made_at=1_800_000_000, digest="f" * 32)


@pytest.mark.parametrize(
    ("base", "delta"), [(registry(), of_registry()), (operator(), of_operator())]
)
def test_what_is_read_is_what_was_written(base, delta):
    base, _ = laid(base)
    made = after(base, delta)
    read, _ = overlaid(made, base)
    for name in ("feed", "registry_id", "session", "serial", "made_at", "digest"):
        assert getattr(read, name) == getattr(made, name)
    assert read.sections.keys() == made.sections.keys() >= delta.changes.keys()
    for name, section in made.sections.items():
        other = read.sections[name]
        assert (other.items, other.reason_id) == (section.items, section.reason_id)
        assert other.orders == section.orders
        assert other.ranges.tolist() == section.ranges.tolist()
        told = [[chunk.tolist() for chunk in each.rows()] for each in (other, section)]
        assert told[0] == told[1]


def lies_in(array: np.ndarray, pages: Pages) -> bool:
    return 0 <= array.ctypes.data - pages.ctypes.data < len(pages)


def test_what_is_the_bases_is_shared_and_the_rest_lies_in_the_file():
    base, beneath = laid(with_sieve(registry()))
    assert lies_in(base.sieve.lines, beneath)
    read, pages = overlaid(after(base, of_registry()), base)
    for name, section in read.sections.items():
        if name in base.sections:
            assert section.content is base.sections[name].content
            assert lies_in(view_of(section.content).derived, beneath)
        touched = section.overlay.touched
        for array in (touched.data, touched.containers, view_of(touched).derived):
            assert lies_in(array, pages)
            assert array.ctypes.data % 64 == 0
            assert not array.flags.writeable
    assert read.sieve is base.sieve
    assert lies_in(read.overlay_sieve.lines, pages)


def test_verdicts_are_those_of_whoever_applied_the_deltas():
    bases = [laid(with_sieve(each))[0] for each in (registry(), operator())]
    made = [after(bases[0], of_registry()), after(bases[1], of_operator())]
    read = [overlaid(each, base)[0] for each, base in zip(made, bases, strict=True)]
    numbers = np.concatenate([NUMBERS, NUMBERS[::-1]])
    asked = np.tile(KEYS, 2), numbers, np.zeros(2_000, np.uint64)
    found = [
        Tables(*pair, Policy())
        .check(*asked, now=1_900_000_000, grace_time=1_900_000_000, counts=counts)
        .rows.tolist()
        for pair in (made, read)
        for counts in (np.zeros((256, 5), np.uint64),)
    ]
    assert found[0] == found[1]
    assert len({tuple(row) for row in found[0]}) > 5
