"""Deltas of others: the files that a manifest names, or those of its zips, read into steps.

The same manifest as for a bulk load: that takes the full lists in it, this takes the deltas, and
each passes over what is the other's. Reads and refuses as a load does; knows nothing of what is
published.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import spec_of
from eir.core.increment import Step
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.store.importers import catalogue, plain, reading
from eir.store.importers.catalogue import FileFormat
from eir.store.importers.deltas import (
    ACTIONS,
    CEIR_BITS,
    WHOLE,
    Part,
    check_whole,
    is_delta,
    is_message,
    layout_in,
    part_of,
)
from eir.store.importers.layout import Layout
from eir.store.importers.manifest import ListFile, Manifest, read_manifest
from eir.store.importers.plain import Piece
from eir.store.importers.scratch import Effort, Progress, Scratch, Tell
from eir.store.load import FileOutcome, beside, judge, outcome_of, rejects_written, second_line

U64 = NDArray[np.uint64]
_COLUMNS: Final = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Changes:
    """What the deltas say. ``runs``: source → the maker's runs (base, run) that it lies between;
    ``files``: what became of each, also of those passed over; ``rejects_path``: the CSV of what was
    not taken of them, None where all was.
    """

    manifest: Manifest
    runs: Mapping[str, tuple[int, int]]
    steps: tuple[Step, ...]
    files: tuple[FileOutcome, ...]
    rejects_path: Path | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A file to be read. ``part``: None for another CEIR's; ``layout``: None: it says nothing."""

    file: ListFile
    piece: Piece
    part: Part | None
    layout: Layout | None


@contextmanager
def reading_changes(
    manifest_path: Path,
    folder: Path,
    numbering: Numbering,
    tell: Tell,
    *,
    max_reject_share: float,
    effort: Effort | None = None,
    now: int | None = None,
) -> Iterator[Changes]:
    """The deltas that the manifest's files hold; ``folder`` is for work, and keeps nothing.

    While it lasts the steps can say where an item stands: file and line.

    Rejects go beside the manifest. Raises Refused as a load, ``delta-name`` and ``delta-parts`` for
    files that are no whole step, ``delta-none`` where no file is a delta.
    """
    manifest = read_manifest(manifest_path)
    with Scratch(folder, numbering, manifest.timezone, effort) as scratch:
        found, passed = _survey(manifest, scratch, int(time.time()) if now is None else now, tell)
        reading.prepare(scratch)
        steps: list[Step] = []
        files: list[FileOutcome] = []
        for number, each in enumerate(found):
            outcome, said = _read(scratch, each, number)
            files.append(outcome)
            steps += said
            tell(Progress("read", each.piece.name, number + 1, len(found)))
        rejects = rejects_written(scratch, files, beside(manifest_path, "rejects"))
        judge(files, manifest, max_reject_share, rejects)
        runs = {each.part.source: (each.part.base, each.part.run) for each in found if each.part}
        yield Changes(manifest, runs, tuple(steps), (*files, *passed), rejects)


def _read(scratch: Scratch, each: _Found, number: int) -> tuple[FileOutcome, list[Step]]:
    layout = each.layout
    if layout is None:
        note = f"no change, but a message: {second_line(each.piece)!r}"
        return FileOutcome(each.piece.name, each.file.list_name, note=note), []
    count = reading.read_piece(
        scratch, each.piece, layout, number=number, typed=each.file.typed, share=_quiet
    )
    where = partial(_where, scratch, each, layout, number)
    steps = [replace(step, where=where) for step in _steps(scratch, each, layout, number)]
    return outcome_of(scratch, each.piece, each.file, number, count), steps


def _survey(
    manifest: Manifest, scratch: Scratch, now: int, tell: Tell
) -> tuple[list[_Found], list[FileOutcome]]:
    """Every file, looked at before any is read, so that a wrong one is said at once."""
    found: list[_Found] = []
    passed: list[FileOutcome] = []
    looked = 0
    for file in manifest.files:
        pieces: list[Piece] = []
        names = [file.name]
        if file.format is not FileFormat.CSV:
            wanted = is_delta if file.format in ACTIONS else (lambda _: True)
            pieces, names = plain.pieces_of(
                file.path, file.name, scratch.folder, wanted=wanted, advance=lambda _: None
            )
        for piece in pieces:
            if piece.header == catalogue.CEIR_HEADER:
                names.append(piece.name)
            else:
                found.append(_looked_at(file, manifest, piece, now))
            looked += piece.size_bytes
            tell(Progress("survey", piece.name, looked, looked))
        passed += [FileOutcome(name, file.list_name, note="a full list") for name in names]
    if not found:
        raise Refused("delta-none", "no file in it is a delta", where=str(manifest.path))
    check_whole((each.part, each.file.format) for each in found if each.part)
    return found, passed


def _looked_at(file: ListFile, manifest: Manifest, piece: Piece, now: int) -> _Found:
    if not piece.lines:
        raise Refused("file-empty", "not even a header", where=piece.name)
    if file.format is FileFormat.CEIR:
        layout = None if is_message(piece) else layout_in(file, manifest, piece, "", now=now)
        return _Found(file, piece, None, layout)
    part = part_of(piece.name, file.format)
    action = ACTIONS[file.format][part.why]
    return _Found(file, piece, part, layout_in(file, manifest, piece, action, now=now))


def _steps(scratch: Scratch, each: _Found, layout: Layout, number: int) -> Iterator[Step]:
    if each.part is None:
        (name,) = layout.lists
        came, went, kept = (
            _rows(scratch, number, 1, bit) for bit in (CEIR_BITS[w] for w in _OPERATIONS)
        )
        yield Step((name,), went, {name: came}, kept)
        return
    lists, made_by = tuple(layout.lists), each.file.format
    action = ACTIONS[made_by][each.part.why]
    gone = partial(
        _rows, scratch, number, 2 if made_by is FileFormat.DIRBS_NOTIFICATIONS else 1, -1
    )
    if action == "remove" and made_by is not FileFormat.DIRBS_EXCEPTIONS:
        yield Step(lists, gone())
        return
    rows = {n: _rows(scratch, number, spec_of(n).words, bit) for n, bit in layout.lists.items()}
    if action == "add":
        yield Step(lists, come=rows, first=each.part.base == WHOLE)
    elif action == "change":
        yield Step(lists, gone(), rows)
    else:
        yield from (Step((name,), left) for name, left in rows.items())


_OPERATIONS: Final = ("add", "delete", "update")


def _rows(scratch: Scratch, number: int, words: int, bits: int) -> U64:
    """The good rows of a piece whose mask has one of ``bits`` (-1: any), once each, ascending."""
    columns = ", ".join(f"{name}::UBIGINT AS {name}" for name in _COLUMNS[:words])
    which = "" if bits < 0 else f" AND (mask & {bits}) <> 0"
    sql = f"SELECT DISTINCT {columns} FROM rows{number} WHERE ok{which} ORDER BY ALL"
    batches = [np.column_stack(batch).astype(np.uint64) for batch in scratch.batches(sql)]
    return np.concatenate([np.empty((0, words), np.uint64), *batches])


def _where(scratch: Scratch, each: _Found, layout: Layout, number: int, identity: U64) -> str:
    if not len(identity):
        return each.piece.name
    words = [int(word) for word in identity]
    typed = each.file.typed
    line = reading.line_of(scratch, each.piece, layout, number=number, typed=typed, identity=words)
    return f"{each.piece.name}: line {line}"


def _quiet(_: float) -> None:
    """A delta is read at once."""
