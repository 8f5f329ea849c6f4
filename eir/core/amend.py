"""What an order by hand changes: from what stands and what is wanted to the one delta between.

Pure: who and when are in the rows that it is given. Also how a bulk load and orders by hand live
together in one content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eir.core import imeiset
from eir.core.delta import Change, Delta, Items, apart, apply
from eir.core.gather import rows_of
from eir.core.generation import BLACK_UNION, Generation, Section, empty_content
from eir.core.orders import LISTS_BY_HAND, MODES, Hold, Order, Override

U64 = NDArray[np.uint64]
Row = Override | Hold | Order
Span = tuple[int, int]
"""The first and the last key of an item of a list; one key: twice the same."""

ENDED_STAY_S = 86_400
"""How long a denying override that has run out stays to be seen, until the next order."""

PROTECTED_STAY_S = 30 * ENDED_STAY_S
"""The same of what protects: longer, for other nodes of the feed may be further behind."""


def exchanged(content: Generation, name: str, gone: Iterable[Row], come: Iterable[Row]) -> Delta:
    """Some rows of `overrides`, `holds` or `orders` for others; what is in both stays."""
    standing = set(content.orders(name))
    went, came = set(gone) & standing, set(come)
    change = Change(_ordered(went - came), _ordered(came - standing))
    return Delta({name: change} if len(change.removed) + len(change.added) else {}, {})


def overridden(content: Generation, rows: Sequence[Override]) -> Delta:
    """With these overrides; each takes the place of the one of its pair, IMEI or number."""
    named = {(row.imei, row.msisdn) for row in rows}
    gone = [row for row in _overrides(content) if (row.imei, row.msisdn) in named]
    return exchanged(content, "overrides", gone, rows)


def listed(content: Generation, name: str, spans: Sequence[Span], order: Order) -> Delta:
    """With these items in a list, by ``order``'s hand; its ``low`` and ``high`` are set for each.

    An item that stands there already, from a file, is from now on by hand.
    """
    notes = [replace(order, what=name, low=low, high=high) for low, high in spans]
    return _joined(_put(content, name, spans), _noted(content, name, spans, notes))


def unlisted(content: Generation, name: str, spans: Sequence[Span]) -> Delta:
    """Without these items in a list, whoever put them there; a range loses what they cover."""
    section = content.sections.get(name) or Section(name, empty_content(name))
    ranges = section.ranges
    for low, high in spans:
        ranges = _without(ranges, low, high)
    inside = [
        rows[(rows[:, 0] >= np.uint64(low)) & (rows[:, 0] <= np.uint64(high))]
        for rows in section.rows()
        for low, high in spans
    ]
    gone = np.unique(np.concatenate([np.empty((0, 1), np.uint64), *inside]), axis=0)
    went, came = apart(section.ranges, ranges)
    change = Change(Items(gone, went), Items(gone[:0], came))
    return _joined(_delta_of(name, change), _noted(content, name, spans, []))


def without_ended(content: Generation, now: int, *, grace_time: int) -> Delta:
    """Without what ran out long ago (Unix s): denying overrides by ``now``, and holds and allowing
    overrides by the earlier of both, so that no clock that is wrong takes protection away.
    """
    denied, protected = now - ENDED_STAY_S, min(now, grace_time) - PROTECTED_STAY_S
    overrides = [
        row for row in _overrides(content) if 0 < row.until < (protected if row.allow else denied)
    ]
    rows = content.orders("holds")
    holds = [row for row in rows if isinstance(row, Hold) and row.until < protected]
    return _joined(
        exchanged(content, "overrides", overrides, ()), exchanged(content, "holds", holds, ())
    )


def loaded_into(old: Generation, loaded: Generation, named: Collection[str]) -> Generation:
    """What a bulk load makes of ``old``: it owns the lists that it names, ``named``.

    What was ordered by hand stays, also in those, until it is ended by hand. The digest is not
    that of the result; the caller knows how to tell it.
    """
    sections = {name: each for name, each in old.sections.items() if name != BLACK_UNION}
    for name in named:
        section = loaded.sections.get(name) or Section(name, empty_content(name))
        sections[name] = section
    for name in {"overrides", "holds", "orders"} & set(named):
        rows = _by_hand(old.orders(name), sections[name].orders)
        sections[name] = Section(name, tuple(sorted(rows)))  # type: ignore[arg-type]
    merged = replace(loaded, registry_id=old.registry_id, sections=sections)
    orders = [row for row in merged.orders("orders") if isinstance(row, Order)]
    for name in set(LISTS_BY_HAND) & (set(named) | {row.what for row in orders}):
        spans = [(row.low, row.high) for row in orders if row.what == name]
        put = _put(merged, name, spans)
        merged = apply(merged, put, serial=merged.serial, made_at=merged.made_at, digest="")
    return merged


def _by_hand(standing: Sequence[Row], loaded: Sequence[Row]) -> list[Row]:
    """The loaded rows, but where one stands by hand already, that."""
    kept: dict[object, Row] = {_identity(row): row for row in loaded}
    kept |= {_identity(row): row for row in standing if row.who}
    return list(kept.values())


def _identity(row: Row) -> object:
    if isinstance(row, Override):
        return row.imei, row.msisdn
    if isinstance(row, Order):
        return "mode" if row.what in MODES else (row.what, row.low, row.high)
    return row


def _overrides(content: Generation) -> list[Override]:
    return [row for row in content.orders("overrides") if isinstance(row, Override)]


def _noted(content: Generation, name: str, spans: Sequence[Span], notes: Sequence[Order]) -> Delta:
    """The orders of a list's items: what the spans cover of them gives way to the notes."""
    gone, come = [], list(notes)
    for row in content.orders("orders"):
        if not isinstance(row, Order) or row.what != name:
            continue
        left = np.array([[row.low, row.high]], np.uint64)
        for low, high in spans:
            left = _without(left, low, high)
        parts = [replace(row, low=low, high=high) for low, high in left.tolist()]
        if parts != [row]:
            gone.append(row)
            come += parts
    return exchanged(content, "orders", gone, come)


