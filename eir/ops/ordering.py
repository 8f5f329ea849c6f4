"""The road of an order by hand: published as one change of the operator's feed, then taken up.

    what stands → with the order → compare → sign → publish → wake the node → serves, or is held

With no node the depot takes it up here, so that it serves from the node's first moment. Who ordered
is the user of the system, and when the clock; both stand in the row itself, and each publication
also in the desk's chronicle, so that an order that was ended is not forgotten.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from eir import limits
from eir.client.node import NodeClient, Origin
from eir.core.amend import loaded_into, without_ended
from eir.core.delta import Delta, apply, between
from eir.core.generation import BLACK_UNION, OPERATOR, Generation
from eir.errors import Conflict, Corrupt, Refused, Unavailable
from eir.feed.digest import Digest, of_delta, of_section
from eir.feed.publish import Habits, Publisher
from eir.ops.chronicle import this_person, write_down
from eir.ops.desk import Desk, read_desk
from eir.ops.following import follow_once
from eir.ops.keeping import FeedKeeping, depot_of, reached_in
from eir.ops.own_feed import own_desk
from eir.ops.reload_guard import waiting
from eir.ops.settings.config import Config
from eir.ops.weighing import beside_in, judge_by
from eir.store.depot import Depot

Fate = Literal["serves", "held", "kept", "published", "unknown"]
Amend = Callable[[Generation], Generation]

_PATIENCE_S: Final = 60.0
_TURN_S: Final = 20.0
_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Given:
    """What became of an order: the feed's serial with it; not ``changed``: it said so already.

    ``fate``: it ``serves``; the guard has it ``held``, for ``detail``; it is ``kept`` here and
    serves once a node does; it is ``published`` for others; or ``unknown``: what is in its way.
    """

    session: str
    serial: int
    digest: str
    fate: Fate = "serves"
    detail: str = ""
    changed: bool = True


def desk_of(settings: Config, folder: Path | None = None) -> Desk:
    """Where orders are published from: ``folder``, else the depot's own feed.

    Raises Refused ``order-elsewhere`` where this node follows a feed that is published elsewhere.
    """
    if folder is not None:
        return read_desk(folder)
    own = settings.operator_feed.desk
    if own is None:
        url = settings.operator_feed.address.url
        detail = f"this node follows the operator's feed at {url}: order where that is published,"
        raise Refused("order-elsewhere", f"{detail} or name its publisher's folder with --desk")
    return own_desk(own)


def standing(settings: Config, desk: Desk) -> Generation:
    """What the operator's feed says now; before its first word, what this depot has loaded."""
    with _at_desk(desk) as publisher:
        return _content(settings, publisher, desk)


def give(
    settings: Config, desk: Desk, amend: Callable[[Generation, int], Delta], what: str
) -> Given:
    """Publish one order, and see to it that it serves. ``amend``: what it changes, at a time.

    Raises Refused as ``Publisher.publish``, and Unavailable where another publisher is at work for
    too long.
    """

    def amended(content: Generation) -> Generation:
        now = int(time.time())
        tidy = changed(content, without_ended(content, now, grace_time=grace_time(settings, now)))
        return changed(tidy, amend(tidy, now))

    return publish(settings, desk, amended, what)


def publish(settings: Config, desk: Desk, amend: Amend, what: str) -> Given:
    """Make the operator's feed say what ``amend`` makes of what it says, and take it up."""
    with _at_desk(desk) as publisher:
        now = int(time.time())
        edition = publisher.look([desk.root], now=now)
        before = edition.content or _content(settings, publisher, desk)
        digest, changed = _digest_after(before, after := amend(before))
        if edition.head is not None and not changed:
            return Given(before.session, before.serial, before.digest, changed=False)
        content = replace(after, digest=str(digest))
        done = publisher.publish(content, edition, now=now, allow_missing=True)
        publisher.sweep(done.head, now=now)
        detail = f"serial {done.head.serial}: {what}"
        write_down(desk.folder, "ordered", who=this_person(), detail=detail)
    return _taken_up(settings, desk, Given(done.head.session, done.head.serial, str(digest)))


def bulk(
    before: Generation | None, loaded: Generation, *, allow_missing: bool = False
) -> Generation:
    """What a bulk load of operator lists makes of a content: see ``loaded_into``.

    ``before``: None where nothing was said yet. ``allow_missing``: lists that are not loaded hold
    only what is there by hand.
    """
    before = before or nothing(loaded.registry_id)
    named = {*loaded.sections, *(before.sections if allow_missing else ())} - {BLACK_UNION}
    after = loaded_into(before, loaded, named)
    return replace(after, digest=str(_digest_after(before, after)[0]))


def _digest_after(before: Generation, after: Generation) -> tuple[Digest, bool]:
    """(the digest of ``after``, whether it says anything else).

    Where nothing was said before, all is new: it is not put together once more, as one delta.
    """
    if before.sections:
        change = between(before, after)
        return Digest.parse(before.digest) + of_delta(change), len(change) > 0
    told = [section for name, section in after.sections.items() if name != BLACK_UNION]
    return sum(map(of_section, told), Digest()), any(section.items for section in told)


def grace_time(settings: Config, now: int) -> int:
    """Grace time (Unix s), at the latest, as far as what served here last tells; else ``now``."""
    served = depot_of(settings.node).served.last()
    return min(now, served.data_time + served.grace_lag) if served else now


