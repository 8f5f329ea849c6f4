"""When overlays have grown: a process of its own writes the next base, and the depot takes it.

    small ── grown ──▶ writing ── digest is the pinned one ──▶ durable ──▶ served, small again
      ▲                   │ │
      │   base changed ◀──┘ └─▶ failed: alarm, and a pause that doubles
      └───────┴───────────────────────────┘

Pinned at (session, serial, digest) of what serves when it begins. Deltas that come meanwhile go on
from the new base; another session, a snapshot or a rollback ends the process and discards what it
wrote. Never changes what is answered: base and overlay move as one, and both say the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from eir.core.generation import FEEDS, Generation
from eir.errors import Conflict, Corrupt, EirError, Refused
from eir.feed.codec import SnapshotFacts, SnapshotHead
from eir.ops.compactor import ONE_THREAD, Order, Told
from eir.store.depot import Depot, Opened

_log = logging.getLogger(__name__)

LEAST_TOUCHED_KEYS: Final = 10_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 300.0, 6 * 3_600.0
_LOOK_EVERY_S = 60.0
_REMEMBERED_CHARS = 2_000

Kind = Literal["done", "overtaken", "failed"]


@dataclass(frozen=True, slots=True)
class CompactionLimits:
    """When a base is due: so many touched keys, or this share of the base's items, whichever is
    less (``least_touched_keys`` at the least), or so many deltas behind it.
    """

    max_touched_keys: int = 4_000_000
    max_touched_share: float = 0.05
    max_deltas: int = 1_000
    least_touched_keys: int = LEAST_TOUCHED_KEYS


@dataclass(frozen=True, slots=True)
class CompactionOutcome:
    """One attempt: ``at`` when it ended, Unix s; ``reason`` as in docs/reasons.md, "" if done."""

    kind: Kind
    feed: str
    serial: int
    at: int = 0
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    size: int = 0
    peak_bytes: int = 0

    def line(self) -> str:
        """One line for people."""
        words = f"{self.feed} serial {self.serial}: {self.kind}"
        if self.kind == "done":
            cost = f"{self.seconds:.1f} s, {self.size:,} bytes, {self.peak_bytes:,} bytes at most"
            return f"{words} in {cost} of memory"
        return f"{words} [{self.reason}] {self.detail}"


@dataclass(slots=True)
class CompactionState:
    """How one feed stands: ``touched_keys`` of ``due_at_keys``, the ``last`` attempt and the last
    that was ``done``; ``counts`` by outcome since the keeper started.
    """

    touched_keys: int = 0
    due_at_keys: int = 0
    deltas: int = 0
    running: bool = False
    counts: dict[str, int] = field(default_factory=lambda: {"done": 0, "overtaken": 0, "failed": 0})
    last: CompactionOutcome | None = None
    done: CompactionOutcome | None = None
    failures: int = 0
    not_before: float = 0.0


class Compaction:
    """The compaction of both feeds, one at a time, on the keeper's event loop."""

    def __init__(
        self,
        depot: Depot,
        *,
        bounds: Callable[[], CompactionLimits],
        served: Callable[[str], Opened | None],
        pinned: Callable[[str], bool],
        keep: Callable[[str], int],
        serve: Callable[[str], Coroutine[object, object, None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``served``: what serves of a feed; ``pinned``: whether it was rolled back; ``keep``: how
        many bases are kept of it; ``serve``: have the node serve what the depot has of it by now.
        """
        self._depot = depot
        self._bounds = bounds
        self._served = served
        self._pinned = pinned
        self._keep = keep
        self._serve = serve
        self._clock = clock
        self._changed = asyncio.Event()
        self.states: Mapping[str, CompactionState] = {feed: CompactionState() for feed in FEEDS}

    async def run(self) -> None:
        """Look after what serves, for good. Cancelled, it ends the process that writes."""
        while True:
            self._changed.clear()
            for feed in FEEDS:
                opened = self._served(feed)
                self._measure(feed, opened)
                if opened is not None and self._is_due(feed):
                    await self._attempt(feed, opened)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_EVERY_S)

    def wake(self) -> None:
        """What serves has changed."""
        self._changed.set()

    def alarms(self) -> list[str]:
        """What a person has to look at, one line each."""
        lasts = [state.last for state in self.states.values()]
        return [f"compaction: {last.line()}" for last in lasts if last and last.kind == "failed"]

    def _measure(self, feed: str, opened: Opened | None) -> None:
        state = self.states[feed]
        state.touched_keys, state.deltas = 0, 0
        if opened is None:
            return
        generation = opened.generation
        state.touched_keys = touched_keys(generation)
        state.deltas = generation.serial - opened.base.serial
        state.due_at_keys = due_at_keys(self._bounds(), opened.base)

    def _is_due(self, feed: str) -> bool:
        state = self.states[feed]
        if self._pinned(feed) or time.monotonic() < state.not_before:
            return False
        grown = state.touched_keys >= state.due_at_keys
        return state.deltas > 0 and (grown or state.deltas >= self._bounds().max_deltas)

    async def _attempt(self, feed: str, opened: Opened) -> None:
        state, begun = self.states[feed], time.monotonic()
        state.running = True
        try:
            outcome = await self._compact(feed, opened, begun)
        finally:
            state.running = False
        state.counts[outcome.kind] += 1
        state.last = outcome
        state.done = outcome if outcome.kind == "done" else state.done
        state.failures = state.failures + 1 if outcome.kind == "failed" else 0
        state.not_before = time.monotonic() + pause_s(state.failures)
        level = logging.ERROR if outcome.kind == "failed" else logging.INFO
        _log.log(level, "compaction: %s", outcome.line())
        self._measure(feed, self._served(feed))

    async def _compact(self, feed: str, opened: Opened, begun: float) -> CompactionOutcome:
        serial = opened.generation.serial

        def ended(kind: Kind, reason: str = "", detail: str = "") -> CompactionOutcome:
            seconds = time.monotonic() - begun
            return CompactionOutcome(
                kind, feed, serial, int(self._clock()), reason, detail, seconds
            )

        try:
            path = self._depot.new_path()
        except OSError as fault:
            return ended("failed", "disk-error", str(fault))
        try:
            told = await self._written(feed, opened, path)
            if told is None:
                return ended("overtaken", "compaction-overtaken", "what served was replaced")
            if told.reason:
                return ended("failed", told.reason, told.detail)
            await asyncio.to_thread(self._adopt, feed, opened, path, told)
            await self._serve(feed)
        except Conflict as overtaken:
            return ended("overtaken", "compaction-overtaken", str(overtaken))
        except OSError as fault:
            return ended("failed", "disk-error", f"{fault.strerror or fault}")
        except Refused as fault:
            return ended("failed", fault.reason, fault.detail)
        except EirError as fault:
            return ended("failed", "compaction-digest", str(fault))
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)
        done = ended("done")
        return CompactionOutcome(
            done.kind, feed, serial, done.at, "", "", done.seconds, told.size, told.peak_bytes
        )

    def _adopt(self, feed: str, opened: Opened, path: Path, told: Told) -> None:
        pinned = opened.generation
        if told.digest != pinned.digest:
            raise Corrupt("digest", f"the next base has {told.digest}, not {pinned.digest}")
        facts = SnapshotFacts(path, told.size, told.sha256, told.digest, {})
        self._depot.adopt_base(facts, _head(pinned), of=opened.kept.file, keep=self._keep(feed))

    async def _written(self, feed: str, opened: Opened, path: Path) -> Told | None:
        """What the process tells; None where what it was to replace does not serve any more."""
        files = (os.dup(opened.file.fileno()), os.dup(opened.chain.fileno()))
        try:
            process = await _started(_order(opened, files, path), files)
        finally:
            for file in files:
                os.close(file)
        telling = asyncio.create_task(process.communicate())
        try:
            while not telling.done():
                changed = asyncio.create_task(self._changed.wait())
                await asyncio.wait((telling, changed), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                self._changed.clear()
                if not self._goes_on(feed, opened):
                    return None
            return _told(process, *telling.result())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(telling)

    def _goes_on(self, feed: str, opened: Opened) -> bool:
        """Whether what serves lies over the base that is being replaced, at its serial or later."""
        now = self._served(feed)
        if now is None or now.file is not opened.file or self._pinned(feed):
            return False
        return now.generation.serial >= opened.generation.serial


def touched_keys(generation: Generation) -> int:
    """Keys that overlays speak for, of all sections together."""
    overlays = [section.overlay for section in generation.sections.values()]
    return sum(overlay.touched.items for overlay in overlays if overlay is not None)


def due_at_keys(bounds: CompactionLimits, base: Generation) -> int:
    """The touched keys at which a base is to be replaced."""
    items = sum(section.items for section in base.sections.values())
    share = int(items * bounds.max_touched_share)
    return min(bounds.max_touched_keys, max(share, bounds.least_touched_keys))


def pause_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    if failures == 0:
        return 0.0
    return min(_FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_S)


def _head(pinned: Generation) -> SnapshotHead:
    return SnapshotHead(
        pinned.feed, pinned.registry_id, pinned.session, pinned.serial, pinned.made_at
    )


def _order(opened: Opened, files: tuple[int, int], path: Path) -> Order:
    head = _head(opened.generation)
    return Order(
        feed=head.feed,
        registry_id=head.registry_id,
        session=head.session,
        serial=head.serial,
        made_at=head.made_at,
        digest=opened.generation.digest,
        base=files[0],
        chain=files[1],
        path=str(path),
        keeper=os.getpid(),
    )


async def _started(order: Order, files: tuple[int, int]) -> Process:
    command = (sys.executable, "-P", "-m", "eir.ops.compactor", json.dumps(asdict(order)))
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        pass_fds=files,
        process_group=0,
        env=os.environ | ONE_THREAD,
    )


def _told(process: Process, said: bytes, complained: bytes) -> Told:
    """The process's own word, or how it ended without one."""
    try:
        return Told(**json.loads(said))
    except (ValueError, TypeError):
        last = complained.decode("utf-8", "replace").strip()[-_REMEMBERED_CHARS:]
        detail = f"the process ended with {process.returncode} and no word. {last}".strip()
        return Told("compaction-ended", detail)
