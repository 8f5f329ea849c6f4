"""What serves: one reference, swapped whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from eir.core.tables import Tables
from eir.errors import Unavailable
from eir.serve.control import Control
from eir.serve.counters import Counters
from eir.serve.sighting_ring import Noting


@dataclass(frozen=True, slots=True)
class Serving:
    """The tables, and how far their word reaches in time.

    ``data_time``: made_at of the newest registry head whose data these are (Unix seconds UTC);
    ``grace_lag``: seconds by which grace time may run ahead of it. ``stale``: no good head for too
    long. ``counters``: where its verdicts are counted, since codes mean what the tables say.
    ``control``: what the keeper says between two swaps. ``noting``: where sightings are noted, if
    they are.
    """

    tables: Tables
    data_time: int
    grace_lag: int = 3600
    stale: bool = False
    counters: Counters = field(default_factory=Counters, compare=False, repr=False)
    control: Control = field(default_factory=Control, compare=False, repr=False)
    noting: Noting | None = field(default=None, compare=False, repr=False)

    def grace_time(self, now: int) -> int:
        """The time of rows 12–13: it stands still while the engine cannot hear the registry."""
        return self.control.grace_time(now, self.data_time + self.grace_lag)


class Holder:
    """Holds the one reference. Readers take it once a request and keep what they took.

    Assigning a reference is atomic in CPython, so readers take no lock.
    """

    def __init__(self) -> None:
        self._serving: Serving | None = None
        self._listeners: list[Callable[[Serving | None], None]] = []

    def current(self) -> Serving:
        """What serves now. Raises Unavailable while nothing does."""
        serving = self._serving
        if serving is None:
            raise Unavailable("no generation serves yet")
        return serving

    @property
    def ready(self) -> bool:
        """Whether anything serves."""
        return self._serving is not None

    def swap(self, serving: Serving | None) -> None:
        """Put another value in its place, None to stop serving; then tell the listeners."""
        self._serving = serving
        for listener in self._listeners:
            listener(serving)

    def listen(self, listener: Callable[[Serving | None], None]) -> None:
        """Be told of every swap, in the thread that swaps."""
        self._listeners.append(listener)
