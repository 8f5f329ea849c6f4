"""The control page: a few words that the keeper writes and every worker reads at its next batch.

    depot/control    0600, mapped by keeper and workers alike; it outlives both

    word  0   which layout this is
          1   the breaker is open since (Unix s; 0: it is not)
          2   what was said to the breaker: RESET or RESET_AS_NORMAL, until it has heard
          3   grace time stands at (Unix s; 0: it moves)
          4   by how much the clock had jumped then (s; positive: forward)
          5   as far as this grace time may move (Unix s; 0: no keeper has said)
          6–8 both clocks as they were last looked at (ms), and in which boot of the machine
          9   refusals of the last minute, also those that the breaker has let through
         10   how many minutes the baseline knows, at most MINUTES
         11   where the next of them goes
    16 …      refusals of each of these minutes

Every word is aligned and written whole, so that a reader needs no lock and sees the old or the
new. The file is never cut short: whoever has it mapped would die.
"""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

NAME: Final = "control"
"""The page's file in the depot."""

MINUTES: Final = 1_440
"""How far back the breaker's baseline reaches."""

RESET: Final = 1
RESET_AS_NORMAL: Final = 2

_LAYOUT: Final = 0x0001_5249_45
_OPEN_SINCE, _SAID, _STANDS_AT, _JUMPED_BY, _LEASE = 1, 2, 3, 4, 5
_WALL, _STEADY, _BOOT = 6, 7, 8
_RATE, _KNOWN, _NEXT = 9, 10, 11
_HEAD = 16
_BYTES = 8 * (_HEAD + MINUTES)


class Control:
    """The page, over a mapped file, else over memory of this process alone."""

    __slots__ = ("_words", "minutes")

    def __init__(self, memory: bytearray | mmap.mmap | None = None) -> None:
        """Memory that is not laid out so begins anew, with nothing said."""
        memory = memory if memory is not None else bytearray(_BYTES)
        self._words = memoryview(memory).cast("q")
        self.minutes: NDArray[np.int64] = np.frombuffer(memory, np.int64)[_HEAD:]
        if self._words[0] != _LAYOUT:
            for place in range(len(self._words)):
                self._words[place] = 0
            self._words[0] = _LAYOUT

    @property
    def open_since(self) -> int:
        """When the breaker opened (Unix s), so that refusals leave as GREYLISTED; 0: it did not."""
        return self._words[_OPEN_SINCE]

    def open_breaker(self, now: int) -> None:
        """From the next batch on nobody is refused."""
        self._words[_OPEN_SINCE] = now

    def reset_breaker(self, said: int) -> None:
        """From the next batch on refusals are refusals again; ``said`` is for the breaker."""
        self._words[_SAID] = said
        self._words[_OPEN_SINCE] = 0

    def heard(self) -> int:
        """What was said to the breaker since it last asked; 0: nothing."""
        said = self._words[_SAID]
        self._words[_SAID] = 0
        return said

    def grace_time(self, now: int, reach: int) -> int:
        """The time of rows 12–13 (Unix s): at most ``reach``, which is as far as the data go.

        It stands still where it was told to, and wherever no keeper has looked at the clock lately.
        """
        stands, lease = self._words[_STANDS_AT], self._words[_LEASE]
        if stands:
            return min(stands, reach)
        return min(now, reach, lease) if lease else min(now, reach)

    @property
    def grace_stands_at(self) -> int:
        """Where grace time stands (Unix s); 0: it moves."""
        return self._words[_STANDS_AT]

    @property
    def jumped_by(self) -> int:
        """By how many seconds the clock had jumped when grace time came to stand."""
        return self._words[_JUMPED_BY]

    def stand_still(self, at: int, *, jumped_by: int) -> None:
        """Grace time stands at ``at`` (Unix s) until ``move_on``."""
        self._words[_JUMPED_BY] = jumped_by
        self._words[_STANDS_AT] = at

    def move_on(self) -> None:
        """Grace time moves again; what the clocks were before the jump is forgotten."""
        self.look_at(0.0, 0.0, 0)
        self._words[_STANDS_AT] = 0

    def let_move_until(self, until: int) -> None:
        """Grace time may move as far as this (Unix s)."""
        self._words[_LEASE] = until

    @property
    def looked_at(self) -> tuple[float, float, int]:
        """Both clocks (s) and the boot as they were last looked at; zeros: never."""
        words = self._words
        return words[_WALL] / 1e3, words[_STEADY] / 1e3, words[_BOOT]

    def look_at(self, wall_s: float, steady_s: float, boot: int) -> None:
        """Take note of both clocks."""
        self._words[_WALL], self._words[_STEADY] = int(wall_s * 1e3), int(steady_s * 1e3)
        self._words[_BOOT] = boot

    @property
    def rate(self) -> int:
        """Refusals of the last minute."""
        return self._words[_RATE]

    @rate.setter
    def rate(self, refusals: int) -> None:
        self._words[_RATE] = refusals

    @property
    def known_minutes(self) -> int:
        """How many minutes the baseline knows."""
        return min(self._words[_KNOWN], MINUTES)

    def learn(self, refusals: int) -> None:
        """One more minute with so many refusals; the oldest of a day is forgotten."""
        place = self._words[_NEXT] % MINUTES
        self.minutes[place] = refusals
        self._words[_NEXT] = (place + 1) % MINUTES
        self._words[_KNOWN] = min(self._words[_KNOWN] + 1, MINUTES)

    def take_as_normal(self, refusals: int) -> None:
        """As if no minute that is known had had fewer."""
        known = self.minutes[: self.known_minutes]
        np.maximum(known, refusals, out=known)

    @property
    def baseline(self) -> float:
        """Refusals a minute over the last day, as far as it is known; 0.0 where nothing is."""
        known = self.known_minutes
        return float(self.minutes[:known].mean()) if known else 0.0


def open_control(path: Path) -> Control:
    """The page in this file, which is made where there is none or another's.

    Raises OSError where it can't be.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        file = _made(path)
    if os.fstat(file).st_size != _BYTES:
        os.close(file)
        file = _made(path)
    try:
        return Control(mmap.mmap(file, _BYTES))
    finally:
        os.close(file)


def _made(path: Path) -> int:
    """A page of zeros under the path, whole or not at all."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.posix_fallocate(file, 0, _BYTES)
    os.replace(aside, path)
    return file
