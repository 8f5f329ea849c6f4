"""Take what serves once, decide, count. The one way from a door to a verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eir.core import policy
from eir.core.explanation import Explanation, explain
from eir.serve.breaker import spare
from eir.serve.counters import DOORS
from eir.serve.holder import Holder

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Answer:
    """One batch of n, decided on exactly one generation.

    ``status``, ``decided`` (before mode and holds), ``code``: uint8[n]; ``reason``: uint16[n],
    named by ``reason_names``; ``valid_until``: int64[n], Unix seconds UTC, 0 = none.
    """

    status: NDArray[np.uint8]
    decided: NDArray[np.uint8]
    code: NDArray[np.uint8]
    reason: NDArray[np.uint16]
    valid_until: NDArray[np.int64]
    registry_serial: int
    operator_serial: int
    stale: bool
    reason_names: Mapping[int, str]


class Checker:
    """Decides batches on whatever the holder holds, and counts them there, as of one door.

    Doors may ask from several threads: one batch is decided at a time, so that counts are whole.
    """

    def __init__(
        self,
        holder: Holder,
        clock: Callable[[], float] = time.time,
        *,
        door: str = DOORS[0],
        deciding: threading.Lock | None = None,
    ) -> None:
        self._holder = holder
        self._clock = clock
        self._door = DOORS.index(door)
        self._deciding = deciding or threading.Lock()

    def through(self, door: str) -> Checker:
        """The same for another of DOORS."""
        return Checker(self._holder, self._clock, door=door, deciding=self._deciding)

    @property
    def ready(self) -> bool:
        """Whether a generation serves."""
        return self._holder.ready

    def check(self, imei: U64, msisdn: U64, imsi: U64) -> Answer:
        """Verdicts of n queries, each uint64[n]: key (0 = malformed), number, IMSI code (0 = none).

        Raises Unavailable while no generation serves.
        """
        with self._deciding:
            serving = self._holder.current()
            tables, counters = serving.tables, serving.counters
            now = int(self._clock())
            begun = time.perf_counter_ns()
            counts = counters.by_door[self._door]
            spared = np.zeros_like(counts) if serving.control.open_since else None
            verdicts = tables.check(
                imei,
                msisdn,
                imsi,
                now=now,
                grace_time=serving.grace_time(now),
                counts=counts if spared is None else spared,
            )
            if spared is not None:
                spare(verdicts.rows, spared)
                counts += spared
            if serving.noting is not None:
                serving.noting.note(verdicts.rows, imei, msisdn, imsi, now)
            counters.decided(time.perf_counter_ns() - begun)
        status, decided, code, _ = verdicts.rows.T.copy()
        return Answer(
            status=status,
            decided=decided,
            code=code,
            reason=tables.reasons.take(code),
            valid_until=verdicts.valid_until,
            registry_serial=tables.registry.serial,
            operator_serial=tables.operator.serial if tables.operator else 0,
            stale=serving.stale,
            reason_names=tables.reason_names,
        )

    def explain(self, imei: int, msisdn: int, imsi: int) -> Explanation:
        """One verdict with every rule tried. Raises Unavailable while no generation serves."""
        serving = self._holder.current()
        now = int(self._clock())
        explained = explain(
            serving.tables, imei, msisdn, imsi, now=now, grace_time=serving.grace_time(now)
        )
        if serving.control.open_since and explained.status >= policy.BLACKLISTED:
            return replace(explained, status=policy.Status.GREYLISTED, changed_by="breaker")
        return explained
