"""The command ``eir``: every command in its group, and what an error comes to as an exit code.

Exit codes: 0 ok; 1 error; 2 incomplete, stale, or no node answers; 3 refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn, cast

import typer

import eir
from eir.errors import EirError, Refused, Unavailable
from eir.ops import console
from eir.ops.cli import (
    ask,
    exempt,
    feed,
    impact,
    keys,
    load,
    order,
    s13,
    sightings,
    snapshot,
    sync,
    watch,
)
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.logs import start_logging
from eir.ops.settings.config import config_check, load_config
from eir.ops.settings.sample_config import default_toml
from eir.ops.stopping import someone_is_left

_NOT_ANSWERED: Final = frozenset({"fetch-failed", "fetch-timeout", "fetch-slow", "fetch-cut"})
_EXIT_INTERRUPTED = 130
_USAGE_ERROR = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What typer raises for any wrong command line; of its kinds it names but this one."""

app = typer.Typer(
    name="eir",
    help="""A device-eligibility engine: may this device be used with this SIM?

\b
A first look, on a sample registry:
  eir demo
A node of your own:
  eir config default > eir.toml
  eir load lists/registry.toml
  eir serve
  eir check 359999010001097 09121234567

Exit codes: 0 ok, 1 error, 2 incomplete, stale or nothing answers, 3 refused. With --json the answer
is one JSON document on standard output; faults are a line on standard error.
""",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Check the configuration file, or print one with every setting.")
app.add_typer(config_app, name="config", no_args_is_help=True)
app.add_typer(snapshot.app, name="snapshot", no_args_is_help=True)
app.add_typer(s13.app, name="s13", no_args_is_help=True)
app.add_typer(feed.app, name="feed", no_args_is_help=True)
app.add_typer(keys.app, name="keys", no_args_is_help=True)
app.add_typer(sync.app, name="sync", no_args_is_help=True)
app.add_typer(order.override_app, name="override", no_args_is_help=True)
app.add_typer(order.hold_app, name="hold", no_args_is_help=True)
app.add_typer(exempt.exempt_app, name="exempt", no_args_is_help=True)
app.add_typer(exempt.released_app, name="released", no_args_is_help=True)
app.add_typer(sightings.app, name="sightings", no_args_is_help=True)
app.add_typer(watch.breaker_app, name="breaker", no_args_is_help=True)
app.add_typer(watch.clock_app, name="clock", no_args_is_help=True)

app.command("load")(load.load)
app.command("sample")(load.sample)
app.command("check")(ask.check)
app.command("explain")(ask.explain)
app.command("status")(ask.status)
app.command("reload")(ask.reload)
app.command("mode")(order.mode)
app.command("impact")(impact.impact_of)
app.command("diff")(sync.diff)
app.command("rollback")(sync.rollback)


def _show_version(asked: bool) -> None:
    if asked:
        console.out.print(eir.__version__)
        raise typer.Exit(console.EXIT_OK)


@app.callback()
def _every_command(
    shown: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    pass


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Answer checks until SIGTERM or Ctrl-C.

    Serves what the depot holds; `eir load` puts it there. Without registry data the node answers
    UNAVAILABLE, so that the core asks another one. SIGHUP, or `eir reload`, reads configuration,
    certificates and depot again without a pause; SIGTERM lets calls in flight end.

    \b
    Examples:
      eir serve
      eir serve --config /etc/eir/eir.toml
    """
    from eir.ops.keeper import Keeper

    settings = load_config(config)
    start_logging(settings.node.log_level, as_json=settings.node.json_logs)
    asyncio.run(Keeper(settings, config_path=settings.path).run())
    _leave(console.EXIT_OK)


def _leave(code: int) -> None:
    """End at once although a download or a compiler may go on: all doors are closed, and what
    was about to be kept is kept whole or not at all.
    """
    if someone_is_left():
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)


@app.command()
def demo(
    devices: Annotated[
        int, typer.Option(help="Devices in the sample registry.", min=1)
    ] = 1_000_000,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its files.")] = Path(
        ".eir/demo"
    ),
    once: Annotated[bool, typer.Option("--once", help="Stop after the questions.")] = False,
) -> None:
    """See it work: a registry, its feed, a node, a question a row.

    Makes a sample registry, publishes it as a feed, has a node follow it, asks one question for
    each row of the decision table, shows answers changing as deltas arrive, and goes on until
    Ctrl-C. What it made is kept for the next time.

    \b
    Examples:
      eir demo
      eir demo --devices 100000 --once
    """
    from eir.ops.demo.run import run_demo

    start_logging("warning", as_json=False)
    good = run_demo(devices=devices, folder=folder, once=once)
    _leave(console.EXIT_OK if good else console.EXIT_ERROR)


@config_app.command("check")
def check_config(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="Default: the file `eir serve` would take."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a configuration file, and say all that is wrong with it.

    Every unknown setting and wrong value is told with its line and the nearest that is known.
    PATH and --config are the same.
    """
    if path is not None and config is not None:
        raise typer.BadParameter("PATH and --config are the same: give one of them")
    named = path or config
    settings = config_check(named) if named else load_config()
    where = str(settings.path) if settings.path else "built-in defaults (no file found)"
    if as_json:
        console.print_json({"path": where, "ok": True, "mode": settings.policy.mode})
    else:
        console.out.print(f"good: {where}")


@config_app.command("default")
def default_config() -> None:
    """Print a configuration file with every setting explained."""
    sys.stdout.write(default_toml())


def main() -> None:
    """The entry point: run the command, and turn what it refuses into a line and an exit code."""
    logging.captureWarnings(True)
    try:
        sys.exit(app(prog_name="eir", standalone_mode=False) or console.EXIT_OK)
    except _USAGE_ERROR as error:
        _fail_usage(error)
    except Refused as error:
        silent = error.reason in _NOT_ANSWERED
        _fail(error, console.EXIT_INCOMPLETE if silent else console.EXIT_REFUSED)
    except Unavailable as error:
        _fail(error, console.EXIT_INCOMPLETE)
    except EirError as error:
        _fail(error, console.EXIT_ERROR)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        _fail(what, console.EXIT_ERROR)
    except typer.Abort:
        _fail("nobody said yes: nothing has changed", console.EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(_EXIT_INTERRUPTED)


def _fail_usage(error: typer.BadParameter) -> NoReturn:
    """A command without its command shows its help; all else is one line that leads there."""
    command = error.ctx.command_path if error.ctx else app.info.name
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(f"{error.format_message()}\n")
        sys.exit(console.EXIT_OK)
    text = error.format_message().rstrip(".")
    _fail(f"{text[:1].lower()}{text[1:]}; `{command} --help` tells more", console.EXIT_REFUSED)


def _fail(error: object, code: int) -> NoReturn:
    console.err.print(f"error: {error}")
    sys.exit(code)
