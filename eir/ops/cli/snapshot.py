"""Commands on snapshot files: info, verify, diff, export. None needs a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eir.core.delta import between
from eir.core.generation import Generation
from eir.feed.codec import open_snapshot
from eir.ops import console
from eir.ops.cli.ask import utc
from eir.ops.console import JsonOption
from eir.store.export import export as export_lists

app = typer.Typer(
    help="""Look into snapshot files, compare them, export them as lists.

No node is needed.

\b
Examples:
  eir snapshot info /var/lib/eir/snapshots/registry-1-0011223344556677.snap
  eir snapshot verify /var/lib/eir/snapshots/registry-1-0011223344556677.snap
  eir snapshot diff monday.snap tuesday.snap
  eir snapshot export tuesday.snap lists
"""
)

FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A snapshot file, such as those in the depot's snapshots/."
    ),
]


@app.command()
def info(file: FileArgument, as_json: JsonOption = False) -> None:
    """Show what a snapshot says of itself. Reads its header alone; `verify` reads all of it."""
    _describe(open_snapshot(file, trusted=True), file, as_json=as_json, verified=False)


@app.command()
def verify(file: FileArgument, as_json: JsonOption = False) -> None:
    """Verify every byte of a snapshot: hashes, structure, digest.

    A file that is not good ends with exit code 1, and the section at fault is named.
    """
    with console.progress_bar(f"verifying {file.name}", hidden=as_json):
        generation = open_snapshot(file)
    _describe(generation, file, as_json=as_json, verified=True)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The older snapshot file.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The newer snapshot file.")],
    as_json: JsonOption = False,
) -> None:
    """Count what went and came between two snapshots, by section."""
    with console.progress_bar("comparing", hidden=as_json):
        delta = between(open_snapshot(old), open_snapshot(new))
    changes = {
        name: {"removed": len(change.removed), "added": len(change.added)}
        for name, change in delta.changes.items()
    }
    if as_json:
        console.print_json({"equal": not changes, "sections": changes})
        return
    rows = console.table("section", "removed", "added")
    for name, counts in changes.items():
        rows.add_row(name, f"{counts['removed']:,}", f"{counts['added']:,}")
    console.out.print(rows if changes else "equal content")


@app.command()
def export(
    file: FileArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new or empty folder for the list files.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Write a snapshot out as CSV files that load back the same.

    A manifest stands beside them; loading it gives the same digest.
    """
    generation = open_snapshot(file)
    with console.progress_bar("exporting", hidden=as_json) as (bar, task):
        manifest = export_lists(
            generation, folder, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        console.print_json({"manifest": str(manifest), "digest": generation.digest})
    else:
        console.out.print(f"{manifest}: load it with `eir load {manifest}`")


def _describe(generation: Generation, file: Path, *, as_json: bool, verified: bool) -> None:
    size = file.stat().st_size
    sections = {name: section.items for name, section in generation.sections.items()}
    if as_json:
        console.print_json(
            {
                "file": str(file),
                "verified": verified,
                "bytes": size,
                "feed": generation.feed,
                "registry": generation.registry_id,
                "session": generation.session,
                "serial": generation.serial,
                "made_at": generation.made_at,
                "digest": generation.digest,
                "sections": sections,
            }
        )
        return
    rows = console.table("", "")
    rows.add_row("feed", generation.feed)
    rows.add_row("registry", generation.registry_id)
    rows.add_row("session", generation.session)
    rows.add_row("serial", str(generation.serial))
    rows.add_row("made", utc(generation.made_at))
    rows.add_row("digest", generation.digest)
    rows.add_row("size", f"{size:,} bytes")
    for name, items in sections.items():
        rows.add_row(name, f"{items:,}")
    rows.add_row("verified", "every byte" if verified else "no: `eir snapshot verify` does")
    console.out.print(rows)
