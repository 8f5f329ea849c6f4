"""What a publication came to, in words and as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path

from eir.feed.head import Head
from eir.feed.publish import Published
from eir.ops import console


@dataclass(frozen=True, slots=True)
class Step:
    """What was made of lists or deltas.

    ``runs``: of others, by source, that are published now; ``repeated``: they were before.
    ``rejects``: rows that were not taken, which stand in the file ``rejects_path``.
    """

    runs: Mapping[str, int]
    repeated: bool
    rejects: int
    rejects_path: Path | None


def print_published(done: Published, gone: list[str], step: Step | None, *, as_json: bool) -> None:
    """``gone``: files that left the feed; ``step``: None where the head alone was signed."""
    head = done.head
    runs = step.runs if step else {}
    if as_json:
        facts = {"bytes": done.size, "changes": pairs(done.changes), "removed_files": gone}
        if step:
            path = str(step.rejects_path) if step.rejects_path else None
            facts |= {"runs": dict(runs), "rejected": step.rejects, "rejects": path}
        console.print_json({"did": done.kind, "reason": done.reason, **head_fields(head), **facts})
        return
    if done.reason:
        console.out.print(f"history was lost: {done.reason}")
    rows = console.table("list", "removed", "added")
    for name, (removed, added) in done.changes.items():
        rows.add_row(name, f"{removed:,}", f"{added:,}")
    if done.changes:
        console.out.print(rows)
    console.out.print(
        f"{done.kind}: serial {head.serial}, {done.size:,} bytes added,"
        f" {_counted(gone, 'file')} removed;"
        f" the head has {_counted(head.deltas, 'delta')} of {weight(head):,} bytes"
    )
    if step and step.rejects_path:
        rows_said = "1 row" if step.rejects == 1 else f"{step.rejects:,} rows"
        console.out.print(f"rejects: {rows_said} not taken, see {step.rejects_path}")
    if runs:
        said = "already published" if step and step.repeated else "published"
        console.out.print(f"{said}: run {', '.join(f'{run} of {n}' for n, run in runs.items())}")


def _counted(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def head_fields(head: Head) -> dict[str, object]:
    """What a head says, as a document."""
    return {
        "registry": head.registry_id,
        "epoch": head.epoch,
        "session": head.session,
        "serial": head.serial,
        "made_at": head.made_at,
        "snapshot": {"serial": head.snapshot.serial, "bytes": head.snapshot.size},
        "delta_bytes": weight(head),
    }


def weight(head: Head) -> int:
    """Bytes of the deltas that a head names."""
    return sum(delta.size for delta in head.deltas)


def pairs(changes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
    """Items removed and added by list, as a document."""
    return {name: {"removed": gone, "added": come} for name, (gone, come) in changes.items()}
