"""A node that follows a feed: when to ask, what came of it, and how old the word is.

    wait (pace, or woken) → one run of the gate, in a thread → outcome noted → reached: serves
         ▲                                                                        │
         └────────────────────────────────────────────────────────────────────────┘

Promises that what serves is marked stale once no good head came for too long, and that grace time
moves only with heads whose data serve. Whatever a run ends in, the next one comes. Once it is
cancelled no run goes on with a download; one that gets no byte is not waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from typing import Final

from eir.core.generation import REGISTRY, Generation
from eir.errors import Corrupt, EirError, Refused
from eir.ops.chronicle import happenings, utc
from eir.ops.keeping import FeedKeeping, reached_in
from eir.ops.own_feed import has_word, roots_of
from eir.ops.reload_guard import waiting
from eir.ops.settings.follow import Follow
from eir.ops.stopping import SYNCING
from eir.ops.sync_meters import FeedFigures
from eir.ops.weighing import Judge
from eir.serve.courtesy import yield_to_answers
from eir.store.depot import Depot
from eir.sync.client import Gate, Memory, run
from eir.sync.outcome import SyncOutcome
from eir.sync.pace import Clocks, is_stale, next_wait_s, silence_s
from eir.sync.reader import Patience
from eir.sync.source import open_source

_log = logging.getLogger(__name__)

STATUS: Final = "status"
_REMEMBERED: Final = 20
_LOOK_SECONDS: Final = 1.0
_CHANCE: Final = random.SystemRandom()

Advance = Callable[[str, int, int], None]


class Following:
    """One feed, followed on one event loop. Only the registry's age moves what verdicts say."""

    def __init__(
        self,
        follow: Follow,
        depot: Depot,
        *,
        judge: Judge,
        serve: Callable[[], Coroutine[object, object, None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``serve``: have the node serve what the depot has by now, with our times."""
        self.keeping = FeedKeeping(depot, follow.feed, follow.keep)
        self.outcomes: deque[tuple[int, SyncOutcome]] = deque(maxlen=_REMEMBERED)
        self._follow = follow
        self._judge = judge
        self._serve = serve
        self._clock = clock
        self._woken = asyncio.Event()
        self._aside = ThreadPoolExecutor(1, SYNCING, initializer=yield_to_answers)
        self._over = threading.Event()
        self._reached: Generation | None = None
        self._rebased: Generation | None = None
        self._renewed: tuple[str, int, int] = ("", 0, 0)
        self._heard_at: Clocks | None = None
        self._failures = 0
        self._runs: Counter[tuple[str, str]] = Counter()
        self._fetched_bytes = 0
        highest = self.keeping.memory().highest
        if highest is not None:
            self._renewed = (highest.session, highest.serial, highest.made_at)

    async def run(self) -> None:
        """Follow for good. Raises Refused where the feed's address can't be used at all."""
        try:
            await self._run()
        finally:
            self._over.set()
            self._aside.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        depot, feed = self.keeping.depot, self._follow.feed
        self._reached = await asyncio.to_thread(reached_in, depot, feed)
        loop = asyncio.get_running_loop()
        gate: Gate | None = None
        while True:
            if self.keeping.detached() or not await asyncio.to_thread(self._has_word):
                await self._wait(self._follow.pace.every_s)
                continue
            gate = gate or gate_of(
                self._follow,
                self.keeping,
                judge=self._judge,
                publish=partial(self._publish, loop),
                renew=self._renew,
                advance=self._go_on,
                clock=self._clock,
            )
            served = (self._renewed, self.stale)
            self._reached = self._over_newest_base()
            going = loop.run_in_executor(self._aside, run, gate, self._reached)
            outcome, self._reached = await going
            self._note(outcome)
            if self._follow.feed == REGISTRY and (self._renewed, self.stale) != served:
                await self._serve_anew()
            pause = next_wait_s(self._follow.pace, failures=self._failures, chance=_CHANCE.random())
            self._write_status(pause)
            await self._wait(pause)

    def _publish(self, loop: asyncio.AbstractEventLoop, reached: Generation) -> None:
        """Have the loop serve it, and wait; not for one that has ended."""
        serving = asyncio.run_coroutine_threadsafe(self._serve(), loop)
        while not wait((serving,), _LOOK_SECONDS).done:
            if self._over.is_set():
                raise Refused("fetch-cut", f"the node stops, serial {reached.serial} is kept")
        serving.result()

    def _go_on(self, name: str, done: int, size: int) -> None:
        if self._over.is_set():
            raise Refused("fetch-cut", f"the node stops, {done} of {size} bytes came", where=name)

    def _has_word(self) -> bool:
        return has_word(self._follow, self._clock)

    async def _serve_anew(self) -> None:
        try:
            await self._serve()
        except (EirError, OSError) as error:
            _log.error("what the feed says can't be served, the old goes on: %s", error)

    def rebased(self, generation: Generation) -> None:
        """What the depot makes of the newest files: runs go on from it where it is the same."""
        self._rebased = generation

    def _over_newest_base(self) -> Generation | None:
        """What is reached; over a compacted base, so that the old one and its overlay can go."""
        mine, other = self._reached, self._rebased
        self._rebased = None
        if mine is None or other is None:
            return mine
        same = (mine.session, mine.serial, mine.digest) == (
            other.session,
            other.serial,
            other.digest,
        )
        return other if same else mine

    def wake(self) -> None:
        """Ask now, and weigh a held change anew."""
        self._woken.set()

    def data_time(self, served: Generation) -> int:
        """When the registry last said what is served: made_at of the newest such head, Unix s."""
        session, serial, made_at = self._renewed
        same = (session, serial) == (served.session, served.serial)
        return max(made_at, served.made_at) if same else served.made_at

    @property
    def made_at(self) -> int:
        """When the newest good head was made, Unix s; 0: none came yet."""
        return self._renewed[2]

    @property
    def stale(self) -> bool:
        """Whether no good head came for too long."""
        return self.speaks and is_stale(self._follow.pace, self._silence_s())

    @property
    def speaks(self) -> bool:
        """Whether a word is to be expected: the depot's own feed has none until one is given."""
        return bool(self._renewed[2]) or self._follow.desk is None

    def figures(self) -> FeedFigures:
        """How it goes, for whoever watches from another thread."""
        at, last = self.outcomes[-1] if self.outcomes else (0, None)
        keeping, pinned, memory, reached = self.keeping, None, Memory(), 0
        stands = waiting(keeping.depot)
        with contextlib.suppress(Corrupt):  # the runs and alarms say so
            pinned = keeping.pinned()
            memory = keeping.memory()
            kept = keeping.reached()
            reached = kept[1] if kept else 0
        return FeedFigures(
            feed=self._follow.feed,
            reached=reached,
            served=pinned.serial if pinned else reached,
            head=memory.highest.serial if memory.highest else 0,
            age_s=self._silence_s() if self._renewed[2] else None,
            stale=self.stale,
            held=memory.waiting is not None
            or (stands is not None and self._follow.feed in stands.feeds),
            pinned=pinned is not None,
            detached=keeping.detached(),
            runs=dict(self._runs),
            fetched_bytes=self._fetched_bytes,
            last_at=at,
            last_s=last.seconds if last else 0.0,
        )

    def _silence_s(self) -> float:
        made_at, heard = self._renewed[2], self._heard_at
        return silence_s(made_at=made_at, heard=heard, now=self._now())

    def alarms(self) -> list[str]:
        """What a person has to look at, one line each."""
        alarms = []
        if self.keeping.detached():
            alarms.append("detached from the feed by `eir load --detach-feed`")
        try:
            pinned = self.keeping.pinned()
        except Corrupt as damage:
            pinned = None
            alarms.append(f"the pin can't be read, and nothing newer serves: {damage}")
        if pinned is not None:
            acts = happenings(self.keeping.depot.folder, "rolled-back", most=1)
            by = "".join(f" by {act.who} at {utc(act.at)}" for act in acts)
            alarms.append(f"pinned to {pinned}{by}: newer data do not serve until released")
        if self.stale:
            alarms.append("stale: no good head of the feed for too long")
        if self.outcomes and self.outcomes[-1][1].alarm:
            alarms.append(f"sync: {self.outcomes[-1][1].line()}")
        return [self._named(alarm) for alarm in alarms]

    def _named(self, text: str) -> str:
        return text if self._follow.feed == REGISTRY else f"{self._follow.feed} feed, {text}"

    def _renew(self, made_at: int) -> None:
        reached = self.keeping.reached()
        now = self._now()
        if reached is not None and (*reached, made_at) != self._renewed:
            self._renewed, self._heard_at = (*reached, made_at), now

    def _now(self) -> Clocks:
        return Clocks(self._clock(), time.monotonic())

    def _note(self, outcome: SyncOutcome) -> None:
        self._failures = 0 if outcome.good or outcome.kind == "held" else self._failures + 1
        said = self.outcomes[-1][1] if self.outcomes else None
        again = said is not None and (said.kind, said.detail) == (outcome.kind, outcome.detail)
        if said is not None and _same(said, outcome):
            self.outcomes.pop()
        self.outcomes.append((int(self._clock()), outcome))
        self._runs[outcome.kind, outcome.reason] += 1
        self._fetched_bytes += outcome.fetched_bytes
        level = logging.ERROR if outcome.alarm else logging.INFO
        quiet = outcome.kind == "up-to-date" or (outcome.kind == "held" and again)
        text = self._named(f"sync: {outcome.line()}")
        _log.log(logging.DEBUG if quiet else level, "%s", text)

    def _write_status(self, pause: float) -> None:
        """For `eir sync status`: not durable, it tells of this process."""
        fields = {
            "next": int(self._clock() + pause),
            "stale": self.stale,
            "made_at": self._renewed[2],
            "outcomes": [[at, asdict(outcome)] for at, outcome in self.outcomes],
        }
        try:
            self.keeping.depot.write_note(self._follow.feed, STATUS, json.dumps(fields).encode())
        except OSError as error:
            _log.warning("the status of the feed can't be written: %s", error)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return
        self._woken.clear()
        await asyncio.to_thread(self.keeping.weigh_again)


def _same(said: SyncOutcome, outcome: SyncOutcome) -> bool:
    """Whether a run came to what the one before it did: then the latest stands for both, so that
    what happened is not lost among polls.
    """
    fields = (
        (each.kind, each.reason, each.session, each.to_serial, each.detail)
        for each in (said, outcome)
    )
    return outcome.kind not in ("snapshot", "deltas") and len(set(fields)) == 1


def gate_of(
    follow: Follow,
    keeping: FeedKeeping,
    *,
    judge: Judge,
    publish: Callable[[Generation], None] = lambda _: None,
    renew: Callable[[int], None] = lambda _: None,
    advance: Advance = lambda name, done, size: None,
    clock: Callable[[], float] = time.time,
) -> Gate:
    """The gate of a feed into a depot. Raises Refused as ``open_source`` and ``roots_of``."""
    return Gate(
        feed=follow.feed,
        registry_id=follow.registry_id,
        roots=roots_of(follow),
        source=open_source(follow.address, Patience()),
        keeping=keeping,
        judge=judge,
        publish=publish,
        renew=renew,
        bounds=follow.bounds,
        clock=clock,
        advance=advance,
    )


def follow_once(
    follow: Follow,
    depot: Depot,
    *,
    judge: Judge,
    advance: Advance = lambda name, done, size: None,
    forced: bool = False,
    allow_downgrade: bool = False,
) -> SyncOutcome:
    """One run without a node: the depot has what it ends with."""
    keeping = FeedKeeping(depot, follow.feed, follow.keep)
    keeping.attach()
    gate = gate_of(follow, keeping, judge=judge, advance=advance)
    held = reached_in(depot, follow.feed)
    outcome, _ = run(gate, held, forced=forced, allow_downgrade=allow_downgrade)
    return outcome
