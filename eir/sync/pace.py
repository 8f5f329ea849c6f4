"""When to ask again, and when silence has lasted too long. Pure: clocks and chance are arguments.

         poll due                 good outcome: ``every_s`` ± jitter
    waiting ────────> running ───────────────────────────────────────> waiting
       ^                 │
       └─────────────────┘ bad outcome: backoff, doubling to ``backoff_max_s``

Jitter spreads the nodes that follow one feed, so that a publication is not a stampede. Staleness is
judged on two clocks, and the worse counts: a wall clock that was set back cannot hide a silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eir.errors import Refused

_MAX_DOUBLINGS: Final = 32


@dataclass(frozen=True, slots=True)
class Pace:
    """The timers of one feed, in seconds.

    ``jitter`` is the share of ``every_s`` by which a poll may come early or late. Raises Refused
    ``config-pace`` for timers that contradict each other.
    """

    every_s: float = 60.0
    jitter: float = 0.1
    backoff_first_s: float = 5.0
    backoff_max_s: float = 600.0
    stale_after_s: float = 3_600.0
    max_clock_step_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.every_s <= 86_400:
            raise Refused("config-pace", "from 0.1 s to a day", where="every")
        if not 0 <= self.jitter <= 0.5:
            raise Refused("config-pace", "from 0 to 0.5", where="jitter")
        if not 0 < self.backoff_first_s <= self.backoff_max_s:
            raise Refused("config-pace", "the first wait is more than the longest", where="backoff")
        if not self.stale_after_s >= 2 * self.every_s:
            raise Refused(
                "config-pace", "shorter than two polls: every node would be stale", where="stale"
            )


@dataclass(frozen=True, slots=True)
class Clocks:
    """One reading of both clocks: ``wall_s`` (Unix seconds UTC) and ``steady_s`` (never jumps)."""

    wall_s: float
    steady_s: float


def next_wait_s(pace: Pace, *, failures: int, chance: float) -> float:
    """Seconds until the next poll, after ``failures`` bad outcomes in a row.

    ``chance`` is uniform in [0, 1). A bad outcome waits half of its backoff surely and the other
    half by chance.
    """
    if failures == 0:
        return pace.every_s * (1 + pace.jitter * (2 * chance - 1))
    ceiling = pace.backoff_first_s * (1 << min(failures - 1, _MAX_DOUBLINGS))
    return min(ceiling, pace.backoff_max_s) * (1 + chance) / 2


def silence_s(*, made_at: int, heard: Clocks | None, now: Clocks) -> float:
    """Seconds since the registry was last heard: the worse of what the two clocks say.

    ``made_at`` is of the newest believed head whose data is held; ``heard``, when this engine first
    saw that head, None if that was before it started. A head from the future counts as made now.
    """
    by_wall = max(0.0, now.wall_s - made_at)
    return by_wall if heard is None else max(by_wall, now.steady_s - heard.steady_s)


def is_stale(pace: Pace, silence: float) -> bool:
    """Whether ``silence`` seconds are too many: answer on, mark it, and let grace time stand."""
    return silence > pace.stale_after_s


def clock_step_s(before: Clocks, now: Clocks) -> float:
    """By how much the wall clock was set since ``before``: positive forward, negative back."""
    return (now.wall_s - before.wall_s) - (now.steady_s - before.steady_s)


def has_jumped(pace: Pace, before: Clocks, now: Clocks) -> bool:
    """Whether the wall clock was set by more than the pace allows between two readings."""
    return abs(clock_step_s(before, now)) > pace.max_clock_step_s
