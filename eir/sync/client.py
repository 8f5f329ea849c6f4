"""One run of the gate: from the feed's head to what serves, or to a reason why not.

    keys → head → plan → believe → fetch → decode aside → judge → persist → publish → outcome
                    ^                        │
                    └── a file did not apply ┘  (remembered by its hash, never tried again)

Promises: every run ends in a SyncOutcome, whatever happens; what serves is the complete old or the
complete new; what was reached is told, never what was promised. Knows neither who keeps nor who
serves: both are callables.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from eir.core import delta
from eir.core.generation import Generation
from eir.errors import Conflict, Corrupt, EirError, Refused
from eir.feed.codec import open_snapshot
from eir.feed.delta_file import read_delta
from eir.feed.digest import Digest, of_delta
from eir.feed.envelope import PublicKey
from eir.feed.head import FeedFile, Head, Serial, open_head
from eir.feed.keys import Keys, open_keys
from eir.sync.outcome import SyncOutcome
from eir.sync.plan import Mark, Plan, PlanLimits, Reached, SyncState, mark_of, plan
from eir.sync.source import Source


@dataclass(frozen=True, slots=True)
class Memory:
    """What one feed's gate has to remember over a restart, beside the data.

    ``keys``: the keys file last believed, b"" if none. ``highest``: outlives the loss of all data.
    ``seen``: digests of serials passed since the last snapshot. ``failed``: hashes of files that
    came whole and did not apply.
    """

    keys: bytes = b""
    highest: Mark | None = None
    seen: Mapping[Serial, str] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generation built aside, and the fetched files that it was built of, in order.

    ``snapshot``: the first file is a snapshot, and the deltas before it are of no use any more.
    """

    generation: Generation
    files: tuple[tuple[FeedFile, Path], ...]
    snapshot: bool
    changed: Mapping[str, int]


class Keeping(Protocol):
    """The cellar, as the gate sees it."""

    def memory(self) -> Memory:
        """What was remembered; Memory() at first."""

    def remember(self, memory: Memory) -> None:
        """Durably."""

    def part(self, file: FeedFile) -> Path:
        """Where to fetch a file to; the same for the same hash, so that a cut one goes on."""

    def persist(self, candidate: Candidate, memory: Memory) -> None:
        """Make the candidate's files and the memory durable, as one step."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a run works with, the same for every run of one feed.

    ``judge``: why a change has to wait for a person, or "". ``publish``: put a generation in
    service; ``renew``: the same content was said again at made_at.
    """

    feed: str
    registry_id: str
    roots: tuple[PublicKey, ...]
    source: Source
    keeping: Keeping
    judge: Callable[[Generation | None, Generation], str]
    publish: Callable[[Generation], None]
    renew: Callable[[int], None]
    bounds: PlanLimits = PlanLimits()
    clock: Callable[[], float] = time.time
    advance: Callable[[str, int, int], None] = lambda name, done, size: None


def run(
    gate: Gate,
    held: Generation | None,
    *,
    forced: bool = False,
    allow_downgrade: bool = False,
) -> SyncOutcome:
    """Follow the feed once; ``held``: the generation reached so far.

    ``forced``: take the snapshot again. ``allow_downgrade``: believe a head lower than one
    believed before. Raises nothing but bugs.
    """
    begun = time.monotonic()
    attempt = _Run(gate, held, forced=forced, allow_downgrade=allow_downgrade)
    try:
        outcome = attempt.follow()
    except Refused as refused:
        kind = "failed" if refused.reason.startswith("fetch-") else "refused"
        outcome = SyncOutcome(
            "failed" if kind == "failed" else "refused", refused.reason, detail=str(refused)
        )
    except EirError as error:
        outcome = SyncOutcome("failed", "sync-error", detail=str(error), alarm=True)
    except OSError as error:
        detail = f"{error.strerror}: {error.filename or ''}"
        outcome = SyncOutcome("failed", "disk-error", detail=detail, alarm=True)
    reached = attempt.held
    return replace(
        outcome,
        session=reached.session if reached else "",
        from_serial=held.serial if held else 0,
        to_serial=reached.serial if reached else 0,
        fetched_bytes=attempt.fetched_bytes,
        seconds=time.monotonic() - begun,
    )


