"""Small contents of a feed as plain Python sets, and as generations: what the laws range over."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from eir.core import imeiset
from eir.core.delta import Change, Delta, Items
from eir.core.generation import (
    BLACK_UNION,
    OPERATOR,
    REGISTRY,
    Generation,
    Section,
    spec_of,
    table_of,
)
from eir.core.imeiset import ImeiSet
from eir.core.orders import Hold, Order, Override
from eir.feed.digest import Digest, of_section

SESSION = str(uuid.UUID(int=1))
IDS = {"black.lost": 257, "black.smuggled": 259, "black.stolen": 256, "black.unpaid": 512}
# Neighbours, both sides of a container's border, and far away.
KEYS = [1, 2, 3, 65_535, 65_536, 65_537, 131_072, 5_000_000_000, 99_999_999_999_999]
NUMBERS = [12_345, 989_120_000_000, 989_120_000_001, 989_999_999_999, 4_915_112_345_678]
IMSIS = [432_111_111_111_111 << 4 | 15, 432_111_111_111_112 << 4 | 15, 26_201 << 4 | 5]
BLOCKS = [(10, 19), (21, 30), (65_000, 66_000), (200_000, 300_000)]
DEADLINES = [0, 1_750_000_000, 4_294_967_295]
HOLDS = [Hold(1_800_000_000, (35_209_900,), "grace-expired"), Hold(1_900_000_000, who="a")]
ORDERS = [
    Order("mode.shadow", who="a", at=1_750_000_000, why="ب"),
    Order("released", 12_345, 12_345, "b"),
]


@dataclass(frozen=True)
class Listed:
    """One section's items: rows as tuples, ranges, orders."""

    rows: frozenset[tuple[int, ...]] = frozenset()
    ranges: frozenset[tuple[int, int]] = frozenset()
    orders: frozenset[Override | Hold | Order] = frozenset()


Content = Mapping[str, Listed]


def rows(*columns: list[int]) -> SearchStrategy[frozenset[tuple[int, ...]]]:
    return st.frozensets(st.tuples(*map(st.sampled_from, columns)), max_size=8)


def members(keys: list[int], blocks: list[tuple[int, int]]) -> SearchStrategy[Listed]:
    return st.builds(Listed, rows(keys), st.frozensets(st.sampled_from(blocks), max_size=3))


def by_identity(
    items: SearchStrategy[tuple[object, object]],
) -> SearchStrategy[dict[object, object]]:
    return st.lists(items, max_size=6).map(dict)


GREY = by_identity(
    st.tuples(
        st.tuples(st.sampled_from(KEYS), st.sampled_from([0, *NUMBERS])), st.sampled_from(DEADLINES)
    )
).map(lambda found: Listed(frozenset((*who, when) for who, when in found.items())))
OVERRIDES = by_identity(
    st.tuples(
        st.tuples(st.sampled_from(KEYS), st.sampled_from([0, *NUMBERS])),
        st.tuples(st.booleans(), st.sampled_from([0, 1_800_000_000])),
    )
).map(lambda found: Listed(orders=frozenset(Override(*who, *how) for who, how in found.items())))
PAIRS = rows(KEYS, NUMBERS).map(Listed)
IMEIS = members(KEYS, BLOCKS)

REGISTRY_CONTENTS: SearchStrategy[Content] = st.fixed_dictionaries(
    {},
    optional={
        "white": IMEIS,
        "legacy": IMEIS,
        "bound-elsewhere": IMEIS,
        "black.lost": IMEIS,
        "black.stolen": IMEIS,
        "black.unpaid": IMEIS,
        "bindings": PAIRS,
        "bindings.imsi": rows(KEYS, IMSIS).map(Listed),
        "grey": GREY,
    },
)
OPERATOR_CONTENTS: SearchStrategy[Content] = st.fixed_dictionaries(
    {},
    optional={
        "released": members(NUMBERS, [(989_120_000_000, 989_120_000_100)]),
        "imsi-msisdn": by_identity(st.tuples(st.sampled_from(IMSIS), st.sampled_from(NUMBERS))).map(
            lambda found: Listed(frozenset(found.items()))
        ),
        "overrides": OVERRIDES,
        "holds": st.frozensets(st.sampled_from(HOLDS)).map(lambda found: Listed(orders=found)),
        "orders": st.frozensets(st.sampled_from(ORDERS)).map(lambda found: Listed(orders=found)),
    },
)


