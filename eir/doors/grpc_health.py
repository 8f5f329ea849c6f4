"""grpc.health.v1 of a door: one readiness for "" and for each service it serves.

NOT_SERVING until a generation serves, and again from the moment the door drains: watchers are told
before the first call is turned away, then sent off, so that a load balancer's open Watch does not
hold up the drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2 as wire

Context = grpc.aio.ServicerContext[wire.HealthCheckRequest, wire.HealthCheckResponse]


class Health:
    """Answers Check, List and Watch. Belongs to one event loop; every method is called on it."""

    def __init__(self, ready: Callable[[], bool], services: Collection[str]) -> None:
        """``ready`` is asked whenever readiness may have changed.

        ``services`` are the names besides "".
        """
        self._ready = ready
        self._services = frozenset(services) | {""}
        self._draining = False
        self._changed = asyncio.Event()

    @property
    def draining(self) -> bool:
        """The door is going down, for good."""
        return self._draining

    def drain(self) -> None:
        """NOT_SERVING from now on, whatever serves."""
        self._draining = True
        self.refresh()

    def refresh(self) -> None:
        """Have the watchers look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(  # noqa: N802
        self, request: wire.HealthCheckRequest, context: Context
    ) -> wire.HealthCheckResponse:
        """The status now; NOT_FOUND for a service that is not served here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return wire.HealthCheckResponse(status=self._status(request.service))

    async def List(  # noqa: N802
        self, request: wire.HealthListRequest, context: Context
    ) -> wire.HealthListResponse:
        """The status of every service served here."""
        found = {name: {"status": self._status(name)} for name in self._services}
        return wire.HealthListResponse(statuses=found)

    async def Watch(self, request: wire.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """The status now and whenever it changes; ends when the door drains."""
        told = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                await context.write(wire.HealthCheckResponse(status=status))
                told = status
            if self._draining:
                return
            await changed.wait()

    def _status(self, service: str) -> wire.HealthCheckResponse.ServingStatus:
        if service not in self._services:
            return wire.HealthCheckResponse.SERVICE_UNKNOWN
        if self._draining or not self._ready():
            return wire.HealthCheckResponse.NOT_SERVING
        return wire.HealthCheckResponse.SERVING
