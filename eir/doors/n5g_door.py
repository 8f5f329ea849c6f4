"""The N5g-eir door: TS 29.511 over HTTP/2, on granian inside the caller's own event loop.

HTTP/2 by prior knowledge in clear, by ALPN on TLS; HTTP/1.1 where set. Questions that arrive in one
turn of the loop are decided in one call of the checker. Every request is answered: what this node
cannot serve gets 503, what it will not take on 429, what breaks here 500. Never decides a verdict,
and never logs an identity or a token.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Final, Protocol, TypedDict

import numpy as np
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server
from numpy.typing import NDArray

from eir import limits
from eir.doors import n5g_codec as codec
from eir.doors.n5g_settings import N5gSettings, TlsSettings
from eir.doors.n5g_token import TokenGate
from eir.errors import Unavailable
from eir.serve.events import Events, Peers, host_of

logger = logging.getLogger(__name__)

_PING_MS: Final = 30_000
_PING_TIMEOUT_S: Final = 20
_HEADER_READ_MS: Final = 10_000
_POLL_S: Final = 0.01
_QUIET: Final = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}
"""Keeps granian from replacing the process's log handlers with its own."""


_TLS_VERSIONS: Final = {"1.2": SSLProtocols.tls12, "1.3": SSLProtocols.tls13}


class Verdicts(Protocol):
    """One batch's answer: ``status`` is uint8 of length n, a Status each."""

    @property
    def status(self) -> NDArray[np.uint8]:
        """As the statuses leave: after mode, holds and breaker."""


class Checker(Protocol):
    """Decides a batch: IMEI keys, MSISDNs and IMSI codes, each uint64 of length n; 0 is none.

    ``check`` raises Unavailable while nothing serves.
    """

    @property
    def ready(self) -> bool:
        """Whether a generation serves."""

    def check(
        self, imei: NDArray[np.uint64], msisdn: NDArray[np.uint64], imsi: NDArray[np.uint64]
    ) -> Verdicts:
        """Decide, on one generation."""


class _Headers(Protocol):
    def get_all(self, key: str) -> list[str]: ...


class Request(Protocol):
    """What we read of an RSGI scope. ``client`` is the peer's address."""

    client: str
    method: str
    path: str
    query_string: str
    headers: _Headers


class Transport(Protocol):
    """How an RSGI request is answered, once."""

    def response_bytes(self, status: int, headers: codec.Headers, body: bytes) -> None:
        """Status, headers and body."""

    def response_empty(self, status: int, headers: codec.Headers) -> None:
        """Status and headers."""


class _Round:
    """The questions of one turn of the loop; their replies, in order, once they are decided."""

    __slots__ = ("imsis", "keys", "msisdns", "replies")

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.msisdns: list[int] = []
        self.imsis: list[int] = []
        self.replies: Sequence[codec.Reply] = ()

    def add(self, asked: codec.Question) -> int:
        """One more; its place."""
        self.keys.append(asked.key)
        self.msisdns.append(asked.msisdn)
        self.imsis.append(asked.imsi)
        return len(self.keys) - 1


