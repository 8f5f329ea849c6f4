"""A generation: what one feed says as of one serial. An immutable value.

Holds the vocabulary of sections, and nothing of where the data came from or who serves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eir.core.deadlines import DeadlineTable
from eir.core.imeiset import ImeiSet
from eir.core.orders import Hold, Override, reason_name
from eir.core.pairtable import PairTable
from eir.errors import Refused

REGISTRY, OPERATOR = "registry", "operator"
FEEDS = (REGISTRY, OPERATOR)
LIST, PAIRS, DEADLINES, OVERRIDES, HOLDS = "list", "pairs", "deadlines", "overrides", "holds"
BLACK = "black."
BLACK_UNION = "black-union"

Content = ImeiSet | PairTable | DeadlineTable | tuple[Override, ...] | tuple[Hold, ...]


@dataclass(frozen=True, slots=True)
class SectionSpec:
    """What a section's name means: the feeds it may stand in, its kind, what its keys are."""

    feeds: tuple[str, ...]
    kind: str
    keys: str

    @property
    def words(self) -> int:
        """How many words an item's row has: a key, a pair, or IMEI, number and deadline."""
        return {LIST: 1, PAIRS: 2, DEADLINES: 3}.get(self.kind, 0)


SECTIONS: Mapping[str, SectionSpec] = {
    "white": SectionSpec((REGISTRY,), LIST, "imei"),
    "legacy": SectionSpec((REGISTRY,), LIST, "imei"),
    "bound-elsewhere": SectionSpec((REGISTRY,), LIST, "imei"),
    "grey": SectionSpec((REGISTRY,), DEADLINES, "imei"),
    "bindings": SectionSpec((REGISTRY,), PAIRS, "imei"),
    "bindings.imsi": SectionSpec((REGISTRY,), PAIRS, "imei"),
    "imsi-msisdn": SectionSpec((OPERATOR,), PAIRS, "imsi"),
    "exempt.subscriber.all": SectionSpec((OPERATOR,), LIST, "msisdn"),
    "exempt.subscriber.registration": SectionSpec((OPERATOR,), LIST, "msisdn"),
    "released": SectionSpec((OPERATOR,), LIST, "msisdn"),
    "exempt.equipment": SectionSpec((OPERATOR,), LIST, "imei"),
    "overrides": SectionSpec((OPERATOR,), OVERRIDES, ""),
    "holds": SectionSpec((OPERATOR,), HOLDS, ""),
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


@dataclass(frozen=True, slots=True)
class Section:
    """One named part of a generation. ``reason_id``: of a black list, else 0."""

    name: str
    content: Content
    reason_id: int = 0

    @property
    def items(self) -> int:
        """Keys plus ranges, pairs, or rows."""
        return len(self.content) if isinstance(self.content, tuple) else self.content.items


@dataclass(frozen=True, slots=True)
class Generation:
    """``digest``: 32 hex digits over the content; ``made_at``: Unix seconds UTC of its head.

    (session, serial) names exactly one content, within ``registry_id``.
    """

    feed: str
    registry_id: str
    session: str
    serial: int
    made_at: int
    digest: str
    sections: Mapping[str, Section] = field(repr=False)

    def black(self) -> dict[str, Section]:
        """Its black lists by reason name."""
        return {
            name.removeprefix(BLACK): section
            for name, section in self.sections.items()
            if name.startswith(BLACK)
        }
