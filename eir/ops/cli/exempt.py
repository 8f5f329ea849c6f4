"""Commands on lists of which single items are put in by hand: exemptions, released numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from eir.core.amend import Span, listed, unlisted
from eir.core.imei import ImeiKey, digits15
from eir.core.orders import Order
from eir.core.subscriber import msisdn_from_typed
from eir.errors import Refused
from eir.ops import console, ordering, typed
from eir.ops.cli.ask import utc
from eir.ops.cli.order import DeskOption, WhyOption, tell, tell_held
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.settings.config import Config, load_config

exempt_app = typer.Typer(
    help="""Exempt subscribers, or equipment, from the rules.

\b
Examples:
  eir exempt add all 09121234567 --why "emergency services"
  eir exempt add registration +989121234567 --why "embassy"
  eir exempt add equipment 35999901 359999010001097 --why "terminals of bank X"
  eir exempt list
  eir exempt remove all 09121234567
"""
)
released_app = typer.Typer(
    help="""Numbers that are somebody else's now bind nobody.

\b
Examples:
  eir released add 09121234567 --why "recycled"
  eir released list
  eir released remove 09121234567
"""
)

_SCOPES: Final = {
    "all": "exempt.subscriber.all",
    "registration": "exempt.subscriber.registration",
    "equipment": "exempt.equipment",
}
ScopeArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE", help="all or registration: of a subscriber; equipment: of a device."
    ),
]
ItemsArgument = Annotated[
    list[str],
    typer.Argument(metavar="ITEM", help="Numbers; for equipment, IMEIs or TACs of 8 digits."),
]
NumbersArgument = Annotated[list[str], typer.Argument(metavar="NUMBER", help="Numbers.")]


@exempt_app.command("add")
def add_exempt(
    scope: ScopeArgument,
    items: ItemsArgument,
    why: WhyOption,
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Exempt numbers, devices or whole TACs."""
    _put(load_config(config), _list_of(scope), items, why, desk, as_json)


@exempt_app.command("remove")
def remove_exempt(
    scope: ScopeArgument,
    items: ItemsArgument,
    why: WhyOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take exemptions back, whoever gave them.

    A list file that has one brings it back with the next load.
    """
    _take(load_config(config), _list_of(scope), items, why, desk, as_json)


@exempt_app.command("list")
def list_exempt(
    desk: DeskOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show the exemptions given by hand, and counts of all."""
    _show(load_config(config), tuple(_SCOPES.values()), desk, as_json)


@released_app.command("add")
def add_released(
    numbers: NumbersArgument,
    why: WhyOption,
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have numbers bind nobody any more."""
    _put(load_config(config), "released", numbers, why, desk, as_json)


@released_app.command("remove")
def remove_released(
    numbers: NumbersArgument,
    why: WhyOption = "",
    desk: DeskOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have numbers bind again."""
    _take(load_config(config), "released", numbers, why, desk, as_json)


@released_app.command("list")
def list_released(
    desk: DeskOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show the numbers released by hand, and the count of all."""
    _show(load_config(config), ("released",), desk, as_json)


def _list_of(scope: str) -> str:
    if scope not in _SCOPES:
        raise Refused("order-scope", f"{scope!r}: {', '.join(_SCOPES)}")
    return _SCOPES[scope]


def _put(
    settings: Config,
    name: str,
    items: Sequence[str],
    why: str,
    desk: DeskOption,
    as_json: bool,
) -> None:
    spans, line = _spans(settings, name, items), ordering.one_line(why)
    if not line:
        raise Refused("order-why", "say why: --why")
    order = Order(name, who=ordering.who(), at=int(time.time()), why=line)
    what = f"{name} add {' '.join(_text(name, *span) for span in spans)}: {line}"
    given = ordering.give(
        settings,
        ordering.desk_of(settings, desk),
        lambda content, now: listed(content, name, spans, order),
        what,
    )
    tell(given, as_json)


def _take(
    settings: Config,
    name: str,
    items: Sequence[str],
    why: str,
    desk: DeskOption,
    as_json: bool,
) -> None:
    spans = _spans(settings, name, items)
    texts = " ".join(_text(name, *span) for span in spans)
    given = ordering.give(
        settings,
        ordering.desk_of(settings, desk),
        lambda content, now: unlisted(content, name, spans),
        f"{name} remove {texts}{f': {why}' if why else ''}",
    )
    tell(given, as_json)


def _spans(settings: Config, name: str, items: Sequence[str]) -> list[Span]:
    if name == "exempt.equipment":
        return [typed.device_span(item) for item in items]
    numbers = [msisdn_from_typed(item, settings.numbering) for item in items]
    return [(number, number) for number in numbers]


def _text(name: str, low: int, high: int) -> str:
    if name != "exempt.equipment":
        return str(low)
    return digits15(ImeiKey(low)) if low == high else f"TAC {low // 1_000_000:08d}"


def _show(settings: Config, names: tuple[str, ...], desk: DeskOption, as_json: bool) -> None:
    content = ordering.standing(settings, ordering.desk_of(settings, desk))
    orders = [row for row in content.orders("orders") if isinstance(row, Order)]
    rows = sorted((row for row in orders if row.what in names), key=lambda row: -row.at)
    counts = {n: content.sections[n].items if n in content.sections else 0 for n in names}
    if as_json:
        told = [
            {"list": r.what, "item": _text(r.what, r.low, r.high), "who": r.who, "at": r.at,
             "why": r.why}
            for r in rows
        ]  # fmt: skip
        console.print_json({"by_hand": told, "items": counts})
        return
    table = console.table("list", "item", "by", "at", "why")
    for row in rows:
        item = _text(row.what, row.low, row.high)
        table.add_row(row.what, item, row.who, utc(row.at), row.why)
    if rows:
        console.out.print(table)
    for name, count in counts.items():
        console.out.print(f"{name}: {count:,} in all")
    tell_held(settings)