class _NextTurn:
    """Awaited, lets every task that is ready now go first; costs no future."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


_NEXT_TURN: Final = _NextTurn()


class N5gDoor:
    """One listening door. ``start`` returns when it listens, ``stop`` when it no longer does.

    ``events`` counts by peer: "answer" by status, "fault" by HTTP status. A peer is the subject of
    its token (the consumer's instance id), else the host that it calls from.
    """

    def __init__(
        self,
        settings: N5gSettings,
        checker: Checker,
        *,
        gate: TokenGate | None = None,
        events: Events | None = None,
    ) -> None:
        self._settings = settings
        self._checker = checker
        self._gate = gate
        if gate is None and settings.oauth2 is not None:
            self._gate = TokenGate(settings.oauth2, instance_id=settings.instance_id)
        self._verdicts = codec.verdict_replies(settings.unknown)
        self._not_ready = codec.problem_reply(codec.not_ready(settings.retry_after_s))
        self._too_many = codec.problem_reply(codec.too_many(settings.retry_after_s))
        self._openapi = openapi_text()
        self._round = _Round()
        self._waiting_for_keys = 0
        self._stopping = False
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.events = events or Events()
        self._peers = Peers()
        self.port = settings.port

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, the port resolved once it does."""
        host = self._settings.host
        return (f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}",)

    def readiness_changed(self) -> None:
        """Nothing to do: each round asks the checker."""

    def reload(self) -> None:
        """Read the token keys again, in the background; certificates are read at start."""
        if self._gate is not None:
            self._gate.reread_soon()

    async def start(self) -> None:
        """Read the token keys, bind and listen. Raises OSError, or Refused for unusable keys."""
        if self._gate is None:
            logger.warning("N5g-eir asks for no token: any peer that connects is answered")
        else:
            await self._gate.open()
        with _claimed(self._settings.host, self._settings.port) as claim:
            self.port = claim.getsockname()[1]
            self._server = _server(self._settings, self.port, self.__rsgi__)
            self._serving = asyncio.create_task(self._server.serve())
            await _listening(claim, self._serving)
        self._serving.add_done_callback(self._ended)
        logger.info("N5g-eir listens on %s port %d", self._settings.host, self.port)

    async def stop(self) -> None:
        """Take no new connection or request, let those under way end, at most ``drain_s``."""
        if self._server is None or self._serving is None:
            return
        self._stopping = True
        self._server.stop()  # type: ignore[no-untyped-call]
        with suppress(TimeoutError):
            await self._serving
        self._server = self._serving = None

    def _ended(self, serving: asyncio.Task[None]) -> None:
        if not self._stopping:
            logger.critical(
                "N5g-eir ended by itself: %s", serving.cancelled() or serving.exception()
            )

    async def __rsgi__(self, scope: Request, proto: Transport) -> None:
        """Answer one request (the RSGI entry)."""
        method = scope.method
        try:
            asked = self._asked(scope, method)
            if asked is None:
                asked = await self._unauthorised(scope) or _read(scope)
            if isinstance(asked, codec.Reply):
                reply = asked
            elif len(self._round.keys) >= self._settings.max_gathered:
                reply = self._too_many
            else:
                gathered, place = self._round, self._round.add(asked)
                await _NEXT_TURN
                reply = self._reply(gathered, place)
        except Exception:
            logger.exception("a request was not answered as it should be")
            reply = codec.problem_reply(codec.OUR_FAULT)
        self.events.add(("n5g", *reply.counted, self._peer(scope)))
        if method == "HEAD":
            proto.response_empty(reply.status, reply.headers)
        else:
            proto.response_bytes(reply.status, reply.headers, reply.body)

    def _asked(self, scope: Request, method: str) -> codec.Question | codec.Reply | None:
        """What a request asks, or its refusal; None where its token must be looked at first."""
        path, query = scope.path, scope.query_string
        refused = _misaddressed(path, query, method)
        if refused is not None:
            return codec.problem_reply(refused)
        if path == codec.OPENAPI_PATH:
            return self._openapi
        if self._gate is not None:
            lines = scope.headers.get_all("authorization")
            if len(lines) != 1 or not self._gate.remembered(lines[0]):
                return None
        return _read(scope)

    def _peer(self, scope: Request) -> str:
        """The name that a peer is counted under."""
        if self._gate is not None:
            lines = scope.headers.get_all("authorization")
            if len(lines) == 1 and (subject := self._gate.subject(lines[0])):
                return self._peers.named(subject)
        return self._peers.named(host_of(scope.client))

    async def _unauthorised(self, scope: Request) -> codec.Reply | None:
        """The refusal of a request by its Authorization lines (more than one is none)."""
        gate = self._gate
        if gate is None:
            return None
        lines = scope.headers.get_all("authorization")
        if self._waiting_for_keys >= self._settings.max_gathered:
            return self._too_many
        self._waiting_for_keys += 1
        try:
            problem = await gate.refusal(lines[0] if len(lines) == 1 else None)
        finally:
            self._waiting_for_keys -= 1
        return None if problem is None else codec.problem_reply(problem)

    def _reply(self, gathered: _Round, place: int) -> codec.Reply:
        """The first of a round to come back, a turn later, decides for all of it."""
        if not gathered.replies:
            self._round = _Round()
            gathered.replies = self._decided(gathered)
        return gathered.replies[place]

    def _decided(self, gathered: _Round) -> Sequence[codec.Reply]:
        """One call of the checker for all that one turn of the loop asked."""
        count = len(gathered.keys)
        if not self._checker.ready:
            return [self._not_ready] * count
        try:
            statuses = self._checker.check(
                np.array(gathered.keys, dtype=np.uint64),
                np.array(gathered.msisdns, dtype=np.uint64),
                np.array(gathered.imsis, dtype=np.uint64),
            ).status.tolist()
            return [self._verdicts[status] for status in statuses]
        except Unavailable:
            return [self._not_ready] * count
        except Exception:
            logger.exception("%d questions were not decided", count)
            return [self._verdicts[0]] * count


def openapi_text() -> codec.Reply:
    """Our OpenAPI document, as served at ``OPENAPI_PATH``."""
    body = (resources.files("eir.doors") / "n5g_openapi.yaml").read_bytes()
    headers = (("content-type", "application/yaml"),)
    return codec.Reply(200, headers, body, ("document", "openapi"))


def _read(scope: Request) -> codec.Question | codec.Reply:
    """The question of a well-addressed request, or the reply that refuses it."""
    if not codec.accepts_json(scope.headers.get_all("accept")):
        return codec.problem_reply(codec.NOT_ACCEPTABLE)
    asked = codec.question(scope.query_string)
    return codec.problem_reply(asked) if isinstance(asked, codec.Problem) else asked


def _misaddressed(path: str, query: str, method: str) -> codec.Problem | None:
    if len(path) + len(query) > limits.MAX_N5G_URL_CHARS:
        return codec.URI_TOO_LONG
    if path not in (codec.RESOURCE_PATH, codec.OPENAPI_PATH):
        return codec.NO_SUCH_URI
    return None if method == "GET" else codec.NOT_GET


def _claimed(host: str, port: int) -> socket.socket:
    """A socket that holds the port, and never listens, while granian opens its own beside it."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    claim = socket.socket(family, kind, proto)
    try:
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claim.bind(address)
    except OSError:
        claim.close()
        raise
    return claim


async def _listening(claim: socket.socket, serving: asyncio.Task[None]) -> None:
    """Return once a connection to the claimed address is taken; raise what ended the server."""
    host, port = claim.getsockname()[:2]
    reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(reach, port)
        except ConnectionRefusedError:
            await asyncio.sleep(_POLL_S)
        else:
            writer.close()
            return
    serving.result()
    raise OSError(f"the server ended before it listened on {host} port {port}")


def _server(settings: N5gSettings, port: int, target: Callable[..., object]) -> Server:
    tls = _tls_options(settings.tls) if settings.tls is not None else _TlsOptions()
    server = Server(
        target,
        address=settings.host,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.auto if settings.http1 else HTTPModes.http2,
        websockets=False,
        backpressure=settings.max_connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADER_READ_MS, max_buffer_size=limits.MAX_N5G_HEADER_BYTES
        ),
        http2_settings=HTTP2Settings(
            keep_alive_interval=_PING_MS,
            keep_alive_timeout=_PING_TIMEOUT_S,
            max_concurrent_streams=settings.max_streams,
            max_headers_size=limits.MAX_N5G_HEADER_BYTES,
        ),
        log_level=LogLevels.error,
        log_dictconfig=_QUIET,
        **tls,
    )
    server.workers_kill_timeout = settings.drain_s
    return server


class _TlsOptions(TypedDict, total=False):
    ssl_cert: Path
    ssl_key: Path
    ssl_ca: Path | None
    ssl_crl: list[Path]
    ssl_client_verify: bool
    ssl_protocol_min: SSLProtocols


def _tls_options(tls: TlsSettings) -> _TlsOptions:
    return _TlsOptions(
        ssl_cert=tls.certificate,
        ssl_key=tls.key,
        ssl_ca=tls.client_ca,
        ssl_crl=list(tls.crl),
        ssl_client_verify=tls.client_ca is not None,
        ssl_protocol_min=_TLS_VERSIONS[tls.min_version],
    )
