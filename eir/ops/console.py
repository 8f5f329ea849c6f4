"""How the command line speaks: tables and bars for people, JSON for machines, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_INCOMPLETE: Final = 2
EXIT_REFUSED: Final = 3

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The configuration file. Default: $EIR_CONFIG, ./eir.toml, /etc/eir/eir.toml,"
        " else the built-in defaults.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


def print_json(document: Mapping[str, object] | Sequence[object]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def table(*headings: str, title: str = "") -> Table:
    """An empty table in the house's style."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


@contextmanager
def progress_bar(description: str, *, hidden: bool = False) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on standard error: counts, the field ``note``, time elapsed and remaining."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=hidden,
    )
    with bar:
        yield bar, bar.add_task(description, total=None, note="")
