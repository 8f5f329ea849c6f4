"""What a change would newly refuse: asked of the kernel itself, before anybody is cut.

Every change of data, policy or mode is measured here while it is still aside. The devices and
pairs that it may touch are decided by the old tables and by the new, now and as of a day from now;
who was admitted and would be refused is counted, by reason and by TAC. Beyond the limits a person
has to accept it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import policy
from eir.core.delta import Delta
from eir.core.generation import BLACK_UNION, Generation
from eir.core.policy import DEFAULT_STATUS, Status
from eir.core.tables import Tables
from eir.serve.affected import STRANGER, Queries, population, touched, without

_REFUSED = (int(Status.BLACKLISTED), int(Status.UNKNOWN))
Mask = NDArray[np.bool_]

_TOLD = 5
_AHEAD_S = 86_400


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """How much one change may do unasked.

    ``max_newly_refused``: devices and pairs together. ``max_shrink``, ``max_growth``: the share of
    its items that a list may lose or gain, 1.0 = all of them or doubling; lists of under
    ``small_list_items`` are not judged by it. ``least_items``: what a first load must bring, by
    section.
    """

    max_newly_refused: int = 1_000
    max_shrink: float = 0.2
    max_growth: float = 1.0
    small_list_items: int = 1_000
    least_items: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change does to those who are asked about. Counts of queries: devices and pairs.

    ``by_reason``, ``by_tac``: of the newly refused; reasons as the new tables name them.
    ``devices``: how many IMEIs they are of. A device and a stranger's use of it count as one.
    """

    asked: int
    newly_refused: int
    newly_admitted: int
    by_reason: Mapping[str, int]
    by_tac: Mapping[int, int]
    devices: int = 0

    def line(self) -> str:
        """The figures in a line: how many, by reason, and the TACs with most."""
        reasons = ", ".join(f"{n} {c:,}" for n, c in Counter(self.by_reason).most_common(_TOLD))
        tacs = ", ".join(f"{n:08d} {c:,}" for n, c in Counter(self.by_tac).most_common(_TOLD))
        counted = f"{self.newly_refused:,} of {self.asked:,} devices and pairs newly refused"
        return f"{counted} (by reason: {reasons}; by TAC: {tacs})" if reasons else counted


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Each device or pair once is what counts: ``named`` ascend, without repeats, and then, where
    ``everybody`` is a registry, the rest of its population. Can be gone through again and again.
    """

    named: Queries
    everybody: Generation | None

    def __iter__(self) -> Iterator[Queries]:
        if len(self.named[0]):
            yield self.named
        for queries in population(self.everybody) if self.everybody else ():
            yield without(queries, self.named)


def impact(
    old: Tables,
    new: Tables,
    queries: Iterable[Queries],
    *,
    now: int,
    grace_time: int,
    grace_before: int | None = None,
    until: int | None = None,
) -> Impact:
    """Decide every query on both; times are Unix seconds UTC. Counts nowhere as a check.

    ``grace_before``: where grace time stands for the old ones, if elsewhere. ``until``: the new
    ones are asked as of this moment, which grace time has reached by then.
    """
    stood = grace_time if grace_before is None else grace_before
    times = [(now, stood), (now, grace_time) if until is None else (until, until)]
    asked = refused = admitted = devices = 0
    reasons: Counter[str] = Counter()
    tacs: Counter[int] = Counter()
    uncounted = np.zeros((policy.CODES, 5), np.uint64)
    for imei, msisdn, imsi in queries:
        rows = [
            tables.check(imei, msisdn, imsi, now=at, grace_time=grace, counts=uncounted).rows
            for tables, (at, grace) in zip((old, new), times, strict=True)
        ]
        before, after = (np.isin(each[:, 0], _REFUSED) for each in rows)
        fresh, counted = _counted_once((imei, msisdn, imsi), after & ~before)
        asked += int(counted.sum())
        refused += int(fresh.sum())
        admitted += int((before & ~after & counted).sum())
        named = imei[fresh & (imei != 0)]
        devices += len(np.unique(named))
        codes, counts = np.unique(rows[1][fresh, 2], return_counts=True)
        for code, count in zip(codes, counts, strict=True):
            reasons[new.reason_names[int(new.reasons[code])]] += int(count)
        groups, counts = np.unique(named // np.uint64(limits.SERIAL_SPAN_KEYS), return_counts=True)
        for tac, count in zip(groups, counts, strict=True):
            tacs[int(tac)] += int(count)
    return Impact(asked, refused, admitted, dict(reasons), dict(tacs), devices)


def _counted_once(queries: Queries, fresh: Mask) -> tuple[Mask, Mask]:
    """The newly refused without strangers whose device is refused alone already, and who is asked:
    all but strangers, who are asked with their device.
    """
    imei, msisdn, imsi = queries
    stranger = msisdn == STRANGER
    if stranger.any():
        alone = imei[fresh & (msisdn == 0) & (imsi == 0)]
        fresh = fresh & ~(stranger & np.isin(imei, alone))
    return fresh, ~stranger


def objection(
    bounds: GuardLimits,
    old: Tables | None,
    new: Tables,
    changes: Iterable[Delta],
    *,
    now: int,
    grace_time: int,
    grace_before: int | None = None,
) -> str:
    """Why a change has to wait for a person, with the figures; "" where it may pass.

    ``old``: what serves, None at a first load. ``changes``: what becomes of the data.
    ``grace_before``: where grace time stands by what serves, if the change moves it.
    """
    if old is None:
        return "; ".join(_too_small(bounds, new))
    sizes = list(_out_of_bounds(bounds, old, new))
    unlisted = [*_worse_statuses(old.policy, new.policy), *_fewer_roamers(old.policy, new.policy)]
    found = [*sizes, *unlisted]
    queries = questions(old, new, changes, everybody=grace_before not in (None, grace_time))
    measured = impact(old, new, queries, now=now, grace_time=grace_time, grace_before=grace_before)
    if measured.newly_refused > bounds.max_newly_refused:
        return "; ".join([*found, _too_many(bounds, measured)])
    ahead = now + _AHEAD_S
    in_a_day = impact(old, new, queries, now=ahead, grace_time=ahead)
    if in_a_day.newly_refused > bounds.max_newly_refused:
        found.append(f"in a day {_too_many(bounds, in_a_day)}")
    elif sizes and not unlisted:
        found.append(measured.line())
    return "; ".join(found)


def _too_many(bounds: GuardLimits, measured: Impact) -> str:
    """The figures, and the rule that they break."""
    return f"{measured.line()}, beyond [guard] max_newly_refused = {bounds.max_newly_refused}"


def questions(
    old: Tables, new: Tables, changes: Iterable[Delta], *, everybody: bool = False
) -> Questions:
    """What to ask: whom the changes touch, and everybody where policy or holds differ, or where
    the caller says so.
    """
    deltas = tuple(changes)
    pieces = [each for delta in deltas for each in touched(delta, (old.registry, new.registry))]
    everybody |= old.policy != new.policy or any("holds" in each.changes for each in deltas)
    return Questions(_once(pieces), new.registry if everybody else None)


def _once(pieces: list[Queries]) -> Queries:
    """All of them as one, ascending."""
    none = np.empty(0, np.uint64)
    pieces = [(none, none, none), *pieces]
    imei, msisdn, imsi = (np.concatenate(column) for column in zip(*pieces, strict=True))
    order = np.lexsort((imsi, msisdn, imei))  # np.unique(axis=0) takes ten times as long
    columns = [column[order] for column in (imei, msisdn, imsi)]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return columns[0][fresh], columns[1][fresh], columns[2][fresh]


def _generations(tables: Tables) -> Iterator[Generation]:
    yield tables.registry
    if tables.operator is not None:
        yield tables.operator


def _too_small(bounds: GuardLimits, new: Tables) -> Iterator[str]:
    items = {n: s.items for g in _generations(new) for n, s in g.sections.items()}
    for name, least in bounds.least_items.items():
        if items.get(name, 0) < least:
            yield f"{name} has {items.get(name, 0):,} items, at least {least:,} are expected"


def _out_of_bounds(bounds: GuardLimits, old: Tables, new: Tables) -> Iterator[str]:
    """Lists that shrink or grow beyond the limits."""
    after = {(g.feed, n): s.items for g in _generations(new) for n, s in g.sections.items()}
    for generation in _generations(old):
        for name, section in generation.sections.items():
            were, are = section.items, after.get((generation.feed, name), 0)
            if name == BLACK_UNION or max(were, are) < bounds.small_list_items:
                continue
            if are < were * (1 - bounds.max_shrink):
                share = f"[guard] max_shrink = {bounds.max_shrink:g}"
                yield f"{name} shrinks from {were:,} items to {are:,}, beyond {share}"
            elif are > were * (1 + bounds.max_growth):
                share = f"[guard] max_growth_percent = {100 * bounds.max_growth:g}"
                yield f"{name} grows from {were:,} items to {are:,}, beyond {share}"


def _worse_statuses(old: policy.Policy, new: policy.Policy) -> Iterator[str]:
    """Reasons that refuse from now on: whom they strike, the lists alone can't tell."""
    for reason in DEFAULT_STATUS:
        before, after = old.status_of(reason), new.status_of(reason)
        if after in _REFUSED and before not in _REFUSED:
            yield f"{reason} becomes {after.name}"


def _fewer_roamers(old: policy.Policy, new: policy.Policy) -> Iterator[str]:
    """PLMNs whose subscribers roam no more: rows 8 to 16 are theirs from now on."""
    if not old.home_plmns:
        return
    if not new.home_plmns:
        yield "nobody roams any more: no home PLMN is set"
        return
    were = {*old.home_plmns, *old.enforced_plmns}
    more = sorted({*new.home_plmns, *new.enforced_plmns} - were)
    if more:
        yield f"subscribers of {', '.join(more[:_TOLD])} roam no more"
