"""What serves, laid out for the kernel: two generations and a policy as one immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import batch, kernel, layout, policy
from eir.core.generation import (
    BLACK,
    BLACK_UNION,
    OPERATOR,
    REGISTRY,
    Generation,
    Section,
    Table,
)
from eir.core.imeiset import ImeiSet
from eir.core.jit import JIT_DISABLED
from eir.core.marks import marks_of, shift_of
from eir.core.orders import Hold, Override
from eir.core.policy import FIXED_REASONS, BlackList, Policy
from eir.core.sieve import NO_SIEVE, Sieve
from eir.core.sieving import IMSI_MSISDN, NUMBER_COLUMNS, of_overlays, with_free_columns
from eir.core.view import View, view_of
from eir.errors import Refused

Order = TypeVar("Order", Override, Hold)
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_PLACES: Mapping[str, int] = {
    "white": layout.AT_WHITE,
    "legacy": layout.AT_LEGACY,
    "bound-elsewhere": layout.AT_BOUND_ELSEWHERE,
    "grey": layout.AT_GREY,
    "bindings": layout.AT_BINDINGS,
    "bindings.imsi": layout.AT_BINDINGS_IMSI,
    "imsi-msisdn": layout.AT_IMSI_MSISDN,
    "exempt.subscriber.all": layout.AT_EXEMPT_ALL,
    "exempt.subscriber.registration": layout.AT_EXEMPT_REGISTRATION,
    "released": layout.AT_RELEASED,
    "exempt.equipment": layout.AT_EXEMPT_EQUIPMENT,
}
_SPARING = ("bindings", "bindings.imsi", "bound-elsewhere", "legacy")
"""Whose devices nearly never have to be looked for in white."""

_NO_SPANS: U64 = np.empty((0, 2), np.uint64)
_BY_NUMBER = (IMSI_MSISDN, *NUMBER_COLUMNS)
"""Asked for the number; the IMSI table for what stands in its place until it has been asked."""

_RANKED = {
    "bindings": batch.RANK,
    IMSI_MSISDN: batch.RANK,
    "bindings.imsi": batch.IMSI_RANK,
    "grey": batch.GREY_RANK,
}
"""The IMSI table's place is free again when its number has been read."""

_NO_PLAN: I64 = np.empty((0, batch.PLAN_WORDS), np.int64)
_NO_SCRATCH: I64 = np.empty((0, 0), np.int64)
_SIEVE_PLACES = {
    REGISTRY: (layout.REGISTRY_SIEVE, layout.REGISTRY_OVERLAY_SIEVE),
    OPERATOR: (layout.OPERATOR_SIEVE, layout.OPERATOR_OVERLAY_SIEVE),
}
_FIRST_HINT = {REGISTRY: 0, OPERATOR: layout.OPERATOR_HINTS}
_UNION_PLACES = {
    REGISTRY: (layout.AT_REGISTRY_BLACK, layout.REGISTRY_UNION),
    OPERATOR: (layout.AT_OPERATOR_BLACK, layout.OPERATOR_UNION),
}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Of one batch of n. ``rows`` uint8[n, 4]: status as it leaves, status as decided, code, table
    row. ``valid_until`` int64[n]: Unix seconds UTC, 0 = none.
    """

    rows: NDArray[np.uint8]
    valid_until: I64


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one query. ``bits``: policy's fact bits; ``black``: reason names, highest first;
    ``number``: MSISDN after mapping, 0 = none; ``deadline``: of the grey entry, -1 = none.
    """

    bits: int
    black: tuple[str, ...]
    number: int
    deadline: int
    override_until: int


