"""Why a verdict is what it is: every rule that was tried, with the data that decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eir.core import policy
from eir.core.generation import Generation
from eir.core.policy import FACT_NAMES, ROWS, Status
from eir.core.tables import Facts, Tables


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: ``outcome`` is "no", "yes", or "not reached" behind the first match."""

    row: int
    condition: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The data of one feed that a verdict was decided on."""

    feed: str
    registry_id: str
    session: str
    serial: int
    digest: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict for one query, and everything that led to it. Times are Unix seconds UTC.

    ``number``: the MSISDN after mapping, 0 = none known. ``deadline``: of the grey entry, -1 =
    none. ``changed_by``: "shadow", "hold" or (of a node) "breaker" where ``status`` differs from
    ``decided``, else "".
    """

    imei: int
    number: int
    imsi: int
    status: Status
    decided: Status
    changed_by: str
    row: int
    reason: str
    reason_id: int
    valid_until: int
    facts: tuple[str, ...]
    black: tuple[str, ...]
    deadline: int
    now: int
    grace_time: int
    rules: tuple[Rule, ...]
    origins: tuple[Origin, ...]


def explain(
    tables: Tables, imei: int, msisdn: int, imsi: int, *, now: int, grace_time: int
) -> Explanation:
    """Decide one query as the doors do, uncounted, and tell how."""
    facts = tables.facts(imei, msisdn, imsi, now=now, grace_time=grace_time)
    words = [np.array([word], np.uint64) for word in (imei, msisdn, imsi)]
    uncounted = np.zeros((policy.CODES, 5), np.uint64)
    verdicts = tables.check(*words, now=now, grace_time=grace_time, counts=uncounted)
    status, decided, code, row = (int(value) for value in verdicts.rows[0])
    reason_id = int(tables.reasons[code])
    feeds = [feed for feed in (tables.registry, tables.operator) if feed is not None]
    return Explanation(
        imei=imei,
        number=facts.number,
        imsi=imsi,
        status=Status(status),
        decided=Status(decided),
        changed_by=_changed_by(tables, status, decided),
        row=row,
        reason=tables.reason_names[reason_id],
        reason_id=reason_id,
        valid_until=int(verdicts.valid_until[0]),
        facts=_named(facts),
        black=facts.black,
        deadline=facts.deadline,
        now=now,
        grace_time=grace_time,
        rules=tuple(Rule(n, text, _outcome(n, row)) for n, text in ROWS),
        origins=tuple(origin_of(feed) for feed in feeds),
    )


def _named(facts: Facts) -> tuple[str, ...]:
    return tuple(name for bit, name in FACT_NAMES.items() if facts.bits & bit)


def _outcome(row: int, hit: int) -> str:
    if row == hit:
        return "yes"
    return "no" if row < hit else "not reached"


def _changed_by(tables: Tables, status: int, decided: int) -> str:
    if status == decided:
        return ""
    return policy.SHADOW if tables.policy.mode == policy.SHADOW else "hold"


def origin_of(feed: Generation) -> Origin:
    """What a verdict says of the data it was decided on."""
    return Origin(feed.feed, feed.registry_id, feed.session, feed.serial, feed.digest)