def held_back(settings: Config) -> str:
    """Why the newest orders do not serve on this node, "" where nothing is held."""
    depot = depot_of(settings.node)
    told = []
    with contextlib.suppress(Corrupt):
        memory = FeedKeeping(depot, OPERATOR, 1).memory()
        told += [memory.figures] if memory.waiting else []
    stands = waiting(depot)
    told += [stands.figures] if stands and OPERATOR in stands.feeds else []
    return "; ".join(told)


def who() -> str:
    """Who orders, as an order keeps it."""
    return one_line(this_person())


def one_line(text: str) -> str:
    """A text as an order keeps it. Raises Refused ``order-text`` where it is too long."""
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    if len(line) > limits.MAX_TEXT_FIELD_CHARS:
        detail = f"at most {limits.MAX_TEXT_FIELD_CHARS} characters; got {len(line)}"
        raise Refused("order-text", detail)
    return line


@contextlib.contextmanager
def _at_desk(desk: Desk) -> Iterator[Publisher]:
    """The desk to oneself, once whoever is at work there has ended."""
    until = time.monotonic() + _TURN_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                publisher = stack.enter_context(desk.at_work(Habits()))
                break
            except Conflict:
                if time.monotonic() > until:
                    raise
            time.sleep(_PAUSE_S)
        yield publisher


def changed(content: Generation, change: Delta) -> Generation:
    """A content with what an order changes; its digest is not that of the result."""
    if not len(change):
        return content
    return apply(
        content, change, serial=content.serial, made_at=content.made_at, digest=content.digest
    )


def _content(settings: Config, publisher: Publisher, desk: Desk) -> Generation:
    """What is published; else what the depot has; else nothing, under the feed's own name."""
    published = publisher.look([desk.root], now=int(time.time())).content
    if published is not None:
        return published
    registry_id = settings.operator_feed.registry_id
    loaded = reached_in(depot_of(settings.node), OPERATOR)
    if loaded is not None:
        return replace(loaded, registry_id=registry_id)
    return nothing(registry_id)


def nothing(registry_id: str) -> Generation:
    """What the operator's feed says before its first word."""
    return Generation(OPERATOR, registry_id, "", 0, 0, str(Digest()), {})


def _taken_up(settings: Config, desk: Desk, given: Given) -> Given:
    """Wake the node and see what it makes of this serial; without one, the depot takes it up."""
    follow, depot = settings.operator_feed, depot_of(settings.node)
    if desk.folder != follow.desk and desk.url != follow.address.url:
        return _fate(given, "published", "whoever follows it has it at the next poll")
    try:
        with NodeClient(f"unix:{settings.admin.socket}") as node:
            with contextlib.suppress(Refused):  # a faulty file on disk must not hold an order up
                node.reload(timeout=_PATIENCE_S)
            until = time.monotonic() + _PATIENCE_S
            while time.monotonic() < until:
                told = node.status()
                if any(_is_in(served.origin, given) for served in told.generations):
                    return given
                if stopped := _stopped(depot, given, told.ready):
                    return stopped
                time.sleep(_PAUSE_S)
        return _fate(given, "unknown", "not taken up yet: `eir sync status --operator`")
    except Unavailable:
        return _kept(settings, depot, given)


def _fate(given: Given, fate: Fate, detail: str = "") -> Given:
    return replace(given, fate=fate, detail=detail)


def _is_in(origin: Origin, given: Given) -> bool:
    same = (origin.feed, origin.session) == (OPERATOR, given.session)
    return same and origin.serial >= given.serial


def _stopped(depot: Depot, given: Given, ready: bool) -> Given | None:
    """What keeps this serial from serving, None if it is on its way."""
    keeping = FeedKeeping(depot, OPERATOR, 1)
    try:
        pinned = keeping.pinned()
    except Corrupt as damage:
        return _fate(given, "unknown", str(damage))
    if pinned:
        return _fate(given, "unknown", f"{pinned} is pinned, until `eir rollback 0 --operator`")
    if keeping.detached():
        return _fate(given, "unknown", "detached, until `eir sync run --operator`")
    if not ready and _reached(keeping, given):
        return _fate(given, "kept", "the node has no registry data yet")
    with contextlib.suppress(Corrupt):
        memory = keeping.memory()
        held = memory.waiting
        if held and held.session == given.session and held.serial >= given.serial:
            return _fate(given, "held", memory.figures)
    stands = waiting(depot)
    if stands and stands.holds(OPERATOR, given.session, given.serial):
        return _fate(given, "held", stands.figures)
    return None


def _reached(keeping: FeedKeeping, given: Given) -> bool:
    reached = keeping.reached()
    return reached is not None and reached[0] == given.session and reached[1] >= given.serial


def _kept(settings: Config, depot: Depot, given: Given) -> Given:
    try:
        with depot.held_by_keeper():
            beside = beside_in(depot, settings.guard, settings.policy, settings.grace.grace_lag)
            outcome = follow_once(settings.operator_feed, depot, judge=judge_by(lambda: beside))
    except Refused as refused:
        if refused.reason != "depot-in-use":
            raise
        return _fate(given, "unknown", "a node runs, and does not answer at its admin socket")
    if outcome.kind == "held":
        return _fate(given, "held", outcome.detail)
    if _reached(FeedKeeping(depot, OPERATOR, 1), given):
        return _fate(given, "kept")
    return _fate(given, "unknown", outcome.line())
