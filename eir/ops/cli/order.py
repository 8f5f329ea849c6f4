"""Commands that order by hand: overrides, holds, the mode. Each is one change of the operator's
feed; what they share with the exemptions is here too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from eir import limits
from eir.core.amend import exchanged, overridden
from eir.core.delta import Delta
from eir.core.generation import Generation
from eir.core.imei import ImeiKey, digits15
from eir.core.orders import HOLDABLE_REASONS, Hold, Order, Override, check_hold
from eir.errors import Refused
from eir.ops import console, ordering, typed
from eir.ops.cli.ask import utc
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.order_words import hold_id, hold_text
from eir.ops.settings.config import Config, load_config

override_app = typer.Typer(
    help="""Admit or refuse a device or number, whatever lists say.

This IMEI with this number, else the IMEI, else the number.

\b
Examples:
  eir override allow 359999010001097 09121234567 --until 7d --why "ticket 4711"
  eir override deny 359999010001097 --forever --why "court order 12/8"
  eir override list
  eir override end 359999010001097
"""
)
hold_app = typer.Typer(
    help="""Hold refusals back until a date.

Rows 12 to 16 refuse nobody that a hold covers; black lists and `override deny` go on.

\b
Examples:
  eir hold add --until 2026-03-21 --why "deadlines deferred by decree"
  eir hold add --until 48h --reason grace-expired --msisdn-prefix 0912 --why "SMS outage"
  eir hold list
  eir hold end 3fa2c1
"""
)

WhyOption = Annotated[str, typer.Option("--why", help="Why, for whoever asks later.")]
UntilOption = Annotated[
    str,
    typer.Option(
        "--until", help="A date (its end), a time with offset, or how long: 2026-03-21, 12h, 7d."
    ),
]
DeskOption = Annotated[
    Path | None,
    typer.Option(
        "--desk",
        envvar="EIR_DESK",
        help="The publisher's folder of the operator's feed; default: the depot's own.",
        show_default=False,
    ),
]
WhomArgument = Annotated[
    list[str],
    typer.Argument(metavar="IMEI|NUMBER", help="An IMEI, an IMEI and a number, or a number."),
]
TacOption = Annotated[
    list[str] | None, typer.Option("--tac", help="Only devices of this TAC; may stand often.")
]
TacFileOption = Annotated[
    Path | None, typer.Option(help="Only devices of the TACs in this file, one a line.")
]
HeldReasonOption = Annotated[
    str, typer.Option("--reason", help=f"Only this reason: {', '.join(HOLDABLE_REASONS)}.")
]
PrefixOption = Annotated[
    str, typer.Option("--msisdn-prefix", help="Only numbers that begin so: 98912, or 0912.")
]
AsOption = Annotated[
    str, typer.Option("--as", help="What one word is where that can't be told: imei, number.")
]
_SHOWN = 100


@override_app.command("allow")
def allow(
    whom: WhomArgument,
    why: WhyOption,
    until: UntilOption = "",
    forever: Annotated[bool, typer.Option("--forever", help="Until it is ended.")] = False,
    forced: Annotated[
        bool, typer.Option("--forced", help="Clear the list of stolen devices too.")
    ] = False,
    meant: AsOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Admit a device, a number, or one device with one number."""
    settings = load_config(config)
    row = _override(settings, whom, meant, until, forever, why, allow=True, forced=forced)
    _order(settings, desk, lambda content, now: overridden(content, [row]), _told(row), as_json)


