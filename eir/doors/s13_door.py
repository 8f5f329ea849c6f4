"""The S13 door: listens, hands octets to peers, decides all that one read brought in one check.

Promises: every well-formed ECR is answered in the turn that read it, from one generation; a fault
of one connection ends that connection; memory a connection is bounded by one message, one read's
answers and ``max_unsent_bytes`` (a peer that does not read is not read from, then dropped).
While not ready the listener is closed and peers are told DPR (BUSY), unless the settings name
another answer. Never: a verdict of its own, a list, a file beyond its TLS certificate.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.doors.s13_ecr import Form, Question, compose, forms
from eir.doors.s13_peer import (
    BUSY,
    REBOOTING,
    Closed,
    Event,
    Faulted,
    Node,
    Opened,
    Peer,
    Phase,
)
from eir.doors.s13_settings import S13Settings, TlsSettings
from eir.errors import Refused, Unavailable
from eir.serve.events import Events

log = logging.getLogger("eir.s13")

_TICK_SECONDS = 0.5
_ADDRESSES_REMEMBERED = 4_096
_WATCHDOG_JITTER_SECONDS = 2.0


class Verdicts(Protocol):
    """What the door needs of an answer: statuses as uint8, 1 to 4 (DOMAIN's order)."""

    @property
    def status(self) -> NDArray[np.uint8]:
        """One status a question."""


class Decider(Protocol):
    """What the door needs of the Checker. ``check`` raises Unavailable while nothing serves."""

    @property
    def ready(self) -> bool:
        """True while a generation serves."""

    def check(
        self,
        imei: NDArray[np.uint64],
        msisdn: NDArray[np.uint64],
        imsi: NDArray[np.uint64],
    ) -> Verdicts:
        """Keys (0 malformed), numbers (0 none), IMSI codes (0 none), all of one length."""


class S13Door:
    """One listening S13 responder; all its methods are for the event loop's thread.

    ``origin_state_id`` must rise at each restart; by default it is the time. ``events`` counts what
    happened, each by peer: "answer" by form, "fault" by Result-Code, "closed" by reason, "opened".
    """

    def __init__(
        self,
        settings: S13Settings,
        checker: Decider,
        *,
        origin_state_id: int | None = None,
        events: Events | None = None,
    ) -> None:
        self.settings = settings
        self.events = events or Events()
        state_id = int(time.time()) if origin_state_id is None else origin_state_id
        self.node = Node.of(settings, origin_state_id=state_id & 0xFFFFFFFF)
        self._checker = checker
        self._connections: set[_Connection] = set()
        self.knows = lru_cache(maxsize=_ADDRESSES_REMEMBERED)(self._knows)
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._turning: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._tls = _tls_context(settings.tls) if settings.tls else None
        self._port = settings.port
        answers = forms(self.node.origin)
        self._not_ready = answers[settings.not_ready_answer]
        self._failed = answers["failed"]
        by_status = ("failed", "whitelisted", "greylisted", "blacklisted", settings.unknown_answer)
        self._by_status = [answers[name] for name in by_status]

    @property
    def port(self) -> int:
        """The port bound; the configured one while the listener is closed."""
        return self._port

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, or will once ready."""
        address = self.settings.address
        return (f"[{address}]:{self._port}" if ":" in address else f"{address}:{self._port}",)

    @property
    def is_listening(self) -> bool:
        """True while peers can connect."""
        return self._server is not None

    @property
    def peers_open(self) -> int:
        """Connections past their capabilities exchange."""
        return sum(c.peer.phase is Phase.OPEN for c in self._connections)

    async def start(self) -> None:
        """Begin; the listener opens now if it may, else when ``set_ready(ready=True)`` comes.

        Raises OSError when the address cannot be bound.
        """
        self._ticker = asyncio.create_task(self._tick())
        await self.set_ready(ready=self._checker.ready)

    def readiness_changed(self) -> None:
        """Follow the checker's readiness, soon; what can't be bound then is an alarm in the log."""
        turning = asyncio.get_running_loop().create_task(self.set_ready(ready=self._checker.ready))
        self._turning.add(turning)
        turning.add_done_callback(self._turned)

    def _turned(self, turning: asyncio.Task[None]) -> None:
        self._turning.discard(turning)
        fault = None if turning.cancelled() else turning.exception()
        if isinstance(fault, OSError):
            log.critical("S13 can't listen on %s: %s", self.addresses[0], fault)
        elif fault is not None:
            raise fault

    def reload(self) -> None:
        """Read the certificate again, for connections made from now on; Refused keeps the old."""
        if self._tls is not None and self.settings.tls is not None:
            _tls_context(self.settings.tls)
            _load_certificates(self._tls, self.settings.tls)

    async def set_ready(self, *, ready: bool) -> None:
        """Readiness changed: open the listener, or close it and send every peer away (BUSY)."""
        wanted = ready or self.settings.not_ready_answer != "busy"
        async with self._turn:
            if wanted and self._server is None and not self._stopping:
                await self._listen()
            elif not wanted and self._server is not None:
                self._close_listener()
                log.warning("not ready: %d peers are told DPR (BUSY)", len(self._connections))
                self._dismiss(BUSY)

    async def stop(self) -> None:
        """Stop listening, send DPR to every peer, wait for their DPA at most ``leave_seconds``."""
        self._stopping = True
        async with self._turn:
            self._close_listener()
        self._dismiss(REBOOTING)
        gone = [connection.gone for connection in self._connections]
        if gone:
            await asyncio.wait(gone, timeout=self.settings.leave_seconds)
        for connection in list(self._connections):
            connection.drop("dpa-timeout")
        if self._ticker is not None:
            self._ticker.cancel()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self),
            self.settings.address,
            self._port,
            backlog=512,
            reuse_port=self.settings.share_port,
            ssl=self._tls,
            ssl_handshake_timeout=self.settings.cer_seconds if self._tls else None,
        )
        self._port = self._server.sockets[0].getsockname()[1]
        log.info("S13 listens on %s port %d", self.settings.address, self._port)

    def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _dismiss(self, cause: int) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            connection.act(connection.peer.leave(cause, now))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            for connection in list(self._connections):
                connection.tick(now)

    def _knows(self, address: str) -> bool:
        """Whether any peer may connect from there."""
        return any(rule.allows(address) for rule in self.settings.peers)

    def joined(self, connection: _Connection) -> bool:
        """True when one more connection is within bounds."""
        if self._stopping or len(self._connections) >= self.settings.max_connections:
            self.note("closed", "too-many")
            return False
        self._connections.add(connection)
        return True

    def parted(self, connection: _Connection) -> None:
        """The connection is over."""
        self._connections.discard(connection)

    def admits(self, origin_host: str) -> bool:
        """True when the peer may have one more connection open."""
        open_now = sum(
            c.peer.rule is not None and c.peer.rule.origin_host == origin_host
            for c in self._connections
        )
        return open_now < self.settings.max_connections_per_peer

    def note(self, event: str, what: str, peer: str = "", times: int = 1) -> None:
        """Count it."""
        self.events.add(("s13", event, what, peer), times)

    def answer(self, questions: Sequence[Question], peer: str) -> bytes:
        """The ECAs of one read, in order. Never raises: a bug answers 5012, loudly."""
        most = limits.MAX_S13_QUESTIONS_PER_CHECK
        if len(questions) > most:
            pieces = range(0, len(questions), most)
            return b"".join(self.answer(questions[at : at + most], peer) for at in pieces)
        answers = self._answers(questions)
        for form, times in Counter([form.name for form in answers]).items():
            self.note("answer", form, peer, times)
        return compose(questions, answers)

    def _answers(self, questions: Sequence[Question]) -> list[Form]:
        try:
            numbers = self._check(questions)
            answers = [self._by_status[number] for number in numbers]
        except Unavailable:
            answers = [self._not_ready] * len(questions)
        except Exception:
            log.exception("the check failed; %d ECRs are answered 5012", len(questions))
            answers = [self._failed] * len(questions)
        return answers

    def _check(self, questions: Sequence[Question]) -> list[int]:
        columns = tuple(zip(*questions, strict=True))[4:]
        imei, msisdn, imsi = (np.array(column, np.uint64) for column in columns)
        status = self._checker.check(imei, msisdn, imsi).status
        if len(status) != len(questions):
            raise ValueError(f"{len(status)} statuses for {len(questions)} questions")
        numbers: list[int] = status.tolist()
        return numbers


class _Connection(asyncio.Protocol):
    """The socket's side of one Peer: what it says goes out, what comes in it hears."""

    __slots__ = ("_closed_at", "_door", "_stuck_since", "_transport", "gone", "peer")

    peer: Peer

    def __init__(self, door: S13Door) -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._stuck_since: float | None = None
        self._closed_at: float | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        door, settings = self._door, self._door.settings
        address = transport.get_extra_info("peername")[0]
        strange = not door.knows(address)
        self.peer = Peer(
            door.node,
            address=address,
            local_address=transport.get_extra_info("sockname")[0],
            now=time.monotonic(),
            admit=door.admits,
            certificate_names=_certificate_names(transport, settings.tls),
            jitter=lambda: random.uniform(-1, 1) * _WATCHDOG_JITTER_SECONDS,  # noqa: S311
            first_id=random.getrandbits(32),
        )
        if strange:
            door.note("closed", "stranger")
        if strange or not door.joined(self):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=settings.max_unsent_bytes)

    def data_received(self, data: bytes) -> None:
        self.act(self.peer.receive(data, time.monotonic()))

    def act(self, events: list[Event]) -> None:
        """Answer the questions among the events, count the rest, send what there is."""
        peer, door, transport = self.peer, self._door, self._transport
        if transport is None:
            return
        questions = [event for event in events if type(event) is Question]
        if questions:
            peer.send(door.answer(questions, self._peer_name()))
        octets = peer.take()
        if octets and not transport.is_closing():
            transport.write(octets)
        if len(questions) == len(events):
            return
        for event in events:
            self._note(event)

    def tick(self, now: float) -> None:
        """Let time pass for the peer; drop one that has not read for too long."""
        settings = self._door.settings
        if now - (self._stuck_since or now) >= settings.slow_reader_seconds:
            self.drop("slow-reader")
        elif now - (self._closed_at or now) >= settings.leave_seconds:
            self.drop("unflushed")
        else:
            self.act(self.peer.tick(now))

    def drop(self, reason: str) -> None:
        """Give the connection up without waiting for what is unsent."""
        self._door.note("closed", reason, self._peer_name())
        log.warning("S13 peer %s dropped: %s", self._name(), reason)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._door.parted(self)

    def pause_writing(self) -> None:
        # A peer that does not read its answers is not asked for more questions.
        self._stuck_since = time.monotonic()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stuck_since = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        hung_up = self._transport is not None and not self.peer.is_closed
        if hung_up and self.peer.rule is not None:
            self._door.note("closed", "peer-gone", self._peer_name())
            log.info("S13 peer %s is gone", self._name())
        self._transport = None
        self._door.parted(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def _note(self, event: Event) -> None:
        door, peer = self._door, self._peer_name()
        if isinstance(event, Opened):
            door.note("opened", "", peer)
            log.info("S13 peer %s is open", event.origin_host)
        elif isinstance(event, Faulted):
            door.note("fault", str(event.result), peer)
            log.info("S13 peer %s: %d, %s", self._name(), event.result, event.detail)
        elif isinstance(event, Closed):
            door.note("closed", event.reason, peer)
            log.info("S13 peer %s closed: %s", self._name(), event.reason)
            self._closed_at = time.monotonic()
            if self._transport is not None:
                self._transport.close()

    def _name(self) -> str:
        return self._peer_name() or "(unknown)"

    def _peer_name(self) -> str:
        return self.peer.rule.origin_host if self.peer.rule else ""


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Raises Refused (``tls-unusable``) when certificate, key or CA cannot be loaded."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificates(context, tls)
    return context


def _load_certificates(context: ssl.SSLContext, tls: TlsSettings) -> None:
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as wrong:
        detail = f"no PEM, an encrypted key, or not this certificate's: {wrong}"
        where = ", ".join(str(path) for path in (tls.certificate, tls.key, tls.client_ca) if path)
        raise Refused("tls-unusable", detail, where=where) from wrong


def _certificate_names(
    transport: asyncio.BaseTransport, tls: TlsSettings | None
) -> frozenset[str] | None:
    """The names of the peer's certificate, lower case; None where none is asked for."""
    if tls is None or tls.client_ca is None:
        return None
    shown = transport.get_extra_info("peercert") or {}
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
    subject = [pair for part in shown.get("subject", ()) for pair in part]
    names += [value for kind, value in subject if kind == "commonName"]
    return frozenset(name.lower() for name in names)


def run_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop factory to run the door with: uvloop's where it is installed, else None."""
    try:
        import uvloop
    except ImportError:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)
