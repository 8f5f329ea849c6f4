"""One run of the gate: from the feed's head to what serves, or to a reason why not.

    keys → head → plan → believe → fetch → build aside → judge → persist → publish → outcome
                   ^                            │           │
                   └──── a file did not apply ──┘           └─ beyond the guard: held, until a
                         (never tried again)                   person accepts, or it is superseded

Promises: every run ends in a SyncOutcome, whatever happens; what serves is the complete old or the
complete new; what was reached is told, never what was promised. Knows neither who keeps nor who
serves: both are callables.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from eir.core.delta import Delta
from eir.core.generation import Generation
from eir.errors import Conflict, Corrupt, EirError, Refused
from eir.feed.codec import open_snapshot
from eir.feed.delta_file import advance, read_delta
from eir.feed.envelope import PublicKey
from eir.feed.head import FeedFile, Head, Serial, open_head
from eir.feed.keys import Keys, open_keys, read_keys
from eir.sync.outcome import OutcomeKind, SyncOutcome
from eir.sync.plan import Mark, Plan, PlanLimits, Reached, SyncState, mark_of, plan
from eir.sync.source import Fetched, Source

_log = logging.getLogger(__name__)

_ALARMING: Final = frozenset({"feed-signature", "root-unknown", "keys-lower", "keys-rewritten"})
"""Refusals of a head or keys file that a person has to look at."""


@dataclass(frozen=True, slots=True)
class Change:
    """Where a change leads: what a person accepts, and what lapses once something else comes."""

    session: str
    serial: int
    digest: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What one feed's gate has to remember over a restart, whatever becomes of the data.

    ``keys``: the keys file last believed, b"" if none. ``highest``: outlives the loss of all data.
    ``failed``: hashes of files that came whole and did not apply. ``waiting``: a change that the
    guard holds, and ``figures``, why.
    """

    keys: bytes = b""
    highest: Mark | None = None
    failed: frozenset[str] = frozenset()
    waiting: Change | None = None
    figures: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generation built aside, and the fetched files that it was built of, in order.

    ``made_at``: when the feed made each, Unix seconds. ``base``: the files begin with a snapshot.
    ``steps``: what the delta files say.
    """

    generation: Generation
    files: tuple[tuple[FeedFile, Path], ...]
    made_at: tuple[int, ...]
    base: bool
    steps: tuple[Delta, ...]

    def counts(self) -> tuple[tuple[str, int], ...]:
        """Items added and removed by section, or a snapshot's items; by name."""
        if self.base:
            return tuple(sorted((n, s.items) for n, s in self.generation.sections.items()))
        changed: dict[str, int] = {}
        for step in self.steps:
            for name, change in step.changes.items():
                changed[name] = changed.get(name, 0) + len(change.removed) + len(change.added)
        return tuple(sorted(changed.items()))


class Keeping(Protocol):
    """The cellar, as the gate sees it."""

    def memory(self) -> Memory:
        """What was remembered; Memory() at first."""

    def remember(self, memory: Memory) -> None:
        """Durably."""

    def seen(self) -> Mapping[Serial, str]:
        """Digests of the serials that what is kept has passed since its snapshot."""

    def accepted(self, change: Change) -> bool:
        """Whether a person has let this change through."""

    def part(self, file: FeedFile) -> Path:
        """Where to fetch a file to; the same for the same hash, so that a cut one goes on."""

    def persist(self, candidate: Candidate) -> None:
        """Make the candidate's files durable, as one step."""


@dataclass(slots=True)
class Heard:
    """The small files as they last came: an unchanged one is not sent again."""

    keys: Fetched | None = None
    head: Fetched | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """What a run works with, the same for every run of one feed.

    ``judge``: why a change has to wait for a person, or "". ``publish``: put in service what was
    persisted. ``renew``: the head made at this time (Unix s) says what is held. ``advance`` hears
    name, bytes there, and size of a file that is coming.
    """

    feed: str
    registry_id: str
    roots: tuple[PublicKey, ...]
    source: Source
    keeping: Keeping
    judge: Callable[[Generation | None, Candidate], str]
    publish: Callable[[Generation], None]
    renew: Callable[[int], None]
    heard: Heard = field(default_factory=Heard)
    bounds: PlanLimits = field(default_factory=PlanLimits)
    clock: Callable[[], float] = time.time
    advance: Callable[[str, int, int], None] = lambda name, done, size: None