def _put(content: Generation, name: str, spans: Sequence[Span]) -> Delta:
    section = content.sections.get(name) or Section(name, empty_content(name))
    keys = np.array(sorted({low for low, high in spans if low == high}), np.uint64).reshape(-1, 1)
    ends = [span for span in spans if span[0] < span[1]]
    wanted = np.array(ends, np.uint64).reshape(-1, 2)
    ranges = imeiset.merged_ranges(np.concatenate([section.ranges, wanted]))
    new, _ = apart(keys, rows_of(section, keys[:, 0].copy()))
    went, came = apart(section.ranges, ranges)
    return _delta_of(name, Change(Items(keys[:0], went), Items(new, came)))


def _without(ranges: U64, low: int, high: int) -> U64:
    """Disjoint ascending ranges without the keys from ``low`` to ``high``."""
    left: list[Span] = []
    for first, last in ranges.tolist():
        left += [(first, min(last, low - 1)), (max(first, high + 1), last)]
    kept = np.array(sorted({span for span in left if span[0] <= span[1]}), np.uint64)
    return kept.reshape(-1, 2)


def _delta_of(name: str, change: Change) -> Delta:
    return Delta({name: change} if len(change.removed) + len(change.added) else {}, {})


def _joined(*deltas: Delta) -> Delta:
    changes: Mapping[str, Change] = {n: c for each in deltas for n, c in each.changes.items()}
    return Delta(dict(sorted(changes.items())), {})


def _ordered(rows: Iterable[Row]) -> Items:
    orders = tuple(sorted(rows))
    return Items(np.empty((0, 0), np.uint64), orders=orders)
