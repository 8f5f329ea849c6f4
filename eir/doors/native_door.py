"""The gRPC door at line rate: Check and CheckBatch of eir.v1.Eligibility by pygrpc-native.

HTTP/2 runs outside the interpreter; what has come meanwhile is taken in one go and decided
together, on one generation. Every other method (CheckStream, health, reflection) is carried on to a
door behind this one, over a Unix socket in a folder of our own: one port, one service.

    clients ─▶ front ─ Check, CheckBatch ─▶ take ─▶ shed ─▶ decide ─▶ respond     (one thread each)
                 └──── any other method ─▶ Unix socket ─▶ the door behind

Promises: at most ``max_calls`` calls and MAX_WAITING_BYTES wait their turn; what comes beyond gets
RESOURCE_EXHAUSTED before anything else is decided. What was taken together is answered within
MAX_TAKE_SECONDS of the processor, single checks first, or refused as well. A call whose caller has
gone is not decided.
Never speaks TLS: where other machines reach it, a proxy ends TLS before it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import grpc
from pygrpc_native import EVENT_CALL, EVENT_CANCEL, NativeGrpcFront

from eir import limits
from eir.doors import eligibility_codec as codec
from eir.doors.check_reader import read_checks
from eir.doors.check_replies import CheckReplies
from eir.doors.rpc_border import end_loudly, status_of
from eir.doors.rpc_counts import RpcCounts
from eir.doors.rpc_listen import Listener, accept_no_more, bind, listening
from eir.serve.checker import Answer
from eir.serve.events import Events, host_of

CHECK: Final = 0
METHODS: Final = (("/eir.v1.Eligibility/Check", False), ("/eir.v1.Eligibility/CheckBatch", False))
_TOGETHER_CALLS: Final = 256
_MAX_SHED_TAKES: Final = 16
_QUIET_SECONDS: Final = 0.05
_EXHAUSTED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED
_SHED: Final = "calls-exhausted: more waits on this node than it answers in time"

Event = tuple[int, int, int, bytes | None, str]
"""Kind, the call's number, its method, its message, and the caller's address."""
Call = tuple[int, int, int, bytes, str]
"""An event that is a call: kept as it came, since there is one for every check."""


class Checks(Protocol):
    """What the door asks: serve's Checker."""

    def check(self, imei: codec.Keys, msisdn: codec.Keys, imsi: codec.Keys) -> Answer:
        """Decide a batch on one generation, in any thread; raises Unavailable when none serves."""


class Behind(Protocol):
    """The door that answers all other methods, on a Unix socket that it is given."""

    async def start(self) -> None:
        """Listen."""

    def readiness_changed(self) -> None:
        """Tell health watchers to look again."""

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Health turns NOT_SERVING; streams in flight finish, or are cut when time is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSettings:
    """How the door listens and what it accepts; GrpcSettings' fields of the same names.

    ``max_calls``: calls that may wait their turn. ``calls_per_connection``: what one connection
    may have open; the rest its client holds back. ``io_threads``: of HTTP/2, for each address.
    """

    listen: tuple[str, ...] = ("127.0.0.1:50061",)
    plaintext_accepted: bool = False
    max_message_bytes: int = limits.MAX_GRPC_MESSAGE_BYTES
    max_checks_per_message: int = limits.MAX_CHECKS_PER_MESSAGE
    max_calls: int = limits.MAX_NATIVE_WAITING_CALLS
    calls_per_connection: int = limits.NATIVE_CALLS_PER_CONNECTION
    share_port: bool = False
    take_over: bool = False
    drain_seconds: float = 10.0
    io_threads: int = 1


