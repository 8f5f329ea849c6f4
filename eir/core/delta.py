"""What changed between two contents of one feed: items that went and items that came.

An item is one key, one range, one pair, one grey entry, one override or hold. Items are compared
whole, so a changed deadline is one that went and one that came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import BLACK_UNION, Generation, Section, SectionSpec, spec_of
from eir.core.jit import compiled
from eir.core.orders import Hold, Override
from eir.errors import Refused

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Items:
    """Items of one section, ascending: ``rows`` uint64[n, words], ``ranges`` uint64[m, 2], and
    ``orders``: overrides or holds.
    """

    rows: U64
    ranges: U64 = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    orders: tuple[Override | Hold, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) + len(self.ranges) + len(self.orders)


@dataclass(frozen=True, slots=True)
class Change:
    """Of one section: what went, what came. Nothing is in both."""

    removed: Items
    added: Items


@dataclass(frozen=True, slots=True)
class Delta:
    """The sections that changed, by name; ``reason_ids``: of black lists among them."""

    changes: Mapping[str, Change]
    reason_ids: Mapping[str, int]

    def __len__(self) -> int:
        return sum(len(c.removed) + len(c.added) for c in self.changes.values())


def between(old: Generation, new: Generation) -> Delta:
    """The delta that makes ``new``'s content of ``old``'s; empty where they are equal.

    Raises Refused ``delta-feeds`` where they are not of the same feed.
    """
    if old.feed != new.feed:
        raise Refused("delta-feeds", f"a {old.feed} and a {new.feed} generation can't be compared")
    changes = {}
    for name in sorted((old.sections.keys() | new.sections.keys()) - {BLACK_UNION}):
        before, after = old.sections.get(name), new.sections.get(name)
        change = _change(spec_of(name), before, after)
        if len(change.removed) or len(change.added):
            changes[name] = change
    ids = {
        name: section.reason_id
        for name in changes
        if (section := new.sections.get(name) or old.sections[name]).reason_id
    }
    return Delta(changes, ids)


def _change(spec: SectionSpec, before: Section | None, after: Section | None) -> Change:
    removed: list[U64] = []
    added: list[U64] = []
    for old, new in _windows(_rows(before), _rows(after)):
        gone, come = np.empty(len(old), np.bool_), np.empty(len(new), np.bool_)
        _compare(old, new, gone, come)
        removed.append(old[gone])
        added.append(new[come])
    old_ranges, new_ranges = _ranges(before), _ranges(after)
    gone, come = np.empty(len(old_ranges), np.bool_), np.empty(len(new_ranges), np.bool_)
    _compare(old_ranges, new_ranges, gone, come)
    old_orders, new_orders = set(_orders(before)), set(_orders(after))
    return Change(
        Items(_joined(spec, removed), old_ranges[gone], tuple(sorted(old_orders - new_orders))),
        Items(_joined(spec, added), new_ranges[come], tuple(sorted(new_orders - old_orders))),
    )


def _joined(spec: SectionSpec, pieces: list[U64]) -> U64:
    none = np.empty((0, spec.words), np.uint64)
    return np.concatenate([none, *pieces])


def _rows(section: Section | None) -> Iterator[U64]:
    return section.rows() if section is not None else iter(())


def _ranges(section: Section | None) -> U64:
    return section.ranges if section is not None else np.empty((0, 2), np.uint64)


def _orders(section: Section | None) -> tuple[Override | Hold, ...]:
    return section.orders if section is not None else ()


def _windows(old: Iterator[U64], new: Iterator[U64]) -> Iterator[tuple[U64, U64]]:
    """Both streams, cut at the same keys, about a chunk at a time."""
    a, b = next(old, None), next(new, None)
    while a is not None and b is not None:
        top = min(a[-1, 0], b[-1, 0])
        cut_a = int(np.searchsorted(a[:, 0], top, side="right"))
        cut_b = int(np.searchsorted(b[:, 0], top, side="right"))
        yield a[:cut_a], b[:cut_b]
        a = a[cut_a:] if cut_a < len(a) else next(old, None)
        b = b[cut_b:] if cut_b < len(b) else next(new, None)
    while a is not None:
        yield a, a[:0]
        a = next(old, None)
    while b is not None:
        yield b[:0], b
        b = next(new, None)


@compiled
def _compare(old, new, gone, come):
    """Mark the rows of ascending ``old`` that ``new`` lacks, and the other way round."""
    gone[:] = True
    come[:] = True
    i = 0
    j = 0
    while i < old.shape[0] and j < new.shape[0]:
        order = 0
        for w in range(old.shape[1]):
            if old[i, w] != new[j, w]:
                order = -1 if old[i, w] < new[j, w] else 1
                break
        if order == 0:
            gone[i] = False
            come[j] = False
        if order <= 0:
            i += 1
        if order >= 0:
            j += 1
