"""What was let serve last, and so is what the next change is weighed against, also at a start.

    start ─ the same as last time ─▶ serves
          ─ another ─▶ the last one is built again and serves ─ weighed ─▶ the other serves,
                                                                          or waits for a person
          ─ the first, or the last one is not kept ─▶ weighed by least sizes alone

Every change is written down before anybody swaps. Builds from the depot; decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.core.policy import Policy
from eir.errors import Corrupt, Refused, Unavailable
from eir.ops.keeping import pinned_in
from eir.ops.reload_guard import has_served
from eir.serve.handover import policy_of
from eir.serve.holder import Serving
from eir.store.depot import Depot, Opened
from eir.store.kept import passing
from eir.store.served import Served, ServedFeed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What served once, built again: verified files, open, and the policy."""

    taken: dict[str, Opened]
    policy: Policy
    served: Served


def write_down(depot: Depot, serving: Serving, at: int, was: Serving | None = None) -> None:
    """Note that this serves from now on, in the place of what ``was``, unless it does already;
    a person's acceptance of it lapses then. Raises OSError.
    """
    tables = serving.tables
    raw = policy_bytes(tables.chosen)
    served = Served(
        at=at,
        feeds={each.feed: _feed(each) for each in (tables.registry, tables.operator) if each},
        policy=hashlib.sha256(raw).hexdigest(),
        data_time=serving.data_time,
        grace_lag=serving.grace_lag,
    )
    last = depot.served.last()
    if last is None or last.content != served.content:
        depot.served.append(served, raw)
    has_served(depot, was, serving)


def unchanged(depot: Depot, policy: Policy, grace_lag: int, last: Served) -> bool:
    """Whether depot, policy and lag come to what served last, content for content."""
    rules = hashlib.sha256(policy_bytes(policy)).hexdigest(), grace_lag
    if rules != (last.policy, last.grace_lag):
        return False
    found = {}
    for feed in (REGISTRY, OPERATOR):
        rows = depot.kept(feed)
        try:
            pin = pinned_in(depot, feed)
        except Corrupt as damage:
            _log.error("%s", damage)
            return False
        for row in (passing(rows, pin.session, pin.serial) if pin else rows)[:1]:
            found[feed] = row.digests.get(pin.serial if pin else row.last_serial, "")
    return found == {feed: each.digest for feed, each in last.feeds.items()}


def rebuilt(depot: Depot, served: Served) -> Rebuilt | None:
    """What served once; None where its files or its policy are not kept any more."""
    policy = policy_kept(depot, served.policy)
    taken: dict[str, Opened] = {}
    try:
        if policy is None:
            raise Unavailable(f"policy {served.policy} is not kept")
        for feed, each in served.feeds.items():
            opened = depot.open_newest(feed, serial=each.serial, session=each.session)
            taken[feed] = opened
            if opened.generation.digest != each.digest:
                raise Corrupt("digest", f"{feed} serial {each.serial} has another content now")
        return Rebuilt(taken, policy, served)
    except (Refused, Corrupt, Unavailable) as fault:
        _log.warning("what served last can't be built again: %s", fault)
        for opened in taken.values():
            opened.close_unless_in(None)
        return None


def policy_kept(depot: Depot, sha256: str) -> Policy | None:
    """A policy that served once; None where it is not kept, or not as it was."""
    raw = depot.served.policy(sha256)
    try:
        return policy_of(json.loads(raw)) if raw else None
    except (Refused, ValueError, KeyError, TypeError):
        return None


def policy_bytes(policy: Policy) -> bytes:
    """A policy as it is written down; equal policies are equal bytes."""
    fields: Mapping[str, object] = asdict(policy)
    return json.dumps(fields, sort_keys=True).encode()


def _feed(generation: Generation) -> ServedFeed:
    return ServedFeed(generation.session, generation.serial, generation.digest, generation.made_at)
