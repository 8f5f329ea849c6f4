"""What a depot keeps of a feed, as values: bases with the deltas since, and which of them stay.

    newest ─▶ base S ─ deltas ─▶ L        serves
              base B ─ deltas ─▶ S        leads on to S: the same session, serial and digest
              base A ─ deltas ─▶ B        …

A delta stands behind the newest base below it. Rows that lead on to each other are one chain:
whatever it passes can be built again, also where a base in the middle is damaged or gone. Pure:
reads no clock, and no file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from eir import limits

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class KeptDelta:
    """A delta that the manifest names: ``file`` in deltas/, leading to serial and digest.

    ``made_at``: Unix seconds UTC, 0 where that is not known.
    """

    file: str
    serial: int
    digest: str
    sha256: str
    size: int
    made_at: int = 0


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that has come or was built, to be kept: what is said of it, and where it lies."""

    path: Path
    serial: int
    digest: str
    sha256: str
    size: int
    made_at: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """One snapshot that the manifest names, and the deltas since.

    ``file``: its name in snapshots/; ``size`` in bytes. ``verified``: the mark of a
    file whose bytes, those of this SHA-256, were verified whole (``vouched``); "" if they were not.
    """

    file: str
    registry_id: str
    session: str
    serial: int
    made_at: int
    digest: str
    sha256: str
    size: int
    deltas: tuple[KeptDelta, ...] = ()
    verified: str = ""

    @property
    def last_serial(self) -> int:
        """The serial that its deltas lead to."""
        return self.deltas[-1].serial if self.deltas else self.serial

    @property
    def last_made_at(self) -> int:
        """When the feed made what its deltas lead to, Unix seconds UTC."""
        return max(self.made_at, self.deltas[-1].made_at) if self.deltas else self.made_at

    @property
    def digests(self) -> dict[int, str]:
        """The digest of each serial that it passes."""
        return {self.serial: self.digest} | {delta.serial: delta.digest for delta in self.deltas}

    def leads_to(self, newer: Kept) -> bool:
        """Whether its deltas end at the very content that the newer base holds."""
        last = self.deltas[-1].digest if self.deltas else self.digest
        here = (self.session, self.last_serial, last)
        return here == (newer.session, newer.serial, newer.digest)


def chain_of(rows: Sequence[Kept], row: Kept) -> tuple[KeptDelta, ...]:
    """Every delta from a row's base to the newest serial that it leads to; rows newest first."""
    found = list(row.deltas)
    reached = row
    for newer in reversed(rows[: rows.index(row)]):
        if reached.leads_to(newer):
            found += newer.deltas
            reached = newer
    return tuple(found)


def passing(rows: Sequence[Kept], session: str | None, serial: int) -> tuple[Kept, ...]:
    """The rows whose chain passes a serial, newest first; session None: of any."""
    found = []
    for row in rows:
        chain = chain_of(rows, row)
        last = chain[-1].serial if chain else row.serial
        if session in (None, row.session) and row.serial <= serial <= last:
            found.append(row)
    return tuple(found)


def retained(
    rows: Sequence[Kept], *, keep: int, days: int, served: tuple[str, int] | None
) -> list[Kept]:
    """Which rows stay, newest first: the ``keep`` newest, and two more that let the serials of the
    last ``days`` be built again; deltas of a base that goes join those of the one before it.

    Days are the feed's own, back from its newest made_at. Only what leads on without a gap is kept
    for their sake. ``served``: session and serial that stay in any case.
    """
    newest, older = list(rows[:keep]), list(rows[keep:])
    protected = [r for r in passing(rows, *served) if r in older][:1] if served else []
    horizon = rows[0].last_made_at - days * DAY_S
    leading: list[Kept] = []
    before = newest[-1]
    for row in older:
        if not row.leads_to(before) or before.made_at <= horizon:
            break
        leading.append(row)
        before = row
    while len(leading) > 2:
        gone = leading.pop(0)
        leading[0] = replace(leading[0], deltas=(*leading[0].deltas, *gone.deltas))
    while leading and sum(len(row.deltas) for row in leading) > limits.MAX_KEPT_DELTAS:
        leading.pop()
    kept = [*newest, *leading]
    covered = served is not None and passing(kept, *served)
    return kept if covered else [*kept, *protected]


def kept_of(row: dict[str, object]) -> Kept:
    """A row of the manifest. Raises TypeError or ValueError where it is none."""
    fields = cast("dict[str, list[dict[str, str]]]", row)
    deltas = tuple(KeptDelta(**delta) for delta in fields.pop("deltas", []))  # type: ignore[arg-type]
    kept = Kept(**fields, deltas=deltas)  # type: ignore[arg-type]
    names = [kept.file, *(delta.file for delta in deltas)]
    if any(os.path.basename(name) != name for name in names):
        raise ValueError("a file's name leaves the folder")
    return kept
