"""Commands of a node that follows a feed: run, status, accept; diff and rollback of serials.

A running node is told by its notes in the depot and a reload; without one, the command does the
work itself.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from eir.client.node import NodeClient
from eir.core.delta import between
from eir.core.generation import FEEDS, OPERATOR, REGISTRY
from eir.errors import Refused, Unavailable
from eir.ops import chronicle, console, reload_guard
from eir.ops.chronicle import happenings, this_person
from eir.ops.cli.ask import utc
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.following import STATUS, follow_once
from eir.ops.keeping import FeedKeeping, Pin, depot_of
from eir.ops.settings.config import Config, load_config
from eir.ops.settings.follow import Follow
from eir.ops.weighing import beside_in, judge_by
from eir.store.depot import Depot
from eir.sync.outcome import SyncOutcome
from eir.sync.pace import is_stale

app = typer.Typer(
    help="""Follow a feed: ask now, see how it goes, accept what was held.

\b
Examples:
  eir sync --once
  eir sync status
  eir sync accept
""",
    invoke_without_command=True,
)
WhyOption = Annotated[str, typer.Option("--why", help="Why; kept with your name and the time.")]
SerialArgument = Annotated[int, typer.Argument(metavar="SERIAL", min=1, help="A kept serial.")]
OperatorOption = Annotated[
    bool, typer.Option("--operator", help="The operator's feed, not the registry's.")
]
_PATIENCE_S = 600.0


@app.callback()
def _once(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Ask the feed now, once: `eir sync run` as it is.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    if context.invoked_subcommand is not None:
        if once or config or as_json:
            raise typer.BadParameter("options go behind the command: eir sync status --json")
    elif once:
        run(config=config, as_json=as_json)
    else:
        raise typer.BadParameter("give --once, or a command")


@app.command()
def run(
    forced: Annotated[
        bool, typer.Option("--forced", help="Take the snapshot again. Only while no node runs.")
    ] = False,
    allow_downgrade: Annotated[
        bool,
        typer.Option(
            "--allow-downgrade",
            help="Believe a head that is lower than one believed before. Only while no node runs.",
        ),
    ] = False,
    operator: OperatorOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the feed now, once.

    A running node is told to ask; else this command brings the depot to what the feed says. A node
    that was detached from its feed follows it again.

    Exit code: 0 if all that the feed says is held, 2 if nothing came or a change is held back, 3 if
    what came was not believed.
    """
    settings, follow = _followed(config, operator)
    depot = depot_of(settings.node)
    try:
        with depot.held_by_keeper():
            outcome = _run_here(settings, follow, depot, as_json, forced, allow_downgrade)
    except Refused as refused:
        if refused.reason != "depot-in-use" or forced or allow_downgrade:
            raise
        outcome = _run_there(settings, FeedKeeping(depot, follow.feed, follow.keep))
    if as_json:
        console.print_json(_document(outcome))
    else:
        console.out.print(outcome.line())
    codes = {"refused": console.EXIT_REFUSED, "failed": console.EXIT_INCOMPLETE}
    if not outcome.good:
        raise typer.Exit(codes.get(outcome.kind, console.EXIT_INCOMPLETE))


