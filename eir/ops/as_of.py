"""A verdict as it was when an older serial served: its data, and all beside it, built again.

Takes registry data, operator data, policy and times as they were written down when the serial began
to serve. A serial that never served here by itself (several came at once) is taken with what stood
beside the one before it. Decides by the kernel, as a door does; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from eir.core.explanation import Explanation, explain
from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.core.tables import Tables
from eir.errors import Corrupt
from eir.ops.accepted import policy_kept
from eir.ops.keeping import depot_of
from eir.ops.settings.config import Config
from eir.store.depot import Depot
from eir.store.served import Served


@dataclass(frozen=True, slots=True)
class AsOf:
    """What was explained. ``served_from``, ``served_until``: Unix s; 0: never, or still."""

    explanation: Explanation
    serial: int
    served_from: int
    served_until: int

    def line(self, when: str, until: str) -> str:
        """In words, with the moments as the caller writes them."""
        if not self.served_from:
            return f"as of serial {self.serial}, which came with a later one: decided as of {when}"
        end = f" until {until}" if self.served_until else " until now"
        return f"as of serial {self.serial}, which served from {when}{end}: decided as of {when}"


def explain_as_of(settings: Config, serial: int, imei: int, msisdn: int, imsi: int) -> AsOf:
    """Explain a key, number and IMSI code as of a registry serial.

    Raises Refused ``serial-not-kept``, naming what is, and Corrupt where its files are damaged.
    """
    depot = depot_of(settings.node)
    beside, until = _beside(depot, serial)
    part = beside.feeds.get(REGISTRY) if beside else None
    served = part is not None and part.serial == serial
    session = part.session if part else None
    registry = _built_again(depot, REGISTRY, serial, session)
    operator = _operator(depot, beside)
    policy = (policy_kept(depot, beside.policy) if beside else None) or settings.policy
    now = beside.at if beside and served else registry.made_at
    data_time = beside.data_time if beside and served else registry.made_at
    grace_lag = beside.grace_lag if beside else settings.grace.grace_lag
    explained = explain(
        Tables(registry, operator, policy),
        imei,
        msisdn,
        imsi,
        now=now,
        grace_time=min(now, data_time + grace_lag),
    )
    return AsOf(explained, serial, now if served else 0, until if served else 0)


def _beside(depot: Depot, serial: int) -> tuple[Served | None, int]:
    """What served when this serial last did, or else before it, and when that ended (0: not)."""
    exact: Served | None = None
    before: Served | None = None
    until = 0
    for each in depot.served.lines():
        part = each.feeds.get(REGISTRY)
        if part is not None and part.serial == serial:
            exact, until = each, 0
        elif exact is not None and not until:
            until = each.at
        if part is not None and part.serial < serial:
            before = each
    return (exact, until) if exact else (before, 0)


def _operator(depot: Depot, beside: Served | None) -> Generation | None:
    """The operator's data of that time. None where there were none."""
    if beside is None:
        return depot.open_newest(OPERATOR).generation if depot.kept(OPERATOR) else None
    part = beside.feeds.get(OPERATOR)
    if part is None:
        return None
    return _built_again(depot, OPERATOR, part.serial, part.session)


def _built_again(depot: Depot, feed: str, serial: int, session: str | None) -> Generation:
    """A feed as of exactly this serial, where the depot would fall back to an older good one."""
    generation = depot.open_newest(feed, serial=serial, session=session).generation
    if generation.serial != serial:
        detail = f"{feed} serial {serial} can't be built again: {generation.serial} is good"
        raise Corrupt("delta", detail, where=str(depot.folder))
    return generation
