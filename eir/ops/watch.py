"""What the keeper looks at once a second: the clock, and how many are refused.

What comes of it stands in the control page, which every worker reads at its next batch; in the
log; and in the depot's events. Decides nothing about a device.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eir.ops import chronicle
from eir.ops.chronicle import utc
from eir.ops.clock_watch import ClockEvent, ClockWatch, this_boot
from eir.serve import control as page
from eir.serve.breaker import Breaker, BreakerLimits
from eir.serve.control import Control
from eir.sync.pace import Clocks

_log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The node as it stands at a look.

    ``refused``: as Breaker has it. ``reach``: as far as the data let grace time go, None where
    nothing serves. ``made_at``: of the newest head heard, 0 = none.
    """

    refused: int
    refusing: bool
    reach: int | None
    made_at: int


@dataclass(frozen=True, slots=True)
class WatchFigures:
    """What is told of it: times in Unix s, 0 = none; ``rate`` and ``baseline`` a minute."""

    open_since: int
    rate: int
    baseline: float
    clock_jumped: bool


class Watch:
    """One node's. ``run`` lasts for good; ``look`` is one look."""

    def __init__(
        self,
        depot: Path,
        *,
        limits: Callable[[], BreakerLimits],
        read: Callable[[], Reading],
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        """Raises OSError where the control page can't be made."""
        self.control: Control = page.open_control(depot / page.NAME)
        self._depot = depot
        self._limits = limits
        self._read = read
        self._clock = clock
        self._steady = steady
        self._boot = this_boot()
        self._breaker = Breaker(self.control)
        self._clock_watch = ClockWatch(self.control)

    async def run(self) -> None:
        """Look for good."""
        while True:
            self.look()
            await asyncio.sleep(_EVERY_S)

    def look(self) -> None:
        """Once, now."""
        now, reading = Clocks(self._clock(), self._steady()), self._read()
        reach = int(now.wall_s) if reading.reach is None else reading.reach
        event = self._clock_watch.look(now, self._boot, reach=reach, made_at=reading.made_at)
        if event is not None:
            self._tell_clock(event)
        opened = self._breaker.look(
            self._limits(),
            now=int(now.wall_s),
            steady_s=now.steady_s,
            refused=reading.refused,
            refusing=reading.refusing,
        )
        if opened is not None:
            detail = f"{opened.rate} refused in a minute, {opened.baseline:.1f} are usual"
            _log.error("the breaker is open, nobody is refused: %s", detail)
            self._write_down("breaker-opened", detail)

    def figures(self) -> WatchFigures:
        """How it stands."""
        control = self.control
        return WatchFigures(
            open_since=control.open_since,
            rate=control.rate,
            baseline=control.baseline,
            clock_jumped=control.grace_stands_at != 0,
        )

    def alarms(self) -> list[str]:
        """What a person has to look at, one line each."""
        control, alarms = self.control, []
        if control.open_since:
            alarms.append(
                f"the breaker is open since {utc(control.open_since)}: refusals leave as"
                " GREYLISTED until `eir breaker reset`"
            )
        if control.grace_stands_at:
            alarms.append(
                f"the clock jumped by {control.jumped_by:+} s: grace time stands still at"
                f" {utc(control.grace_stands_at)} until the clock is right, a fresh head"
                " confirms it, or `eir clock settle`"
            )
        return alarms

    def _tell_clock(self, event: ClockEvent) -> None:
        if event.kind == "jumped":
            detail = f"by {event.by_s:+} s"
            _log.error("the clock jumped %s: grace time stands still", detail)
            self._write_down("clock-jumped", detail)
            return
        _log.warning("the clock is good again (%s): grace time moves", event.kind)
        if event.kind != "settled":  # whoever settled it has written it down
            self._write_down(f"clock-{event.kind}")

    def _write_down(self, what: str, detail: str = "") -> None:
        try:
            chronicle.write_down(self._depot, what, detail=detail)
        except OSError as error:
            _log.warning("%s can't be written down: %s", what, error)
