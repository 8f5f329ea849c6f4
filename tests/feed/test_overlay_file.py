"""What deltas made of a base, written by one process's hand and mapped by another's."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from eir.core import deadlines, imeiset, pairtable
from eir.core.delta import Change, Delta, Items, apply
from eir.core.generation import Generation, Section
from eir.core.orders import Override
from eir.core.policy import Policy
from eir.core.sieving import with_sieve
from eir.core.tables import Tables
from eir.feed.overlay_file import read_overlays, write_overlays

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


def mapped(made: Generation, base: Generation) -> Generation:
    with write_overlays(made, base) as file:
        pages = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
    return read_overlays(pages, base)


def after(base: Generation, delta: Delta) -> Generation:
    return apply(base, delta, serial=2, made_at=1_800_000_000, digest="f" * 32)


@pytest.mark.parametrize(
    ("base", "delta"), [(registry(), of_registry()), (operator(), of_operator())]
)
def test_what_is_read_is_what_was_written(base, delta):
    made = after(base, delta)
    read = mapped(made, base)
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


def test_the_tables_of_the_base_are_shared_and_the_overlays_lie_in_the_file():
    base = registry()
    with write_overlays(after(base, of_registry()), base) as file:
        pages = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
    first, end = pages.ctypes.data, pages.ctypes.data + len(pages)
    for name, section in read_overlays(pages, base).sections.items():
        if name in base.sections:
            assert section.content is base.sections[name].content
        data = section.overlay.touched.data
        assert first <= data.ctypes.data < end
        assert data.ctypes.data % 64 == 0
        assert not data.flags.writeable


def test_verdicts_are_those_of_whoever_applied_the_deltas():
    registry_base, operator_base = with_sieve(registry()), with_sieve(operator())
    made = after(registry_base, of_registry()), after(operator_base, of_operator())
    read = mapped(made[0], registry_base), mapped(made[1], operator_base)
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
    assert read[0].sieve is registry_base.sieve
