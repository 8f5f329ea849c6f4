"""The workers, as their keeper sees them: hired, given orders, replaced, sent home.

    hired ─ "here I am" ─▶ starting ─ first order answered ─▶ answering ─ SIGTERM ─▶ draining
      ▲                        │                                  │                     │
      └──── a pause, longer after each quick end ◀──── gone ◀─────┴─────────────────────┘

Promises that an order which one worker can't follow ends that worker alone, and that whoever
replaces it starts with the newest order.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from eir.core.tables import Tables
from eir.doors.grpc_admin import WorkerStatus
from eir.errors import Refused
from eir.ops.nursery import Commission, Nursery
from eir.ops.settings.config import Config
from eir.ops.tally import REFUSING, Tally, code_names
from eir.serve.counters import Counters, living, read_counters
from eir.serve.events import read_events
from eir.serve.handover import (
    MAX_MESSAGE_BYTES,
    Order,
    ReloadOrder,
    ServeOrder,
    WorkerAnswer,
    new_pair,
    pack_order,
    send,
    unpack_answer,
)

_log = logging.getLogger(__name__)

_ORDER_SECONDS: Final = 60.0
_DRAIN_MARGIN_SECONDS: Final = 5.0
_STEADY_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 10.0
_MEMORY_SECONDS: Final = 30.0
"""So long a worker's memory is told as it was: the system walks all of its pages to say so."""

STARTING, ANSWERING, DRAINING = "starting", "answering", "draining"
ABSENT, ORPHAN = "absent", "orphan"


@dataclass(slots=True)
class _Member:
    """One hired worker. ``handle``: descriptor of the process, -1 until it has said its number."""

    end: socket.socket
    since: int
    pid: int = 0
    handle: int = -1
    state: str = STARTING
    counters: Counters | None = None
    counters_path: Path = Path()
    names: tuple[str, ...] = ()
    serials: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waiting: dict[int, asyncio.Future[WorkerAnswer | None]] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)
    measured_at: float = float("-inf")

    def measured(self) -> tuple[int, int]:
        """(RSS, PSS) in bytes, of half a minute ago at the most; zeros until it answers."""
        now = time.monotonic()
        if self.state != STARTING and now - self.measured_at > _MEMORY_SECONDS:
            self.memory, self.measured_at = memory_of(self.pid), now
        return self.memory

    def tell(self, number: int) -> None:
        """Send the process a signal, if it is known and lives."""
        if self.handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, number)

    def cut(self) -> None:
        """Kill it; who has not said its number yet is heard no longer, and ends as it does."""
        self.state = DRAINING
        self.tell(signal.SIGKILL)
        if self.handle < 0:
            self.end.shutdown(socket.SHUT_RDWR)


