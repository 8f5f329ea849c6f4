"""The command ``eir``: every command in its group, and what an error comes to as an exit code.

Exit codes: 0 ok; 1 error; 2 incomplete, stale, or no node answers; 3 refused.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from eir.errors import Corrupt, EirError, Refused, Unavailable
from eir.ops import cli_ask, cli_feed, cli_keys, cli_load, cli_snapshot, console, pages
from eir.ops.config import config_check, load_config
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.logs import start_logging

app = typer.Typer(
    name="eir",
    help="A device-eligibility engine: may this device be used with this SIM?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="The configuration file: check it, or write one with every default.")
app.add_typer(config_app, name="config", no_args_is_help=True)
app.add_typer(cli_snapshot.app, name="snapshot", no_args_is_help=True)
app.add_typer(cli_feed.app, name="feed", no_args_is_help=True)
app.add_typer(cli_keys.app, name="keys", no_args_is_help=True)

app.command("load")(cli_load.load)
app.command("sample")(cli_load.sample)
app.command("check")(cli_ask.check)
app.command("explain")(cli_ask.explain)
app.command("status")(cli_ask.status)
app.command("reload")(cli_ask.reload)


@app.callback()
def _every_command(
    shown: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
) -> None:
    if shown:
        console.out.print(version("eir"))
        raise typer.Exit(console.EXIT_OK)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Serve checks until SIGTERM or Ctrl-C; SIGHUP reads the configuration and the depot again.

    What the depot holds is served; `eir load` puts it there. A node without registry data answers
    UNAVAILABLE, so that the core asks another one.
    """
    from eir.ops.keeper import Keeper

    settings = load_config(config)
    start_logging(settings.node.log_level, as_json=settings.node.json_logs)
    asyncio.run(Keeper(settings, config_path=settings.path).run())


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
    """Make a sample registry, load it, serve it, and ask one question for each row of the table."""
    from eir.ops.demo import run_demo

    start_logging("warning", as_json=False)
    if not run_demo(devices=devices, folder=folder, once=once):
        raise typer.Exit(console.EXIT_ERROR)


@config_app.command("check")
def check_config(
    path: Annotated[
        Path | None, typer.Argument(help="Default: the file `eir serve` would take.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a configuration file wholly: every unknown key and wrong value, with its line."""
    settings = config_check(path) if path else load_config()
    where = str(settings.path) if settings.path else "built-in defaults (no file found)"
    if as_json:
        console.print_json({"path": where, "ok": True, "mode": settings.policy.mode})
    else:
        console.out.print(f"good: {where}")


@config_app.command("default")
def default_config() -> None:
    """Print a configuration with every setting, its default and what it does."""
    sys.stdout.write(pages.default_toml())


def main() -> None:
    """The entry point: run the command, and turn what it refuses into a line and an exit code."""
    logging.captureWarnings(True)
    try:
        app(standalone_mode=True)
    except Refused as error:
        _fail(error, console.EXIT_REFUSED)
    except Unavailable as error:
        _fail(error, console.EXIT_INCOMPLETE)
    except (Corrupt, EirError) as error:
        _fail(error, console.EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: EirError, code: int) -> None:
    console.err.print(f"error: {error}", markup=False)
    sys.exit(code)
