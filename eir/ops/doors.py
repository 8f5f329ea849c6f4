"""Which doors a worker opens, by configuration. The one place to add a door.

Promises all or none: where one can't open, those before it are closed again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.ops.config import Config
from eir.serve.checker import Checker
from eir.serve.holder import Holder


class Door(Protocol):
    """One protocol's door, open or not yet."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens."""

    async def start(self) -> None:
        """Listen; raises Refused."""

    def reload(self) -> None:
        """Read certificates again; raises Refused and keeps the old."""

    async def stop(self) -> None:
        """Drain and close."""


@dataclass(frozen=True, slots=True)
class OpenDoors:
    """Everything that a worker answers through."""

    doors: tuple[Door, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where they listen, ports resolved."""
        return tuple(address for door in self.doors for address in door.addresses)

    def reload(self) -> None:
        """Read certificates again; raises Refused at the first that can't."""
        for door in self.doors:
            door.reload()

    async def stop(self) -> None:
        """Drain and close all of them at once."""
        await asyncio.gather(*(door.stop() for door in self.doors))


async def open_doors(
    config: Config, checker: Checker, holder: Holder, *, only_one: bool
) -> OpenDoors:
    """Open every door that is configured.

    ``only_one``: this is the one worker that opens what can't be shared between processes. Raises
    Refused as the doors do.
    """
    async with contextlib.AsyncExitStack() as until_good:
        opened = []
        for door in _configured(config, checker, holder, only_one=only_one):
            await door.start()
            until_good.push_async_callback(door.stop)
            opened.append(door)
        until_good.pop_all()
    return OpenDoors(tuple(opened))


def _configured(
    config: Config, checker: Checker, holder: Holder, *, only_one: bool
) -> Iterator[Door]:
    settings = grpc_settings(config, only_one=only_one)
    if settings.listen:
        grpc = GrpcDoor(settings, checker)
        yield grpc
        holder.listen(lambda _: grpc.readiness_changed())


def grpc_settings(config: Config, *, only_one: bool) -> GrpcSettings:
    """The gRPC door's. A Unix socket has one listener; TCP ports are shared."""
    section = config.grpc
    return GrpcSettings(
        listen=tuple(a for a in section.listen if only_one or not a.startswith("unix:")),
        tls_cert=section.tls_cert,
        tls_key=section.tls_key,
        client_ca=section.client_ca,
        plaintext_accepted=section.plaintext == "accepted",
        max_checks_per_message=section.max_checks_per_message,
        max_streams=section.max_streams,
        share_port=True,
        drain_seconds=section.drain_seconds,
    )
