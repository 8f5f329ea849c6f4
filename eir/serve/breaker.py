"""The breaker: opens when refusals per minute pass a multiple of their baseline of the last day.

    learning ─ enough minutes known ─▶ watching ─ too many ─▶ open: refusals leave as GREYLISTED
        ▲                                 ▲                      │
        └── policy refuses nobody now     └───── a person resets ┘

Sans-IO: the time and the counts are arguments; what has to outlive a restart is in the control
page. Open, it learns nothing: a fault must not become the normal. Never closes by itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.core import policy
from eir.serve.control import RESET_AS_NORMAL, Control

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When it opens: above ``factor`` × the baseline, and at ``least`` refusals a minute or more.

    ``learn_minutes``: it opens for nobody before it has seen so many. ``factor`` 0: never.
    """

    factor: float = 10.0
    least: int = 100
    learn_minutes: int = 60

    def opens_above(self, baseline: float) -> float:
        """More refusals a minute than this are too many."""
        return max(self.factor * baseline, self.least - 1)


@dataclass(frozen=True, slots=True)
class Opened:
    """It has opened: ``rate`` refusals in the last minute, where ``baseline`` were usual."""

    rate: int
    baseline: float


class Breaker:
    """One node's breaker; ``look`` at it about once a second."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._seen: deque[tuple[float, int]] = deque()
        self._minute_began: tuple[float, int] | None = None

    def look(
        self, limits: BreakerLimits, *, now: int, steady_s: float, refused: int, refusing: bool
    ) -> Opened | None:
        """Take in how many were refused so far; Opened in the moment when it opens.

        ``refused`` never falls, and counts who would have been but for this breaker. ``refusing``:
        whether the policy refuses anybody, for else there is nothing to learn. ``now``: Unix s.
        """
        control = self._control
        said = control.heard()
        if said:
            if said == RESET_AS_NORMAL:
                control.take_as_normal(control.rate)
            self._seen.clear()
        self._seen.append((steady_s, refused))
        while len(self._seen) > 1 and self._seen[1][0] <= steady_s - _MINUTE_S:
            self._seen.popleft()
        control.rate = refused - self._seen[0][1]
        baseline = control.baseline
        ready = limits.factor > 0 and control.known_minutes >= limits.learn_minutes
        opens = ready and not control.open_since and control.rate > limits.opens_above(baseline)
        if opens:
            control.open_breaker(now)
        self._learn(steady_s, refused, refusing=refusing)
        return Opened(control.rate, baseline) if opens else None

    def _learn(self, steady_s: float, refused: int, *, refusing: bool) -> None:
        """A minute that was open or without refusals, even in part, teaches nothing."""
        if self._control.open_since or not refusing:
            self._minute_began = None
            return
        if self._minute_began is None:
            self._minute_began = (steady_s, refused)
        began, before = self._minute_began
        if steady_s - began >= _MINUTE_S:
            self._control.learn(round((refused - before) * _MINUTE_S / (steady_s - began)))
            self._minute_began = (steady_s, refused)


def spare(rows: NDArray[np.uint8], counts: NDArray[np.uint64]) -> None:
    """Have refusals leave as GREYLISTED: ``rows`` uint8[n, 4] as of core.tables.Verdicts.

    ``counts`` uint64[CODES, 5], of this batch alone, is put right; its column 0 says how many.
    """
    refused = rows[:, 0] >= policy.BLACKLISTED
    rows[refused, 0] = policy.GREYLISTED
    spared = counts[:, policy.BLACKLISTED :].sum(axis=1)
    counts[:, policy.GREYLISTED] += spared
    counts[:, policy.BLACKLISTED :] = 0
    counts[:, 0] += spared
