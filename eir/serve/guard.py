"""What a change would newly refuse: asked of the kernel itself, before anybody is cut.

Every change of data, policy or mode is measured here while it is still aside. The devices and
pairs that it may touch are decided by the old tables and by the new; who was admitted and would be
refused is counted, by reason and by TAC. Beyond the limits a person has to accept it.
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
from eir.core.policy import Status
from eir.core.tables import Tables

U64 = NDArray[np.uint64]
Queries = tuple[U64, U64, U64]
"""(IMEI keys, MSISDNs, IMSI codes), uint64 of one length; 0 = none."""

_REFUSED = (int(Status.BLACKLISTED), int(Status.UNKNOWN))
_CHUNK = 1 << 18


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
    """

    asked: int
    newly_refused: int
    newly_admitted: int
    by_reason: Mapping[str, int]
    by_tac: Mapping[int, int]


def impact(
    old: Tables, new: Tables, queries: Iterable[Queries], *, now: int, grace_time: int
) -> Impact:
    """Decide every query on both; times are Unix seconds UTC. Counts nowhere as a check."""
    asked = refused = admitted = 0
    reasons: Counter[str] = Counter()
    tacs: Counter[int] = Counter()
    uncounted = np.zeros((policy.CODES, 5), np.uint64)
    for imei, msisdn, imsi in queries:
        rows = [
            tables.check(imei, msisdn, imsi, now=now, grace_time=grace_time, counts=uncounted).rows
            for tables in (old, new)
        ]
        before, after = (np.isin(each[:, 0], _REFUSED) for each in rows)
        fresh = after & ~before
        asked += len(imei)
        refused += int(fresh.sum())
        admitted += int((before & ~after).sum())
        codes, counts = np.unique(rows[1][fresh, 2], return_counts=True)
        for code, count in zip(codes, counts, strict=True):
            reasons[new.reason_names[int(new.reasons[code])]] += int(count)
        groups, counts = np.unique(
            imei[fresh] // np.uint64(limits.SERIAL_SPAN_KEYS), return_counts=True
        )
        for tac, count in zip(groups, counts, strict=True):
            tacs[int(tac)] += int(count)
    return Impact(asked, refused, admitted, dict(reasons), dict(tacs))
