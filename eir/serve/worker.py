"""A worker: doors on shared ports, and a socket to the keeper, which says what shall serve.

    forked ─ first order ─▶ files mapped, prefaulted, laid out ─▶ doors open ─▶ answering
                                                                     │
       a further order: the same beside the answering, then one reference is swapped,
       the answer is sent, and the old pages are given back
                                                                     │
    keeper gone ─▶ goes on answering; marked stale after a while;    │
                   drains when the depot is gone too                 │
    SIGTERM ─▶ doors drain and close ◀───────────────────────────────┘

Builds and hashes nothing: the keeper has verified what it hands over. Knows neither where
generations come from nor which doors there are. What fails here ends the process, loudly: its
keeper starts another one, and the others answer meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.core.tables import Tables
from eir.errors import Corrupt, Refused
from eir.feed.memory_file import read_base, read_overlays
from eir.serve.control import Control
from eir.serve.counters import CountersFile
from eir.serve.courtesy import take_short_turns
from eir.serve.handover import (
    Fault,
    HandedFeed,
    Order,
    ReloadOrder,
    ServeOrder,
    WorkerAnswer,
    close_files,
    pack_answer,
    receive,
    send,
    unpack_order,
)
from eir.serve.holder import Holder, Serving
from eir.serve.mapped import Mapped, map_file
from eir.serve.sighting_ring import Noting

_log = logging.getLogger(__name__)


class Doors(Protocol):
    """What a worker answers through."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where they listen."""

    def reload(self) -> None:
        """Read certificates again; raises Refused and keeps the old."""

    async def stop(self) -> None:
        """Drain and close."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A generation, and its ``base`` alone; the files that the base lies in, the first of which
    is ``origin``; and the file of what deltas have made of it, where there is one.
    """

    generation: Generation
    base: Generation
    files: tuple[Mapped, ...]
    origin: tuple[int, int]
    overlays: tuple[Mapped, ...] = ()

    @property
    def mapped(self) -> tuple[Mapped, ...]:
        """All files."""
        return (*self.files, *self.overlays)

    def is_what(self, feed: HandedFeed) -> bool:
        mine = self.generation
        return (mine.session, mine.serial, mine.digest) == (feed.session, feed.serial, feed.digest)


