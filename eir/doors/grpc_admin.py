"""The operator's gRPC door: eir.v1.Admin, on a server apart from what cores reach.

On the Unix socket whoever may open the file may ask: its mode is the authority. grpcio does not
give out a connection's socket, so SO_PEERCRED is out of reach, and "who" is the socket's path. Over
the network only mTLS is taken, and "who" is the name in the client's certificate. Never loads,
swaps or decides: the node's own functions do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Protocol

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from eir import limits
from eir.core.explanation import Explanation, Origin
from eir.doors import eligibility_codec as codec
from eir.doors.rpc_border import Context, answered, status_of
from eir.doors.rpc_listen import Listener, TlsCredentials, new_server, serve, tls_of
from eir.errors import Corrupt, Refused
from eir.wire.v1 import admin_pb2 as wire

SERVICE: Final = "eir.v1.Admin"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """``socket`` is a path, or None.

    ``remote_listen`` is ``host:port`` or empty, and needs all three files.
    """

    socket: Path | None
    socket_mode: int = 0o660
    remote_listen: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    drain_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedGeneration:
    """One generation that serves; ``made_at`` in Unix seconds UTC, items by section."""

    origin: Origin
    made_at: int
    items: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One process that answers; fields as in admin.proto."""

    slot: int
    pid: int
    state: str
    since: int = 0
    restarts: int = 0
    checks: int = 0
    serials: Mapping[str, int] = field(default_factory=dict)
    takeup_seconds: float = 0.0
    rss: int = 0
    pss: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingOrder:
    """One order by hand that is in force; fields as in admin.proto."""

    what: str
    until: int
    who: str
    at: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHappening:
    """What befell the node, or what a person did; fields as in admin.proto."""

    at: int
    what: str
    who: str = ""
    why: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOverlay:
    """What deltas have brought since a base; fields as in admin.proto."""

    feed: str
    touched_keys: int
    due_at_keys: int
    deltas: int
    compacting: bool = False
    last: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What Status tells; fields as in admin.proto."""

    version: str
    started_at: int
    now: int
    ready: bool
    stale: bool
    mode: str
    generations: Sequence[ServedGeneration] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    checks: Mapping[str, int] = field(default_factory=dict)
    alarms: Sequence[str] = ()
    workers: Sequence[WorkerStatus] = ()
    orders: Sequence[StandingOrder] = ()
    happenings: Sequence[NodeHappening] = ()
    overlays: Sequence[NodeOverlay] = ()


class Node(Protocol):
    """What the door asks of the node.

    ``status`` and ``explain`` return at once; ``reload`` may take its time.
    """

    def status(self) -> NodeStatus:
        """What serves and how."""

    def explain(self, imei: int, msisdn: int, imsi: int) -> Explanation:
        """Decide a key, number and IMSI code (0: malformed, none, none); raises Unavailable."""

    async def reload(self, who: str) -> Sequence[str]:
        """Take up configuration anew and name what changed.

        Raises Refused, and goes on with the old.
        """


class AdminDoor:
    """The listening server. Every method is called on the loop that it serves on."""

    def __init__(self, settings: AdminSettings, node: Node) -> None:
        """Nothing listens yet."""
        self._settings = settings
        self._node = node
        self._tls: TlsCredentials | None = None
        self._listeners: tuple[Listener, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses bound, ports resolved; empty before ``start``."""
        return tuple(listener.address for listener in self._listeners)

    async def start(self) -> None:
        """Listen.

        Raises Refused: ``admin-needs-mtls`` for a remote address without; as ``tls_of`` and
        ``serve``.
        """
        settings = self._settings
        if settings.remote_listen and settings.client_ca is None:
            raise Refused(
                "admin-needs-mtls",
                "administration from other machines needs tls_cert, tls_key and client_ca",
                where=settings.remote_listen,
            )
        self._tls = tls_of(settings.tls_cert, settings.tls_key, settings.client_ca)
        self._server = new_server(
            max_message_bytes=limits.MAX_GRPC_MESSAGE_BYTES,
            max_calls=limits.MAX_ADMIN_CALLS,
            share_port=False,
        )
        self._server.add_generic_rpc_handlers([self._methods()])
        reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), self._server)
        addresses = [f"unix:{settings.socket}"] if settings.socket else []
        if settings.remote_listen:
            addresses.append(settings.remote_listen)
        self._listeners = await serve(
            self._server, addresses, tls=self._tls, socket_mode=settings.socket_mode
        )

    def reload(self) -> None:
        """Read the certificates again, for connections made from now on.

        Raises Refused and keeps the old.
        """
        if self._tls is not None:
            self._tls.reload()

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Let calls in flight finish for so long (None: as configured), then close."""
        seconds = self._settings.drain_seconds if drain_seconds is None else drain_seconds
        await self._server.stop(seconds)
        for listener in self._listeners:
            listener.release()

    def _methods(self) -> grpc.GenericRpcHandler[bytes, bytes]:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Status": grpc.unary_unary_rpc_method_handler(self._status),
                "Explain": grpc.unary_unary_rpc_method_handler(self._explain),
                "Reload": grpc.unary_unary_rpc_method_handler(self._reload),
            },
        )

    async def _status(self, message: bytes, context: Context) -> bytes:
        def answer() -> bytes:
            codec.parsed(wire.StatusRequest(), message)
            return _status_reply(self._node.status()).SerializeToString()

        return await answered(context, answer)

    async def _explain(self, message: bytes, context: Context) -> bytes:
        def answer() -> bytes:
            asked = codec.parsed(wire.ExplainRequest(), message)
            texts = codec.read_texts(asked.imei, asked.msisdn, asked.imsi)
            return explain_reply(self._node.explain(*texts)).SerializeToString()

        return await answered(context, answer)

    async def _reload(self, message: bytes, context: Context) -> bytes:
        who = self._who(context)
        _log.info("reload asked for by %s", who)
        try:
            codec.parsed(wire.ReloadRequest(), message)
        except Refused as refusal:
            await context.abort(*status_of(refusal))
        try:
            changes = await self._node.reload(who)
        except (Refused, Corrupt) as refusal:
            code, words = grpc.StatusCode.FAILED_PRECONDITION, str(refusal)
        except Exception as failure:
            code, words = status_of(failure)
        else:
            return wire.ReloadReply(changes=changes).SerializeToString()
        return await context.abort(code, words)

    def _who(self, context: Context) -> str:
        """The socket's path, or the name in the client's certificate."""
        if context.peer().startswith("unix:"):
            return f"unix:{self._settings.socket}"
        names = context.auth_context().get("x509_common_name", ())
        return ",".join(name.decode("utf-8", "replace") for name in names) or context.peer()


def _status_reply(status: NodeStatus) -> wire.StatusReply:
    return wire.StatusReply(
        version=status.version,
        started_at=status.started_at,
        now=status.now,
        ready=status.ready,
        stale=status.stale,
        mode=status.mode,
        generations=[
            wire.ServedGeneration(
                origin=_origin(served.origin), made_at=served.made_at, items=served.items
            )
            for served in status.generations
        ],
        reasons=status.reasons,
        checks=status.checks,
        alarms=status.alarms,
        orders=[wire.StandingOrder(**asdict(order)) for order in status.orders],
        workers=[
            wire.WorkerStatus(
                slot=worker.slot,
                pid=worker.pid,
                state=worker.state,
                since=worker.since,
                restarts=worker.restarts,
                checks=worker.checks,
                serials=worker.serials,
                takeup_seconds=worker.takeup_seconds,
                rss_bytes=worker.rss,
                pss_bytes=worker.pss,
            )
            for worker in status.workers
        ],
        happenings=[wire.Happening(**asdict(each)) for each in status.happenings],
        overlays=[wire.Overlay(**asdict(each)) for each in status.overlays],
    )


def explain_reply(explained: Explanation) -> wire.ExplainReply:
    """The message."""
    changed = explained.decided != explained.status
    return wire.ExplainReply(
        status=f"STATUS_{explained.status.name}",
        decided_status=f"STATUS_{explained.decided.name}" if changed else None,
        reason=explained.reason_id,
        reason_name=explained.reason,
        valid_until=explained.valid_until,
        changed_by=explained.changed_by,
        row=explained.row,
        rules=[
            wire.TriedRule(row=rule.row, condition=rule.condition, outcome=rule.outcome)
            for rule in explained.rules
        ],
        facts=explained.facts,
        black=explained.black,
        deadline=explained.deadline if explained.deadline >= 0 else None,
        now=explained.now,
        grace_time=explained.grace_time,
        imei14=explained.imei,
        msisdn=explained.number,
        imsi=explained.imsi,
        origins=[_origin(origin) for origin in explained.origins],
    )


def _origin(origin: Origin) -> wire.Origin:
    return wire.Origin(
        feed=origin.feed,
        registry_id=origin.registry_id,
        session=origin.session,
        serial=origin.serial,
        digest=origin.digest,
    )
