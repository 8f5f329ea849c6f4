"""The composition root: puts a node together from its configuration and keeps it running.

    configuration → kernel proven → depot's newest good generations → doors → serve
    SIGHUP or Admin.Reload: configuration and depot are read again, what serves is swapped
    SIGTERM or SIGINT: not ready, calls in flight end, doors close

Built aside, then swapped: whatever fails on the way leaves what serves as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import eir
from eir.core import golden, policy
from eir.core.explanation import Explanation, origin_of
from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.core.policy import Status
from eir.core.tables import Tables
from eir.doors.grpc_admin import AdminDoor, AdminSettings, NodeStatus, ServedGeneration
from eir.errors import Corrupt, Refused, Unavailable
from eir.ops.config import Config, load_config
from eir.ops.doors import OpenDoors, open_doors
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving
from eir.store.depot import Depot

_log = logging.getLogger(__name__)

_FIXED_AT_START = ("node", "grpc", "s13", "n5g", "admin")


class Keeper:
    """One node. Built, then ``run`` once."""

    def __init__(
        self, config: Config, *, config_path: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._config_path = config_path
        self._clock = clock
        self._depot = Depot(config.node.depot)
        self._holder = Holder()
        self._checker = Checker(self._holder, clock)
        self._doors = OpenDoors(())
        self._admin = AdminDoor(_admin_settings(config), self)
        self._started_at = int(clock())
        self._damaged: tuple[Corrupt, ...] = ()
        self._reloading = asyncio.Lock()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where checks are answered, ports resolved; empty before the doors are open."""
        return self._doors.addresses

    async def run(
        self, *, opened: Callable[[Keeper], None] = lambda _: None, handle_signals: bool = True
    ) -> None:
        """Serve until SIGTERM, SIGINT, or cancelled; ``opened`` is called once the doors are.

        Raises Refused where the node can't start: the depot is in use, an address is taken.
        """
        with self._depot.held_by_keeper():
            await asyncio.to_thread(golden.verify_kernel)
            await self._take_up(self._config)
            async with contextlib.AsyncExitStack() as open_ones:
                self._doors = await open_doors(
                    self._config, self._checker, self._holder, only_one=True
                )
                open_ones.push_async_callback(self._doors.stop)
                await self._admin.start()
                open_ones.push_async_callback(self._admin.stop)
                stopped = self._stop_on_signals() if handle_signals else asyncio.Event()
                _log.info("answering on %s", ", ".join(self.addresses))
                opened(self)
                await stopped.wait()
                _log.info("draining for at most %s s", self._config.grpc.drain_seconds)

    def status(self) -> NodeStatus:
        """What serves and how."""
        serving = self._serving()
        generations = _generations(serving) if serving else ()
        names = serving.tables.reason_names if serving else {}
        return NodeStatus(
            version=eir.__version__,
            started_at=self._started_at,
            now=int(self._clock()),
            ready=serving is not None,
            stale=serving.stale if serving else False,
            mode=self._config.policy.mode,
            generations=[_served(generation) for generation in generations],
            reasons={number: name for number, name in names.items() if number > 255},
            checks=self._checks(),
            alarms=self._alarms(serving),
        )

    def explain(self, imei: int, msisdn: int, imsi: int) -> Explanation:
        """One verdict with every rule tried. Raises Unavailable while nothing serves."""
        return self._checker.explain(imei, msisdn, imsi)

    async def reload(self, who: str) -> Sequence[str]:
        """Read configuration and depot again and swap; what changed, one line each.

        Raises Refused where the configuration or the newest snapshot can't be taken: what
        serves goes on.
        """
        async with self._reloading:
            _log.info("reload asked for by %s", who)
            config = load_config(self._config_path)
            before = self._serving()
            await self._take_up(config)
            self._doors.reload()
            self._admin.reload()
            changes = [
                f"[{name}] changed: takes effect at the next start"
                for name in _FIXED_AT_START
                if getattr(config, name) != getattr(self._config, name)
            ]
            changes += _changes(before, self._serving(), self._config, config)
            self._config = config
            for change in changes:
                _log.info("%s", change)
            return changes

    async def _take_up(self, config: Config) -> None:
        """Open the newest generations, unless they serve already, and swap."""
        serving = await asyncio.to_thread(self._build, config, self._serving())
        if serving is not None:
            self._holder.swap(serving)

    def _build(self, config: Config, before: Serving | None) -> Serving | None:
        """What the depot and the configuration come to; None where no registry data is kept."""
        old = before.tables if before else None
        self._damaged = ()
        registry = self._open(REGISTRY, old.registry if old else None)
        operator = self._open(OPERATOR, old.operator if old else None)
        if registry is None:
            _log.warning("no registry data yet: load some with `eir load MANIFEST.toml`")
            return None
        tables = Tables(registry, operator, config.policy)
        return Serving(tables, data_time=registry.made_at, grace_lag=config.grace.grace_lag)

    def _open(self, feed: str, served: Generation | None) -> Generation | None:
        kept = self._depot.kept(feed)
        newest = (kept[0].session, kept[0].serial) if kept else None
        if served is not None and newest == (served.session, served.serial):
            return served
        try:
            opened = self._depot.open_newest(feed)
        except Unavailable:
            return None
        except Corrupt as error:
            if served is None:
                raise Refused(
                    "depot-damaged", f"{error}: load the lists again", where=str(self._depot.folder)
                ) from error
            self._damaged += (error,)
            return served
        for damage in opened.damaged:
            _log.error("damaged, an older one serves: %s", damage)
        self._damaged += opened.damaged
        return opened.generation

    def _serving(self) -> Serving | None:
        return self._holder.current() if self._holder.ready else None

    def _checks(self) -> dict[str, int]:
        by_status = self._checker.counts.sum(axis=0)
        return {status.name: int(by_status[status]) for status in Status}

    def _alarms(self, serving: Serving | None) -> list[str]:
        alarms = [f"damaged and passed over: {error}" for error in self._damaged]
        if serving is None:
            return [*alarms, "no generation serves: every check is answered UNAVAILABLE"]
        now = int(self._clock())
        if serving.tables.policy.mode == policy.SHADOW:
            alarms.append("shadow mode: nobody is refused")
        behind = now - serving.grace_time(now)
        if behind > 0:
            alarms.append(
                f"grace time stands still since {behind} s: the registry data is older than"
                " grace_lag, so no deadline passes"
            )
        return alarms

    def _stop_on_signals(self) -> asyncio.Event:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        return stopped

    def _on_hangup(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload("SIGHUP"))
        task.add_done_callback(_report_reload)