class Worker:
    """One worker's life. Built, then ``run`` once, on the process's only event loop."""

    def __init__(
        self,
        keeper: socket.socket,
        holder: Holder,
        *,
        folder: Path,
        open_doors: Callable[[], Awaitable[Doors]],
        stale_after_seconds: float,
        control: Control | None = None,
        noting: Callable[[NDArray[np.uint16]], Noting | None] = lambda _: None,
    ) -> None:
        """``folder``: where counters files are made. ``open_doors``: called once, when ready.

        ``control``: the node's page; None: one that nobody else sees. ``noting``: how verdicts are
        noted whose codes have these reason ids.
        """
        self._keeper = keeper
        self._holder = holder
        self._folder = folder
        self._open_doors = open_doors
        self._stale_after_seconds = stale_after_seconds
        self._control = control or Control()
        self._noting = noting
        self._doors: Doors | None = None
        self._held: dict[str, _Held] = {}
        self._counted: CountersFile | None = None
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue()
        self._side = ThreadPoolExecutor(1, "handover")

    async def run(self) -> None:
        """Obey until SIGTERM; then the doors drain. Raises whatever goes wrong."""
        take_short_turns()
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        loop.add_reader(self._keeper, self._hear)
        if not self._answer(WorkerAnswer(number=0, pid=os.getpid())):
            return
        obeying = asyncio.create_task(self._obey())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((obeying, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if obeying.done():
            obeying.result()
        if self._doors is not None:
            await self._doors.stop()

    def _hear(self) -> None:
        heard = receive(self._keeper)
        if heard is None:
            asyncio.get_running_loop().remove_reader(self._keeper)
            self._orders.put_nowait(None)
        else:
            self._orders.put_nowait(unpack_order(*heard))

    async def _obey(self) -> None:
        """One order after the other, until the keeper is gone; then what there is goes on."""
        while (order := await self._orders.get()) is not None:
            begun = time.monotonic()
            fault = await self._follow(order)
            answer = WorkerAnswer(
                number=order.number,
                pid=os.getpid(),
                fault=fault,
                addresses=self._doors.addresses if self._doors else (),
                counters=self._counted.path.name if self._counted else "",
                seconds=time.monotonic() - begun,
            )
            self._answer(answer)
            if self._doors is None:
                return
        if self._doors is not None:
            await self._orphaned()

    async def _orphaned(self) -> None:
        """Go on answering; return when no keeper could ever send this worker home."""
        _log.error("the keeper is gone: answering goes on with what serves")
        while self._counted is not None and self._counted.path.exists():
            await asyncio.sleep(self._stale_after_seconds)
            if self._holder.ready and not self._holder.current().stale:
                self._holder.swap(replace(self._holder.current(), stale=True))
                _log.error("every answer is marked stale: no keeper for too long")
        _log.error("the depot is gone, and so is whom to answer for: draining")

    def _answer(self, answer: WorkerAnswer) -> bool:
        """Whether the keeper was there to be told."""
        try:
            send(self._keeper, pack_answer(answer))
        except (BrokenPipeError, ConnectionResetError):
            _log.warning("the keeper was gone before it could be answered")
            return False
        return True

    async def _follow(self, order: Order) -> Fault | None:
        """Do what was ordered; what the doors refuse of it."""
        if isinstance(order, ServeOrder):
            await self._take_up(order)
        try:
            if self._doors is None:
                self._doors = await self._open_doors()
            elif isinstance(order, ReloadOrder):
                self._doors.reload()
        except Refused as fault:
            return Fault(fault.reason, fault.detail, fault.where)
        return None

    async def _take_up(self, order: ServeOrder) -> None:
        """Lay the order out beside what serves, swap, and let go of the old."""
        loop, counted = asyncio.get_running_loop(), self._counted
        held, serving = await loop.run_in_executor(self._side, self._laid_out, order)
        kept = {id(file) for each in held.values() for file in each.mapped}
        before_it = (file for old in self._held.values() for file in old.mapped)
        dropped = [file for file in before_it if id(file) not in kept]
        before = [self._holder.current()] if self._holder.ready else []
        self._held = held
        self._holder.swap(serving)
        if counted is not None and counted is not self._counted:
            counted.close()
        del held, serving
        await loop.run_in_executor(self._side, _let_go, dropped, before)

    def _laid_out(self, order: ServeOrder) -> tuple[dict[str, _Held], Serving | None]:
        try:
            held = {feed.feed: self._opened(feed) for feed in order.feeds}
        finally:
            close_files(order)
        if REGISTRY not in held:
            self._counted = self._counted or CountersFile(self._folder)
            return held, None
        operator = held[OPERATOR].generation if OPERATOR in held else None
        tables = Tables(held[REGISTRY].generation, operator, order.policy)
        return held, Serving(
            tables,
            data_time=order.data_time,
            grace_lag=order.grace_lag,
            stale=order.stale,
            counters=self._counters_for(tables).counters,
            control=self._control,
            noting=self._noting(tables.reasons),
        )

    def _opened(self, feed: HandedFeed) -> _Held:
        """The feed's generation, mapped anew unless it serves already."""
        before = self._held.get(feed.feed)
        if before is not None and before.is_what(feed):
            return before
        if before is None or before.origin != _identity(feed.files[0]):
            before = _based(feed)
        held = _overlaid(before, feed)
        if not held.is_what(feed):
            raise Corrupt("header", f"is not {feed.feed} serial {feed.serial}, as was announced")
        return held

    def _counters_for(self, tables: Tables) -> CountersFile:
        """The counters in use, unless a verdict's code now means another reason."""
        if self._counted is not None and self._holder.ready:
            before = self._holder.current().tables
            if tables.black_order == before.black_order and np.array_equal(
                tables.reasons, before.reasons
            ):
                return self._counted
        self._counted = CountersFile(self._folder)
        return self._counted


def _identity(file: int) -> tuple[int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino


def _based(feed: HandedFeed) -> _Held:
    """A feed's base alone, mapped."""
    snapshot, laid = files = tuple(map(map_file, feed.files[:2]))
    for file in files:
        file.prefault()
    base = read_base(laid.pages, snapshot.pages)
    return _Held(base, base, files, _identity(feed.files[0]))


def _overlaid(held: _Held, feed: HandedFeed) -> _Held:
    """With what deltas have made of its base."""
    overlays = tuple(map(map_file, feed.files[2:]))
    generation = held.base
    for file in overlays:
        file.prefault()
        generation = read_overlays(file.pages, held.base)
    return replace(held, generation=generation, overlays=overlays)


def _let_go(dropped: list[Mapped], before: list[Serving]) -> None:
    """Give the pages back by pieces, then the rest with the last references."""
    for file in dropped:
        file.release()
    before.clear()
    dropped.clear()
