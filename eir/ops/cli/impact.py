"""The command ``eir impact``: whom a change would newly refuse, and whom the next days will.

Reads the depot; changes nothing, and needs no node.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from eir.core.delta import Delta, between
from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.core.orders import Hold, Order
from eir.core.policy import SHADOW, Policy
from eir.core.tables import Tables
from eir.errors import Refused, Unavailable
from eir.feed.codec import open_snapshot
from eir.ops import console
from eir.ops.accepted import policy_kept
from eir.ops.cli.ask import utc
from eir.ops.cli.load import built_aside
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.keeping import depot_of
from eir.ops.ordering import bulk
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
    typer.Option("--end-hold", help="The hold of this number ends, by date from 1; 0: all end."),
]
ReloadOption = Annotated[
    bool, typer.Option("--reload", help="What depot and configuration say by now.")
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """The changes to look at; empty ones are none."""

    serial: int
    snapshot: Path | None
    manifest: Path | None
    mode: str
    ended: tuple[int, ...]
    reload: bool

    @property
    def any(self) -> bool:
        sources = (self.serial, self.snapshot, self.manifest, self.mode, self.ended, self.reload)
        return any(sources)


@dataclass(frozen=True, slots=True)
class _World:
    """All that decides, and how far it lets grace time go: Unix s."""

    feeds: Mapping[str, Generation]
    policy: Policy
    reach: int

    def tables(self) -> Tables:
        return Tables(self.feeds[REGISTRY], self.feeds.get(OPERATOR), self.policy)


def impact_of(
    days: Annotated[int, typer.Option(help="How many days ahead.", min=0, max=366)] = 7,
    serial: SerialOption = 0,
    snapshot: SnapshotOption = None,
    manifest: ManifestOption = None,
    mode: ModeOption = "",
    end_hold: EndHoldOption = None,
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
      eir impact
      eir impact --mode enforce --days 14
      eir impact --manifest lists/registry.toml
      eir impact --end-hold 1 --json
    """
    settings = load_config(config)
    asked = _Asked(serial, snapshot, manifest, mode, tuple(end_hold or ()), reload)
    now = int(time.time())
    with console.progress_bar("deciding", hidden=as_json) as shown:
        before = _served(settings)
        with _changed(settings, before, asked, shown) as after:
            change = _impact(before, after, now) if asked.any else None
            grace_time = min(now, after.reach)
            tables = after.tables()
            ahead = list(forecast(tables, now=now, grace_time=grace_time, days=days))
    if as_json:
        told = _document(change) if change else None
        console.print_json({"change": told, "days": [_day(each) for each in ahead]})
        return
    _print(change, ahead, shadow=tables.policy.mode == SHADOW)


def _impact(before: _World, after: _World, now: int) -> Impact:
    changes: list[Delta] = [
        between(old, after.feeds[feed])
        for feed, old in before.feeds.items()
        if after.feeds[feed] is not old
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
    base = _newest(settings, depot) if asked.reload else before
    feeds, policy, reach = dict(base.feeds), base.policy, base.reach
    scratch: Path | None = None
    try:
        if asked.serial:
            feeds[REGISTRY] = depot.open_newest(REGISTRY, serial=asked.serial).generation
        if asked.manifest is not None:
            scratch = depot.new_path()
            built_aside(settings, asked.manifest, scratch, *shown, reports=scratch.parent)
        for path in filter(None, (asked.snapshot, scratch)):
            found = open_snapshot(path)
            merges = path is scratch and found.feed == OPERATOR
            feeds[found.feed] = bulk(feeds.get(OPERATOR), found) if merges else found
            if found.feed == REGISTRY:
                reach = max(reach, found.made_at + settings.grace.grace_lag)
        if asked.mode:
            policy = replace(policy, mode=asked.mode)
            if OPERATOR in feeds:
                feeds[OPERATOR] = _without_mode(feeds[OPERATOR])
        if asked.ended:
            feeds[OPERATOR] = _without_holds(feeds.get(OPERATOR), asked.ended)
        yield _World(feeds, policy, reach)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch.parent, ignore_errors=True)


def _without_mode(operator: Generation) -> Generation:
    """The content without the order that stands above the mode of the policy."""
    if operator.mode is None:
        return operator
    section = operator.sections["orders"]
    kept = tuple(row for row in section.orders if isinstance(row, Order) and row != operator.mode)
    left = replace(section, content=kept, items=len(kept))
    return replace(operator, sections={**operator.sections, "orders": left})


def _without_holds(operator: Generation | None, ended: tuple[int, ...]) -> Generation:
    section = operator.sections.get("holds") if operator else None
    if operator is None or section is None or max(ended) > section.items or not section.items:
        there = f"there are {section.items}" if section else "there is none"
        raise Refused("hold-unknown", f"no hold has number {max(ended)}: {there}")
    holds = [order for order in section.orders if isinstance(order, Hold)]
    numbered = enumerate(holds, 1)
    kept = tuple(hold for number, hold in numbered if 0 not in ended and number not in ended)
    left = replace(section, content=kept, items=len(kept))
    return replace(operator, sections={**operator.sections, "holds": left})


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
