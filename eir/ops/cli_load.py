"""Commands that make data: load list files into the depot, make a sample registry."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress as Bar
from rich.progress import TaskID

from eir.client.node import NodeClient
from eir.errors import Unavailable
from eir.ops import console
from eir.ops.config import Config, load_config
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.sample import write_sample
from eir.store.depot import Depot

if TYPE_CHECKING:
    from eir.store.importers.scratch import Progress
    from eir.store.load import LoadOutcome

_STAGES = {"survey": "looking at", "read": "reading", "sort": "sorting"}


def load(
    manifest: Annotated[
        Path, typer.Argument(help="The TOML file that says which file is which list.")
    ],
    reports: Annotated[
        Path | None,
        typer.Option(help="Folder for the CSVs of rejects and conflicts; default: the manifest's."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bulk-load list files: a new snapshot in the depot, taken up at once by a node that runs.

    Nothing changes unless all of it is good: the old snapshot keeps serving.
    """
    settings = load_config(config)
    with console.progress_bar("loading", hidden=as_json) as (bar, task):
        outcome = load_into_depot(settings, manifest, bar, task, reports=reports)
    taken_up = _reload_node(settings)
    if as_json:
        console.print_json(_summary(outcome, taken_up))
    else:
        _print_outcome(outcome, taken_up)


def sample(
    folder: Annotated[Path, typer.Argument(help="Where the list files and manifests go.")],
    devices: Annotated[int, typer.Option(help="How many devices.", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal registries.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make a sample registry: list files, two manifests, and one question for each row."""
    with console.progress_bar("drawing devices", hidden=as_json) as (bar, task):
        facts = write_sample(
            folder,
            devices,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        console.print_json(
            {
                "registry": str(facts.registry_manifest),
                "operator": str(facts.operator_manifest),
                "queries": str(facts.queries),
                "devices": facts.devices,
                "rows": dict(facts.rows),
            }
        )
        return
    console.out.print(f"registry: eir load {facts.registry_manifest}", markup=False)
    console.out.print(f"operator: eir load {facts.operator_manifest}", markup=False)


def load_into_depot(
    settings: Config, manifest: Path, bar: Bar, task: TaskID, *, reports: Path | None = None
) -> LoadOutcome:
    """Build the snapshot aside and make it the depot's newest. Raises Refused, changing nothing."""
    from eir.store.importers.scratch import Effort
    from eir.store.load import load as load_lists

    depot = Depot(settings.node.depot)

    def tell(progress: Progress) -> None:
        note = f"{progress.rows:,} rows, {progress.rejects:,} rejects"
        bar.update(
            task,
            description=f"{_STAGES[progress.stage]} {progress.name}",
            completed=progress.done,
            total=progress.total,
            note=note,
        )

    path = depot.new_path()
    try:
        outcome = load_lists(
            manifest,
            path,
            settings.numbering,
            tell,
            reports=reports or manifest.parent,
            max_reject_share=settings.load.max_reject_share,
            effort=Effort(settings.load.threads, settings.load.memory_mib),
        )
        depot.adopt(outcome.facts, outcome.head)
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)
    return outcome


def _reload_node(settings: Config) -> bool:
    """Whether a running node took the new snapshot up."""
    try:
        with NodeClient(f"unix:{settings.admin.socket}") as node:
            node.reload(timeout=600)
    except Unavailable:
        return False
    return True


def _summary(outcome: LoadOutcome, taken_up: bool) -> dict[str, object]:
    return {
        "feed": outcome.head.feed,
        "session": outcome.head.session,
        "serial": outcome.head.serial,
        "digest": outcome.facts.digest,
        "bytes": outcome.facts.size,
        "seconds": round(outcome.seconds, 3),
        "files": [asdict(file) for file in outcome.files],
        "lists": [asdict(listed) for listed in outcome.lists],
        "rejects": str(outcome.rejects_path) if outcome.rejects_path else None,
        "conflicts": str(outcome.conflicts_path) if outcome.conflicts_path else None,
        "serving": taken_up,
    }


def _print_outcome(outcome: LoadOutcome, taken_up: bool) -> None:
    files = console.table("file", "list", "rows", "rejected", "wrong check digits", "")
    for file in outcome.files:
        files.add_row(
            file.name,
            file.list_name,
            f"{file.rows:,}",
            f"{file.rejected:,}",
            f"{file.wrong_check_digits:,}",
            file.note,
        )
    lists = console.table("list", "items", "duplicates", "merged ranges", "conflicts")
    for listed in outcome.lists:
        counts = (listed.items, listed.duplicates, listed.merged_ranges, listed.conflicts)
        lists.add_row(listed.name, *(f"{count:,}" for count in counts))
    console.out.print(files)
    console.out.print(lists)
    for what, path in (("rejects", outcome.rejects_path), ("conflicts", outcome.conflicts_path)):
        if path:
            console.out.print(f"{what}: {path}", markup=False)
    rows = sum(file.rows for file in outcome.files)
    console.out.print(
        f"{rows:,} rows in {outcome.seconds:.1f} s; {outcome.facts.size:,} bytes,"
        f" digest {outcome.facts.digest}"
    )
    console.out.print(
        "the running node serves it" if taken_up else "no node runs here: `eir serve` will serve it"
    )
