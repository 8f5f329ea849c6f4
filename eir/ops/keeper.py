"""The composition root: puts a node together from its configuration and keeps it running.

    configuration → what served last, or the depot's newest → workers, proven → serve
    what is newer than that: weighed, then served, or held for a person
    SIGHUP or Admin.Reload: configuration and depot are read again, what serves is swapped
    SIGTERM or SIGINT: not ready, calls in flight end, doors close
    killed: the workers go on; the next keeper sends them home once its own answer

Built aside, then swapped: whatever fails on the way leaves what serves as it was. Verifies what is
handed to workers, and answers no check itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import eir
from eir.core import policy
from eir.core.explanation import Explanation
from eir.core.generation import FEEDS, OPERATOR, REGISTRY
from eir.core.tables import Tables
from eir.doors.grpc_admin import AdminDoor, NodeStatus
from eir.errors import Corrupt, Refused, Unavailable
from eir.ops.accepted import write_down
from eir.ops.compaction import Compaction, CompactionState
from eir.ops.crew import Crew
from eir.ops.doors import listened, settled
from eir.ops.following import Following
from eir.ops.keeping import depot_of, may_be_pinned, pinned_in
from eir.ops.meters import MetricsPage
from eir.ops.node_words import (
    admin_settings,
    alarms_of,
    changes_between,
    generations_of,
    handed,
    happenings_of,
    overlays_of,
    served_status,
)
from eir.ops.nursery import prove_kernel, was_proven
from eir.ops.order_words import standing_orders
from eir.ops.outbox import Outbox, OutboxFigures, opened_outbox
from eir.ops.ports import Ports
from eir.ops.reload_guard import waiting, weigh
from eir.ops.settings.config import Config, load_config
from eir.ops.starting import built_at_start
from eir.ops.stopping import done_before, stop_on_signals, unwaited
from eir.ops.sync_meters import FeedFigures
from eir.ops.tally import Tally
from eir.ops.watch import Reading, Watch, WatchFigures
from eir.ops.weighing import Beside, Footing, judge_by
from eir.serve.checker import Checker
from eir.serve.courtesy import yield_to_answers
from eir.serve.handover import ServeOrder
from eir.serve.holder import Holder, Serving
from eir.store.depot import KEEP_GENERATIONS, Opened

_log = logging.getLogger(__name__)

_FIXED_AT_START = (
    "node", "workers", "metrics", "grpc", "s13", "n5g", "admin", "feed", "operator_feed",
    "sightings",
)  # fmt: skip


class Keeper:
    """One node. Built, then ``run`` once."""

    def __init__(
        self, config: Config, *, config_path: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._config_path = config_path
        self._clock = clock
        self._depot = depot_of(config.node)
        self._holder = Holder()
        self._checker = Checker(self._holder, clock)
        self._admin = AdminDoor(admin_settings(config), self)
        self._started_at = int(clock())
        self._taken: dict[str, Opened] = {}
        self._damaged: tuple[Corrupt, ...] = ()
        self._reloads = {"done": 0, "refused": 0}
        self._reloading = asyncio.Lock()
        self._behind: Config | None = None
        self._footings: dict[str, Footing] = {}
        self._followings = self._follow()
        self._compaction = Compaction(
            self._depot,
            bounds=lambda: self._config.compaction,
            served=lambda feed: self._taken.get(feed),
            pinned=partial(may_be_pinned, self._depot),
            keep=self._bases_kept,
            serve=self._serve_reached,
            clock=clock,
        )
        self._watch = Watch(
            config.node.depot, limits=lambda: self._config.breaker, read=self._read, clock=clock
        )
        self._outbox: Outbox | None = None
        self.addresses: tuple[str, ...] = ()
        self.metrics_address = ""

    async def run(
        self, *, opened: Callable[[Keeper], None] = lambda _: None, handle_signals: bool = True
    ) -> None:
        """Serve until SIGTERM, SIGINT, or cancelled; ``opened`` is called once the doors are, and
        finds ``addresses`` (where checks are answered) and ``metrics_address`` with ports resolved.

        Raises Refused where the node can't start: the depot is in use, an address is taken.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._depot.held_by_keeper())
            self._outbox = opened_outbox(self._config, self._holder, self._clock)
            self._crew = Crew(self._config, self._depot.workers)
            stack.push_async_callback(self._crew.stop)
            stopped = stop_on_signals(self._on_hangup) if handle_signals else asyncio.Event()
            async with self._reloading:
                if not await done_before(stopped, self._open_up(stack)):
                    return
            _log.info("answering on %s", ", ".join(self.addresses))
            opened(self)
            catching_up = asyncio.create_task(self._catch_up())
            stack.callback(catching_up.cancel)
            stopping = asyncio.create_task(stopped.wait())
            lasting = [asyncio.create_task(self._crew.watch())]
            others = [following.run() for following in self._followings.values()]
            others += [self._outbox.run()] if self._outbox else []
            for forever in (self._watch.run(), self._compaction.run(), *others):
                lasting.append(asyncio.create_task(forever))
                stack.callback(lasting[-1].cancel)
            await asyncio.wait((stopping, *lasting), return_when=asyncio.FIRST_COMPLETED)
            for task in lasting:
                if task.done():
                    task.result()
            _log.info("draining for at most %s s", self._config.grpc.drain_seconds)
            self._crew.send_orphans_home()

    async def _open_up(self, stack: contextlib.AsyncExitStack) -> None:
        """From the depot to open doors; what was opened is closed with the stack."""
        ports = Ports(listened(self._config), shared=self._crew.orphaned)
        stack.callback(ports.close)
        aside, noting = stack.enter_context(unwaited()), self._outbox is not None
        first = "" if was_proven(noting=noting) else ": it is compiled first, for half a minute"
        _log.info("proving the kernel%s", first)
        await asyncio.wrap_future(aside.submit(prove_kernel, noting=noting))
        self._crew.proven()  # in the nursery, beside what comes
        build, now = partial(built_at_start, self._depot, self._config), int(self._clock())
        start = await asyncio.wrap_future(
            aside.submit(build, build=self._build, serving_of=self._serving_of, now=now)
        )
        self._taken, self._config, self._behind = start.taken, start.config, start.behind
        serving, tables = start.serving, start.serving.tables if start.serving else None
        self._holder.swap(serving)
        self._watch.look()
        self.addresses = await self._crew.start(
            self._order(serving, self._config), tables, settled(self._config, ports.addresses)
        )
        await self._admin.start()
        stack.push_async_callback(self._admin.stop)
        if self._config.metrics.listen:
            page = MetricsPage(self._config.metrics.listen, self)
            stack.callback(page.close)
            self.metrics_address = page.address
            _log.info("metrics on %s", page.address)
        if serving is not None:
            self._crew.send_orphans_home()

    def status(self) -> NodeStatus:
        """What serves and how."""
        serving, now = self._serving(), int(self._clock())
        generations = generations_of(serving) if serving else ()
        names = serving.tables.reason_names if serving else {}
        return NodeStatus(
            version=eir.__version__,
            started_at=self._started_at,
            now=now,
            ready=serving is not None,
            stale=serving.stale if serving else False,
            mode=(serving.tables.policy if serving else self._config.policy).mode,
            generations=[served_status(generation) for generation in generations],
            reasons={number: name for number, name in names.items() if number > 255},
            checks=self._crew.tally().by_status(),
            alarms=self._alarms(serving),
            workers=self._crew.workers(),
            orders=standing_orders(serving.tables.operator, serving.grace_time(now))
            if serving
            else (),
            happenings=happenings_of(self._depot.folder),
            overlays=overlays_of(self._compaction.states),
        )

    def tally(self) -> Tally:
        """What the workers have counted since this keeper started."""
        return self._crew.tally()

    def reloads(self) -> Mapping[str, int]:
        """How many reloads were done and refused since this keeper started."""
        return self._reloads

    def feeds(self) -> Sequence[FeedFigures]:
        """The feeds that are followed."""
        return [each.figures() for each in self._followings.values() if each.speaks]

    def compactions(self) -> Mapping[str, CompactionState]:
        """How far overlays have grown, by feed, and what was done about it."""
        return self._compaction.states

    def watched(self) -> WatchFigures:
        """How breaker and clock stand."""
        return self._watch.figures()

    def sightings(self) -> OutboxFigures | None:
        """How sightings go out; None where nothing is noted."""
        return self._outbox.figures() if self._outbox else None

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
            try:
                changes = await self._reload()
            except (Refused, Corrupt):
                self._reloads["refused"] += 1
                raise
            finally:  # an order waits for no list that is held
                for following in self._followings.values():
                    following.wake()
            self._reloads["done"] += 1
            for change in changes:
                _log.info("%s", change)
            return changes

    async def _reload(self) -> Sequence[str]:
        config = load_config(self._config_path)
        old, before = self._config, self._serving()
        self._admin.reload()
        await self._crew.reload()
        await self._take_up(config)
        self._config = config
        changes = [
            f"[{name}] changed: takes effect at the next start"
            for name in _FIXED_AT_START
            if getattr(config, name) != getattr(old, name)
        ]
        changes += changes_between(before, self._serving(), old, config)
        return changes

    async def _catch_up(self) -> None:
        """After a start: take up what differs from what served last, if the guard lets it pass."""
        if self._behind is None:
            return
        async with self._reloading:
            config, self._behind = self._behind, None
            try:
                await self._take_up(config)
            except (Refused, Corrupt, OSError) as fault:
                _log.error("what served last goes on: %s", fault)
            else:
                self._config = config

    async def _take_up(
        self, config: Config, *, feed: str | None = None, weighed: bool = False
    ) -> None:
        """Open what shall serve, unless it does already, weigh it, and have everybody swap.

        ``feed``: nothing but this one is opened anew, and what waits already is not weighed again.
        Raises Refused ``guard-held`` where a person has to accept it first.
        """
        before = self._taken
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "verify", initializer=yield_to_answers) as aside:
            build = partial(self._build, config, feed)
            taken, serving = await loop.run_in_executor(aside, build)
            was, now = self._serving(), int(self._clock())
            try:
                if serving is not None and not weighed:
                    asked = (self._depot, config.guard, was, serving, now)
                    judge = partial(weigh, *asked, only=feed)
                    await loop.run_in_executor(aside, judge)
                if serving is not None:
                    await loop.run_in_executor(aside, write_down, self._depot, serving, now, was)
            except (Refused, OSError):
                _close(taken, but=before)
                raise
        self._taken = taken
        if serving is not None:
            await self._crew.hand_over(self._order(serving, config), serving.tables)
            self._holder.swap(serving)
            self._crew.send_orphans_home()
        _close(before, but=taken)
        self._announce()

    def _announce(self) -> None:
        """Tell those who look after what serves that it is another."""
        for feed in self._followings.keys() & self._taken.keys():
            self._followings[feed].rebased(self._taken[feed].generation)
        self._compaction.wake()

    def _bases_kept(self, feed: str) -> int:
        following = self._followings.get(feed)
        return following.keeping.keep if following else KEEP_GENERATIONS

    def _follow(self) -> dict[str, Following]:
        """What follows each feed: the operator's, and the registry's where one is configured."""
        judge = judge_by(self._beside, self._clock, footing=self._footings.__setitem__)
        return {
            follow.feed: Following(
                follow,
                self._depot,
                judge=judge,
                serve=partial(self._serve_reached, follow.feed),
                clock=self._clock,
            )
            for follow in (self._config.feed, self._config.operator_feed)
            if follow is not None
        }

    def _beside(self) -> Beside:
        """What a change is weighed against."""
        serving, config = self._serving(), self._config
        return Beside(
            config.guard,
            serving.tables.chosen if serving else config.policy,
            {feed: opened.generation for feed, opened in self._taken.items()},
            data_time=serving.data_time if serving else 0,
            grace_lag=config.grace.grace_lag,
        )

    async def _serve_reached(self, feed: str) -> None:
        """Serve what the gate has let through, with the feed's times.

        It was weighed beside what served then; where something else serves, it is again.
        """
        async with self._reloading:
            weighed = self._footings.get(feed) == self._beside().footing()
            await self._take_up(self._config, feed=feed, weighed=weighed)

    def _order(self, serving: Serving | None, config: Config) -> ServeOrder:
        """What workers are told: the verified files themselves, and what to make of them."""
        number = self._crew.next_number()
        if serving is None:
            return ServeOrder(number, (), config.policy)
        return ServeOrder(
            number,
            tuple(handed(opened) for opened in self._taken.values()),
            serving.tables.chosen,
            data_time=serving.data_time,
            grace_lag=serving.grace_lag,
            stale=serving.stale,
        )

    def _build(
        self, config: Config, only: str | None = None
    ) -> tuple[dict[str, Opened], Serving | None]:
        """What the depot and the configuration come to; None where no registry data is kept.

        ``only``: of the other feed, what is taken already.
        """
        self._damaged = ()
        opened = {
            feed: self._open(feed) if only in (None, feed) else self._taken.get(feed)
            for feed in FEEDS
        }
        taken = {feed: each for feed, each in opened.items() if each is not None}
        if REGISTRY not in taken:
            if config.feed is None:
                _log.warning("no registry data yet: load some with `eir load MANIFEST.toml`")
            return taken, None
        return taken, self._serving_of(taken, config)

    def _serving_of(self, taken: Mapping[str, Opened], config: Config) -> Serving:
        registry = taken[REGISTRY].generation
        operator = taken[OPERATOR].generation if OPERATOR in taken else None
        tables = Tables(registry, operator, config.policy)
        feed, grace_lag = self._followings.get(REGISTRY), config.grace.grace_lag
        if feed is None:
            data_time, stale = registry.made_at, False
        else:
            data_time, stale = feed.data_time(registry), feed.stale
        return Serving(
            tables,
            data_time=data_time,
            grace_lag=grace_lag,
            stale=stale,
            control=self._watch.control,
        )

    def _open(self, feed: str) -> Opened | None:
        served, pin = self._taken.get(feed), pinned_in(self._depot, feed)
        newest = self._depot.kept(feed)[:1]
        session, serial = (pin.session, pin.serial) if pin else (None, None)
        wanted = [(row, session or row.session, serial or row.last_serial) for row in newest]
        if served is not None:
            was = served.generation
            if wanted == [(served.kept, was.session, was.serial)]:
                return served
        try:
            opened = self._depot.open_newest(feed, before=served, serial=serial, session=session)
        except Unavailable:
            return None
        except Corrupt as error:
            if served is None and feed not in self._followings:
                raise Refused(
                    "depot-damaged", f"{error}: load the lists again", where=str(self._depot.folder)
                ) from error
            self._damaged += (error,)
            return served
        for damage in opened.damaged:
            _log.error("damaged, an older one serves: %s", damage)
        self._damaged += opened.damaged
        return opened

    def _serving(self) -> Serving | None:
        return self._holder.current() if self._holder.ready else None

    def _read(self) -> Reading:
        """What the watch looks at."""
        serving, feed = self._serving(), self._followings.get(REGISTRY)
        return Reading(
            refused=self._crew.refused(),
            refusing=serving is not None and serving.tables.policy.mode == policy.ENFORCE,
            reach=serving.data_time + serving.grace_lag if serving else None,
            made_at=feed.made_at if feed else 0,
        )

    def _alarms(self, serving: Serving | None) -> list[str]:
        alarms = [f"damaged and passed over: {error}" for error in self._damaged]
        for following in self._followings.values():
            alarms += following.alarms()
        alarms += self._compaction.alarms()
        alarms += self._watch.alarms()
        alarms += self._outbox.alarms() if self._outbox else []
        if (held := waiting(self._depot)) is not None:
            alarms.append(f"held: {held.figures}; what served goes on. Look, then: eir sync accept")
        return [*alarms, *alarms_of(serving, int(self._clock()))]

    def _on_hangup(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload("SIGHUP"))
        task.add_done_callback(_report_reload)


def _report_reload(task: asyncio.Task[Sequence[str]]) -> None:
    error = task.exception()
    if isinstance(error, Refused | Corrupt):
        _log.error("reload refused, the old goes on: %s", error)
    elif error is not None:
        raise error


def _close(some: Mapping[str, Opened], *, but: Mapping[str, Opened]) -> None:
    """Close the files of what was opened, but those that others go on with."""
    for feed, opened in some.items():
        opened.close_unless_in(but.get(feed))
