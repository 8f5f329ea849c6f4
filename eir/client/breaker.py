"""The circuit breaker of one node. Pure: time is an argument, in seconds of any steady clock.

closed ── so many failures in a row ──▶ open ── its pause is over, one try ──▶ trying
  ▲                                      ▲                                     │  │
  │                                      └──── it failed: the pause doubles ───┘  │
  └──────────────────────────── any answer ───────────────────────────────────────┘
"""

from __future__ import annotations


class Breaker:
    """Whether a node may be asked.

    ``failures``: how many in a row open it. ``pause``, ``longest_pause``: seconds.
    """

    def __init__(self, *, failures: int, pause: float, longest_pause: float) -> None:
        self._limit = failures
        self._shortest = pause
        self._longest = longest_pause
        self._failures = 0
        self._pause = pause
        self._try_at: float | None = None
        self._trying = False

    @property
    def closed(self) -> bool:
        """The node answers, as far as is known."""
        return self._try_at is None

    def lets(self, now: float) -> bool:
        """Whether a question may go to the node now."""
        return self._try_at is None or (not self._trying and now >= self._try_at)

    def asked(self) -> None:
        """A question went out. While the circuit is open, it is the one try."""
        self._trying = self._try_at is not None

    def answered(self) -> None:
        """An answer came."""
        self._failures, self._try_at, self._trying = 0, None, False
        self._pause = self._shortest

    def failed(self, now: float) -> None:
        """No answer came, or none that can be used."""
        self._failures += 1
        if self._trying:
            self._pause = min(self._pause * 2, self._longest)
        if self._trying or self._failures >= self._limit:
            self._try_at = now + self._pause
        self._trying = False

    def withdrawn(self) -> None:
        """The question was taken back: it says nothing of the node."""
        self._trying = False
