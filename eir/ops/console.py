"""How the command line speaks: tables and bars for people, JSON for machines, exit codes.

What was asked for goes to standard output, bars and faults to standard error, so that a script can
read the one and a person sees the other.
"""

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
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)
from rich.table import Column, Table
from rich.text import Text

EXIT_OK: Final = 0
EXIT_ERROR: Final = 1
EXIT_INCOMPLETE: Final = 2
EXIT_REFUSED: Final = 3

# A terminal folds what is too wide for it; a file or a pipe gets its lines whole.
# What is printed is what was said: no brackets or colons in it are taken for commands.
out = Console(
    highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 400
)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

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


def table(*headings: str, title: str = "", narrow: bool = False) -> Table:
    """An empty table in the house's style; without any heading's text, it has no line of them.

    ``narrow``: one blank between columns instead of two, and nothing is folded.
    """
    made = Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 1 if narrow else 2, 0, 0),
        show_header=any(headings),
    )
    for heading in headings:
        made.add_column(heading, overflow="fold", no_wrap=narrow)
    return made


class _TimeLeft(ProgressColumn):
    """Minutes and seconds that are left, as far as that can be told."""

    def render(self, task: Task) -> Text:
        if task.time_remaining is None:
            return Text("")
        minutes, seconds = divmod(int(task.time_remaining), 60)
        return Text(f"{minutes}:{seconds:02d} left")


def counted(heads: Sequence[str], rows: Sequence[Sequence[str | int]], *, always: int) -> Table:
    """A table of names and counts; of the columns from ``always`` on, those that tell something."""
    told = [i for i in range(len(heads)) if i < always or any(row[i] for row in rows)]
    made = table(*(heads[i] for i in told), narrow=True)
    made.padding = (0, 2, 0, 0)
    for i, column in zip(told, made.columns, strict=True):
        column.justify = "right" if any(isinstance(row[i], int) for row in rows) else "left"
    for row in rows:
        cells = [row[i] for i in told]
        made.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells))
    return made


@contextmanager
def progress_bar(description: str, *, hidden: bool = False) -> Iterator[tuple[Progress, TaskID]]:
    """A bar on standard error, gone at the end: share done, the field ``note``, time left."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True)),
        _TimeLeft(table_column=Column(no_wrap=True, min_width=9)),
        console=err,
        disable=hidden or not err.is_terminal,
        transient=True,
        expand=True,
    )
    with bar:
        yield bar, bar.add_task(description, total=None, note="")
