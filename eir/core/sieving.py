"""Which sections of a generation a sieve covers, and building it: of bases, or of overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eir.core import sieve
from eir.core.generation import BLACK, BLACK_UNION, REGISTRY, Generation, Section, Table
from eir.core.imeiset import ImeiSet
from eir.core.sieve import IMEI_COLUMNS, Sieve

U64 = NDArray[np.uint64]

IMSI_MSISDN = "imsi-msisdn"
LARGE = ("white", "bindings", IMSI_MSISDN)
"""What most devices or subscribers stand in: asked without a sieve."""

NUMBER_COLUMNS: Mapping[str, int] = {
    name: IMEI_COLUMNS + i
    for i, name in enumerate(
        ("exempt.subscriber.all", "exempt.subscriber.registration", "released")
    )
}
"""The sections that are asked for a number have columns of their own."""

SIEVED_SHARE = 4
"""A section with more than one in so many of the keys of the largest of those is one of them."""


def with_sieve(generation: Generation) -> Generation:
    """The same, with a sieve of its bases. O(keys of the smaller sections), not of the largest."""
    columns, keys = _planned(generation)
    if not columns:
        return generation
    tables = {name: _base(generation.sections[name]) for name in columns}
    made = sieve.build(columns, keys, _batches(tables))
    return replace(generation, sieve=made)


def of_overlays(generation: Generation) -> Sieve:
    """A sieve of the keys that deltas have touched: the generation's own, where it is of these
    very overlays; else a new one, O(overlays).
    """
    touched = {
        name: section.overlay.touched
        for name, section in generation.sections.items()
        if section.overlay is not None and name != IMSI_MSISDN
    }
    made = generation.overlay_sieve
    if made is not None and made.of == touched:
        return made
    sizes = {name: keys.items for name, keys in touched.items()}
    columns, keys = _columns(generation.feed, sizes)
    made = sieve.build(columns, keys, _batches({name: touched[name] for name in columns}))
    return replace(made, of=touched)


def with_free_columns(generation: Generation, columns: Mapping[str, int]) -> dict[str, int]:
    """The same columns, and what is left of them to sections of which a sieve says nothing.

    Not to black lists, or to their union: one sieves them, or the union is asked before them.
    """
    lacking = [
        name
        for name, section in generation.sections.items()
        if name not in columns and name != IMSI_MSISDN and not isinstance(section.content, tuple)
        if not (name.startswith(BLACK) or name == BLACK_UNION)
    ]
    free = (each for each in _imei_columns(generation.feed) if each not in columns.values())
    by_number = {name: NUMBER_COLUMNS[name] for name in lacking if name in NUMBER_COLUMNS}
    others = sorted(set(lacking) - by_number.keys(), key=lambda name: (name not in LARGE, name))
    return {**columns, **by_number, **dict(zip(others, free, strict=False))}


def _planned(generation: Generation) -> tuple[dict[str, int], int]:
    """(section -> column, keys in all) of the bases of the smaller sections."""
    sizes = {
        name: size
        for name, section in generation.sections.items()
        if not isinstance(section.content, tuple) and (size := _size(section.content))
    }
    most = max((sizes[name] for name in LARGE if name in sizes), default=0)
    small = {
        name: size
        for name, size in sizes.items()
        if name not in LARGE and (most == 0 or size * SIEVED_SHARE <= most)
    }
    return _columns(generation.feed, small)


def _columns(feed: str, sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """(section -> column, keys in all).

    Black lists have columns of their own; where these do not suffice, their union has one.
    """
    by_imei = sorted(sizes.keys() - NUMBER_COLUMNS.keys() - {BLACK_UNION})
    room = _imei_columns(feed)[len(LARGE) :]
    if len(by_imei) > len(room):
        by_imei = [BLACK_UNION, *(name for name in by_imei if not name.startswith(BLACK))]
    columns = {name: column for name, column in NUMBER_COLUMNS.items() if name in sizes}
    columns |= {name: c for name, c in zip(by_imei, room, strict=False) if name in sizes}
    return columns, sum(sizes[name] for name in columns)


def _imei_columns(feed: str) -> range:
    """The registry has no sections that are asked for a number."""
    return range(IMEI_COLUMNS + len(NUMBER_COLUMNS) if feed == REGISTRY else IMEI_COLUMNS)


def _base(section: Section) -> Table:
    if isinstance(section.content, tuple):
        raise TypeError(f"{section.name} has no keys")
    return section.content


def _size(table: Table) -> int:
    """How many keys a table has; a list's ranges are none."""
    return int(table.cards.sum()) if isinstance(table, ImeiSet) else table.index.size


def _batches(tables: Mapping[str, Table]) -> Iterator[tuple[str, U64]]:
    for name, table in tables.items():
        if isinstance(table, ImeiSet):
            yield from ((name, keys) for keys in table.chunks())
        else:
            yield from ((name, keys) for _, keys in table.index.chunks())