def run(
    gate: Gate, held: Generation | None, *, forced: bool = False, allow_downgrade: bool = False
) -> tuple[SyncOutcome, Generation | None]:
    """Follow the feed once: the outcome, and what is reached then.

    ``held``: the generation reached so far. ``forced``: take the snapshot again, and judge a held
    change again. ``allow_downgrade``: believe a head lower than one believed before. Raises nothing
    but bugs.
    """
    begun = time.monotonic()
    attempt = _Run(gate, held, forced=forced, allow_downgrade=allow_downgrade)
    try:
        outcome = attempt.follow()
    except Refused as refused:
        reason = refused.reason
        outcome = SyncOutcome(
            "failed" if reason.startswith("fetch-") else "refused",
            reason,
            detail=str(refused),
            alarm=reason in _ALARMING,
        )
    except EirError as error:
        outcome = SyncOutcome("failed", "sync-error", detail=str(error), alarm=True)
    except OSError as error:
        detail = f"{error.strerror or error}: {error.filename or ''}"
        outcome = SyncOutcome("failed", "disk-error", detail=detail, alarm=True)
    reached = attempt.held
    told = replace(
        outcome,
        session=reached.session if reached else "",
        from_serial=held.serial if held else 0,
        to_serial=reached.serial if reached else 0,
        fetched_bytes=attempt.fetched_bytes,
        seconds=time.monotonic() - begun,
    )
    return told, reached


