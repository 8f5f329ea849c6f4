"""Which doors answer in a process, by configuration. The one place to add a door.

Promises all or none: where one can't open, those before it are closed again. Readiness is the
holder's: each door is told of every turn of it, whatever thread the swap was made in.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.n5g_settings import N5gSettings
from eir.doors.s13_door import S13Door
from eir.errors import Refused
from eir.ops.settings.config import Config
from eir.ops.settings.forms import split_address
from eir.ops.settings.sections import GrpcSection
from eir.serve.checker import Checker
from eir.serve.events import Events
from eir.serve.holder import Holder

if TYPE_CHECKING:
    from eir.doors.n5g_nrf import NrfRegistration

_log = logging.getLogger(__name__)


class Door(Protocol):
    """One protocol's door, open or not yet."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it listens, ports resolved."""

    async def start(self) -> None:
        """Listen; raises Refused, or OSError where the address can't be had."""

    def readiness_changed(self) -> None:
        """Look again whether a generation serves. Called on the loop."""

    def reload(self) -> None:
        """Read certificates and keys again; raises Refused and keeps the old."""

    async def stop(self) -> None:
        """Drain and close."""


@dataclass(frozen=True, slots=True)
class OpenDoors:
    """Everything that a process answers through."""

    doors: tuple[Door, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where they listen, ports resolved; the gRPC door's first."""
        return tuple(address for door in self.doors for address in door.addresses)

    def reload(self) -> None:
        """Read certificates and keys again; raises Refused at the first that can't."""
        for door in self.doors:
            door.reload()

    async def stop(self) -> None:
        """Drain and close all of them at once."""
        await asyncio.gather(*(door.stop() for door in self.doors))


async def open_doors(
    config: Config,
    checker: Checker,
    holder: Holder,
    *,
    only_one: bool,
    events: Events | None = None,
    state_id: int | None = None,
    take_over: bool = False,
) -> OpenDoors:
    """Open every door that is configured, and keep the collector off what lives as long as they.

    ``only_one``: this is the one process that opens what can't be shared: Unix sockets, S13 and
    the registration with the NRF. ``events``: where doors count besides verdicts. ``state_id``: for
    the S13 door. ``take_over``: a Unix socket's name, though somebody answers there. Raises Refused
    as the doors do.
    """
    events = events or Events()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as until_good:
        opened = []
        grpc = replace(grpc_settings(config, only_one=only_one), take_over=take_over)
        for door in _configured(config, checker, events, grpc, only_one, state_id):
            try:
                await door.start()
            except OSError as fault:
                words = fault.strerror or str(fault)
                raise Refused("listen-failed", words, where=type(door).__name__) from fault
            until_good.push_async_callback(door.stop)
            opened.append(door)
        until_good.pop_all()
    for door in opened:
        holder.listen(_on_the_loop(loop, door.readiness_changed))
        door.readiness_changed()
    gc.collect()
    gc.freeze()
    return OpenDoors(tuple(opened))


def _on_the_loop(
    loop: asyncio.AbstractEventLoop, turned: Callable[[], None]
) -> Callable[[object], None]:
    def listener(_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(turned)

    return listener


def _configured(
    config: Config,
    checker: Checker,
    events: Events,
    settings: GrpcSettings,
    only_one: bool,
    state_id: int | None,
) -> Iterator[Door]:
    if settings.listen:
        yield _grpc_door(settings, checker.through("grpc"), events, config.grpc)
    if config.s13 is not None and only_one:
        shared = replace(config.s13, share_port=True)
        yield S13Door(shared, checker.through("s13"), origin_state_id=state_id, events=events)
    if config.n5g is not None:
        yield from _n5g_doors(config.n5g, checker, events, only_one=only_one)


def _grpc_door(
    settings: GrpcSettings, checker: Checker, events: Events, section: GrpcSection
) -> Door:
    if section.engine == "grpcio":
        return GrpcDoor(settings, checker, events)
    try:
        from eir.doors.native_door import NativeDoor, NativeSettings
    except ImportError as error:
        detail = f"[grpc] engine = \"native\" needs {error.name}; type: pip install 'eir[native]'"
        raise Refused("native-extra-missing", detail) from error
    chosen = NativeSettings(
        listen=settings.listen,
        plaintext_accepted=settings.plaintext_accepted,
        max_message_bytes=settings.max_message_bytes,
        max_checks_per_message=settings.max_checks_per_message,
        calls_per_connection=section.calls_per_connection,
        share_port=settings.share_port,
        take_over=settings.take_over,
        drain_seconds=settings.drain_seconds,
    )

    def behind(address: str) -> GrpcDoor:
        return GrpcDoor(replace(settings, listen=(address,)), checker, events)

    return NativeDoor(chosen, checker, behind, events)


def _n5g_doors(
    settings: N5gSettings, checker: Checker, events: Events, *, only_one: bool
) -> Iterator[Door]:
    try:
        from eir.doors.n5g_door import N5gDoor
        from eir.doors.n5g_nrf import NrfRegistration
    except ImportError as error:
        detail = f"[n5g] needs {error.name}; type: pip install 'eir[n5g]'"
        raise Refused("n5g-extra-missing", detail) from error
    yield N5gDoor(settings, checker.through("n5g"), events=events)
    if settings.nrf is not None and only_one:
        registration = NrfRegistration(
            settings.nrf,
            instance_id=settings.instance_id,
            scheme="https" if settings.tls else "http",
            ready=lambda: checker.ready,
        )
        yield _Registered(registration)


@dataclass(frozen=True, slots=True)
class _Registered:
    """The registration, which opens and closes with the door that it tells of."""

    registration: NrfRegistration
    addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        """Register; in the background."""
        await self.registration.start()

    def readiness_changed(self) -> None:
        """Tell the NRF."""
        self.registration.readiness_changed()

    def reload(self) -> None:
        """Nothing of it is read again."""

    async def stop(self) -> None:
        """Deregister."""
        await self.registration.stop()


def listened(config: Config) -> tuple[str, ...]:
    """Every address that a door is to listen on."""
    s13, n5g = config.s13, config.n5g
    places = [(s13.address, s13.port)] if s13 else []
    places += [(n5g.host, n5g.port)] if n5g else []
    tcp = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places]
    return (*config.grpc.listen, *tcp)


def settled(config: Config, addresses: tuple[str, ...]) -> Config:
    """The configuration with ``listened``'s addresses as they were claimed: no port is 0."""
    count = len(config.grpc.listen)
    config = replace(config, grpc=replace(config.grpc, listen=addresses[:count]))
    ports = [split_address(address)[1] for address in addresses[count:]]
    if config.s13 is not None:
        config = replace(config, s13=replace(config.s13, port=ports.pop(0)))
    if config.n5g is not None:
        config = replace(config, n5g=replace(config.n5g, port=ports.pop(0)))
    return config


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
