"""The client for the functions of a core network: many checks at once, over several nodes.

Checks wait in one queue. A node that is free takes what waits, all of it in one message, so that
checks made at the same time share a message and what comes while one is in flight goes in the
next; a slow node takes less, and no timer is needed. Every call is a read, so a message that fails
is asked again, of another node, a bounded number of times.

Promises: every ``check`` ends by its deadline, with a verdict, the configured fallback (marked as
one) or an exception. Never keeps a verdict, never turns an error into a refusal unless configured.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal

import grpc
import grpc.aio

from eir import limits
from eir.client.lane import BadReply, Lane, Waiting, open_lanes
from eir.client.tls import ClientTls
from eir.client.verdict import FALLBACKS, KNOWN_REASONS, Verdict
from eir.core.question import read_texts
from eir.errors import Refused, Unavailable

_FIRST_PAUSE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How the client asks. Times are seconds.

    on_silence: what a check gets that no node answers in time: "fail-open" (GREYLISTED),
    "fail-closed" (BLACKLISTED), or "raise" (Unavailable). deadline: of a check, unless it says
    otherwise. attempt: how long one of several nodes may take before another is asked. attempts: of
    a check, the first included. checks_per_message: at most 8,192. in_flight: messages on their way
    to one node. max_waiting: checks that may wait; beyond, the fallback at once. failures: so many
    in a row open a node's circuit, for ``pause``, doubled up to ``longest_pause`` while tries fail.
    """

    on_silence: Literal["fail-open", "fail-closed", "raise"] = "raise"
    deadline: float = 0.25
    attempt: float = 0.1
    attempts: int = 3
    checks_per_message: int = 512
    in_flight: int = 1
    max_waiting: int = 65_536
    failures: int = 3
    pause: float = 0.5
    longest_pause: float = 10.0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that make no sense."""
        if not 1 <= self.checks_per_message <= limits.MAX_CHECKS_PER_MESSAGE:
            raise ValueError(f"checks_per_message: 1 to {limits.MAX_CHECKS_PER_MESSAGE}")
        if min(self.attempts, self.in_flight, self.max_waiting, self.failures) < 1:
            raise ValueError("attempts, in_flight, max_waiting and failures: at least 1")
        if not 0 < self.attempt <= self.deadline or not 0 < self.pause <= self.longest_pause:
            raise ValueError("0 < attempt <= deadline and 0 < pause <= longest_pause")


@dataclass(slots=True)
class Counts:
    """Since the client was opened: checks made, messages sent, checks asked again, fallbacks."""

    checks: int = 0
    messages: int = 0
    retried: int = 0
    fallbacks: int = 0


class Client:
    """Asks one or more nodes, each ``host:port`` or ``unix:path``. Opened by ``async with``.

    A node that is named several times is reached over as many connections, and so by more of its
    workers.

    Belongs to the loop that it was opened on.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        settings: ClientSettings | None = None,
        *,
        tls: ClientTls | None = None,
    ) -> None:
        """Nothing connects yet. Raises ValueError without a node."""
        if isinstance(nodes, str) or not nodes:
            raise ValueError("nodes: a sequence of at least one address")
        self._nodes = tuple(nodes)
        self._settings = settings or ClientSettings()
        self._tls = tls
        self._lanes: list[Lane] = []
        self._names = dict(KNOWN_REASONS)
        self._queue: deque[Waiting] = deque()
        self._pending: set[Waiting] = set()
        self._messages: set[asyncio.Task[None]] = set()
        self._turn = 0
        self._scheduled = False
        self._open = False
        self.counts = Counts()

    async def __aenter__(self) -> Client:
        """Raises Refused ``client-tls`` where a certificate can't be read."""
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        self._lanes = open_lanes(
            self._nodes,
            self._tls,
            max_checks=settings.checks_per_message,
            breaker={
                "failures": settings.failures,
                "pause": settings.pause,
                "longest_pause": settings.longest_pause,
            },
        )
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take no more checks, let those that wait end by their deadlines, and disconnect."""
        self._open = False
        if self._pending:
            await asyncio.wait([each.answer for each in self._pending])
        for task in self._messages:
            task.cancel()
        await asyncio.gather(*self._messages, return_exceptions=True)
        await asyncio.gather(*(lane.channel.close(None) for lane in self._lanes))
        self._lanes = []

    async def check(
        self, imei: str, msisdn: str = "", imsi: str = "", *, deadline: float | None = None
    ) -> Verdict:
        """May this device be used with this SIM? Identifiers as the network has them, as text.

        ``imei``: 14 to 16 digits; ``msisdn``: E.164 without "+"; ``imsi``; the last two empty where
        not known. ``deadline``: seconds from now, instead of the configured. Raises Refused
        (``imei-missing``, ``msisdn-unusable``, ``imsi-unusable``, ``node-refused``); Unavailable
        when the client is closed, or no node answers and ``on_silence`` is "raise".
        """
        key, number, code = read_texts(imei, msisdn, imsi)
        if not self._open:
            raise Unavailable("the client is not open")
        self.counts.checks += 1
        until = self._loop.time() + (self._settings.deadline if deadline is None else deadline)
        asked = Waiting(key, number, code, self._loop.create_future(), until)
        if len(self._pending) >= self._settings.max_waiting:
            self._give_up(asked)
            return await asked.answer
        timer = self._loop.call_at(until, self._give_up, asked)
        self._pending.add(asked)
        self._queue.append(asked)
        self._schedule()
        try:
            return await asked.answer
        finally:
            timer.cancel()
            self._pending.discard(asked)

    def _schedule(self) -> None:
        """Send at the end of this turn of the loop: all checks made in it go together."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        usable = self._usable()
        self._turn += 1
        now = self._loop.time()
        for place in range(len(self._lanes)):
            lane = self._lanes[(self._turn + place) % len(self._lanes)]
            while lane.in_flight < self._settings.in_flight and lane.breaker.lets(now):
                taken = self._take(lane, usable)
                if not taken:
                    break
                self._start(lane, taken)
        if not self._usable():
            while self._queue:
                self._give_up(self._queue.popleft())

    def _usable(self) -> int:
        """The nodes that may be asked now or once they are free, a bit each."""
        now = self._loop.time()
        return sum(lane.bit for lane in self._lanes if lane.breaker.lets(now))

    def _take(self, lane: Lane, usable: int) -> list[Waiting]:
        """What goes in its next message: what it failed to answer, only if all others did too."""
        taken: list[Waiting] = []
        passed: list[Waiting] = []
        most = lane.max_checks if lane.breaker.closed else 1  # one tries out a node that failed
        while self._queue and len(taken) < most:
            each = self._queue.popleft()
            if not each.answer.done():
                elsewhere = each.tried & lane.bit and usable & ~each.tried
                (passed if elsewhere else taken).append(each)
        self._queue.extendleft(reversed(passed))
        return taken

    def _start(self, lane: Lane, checks: list[Waiting]) -> None:
        lane.in_flight += 1
        lane.breaker.asked()
        self.counts.messages += 1
        last_chance = len(self._lanes) == 1
        for each in checks:
            self.counts.retried += each.attempts > 0
            each.tried |= lane.bit
            each.attempts += 1
            last_chance |= each.attempts == self._settings.attempts
        seconds = max(each.until for each in checks) - self._loop.time()
        if not last_chance:
            seconds = min(seconds, self._settings.attempt)
        self._keep(self._carry(lane, checks, seconds))

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._messages.add(task)
        task.add_done_callback(self._messages.discard)

    async def _carry(self, lane: Lane, checks: list[Waiting], seconds: float) -> None:
        """One message there, and its answers to those who wait."""
        try:
            verdicts = await lane.ask(checks, self._names, seconds)
        except grpc.aio.AioRpcError as error:
            self._failed(lane, checks, seconds, error)
        except BadReply:
            lane.breaker.failed(self._loop.time())
            self._ask_again(checks)
        else:
            lane.breaker.answered()
            for each, verdict in zip(checks, verdicts, strict=True):
                if not each.answer.done():
                    each.answer.set_result(verdict)
        finally:
            lane.in_flight -= 1
            self._schedule()

    def _failed(
        self, lane: Lane, checks: list[Waiting], seconds: float, error: grpc.aio.AioRpcError
    ) -> None:
        code, detail = error.code(), error.details() or ""
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            lane.breaker.answered()
            if detail.startswith("batch-too-long") and len(checks) > 1:
                lane.max_checks = len(checks) // 2  # the node's configuration says less than ours
                for each in reversed(checks):
                    each.tried, each.attempts = each.tried & ~lane.bit, each.attempts - 1
                    self._queue.appendleft(each)
                return
            refused = Refused("node-refused", f"{code.name}: {detail}", where=lane.node)
            for each in checks:
                if not each.answer.done():
                    each.answer.set_exception(refused)
            return
        short = code is grpc.StatusCode.DEADLINE_EXCEEDED and seconds < self._settings.attempt
        if short:  # the callers' own haste says nothing of the node
            lane.breaker.withdrawn()
        else:
            lane.breaker.failed(self._loop.time())
        self._ask_again(checks)

    def _ask_again(self, checks: list[Waiting]) -> None:
        """At once where a node is left that was not tried, else after a pause."""
        usable = self._usable()
        for each in reversed(checks):
            if each.answer.done():
                continue
            if each.attempts >= self._settings.attempts:
                self._give_up(each)
            elif usable & ~each.tried:
                self._queue.appendleft(each)
            else:
                jitter = random.uniform(0.5, 1.5)  # noqa: S311  nothing secret
                pause = _FIRST_PAUSE_SECONDS * 2 ** (each.attempts - 1) * jitter
                self._loop.call_later(pause, self._wait_again, each)

    def _wait_again(self, each: Waiting) -> None:
        each.tried = 0
        self._queue.append(each)
        self._schedule()

    def _give_up(self, each: Waiting) -> None:
        """No node answered: the configured answer."""
        if each.answer.done():
            return
        self.counts.fallbacks += 1
        silence = self._settings.on_silence
        if silence == "raise":
            each.answer.set_exception(Unavailable("no node answered in time"))
        else:
            each.answer.set_result(FALLBACKS[silence])