class _Run:
    """The state of one run. ``held`` moves only when a candidate is durable."""

    def __init__(
        self, gate: Gate, held: Generation | None, *, forced: bool, allow_downgrade: bool
    ) -> None:
        self.held = held
        self.fetched_bytes = 0
        self._gate = gate
        self._forced = forced
        self._allow_downgrade = allow_downgrade
        self._memory = Memory()

    def follow(self) -> SyncOutcome:
        self._memory = self._gate.keeping.memory()
        head = self._head()
        while True:
            chosen = plan(self._state(), head, self._gate.bounds)
            if chosen.kind == "refuse":
                return SyncOutcome(
                    "refused", chosen.reason, detail=chosen.detail, alarm=chosen.alarm
                )
            self._believe(head)
            if chosen.kind == "up-to-date":
                self._gate.renew(head.made_at)
                return SyncOutcome("up-to-date", chosen.reason)
            outcome = self._carry_out(chosen, head)
            if outcome is not None:
                return outcome

    def _head(self) -> Head:
        """The head, verified by keys that are verified; a keys file is believed for good."""
        gate = self._gate
        raw = self._heard_keys().raw
        keys = open_keys(raw, gate.roots, now=int(gate.clock()), kept=self._known_keys())
        if raw != self._memory.keys:
            self._remember(replace(self._memory, keys=raw))
        etag = gate.heard.head.etag if gate.heard.head else ""
        gate.heard.head = gate.source.head(etag) or gate.heard.head
        if gate.heard.head is None:
            raise Refused("fetch-failed", "the server says the head did not change: since when?")
        return open_head(gate.heard.head.raw, keys.keys)

    def _heard_keys(self) -> Fetched:
        heard = self._gate.heard
        heard.keys = self._gate.source.keys(heard.keys.etag if heard.keys else "") or heard.keys
        if heard.keys is None:
            raise Refused("fetch-failed", "the server says the keys did not change: since when?")
        return heard.keys

    def _known_keys(self) -> Keys | None:
        """The keys believed before; an expired file still says which versions are too low."""
        if self._memory.keys:
            with contextlib.suppress(Refused):
                return read_keys(self._memory.keys, self._gate.roots)
        return None

    def _state(self) -> SyncState:
        held = self.held
        reached = Reached(held.session, Serial(held.serial), held.digest) if held else None
        return SyncState(
            registry_id=self._gate.registry_id,
            now=int(self._gate.clock()),
            reached=reached,
            highest=self._memory.highest,
            seen=self._gate.keeping.seen(),
            failed=self._memory.failed,
            forced=self._forced,
            allow_downgrade=self._allow_downgrade,
        )

    def _remember(self, memory: Memory) -> None:
        if memory != self._memory:
            self._gate.keeping.remember(memory)
            self._memory = memory

    def _believe(self, head: Head) -> None:
        """Before anything is fetched: a lower head will be refused, even if all data is lost."""
        named = {file.sha256 for file in (head.snapshot, *head.deltas)}
        failed = self._memory.failed & named
        self._remember(replace(self._memory, highest=mark_of(head), failed=failed))

    def _carry_out(self, chosen: Plan, head: Head) -> SyncOutcome | None:
        """Fetch, build, judge, persist, publish; None where a file did not apply: plan again."""
        last = chosen.files[-1]
        change = Change(head.session, last.serial, last.digest)
        accepted = self._gate.keeping.accepted(change)
        if change == self._memory.waiting and not accepted and not self._forced:
            return SyncOutcome("held", "guard", detail=self._memory.figures, alarm=True)
        built = self._build(chosen, [(file, self._fetch(file)) for file in chosen.files], head)
        if built is None:
            return None
        waits = "" if accepted else self._gate.judge(self.held, built)
        if waits:
            self._remember(replace(self._memory, waiting=change, figures=waits))
            return SyncOutcome("held", "guard", detail=waits, alarm=True)
        self._gate.keeping.persist(built)
        self.held = built.generation
        self._remember(replace(self._memory, waiting=None, figures=""))
        self._gate.publish(built.generation)
        if last.serial == head.serial:
            self._gate.renew(head.made_at)
        kind: OutcomeKind = "snapshot" if built.base else "deltas"
        return SyncOutcome(kind, chosen.reason, counts=built.counts(), alarm=chosen.alarm)

    def _fetch(self, file: FeedFile) -> Path:
        part = self._gate.keeping.part(file)
        self.fetched_bytes += self._gate.source.fetch(
            file, part, advance=lambda done: self._gate.advance(file.name, done, file.size)
        )
        return part

    def _build(
        self, chosen: Plan, parts: Sequence[tuple[FeedFile, Path]], head: Head
    ) -> Candidate | None:
        """The candidate; None where a file did not apply, which is remembered."""
        generation = self.held
        steps: list[Delta] = []
        made_at: list[int] = []
        for file, path in parts:
            try:
                if file is chosen.snapshot:
                    generation = self._read_snapshot(file, path, head)
                else:
                    generation = self._advanced(generation, file, path, steps)
                made_at.append(generation.made_at)
            except (Corrupt, Conflict, Refused) as error:
                _log.error("%s did not apply: %s", file.name, error)
                self._remember(replace(self._memory, failed=self._memory.failed | {file.sha256}))
                path.unlink(missing_ok=True)
                return None
        if generation is None:
            raise Conflict("a plan without files")
        by_snapshot = chosen.snapshot is not None
        return Candidate(generation, tuple(parts), tuple(made_at), by_snapshot, tuple(steps))

    def _read_snapshot(self, file: FeedFile, path: Path, head: Head) -> Generation:
        found = open_snapshot(path)
        said = (self._gate.feed, head.registry_id, head.session, file.serial, file.digest)
        is_of = (found.feed, found.registry_id, found.session, found.serial, found.digest)
        if is_of != said:
            raise Corrupt("header", f"is of {is_of}; the head said {said}", where=file.name)
        return found

    def _advanced(
        self, generation: Generation | None, file: FeedFile, path: Path, steps: list[Delta]
    ) -> Generation:
        if generation is None:
            raise Conflict("a delta needs something to apply to")
        step, change = read_delta(path)
        if (step.to_serial, step.digest_after) != (file.serial, file.digest):
            detail = f"leads to {step.to_serial} {step.digest_after}, not as the head said"
            raise Corrupt("header", detail, where=file.name)
        steps.append(change)
        return advance(generation, step, change)
