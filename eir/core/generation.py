"""A generation: what one feed says as of one serial. An immutable value.

Holds the vocabulary of sections, and nothing of where the data came from or who serves them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import deadlines, imeiset, pairtable
from eir.core.deadlines import DeadlineTable
from eir.core.imeiset import ImeiSet
from eir.core.orders import Hold, Order, Override, mode_order, reason_name
from eir.core.pairtable import PairTable
from eir.core.sieve import Sieve
from eir.errors import Refused

REGISTRY, OPERATOR = "registry", "operator"
FEEDS = (REGISTRY, OPERATOR)
LIST, PAIRS, DEADLINES = "list", "pairs", "deadlines"
OVERRIDES, HOLDS, ORDERS = "overrides", "holds", "orders"
BLACK = "black."
BLACK_UNION = "black-union"

Table = ImeiSet | PairTable | DeadlineTable
Orders = tuple[Override, ...] | tuple[Hold, ...] | tuple[Order, ...]
Content = Table | Orders


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """What a section's name means: the feeds it may stand in, its kind, what its keys are, and
    what the pairs' values are.
    """

    feeds: tuple[str, ...]
    kind: str
    keys: str
    values: str = ""

    @property
    def words(self) -> int:
        """How many words an item's row has: a key, a pair, or IMEI, number and deadline."""
        return {LIST: 1, PAIRS: 2, DEADLINES: 3}.get(self.kind, 0)


SECTIONS: Mapping[str, SectionSpec] = {
    "white": SectionSpec((REGISTRY,), LIST, "imei"),
    "legacy": SectionSpec((REGISTRY,), LIST, "imei"),
    "bound-elsewhere": SectionSpec((REGISTRY,), LIST, "imei"),
    "grey": SectionSpec((REGISTRY,), DEADLINES, "imei"),
    "bindings": SectionSpec((REGISTRY,), PAIRS, "imei", "msisdn"),
    "bindings.imsi": SectionSpec((REGISTRY,), PAIRS, "imei", "imsi"),
    "imsi-msisdn": SectionSpec((OPERATOR,), PAIRS, "imsi", "msisdn"),
    "exempt.subscriber.all": SectionSpec((OPERATOR,), LIST, "msisdn"),
    "exempt.subscriber.registration": SectionSpec((OPERATOR,), LIST, "msisdn"),
    "released": SectionSpec((OPERATOR,), LIST, "msisdn"),
    "exempt.equipment": SectionSpec((OPERATOR,), LIST, "imei"),
    "overrides": SectionSpec((OPERATOR,), OVERRIDES, ""),
    "holds": SectionSpec((OPERATOR,), HOLDS, ""),
    "orders": SectionSpec((OPERATOR,), ORDERS, ""),
    BLACK_UNION: SectionSpec(FEEDS, LIST, "imei"),
}

WELL_KNOWN_REASONS: Mapping[str, int] = {
    "stolen": 256,
    "lost": 257,
    "cloned": 258,
    "smuggled": 259,
    "non-homologated": 260,
    "withdrawn": 261,
}
_FIRST_OWN_ID = {REGISTRY: 512, OPERATOR: 32_768}


def spec_of(name: str) -> SectionSpec:
    """The meaning of a section's name. Raises Refused ``section-unknown`` or ``reason-name``."""
    if name.startswith(BLACK):
        reason_name(name.removeprefix(BLACK))
        return SectionSpec(FEEDS, LIST, "imei")
    try:
        return SECTIONS[name]
    except KeyError:
        names = ", ".join([*sorted(SECTIONS.keys() - {BLACK_UNION}), "black.<reason>"])
        raise Refused(
            "section-unknown", f"no list is called {name!r}; there are: {names}"
        ) from None


