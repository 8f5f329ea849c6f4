"""What one run of the gate did: a value for log, metric, status and test alike.

Holds no secret and no identifier of a device or a person: serials, counts and codes only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OutcomeKind = Literal["up-to-date", "snapshot", "deltas", "held", "refused", "failed"]
"""``held``: complete and checked, and waiting for a person. ``refused``: what came was not
believed. ``failed``: nothing came, or it could not be kept here."""


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """One run: what happened and why, from which serial to which.

    ``reason`` is the code of docs/reasons.md; ``to_serial`` is the serial *reached*, never the one
    promised, and 0 stands for none. ``counts``: items added and removed by section, or of the
    snapshot; sorted by name. ``fetched_bytes`` came over the wire; ``seconds`` on a clock that
    never jumps. ``alarm``: a person has to look.
    """

    kind: OutcomeKind
    reason: str
    session: str = ""
    from_serial: int = 0
    to_serial: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    fetched_bytes: int = 0
    seconds: float = 0.0
    detail: str = ""
    alarm: bool = False

    @property
    def good(self) -> bool:
        """Whether the run ended as it should: nothing to do, or all that was planned is served."""
        return self.kind in ("up-to-date", "snapshot", "deltas")

    def line(self) -> str:
        """One line for people: what, from, to, why."""
        way = f"{self.from_serial} → {self.to_serial}"
        cost = f"{self.fetched_bytes} bytes, {self.seconds:.2f} s"
        words = f"{self.kind} [{self.reason}] serial {way}, {cost}"
        return f"{words}: {self.detail}" if self.detail else words
