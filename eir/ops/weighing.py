"""What a change of one feed is weighed against, and the judge that a gate asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from eir.core.delta import between
from eir.core.generation import FEEDS, OPERATOR, REGISTRY, Generation
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.ops.keeping import reached_in
from eir.serve.guard import GuardLimits, objection
from eir.store.depot import Depot
from eir.sync.client import Candidate

Judge = Callable[[Generation | None, Candidate], str]


@dataclass(frozen=True, slots=True)
class Footing:
    """What a change is weighed on: (feed, session, serial, digest) that serve, and the rules."""

    feeds: frozenset[tuple[str, str, int, str]]
    policy: Policy
    grace_lag: int


@dataclass(frozen=True, slots=True)
class Beside:
    """What serves while a change is weighed: each feed's data by its name, the policy, and up to
    when the registry was heard (Unix s), beyond which grace time goes on for ``grace_lag`` s.

    ``idle``: nothing ever served, so a feed's first word takes nothing from anybody.
    """

    limits: GuardLimits
    policy: Policy
    generations: Mapping[str, Generation]
    data_time: int
    grace_lag: int
    idle: bool = False

    def in_place(self, feed: str, generation: Generation | None) -> Beside:
        """The same with this in the feed's place, or with nothing there."""
        others = {name: each for name, each in self.generations.items() if name != feed}
        return replace(self, generations=others | ({feed: generation} if generation else {}))

    def tables(self) -> Tables | None:
        """What would serve; None without registry data."""
        registry = self.generations.get(REGISTRY)
        return Tables(registry, self.generations.get(OPERATOR), self.policy) if registry else None

    def footing(self) -> Footing:
        """Names all of it, and keeps none of its memory."""
        feeds = frozenset(
            (each.feed, each.session, each.serial, each.digest)
            for each in self.generations.values()
        )
        return Footing(feeds, self.policy, self.grace_lag)


def beside_in(depot: Depot, limits: GuardLimits, policy: Policy, grace_lag: int) -> Beside:
    """What a change is weighed against while no node runs: what the depot has."""
    kept = {feed: reached for feed in FEEDS if (reached := reached_in(depot, feed)) is not None}
    heard = kept[REGISTRY].made_at if REGISTRY in kept else 0
    return Beside(limits, policy, kept, heard, grace_lag, idle=depot.served.last() is None)


def judge_by(
    beside: Callable[[], Beside],
    clock: Callable[[], float] = time.time,
    *,
    footing: Callable[[str, Footing], None] = lambda feed, footing: None,
) -> Judge:
    """The guard of a feed, whichever it is.

    ``footing`` is told what a feed's change is weighed on: by the time that it would serve, the
    other feed may have moved, too.
    """

    def judge(old: Generation | None, candidate: Candidate) -> str:
        new, said = candidate.generation, beside()
        footing(new.feed, said.in_place(new.feed, old).footing())
        before, after = (said.in_place(new.feed, each).tables() for each in (old, new))
        if after is None:
            return ""
        if old is None and said.idle:
            before = None
        steps = candidate.steps
        if candidate.base:
            steps = (between(old or replace(new, sections={}), new),) if before else ()
        now = int(clock())
        heard = new.made_at if new.feed == REGISTRY else said.data_time
        grace_time = min(now, heard + said.grace_lag)
        return objection(said.limits, before, after, steps, now=now, grace_time=grace_time)

    return judge
