"""The command ``eir impact``: whom a change would newly refuse, and whom the next days will.

Reads the depot; changes nothing, and needs no node.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from eir.core.amend import exchanged
from eir.core.delta import Delta, between
from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.core.orders import Hold, check_holds
from eir.core.policy import SHADOW, Policy
from eir.core.tables import Tables
from eir.errors import Refused, Unavailable
from eir.feed.codec import open_snapshot
from eir.ops import console
from eir.ops.accepted import policy_kept
from eir.ops.cli.ask import utc
from eir.ops.cli.load import built_aside
from eir.ops.cli.order import (
    HeldReasonOption,
    PrefixOption,
    TacFileOption,
    TacOption,
    typed_hold,
)
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.keeping import depot_of
from eir.ops.ordering import bulk, changed, nothing
from eir.ops.settings.config import Config, load_config
from eir.serve.forecast import Day, forecast
from eir.serve.guard import Impact, impact, questions
from eir.store.depot import Depot

_TACS_SHOWN = 10

SerialOption = Annotated[int, typer.Option(help="A kept registry serial: a rollback to it.", min=0)]
SnapshotOption = Annotated[
    Path | None, typer.Option(help="A snapshot file, of either feed.", dir_okay=False)
]
ManifestOption = Annotated[
    Path | None, typer.Option(help="A manifest of list files, as `eir load` takes it.")
]
ModeOption = Annotated[str, typer.Option(help="The mode `enforce` or `shadow`.")]
EndHoldOption = Annotated[
    list[int] | None,
    typer.Option(
        "--end-hold", min=0, help="The hold of this number ends, by date from 1; 0: all end."
    ),
]
AddHoldOption = Annotated[
    str,
    typer.Option(
        help="A hold until then, as `eir hold add --until` takes it; whom it covers is said by"
        " the options of that command."
    ),
]
ReloadOption = Annotated[
    bool, typer.Option("--reload", help="What depot and configuration say by now.")
]


Ordered = Callable[[Generation], Delta]
"""What an order by hand changes in the operator's content that it finds."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The changes to look at; empty ones are none."""

    serial: int
    snapshot: Path | None
    manifest: Path | None
    mode: str
    orders: tuple[Ordered, ...]
    reload: bool

    @property
    def any(self) -> bool:
        sources = (self.serial, self.snapshot, self.manifest, self.mode, self.orders, self.reload)
        return any(sources)


@dataclass(frozen=True, slots=True)
class _World:
    """All that decides, and how far it lets grace time go: Unix s."""

    feeds: Mapping[str, Generation]
    policy: Policy
    reach: int

    def tables(self) -> Tables:
        return Tables(self.feeds[REGISTRY], self.feeds.get(OPERATOR), self.policy)

    def saying(self, said: Generation, *, reach: int = 0) -> _World:
        """The same with this in its feed's place."""
        return replace(self, feeds={**self.feeds, said.feed: said}, reach=max(self.reach, reach))

    def ordered(self, order: Ordered) -> _World:
        """The same with an order by hand in force."""
        content = self.feeds.get(OPERATOR) or nothing(self.feeds[REGISTRY].registry_id)
        return self.saying(changed(content, order(content)))


