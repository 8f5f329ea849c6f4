"""What workers have counted, together: of those that live, and of those that are gone.

Promises that no figure ever falls while the keeper lives, whatever becomes of a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from eir.core.policy import Status
from eir.core.tables import Tables
from eir.serve.counters import DOORS, SPANS, Counters
from eir.serve.events import Key

REFUSING: Final = frozenset({Status.BLACKLISTED.name, Status.UNKNOWN.name})
"""The statuses by which a device is refused."""


class Tally:
    """``checks``: by (door, reason, status); ``events``: by their names.

    ``spans``, ``busy_ns``: of batches, as Counters has them. ``spared``: refusals that the breaker
    has let through; they stand in ``checks`` as GREYLISTED.
    """

    def __init__(self) -> None:
        self.checks: Counter[tuple[str, str, str]] = Counter()
        self.events: Counter[Key] = Counter()
        self.spans = np.zeros(SPANS, np.uint64)
        self.busy_ns = 0
        self.spared = 0

    def add(self, counters: Counters, names: Sequence[str]) -> None:
        """Add what stands in one worker's file; ``names``: what verdict codes mean there."""
        self.spared += int(counters.checks[:, :, 0].sum())
        for door, code, status in np.argwhere(counters.checks):
            if status == 0:
                continue
            key = (DOORS[door], names[code], Status(status).name)
            self.checks[key] += int(counters.checks[door, code, status])
        self.spans += counters.spans
        self.busy_ns += int(counters.busy_ns[0])

    def by_status(self) -> dict[str, int]:
        """Checks by the status that left."""
        total = dict.fromkeys((status.name for status in Status), 0)
        for (_, _, status), times in self.checks.items():
            total[status] += times
        return total

    def copy(self) -> Tally:
        """Another one with the same figures."""
        other = Tally()
        other.checks.update(self.checks)
        other.events.update(self.events)
        other.spans += self.spans
        other.busy_ns = self.busy_ns
        other.spared = self.spared
        return other


def code_names(tables: Tables | None) -> tuple[str, ...]:
    """The reason's name of each verdict code; nothing is counted where nothing serves."""
    if tables is None:
        return ()
    return tuple(tables.reason_names.get(int(number), "") for number in tables.reasons)
