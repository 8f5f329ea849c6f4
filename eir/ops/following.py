"""A node that follows a feed: when to ask, what came of it, and how old the word is.

    wait (pace, or woken) → one run of the gate, in a thread → outcome noted → reached: serves
         ▲                                                                        │
         └────────────────────────────────────────────────────────────────────────┘

Promises that what serves is marked stale once no good head came for too long, and that grace time
moves only with heads whose data serve. Whatever a run ends in, the next one comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Final

from eir.core.delta import between
from eir.core.generation import REGISTRY, Generation
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.errors import Corrupt, EirError, Unavailable
from eir.ops.follow import Follow
from eir.ops.keeping import FeedKeeping
from eir.ops.sync_meters import FeedFigures
from eir.serve.guard import GuardLimits, objection
from eir.store.depot import Depot
from eir.sync.client import Candidate, Gate, Heard, Memory, run
from eir.sync.outcome import SyncOutcome
from eir.sync.pace import Clocks, is_stale, next_wait_s, silence_s
from eir.sync.reader import Patience
from eir.sync.source import open_source

_log = logging.getLogger(__name__)

STATUS: Final = "status"
_REMEMBERED: Final = 20
_CHANCE: Final = random.SystemRandom()

Judge = Callable[[Generation | None, Candidate], str]
Advance = Callable[[str, int, int], None]


class Following:
    """One feed, followed on one event loop."""

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
        self.keeping = FeedKeeping(depot, REGISTRY, follow.keep)
        self.outcomes: deque[tuple[int, SyncOutcome]] = deque(maxlen=_REMEMBERED)
        self._follow = follow
        self._judge = judge
        self._serve = serve
        self._clock = clock
        self._woken = asyncio.Event()
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
        self._reached = await asyncio.to_thread(reached_in, self.keeping.depot)
        source = open_source(self._follow.address, Patience())
        loop = asyncio.get_running_loop()
        gate = Gate(
            feed=REGISTRY,
            registry_id=self._follow.registry_id,
            roots=(self._follow.root,),
            source=source,
            keeping=self.keeping,
            judge=self._judge,
            publish=lambda _: asyncio.run_coroutine_threadsafe(self._serve(), loop).result(),
            renew=self._renew,
            bounds=self._follow.bounds,
            clock=self._clock,
        )
        while True:
            if self.keeping.detached():
                await self._wait(self._follow.pace.every_s)
                continue
            served = (self._renewed, self.stale)
            self._reached = self._over_newest_base()
            outcome, self._reached = await asyncio.to_thread(run, gate, self._reached)
            self._note(outcome)
            if (self._renewed, self.stale) != served:
                await self._serve_anew()
            wait = next_wait_s(self._follow.pace, failures=self._failures, chance=_CHANCE.random())
            self._write_status(wait)
            await self._wait(wait)

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
    def stale(self) -> bool:
        """Whether no good head came for too long."""
        return is_stale(self._follow.pace, self._silence_s())

    def figures(self) -> FeedFigures:
        """How it goes, for whoever watches from another thread."""
        at, last = self.outcomes[-1] if self.outcomes else (0, None)
        keeping, pinned, memory, reached = self.keeping, self.keeping.pinned(), Memory(), 0
        with contextlib.suppress(Corrupt):  # the runs say so
            memory = keeping.memory()
            kept = keeping.reached()
            reached = kept[1] if kept else 0
        return FeedFigures(
            feed=REGISTRY,
            reached=reached,
            served=pinned or reached,
            head=memory.highest.serial if memory.highest else 0,
            age_s=self._silence_s() if self._renewed[2] else None,
            stale=self.stale,
            held=memory.waiting is not None,
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
        if (pinned := self.keeping.pinned()) is not None:
            alarms.append(f"pinned to serial {pinned}: newer data do not serve until released")
        if self.stale:
            alarms.append("stale: no good head of the feed for too long")
        if self.outcomes and self.outcomes[-1][1].alarm:
            alarms.append(f"sync: {self.outcomes[-1][1].line()}")
        return alarms

    def _renew(self, made_at: int) -> None:
        reached = self.keeping.reached()
        now = self._now()
        if reached is not None and (*reached, made_at) != self._renewed:
            self._renewed, self._heard_at = (*reached, made_at), now

    def _now(self) -> Clocks:
        return Clocks(self._clock(), time.monotonic())

    def _note(self, outcome: SyncOutcome) -> None:
        self._failures = 0 if outcome.good or outcome.kind == "held" else self._failures + 1
        self.outcomes.append((int(self._clock()), outcome))
        self._runs[outcome.kind, outcome.reason] += 1
        self._fetched_bytes += outcome.fetched_bytes
        level = logging.ERROR if outcome.alarm else logging.INFO
        quiet = outcome.kind == "up-to-date"
        _log.log(logging.DEBUG if quiet else level, "sync: %s", outcome.line())

    def _write_status(self, wait: float) -> None:
        """For `eir sync status`: not durable, it tells of this process."""
        fields = {
            "next": int(self._clock() + wait),
            "stale": self.stale,
            "made_at": self._renewed[2],
            "outcomes": [[at, asdict(outcome)] for at, outcome in self.outcomes],
        }
        try:
            self.keeping.depot.write_note(REGISTRY, STATUS, json.dumps(fields).encode())
        except OSError as error:
            _log.warning("the status of the feed can't be written: %s", error)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), seconds)
        except TimeoutError:
            return
        self._woken.clear()
        await asyncio.to_thread(self.keeping.weigh_again)


def judge_by(
    limits: Callable[[], GuardLimits],
    beside: Callable[[], tuple[Generation | None, Policy]],
    *,
    grace_lag: int,
    clock: Callable[[], float] = time.time,
) -> Judge:
    """The guard of a registry feed; ``beside``: the operator's data and the policy in force."""

    def judge(old: Generation | None, candidate: Candidate) -> str:
        operator, policy = beside()
        new = candidate.generation
        before = Tables(old, operator, policy) if old is not None else None
        steps = (between(old, new),) if old is not None and candidate.base else candidate.steps
        now = int(clock())
        return objection(
            limits(),
            before,
            Tables(new, operator, policy),
            steps,
            now=now,
            grace_time=min(now, new.made_at + grace_lag),
        )

    return judge


def follow_once(
    follow: Follow,
    depot: Depot,
    *,
    judge: Judge,
    advance: Advance,
    forced: bool = False,
    allow_downgrade: bool = False,
) -> SyncOutcome:
    """One run without a node: the depot has what it ends with."""
    keeping = FeedKeeping(depot, REGISTRY, follow.keep)
    keeping.attach()
    gate = Gate(
        feed=REGISTRY,
        registry_id=follow.registry_id,
        roots=(follow.root,),
        source=open_source(follow.address, Patience()),
        keeping=keeping,
        judge=judge,
        publish=lambda _: None,
        renew=lambda _: None,
        heard=Heard(),
        bounds=follow.bounds,
        advance=advance,
    )
    outcome, _ = run(gate, reached_in(depot), forced=forced, allow_downgrade=allow_downgrade)
    return outcome


def reached_in(depot: Depot) -> Generation | None:
    """The newest good registry generation of a depot; None where a snapshot has to come first."""
    try:
        return depot.open_newest(REGISTRY).generation
    except Unavailable:
        return None
    except Corrupt as error:
        _log.error("%s: the feed will bring it again", error)
        return None