def reason_ids(
    feed: str, reasons: list[str], known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """An id for each reason name: well known, as ``known`` from before, or the next free one."""
    taken = {**(known or {}), **WELL_KNOWN_REASONS}
    free = max([_FIRST_OWN_ID[feed] - 1, *(i for i in taken.values() if i >= _FIRST_OWN_ID[feed])])
    for reason in sorted(reasons):
        if reason not in taken:
            free += 1
            taken[reason] = free
    return {reason: taken[reason] for reason in reasons}


_GREATEST: Mapping[str, int] = {
    "imei": limits.MAX_IMEI_KEY,
    "msisdn": 10**limits.MAX_MSISDN_DIGITS - 1,
    "imsi": (10**limits.MAX_IMSI_DIGITS - 1) << 4 | limits.MAX_IMSI_DIGITS,
}


def check_rows(name: str, rows: NDArray[np.uint64]) -> None:
    """Raises ValueError where a row of a section, uint64[n, words] ascending, n > 0, holds what is
    no IMEI, number or IMSI. 0, which is none, is only good for a grey entry's number.
    """
    spec = spec_of(name)
    columns = [(spec.keys, 1, rows[0, 0], rows[-1, 0])]
    if spec.kind == PAIRS:
        columns.append((spec.values, 1, rows[:, 1].min(), rows[:, 1].max()))
    elif spec.kind == DEADLINES:
        columns.append(("msisdn", 0, rows[:, 1].min(), rows[:, 1].max()))
    for what, least, low, high in columns:
        if int(low) < least or int(high) > _GREATEST[what]:
            raise ValueError(f"{name}: from {low} to {high}: not each is an {what.upper()}")


def check_ranges(name: str, ranges: NDArray[np.uint64]) -> None:
    """Raises ValueError where a range of a section, uint64[m, 2] ascending, ends too high."""
    if len(ranges) and int(ranges[-1, 1]) > _GREATEST[(what := spec_of(name).keys)]:
        raise ValueError(f"{name}: a range ends at {ranges[-1, 1]}, which is no {what.upper()}")


def table_of(spec: SectionSpec, rows: NDArray[np.uint64]) -> Table:
    """A table of the section's kind with few ascending rows, uint64[n, words], and no ranges."""
    columns = [np.ascontiguousarray(column) for column in rows.T]
    if spec.kind == LIST:
        return imeiset.build(columns)
    if spec.kind == PAIRS:
        return pairtable.of_rows(columns[0], columns[1])
    return deadlines.build([(columns[0], columns[1], columns[2].astype(np.int64))])


def empty_content(name: str) -> Content:
    """What a section of this name holds before it holds anything."""
    spec = spec_of(name)
    return table_of(spec, np.empty((0, spec.words), np.uint64)) if spec.words else ()


@dataclass(frozen=True, slots=True)
class Overlay:
    """What deltas made of a table since its base was built. O(deltas), never O(base).

    ``touched``: the keys whose rows are now those of ``rows``, complete, whatever the base says.
    ``rows``: a table of the base's kind; a list's holds all its ranges.
    """

    touched: ImeiSet
    rows: Table


@dataclass(frozen=True, slots=True)
class Section:
    """One named part of a generation. ``reason_id``: of a black list, else 0.

    ``items``: keys plus ranges, pairs, or rows, as they stand with the overlay.
    """

    name: str
    content: Content
    reason_id: int = 0
    overlay: Overlay | None = None
    items: int = -1

    def __post_init__(self) -> None:
        if self.items < 0:
            content = self.content
            items = len(content) if isinstance(content, tuple) else content.items
            object.__setattr__(self, "items", items)

    @property
    def ranges(self) -> NDArray[np.uint64]:
        """A list's ranges as they stand, uint64[m, 2]; none of any other kind."""
        table = self.overlay.rows if self.overlay else self.content
        return table.ranges if isinstance(table, ImeiSet) else np.empty((0, 2), np.uint64)

    @property
    def orders(self) -> tuple[Override | Hold | Order, ...]:
        """Overrides, holds or orders; none of any other kind."""
        return self.content if isinstance(self.content, tuple) else ()

    def rows(self) -> Iterator[NDArray[np.uint64]]:
        """The single keys, pairs or grey entries as they stand: uint64[n, words], ascending.

        A chunk at a time, all rows of a key in one. Raises Corrupt where the base is damaged.
        """
        if isinstance(self.content, tuple):
            return iter(())
        if self.overlay is None:
            return self.content.rows()
        return _overlaid(self.content, self.overlay)


def _no_rows(table: Table) -> NDArray[np.uint64]:
    words = 1 if isinstance(table, ImeiSet) else 2 if isinstance(table, PairTable) else 3
    return np.empty((0, words), np.uint64)


def among(keys: NDArray[np.uint64], sorted_keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of ascending keys stand in the other ascending ones."""
    if len(keys) == 0:
        return np.zeros(0, np.bool_)
    first, end = np.searchsorted(sorted_keys, keys[[0, -1]], side="left")
    near = sorted_keys[first : end + 1]
    if len(near) == 0:
        return np.zeros(len(keys), np.bool_)
    places = np.minimum(np.searchsorted(near, keys), len(near) - 1)
    return np.equal(near[places], keys)


def _overlaid(base: Table, overlay: Overlay) -> Iterator[NDArray[np.uint64]]:
    touched = overlay.touched.keys()
    fresh = np.concatenate([_no_rows(base), *overlay.rows.rows()])
    at = 0
    for chunk in base.rows():
        until = int(np.searchsorted(fresh[:, 0], chunk[-1, 0], side="right"))
        kept = chunk[~among(chunk[:, 0], touched)]
        if until > at:
            together = np.concatenate([kept, fresh[at:until]])
            kept = together[np.lexsort(together.T[::-1])]
        at = until
        if len(kept):
            yield kept
    if at < len(fresh):
        yield fresh[at:]


@dataclass(frozen=True, slots=True)
class Generation:
    """``digest``: 32 hex digits over the content; ``made_at``: Unix seconds UTC of its head.

    (session, serial) names exactly one content, within ``registry_id``. ``sieve``: of its
    sections' bases, where somebody made one, ``overlay_sieve``: of overlays, good for these very
    ones alone (``sieving``); no part of the content.
    """

    feed: str
    registry_id: str
    session: str
    serial: int
    made_at: int
    digest: str
    sections: Mapping[str, Section] = field(repr=False)
    sieve: Sieve | None = field(default=None, repr=False, compare=False)
    overlay_sieve: Sieve | None = field(default=None, repr=False, compare=False)

    def orders(self, name: str) -> tuple[Override | Hold | Order, ...]:
        """The rows of `overrides`, `holds` or `orders`; none where there is no such section."""
        return self.sections[name].orders if name in self.sections else ()

    @property
    def mode(self) -> Order | None:
        """The order of the mode, if one stands."""
        return mode_order(self.orders("orders"))

    def black(self) -> dict[str, Section]:
        """Its black lists by reason name."""
        return {
            name.removeprefix(BLACK): section
            for name, section in self.sections.items()
            if name.startswith(BLACK)
        }
