"""The road to one node: its channel, its circuit, and what is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio

from eir.client.breaker import Breaker
from eir.client.tls import ClientTls, credentials
from eir.client.verdict import Verdict, verdicts_of
from eir.core.imei import ImeiKey
from eir.core.subscriber import ImsiCode, Msisdn, imsi_text
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc

_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(slots=True, eq=False)
class Waiting:
    """One check that waits for its answer.

    ``until``: its deadline on the loop's clock. ``tried``: the nodes that failed it or have it now,
    a bit each.
    """

    key: ImeiKey
    number: Msisdn
    code: ImsiCode
    answer: asyncio.Future[Verdict]
    until: float
    tried: int = 0
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Lane:
    """One node. ``bit`` names it in ``Waiting.tried``; ``max_checks``: the most in a message."""

    node: str
    bit: int
    max_checks: int
    breaker: Breaker
    channel: grpc.aio.Channel
    in_flight: int = 0
    _stub: wire_grpc.EligibilityAsyncStub = field(init=False)

    def __post_init__(self) -> None:
        self._stub = wire_grpc.EligibilityStub(self.channel)

    async def ask(
        self, checks: Sequence[Waiting], names: dict[int, str], seconds: float
    ) -> list[Verdict]:
        """The verdicts, in order; black lists not met before are added to ``names``.

        Raises grpc.aio.AioRpcError, and BadReply where the node's arrays don't fit the question.
        """
        end = asyncio.get_running_loop().time() + seconds
        request = wire.CheckBatchRequest(
            imei14=[each.key for each in checks],
            msisdn=[each.number for each in checks],
            imsi=[each.code for each in checks],
        )
        reply = await self._stub.CheckBatch(request, timeout=seconds)
        new = {number: i for i, number in enumerate(reply.reason) if number not in names}
        if new and max(new.values()) < len(checks):
            await self._learn((checks[i] for i in new.values()), names, end)
        verdicts = verdicts_of(reply, len(checks), names, self.node)
        if verdicts is None:
            raise BadReply(self.node)
        return verdicts

    async def _learn(self, checks: Iterable[Waiting], names: dict[int, str], end: float) -> None:
        """A batch says numbers only, a single check the name too: ask again, once for each name."""
        seconds = end - asyncio.get_running_loop().time()
        asked = (self._stub.Check(_single(each), timeout=seconds) for each in checks)
        for reply in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(reply, wire.CheckReply):
                names[reply.reason] = reply.reason_name
            elif not isinstance(reply, grpc.aio.AioRpcError):
                raise reply


class BadReply(Exception):
    """A node's arrays are not as long as the question. Never leaves the client."""


def open_lanes(
    nodes: Sequence[str], tls: ClientTls | None, *, max_checks: int, breaker: Mapping[str, float]
) -> list[Lane]:
    """Channels that connect when first used. Raises Refused ``client-tls``."""
    secure = credentials(tls) if tls else None
    return [
        Lane(
            node,
            1 << place,
            max_checks,
            Breaker(
                failures=int(breaker["failures"]),
                pause=breaker["pause"],
                longest_pause=breaker["longest_pause"],
            ),
            grpc.aio.secure_channel(node, secure, _OPTIONS)
            if secure
            else grpc.aio.insecure_channel(node, _OPTIONS),
        )
        for place, node in enumerate(nodes)
    ]


def _single(each: Waiting) -> wire.CheckRequest:
    return wire.CheckRequest(
        imei=f"{each.key:014d}",
        msisdn=str(each.number) if each.number else "",
        imsi=imsi_text(each.code) if each.code else "",
    )