@override_app.command("deny")
def deny(
    whom: WhomArgument,
    why: WhyOption,
    until: UntilOption = "",
    forever: Annotated[bool, typer.Option("--forever", help="Until it is ended.")] = False,
    meant: AsOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse a device, a number, or one device with one number."""
    settings = load_config(config)
    row = _override(settings, whom, meant, until, forever, why, allow=False)
    _order(settings, desk, lambda content, now: overridden(content, [row]), _told(row), as_json)


@override_app.command("end")
def end_override(
    whom: WhomArgument,
    meant: AsOption = "",
    why: WhyOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an override, whoever gave it."""
    settings = load_config(config)
    named = typed.identity(whom, settings.numbering, meant)

    def ended(content: Generation, now: int) -> Delta:
        rows = [row for row in _overrides(content) if (row.imei, row.msisdn) == named]
        if not rows:
            raise Refused("order-none", "no override names just this: `eir override list`")
        return exchanged(content, "overrides", rows, ())

    what = f"override end {_whom(*named)}{f': {why}' if why else ''}"
    _order(settings, desk, ended, what, as_json)


@override_app.command("list")
def list_overrides(
    everything: Annotated[bool, typer.Option("--all", help="All, not the newest 100.")] = False,
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the overrides, the newest first, and who gave them."""
    settings = load_config(config)
    content = ordering.standing(settings, ordering.desk_of(settings, desk))
    rows = sorted(_overrides(content), key=lambda row: -row.at)
    if as_json:
        console.print_json([_override_fields(row) for row in rows])
        return
    shown = rows if everything else rows[:_SHOWN]
    now = int(time.time())
    grace_time = ordering.grace_time(settings, now)
    table = console.table("action", "device", "number", "until", "by", "at", "why")
    for row in shown:
        action = f"{'allow' if row.allow else 'deny'}{' forced' if row.forced else ''}"
        device = digits15(ImeiKey(row.imei)) if row.imei else ""
        number = str(row.msisdn or "")
        until = _until(row.until, grace_time if row.allow else now)
        table.add_row(action, device, number, until, *_by(row.who, row.at, row.why))
    console.out.print(table if rows else "no override stands")
    if len(shown) < len(rows):
        console.out.print(f"and {len(rows) - len(shown):,} more: --all")
    tell_held(settings)


@hold_app.command("add")
def add_hold(
    why: WhyOption,
    until: UntilOption,
    tac: TacOption = None,
    tac_file: TacFileOption = None,
    reason: HeldReasonOption = "",
    msisdn_prefix: PrefixOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold refusals back until a date. Without a criterion: everybody's."""
    settings, now = load_config(config), int(time.time())
    wanted = typed_hold(settings, until, tac, tac_file, reason, msisdn_prefix, now=now)
    row = replace(wanted, who=ordering.who(), at=now, why=_why(why))
    check_hold(row)
    what = f"hold add {hold_id(row)}, {hold_text(row)}, until {utc(row.until)}: {row.why}"
    _order(
        settings, desk, lambda content, now: exchanged(content, "holds", (), [row]), what, as_json
    )


def typed_hold(
    settings: Config,
    until: str,
    tac: Sequence[str] | None,
    tac_file: Path | None,
    reason: str,
    msisdn_prefix: str,
    *,
    now: int,
) -> Hold:
    """A hold as a person types it. Raises Refused where that can't be meant."""
    tacs = [typed.tac(word) for word in tac or ()]
    tacs += typed.tacs_in(tac_file) if tac_file else []
    if tac_file and not tacs:
        detail = "no TAC stands in it: the hold would cover all"
        raise Refused("order-tac", detail, where=str(tac_file))
    return Hold(
        until=typed.moment(until, settings.node.timezone, now=now),
        tacs=tuple(sorted(set(tacs))),
        reason=typed.held_reason(reason),
        msisdn_prefix=typed.prefix(msisdn_prefix, settings.numbering) if msisdn_prefix else "",
    )


@hold_app.command("end")
def end_hold(
    named: Annotated[str, typer.Argument(metavar="HOLD", help="As `eir hold list` names it.")],
    why: WhyOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a hold before its time. Whom it covered may be refused at once: the guard weighs it."""
    settings = load_config(config)

    def ended(content: Generation, now: int) -> Delta:
        rows = [row for row in _holds(content) if hold_id(row) == named.lower()]
        if not rows:
            raise Refused("order-none", f"no hold is called {named!r}: `eir hold list`")
        return exchanged(content, "holds", rows, ())

    _order(settings, desk, ended, f"hold end {named}{f': {why}' if why else ''}", as_json)


@hold_app.command("list")
def list_holds(
    desk: DeskOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show the holds, whom they cover, and who gave them."""
    settings = load_config(config)
    rows = _holds(ordering.standing(settings, ordering.desk_of(settings, desk)))
    if as_json:
        console.print_json([_hold_fields(row) for row in rows])
        return
    table = console.table("", "hold", "covers", "until", "by", "at", "why")
    grace_time = ordering.grace_time(settings, int(time.time()))
    for number, row in enumerate(rows, 1):
        told = _until(row.until, grace_time), *_by(row.who, row.at, row.why)
        table.add_row(str(number), hold_id(row), hold_text(row), *told)
    console.out.print(table if rows else "no hold stands")
    tell_held(settings)


def mode(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="[MODE]", help="shadow, enforce, or setting: what [policy] mode says."
        ),
    ] = "",
    why: WhyOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Refuse nobody (shadow), or refuse again (enforce).

    On every node of this feed. The order stands above `[policy] mode` until `eir mode setting`
    takes it away. Back to enforce is weighed by the guard, as everything that newly refuses.
    Without MODE: show which holds, and by whose word.

    \b
    Examples:
      eir mode shadow --why "wrong list published, 03:10"
      eir mode enforce --why "list corrected"
      eir mode
    """
    settings = load_config(config)
    if not wanted:
        _show_mode(settings, desk, as_json)
        return
    if wanted not in ("shadow", "enforce", "setting"):
        raise Refused("order-mode", f"{wanted!r}: shadow, enforce or setting")
    if not why:
        raise Refused("order-why", "say why: --why")
    fresh = Order(f"mode.{wanted}", who=ordering.who(), at=int(time.time()), why=_why(why))

    def changed(content: Generation, now: int) -> Delta:
        standing = content.mode
        gone = [standing] if standing else []
        return exchanged(content, "orders", gone, [fresh] if wanted != "setting" else [])

    _order(settings, desk, changed, f"mode {wanted}: {fresh.why}", as_json)


def _order(
    settings: Config,
    desk: Path | None,
    amend: Callable[[Generation, int], Delta],
    what: str,
    as_json: bool,
) -> None:
    """Give the order and say what became of it."""
    tell(ordering.give(settings, ordering.desk_of(settings, desk), amend, what), as_json)


def tell(given: ordering.Given, as_json: bool) -> None:
    """What became of an order. Exit code 2 where it does not serve."""
    if as_json:
        console.print_json(asdict(given))
    else:
        console.out.print(fate_text(given))
    if given.fate in ("held", "unknown"):
        raise typer.Exit(console.EXIT_INCOMPLETE)


def tell_held(settings: Config) -> None:
    """Warn that what was shown is not all in force here."""
    if figures := ordering.held_back(settings):
        text = f"HELD: the newest orders do not serve here yet: {figures}; `eir sync accept`"
        console.out.print(text)


def fate_text(given: ordering.Given) -> str:
    """What became of an order, in a sentence."""
    if not given.changed:
        return "nothing had to change"
    told = f"serial {given.serial} of the operator's feed"
    return {
        "serves": f"{told} serves",
        "held": f"{told} is HELD: {given.detail}\n`eir sync accept` lets it through; ending the"
        " order takes it back",
        "kept": f"{told} is kept: {given.detail or '`eir serve` will serve it'}",
        "published": f"{told} is published: {given.detail}",
        "unknown": f"{told} is published, and does not serve here: {given.detail}",
    }[given.fate]


def _override(
    settings: Config,
    whom: Sequence[str],
    meant: str,
    until: str,
    forever: bool,
    why: str,
    *,
    allow: bool,
    forced: bool = False,
) -> Override:
    if bool(until) == forever:
        raise Refused("order-until", "either --until, or --forever")
    imei, msisdn = typed.identity(whom, settings.numbering, meant)
    now = int(time.time())
    ends = 0 if forever else typed.moment(until, settings.node.timezone, now=now)
    return Override(imei, msisdn, allow, ends, forced, ordering.who(), now, _why(why))


def _why(text: str) -> str:
    line = ordering.one_line(text)
    if not line:
        raise Refused("order-why", "say why: --why")
    return line


def _told(row: Override) -> str:
    action = f"{'allow' if row.allow else 'deny'}{' forced' if row.forced else ''}"
    until = f"until {utc(row.until)}" if row.until else "for ever"
    return f"override {action} {_whom(row.imei, row.msisdn)} {until}: {row.why}"


def _whom(imei: int, msisdn: int) -> str:
    device = f"{imei:0{limits.IMEI_DIGITS}d}" if imei else ""
    return " ".join(filter(None, (device, str(msisdn or ""))))


def _overrides(content: Generation) -> list[Override]:
    return [row for row in content.orders("overrides") if isinstance(row, Override)]


def _holds(content: Generation) -> list[Hold]:
    return [row for row in content.orders("holds") if isinstance(row, Hold)]


def _until(at: int, now: int) -> str:
    if not at:
        return "for ever"
    return utc(at) if at > now else f"ended {utc(at)}"


def _by(who: str, at: int, why: str) -> tuple[str, str, str]:
    return who or "a list file", utc(at) if at else "", why


def _override_fields(row: Override) -> dict[str, object]:
    return {
        "action": "allow" if row.allow else "deny",
        "imei": f"{row.imei:014d}" if row.imei else "",
        "msisdn": str(row.msisdn or ""),
        "until": row.until,
        "forced": row.forced,
        "who": row.who,
        "at": row.at,
        "why": row.why,
    }


def _hold_fields(row: Hold) -> dict[str, object]:
    return {
        "hold": hold_id(row),
        "until": row.until,
        "tacs": [f"{tac:08d}" for tac in row.tacs],
        "reason": row.reason,
        "msisdn_prefix": row.msisdn_prefix,
        "who": row.who,
        "at": row.at,
        "why": row.why,
    }


def _show_mode(settings: Config, desk: Path | None, as_json: bool) -> None:
    order = ordering.standing(settings, ordering.desk_of(settings, desk)).mode
    said = settings.policy.mode
    holds = order.what.removeprefix("mode.") if order else said
    source: Literal["order", "setting"] = "order" if order else "setting"
    if as_json:
        by = {"who": order.who, "at": order.at, "why": order.why} if order else {}
        console.print_json({"mode": holds, "from": source, "setting": said, **by})
    elif order:
        console.out.print(
            f"{holds}, ordered by {order.who} at {utc(order.at)}: {order.why}"
            f" ([policy] mode says {said})",
        )
    else:
        console.out.print(f"{holds}, as [policy] mode says")
    if not as_json:
        tell_held(settings)
