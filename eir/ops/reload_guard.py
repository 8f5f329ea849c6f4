"""The guard of a reload and of a start: lists loaded by hand, policy and mode, before they serve.

node.waiting     what was refused, why, and how far each feed goes in it
node.accepted    a person's word: what may serve, until it has or another change is weighed
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from eir.core.delta import Delta, between
from eir.core.generation import Generation
from eir.core.policy import Policy
from eir.errors import Refused
from eir.feed.head import Serial
from eir.ops.keeping import FeedKeeping
from eir.serve.guard import GuardLimits, objection
from eir.serve.holder import Serving
from eir.store.depot import Depot
from eir.sync.client import Change

_log = logging.getLogger(__name__)

NODE: Final = "node"
_WAITING, _ACCEPTED = "waiting", "accepted"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that was refused: its name, its figures, and (session, serial) of the feeds whose
    data it moves.
    """

    change: str
    figures: str
    feeds: Mapping[str, tuple[str, int]]

    def holds(self, feed: str, session: str, serial: int) -> bool:
        """Whether this serial of a feed does not serve because of it."""
        reached = self.feeds.get(feed)
        return reached is not None and reached[0] == session and reached[1] >= serial


def weigh(
    depot: Depot,
    bounds: GuardLimits,
    old: Serving | None,
    new: Serving,
    now: int,
    *,
    only: str | None = None,
) -> None:
    """Let a change pass, or note it as waiting and raise Refused ``guard-held`` with its figures.

    ``old``: what serves, None where nothing does. ``only``: the one feed that moves of itself: then
    what waits already is not weighed again, and what waits of others stands.
    """
    key = _key(old, new).encode()
    if only is None and depot.note(NODE, _ACCEPTED) not in (b"", key):
        depot.write_note(NODE, _ACCEPTED, b"")
    if not key:
        _wait_no_more(depot, only)
        return
    waits = waiting(depot)
    text = ""
    if waits is not None and waits.change.encode() == key and only is not None:
        text = waits.figures
    elif depot.note(NODE, _ACCEPTED) != key and not _let_through(depot, old, new):
        changes = _changes(old, new) if old else []
        text = objection(
            bounds,
            old.tables if old else None,
            new.tables,
            changes,
            now=now,
            grace_time=new.grace_time(now),
            grace_before=old.grace_time(now) if old and old.grace_lag != new.grace_lag else None,
        )
    if text:
        _wait(depot, Waiting(key.decode(), text, _moved(old, new)))
        raise Refused("guard-held", f"{text}. Look, then: eir sync accept")
    _wait_no_more(depot, only)


def waiting(depot: Depot) -> Waiting | None:
    """The change that waits for a person; None where its note is damaged, too: it is weighed again
    then.
    """
    raw = depot.note(NODE, _WAITING)
    if not raw:
        return None
    try:
        fields = json.loads(raw)
        feeds = {feed: (str(s), int(n)) for feed, (s, n) in fields["feeds"].items()}
        return Waiting(str(fields["change"]), str(fields["figures"]), feeds)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.error("%s is unreadable: %s", depot.folder / f"{NODE}.{_WAITING}", error)
        return None


def _wait(depot: Depot, change: Waiting) -> None:
    note = json.dumps(asdict(change)).encode()
    if depot.note(NODE, _WAITING) != note:
        depot.write_note(NODE, _WAITING, note)


def _wait_no_more(depot: Depot, only: str | None) -> None:
    """What waited is superseded; where one feed moved of itself, no more than what was of it."""
    if depot.note(NODE, _WAITING):
        waits = waiting(depot)
        if only is None or waits is None or only in waits.feeds:
            depot.write_note(NODE, _WAITING, b"")


def _let_through(depot: Depot, old: Serving | None, new: Serving) -> bool:
    """Whether all that differs are feeds' changes that a person has accepted at the gate."""
    if old is None or _rules(old) != _rules(new):
        return False
    after = _generations(new)
    moved = ((feed, after[feed]) for feed in _moved(old, new))
    return all(
        FeedKeeping(depot, feed, 1).accepted(Change(each.session, Serial(each.serial), each.digest))
        for feed, each in moved
    )


def accept(depot: Depot, change: str) -> None:
    """Let this change pass, and no other."""
    depot.write_note(NODE, _ACCEPTED, change.encode())


def has_served(depot: Depot, old: Serving | None, new: Serving) -> None:
    """What was accepted is written down as what serves: the same has to be accepted again.

    ``old``: what served before it, None at a start, where an acceptance can only be of the past.
    """
    accepted = depot.note(NODE, _ACCEPTED)
    if accepted and (old is None or accepted == _key(old, new).encode()):
        depot.write_note(NODE, _ACCEPTED, b"")


def _generations(serving: Serving) -> dict[str, Generation]:
    both = (serving.tables.registry, serving.tables.operator)
    return {each.feed: each for each in both if each is not None}


def _changes(old: Serving, new: Serving) -> list[Delta]:
    before, after = _generations(old), _generations(new)
    return [
        between(before.get(feed, replace(each, sections={})), each)
        for feed, each in after.items()
        if before.get(feed) is not each
    ]


def _moved(old: Serving | None, new: Serving) -> dict[str, tuple[str, int]]:
    """The feeds whose content differs, by name: the session and serial that each comes to."""
    before = _generations(old) if old else {}
    return {
        feed: (each.session, each.serial)
        for feed, each in sorted(_generations(new).items())
        if feed not in before or before[feed].digest != each.digest
    }


def _rules(serving: Serving) -> tuple[Policy, int]:
    return serving.tables.policy, serving.grace_lag


def _key(old: Serving | None, new: Serving) -> str:
    """What differs from what serves, in 64 hex digits; "" where nothing does.

    What both have in common is not in it: a policy waits as the same while the data go on.
    """
    after = _generations(new)
    origins = [(feed, after[feed].digest) for feed in _moved(old, new)]
    rules = [_rules(new)] if old is None or _rules(old) != _rules(new) else []
    changed = (origins, rules)
    return hashlib.sha256(repr(changed).encode()).hexdigest() if any(changed) else ""
