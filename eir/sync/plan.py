"""What to do about a head: the one decision of the gate, as one pure function.

Promises: total over every verified head and every state; never plans over a gap, never ends below
the serial reached in the same session, and never plans a fetch that leads nowhere new, so polling
one head again and again comes to rest. Runs on the serial *reached*; what is served (a rollback, a
held change) is no business of the plan. Never fetches, and believes that the head was verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from eir import limits
from eir.feed.head import FeedFile, Head, Serial

Kind = Literal["refuse", "up-to-date", "snapshot", "deltas"]

ALARMS: Final = frozenset(
    {
        "other-registry",
        "head-replayed",
        "epoch-reused",
        "history-rewritten",
        "snapshot-behind",
        "snapshot-failed",
        "snapshot-too-large",
    }
)
"""Plan reasons that a person has to look at: the publisher, a mirror or an attacker is at work."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest head ever believed; outlives the loss of all data. ``made_at`` in Unix s."""

    epoch: int
    session: str
    serial: Serial
    made_at: int


@dataclass(frozen=True, slots=True)
class Reached:
    """The content that the engine holds: its session, serial and digest (hex)."""

    session: str
    serial: Serial
    digest: str


@dataclass(frozen=True, slots=True)
class SyncState:
    """Everything about this engine that the plan looks at.

    ``seen``: digests of serials passed since the last snapshot, in the session of ``reached``.
    ``failed``: SHA-256 (hex) of feed files that arrived whole and yet did not apply; they are not
    tried again. ``forced``: an operator asked for the snapshot. ``now`` in Unix s.
    """

    registry_id: str
    now: int
    reached: Reached | None = None
    highest: Mark | None = None
    seen: Mapping[Serial, str] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    forced: bool = False
    allow_downgrade: bool = False


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What configuration allows a plan; ``max_head_age_s`` counts only while nothing is known."""

    max_head_age_s: int = 7 * 86_400
    max_deltas: int = 200
    max_delta_bytes: int = limits.MAX_FEED_FILE_BYTES
    max_snapshot_bytes: int = limits.MAX_FEED_FILE_BYTES


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch and apply, in order: ``snapshot`` if there is one, then ``deltas``.

    ``reaches`` is the serial that this ends at, which may be less than the head's: the rest is for
    a later run. For a refusal it is None, and ``detail`` says why in words.
    """

    kind: Kind
    reason: str
    detail: str = ""
    snapshot: FeedFile | None = None
    deltas: tuple[FeedFile, ...] = ()
    reaches: Serial | None = None

    @property
    def alarm(self) -> bool:
        """Whether a person has to look."""
        return self.reason in ALARMS

    @property
    def files(self) -> tuple[FeedFile, ...]:
        """Every file to fetch, in the order of applying."""
        return self.deltas if self.snapshot is None else (self.snapshot, *self.deltas)


def mark_of(head: Head) -> Mark:
    """What to keep as the highest, once a plan for ``head`` is no refusal."""
    return Mark(head.epoch, head.session, head.serial, head.made_at)


def plan(state: SyncState, head: Head, bounds: PlanLimits) -> Plan:
    """What to do about ``head``. First match wins; every way out has its own reason code."""
    refusal = _disbelief(state, head, bounds)
    if refusal is not None:
        return refusal
    reached = state.reached
    if reached is None:
        return _snapshot(state, head, bounds, "first-load")
    if state.forced:
        return _snapshot(state, head, bounds, "forced")
    if head.session != reached.session:
        return _snapshot(state, head, bounds, "new-session")
    if _is_rewritten(state, reached, head):
        return _snapshot(state, head, bounds, "history-rewritten")
    if head.serial < reached.serial:
        return _snapshot(state, head, bounds, "downgrade")
    if head.serial == reached.serial:
        return Plan("up-to-date", "up-to-date", reaches=head.serial)
    reason = _flaw(head, reached.serial) or _obstacle(state, head, bounds, reached.serial)
    if reason:
        return _snapshot(state, head, bounds, reason)
    deltas = _chain(state, head, bounds, reached.serial)
    reason = _excess(state, head, bounds, deltas)
    if reason:
        return _snapshot(state, head, bounds, reason)
    return Plan("deltas", "deltas", deltas=deltas, reaches=head.serial)