def impact_of(
    days: Annotated[int, typer.Option(help="How many days ahead.", min=0, max=366)] = 7,
    serial: SerialOption = 0,
    snapshot: SnapshotOption = None,
    manifest: ManifestOption = None,
    mode: ModeOption = "",
    end_hold: EndHoldOption = None,
    add_hold: AddHoldOption = "",
    tac: TacOption = None,
    tac_file: TacFileOption = None,
    reason: HeldReasonOption = "",
    msisdn_prefix: PrefixOption = "",
    reload: ReloadOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast whom a change would newly refuse, and the next days.

    Without an option for a change: whom deadlines will cut in the next days, on what serves. With
    some: whom all of them together would newly refuse at once, by reason and TAC, and then the days
    after it. Nothing changes. Whoever activates meanwhile is not cut: it is the most there can be.

    \b
    Examples:
      eir impact --mode enforce --days 14
      eir impact --manifest lists/registry.toml
      eir impact --end-hold 1 --json
      eir impact --add-hold 7d --reason grace-expired --msisdn-prefix 0912
    """
    settings, now = load_config(config), int(time.time())
    if any(covered := (tac, tac_file, reason, msisdn_prefix)) and not add_hold:
        raise typer.BadParameter("whom a hold covers goes with --add-hold UNTIL")
    hold = typed_hold(settings, add_hold, *covered, now=now) if add_hold else None
    asked = _Asked(serial, snapshot, manifest, mode, _orders(mode, end_hold, hold), reload)
    change, ahead, shadow = _answered(settings, asked, days, now, hidden=as_json)
    if as_json:
        told = _document(change) if change else None
        console.print_json({"change": told, "days": [_day(each) for each in ahead]})
    else:
        _print(change, ahead, shadow=shadow)


def _answered(
    settings: Config, asked: _Asked, days: int, now: int, *, hidden: bool
) -> tuple[Impact | None, list[Day], bool]:
    """What the change does at once, the days after it, and whether nobody is refused then."""
    with console.progress_bar("deciding", hidden=hidden) as shown:
        before = _served(settings)
        with _changed(settings, before, asked, shown) as after:
            change = _impact(before, after, now) if asked.any else None
            tables, grace_time = after.tables(), min(now, after.reach)
            ahead = list(forecast(tables, now=now, grace_time=grace_time, days=days))
    return change, ahead, tables.policy.mode == SHADOW


def _impact(before: _World, after: _World, now: int) -> Impact:
    changes: list[Delta] = [
        between(before.feeds.get(feed) or replace(new, sections={}), new)
        for feed, new in after.feeds.items()
        if before.feeds.get(feed) is not new
    ]
    old, new = before.tables(), after.tables()
    grace_time = min(now, max(before.reach, after.reach))
    return impact(old, new, questions(old, new, changes), now=now, grace_time=grace_time)


def _served(settings: Config) -> _World:
    """What served last; what the depot has, where nothing did yet. Raises Unavailable."""
    depot = depot_of(settings.node)
    last = depot.served.last()
    policy = policy_kept(depot, last.policy) if last else None
    if last is None or policy is None or REGISTRY not in last.feeds:
        return _newest(settings, depot)
    feeds = {
        feed: depot.open_newest(feed, serial=each.serial, session=each.session).generation
        for feed, each in last.feeds.items()
    }
    return _World(feeds, policy, last.data_time + last.grace_lag)


def _newest(settings: Config, depot: Depot) -> _World:
    feeds = {}
    for feed in (REGISTRY, OPERATOR):
        with contextlib.suppress(Unavailable):
            feeds[feed] = depot.open_newest(feed).generation
    if REGISTRY not in feeds:
        raise Unavailable("the depot has no registry data yet: `eir load`, or `eir sync run`")
    return _World(feeds, settings.policy, feeds[REGISTRY].made_at + settings.grace.grace_lag)


@contextlib.contextmanager
def _changed(
    settings: Config, before: _World, asked: _Asked, shown: tuple[Progress, TaskID]
) -> Iterator[_World]:
    """What would serve; files that were built for it are there meanwhile."""
    depot = depot_of(settings.node)
    world = _newest(settings, depot) if asked.reload else before
    scratch: Path | None = None
    try:
        if asked.serial:
            world = world.saying(depot.open_newest(REGISTRY, serial=asked.serial).generation)
        if asked.manifest is not None:
            scratch = depot.new_path()
            built_aside(settings, asked.manifest, scratch, *shown, reports=scratch.parent)
        for path in filter(None, (asked.snapshot, scratch)):
            found = open_snapshot(path)
            if found.feed == REGISTRY:
                world = world.saying(found, reach=found.made_at + settings.grace.grace_lag)
            else:
                merges = path is scratch
                world = world.saying(bulk(world.feeds.get(OPERATOR), found) if merges else found)
        if asked.mode:
            world = replace(world, policy=replace(world.policy, mode=asked.mode))
        for order in asked.orders:
            world = world.ordered(order)
        yield world
    finally:
        if scratch is not None:
            shutil.rmtree(scratch.parent, ignore_errors=True)


def _orders(mode: str, ended: Sequence[int] | None, added: Hold | None) -> tuple[Ordered, ...]:
    """Each as its command would give it, in this order."""
    wanted: list[Ordered] = [_without_mode] if mode else []
    wanted += [_ending(ended)] if ended else []
    wanted += [_adding(added)] if added else []
    return tuple(wanted)


def _without_mode(content: Generation) -> Delta:
    """Without the order that stands above the mode of the policy."""
    return exchanged(content, "orders", [content.mode] if content.mode else [], ())


def _ending(numbers: Sequence[int]) -> Ordered:
    """Without the holds of these numbers, by date from 1; 0: without any."""

    def ended(content: Generation) -> Delta:
        holds = _holds(content)
        if not holds or max(numbers) > len(holds):
            there = f"there are {len(holds)}" if holds else "there is none"
            raise Refused("hold-unknown", f"no hold has number {max(numbers)}: {there}")
        numbered = enumerate(holds, 1)
        gone = [hold for number, hold in numbered if 0 in numbers or number in numbers]
        return exchanged(content, "holds", gone, ())

    return ended


def _adding(hold: Hold) -> Ordered:
    """With this hold."""

    def added(content: Generation) -> Delta:
        check_holds([*_holds(content), hold])
        return exchanged(content, "holds", (), [hold])

    return added


def _holds(content: Generation) -> list[Hold]:
    return [row for row in content.orders("holds") if isinstance(row, Hold)]


def _document(found: Impact) -> dict[str, object]:
    tacs = Counter(found.by_tac).most_common()
    return {
        "asked": found.asked,
        "newly_refused": found.newly_refused,
        "devices": found.devices,
        "newly_admitted": found.newly_admitted,
        "by_reason": dict(found.by_reason),
        "by_tac": {f"{tac:08d}": count for tac, count in tacs},
    }


def _day(day: Day) -> dict[str, object]:
    return {"from": day.begins, "until": day.ends, **_document(day.impact)}


def _most(counts: Mapping[str, int]) -> str:
    most = Counter(counts).most_common(_TACS_SHOWN)
    more = len(counts) - len(most)
    told = ", ".join(f"{name} {count:,}" for name, count in most)
    return f"{told} and {more:,} more" if more else told


def _print(change: Impact | None, ahead: list[Day], *, shadow: bool) -> None:
    if change is not None:
        rows = console.table("", "")
        refused = f"{change.newly_refused:,} of {change.asked:,} devices and pairs"
        rows.add_row("newly refused", refused)
        rows.add_row("  devices", f"{change.devices:,}")
        rows.add_row("  by reason", _most(change.by_reason))
        rows.add_row("  by TAC", _most({f"{tac:08d}": n for tac, n in change.by_tac.items()}))
        rows.add_row("newly admitted", f"{change.newly_admitted:,}")
        console.out.print(rows)
    if not ahead:
        return
    days = console.table("day until", "newly refused", "devices", "by reason", "by TAC")
    for day in ahead:
        found = day.impact
        tacs = _most({f"{tac:08d}": n for tac, n in found.by_tac.items()})
        figures = (f"{found.newly_refused:,}", f"{found.devices:,}", _most(found.by_reason), tacs)
        days.add_row(utc(day.ends), *figures)
    console.out.print(days)
    total = sum(day.impact.newly_refused for day in ahead)
    console.out.print(f"{total:,} in {len(ahead)} days, if nobody activates meanwhile")
    if shadow:
        console.out.print("shadow mode: nobody is refused; --mode enforce shows who would be")