class NativeDoor:
    """One listening server. start and stop are called on one event loop, which stays free."""

    def __init__(
        self,
        settings: NativeSettings,
        checker: Checks,
        behind: Callable[[str], Behind],
        events: Events | None = None,
    ) -> None:
        """Nothing listens yet. ``behind`` makes the door that listens on the address given.

        ``events``: where calls are counted by peer.
        """
        self._settings = settings
        self._checker = checker
        self._counts = RpcCounts(events)
        self._make_behind = behind
        self._desks: list[_Desk] = []
        self._listeners: tuple[Listener, ...] = ()
        self._accepting: frozenset[int] = frozenset()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses bound, ports resolved; empty before ``start``."""
        return tuple(listener.address for listener in self._listeners)

    async def start(self) -> None:
        """Listen. Calls get UNAVAILABLE until a generation serves.

        Raises Refused as ``rpc_listen.bind``.
        """
        settings = self._settings
        self._folder = Path(tempfile.mkdtemp(prefix="eir-"))
        self._behind = self._make_behind(f"unix:{self._folder}/s")
        read_checks([b""])  # compiles, if nobody has yet
        others = listening()
        try:
            self._listeners = bind(
                settings.listen,
                self._add,
                clear=True,
                plaintext_accepted=settings.plaintext_accepted,
                take_over=settings.take_over,
            )
            self._accepting = listening() - others
            await self._behind.start()
        except BaseException:
            self._close()
            raise
        for desk in self._desks:
            desk.open()

    def readiness_changed(self) -> None:
        """Tell health watchers to look again. May be called from any thread, while started."""
        self._behind.readiness_changed()

    def reload(self) -> None:
        """Nothing is read again: there are no certificates."""

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Drain and close.

        Nobody can connect any more, health turns NOT_SERVING and streams end; calls are answered
        until none comes for a moment. What is still open after ``drain_seconds`` (None: as
        configured) is cut.
        """
        loop = asyncio.get_running_loop()
        seconds = self._settings.drain_seconds if drain_seconds is None else drain_seconds
        end = loop.time() + seconds
        accept_no_more(self._accepting)
        await self._behind.stop(seconds)
        while loop.time() < end:
            before = [desk.takes for desk in self._desks]
            await asyncio.sleep(_QUIET_SECONDS)
            if before == [desk.takes for desk in self._desks if desk.idle]:
                break
        self._close()
        for desk in self._desks:
            await asyncio.to_thread(desk.join)

    def _add(self, address: str) -> int:
        settings = self._settings
        front = NativeGrpcFront(
            address,
            METHODS,
            io_threads=settings.io_threads,
            call_details=True,
            keepalive_time_ms=60_000,
            keepalive_timeout_ms=20_000,
            max_concurrent_streams=settings.calls_per_connection,
            reuse_port=settings.share_port,
        )
        front.set_fallback(f"{self._folder}/s")
        self._desks.append(_Desk(front, settings, self._decide, self._counts))
        return front.bound_port

    def _decide(self, asked: codec.Questions) -> Answer:
        return self._checker.check(asked.imei, asked.msisdn, asked.imsi)

    def _close(self) -> None:
        for desk in self._desks:
            desk.close()
        for listener in self._listeners:
            listener.release()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Desk:
    """One front, and the thread that answers what it takes in."""

    def __init__(
        self,
        front: NativeGrpcFront,
        settings: NativeSettings,
        decide: Callable[[codec.Questions], Answer],
        counts: RpcCounts,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._front = front
        self._settings = settings
        self._decide = decide
        self._counts = counts
        self._clock = clock
        self._replies = CheckReplies()
        self._thread = threading.Thread(target=self._stay, name="native-door", daemon=True)
        self.takes = 0
        self.idle = True

    def open(self) -> None:
        self._front.start()
        self._thread.start()

    def close(self) -> None:
        self._front.close()

    def join(self) -> None:
        """Wait a moment for the thread: what it decides on has been cut."""
        self._thread.join(1.0)

    def _stay(self) -> None:
        try:
            self._serve()
        except BaseException as failure:  # the front would go on accepting
            end_loudly("native gRPC", failure)

    def _serve(self) -> None:
        most = self._settings.max_calls
        while (events := self._taken(most)) is not None:
            self.idle = False
            self.takes += 1
            if len(events) == most:
                self._shed_what_is_behind(most)
            self._answer(self._waiting(events))
            self.idle = True

    def _taken(self, most: int, timeout_ms: int | None = None) -> list[Event] | None:
        return cast("list[Event] | None", self._front.recv_batch(most, timeout_ms))

    def _shed_what_is_behind(self, most: int) -> None:
        """Refuse what waits behind a full take; a flood can't keep us at it for ever."""
        for _ in range(_MAX_SHED_TAKES):
            late = self._taken(most, 0) or []
            self._shed([event for event in late if event[0] == EVENT_CALL])
            if len(late) < most:
                return

    def _shed(self, calls: Sequence[Event]) -> None:
        """Refuse them, for a fraction of what answers cost."""
        fail, code = self._front.fail, _EXHAUSTED.value[0]
        there = [call[4] for call in calls if fail(call[1], code, _SHED)]
        self._counts.failed_each(there, _EXHAUSTED)

    def _waiting(self, events: Sequence[Event]) -> list[Call]:
        """The calls to answer, in order.

        Not those whose callers have gone, nor what would be more bytes than may wait.
        """
        gone = {event[1] for event in events if event[0] == EVENT_CANCEL}
        most = self._settings.max_message_bytes
        kept, held = [], 0
        for event in events:
            _, number, _, message, peer = event
            if message is None or number in gone:
                continue
            size = len(message)
            held += size
            if size <= most and held <= limits.MAX_WAITING_BYTES:
                kept.append(event)
            elif size > most:
                words = f"{size} vs. {most}"
                words = f"SERVER: Received message larger than max ({words})"
                self._fail(number, peer, _EXHAUSTED, words)
            else:
                self._shed([event])
        return cast("list[Call]", kept)

    def _answer(self, calls: Sequence[Call]) -> None:
        """All of one take, single checks first; what is still undecided when time is up is refused.

        What came meanwhile has waited as long as this takes. The time is this thread's own: that
        others had the processor does not mean that more comes than is answered.
        """
        until = self._clock() + limits.MAX_TAKE_SECONDS
        checks = [call for call in calls if call[2] == CHECK]
        for begin in range(0, len(checks), _TOGETHER_CALLS):
            if begin and self._clock() > until:
                self._shed(checks[begin:])
                break
            self._answer_checks(checks[begin : begin + _TOGETHER_CALLS])
        if len(checks) < len(calls):
            self._answer_batches([call for call in calls if call[2] != CHECK], until)

    def _answer_checks(self, calls: Sequence[Call]) -> None:
        """All of them by one question to the checker."""
        try:
            gathered = read_checks([call[3] for call in calls])
            for place, refusal in gathered.refused.items():
                _, number, _, _, peer = calls[place]
                self._fail(number, peer, *status_of(refusal))
            asking = calls
            if gathered.refused:
                asking = [c for place, c in enumerate(calls) if place not in gathered.refused]
            if not asking:
                return
            answer = self._decide(gathered.asked)
            replies = self._replies.write(answer)
        except Exception as failure:
            status = status_of(failure)
            for _, number, _, _, peer in calls:
                self._fail(number, peer, *status)
            return
        self._counts.answered_each([call[4] for call in asking], answer.status)
        respond = self._front.respond
        for call, reply in zip(asking, replies, strict=True):
            respond(call[1], reply)

    def _answer_batches(self, calls: Sequence[Call], until: float) -> None:
        for place, (_, number, _, message, peer) in enumerate(calls):
            if self._clock() > until:
                self._shed(calls[place:])
                return
            self._answer_batch(number, message, peer)

    def _answer_batch(self, number: int, message: bytes, peer: str) -> None:
        try:
            asked = codec.read_batch(message, max_checks=self._settings.max_checks_per_message)
            answer = self._decide(asked)
            reply = codec.write_batch(answer)
        except Exception as failure:
            self._fail(number, peer, *status_of(failure))
            return
        self._counts.answered(host_of(peer), answer.status)
        self._front.respond(number, reply)

    def _fail(self, number: int, peer: str, code: grpc.StatusCode, words: str) -> None:
        if self._front.fail(number, code.value[0], words):
            self._counts.failed(host_of(peer), code)
