"""Whom a change may touch: the questions to ask of the old tables and of the new.

A delta touches its keys, with every number and IMSI that is or was bound to them; a number's
change, the devices bound to it or in grey with it; a range, a hold or a policy, whoever of the
population it covers. What strangers hear is asked with a number that nobody has. Devices that no
list knows can't be asked about. O(delta) but for ranges, numbers and policies, which read the
pairs through once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir.core.delta import Change, Delta, apart
from eir.core.gather import rows_of
from eir.core.generation import BLACK, Generation, Section, spec_of
from eir.core.orders import Override

U64 = NDArray[np.uint64]
Queries = tuple[U64, U64, U64]
"""(IMEI keys, MSISDNs, IMSI codes), uint64 of one length; 0 = none."""

STRANGER: Final = np.uint64(1)
"""A number that nobody has: numbers have five digits and more."""

_PAIRED = ("bindings", "grey")
_BY_IMSI = "bindings.imsi"
_DEVICES = ("white", "legacy", "bound-elsewhere")


def population(registry: Generation) -> Iterator[Queries]:
    """Everybody that the registry's lists name: pairs, by number or IMSI, and devices alone; a
    range by its first.

    No pair and no single device is named twice, in however many lists it stands.
    """
    named: list[Section] = []
    for name in _PAIRED:
        for chunk in _chunks(registry, name):
            yield _pairs(_not_named(np.ascontiguousarray(chunk[:, :2]), named))
        named += [registry.sections[name]] if name in registry.sections else []
    for chunk in _chunks(registry, _BY_IMSI):
        yield _by_imsi(chunk)
    named = [section for section in named if section.name == "grey"]
    for name, section in registry.sections.items():
        if name in _DEVICES or name.startswith(BLACK):
            for chunk in section.rows():
                alone = np.stack([chunk[:, 0], np.zeros(len(chunk), np.uint64)], axis=1)
                yield _alone(_not_named(alone, named)[:, 0])
            yield _alone(section.ranges[:, 0])
            named.append(section)


def _not_named(rows: U64, named: Iterable[Section]) -> U64:
    """Of ascending (IMEI, number), 0 = none, those that stand in none of the sections."""
    for section in named:
        known = rows_of(section, np.unique(rows[:, 0]))[:, :2]
        if known.shape[1] == 1:
            known = np.stack([known[:, 0], np.zeros(len(known), np.uint64)], axis=1)
        rows = apart(rows, np.ascontiguousarray(known))[0]
    return rows


def touched(delta: Delta, registries: Iterable[Generation]) -> Iterator[Queries]:
    """Whom a delta of either feed may touch; ``registries``: the registry before and after it.

    Of holds nothing: they are everybody's.
    """
    both = tuple(registries)
    found = _Found(delta)
    keys = _distinct(np.concatenate([np.empty(0, np.uint64), *found.devices]))
    yield _alone(keys)
    for pairs in found.pairs:
        yield _pairs(pairs)
    for registry in both:
        for name in _PAIRED:
            if name in registry.sections:
                yield _pairs(rows_of(registry.sections[name], keys)[:, :2])
        if _BY_IMSI in registry.sections:
            yield _by_imsi(rows_of(registry.sections[_BY_IMSI], keys))
    for keys in found.strangers:
        yield _pairs(np.stack([keys, np.full(len(keys), STRANGER)], axis=1))
    if found.device_ranges:
        yield from _covered(both[-1], np.concatenate(found.device_ranges))
    if found.numbers or found.imsis:
        yield from _of_numbers(both[-1], found)


def without(queries: Queries, asked: Queries) -> Queries:
    """Those that are not asked already; both ascend and name none twice."""
    if len(queries[0]) == 0:
        return queries
    begin = np.searchsorted(asked[0], queries[0][0], side="left")
    end = np.searchsorted(asked[0], queries[0][-1], side="right")
    if begin == end:
        return queries
    near = np.stack([column[begin:end] for column in asked], axis=1)
    left = apart(np.stack(queries, axis=1), near)[0]
    imei, msisdn, imsi = (np.ascontiguousarray(column) for column in left.T)
    return imei, msisdn, imsi


def _distinct(keys: U64) -> U64:
    """Ascending. By sorting: np.unique hashes first, which takes ten times as long."""
    ascending = np.sort(keys)
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = ascending[1:] != ascending[:-1]
    return ascending[fresh]


class _Found:
    """What a delta names, by kind."""

    def __init__(self, delta: Delta) -> None:
        self.devices: list[U64] = []
        self.pairs: list[U64] = []
        self.numbers: list[U64] = []
        self.imsis: list[U64] = []
        self.device_ranges: list[U64] = []
        self.strangers: list[U64] = []
        self.ordered: list[int] = []
        for name, change in delta.changes.items():
            for items in (change.removed, change.added):
                self._note(name, items.rows, items.ranges)
                for order in items.orders:
                    if isinstance(order, Override):
                        self._note_override(order)
            self._note_strangers(name, change)

    def _note(self, name: str, rows: U64, ranges: U64) -> None:
        keys = spec_of(name).keys
        if keys == "imei":
            self.devices.append(rows[:, 0])
            if len(ranges):
                self.device_ranges.append(ranges)
            if name in _PAIRED:
                self.pairs.append(rows[:, :2])
        elif keys == "msisdn":
            self.numbers += [np.repeat(rows, 2, axis=1), ranges]
        elif keys == "imsi":
            self.imsis.append(rows)

    def _note_strangers(self, name: str, change: Change) -> None:
        """Devices of which a stranger hears another answer than who sends no number."""
        if name == "bound-elsewhere" or name.startswith(BLACK):
            self.strangers.append(change.added.rows[:, 0])
        elif name == "grey":
            rows = change.added.rows
            self.strangers.append(rows[rows[:, 1] == 0, 0])
        elif name in ("legacy", "exempt.equipment"):
            self.strangers.append(change.removed.rows[:, 0])

    def _note_override(self, order: Override) -> None:
        if order.imei:
            self.devices.append(np.array([order.imei], np.uint64))
            self.pairs.append(np.array([[order.imei, order.msisdn]], np.uint64))
        else:
            self.numbers.append(np.array([[order.msisdn, order.msisdn]], np.uint64))
            self.ordered.append(order.msisdn)


def _covered(registry: Generation, ranges: U64) -> Iterator[Queries]:
    """Those of the population whose device lies in one of the ranges; each range's first."""
    yield _alone(ranges[:, 0])
    for imei, msisdn, imsi in population(registry):
        inside = _within(imei, ranges)
        if inside.any():
            yield imei[inside], msisdn[inside], imsi[inside]


