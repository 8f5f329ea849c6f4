"""Deltas of others, published: which of their makers' runs a feed holds, and the step from there.

    what is published → is this delta for that? → with it → remember the runs → publish

``runs.json`` at the desk has the runs by the digest of the content that they are about: of what is
published, and of what is about to be. It is written before the head is: wherever a run is killed,
the published content says which line holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from eir.core.delta import apply
from eir.core.generation import Generation
from eir.core.increment import stepped
from eir.errors import Conflict, Refused
from eir.feed.digest import Digest, of_delta
from eir.feed.publish import Edition
from eir.ops.desk import Desk
from eir.store.changes import Changes
from eir.store.importers.deltas import WHOLE

_RUNS: Final = "runs.json"
_ADVICE: Final = "publish the full lists, or say with --run which run is published"


def runs_of(desk: Desk, digest: str) -> dict[str, int]:
    """The makers' runs, by source, that the content of this digest holds; those that are known."""
    return _read(desk).get(digest, {})


def remember(desk: Desk, digest: str, runs: Mapping[str, int], *, published: str = "") -> None:
    """That the content of this digest holds these runs, on disk before it returns.

    Kept beside is what is known of the digest ``published``, which stands until a head is swapped.
    """
    known = {published: runs_of(desk, published), digest: dict(runs)}
    aside = desk.folder / f"{_RUNS}.new"
    with aside.open("w", encoding="utf-8") as file:
        json.dump({digest: runs for digest, runs in known.items() if runs}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(desk.folder / _RUNS)
    folder = os.open(desk.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def runs_said(texts: Sequence[str]) -> dict[str, int]:
    """``SOURCE=RUN`` as typed. Raises Refused ``delta-run``."""
    runs = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not (name and number.isascii() and number.isdigit() and len(number) < 19):
            raise Refused("delta-run", f"such as blacklist=14; got {text!r}")
        runs[name] = int(number)
    return runs


def with_changes(edition: Edition, changes: Changes, known: Mapping[str, int]) -> Generation:
    """What is published, with the changes; the very same where it holds their runs already.

    ``known``: the runs that it holds. Raises Refused ``delta-base`` where the changes were made for
    anything else, ``delta-feeds``: all or nothing.
    """
    manifest = changes.manifest
    before = edition.content
    if before is None:
        if edition.head is not None or edition.lost:
            raise Refused("delta-base", f"what is published can't be read: {edition.lost}")
        before = Generation(manifest.feed, manifest.registry, "", 0, 0, str(Digest()), {})
    if before.feed != manifest.feed:
        detail = f"this is a feed of {before.feed} lists, the manifest's are {manifest.feed} lists"
        raise Refused("delta-feeds", detail)
    if changes.runs and all(known.get(name) == run for name, (_, run) in changes.runs.items()):
        return before
    for name, (base, run) in changes.runs.items():
        _check_base(name, base, run, known.get(name))
    try:
        delta = stepped(before, changes.steps, manifest.reason_ids)
        digest = str(Digest.parse(before.digest) + of_delta(delta))
        after = apply(before, delta, serial=before.serial, made_at=before.made_at, digest=digest)
    except Conflict as conflict:
        raise Refused("delta-base", str(conflict)) from conflict
    return replace(after, registry_id=manifest.registry)


def _check_base(name: str, base: int, run: int, held: int | None) -> None:
    if held is None and base != WHOLE:
        detail = f"the delta leads from run {base} to {run}, and the run published is unknown"
        raise Refused("delta-base", f"{detail}: {_ADVICE}", where=name)
    if held is not None and held != base:
        detail = f"the delta leads from run {base} to {run}, and run {held} is published"
        raise Refused("delta-base", detail, where=name)


def _read(desk: Desk) -> dict[str, dict[str, int]]:
    try:
        found = json.loads((desk.folder / _RUNS).read_bytes())
        return {
            str(digest): {str(name): int(run) for name, run in runs.items()}
            for digest, runs in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