class Tables:
    """(registry generation, operator generation, policy), swapped as one. Immutable.

    ``policy`` is the one in force: as ``chosen``, but where the operator's feed orders a mode, that
    holds.

    ``reasons`` uint16[CODES]: the reason id of each verdict code; ``reason_names``: by id;
    ``black_order``: the reasons' names, the highest first, whose places are the bits of a mask.
    """

    def __init__(self, registry: Generation, operator: Generation | None, chosen: Policy) -> None:
        """Raises Refused ``too-many-reasons`` where the black lists' reasons do not fit."""
        self.registry, self.operator = registry, operator
        self.chosen, self.policy = chosen, _in_force(chosen, operator)
        self._kept: list[NDArray[np.generic]] = []
        self._views: list[View] = []
        names = {name for feed in self._generations() for name in feed.black()}
        if len(names) > limits.MAX_BLACK_REASONS:
            raise Refused(
                "too-many-reasons", f"{len(names)} black lists; at most 64 can be told apart"
            )
        self.black_order = tuple(chosen.ranked(sorted(names)))
        self._name_reasons()
        count = sum(len(feed.black()) for feed in self._generations())
        self.desc: I64 = np.zeros(layout.AT_BLACK + layout.BLACK_WORDS * count, np.int64)
        self.desc[layout.ASKED_ANYWAY] = layout.ALWAYS
        self.plan: I64 = np.zeros((batch.PLANNED + batch.WAVES, batch.PLAN_WORDS), np.int64)
        self._place_sections()
        self._place_policy()
        self._place_orders()

    def check(
        self, imei: U64, msisdn: U64, imsi: U64, *, now: int, grace_time: int, counts: U64
    ) -> Verdicts:
        """Decide n queries, each array uint64[n]: IMEI key (0 = none), MSISDN (0), IMSI code (0).

        Times are Unix seconds UTC. ``counts`` uint64[CODES, 5] gains one at each (code, status).
        Raises ValueError where the arrays are not of one length: the kernel looks at no bounds.
        """
        if not len(imei) == len(msisdn) == len(imsi):
            raise ValueError(f"{len(imei)} IMEIs, {len(msisdn)} numbers, {len(imsi)} IMSIs")
        rows = np.empty((len(imei), 4), np.uint8)
        valid_until = np.empty(len(imei), np.int64)
        times = (now, grace_time)
        queries = (imei, msisdn, imsi)
        warmed = len(self.plan) > 0 and len(imei) >= batch.LEAST_WARMED
        scratch = np.empty((batch.SCRATCH_ROWS, batch.ASKS), np.int64) if warmed else _NO_SCRATCH
        plan = self.plan if warmed else _NO_PLAN
        _check(self.desc, plan, scratch, self.masks, *queries, *times, rows, valid_until, counts)
        return Verdicts(rows, valid_until)

    def facts(self, imei: int, msisdn: int, imsi: int, *, now: int, grace_time: int) -> Facts:
        """Stage one of one query, for ``explain``."""
        words = (np.uint64(imei), np.uint64(msisdn), np.uint64(imsi))
        with np.errstate(over="ignore"):
            found = kernel.collect(self.desc, *words, now, grace_time)
        bits, black, number, deadline, until = found
        names = tuple(name for i, name in enumerate(self.black_order) if int(black) >> i & 1)
        return Facts(int(bits), names, int(number), int(deadline), int(until))

    def _generations(self) -> Iterator[Generation]:
        yield self.registry
        if self.operator is not None:
            yield self.operator

    def _name_reasons(self) -> None:
        self.reasons: NDArray[np.uint16] = np.zeros(policy.CODES, np.uint16)
        self.reason_names: dict[int, str] = {}
        for name, number in FIXED_REASONS.items():
            self.reasons[number] = number
            self.reason_names[number] = name
        for feed in self._generations():
            for name, section in feed.black().items():
                code = policy.BLACK_BASE + self.black_order.index(name)
                if self.reasons[code] == 0:
                    self.reasons[code] = section.reason_id
                if self.reason_names.setdefault(section.reason_id, name) != name:
                    raise Refused("reason-id", f"id {section.reason_id} names two black lists")

    def _keep(self, array: NDArray[np.generic]) -> int:
        """The array's address; the array lives as long as this object."""
        self._kept.append(array)
        return int(array.ctypes.data)

    def _place_sections(self) -> None:
        """Every section at its place; the registry's black lists stand before the operator's."""
        black = 0
        for feed in self._generations():
            sieves = self._place_sieves(feed)
            for name, section in feed.sections.items():
                if isinstance(section.content, tuple):
                    continue
                place = _PLACES.get(name, 0)
                if name == BLACK_UNION:
                    place = _UNION_PLACES[feed.feed][0]
                elif name.startswith(BLACK):
                    place = layout.AT_BLACK + layout.BLACK_WORDS * black
                    reason = name.removeprefix(BLACK)
                    self.desc[place + layout.BLACK_BIT] = self.black_order.index(reason)
                    black += 1
                self._place(place, section, section.content)
                self._place_hints(place, section, feed.feed, sieves)
                self._plan_probe(place, name, section.content)
            self._gate_black(feed, black)
            if feed.feed == REGISTRY:
                self.desc[layout.REGISTRY_BLACK_COUNT] = black
        self.desc[layout.BLACK_COUNT] = black
        every = (section for feed in self._generations() for section in feed.sections.values())
        ranges = np.concatenate([section.ranges for section in every] or [_NO_SPANS])
        self._place_marks(layout.RANGE_MARKS, ranges, layout.RANGE_BLOCK_BITS)

    def _place_marks(self, place: int, spans: U64, block_bits: int) -> None:
        """Which keys or numbers may stand in spans uint64[n, 2]: a bit for each of their blocks."""
        table = marks_of(spans, block_bits)
        self.desc[place : place + 2] = self._keep(table), shift_of(table)

    def _gate_black(self, feed: Generation, end: int) -> None:
        """A feed's black lists, those before ``end``: when they are asked.

        Where each has hints of its own, these say so. Else their union is asked before.
        """
        union, gate = _UNION_PLACES[feed.feed]
        first = end - len(feed.black())
        lists = [layout.AT_BLACK + layout.BLACK_WORDS * i for i in range(first, end)]
        asked = int(np.bitwise_or.reduce(self.desc[[at + layout.ASKED for at in lists]], initial=0))
        if BLACK_UNION in feed.sections and asked & layout.ALWAYS_ASKED:
            self.desc[gate] = 1
        else:
            self.desc[union + layout.ASKED] = asked

    def _place_sieves(self, feed: Generation) -> tuple[Sieve, Sieve]:
        """A generation's sieves: of its bases, where who asks without one has a hint too, and of
        its overlays.
        """
        base = feed.sieve or NO_SIEVE
        sieves = (Sieve(base.lines, with_free_columns(feed, base.columns)), of_overlays(feed))
        for place, made in zip(_SIEVE_PLACES[feed.feed], sieves, strict=True):
            self.desc[place] = self._keep(made.lines)
            self.desc[place + 1] = len(made.lines)
        for name in sieves[0].columns.keys() - base.columns.keys():
            self.desc[layout.ASKED_ANYWAY] |= 1 << _FIRST_HINT[feed.feed] + sieves[0].columns[name]
        return sieves

    def _place(self, place: int, section: Section, base: Table) -> None:
        self._place_view(place, base)
        if section.overlay is not None:
            self._place_view(place + layout.TOUCHED, section.overlay.touched)
            self._place_view(place + layout.ROWS, section.overlay.rows)

    def _place_hints(
        self, place: int, section: Section, feed: str, sieves: tuple[Sieve, Sieve]
    ) -> None:
        """At which of a query's hints the base is asked, and the overlay, where there is one."""
        name = section.name
        base, overlay = (
            1 << _FIRST_HINT[feed] + made.columns[name]
            if name in made.columns
            else layout.ALWAYS_ASKED
            for made in sieves
        )
        if self.desc[place + layout.DIRECTORY]:
            self.desc[place + layout.STANDING] = base
        if section.overlay is not None:
            overlay <<= layout.OVERLAY_HINTS
            self.desc[place + layout.OVERLAID] = np.uint64(overlay).astype(np.int64)
        asked = self.desc[place + layout.STANDING] | self.desc[place + layout.OVERLAID]
        ranges = layout.IN_RANGES if len(section.ranges) else 0
        self.desc[place + layout.ASKED] = asked | ranges

    def _plan_probe(self, place: int, name: str, base: Table) -> None:
        """Plan that a section with a hint of its own is probed for a group of queries at once."""
        hint = int(self.desc[place + layout.STANDING])
        ranked = _RANKED.get(name, batch.NO_RANK)
        row = (place, not isinstance(base, ImeiSet), name in _BY_NUMBER, ranked)
        if hint and name == IMSI_MSISDN:
            self.plan[batch.IMSI_ROW] = row
        if hint in (0, layout.ALWAYS_ASKED):
            return
        self.plan[hint.bit_length() - 1] = row
        wave = {"bindings": batch.BOUND, "white": batch.SEEN}.get(name, batch.SMALL)
        self.plan[batch.PLANNED + wave, batch.WAVE] |= hint
        if name.startswith(BLACK) and self.policy.refuses_all_in(name.removeprefix(BLACK)):
            self.plan[batch.PLANNED + batch.BOUND, batch.UNLESS] |= hint
        if name in _SPARING or name.startswith(BLACK):
            self.plan[batch.PLANNED + batch.SEEN, batch.UNLESS] |= hint

    def _place_view(self, place: int, content: Table) -> None:
        view = view_of(content)
        self._views.append(view)
        self.desc[place : place + layout.VIEW_WORDS] = view.words

    def _place_policy(self) -> None:
        chosen = self.policy
        statuses = np.zeros(policy.CODES, np.uint8)
        for name, number in FIXED_REASONS.items():
            statuses[number] = chosen.status_of(name)
        self.masks: U64 = np.zeros(4, np.uint64)
        times = np.zeros((limits.MAX_BLACK_REASONS, 2), np.uint64)
        for i, name in enumerate(self.black_order):
            flags = chosen.black.get(name, BlackList())
            statuses[policy.BLACK_BASE + i] = flags.status
            times[i] = (flags.active_from, flags.active_until)
            for place, on in (
                (policy.BINDING_OVERRIDES, flags.binding_overrides),
                (policy.LEGACY_OVERRIDES, flags.legacy_overrides),
                (policy.BOUND_OVERRIDES, flags.bound_overrides),
                (policy.STAYS_BLACK, name == policy.NEVER_CLEARED),
            ):
                self.masks[place] |= np.uint64(on) << np.uint64(i)
        plmns = [(int(p), len(p)) for p in (*chosen.home_plmns, *chosen.enforced_plmns)]
        home = len(plmns) if chosen.home_plmns else 0
        yielding = np.bitwise_or.reduce(self.masks[: policy.STAYS_BLACK])
        self.desc[layout.YIELDING_BLACK] = yielding.astype(np.int64)
        self.desc[layout.AT_STATUSES] = self._keep(statuses)
        self.desc[layout.AT_BLACK_TIMES] = self._keep(times)
        self.desc[layout.SHADOW] = chosen.mode == policy.SHADOW
        self.desc[layout.AT_PLMNS] = self._keep(np.array(plmns or [(0, 0)], np.uint64))
        self.desc[layout.PLMN_COUNT] = home

    def _place_orders(self) -> None:
        sections = self.operator.sections if self.operator else {}
        rows: list[tuple[int, ...]] = []
        if "overrides" in sections:
            rows = sorted(map(_override_words, _orders(sections["overrides"], Override)))
            self.desc[layout.AT_OVERRIDES] = self._keep(np.array(rows, np.uint64))
            self.desc[layout.OVERRIDE_COUNT] = len(rows)
        named = np.array([2 * (imei or number,) for imei, number, *_ in rows], np.uint64)
        self._place_marks(layout.OVERRIDE_MARKS, named.reshape(-1, 2), 0)
        if "holds" in sections:
            held = [self._hold_words(row) for row in _orders(sections["holds"], Hold)]
            self.desc[layout.AT_HOLDS] = self._keep(np.array(held, np.uint64))
            self.desc[layout.HOLD_COUNT] = len(held)

    def _hold_words(self, row: Hold) -> tuple[int, ...]:
        prefix = row.msisdn_prefix
        return (
            row.until,
            FIXED_REASONS[row.reason] if row.reason else 0,
            int(prefix or 0),
            10 ** len(prefix) if prefix else 0,
            self._keep(np.array(row.tacs, np.uint64)),
            len(row.tacs),
        )


def _override_words(row: Override) -> tuple[int, int, int, int]:
    facts = policy.OVERRIDE_ALLOW if row.allow else policy.OVERRIDE_DENY
    return row.imei, row.msisdn, row.until, facts | (policy.OVERRIDE_FORCED if row.forced else 0)


def _in_force(chosen: Policy, operator: Generation | None) -> Policy:
    ordered = operator.mode if operator else None
    if ordered is None:
        return chosen
    return replace(chosen, mode=ordered.what.removeprefix("mode."))


def _orders(section: Section, kind: type[Order]) -> list[Order]:
    return [row for row in section.orders if isinstance(row, kind)]


def _check(*arguments: object) -> None:
    if JIT_DISABLED:
        with np.errstate(over="ignore"):
            batch.check(*arguments)
    else:
        batch.check(*arguments)