def _of_numbers(registry: Generation, found: _Found) -> Iterator[Queries]:
    """Devices bound to a number that changes, or in grey with it, with that number or with its IMSI
    alone; a number that is ordered about and that no device has, without one.
    """
    numbers = np.concatenate([np.empty((0, 2), np.uint64), *found.numbers])
    by_imsi = np.concatenate([np.empty((0, 2), np.uint64), *found.imsis])
    by_imsi = by_imsi[np.argsort(by_imsi[:, 1], kind="stable")]
    ordered = _distinct(np.array(found.ordered, np.uint64))
    unseen = np.ones(len(ordered), np.bool_)
    for chunk in (each for name in _PAIRED for each in _chunks(registry, name)):
        inside = _within(chunk[:, 1], numbers)
        yield _pairs(chunk[inside])
        unseen &= ~np.isin(ordered, chunk[inside, 1])
        at = np.searchsorted(by_imsi[:, 1], chunk[:, 1])
        for step in range(4):
            place = np.minimum(at + step, max(len(by_imsi) - 1, 0))
            if len(by_imsi) == 0:
                break
            same = (by_imsi[place, 1] == chunk[:, 1]) & (at + step < len(by_imsi))
            none = np.zeros(int(same.sum()), np.uint64)
            yield chunk[same, 0].copy(), none, by_imsi[place[same], 0].copy()
    yield _pairs(np.stack([np.zeros(int(unseen.sum()), np.uint64), ordered[unseen]], axis=1))


def _within(values: U64, ranges: U64) -> NDArray[np.bool_]:
    """Which values lie in one of the ranges, which may overlap."""
    inside = np.zeros(len(values), np.bool_)
    if len(ranges) == 0:
        return inside
    ordered = ranges[np.argsort(ranges[:, 0], kind="stable")]
    ends = np.maximum.accumulate(ordered[:, 1])
    place = np.searchsorted(ordered[:, 0], values, side="right")
    inside[place > 0] = values[place > 0] <= ends[place[place > 0] - 1]
    return inside


def _chunks(registry: Generation, name: str) -> Iterator[U64]:
    return registry.sections[name].rows() if name in registry.sections else iter(())


def _pairs(rows: U64) -> Queries:
    imei, msisdn = np.ascontiguousarray(rows[:, 0]), np.ascontiguousarray(rows[:, 1])
    return imei, msisdn, np.zeros(len(rows), np.uint64)


def _by_imsi(rows: U64) -> Queries:
    imei, imsi = np.ascontiguousarray(rows[:, 0]), np.ascontiguousarray(rows[:, 1])
    return imei, np.zeros(len(rows), np.uint64), imsi


def _alone(keys: U64) -> Queries:
    none = np.zeros(len(keys), np.uint64)
    return np.ascontiguousarray(keys), none, none
