"""Sightings on their way out: from the workers' rings into the spool, signed, to the outbox.

    a second ─▶ drain every ring ─▶ who is new? ─▶ durable ─▶ room in the ring
                     a file is full, or its oldest row has waited ─▶ signed and numbered
                     a signed file waits ─▶ put into the outbox ─▶ gone

Promises that what the spool has taken reaches the outbox in exactly one file, whenever this process
is killed. Never waits for the outbox with a worker's ring: what can't go out waits on disk, and
when that is full, rings fill up and workers drop, and say how many.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eir import limits
from eir.core.sighting import numbers_of
from eir.core.tables import Tables
from eir.errors import Conflict, EirError, Refused
from eir.feed.open_site import open_site
from eir.feed.sightings import can_be_told
from eir.feed.site import Site
from eir.ops.settings.config import Config
from eir.ops.settings.outbox_config import FOLDER, OutboxSettings
from eir.serve.holder import Holder
from eir.serve.sighting_ring import RingReader
from eir.store.sighting_spool import SightingSpool, Waiting
from eir.sync.pace import Pace, next_wait_s

_log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0
_HALF_MADE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """Since the keeper started, but what waits: rows and signed files."""

    noted: int
    known: int
    dropped: int
    files: int
    pending_rows: int
    waiting_files: int
    sequence: int


class Outbox:
    """One node's. ``run`` lasts for good; ``turn`` is one turn of it, in a thread of its own."""

    def __init__(
        self,
        settings: OutboxSettings,
        depot: Path,
        *,
        tables: Callable[[], Tables | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises Refused as ``SightingSpool``, OSError where the depot can't be written."""
        self._settings = settings
        self._tables = tables
        self._clock = clock
        self._spool = SightingSpool(depot / FOLDER, remember=settings.remember)
        self._readers: dict[str, RingReader] = {}
        self._noted = self._known = self._dropped = self._files = 0
        self._waiting = len(self._spool.waiting())
        self._failures = 0
        self._again_at = 0.0
        self._fault = ""

    async def run(self) -> None:
        """Take, sign and put out for good."""
        while True:
            await asyncio.to_thread(self.turn)
            await asyncio.sleep(_EVERY_S)

    def turn(self) -> None:
        """Everything that is due now."""
        try:
            self._drain()
            if self._is_due():
                self._seal()
        except OSError as error:
            self._tell(f"the depot can't take them: {error}")
            return
        if time.monotonic() >= self._again_at:
            self._put_out()

    def figures(self) -> OutboxFigures:
        """How it stands."""
        return OutboxFigures(
            noted=self._noted,
            known=self._known,
            dropped=self._dropped,
            files=self._files,
            pending_rows=self._spool.pending,
            waiting_files=self._waiting,
            sequence=self._spool.sequence,
        )

    def alarms(self) -> list[str]:
        """What a person has to look at, one line each."""
        return [f"sightings wait: {self._fault}"] if self._fault else []

    def _drain(self) -> None:
        for path in sorted(self._spool.rings.glob("[!.]*")):
            if path.name not in self._readers and not self._opened(path):
                continue
            reader = self._readers[path.name]
            gone = reader.left_alone()
            self._take(reader)
            self._dropped += reader.dropped()
            if gone and reader.drained:
                path.unlink()
                del self._readers[path.name]

    def _opened(self, path: Path) -> bool:
        try:
            self._readers[path.name] = RingReader(path)
        except ValueError:
            if self._clock() - path.stat().st_mtime > _HALF_MADE_S:
                path.unlink()
            return False
        return True

    def _take(self, reader: RingReader) -> None:
        """As much of a ring as there is room for on disk."""
        noted = reader.look()
        while len(noted):
            if self._spool.pending >= self._settings.rows:
                if self._waiting >= limits.MAX_SIGHTINGS_FILES_WAITING:
                    return
                self._seal()
            some = noted[: self._settings.rows - self._spool.pending]
            fresh = self._spool.unknown(some[can_be_told(some)])
            if len(fresh):
                tables = self._tables()
                numbers = numbers_of(tables, fresh) if tables else fresh[:, 1]
                self._spool.add(fresh, numbers)
            self._noted += len(fresh)
            self._known += len(some) - len(fresh)
            reader.taken(len(some))
            noted = noted[len(some) :]

    def _is_due(self) -> bool:
        if not self._spool.pending or self._waiting >= limits.MAX_SIGHTINGS_FILES_WAITING:
            return False
        waited = self._clock() - self._spool.oldest
        return self._spool.pending >= self._settings.rows or waited >= self._settings.every_s

    def _seal(self) -> None:
        sealed = self._spool.seal(made_at=int(self._clock()), census=self._settings.census)
        self._waiting += 1
        _log.info("sightings: %s is signed, %d bytes", sealed.name, sealed.size)

    def _put_out(self) -> None:
        waiting = self._spool.waiting()
        try:
            site = open_site(self._settings.address) if waiting else None
            for each in waiting:
                if site is not None:
                    _put(site, each)
                self._spool.gone_out(each)
                self._files += 1
        except (EirError, OSError) as error:
            self._fail(f"the outbox does not take them: {error}")
        else:
            self._failures, self._fault = 0, ""
        self._waiting = len(self._spool.waiting())

    def _tell(self, why: str) -> None:
        if why != self._fault:
            _log.error("sightings wait: %s", why)
        self._fault = why

    def _fail(self, why: str) -> None:
        self._tell(why)
        self._failures += 1
        chance = random.SystemRandom().random()
        self._again_at = time.monotonic() + next_wait_s(
            Pace(), failures=self._failures, chance=chance
        )


def _put(site: Site, waiting: Waiting) -> None:
    """Raises Refused ``sightings-taken`` where another file stands there under this name."""
    try:
        site.add(str(waiting.name), waiting.path)
    except Conflict:
        if site.fetch(str(waiting.name), waiting.size) != waiting.path.read_bytes():
            detail = "another file has this name: does another node sign with this key?"
            raise Refused("sightings-taken", detail, where=str(waiting.name)) from None


def opened_outbox(config: Config, holder: Holder, clock: Callable[[], float]) -> Outbox | None:
    """The node's, None where nothing is noted. Before workers: they make their rings in it."""
    if config.sightings is None:
        return None

    def tables() -> Tables | None:
        return holder.current().tables if holder.ready else None

    return Outbox(config.sightings, config.node.depot, tables=tables, clock=clock)