def array(items: frozenset[tuple[int, ...]], words: int) -> np.ndarray:
    return np.array(sorted(items), np.uint64).reshape(-1, words)


def generation_of(
    content: Content, *, feed: str = REGISTRY, serial: int = 1, union: bool = True
) -> Generation:
    """The content as a base without overlay, with its union of black lists."""
    sections = {name: section_of(name, listed) for name, listed in content.items()}
    digest = sum((of_section(section) for section in sections.values()), Digest())
    blacks = [section.content for name, section in sections.items() if name.startswith("black.")]
    if len(blacks) > 1 and union:
        keys = np.unique(np.concatenate([black.keys() for black in blacks]))
        ranges = np.concatenate([black.ranges for black in blacks])
        sections[BLACK_UNION] = Section(BLACK_UNION, imeiset.build([keys], ranges))
    return Generation(feed, "test", SESSION, serial, 1_700_000_000, str(digest), sections)


def section_of(name: str, listed: Listed) -> Section:
    spec = spec_of(name)
    if not spec.words:
        return Section(name, tuple(sorted(listed.orders)))
    table = table_of(spec, array(listed.rows, spec.words))
    if isinstance(table, ImeiSet):
        keys = [table.keys()] if table.items else []
        table = imeiset.build(keys, array(listed.ranges, 2))
    return Section(name, table, IDS.get(name, 0))


def content_of(generation: Generation) -> dict[str, Listed]:
    """What a generation says, read chunk by chunk; a list that holds nothing is left out."""
    found = {
        name: Listed(
            frozenset(tuple(map(int, row)) for chunk in section.rows() for row in chunk),
            frozenset((int(low), int(high)) for low, high in section.ranges),
            frozenset(section.orders),
        )
        for name, section in generation.sections.items()
        if name != BLACK_UNION
    }
    return {name: listed for name, listed in found.items() if listed != Listed()}


def without_empty(content: Content) -> dict[str, Listed]:
    return {name: listed for name, listed in content.items() if listed != Listed()}


def difference(old: Content, new: Content) -> dict[str, tuple[Listed, Listed]]:
    """The change by plain set arithmetic: (what goes, what comes) by section."""
    found = {}
    for name in sorted({*old, *new}):
        a, b = old.get(name, Listed()), new.get(name, Listed())
        gone = Listed(a.rows - b.rows, a.ranges - b.ranges, a.orders - b.orders)
        come = Listed(b.rows - a.rows, b.ranges - a.ranges, b.orders - a.orders)
        if (gone, come) != (Listed(), Listed()):
            found[name] = (gone, come)
    return found


def items_of(name: str, listed: Listed) -> Items:
    words = spec_of(name).words
    rows = array(listed.rows, words) if words else np.empty((0, 0), np.uint64)
    return Items(rows, array(listed.ranges, 2), tuple(sorted(listed.orders)))


def delta_of(changes: Mapping[str, tuple[Listed, Listed]]) -> Delta:
    return Delta(
        {name: Change(items_of(name, a), items_of(name, b)) for name, (a, b) in changes.items()},
        {name: IDS[name] for name in changes if name in IDS},
    )


def changes_of(delta: Delta) -> dict[str, tuple[Listed, Listed]]:
    def listed(items: Items) -> Listed:
        return Listed(
            frozenset(tuple(map(int, row)) for row in items.rows),
            frozenset((int(low), int(high)) for low, high in items.ranges),
            frozenset(items.orders),
        )

    return {name: (listed(c.removed), listed(c.added)) for name, c in delta.changes.items()}


@dataclass(frozen=True)
class Feed:
    """A feed's name and the contents that it can have."""

    name: str
    contents: SearchStrategy[Content] = field(repr=False)


FEEDS = [Feed(REGISTRY, REGISTRY_CONTENTS), Feed(OPERATOR, OPERATOR_CONTENTS)]
HISTORIES = st.sampled_from(FEEDS).flatmap(
    lambda feed: st.tuples(st.just(feed.name), st.lists(feed.contents, min_size=2, max_size=4))
)