def _disbelief(state: SyncState, head: Head, bounds: PlanLimits) -> Plan | None:
    """The refusal of a head that is not this feed's newest word, if it is not."""
    if head.registry_id != state.registry_id:
        detail = f"the head is of registry {head.registry_id!r}, expected {state.registry_id!r}"
        return Plan("refuse", "other-registry", detail)
    highest = state.highest
    if highest is None:
        age = state.now - head.made_at
        if age > bounds.max_head_age_s:
            return Plan("refuse", "head-old", f"made {age} s ago; nothing newer is known here")
    elif not state.allow_downgrade:
        lower = (head.epoch, head.serial, head.made_at) < (
            highest.epoch,
            highest.serial,
            highest.made_at,
        )
        if lower:
            detail = f"epoch {head.epoch} serial {head.serial} made at {head.made_at}: lower than"
            return Plan("refuse", "head-replayed", f"{detail} what was believed before ({highest})")
        if head.epoch == highest.epoch and head.session != highest.session:
            return Plan("refuse", "epoch-reused", f"two sessions claim epoch {head.epoch}")
    reached = state.reached
    behind = reached and reached.session == head.session and head.serial < reached.serial
    if behind and not state.allow_downgrade:
        return Plan("refuse", "head-replayed", f"serial {head.serial} is below the one reached")
    return None


def _is_rewritten(state: SyncState, reached: Reached, head: Head) -> bool:
    """Whether the head gives a serial that was passed here another content."""
    seen = {**state.seen, reached.serial: reached.digest}
    return any(seen.get(serial, digest) != digest for serial, digest in head.digests().items())


def _flaw(head: Head, at: Serial) -> str:
    """Why the deltas of ``head`` do not lead from ``at`` to its serial; empty if they do."""
    ahead = [delta.serial for delta in head.deltas if delta.serial > at]
    if not head.deltas:
        return "deltas-empty"
    if not ahead or ahead[0] != at + 1:
        return "deltas-lack-next"
    if any(after != before + 1 for before, after in pairwise(ahead)):
        return "deltas-hole"
    return "" if ahead[-1] == head.serial else "deltas-end-early"


def _obstacle(state: SyncState, head: Head, bounds: PlanLimits, at: Serial) -> str:
    """Why a delta after ``at`` cannot be taken; empty if all can."""
    for delta in head.deltas:
        if delta.serial > at and delta.sha256 in state.failed:
            return "delta-failed"
        if delta.serial > at and delta.size > bounds.max_delta_bytes:
            return "delta-too-large"
    return ""


def _excess(state: SyncState, head: Head, bounds: PlanLimits, deltas: tuple[FeedFile, ...]) -> str:
    """Why the snapshot is the shorter way although ``deltas`` lead there; empty if it is not."""
    way = _snapshot(state, head, bounds, "shorter")
    if way.kind != "snapshot" or len(way.deltas) >= len(deltas):
        return ""
    if len(deltas) > bounds.max_deltas:
        return "deltas-too-many"
    outweigh = sum(delta.size for delta in deltas) > sum(file.size for file in way.files)
    return "deltas-too-big" if outweigh else ""


def _chain(state: SyncState, head: Head, bounds: PlanLimits, at: Serial) -> tuple[FeedFile, ...]:
    """The usable deltas that follow ``at`` one by one, until the first that is lacking."""
    chain: list[FeedFile] = []
    for delta in head.deltas:
        if delta.serial <= at:
            continue
        usable = delta.sha256 not in state.failed and delta.size <= bounds.max_delta_bytes
        if delta.serial != at + 1 + len(chain) or not usable:
            break
        chain.append(delta)
    return tuple(chain)


def _snapshot(state: SyncState, head: Head, bounds: PlanLimits, reason: str) -> Plan:
    """The snapshot and what follows it, or the refusal where that leads nowhere."""
    base = head.snapshot
    if base.sha256 in state.failed:
        detail = f"snapshot {base.serial} did not apply before ({reason})"
        return Plan("refuse", "snapshot-failed", detail)
    if base.size > bounds.max_snapshot_bytes:
        detail = f"snapshot of {base.size} bytes; the most is {bounds.max_snapshot_bytes}"
        return Plan("refuse", "snapshot-too-large", detail)
    deltas = _chain(state, head, bounds, base.serial)
    reaches = Serial(base.serial + len(deltas))
    reached = state.reached
    if reached is not None and reached.session == head.session and head.serial >= reached.serial:
        again = reason in ("forced", "history-rewritten")
        if reaches < reached.serial or (reaches == reached.serial and not again):
            detail = f"snapshot and deltas lead to {reaches}; {reached.serial} is reached"
            return Plan("refuse", "snapshot-behind", f"{detail} ({reason})")
    return Plan("snapshot", reason, snapshot=base, deltas=deltas, reaches=reaches)
