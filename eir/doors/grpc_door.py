"""The gRPC door on grpcio: eir.v1.Eligibility with health and reflection, in clear or with TLS.

One message is one ``Checker.check``, so it sees exactly one generation. Between a message and its
answer nothing awaits. A stream is read only when the answer before has been taken by the transport:
a client that does not read is not read from either, and the door never holds more than one message
of a stream.

    start ─▶ NOT_SERVING ─ a generation serves ─▶ SERVING ─ stop ─▶ draining ─ calls done ─▶ closed
                  ▲                                  │                        or time is up
                  └────────── none serves ───────────┘

Never signals, never reads configuration, never loads anything: ops does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from eir import limits
from eir.doors import eligibility_codec as codec
from eir.doors.grpc_health import Health
from eir.doors.rpc_border import Context, answered, end_loudly
from eir.doors.rpc_counts import RpcCounts
from eir.doors.rpc_listen import (
    Listener,
    TlsCredentials,
    accept_no_more,
    listening,
    new_server,
    serve,
    tls_of,
)
from eir.serve.checker import Answer
from eir.serve.events import Events

_log = logging.getLogger(__name__)

SERVICE: Final = "eir.v1.Eligibility"
HEALTH_SERVICE: Final = "grpc.health.v1.Health"
_QUIET_SECONDS: Final = 0.05
_MAX_SECONDS_TO_QUIET: Final = 1.0
_STOP_MARGIN_SECONDS: Final = 2.0


class Checks(Protocol):
    """What the door asks: serve's Checker."""

    @property
    def ready(self) -> bool:
        """A generation serves."""

    def check(self, imei: codec.Keys, msisdn: codec.Keys, imsi: codec.Keys) -> Answer:
        """Decide a batch on one generation; raises Unavailable when none serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSettings:
    """How the door listens and what it accepts.

    listen: addresses as ``rpc_listen.serve`` takes them. client_ca: clients must show a
    certificate that leads to it. plaintext_accepted: listen in clear where other machines reach it.
    max_streams: open CheckStream calls. max_calls: open calls of every kind, streams included.
    share_port: several processes on one port (SO_REUSEPORT). take_over: a Unix socket's name is
    taken though somebody answers there. drain_seconds: how long ``stop`` waits for calls in flight.
    """

    listen: tuple[str, ...] = ("127.0.0.1:50061",)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    plaintext_accepted: bool = False
    max_message_bytes: int = limits.MAX_GRPC_MESSAGE_BYTES
    max_checks_per_message: int = limits.MAX_CHECKS_PER_MESSAGE
    max_streams: int = limits.MAX_GRPC_STREAMS
    max_calls: int = limits.MAX_GRPC_CALLS
    share_port: bool = False
    take_over: bool = False
    drain_seconds: float = 10.0


class GrpcDoor:
    """One listening server. start, stop and reload are called on the loop that it serves on."""

    def __init__(
        self, settings: GrpcSettings, checker: Checks, events: Events | None = None
    ) -> None:
        """Nothing listens yet. ``events``: where calls are counted by peer."""
        self._settings = settings
        self._checker = checker
        self._counts = RpcCounts(events, by_certificate=settings.client_ca is not None)
        self._streams = 0
        self._messages = 0
        self._waiting: set[asyncio.Task[object]] = set()
        self._tls: TlsCredentials | None = None
        self._listeners: tuple[Listener, ...] = ()
        self._accepting: frozenset[int] = frozenset()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses bound, ports resolved; empty before ``start``."""
        return tuple(listener.address for listener in self._listeners)

    async def start(self) -> None:
        """Listen.

        Calls get UNAVAILABLE until a generation serves. Raises Refused as ``tls_of`` and ``serve``.
        """
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        self._tls = tls_of(settings.tls_cert, settings.tls_key, settings.client_ca)
        self._health = Health(lambda: self._checker.ready, [SERVICE])
        self._server = new_server(
            max_message_bytes=settings.max_message_bytes,
            max_calls=settings.max_calls,
            share_port=settings.share_port,
        )
        self._server.add_generic_rpc_handlers([self._methods()])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = (SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(services, self._server)
        others = listening()
        self._listeners = await serve(
            self._server,
            settings.listen,
            tls=self._tls,
            plaintext_accepted=settings.plaintext_accepted,
            take_over=settings.take_over,
        )
        self._accepting = listening() - others
        self._serving = asyncio.create_task(self._server.wait_for_termination())
        self._serving.add_done_callback(self._served)

    def _served(self, serving: asyncio.Task[bool]) -> None:
        if not serving.cancelled() and not self._health.draining:
            end_loudly("gRPC", serving.exception())

    def readiness_changed(self) -> None:
        """Tell health watchers to look again. May be called from any thread, while started."""
        self._loop.call_soon_threadsafe(self._health.refresh)

    def reload(self) -> None:
        """Read the certificates again, for connections made from now on.

        Raises Refused and keeps the old.
        """
        if self._tls is not None:
            self._tls.reload()

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Drain and close.

        Nobody can connect any more, health turns NOT_SERVING and waiting streams end; calls are
        answered until none comes for a moment (at most a second), since the transport cuts what has
        come and was not taken up yet; then clients are sent off and calls in flight finish. What is
        still open after ``drain_seconds`` (None: as configured) is cut.
        """
        seconds = self._settings.drain_seconds if drain_seconds is None else drain_seconds
        accept_no_more(self._accepting)
        self._health.drain()
        for task in self._waiting:
            task.cancel()
        begun = self._loop.time()
        await self._quiet(min(seconds, _MAX_SECONDS_TO_QUIET))
        left = max(0.0, seconds - (self._loop.time() - begun))
        try:
            async with asyncio.timeout(left + _STOP_MARGIN_SECONDS):
                await self._server.stop(left)
        except TimeoutError:
            _log.error("the gRPC server does not stop in time: left as it is")
        for listener in self._listeners:
            listener.release()

    async def _quiet(self, seconds: float) -> None:
        """Return when no message has come for a moment, or after ``seconds``."""
        end = self._loop.time() + seconds
        while self._loop.time() < end:
            before = self._messages
            await asyncio.sleep(_QUIET_SECONDS)
            if self._messages == before:
                return

    def _methods(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        """Handlers on raw bytes: a message that is no protobuf is then ours to answer."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check),
                "CheckBatch": grpc.unary_unary_rpc_method_handler(self._check_batch),
                "CheckStream": grpc.stream_stream_rpc_method_handler(self._check_stream),
            },
        )

    async def _check(self, message: bytes, context: Context) -> bytes:
        return await self._answered(self._answer_check, message, context)

    async def _check_batch(self, message: bytes, context: Context) -> bytes:
        return await self._answered(self._answer_batch, message, context)

    async def _answered(
        self, answer: Callable[[bytes, str], bytes], message: bytes, context: Context
    ) -> bytes:
        peer = self._counts.peer_of(context)
        failed = partial(self._counts.failed, peer)
        return await answered(context, partial(answer, message, peer), failed)

    async def _check_stream(self, _messages: object, context: Context) -> None:
        if self._streams >= self._settings.max_streams:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            self._counts.failed(self._counts.peer_of(context), code)
            words = f"{self._settings.max_streams} streams are open on this node"
            await context.abort(code, f"streams-exhausted: {words}")
        self._streams += 1
        try:
            while (message := await self._next_message(context)) is not None:
                await context.write(await self._answered(self._answer_stream, message, context))
        finally:
            self._streams -= 1

    async def _next_message(self, context: Context) -> bytes | None:
        """The stream's next message, or None at its end.

        When the door drains, the stream ends here.
        """
        task = cast("asyncio.Task[object]", asyncio.current_task())
        if not self._health.draining:
            self._waiting.add(task)
            try:
                message = await context.read()
                return message if isinstance(message, bytes) else None
            except asyncio.CancelledError:
                if not self._health.draining:
                    raise
                task.uncancel()
            finally:
                self._waiting.discard(task)
        return await context.abort(grpc.StatusCode.UNAVAILABLE, "draining: ask another node")

    def _answer_check(self, message: bytes, peer: str) -> bytes:
        return codec.write_check(self._decide(codec.read_check(message), peer))

    def _answer_batch(self, message: bytes, peer: str) -> bytes:
        asked = codec.read_batch(message, max_checks=self._settings.max_checks_per_message)
        return codec.write_batch(self._decide(asked, peer))

    def _answer_stream(self, message: bytes, peer: str) -> bytes:
        tag, asked = codec.read_stream(message, max_checks=self._settings.max_checks_per_message)
        return codec.write_stream(tag, self._decide(asked, peer))

    def _decide(self, asked: codec.Questions, peer: str) -> Answer:
        self._messages += 1
        answer = self._checker.check(asked.imei, asked.msisdn, asked.imsi)
        self._counts.answered(peer, answer.status)
        return answer