class Crew:
    """A number of workers under one keeper. Every method is called on the keeper's loop."""

    def __init__(self, config: Config, folder: Path) -> None:
        """``folder``: where workers count. The nursery begins to load at once."""
        self._config = config
        self._folder = folder
        self._count = config.workers.count or len(os.sched_getaffinity(0))
        self._nursery = Nursery(config)
        self._order = ServeOrder(0, (), config.policy)
        self._meanings: dict[int, tuple[str, ...]] = {}
        self._numbers = itertools.count(1)
        self._members: dict[int, _Member] = {}
        self._restarts = [0] * self._count
        self._state_id = 0
        self._retired = Tally()
        self._stopping = asyncio.Event()
        self._forking = asyncio.Lock()
        self._proving: asyncio.Task[None] | None = None
        self._tending: list[asyncio.Task[None]] = []
        self._orphans = _orphans(folder)
        self._orphans_leave = False
        self._orphans_gone = asyncio.Event()

    @property
    def orphaned(self) -> bool:
        """Workers of a keeper that has died still answer."""
        return bool(self._orphans)

    def proven(self) -> asyncio.Task[None]:
        """Done when the nursery has proven the kernel, which it begins at the first call."""
        if self._proving is None:
            self._proving = asyncio.create_task(self._nursery.prove())
        return self._proving

    @property
    def _patience(self) -> float:
        return self._config.grpc.drain_seconds + _DRAIN_MARGIN_SECONDS

    async def start(
        self, order: ServeOrder, tables: Tables | None, config: Config
    ) -> tuple[str, ...]:
        """Hire everybody, by this configuration, with ports claimed; return when all answer.

        The addresses of the first. Raises Refused where the kernel is not proven, or a worker can't
        open its doors.
        """
        self._config = config
        self._take_note(order, tables)
        await self.proven()
        loop = asyncio.get_running_loop()
        firsts: list[asyncio.Future[WorkerAnswer | None]] = [
            loop.create_future() for _ in range(self._count)
        ]
        self._tending = [
            asyncio.create_task(self._tend(slot, first)) for slot, first in enumerate(firsts)
        ]
        addresses: tuple[str, ...] = ()
        for answer in await asyncio.gather(*firsts):
            if answer is None:
                raise Refused("worker-ended", "a worker ended at its start; the log says why")
            _raise_fault(answer)
            addresses = addresses or answer.addresses
        return addresses

    async def watch(self) -> None:
        """Return when all were sent home; raise what goes wrong with the tending itself."""
        await asyncio.gather(*self._tending)

    async def hand_over(self, order: ServeOrder, tables: Tables | None) -> None:
        """Have everybody serve it, and return when all do. Who does not in time is replaced."""
        self._take_note(order, tables)
        await self._everybody(order)

    async def reload(self) -> None:
        """Have all doors read their certificates. Raises Refused as the first that can't."""
        for answer in await self._everybody(ReloadOrder(self.next_number())):
            _raise_fault(answer)

    def next_number(self) -> int:
        """The number of the next order."""
        return next(self._numbers)

    async def stop(self) -> None:
        """Drain everybody; who is not done in time is cut, and so are orphans sent home before."""
        self._stopping.set()
        if self._proving is not None:
            self._proving.cancel()
        for member in self._members.values():
            member.state = DRAINING
            member.tell(signal.SIGTERM)
            if member.handle < 0:
                member.end.shutdown(socket.SHUT_RDWR)
        leaving: list[asyncio.Task[object]] = [*self._tending]
        if self._orphans_leave:
            leaving.append(asyncio.create_task(self._orphans_gone.wait()))
        if leaving:
            _, late = await asyncio.wait(leaving, timeout=self._patience)
            if late:
                _log.error("not everybody drained in time: cut")
                for member in self._members.values():
                    member.cut()
                if self._orphans_leave:
                    self._cut_orphans()
                await asyncio.wait(late)
        self._nursery.close()

    def send_orphans_home(self) -> None:
        """Have the workers of a dead keeper drain; who is not done in time is cut."""
        if self._orphans_leave or not self._orphans:
            return
        self._orphans_leave = True
        loop = asyncio.get_running_loop()
        for pid, handle in self._orphans.items():
            _log.info("worker process %d of the keeper before drains", pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGTERM)
            loop.add_reader(handle, self._orphan_gone, pid)
        loop.call_later(self._patience, self._cut_orphans)

    def tally(self) -> Tally:
        """What was counted since the keeper started."""
        total = self._retired.copy()
        for member in tuple(self._members.values()):
            if member.counters is not None:
                total.add(member.counters, member.names)
            total.events.update(read_events(self._folder, member.pid))
        return total

    def refused(self) -> int:
        """How many were refused since the keeper started, and would have been but for the breaker.

        Never falls; cheap enough to ask for every second.
        """
        gone = self._retired.checks.items()
        count = self._retired.spared + sum(n for (*_, s), n in gone if s in REFUSING)
        live = [member.counters for member in self._members.values()]
        return count + sum(each.refused() for each in live if each is not None)

    def workers(self) -> Sequence[WorkerStatus]:
        """Everybody, orphans last."""
        mine = [self._status(slot, self._members.get(slot)) for slot in range(self._count)]
        orphans = [
            WorkerStatus(slot=-1, pid=pid, state=ORPHAN, rss=rss, pss=pss)
            for pid in tuple(self._orphans)
            for rss, pss in (memory_of(pid),)
        ]
        return [*mine, *orphans]

    def _take_note(self, order: ServeOrder, tables: Tables | None) -> None:
        self._order = order
        self._meanings[order.number] = code_names(tables)

    async def _everybody(self, order: Order) -> list[WorkerAnswer]:
        asked = {self._ask(member, order): member for member in self._members.values()}
        if not asked:
            return []
        _, late = await asyncio.wait(asked, timeout=_ORDER_SECONDS)
        for future in late:
            _log.error("worker process %d does not follow orders: cut", asked[future].pid)
            asked[future].cut()
        answers = await asyncio.gather(*asked)
        self._meanings = {n: m for n, m in self._meanings.items() if n >= self._order.number}
        return [answer for answer in answers if answer is not None]

    def _ask(self, member: _Member, order: Order) -> asyncio.Future[WorkerAnswer | None]:
        answer: asyncio.Future[WorkerAnswer | None] = asyncio.get_running_loop().create_future()
        member.waiting[order.number] = answer
        try:
            send(member.end, *pack_order(order))
        except BlockingIOError:
            member.cut()
        except (BrokenPipeError, ConnectionResetError):
            _log.debug("worker process %d was gone before its order", member.pid)
        return answer

    async def _tend(self, slot: int, first: asyncio.Future[WorkerAnswer | None]) -> None:
        """Keep one worker in a slot, until the crew stops."""
        quick_ends = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            member = await self._hire(slot)
            answer = self._ask(member, self._order)
            if quick_ends == self._restarts[slot] == 0:
                answer.add_done_callback(partial(_pass_on, first))
            await self._listen(member)
            del self._members[slot]
            self._part_with(member)
            if self._stopping.is_set():
                return
            self._restarts[slot] += 1
            quick_ends = 0 if time.monotonic() - begun > _STEADY_SECONDS else quick_ends + 1
            pause = pause_before(quick_ends)
            _log.error("worker %d (process %d) ended; next in %.1f s", slot, member.pid, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _hire(self, slot: int) -> _Member:
        """A new worker; where none could be forked, one that is gone already."""
        ours, theirs = new_pair()
        ours.setblocking(False)
        self._state_id = max(self._state_id + 1, int(time.time()))
        commission = Commission(
            slot, self._config, self._folder, self._state_id, take_over=self.orphaned
        )
        with theirs:
            try:
                await self._fork(commission, theirs)
            except (OSError, Refused) as fault:
                _log.error("no worker could be forked: %s", fault)
        member = self._members[slot] = _Member(ours, since=int(time.time()))
        return member

    async def _fork(self, commission: Commission, end: socket.socket) -> None:
        async with self._forking:
            try:
                self._nursery.fork(commission, end)
            except (BrokenPipeError, ConnectionResetError):
                _log.error("the nursery is gone; another one is loaded")
                self._nursery.close()
                self._nursery = Nursery(self._config)
                await self._nursery.prove()
                self._nursery.fork(commission, end)

    async def _listen(self, member: _Member) -> None:
        """Take in what a worker says, until it is gone."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                message = await loop.sock_recv(member.end, MAX_MESSAGE_BYTES)
            except ConnectionResetError:
                return
            if not message:
                return
            self._hear(member, unpack_answer(message))

    def _hear(self, member: _Member, answer: WorkerAnswer) -> None:
        if answer.number == 0:
            with contextlib.suppress(ProcessLookupError):
                member.pid, member.handle = answer.pid, os.pidfd_open(answer.pid)
            if self._stopping.is_set() or member.state == DRAINING:
                member.tell(signal.SIGTERM)
            return
        if answer.fault is not None:
            fault = answer.fault
            _log.error("worker process %d: %s [%s]", answer.pid, fault.detail, fault.reason)
        elif answer.number in self._meanings:
            self._count_in(member, answer)
            member.seconds = answer.seconds
            member.serials = {feed.feed: feed.serial for feed in self._order.feeds}
            if member.state == STARTING:
                member.state = ANSWERING
        waiting = member.waiting.pop(answer.number)
        if not waiting.done():
            waiting.set_result(answer)

    def _count_in(self, member: _Member, answer: WorkerAnswer) -> None:
        """Where a worker counts in another file from now on, what the one before holds is kept."""
        path = self._folder / answer.counters
        if path == member.counters_path:
            return
        self._retire_counters(member)
        member.counters, member.counters_path = read_counters(path), path
        member.names = self._meanings[answer.number]

    def _retire_counters(self, member: _Member) -> None:
        if member.counters is not None:
            self._retired.add(member.counters, member.names)
            member.counters = None

    def _part_with(self, member: _Member) -> None:
        """A worker is gone: its figures stay, what it owes is owed by nobody."""
        self._retire_counters(member)
        self._retired.events.update(read_events(self._folder, member.pid))
        self._sweep(member.pid)
        for waiting in member.waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        member.end.close()
        if member.handle >= 0:
            os.close(member.handle)

    def _sweep(self, pid: int) -> None:
        for path in self._folder.glob(f"{pid}-*"):
            path.unlink(missing_ok=True)

    def _orphan_gone(self, pid: int) -> None:
        handle = self._orphans.pop(pid)
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
        self._sweep(pid)
        if not self._orphans:
            self._orphans_gone.set()

    def _cut_orphans(self) -> None:
        for pid, handle in self._orphans.items():
            _log.error("worker process %d of the keeper before did not drain in time: cut", pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)

    def _status(self, slot: int, member: _Member | None) -> WorkerStatus:
        if member is None:
            return WorkerStatus(slot=slot, pid=0, state=ABSENT, restarts=self._restarts[slot])
        counters = member.counters
        rss, pss = member.measured()
        return WorkerStatus(
            slot=slot,
            pid=member.pid,
            state=member.state,
            since=member.since,
            restarts=self._restarts[slot],
            checks=int(counters.checks[:, :, 1:].sum()) if counters is not None else 0,
            serials=member.serials,
            takeup_seconds=member.seconds,
            rss=rss,
            pss=pss,
        )


def pause_before(quick_ends: int) -> float:
    """Seconds to wait before a worker's next start, after so many quick ends in a row."""
    if quick_ends < 2:
        return 0.0
    return min(0.1 * 2.0 ** min(quick_ends - 2, 10), _LONGEST_PAUSE_SECONDS)


def memory_of(pid: int) -> tuple[int, int]:
    """(RSS, PSS) of a process in bytes; zeros where it is gone or hidden."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return 0, 0
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return kilobytes["Rss:"] * 1024, kilobytes["Pss:"] * 1024


def _orphans(folder: Path) -> dict[int, int]:
    """Process numbers and descriptors of workers whose keeper is gone.

    Looked for twice: a number whose file is locked after its descriptor was opened is the worker's.
    """
    handles = {}
    for pid in set(living(folder)):
        with contextlib.suppress(ProcessLookupError):
            handles[pid] = os.pidfd_open(pid)
    still = set(living(folder))
    for pid in handles.keys() - still:
        os.close(handles.pop(pid))
    return handles


def _pass_on(
    first: asyncio.Future[WorkerAnswer | None], answer: asyncio.Future[WorkerAnswer | None]
) -> None:
    if not first.done():  # a start that was given up waits for nobody
        first.set_result(answer.result())


def _raise_fault(answer: WorkerAnswer) -> None:
    if (fault := answer.fault) is not None:
        raise Refused(fault.reason, fault.detail, where=fault.where)
