"""The clock, watched: when it jumps, grace time stands still until the jump is settled.

    moving ─ the wall clock was set, the steady one was not ─▶ standing
       ▲                                                          │
       └─ it was set right again, or a fresh head confirms it, ◀──┘
          or a person says so

Sans-IO: readings are arguments. What it knows stands in the control page, so that a keeper which is
killed, or starts again after a jump, goes on with it. Between two looks grace time may run on for
LEASE_S at most: whoever sets the clock forward cuts nobody before the next look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from eir.serve.control import Control
from eir.sync.pace import Clocks, Pace, clock_step_s, has_jumped

LEASE_S: Final = 10

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """``by_s``: how far the clock jumped, positive forward; 0 where it was settled."""

    kind: Literal["jumped", "set-right", "confirmed", "settled"]
    by_s: int = 0


class ClockWatch:
    """One node's clock; ``look`` at it about once a second."""

    def __init__(self, control: Control, pace: Pace | None = None) -> None:
        self._control = control
        self._pace = pace or Pace()
        self._standing = control.grace_stands_at != 0
        self._heard: int | None = None

    def look(self, now: Clocks, boot: int, *, reach: int, made_at: int = 0) -> ClockEvent | None:
        """Compare this reading with the last one; what came of it, None: nothing new.

        ``boot``: since when the steady clock counts, as a number. ``reach``: as far as the data let
        grace time go (Unix s). ``made_at``: of the newest head that was heard, 0 = none.
        """
        control = self._control
        *read, then = control.looked_at
        before = Clocks(*read)
        event: ClockEvent | None = None
        if self._standing:
            event = self._settled(before, now, same_boot=boot == then, made_at=made_at)
            if event is None:
                return None
            control.move_on()
            self._standing = False
        elif (by_s := self._jump(before, now, same_boot=boot == then)) != 0:
            control.stand_still(min(int(before.wall_s), reach), jumped_by=by_s)
            self._standing, self._heard = True, made_at
            return ClockEvent("jumped", by_s)
        control.look_at(now.wall_s, now.steady_s, boot)
        control.let_move_until(int(now.wall_s) + LEASE_S)
        return event

    def _jump(self, before: Clocks, now: Clocks, *, same_boot: bool) -> int:
        """Seconds; over a boot of the machine only a way back can be told from time passing."""
        if before.wall_s == 0:
            return 0
        if same_boot:
            return round(clock_step_s(before, now)) if has_jumped(self._pace, before, now) else 0
        back = now.wall_s - before.wall_s
        return round(back) if back < -self._pace.max_clock_step_s else 0

    def _settled(
        self, before: Clocks, now: Clocks, *, same_boot: bool, made_at: int
    ) -> ClockEvent | None:
        if self._control.grace_stands_at == 0:
            return ClockEvent("settled")
        if same_boot and not has_jumped(self._pace, before, now):
            return ClockEvent("set-right")
        heard, self._heard = self._heard, made_at
        fresh = abs(now.wall_s - made_at) <= self._pace.max_clock_step_s
        if heard is not None and made_at != heard and fresh:
            return ClockEvent("confirmed")
        return None


def this_boot() -> int:
    """A number that another boot of the machine would not have; 0 where it can't be told."""
    try:
        return int(_BOOT_ID.read_text("ascii").replace("-", "")[:15], 16)
    except (OSError, ValueError):
        return 0
