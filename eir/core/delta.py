"""What changed between two contents of one feed: items that went and items that came.

An item is one key, one range, one pair, one grey entry, one override, hold or order. Items are
compared whole, so a changed deadline is one that went and one that came. Applying is strict and
all or nothing, and makes a new overlay, never a new base: O(delta + overlay). Knows no digest and
no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from eir.core import deadlines, imeiset
from eir.core.gather import rows_of
from eir.core.generation import (
    BLACK,
    BLACK_UNION,
    LIST,
    ORDERS,
    OVERRIDES,
    Generation,
    Orders,
    Overlay,
    Section,
    SectionSpec,
    among,
    empty_content,
    spec_of,
    table_of,
)
from eir.core.jit import compiled
from eir.core.orders import (
    Hold,
    Order,
    Override,
    check_holds,
    check_orders,
    check_overrides,
)
from eir.errors import Conflict, Refused

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Items:
    """Items of one section, ascending: ``rows`` uint64[n, words], ``ranges`` uint64[m, 2], and
    ``orders``: overrides, holds or orders.
    """

    rows: U64
    ranges: U64 = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    orders: tuple[Override | Hold | Order, ...] = ()

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
        raise Refused("delta-feeds", f"{old.feed} data and {new.feed} data can't be compared")
    changes = {}
    for name in sorted((old.sections.keys() | new.sections.keys()) - {BLACK_UNION}):
        before, after = old.sections.get(name), new.sections.get(name)
        if before is after:
            continue
        change = _change(spec_of(name), before, after)
        if len(change.removed) or len(change.added):
            changes[name] = change
    ids = {
        name: section.reason_id
        for name in changes
        if (section := new.sections.get(name) or old.sections[name]).reason_id
    }
    return Delta(changes, ids)


def apply(
    generation: Generation, delta: Delta, *, serial: int, made_at: int, digest: str
) -> Generation:
    """The generation that ``delta`` makes of this one; ``digest`` is the caller's to verify.

    The base stays, mapped as it is; only overlays are new. Raises Conflict where anything that
    went was not there or anything that came was: then there is no new generation at all.
    """
    sections = dict(generation.sections)
    for name, change in delta.changes.items():
        sections[name] = _applied(generation, name, change, delta.reason_ids.get(name, 0))
    if BLACK_UNION in sections:
        blacks = [change for name, change in delta.changes.items() if name.startswith(BLACK)]
        sections[BLACK_UNION] = _union_with(sections[BLACK_UNION], blacks)
    return replace(generation, serial=serial, made_at=made_at, digest=digest, sections=sections)


def merged(deltas: Iterable[Delta]) -> Delta:
    """One delta for several in a row: what came and went again is in neither list.

    Raises Conflict where one step adds or removes what an earlier one did already.
    """
    total = Delta({}, {})
    for delta in deltas:
        changes = dict(total.changes)
        for name, second in delta.changes.items():
            first = changes.pop(name, None)
            change = _in_turn(name, first, second) if first else second
            if len(change.removed) or len(change.added):
                changes[name] = change
        ids = {**total.reason_ids, **delta.reason_ids}
        total = Delta(
            {name: changes[name] for name in sorted(changes)},
            {name: ids[name] for name in sorted(ids) if name in changes},
        )
    return total


def _applied(generation: Generation, name: str, change: Change, reason_id: int) -> Section:
    spec = _spec_in(generation, name)
    section = generation.sections.get(name)
    if section is None:
        if any(reason_id and reason_id == each.reason_id for each in generation.sections.values()):
            raise Conflict(f"{name}: another black list has the id {reason_id}")
        section = Section(name, empty_content(name), reason_id)
    if section.reason_id != reason_id or (reason_id == 0) == name.startswith(BLACK):
        raise Conflict(f"{name}: its id is {section.reason_id}, the delta says {reason_id}")
    items = section.items + len(change.added) - len(change.removed)
    if isinstance(section.content, tuple):
        return Section(name, _orders_after(name, section.orders, change), reason_id)
    if change.removed.orders or change.added.orders:
        raise Conflict(f"{name} holds no orders")
    touched = _united(change.removed.rows[:, 0], change.added.rows[:, 0])
    rows = _rows_after(name, rows_of(section, touched), change)
    ranges = _ranges_after(name, section.ranges, change)
    overlay = _overlay_with(spec, section.overlay, touched, rows, ranges)
    return replace(section, overlay=overlay, items=items)


def _spec_in(generation: Generation, name: str) -> SectionSpec:
    try:
        spec = spec_of(name)
    except Refused as refused:
        raise Conflict(refused.detail) from refused
    if generation.feed not in spec.feeds or name == BLACK_UNION:
        raise Conflict(f"{name} is no list of the {generation.feed} feed")
    return spec


def _rows_after(name: str, current: U64, change: Change) -> U64:
    """The rows of the keys that the change touches, once it is applied. Raises Conflict."""
    removed, added = change.removed.rows, change.added.rows
    if not (ascends(removed) and ascends(added)):
        raise Conflict(f"{name}: the delta's items do not ascend, or one stands there twice")
    missing, kept = apart(removed, current)
    if len(missing):
        raise Conflict(f"{name}: {len(missing)} items that are to go are not there")
    if len(apart(added, current)[0]) != len(added):
        raise Conflict(f"{name}: items that are to come are there already")
    after = _joined_rows(name, kept, added)
    same = (after[1:, :2] == after[:-1, :2]).all(axis=1)
    if after.shape[1] == 3 and (bool(same.any()) or not _deadlines_fit(after)):
        raise Conflict(f"{name}: two deadlines of one IMEI and number, or one beyond 2106")
    return after


def _deadlines_fit(rows: U64) -> bool:
    return len(rows) == 0 or int(rows[:, 2].max()) <= deadlines.MAX_DEADLINE


def _ranges_after(name: str, current: U64, change: Change) -> U64:
    removed, added = change.removed.ranges, change.added.ranges
    if len(removed) == len(added) == 0:
        return current
    if not (ascends(removed) and ascends(added)) or spec_of(name).kind != LIST:
        raise Conflict(f"{name}: the delta's ranges do not ascend, or do not belong there")
    missing, kept = apart(removed, current)
    if len(missing) or len(apart(added, current)[0]) != len(added):
        raise Conflict(f"{name}: a range that is to go is not there, or one to come is")
    after = _joined_rows(name, kept, added)
    if not bool((after[:, 0] <= after[:, 1]).all()) or len(imeiset.merged_ranges(after)) != len(
        after
    ):
        raise Conflict(f"{name}: ranges would overlap or touch")
    return after


def _orders_after(
    name: str, current: tuple[Override | Hold | Order, ...], change: Change
) -> Orders:
    removed, added = set(change.removed.orders), set(change.added.orders)
    if not removed <= set(current) or added & set(current):
        raise Conflict(f"{name}: an order that is to go is not there, or one to come is")
    rows = (set(current) - removed) | added
    try:
        if name == OVERRIDES:
            overrides = tuple(sorted(row for row in rows if isinstance(row, Override)))
            check_overrides(overrides)
            return overrides
        if name == ORDERS:
            orders = tuple(sorted(row for row in rows if isinstance(row, Order)))
            check_orders(orders)
            return orders
        holds = tuple(sorted(row for row in rows if isinstance(row, Hold)))
        check_holds(holds)
    except Refused as refused:
        raise Conflict(f"{name}: {refused.detail}") from refused
    return holds


def _overlay_with(
    spec: SectionSpec, before: Overlay | None, touched: U64, rows: U64, ranges: U64
) -> Overlay:
    """The overlay with the complete new ``rows`` of the keys ``touched``, and all ``ranges``."""
    if before is not None:
        kept = _stacked(spec, before.rows.rows())
        rows = _joined_rows("overlay", kept[~among(kept[:, 0], touched)], rows)
        touched = _united(before.touched.keys(), touched)
    table = table_of(spec, rows)
    if isinstance(table, imeiset.ImeiSet):
        table = replace(table, ranges=ranges)
    return Overlay(imeiset.build([touched]), table)


def _union_with(union: Section, blacks: list[Change]) -> Section:
    """The union with all that came to a black list; what went may stay in it."""
    spec = spec_of(BLACK_UNION)
    came = np.unique(_stacked(spec, (c.added.rows for c in blacks)))
    new, _ = apart(came.reshape(-1, 1), rows_of(union, came))
    ranges = imeiset.merged_ranges(
        np.concatenate([union.ranges, *(c.added.ranges for c in blacks)])
    )
    items = union.items + len(new) + len(ranges) - len(union.ranges)
    overlay = _overlay_with(spec, union.overlay, new[:, 0], new, ranges)
    return replace(union, overlay=overlay, items=items)


def _in_turn(name: str, first: Change, second: Change) -> Change:
    removed, re_added = _items_apart(first.removed, second.added)
    added, re_removed = _items_apart(first.added, second.removed)
    return Change(_items_joined(name, removed, re_removed), _items_joined(name, added, re_added))


def _items_apart(a: Items, b: Items) -> tuple[Items, Items]:
    """Each without what both hold."""
    rows, ranges = apart(a.rows, b.rows), apart(a.ranges, b.ranges)
    orders = set(a.orders) & set(b.orders)
    left = tuple(order for order in a.orders if order not in orders)
    right = tuple(order for order in b.orders if order not in orders)
    return Items(rows[0], ranges[0], left), Items(rows[1], ranges[1], right)


def _items_joined(name: str, a: Items, b: Items) -> Items:
    if set(a.orders) & set(b.orders):
        raise Conflict(f"{name}: an order changes twice the same way")
    return Items(
        _joined_rows(name, a.rows, b.rows),
        _joined_rows(name, a.ranges, b.ranges),
        tuple(sorted({*a.orders, *b.orders})),
    )


def apart(a: U64, b: U64) -> tuple[U64, U64]:
    """Of ascending rows: those of ``a`` that ``b`` lacks, and the other way round."""
    gone, come = np.empty(len(a), np.bool_), np.empty(len(b), np.bool_)
    _compare(a, b, gone, come)
    return a[gone], b[come]


def ascends(rows: U64) -> bool:
    """Whether each row is above the one before it."""
    return bool(_ascends(rows))


def _joined_rows(name: str, a: U64, b: U64) -> U64:
    """Ascending rows of both; raises Conflict where they share one."""
    rows = np.empty((len(a) + len(b), a.shape[1]), np.uint64)
    if _merge(a, b, rows) != len(rows):
        raise Conflict(f"{name}: an item changes twice the same way")
    return rows


def _united(a: U64, b: U64) -> U64:
    """The distinct keys of two ascending columns, ascending."""
    left, right = _distinct(a), _distinct(b)
    together: U64 = np.empty((len(left) + len(right), 1), np.uint64)
    return together[: int(_merge(left, right, together))].reshape(-1)


def _distinct(keys: U64) -> U64:
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = keys[1:] != keys[:-1]
    return keys[fresh].reshape(-1, 1)


def _stacked(spec: SectionSpec, pieces: Iterable[U64]) -> U64:
    return np.concatenate([_no_rows(spec), *pieces])


def _no_rows(spec: SectionSpec) -> U64:
    return np.empty((0, spec.words), np.uint64)


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
        Items(
            np.concatenate([_no_rows(spec), *removed]),
            old_ranges[gone],
            tuple(sorted(old_orders - new_orders)),
        ),
        Items(
            np.concatenate([_no_rows(spec), *added]),
            new_ranges[come],
            tuple(sorted(new_orders - old_orders)),
        ),
    )


def _rows(section: Section | None) -> Iterator[U64]:
    return section.rows() if section is not None else iter(())


def _ranges(section: Section | None) -> U64:
    return section.ranges if section is not None else np.empty((0, 2), np.uint64)


def _orders(section: Section | None) -> tuple[Override | Hold | Order, ...]:
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
        order = _order(old, i, new, j)
        if order == 0:
            gone[i] = False
            come[j] = False
        if order <= 0:
            i += 1
        if order >= 0:
            j += 1


@compiled
def _order(a, i, b, j):
    """-1, 0 or 1: how row i of ``a`` stands to row j of ``b``."""
    for w in range(a.shape[1]):
        if a[i, w] != b[j, w]:
            return -1 if a[i, w] < b[j, w] else 1
    return 0


@compiled
def _merge(a, b, rows):
    """Write the ascending rows of both, a shared one once; how many they are."""
    i = 0
    j = 0
    at = 0
    while i < a.shape[0] or j < b.shape[0]:
        order = 1 if i == a.shape[0] else -1
        if i < a.shape[0] and j < b.shape[0]:
            order = _order(a, i, b, j)
        for w in range(rows.shape[1]):
            rows[at, w] = a[i, w] if order <= 0 else b[j, w]
        at += 1
        if order <= 0:
            i += 1
        if order >= 0:
            j += 1
    return at


@compiled
def _ascends(rows):
    """Whether each row is above the one before it."""
    for i in range(1, rows.shape[0]):  # noqa: SIM110 (the compiler knows no all())
        if _order(rows, i - 1, rows, i) >= 0:
            return False
    return True
