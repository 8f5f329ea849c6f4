"""Commands about what the keeper watches: the breaker, and the clock that grace time goes by.

They read and write the control page in the depot, so they work with a running node and without
one; what a person did, who and when, is written down beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from eir.errors import Refused
from eir.ops import chronicle, console
from eir.ops.chronicle import utc
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.settings.config import Config, load_config
from eir.serve import control as page
from eir.serve.control import MINUTES, RESET, RESET_AS_NORMAL, Control

breaker_app = typer.Typer(
    help="""The breaker, which opens when too many are refused at once.

\b
Examples:
  eir breaker status
  eir breaker reset --why "the list was corrected: serial 1204"
"""
)
clock_app = typer.Typer(
    help="""The clock that grace time goes by: has it jumped?

\b
Examples:
  eir clock status
  eir clock settle --why "the time server was wrong, and is right again"
"""
)
WhyOption = Annotated[str, typer.Option("--why", help="Why; kept with your name and the time.")]


@breaker_app.command("status")
def breaker_status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show whether the breaker is open, and what is usual.

    Exit code 2 if it is open: then nobody is refused.
    """
    settings = load_config(config)
    control, limits = _page_of(settings), settings.breaker
    known = control.known_minutes
    told = {
        "open": control.open_since != 0,
        "open_since": control.open_since,
        "refusals_last_minute": control.rate,
        "baseline": round(control.baseline, 2),
        "baseline_minutes": known,
        "opens_above": limits.opens_above(control.baseline) if limits.factor else None,
        "learning": known < limits.learn_minutes,
        "events": _events(settings, "breaker-"),
    }
    if as_json:
        console.print_json(told)
    else:
        _print_breaker(told, settings)
    if control.open_since:
        raise typer.Exit(console.EXIT_INCOMPLETE)


@breaker_app.command("reset")
def breaker_reset(
    why: WhyOption,
    as_normal: Annotated[
        bool,
        typer.Option(
            "--as-normal",
            help="The refusals of the last minute are right: take so many for usual from now on.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Refuse again. Look for the cause first: phones that were refused stay cut until switched off.

    Without --as-normal it opens again within a minute if as many are still refused.
    """
    settings = load_config(config)
    control = _page_of(settings)
    if not control.open_since:
        raise Refused("breaker-closed", "the breaker is not open")
    detail = f"open since {utc(control.open_since)}, {control.rate} a minute"
    detail += ", taken as normal" if as_normal else ""
    _write_down(settings, "breaker-reset", why, detail)
    control.reset_breaker(RESET_AS_NORMAL if as_normal else RESET)
    console.out.print("reset: refusals are refusals again")


@clock_app.command("status")
def clock_status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show whether the clock jumped, and where grace time stands.

    Exit code 2 if it stands still over a jump: then no deadline passes.
    """
    settings = load_config(config)
    control = _page_of(settings)
    told = {
        "jumped": control.grace_stands_at != 0,
        "jumped_by_seconds": control.jumped_by if control.grace_stands_at else 0,
        "grace_stands_at": control.grace_stands_at,
        "events": _events(settings, "clock-"),
    }
    if as_json:
        console.print_json(told)
    else:
        rows = console.table("", "")
        rows.add_row("jumped", f"by {control.jumped_by:+} s" if told["jumped"] else "no")
        if control.grace_stands_at:
            rows.add_row("grace time", f"stands at {utc(control.grace_stands_at)}")
        console.out.print(rows)
        _print_events(settings, "clock-")
    if control.grace_stands_at:
        raise typer.Exit(console.EXIT_INCOMPLETE)


@clock_app.command("settle")
def clock_settle(why: WhyOption, config: ConfigOption = None) -> None:
    """Say that the clock is right: grace time moves again.

    Compare it with another clock first. A fresh head of the feed settles it without you.
    """
    settings = load_config(config)
    control = _page_of(settings)
    if not control.grace_stands_at:
        raise Refused("clock-right", "the clock did not jump")
    _write_down(settings, "clock-settled", why, f"it had jumped by {control.jumped_by:+} s")
    control.move_on()
    console.out.print("settled: grace time moves again")


def _page_of(settings: Config) -> Control:
    path = settings.node.depot / page.NAME
    if not path.exists():
        raise Refused("depot-unusable", "no node has served from it yet", where=str(path.parent))
    return page.open_control(path)


def _write_down(settings: Config, what: str, why: str, detail: str) -> None:
    who, depot = chronicle.this_person(), settings.node.depot
    chronicle.write_down(depot, what, who=who, why=why, detail=detail)


def _events(settings: Config, about: str) -> list[dict[str, object]]:
    return [asdict(each) for each in chronicle.happenings(settings.node.depot, about)]


def _print_breaker(told: Mapping[str, object], settings: Config) -> None:
    control, limits = _page_of(settings), settings.breaker
    rows = console.table("", "")
    state = f"OPEN since {utc(control.open_since)}: nobody is refused"
    rows.add_row("breaker", state if told["open"] else "closed")
    rows.add_row("last minute", f"{control.rate:,} refusals")
    usual = f"{control.baseline:,.1f} a minute, of {control.known_minutes:,} of {MINUTES:,} minutes"
    rows.add_row("usual", usual)
    opens = f"above {told['opens_above']:,} a minute" if limits.factor else "never: factor is 0"
    waits = f", once {limits.learn_minutes} minutes are known" if told["learning"] else ""
    rows.add_row("opens", opens + waits)
    console.out.print(rows)
    _print_events(settings, "breaker-")


def _print_events(settings: Config, about: str) -> None:
    for each in chronicle.happenings(Path(settings.node.depot), about):
        words = (utc(each.at), each.what, each.who, each.why, each.detail)
        console.out.print("  ".join(filter(None, words)))