@app.command()
def status(
    operator: OperatorOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show what is reached, how old it is, and the last runs.

    Reads the depot: it tells also while no node runs. Of runs in a row that came to the same, the
    latest is shown. Exit code 2 if nothing came yet, a change waits, or the data are stale.
    """
    settings, follow = _followed(config, operator)
    keeping = FeedKeeping(depot_of(settings.node), follow.feed, follow.keep)
    told = _status_of(keeping, follow)
    if as_json:
        console.print_json(told)
    else:
        _print_status(told)
    if told["stale"] or told["waiting"]:
        raise typer.Exit(console.EXIT_INCOMPLETE)


@app.command()
def accept(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask back.")] = False,
    why: WhyOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a held change through, after showing whom it newly refuses.

    What is accepted is this one change: if the feed has said more meanwhile, that is weighed anew.
    """
    settings = load_config(config)
    depot = depot_of(settings.node)
    keepings = [FeedKeeping(depot, feed, 1) for feed in FEEDS]
    held = [(each, memory) for each in keepings if (memory := each.memory()).waiting]
    reloaded = reload_guard.waiting(depot)
    if not held and reloaded is None:
        raise Refused("nothing-held", "no change waits to be accepted")
    figures = [memory.figures for _, memory in held]
    figures += [reloaded.figures] if reloaded else []
    if not as_json:
        for line in figures:
            console.out.print(line)
    if not yes and not as_json:
        typer.confirm("let it through?", abort=True)
    for keeping, memory in held:
        if memory.waiting is not None:
            keeping.accept(memory.waiting)
    if reloaded is not None:
        reload_guard.accept(depot, reloaded.change)
    _write_down(depot, "accepted", why, "; ".join(figures))
    told = _reload(settings)
    if as_json:
        console.print_json({"accepted": figures, "told": told})
    else:
        console.out.print("accepted" if told else "accepted; no node runs to serve it")


def diff(
    old: SerialArgument,
    new: SerialArgument,
    operator: OperatorOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count what went and came between two kept serials, by list."""
    depot = depot_of(load_config(config).node)
    feed = OPERATOR if operator else REGISTRY
    with console.progress_bar("comparing", hidden=as_json):
        before, after = (depot.open_newest(feed, serial=serial) for serial in (old, new))
        delta = between(before.generation, after.generation)
    changes = {n: (len(c.removed), len(c.added)) for n, c in delta.changes.items()}
    if as_json:
        sections = {n: {"removed": gone, "added": came} for n, (gone, came) in changes.items()}
        console.print_json({"equal": not changes, "sections": sections})
        return
    rows = [(name, *counts) for name, counts in changes.items()]
    shown = console.counted(("list", "removed", "added"), rows, always=3)
    console.out.print(shown if changes else "equal content")


def rollback(
    serial: Annotated[
        int, typer.Argument(metavar="SERIAL", min=0, help="A kept serial; 0 releases the pin.")
    ],
    operator: OperatorOption = False,
    why: WhyOption = "",
    config: ConfigOption = None,
) -> None:
    """Have an older serial serve until released, by SERIAL 0.

    Where several sessions of the feed are kept, it is the newest one's that has this serial.
    The feed is followed on meanwhile, but nothing newer serves, and grace time stands still. Every
    status says so. It is weighed as any change is: `eir sync accept` may be needed.
    """
    settings = load_config(config)
    keeping = FeedKeeping(depot_of(settings.node), OPERATOR if operator else REGISTRY, 1)
    pin = None
    if serial:
        kept = keeping.depot.open_newest(keeping.feed, serial=serial).generation
        pin = Pin(kept.session, serial)
    keeping.pin(pin)
    detail = f"{keeping.feed} {pin}" if pin else f"{keeping.feed}: the newest again"
    _write_down(keeping.depot, "rolled-back" if serial else "released", why, detail)
    told = _reload(settings)
    what = f"{pin} is pinned" if pin else "released: the newest serves"
    console.out.print(what if told else f"{what}, once a node runs")


def _write_down(depot: Depot, what: str, why: str, detail: str) -> None:
    chronicle.write_down(depot.folder, what, who=this_person(), why=why, detail=detail)


def _followed(config: ConfigOption, operator: bool) -> tuple[Config, Follow]:
    settings = load_config(config)
    if operator:
        return settings, settings.operator_feed
    if settings.feed is None:
        raise Refused("feed-none", "no feed is configured: [feed] url, root_key, registry")
    return settings, settings.feed


def _run_here(
    settings: Config,
    follow: Follow,
    depot: Depot,
    as_json: bool,
    forced: bool,
    allow_downgrade: bool,
) -> SyncOutcome:
    beside = beside_in(depot, settings.guard, settings.policy, settings.grace.grace_lag)
    with console.progress_bar("asking the feed", hidden=as_json) as (bar, task):
        return follow_once(
            follow,
            depot,
            judge=judge_by(lambda: beside),
            advance=lambda name, done, size: bar.update(
                task, description=name[:24], completed=done, total=size
            ),
            forced=forced,
            allow_downgrade=allow_downgrade,
        )


def _run_there(settings: Config, keeping: FeedKeeping) -> SyncOutcome:
    """Have the running node ask, and wait for what comes of it."""
    before = _last_run(keeping)
    keeping.attach()
    _reload(settings)
    until = time.monotonic() + _PATIENCE_S
    while (last := _last_run(keeping)) is None or last == before:
        if time.monotonic() > until:
            raise Unavailable("the node's run has not ended yet: see `eir sync status`")
        time.sleep(0.05)
    return _outcome_of(json.loads(last)[1])


def _last_run(keeping: FeedKeeping) -> str | None:
    raw = keeping.depot.note(keeping.feed, STATUS)
    return json.dumps(json.loads(raw)["outcomes"][-1]) if raw else None


def _reload(settings: Config) -> bool:
    """Whether a running node was told. Raises Refused where it goes on with the old."""
    try:
        with NodeClient(f"unix:{settings.admin.socket}") as node:
            node.reload(timeout=_PATIENCE_S)
    except Unavailable:
        return False
    return True


def _document(outcome: SyncOutcome) -> dict[str, object]:
    return {
        "kind": outcome.kind,
        "reason": outcome.reason,
        "session": outcome.session,
        "from": outcome.from_serial,
        "to": outcome.to_serial,
        "counts": dict(outcome.counts),
        "bytes": outcome.fetched_bytes,
        "seconds": round(outcome.seconds, 3),
        "detail": outcome.detail,
        "alarm": outcome.alarm,
    }


def _status_of(keeping: FeedKeeping, follow: Follow) -> dict[str, Any]:
    memory, reached, pin = keeping.memory(), keeping.reached(), keeping.pinned()
    raw = keeping.depot.note(keeping.feed, STATUS)
    running: dict[str, Any] = (
        json.loads(raw) if raw else {"stale": False, "outcomes": [], "next": 0, "made_at": 0}
    )
    highest, reload = memory.highest, reload_guard.waiting(keeping.depot)
    made_at = highest.made_at if highest else 0
    figures = [memory.figures, reload.figures if reload else ""]
    return {
        "session": reached[0] if reached else "",
        "serial": reached[1] if reached else 0,
        "head_serial": highest.serial if highest else 0,
        "head_made_at": made_at,
        "stale": _stale(follow, running, made_at),
        "pinned": pin.serial if pin else 0,
        "pinned_session": pin.session if pin else "",
        "detached": keeping.detached(),
        "waiting": "; ".join(filter(None, figures)),
        "next": running["next"],
        "outcomes": [{"at": at, **fields} for at, fields in running["outcomes"]],
        "events": [asdict(each) for each in happenings(keeping.depot.folder, "")],
    }


def _stale(follow: Follow, running: dict[str, Any], made_at: int) -> bool:
    """What the node said last, unless a later head came without it; and, since it may have ended
    long ago, what the clock says. The depot's own feed is signed by the node alone.
    """
    said = bool(running["stale"]) and running["made_at"] >= made_at
    silent = is_stale(follow.pace, time.time() - made_at)
    return said or (silent and follow.desk is None)


def _print_status(told: dict[str, Any]) -> None:
    made_at = told["head_made_at"]
    rows = console.table("", "")
    reached = f"{told['serial']} of {told['head_serial']}, session {told['session']}"
    rows.add_row("serial", reached if told["serial"] else f"none yet of {told['head_serial']}")
    if made_at:
        rows.add_row("head", f"{utc(made_at)}, {int(time.time()) - made_at} s old")
    if told["stale"] and made_at:
        rows.add_row("stale", "no good head for too long")
    if told["pinned"]:
        pin = Pin(told["pinned_session"], told["pinned"])
        rows.add_row("pinned", f"to {pin}, until `eir rollback 0`")
    if told["detached"]:
        rows.add_row("detached", "by `eir load --detach-feed`, until `eir sync run`")
    if told["waiting"]:
        rows.add_row("waiting", f"{told['waiting']}; `eir sync accept` lets it through")
    console.out.print(rows)
    for each in told["events"]:
        words = (utc(each["at"]), *(each[key] for key in ("what", "who", "why", "detail")))
        console.out.print("  ".join(filter(None, words)))
    for each in told["outcomes"]:
        line = _outcome_of({k: v for k, v in each.items() if k != "at"}).line()
        console.out.print(f"{utc(each['at'])}  {line}")


def _outcome_of(fields: dict[str, Any]) -> SyncOutcome:
    return SyncOutcome(**{**fields, "counts": tuple(map(tuple, fields["counts"]))})