def _report_reload(task: asyncio.Task[Sequence[str]]) -> None:
    error = task.exception()
    if isinstance(error, Refused | Corrupt):
        _log.error("reload refused, the old goes on: %s", error)
    elif error is not None:
        raise error


def _generations(serving: Serving) -> list[Generation]:
    feeds = (serving.tables.registry, serving.tables.operator)
    return [feed for feed in feeds if feed is not None]


def _served(generation: Generation) -> ServedGeneration:
    items = {name: section.items for name, section in generation.sections.items()}
    return ServedGeneration(origin=origin_of(generation), made_at=generation.made_at, items=items)


def _changes(before: Serving | None, after: Serving | None, old: Config, new: Config) -> list[str]:
    served = {g.feed: g for g in _generations(before)} if before else {}
    changes = []
    for generation in _generations(after) if after else ():
        known = served.get(generation.feed)
        if known is not generation:
            serial = f"{generation.registry_id} serial {generation.serial}"
            changes.append(f"{generation.feed}: {serial} serves, digest {generation.digest}")
    if old.policy != new.policy:
        names = [f.name for f in fields(new.policy)]
        differ = [n for n in names if getattr(old.policy, n) != getattr(new.policy, n)]
        changes.append(f"policy: {', '.join(differ)} changed")
    if old.grace != new.grace:
        changes.append(f"grace: grace_lag is {new.grace.grace_lag} s")
    return changes


def _admin_settings(config: Config) -> AdminSettings:
    section = config.admin
    return AdminSettings(
        socket=section.socket,
        socket_mode=int(section.mode, 8),
        remote_listen=section.remote_listen,
        tls_cert=section.tls_cert,
        tls_key=section.tls_key,
        client_ca=section.client_ca,
    )