class _Run:
    """The state of one run. ``held`` moves only when a candidate has been published."""

    def __init__(
        self, gate: Gate, held: Generation | None, *, forced: bool, allow_downgrade: bool
    ) -> None:
        self.held = held
        self.fetched_bytes = 0
        self._gate = gate
        self._forced = forced
        self._allow_downgrade = allow_downgrade
        self._memory = gate.keeping.memory()

    def follow(self) -> SyncOutcome:
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
        gate = self._gate
        now = int(gate.clock())
        fetched = gate.source.keys()
        known = self._known_keys()
        raw = fetched.raw if fetched else self._memory.keys
        keys = open_keys(raw, gate.roots, now=now, kept=known)
        if raw != self._memory.keys:
            self._memory = replace(self._memory, keys=raw)
            gate.keeping.remember(self._memory)
        head = gate.source.head()
        if head is None:
            raise Refused("fetch-failed", "the server says the head did not change: since when?")
        return open_head(head.raw, keys.keys)

    def _known_keys(self) -> Keys | None:
        """The keys believed before; an expired file still says which versions are too low."""
        if not self._memory.keys:
            return None
        with contextlib.suppress(Refused):
            return open_keys(self._memory.keys, self._gate.roots, now=0)
        return None

    def _state(self) -> SyncState:
        held = self.held
        reached = Reached(held.session, Serial(held.serial), held.digest) if held else None
        return SyncState(
            registry_id=self._gate.registry_id,
            now=int(self._gate.clock()),
            reached=reached,
            highest=self._memory.highest,
            seen=self._memory.seen,
            failed=self._memory.failed,
            forced=self._forced,
            allow_downgrade=self._allow_downgrade,
        )

    def _believe(self, head: Head) -> None:
        """Before anything is fetched: a lower head will be refused, even if all data is lost."""
        mark = mark_of(head)
        if mark != self._memory.highest:
            self._memory = replace(self._memory, highest=mark)
            self._gate.keeping.remember(self._memory)

    def _carry_out(self, chosen: Plan, head: Head) -> SyncOutcome | None:
        """Fetch, build, judge, persist, publish; None where a file did not apply: plan again."""
        parts: list[tuple[FeedFile, Path]] = []
        for file in chosen.files:
            parts.append((file, self._fetch(file)))
        built = self._build(chosen, parts, head)
        if built is None:
            return None
        self._forced = False
        waits = self._gate.judge(self.held, built.generation)
        if waits:
            return SyncOutcome("held", "guard", detail=waits, alarm=True)
        memory = replace(self._memory, seen=self._seen(chosen))
        self._gate.keeping.persist(built, memory)
        self._memory = memory
        self._gate.publish(built.generation)
        self.held = built.generation
        kind = "snapshot" if chosen.snapshot else "deltas"
        return SyncOutcome(
            "snapshot" if kind == "snapshot" else "deltas",
            chosen.reason,
            counts=tuple(sorted(built.changed.items())),
            alarm=chosen.alarm,
        )

    def _fetch(self, file: FeedFile) -> Path:
        part = self._gate.keeping.part(file)
        advance = self._gate.advance
        self.fetched_bytes += self._gate.source.fetch(
            file, part, advance=lambda done: advance(file.name, done, file.size)
        )
        return part

    def _build(
        self, chosen: Plan, parts: Iterable[tuple[FeedFile, Path]], head: Head
    ) -> Candidate | None:
        """The candidate; None where a file did not apply, which is remembered."""
        generation = self.held
        changed: dict[str, int] = {}
        kept = tuple(parts)
        for file, path in kept:
            try:
                if file is chosen.snapshot:
                    generation = self._read_snapshot(file, path, head)
                    changed = {name: s.items for name, s in generation.sections.items()}
                else:
                    generation, count = self._apply(generation, file, path, head)
                    changed["changes"] = changed.get("changes", 0) + count
            except (Corrupt, Conflict, Refused) as error:
                self._give_up(file, path, error)
                return None
        if generation is None:
            raise Conflict("a plan of deltas needs something to apply them to")
        fresh = replace(generation, made_at=head.made_at)
        return Candidate(fresh, kept, chosen.snapshot is not None, changed)

    def _read_snapshot(self, file: FeedFile, path: Path, head: Head) -> Generation:
        generation = open_snapshot(path)
        said = (self._gate.feed, head.registry_id, head.session, file.serial, file.digest)
        found = (
            generation.feed,
            generation.registry_id,
            generation.session,
            generation.serial,
            generation.digest,
        )
        if found != said:
            raise Corrupt("header", f"is of {found}; the head said {said}", where=file.name)
        return generation

    def _apply(
        self, generation: Generation | None, file: FeedFile, path: Path, head: Head
    ) -> tuple[Generation, int]:
        if generation is None:
            raise Conflict("a delta needs something to apply to")
        header, change = read_delta(path)
        said = (self._gate.feed, head.registry_id, head.session, generation.serial, file.serial)
        found = (
            header.feed,
            header.registry_id,
            header.session,
            header.from_serial,
            header.to_serial,
        )
        if found != said or header.digest_before != generation.digest:
            raise Corrupt("header", f"is of {found}; expected {said}", where=file.name)
        digest = str(Digest.parse(generation.digest) + of_delta(change))
        if not digest == file.digest == header.digest_after:
            raise Corrupt("digest", f"leads to {digest}, not to {file.digest}", where=file.name)
        applied = delta.apply(
            generation, change, serial=file.serial, made_at=head.made_at, digest=digest
        )
        return applied, len(change)

    def _give_up(self, file: FeedFile, path: Path, error: EirError) -> None:
        self._memory = replace(self._memory, failed=self._memory.failed | {file.sha256})
        self._gate.keeping.remember(self._memory)
        path.unlink(missing_ok=True)

    def _seen(self, chosen: Plan) -> dict[Serial, str]:
        """Digests passed since the last snapshot, this run's included."""
        seen = {} if chosen.snapshot else dict(self._memory.seen)
        return seen | {file.serial: file.digest for file in chosen.files}
