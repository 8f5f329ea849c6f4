"""Commands that make data: load list files into the depot, make a sample registry."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress as Bar
from rich.progress import TaskID

from eir.client.node import NodeClient
from eir.core.generation import REGISTRY
from eir.errors import Refused, Unavailable
from eir.feed.codec import open_snapshot
from eir.ops import console, ordering
from eir.ops.cli.order import fate_text
from eir.ops.console import ConfigOption, JsonOption
from eir.ops.demo.sample import write_sample
from eir.ops.keeping import FeedKeeping, depot_of
from eir.ops.settings.config import Config, load_config

if TYPE_CHECKING:
    from eir.store.importers.scratch import Progress
    from eir.store.load import LoadOutcome

_STAGES = {"survey": "look at", "read": "read", "sort": "sort"}


def load(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST", help="The TOML file that says which file is which list."
        ),
    ],
    reports: Annotated[
        Path | None,
        typer.Option(help="Folder for the CSVs of rejects and conflicts; default: the manifest's."),
    ] = None,
    detach_feed: Annotated[
        bool,
        typer.Option(
            "--detach-feed",
            help="Load lists although their feed is followed, and follow it no more.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load list files as a new snapshot, and have the node serve it.

    MANIFEST says which file is which list. Nothing changes unless all of it is good: on any fault
    the old snapshot goes on serving. Rejected rows go to a CSV, with file, line, column and reason.

    \b
    Examples:
      eir load lists/registry.toml
      eir load lists/registry.toml --reports reports --config /etc/eir/eir.toml
      eir load lists/operator.toml --json
    """
    settings = load_config(config)
    if _mind_the_feed(settings, manifest, detach=detach_feed):
        _publish(settings, manifest, reports, as_json=as_json)
        return
    with console.progress_bar("loading", hidden=as_json) as (bar, task):
        outcome = load_into_depot(settings, manifest, bar, task, reports=reports)
    _hand_over(settings, outcome, as_json=as_json)


def sample(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the list files and manifests go.")
    ],
    devices: Annotated[int, typer.Option(help="How many devices.", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal registries.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make up a sample registry: list files, manifests, questions.

    Every row of the decision table occurs in it; queries.csv has a question for each.

    \b
    Examples:
      eir sample lists --devices 100000
      eir load lists/registry.toml
      eir load lists/operator.toml
    """
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
    console.out.print(f"registry: eir load {facts.registry_manifest}")
    console.out.print(f"operator: eir load {facts.operator_manifest}")


def _hand_over(settings: Config, outcome: LoadOutcome, *, as_json: bool) -> None:
    """Have a running node take the load up, and tell of both."""
    if not as_json:
        _print_outcome(outcome)
    taken_up = False
    try:
        taken_up = _reload_node(settings)
    finally:
        if as_json:
            console.print_json(_summary(outcome, taken_up))
    if not as_json:
        absent = "no node answers at the admin socket: `eir serve` will serve it"
        console.out.print("the running node serves it now" if taken_up else absent)


def _mind_the_feed(settings: Config, manifest: Path, *, detach: bool) -> bool:
    """Whether the lists go into the depot's own operator feed, and not into the depot alone.

    Raises Refused ``feed-followed`` where a feed of somebody else would take them away again.
    """
    from eir.store.importers.manifest import read_manifest

    feed = read_manifest(manifest).feed
    follow = settings.feed if feed == REGISTRY else settings.operator_feed
    if follow is None:
        return False
    if follow.desk is not None and not detach:
        return True
    if not detach:
        raise Refused(
            "feed-followed",
            f"this node follows the feed that has the {feed}'s lists: --detach-feed leaves it",
            where=str(manifest),
        )
    FeedKeeping(depot_of(settings.node), feed, follow.keep).detach()
    return False


def _publish(settings: Config, manifest: Path, reports: Path | None, *, as_json: bool) -> None:
    """Load into the depot's own operator feed, as one change; what is there by hand stays."""
    desk = ordering.desk_of(settings)
    with (
        console.progress_bar("loading", hidden=as_json) as (bar, task),
        _built(settings, manifest, bar, task, reports) as outcome,
    ):
        loaded = open_snapshot(outcome.facts.path)
        bar.update(task, description="comparing and publishing", note="", total=None)
        what = f"load {manifest}"
        given = ordering.publish(settings, desk, lambda old: ordering.bulk(old, loaded), what)
    if as_json:
        of_feed = {"session": given.session, "serial": given.serial, "digest": given.digest}
        told = {"fate": given.fate, "detail": given.detail}
        console.print_json({**_summary(outcome, given.fate == "serves"), **of_feed, **told})
    else:
        _print_outcome(outcome)
        console.out.print(fate_text(given))
    if given.fate in ("held", "unknown"):
        raise typer.Exit(console.EXIT_INCOMPLETE)


def rate_line(outcome: LoadOutcome) -> str:
    """What a finished load came to, in one line."""
    rows = sum(file.rows for file in outcome.files)
    rejects = sum(file.rejected for file in outcome.files)
    return (
        f"{rows:,} rows in {outcome.seconds:.1f} s"
        f" ({rows / max(outcome.seconds, 0.001):,.0f} rows/s),"
        f" {rejects:,} rejects, {outcome.facts.size:,} bytes"
    )


def load_into_depot(
    settings: Config, manifest: Path, bar: Bar, task: TaskID, *, reports: Path | None = None
) -> LoadOutcome:
    """Build the snapshot aside and make it the depot's newest. Raises Refused, changing nothing."""
    with _built(settings, manifest, bar, task, reports) as outcome:
        bar.update(task, description="verifying", note="", total=None)
        open_snapshot(outcome.facts.path)
        depot_of(settings.node).adopt(outcome.facts, outcome.head, verified=True)
    return outcome


@contextmanager
def _built(
    settings: Config, manifest: Path, bar: Bar, task: TaskID, reports: Path | None
) -> Iterator[LoadOutcome]:
    """The snapshot of the lists, in a folder that is gone at the end."""
    path = depot_of(settings.node).new_path()
    try:
        yield built_aside(settings, manifest, path, bar, task, reports=reports)
    finally:
        shutil.rmtree(path.parent, ignore_errors=True)


def built_aside(
    settings: Config, manifest: Path, path: Path, bar: Bar, task: TaskID, *, reports: Path | None
) -> LoadOutcome:
    """Build the snapshot of a manifest at ``path``, a new file. Raises Refused."""
    from eir.store.importers.scratch import Effort
    from eir.store.load import load as load_lists

    return load_lists(
        manifest,
        path,
        settings.numbering,
        teller(bar, task),
        reports=reports or manifest.parent,
        max_reject_share=settings.load.max_reject_share,
        effort=Effort(settings.load.threads, settings.load.memory_mib),
    )


def teller(bar: Bar, task: TaskID) -> Callable[[Progress], None]:
    """Shows a load's progress: rows, rows/s of this stage, rejects; the bar adds the time left."""
    stage, begun, rejects = "", 0.0, 0

    def tell(progress: Progress) -> None:
        nonlocal stage, begun, rejects
        sorting = progress.stage == "sort"
        shown = f"{_STAGES[progress.stage]} {progress.name}"
        entered = f"sort {progress.name}" if sorting else progress.stage
        if entered != stage:
            stage, begun = entered, time.monotonic()
            bar.reset(task, total=progress.total, description=shown, note="")
        rows = progress.done if sorting else progress.rows
        rejects = max(rejects, progress.rejects)
        rate = rows / max(time.monotonic() - begun, 0.001)
        bar.update(
            task,
            description=shown,
            completed=progress.done,
            total=progress.total,
            note=f"{rows:,} rows {rate:,.0f} rows/s {rejects:,} rejects",
        )

    return tell


def _reload_node(settings: Config) -> bool:
    """Whether a running node took the new snapshot up. Raises Refused where it would not."""
    try:
        with NodeClient(f"unix:{settings.admin.socket}") as node:
            node.reload(timeout=600)
    except Unavailable:
        return False
    except Refused as error:
        detail = f"loaded and kept, but the running node goes on with the old: {error.detail}"
        raise Refused("node-refused", detail, where=error.where) from error
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


def _print_outcome(outcome: LoadOutcome) -> None:
    files = [
        (f.name, f.list_name, f.rows, f.rejected, f.wrong_check_digits, f.note)
        for f in outcome.files
    ]
    noted = ("file", "list", "rows", "rejected", "wrong check digits", "")
    console.out.print(console.counted(noted, files, always=4))
    lists = [(a.name, a.items, a.duplicates, a.merged_ranges, a.conflicts) for a in outcome.lists]
    heads = ("list", "items", "duplicates", "merged ranges", "conflicts")
    console.out.print()
    console.out.print(console.counted(heads, lists, always=2))
    console.out.print()
    for what, path in (("rejects", outcome.rejects_path), ("conflicts", outcome.conflicts_path)):
        if path:
            console.out.print(f"{what}: {path}")
    console.out.print(f"{rate_line(outcome)}, digest {outcome.facts.digest}")
