"""Bulk load: a manifest of list files in, one snapshot file out, or a Refused and nothing.

Order: read the manifest → look at every file → read each into numbers → judge the share of rejects
→ sort, settle, write aside → rename into place. Rejected rows and conflicts go to CSVs beside the
snapshot, the rejects also when the load is refused for them. Knows nothing of who serves.
"""

from __future__ import annotations

import csv
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core import generation
from eir.core.generation import BLACK, spec_of
from eir.core.imei import ImeiKey, digits14
from eir.core.imeiset import merged_ranges
from eir.core.subscriber import ImsiCode, Numbering, imsi_text
from eir.errors import Refused
from eir.feed.codec import SnapshotFacts, SnapshotHead, SnapshotWriter
from eir.store.importers import bare_lines, catalogue, plain, reading, streams
from eir.store.importers.deltas import is_delta
from eir.store.importers.layout import layout_of
from eir.store.importers.manifest import ListFile, Manifest, read_manifest
from eir.store.importers.plain import Piece
from eir.store.importers.scratch import Effort, Progress, Scratch, Tell
from eir.store.importers.streams import Tally

U64 = NDArray[np.uint64]
Dated = Iterator[tuple[U64, U64, NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file (or member of a zip). ``reasons``: reject reason → rows.

    ``note``: why it was passed over or taken as empty, else "".
    """

    name: str
    list_name: str
    rows: int = 0
    rejected: int = 0
    blank: int = 0
    wrong_check_digits: int = 0
    reasons: Mapping[str, int] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class ListOutcome:
    """What one list came to: ``items`` as the snapshot counts them, and what was folded away."""

    name: str
    items: int
    duplicates: int
    merged_ranges: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """A finished load. The paths are None where there was nothing to write."""

    facts: SnapshotFacts
    head: SnapshotHead
    files: tuple[FileOutcome, ...]
    lists: tuple[ListOutcome, ...]
    rejects_path: Path | None
    conflicts_path: Path | None
    seconds: float


@dataclass(frozen=True, slots=True)
class _Source:
    """A table of rows of which those with a bit in their mask belong to one list."""

    number: int
    bit: int
    ranges: bool


def load(
    manifest_path: Path,
    out_path: Path,
    numbering: Numbering,
    progress: Tell | None = None,
    *,
    max_reject_share: float = 0.01,
    effort: Effort | None = None,
    now: int | None = None,
    reports: Path | None = None,
) -> LoadOutcome:
    """Build the snapshot that the manifest describes at ``out_path``, replacing a file there.

    ``max_reject_share`` holds where the manifest says none. ``now``: Unix seconds, the snapshot's
    made_at. ``reports``: the folder for the CSVs of rejects and conflicts, there named for the
    manifest; None puts them beside the snapshot. Raises Refused (docs/list-files.md says for what);
    then ``out_path`` is as it was.
    """
    started = time.monotonic()
    made_at = int(time.time()) if now is None else now
    manifest = read_manifest(manifest_path)
    report = reports / manifest_path.stem if reports else out_path
    with Scratch(out_path.parent, numbering, manifest.timezone, effort) as scratch:
        run = _Load(manifest, scratch, progress or (lambda _: None), made_at)
        run.read(run.survey())
        rejects_path = rejects_written(scratch, run.files, beside(report, "rejects"))
        judge(run.files, manifest, max_reject_share, rejects_path)
        head = SnapshotHead(manifest.feed, manifest.registry, str(uuid.uuid4()), 1, made_at)
        written, tallies = run.write(head, scratch.folder / "snapshot")
        conflicts_path = _conflicts_written(tallies, scratch.folder, beside(report, "conflicts"))
        facts = _moved(written, out_path)
    return LoadOutcome(
        facts=facts,
        head=head,
        files=tuple(run.files),
        lists=_list_outcomes(facts, tallies),
        rejects_path=rejects_path,
        conflicts_path=conflicts_path,
        seconds=time.monotonic() - started,
    )


def judge(
    files: Iterable[FileOutcome], manifest: Manifest, default: float, rejects_path: Path | None
) -> None:
    """Raise Refused ``too-many-rejects`` where a file's share of them is above the limit."""
    own = manifest.max_reject_share
    limit = default if own is None else own
    over = [file for file in files if file.rejected > limit * (file.rows + file.rejected)]
    if not over:
        return
    worst = max(over, key=lambda file: file.rejected)
    reasons = sorted((worst.reasons or {}).items(), key=lambda item: -item[1])
    others = f" ({len(over) - 1} more files are over it too)" if len(over) > 1 else ""
    detail = (
        f"{worst.rejected:,} of {worst.rows + worst.rejected:,} rows rejected, mostly for"
        f" {', '.join(reason for reason, _ in reasons[:3])}; the limit is {limit:.2%}{others}."
        f" Each is in {rejects_path}"
    )
    raise Refused("too-many-rejects", detail, where=worst.name)


class _Load:
    """The run of one load: what has been read so far, and into which tables."""

    def __init__(self, manifest: Manifest, scratch: Scratch, tell: Tell, now: int) -> None:
        self.files: list[FileOutcome] = []
        self._manifest = manifest
        self._scratch = scratch
        self._tell = tell
        self._now = now
        self._sources: dict[str, list[_Source]] = {}
        self._unread: Counter[int] = Counter()

    def survey(self) -> list[tuple[ListFile, Piece | None, FileOutcome]]:
        """Look at every file before any is read, so that a wrong one is said at once.

        Without a Piece there is nothing to read, for the reason in the outcome's note.
        """
        found: list[tuple[ListFile, Piece | None, FileOutcome]] = []
        looked = 0

        def advance(count: int) -> None:
            nonlocal looked
            looked += count
            self._tell(Progress("survey", file.name, looked, looked))

        for file in self._manifest.files:
            dirbs = file.format in catalogue.DIRBS_LIST
            pieces, passed = plain.pieces_of(
                file.path,
                file.name,
                self._scratch.folder,
                wanted=(lambda name: not is_delta(name)) if dirbs else (lambda _: True),
                advance=advance,
            )
            if passed == [file.name]:
                raise Refused("file-delta", f"a delta: {_DELTAS_GO}", where=file.name)
            if not pieces:
                raise Refused("zip-only-deltas", f"only deltas: {_DELTAS_GO}", where=file.name)
            found += [(file, None, FileOutcome(n, file.list_name, note="a delta")) for n in passed]
            for piece in pieces:
                note = _empty(file, piece)
                if not note:
                    layout_of(file, self._manifest, piece, now=self._now)
                outcome = FileOutcome(piece.name, file.list_name, note=note)
                found.append((file, None if note else piece, outcome))
        return found

    def read(self, found: list[tuple[ListFile, Piece | None, FileOutcome]]) -> None:
        """Read every piece into its table, and its rejects into theirs."""
        reading.prepare(self._scratch)
        total = sum(piece.size_bytes for _, piece, _ in found if piece)
        done = 0
        for number, (file, piece, outcome) in enumerate(found):
            if piece is None:
                for name in _lists_of(file, self._manifest):
                    self._sources.setdefault(name, [])
            else:
                outcome = self._read_piece(file, piece, number, done, total)
                done += piece.size_bytes
            self.files.append(outcome)
            self._report(outcome.name, done, total)

    def write(self, head: SnapshotHead, path: Path) -> tuple[SnapshotFacts, dict[str, Tally]]:
        """Sort and settle each list and write them as one snapshot at ``path``."""
        writer = SnapshotWriter(head)
        tallies = self._fill(writer)
        return writer.write(path), tallies

    def _fill(self, writer: SnapshotWriter) -> dict[str, Tally]:
        ids = self._manifest.black_ids()
        tallies: dict[str, Tally] = {}
        for name, sources in self._sources.items():
            tally = tallies[name] = Tally()
            kind = spec_of(name).kind
            if kind == generation.LIST:
                keys = streams.unique_keys(self._sorted(name, sources, "a"), tally)
                reason_id = ids[name.removeprefix(BLACK)] if name.startswith(BLACK) else 0
                writer.add_list(name, keys, self._ranges(name, sources, tally), reason_id=reason_id)
            elif kind == generation.PAIRS:
                pairs = streams.unique_pairs(self._sorted(name, sources, "a, b"), tally)
                one_each = spec_of(name).keys == "imsi"
                writer.add_pairs(name, streams.one_value_each(pairs, tally) if one_each else pairs)
            elif kind == generation.DEADLINES:
                dated = cast("Dated", self._sorted(name, sources, "a, b, c"))
                writer.add_deadlines(name, streams.latest_deadlines(dated, tally))
            else:
                self._fill_orders(writer, name, kind, sources, tally)
        return tallies

    def _fill_orders(
        self, writer: SnapshotWriter, name: str, kind: str, sources: list[_Source], tally: Tally
    ) -> None:
        """Few, and with texts: read as they are."""
        parts = [_select(source, _ORDER_COLUMNS[kind]) for source in sources]
        rows = self._scratch.rows(f"{' UNION ALL '.join(parts)} ORDER BY ALL") if parts else []
        if kind == generation.HOLDS:
            writer.add_holds(streams.joined_holds(rows, tally))
        elif kind == generation.ORDERS:
            writer.add_orders(streams.newest_orders(rows, tally))
        else:
            columns = [np.array(column, object) for column in zip(*rows, strict=True)]
            writer.add_overrides(streams.settled_overrides([tuple(columns)] if rows else [], tally))

    def _read_piece(
        self, file: ListFile, piece: Piece, number: int, done: int, total: int
    ) -> FileOutcome:
        layout = layout_of(file, self._manifest, piece, now=self._now)
        count = bare_lines.read_lines(
            self._scratch,
            piece,
            layout,
            number=number,
            typed=file.typed,
            share=lambda part: self._report(
                piece.name, done + int(part * piece.size_bytes), total, int(part * piece.lines)
            ),
        )
        for name, bit in layout.lists.items():
            self._sources.setdefault(name, []).append(_Source(number, bit, layout.ranges))
            self._unread[number] += 1
        return outcome_of(self._scratch, piece, file, number, count)

    def _report(self, name: str, done: int, total: int, rows: int = 0) -> None:
        rows += sum(file.rows + file.rejected for file in self.files)
        rejects = sum(file.rejected for file in self.files)
        self._tell(Progress("read", name, done, total, rows, rejects))

    def _sorted(self, name: str, sources: list[_Source], columns: str) -> Iterator[tuple[U64, ...]]:
        """The rows of a list in order, in batches.

        Tables that no other list needs go with the last one: what is made of them wants the room.
        """
        parts = [_select(source, columns) for source in sources if not source.ranges]
        if not parts:
            return
        union = " UNION ALL ".join(parts)
        ((total,),) = self._scratch.rows(f"SELECT count(*) FROM ({union})")
        count, done = int(str(total)), 0
        self._tell(Progress("sort", name, 0, count))
        sql = f"SELECT * FROM ({union}) ORDER BY {columns}"
        for batch in self._scratch.batches(sql):
            yield cast("tuple[U64, ...]", batch)
            done += len(batch[0])
            self._tell(Progress("sort", name, done, count))
        for source in sources:
            self._unread[source.number] -= 1
            if not source.ranges and self._unread[source.number] == 0:
                self._scratch.run(f"DROP TABLE rows{source.number}")

    def _ranges(self, name: str, sources: list[_Source], tally: Tally) -> U64 | None:
        parts = [_select(source, "a, b") for source in sources if source.ranges]
        if not parts:
            return None
        rows = [np.empty((0, 2), np.uint64)]
        union = " UNION ALL ".join(parts)
        for batch in self._scratch.batches(f"SELECT DISTINCT * FROM ({union})"):
            rows.append(np.column_stack(cast("tuple[U64, U64]", batch)))
            if sum(map(len, rows)) > limits.MAX_LIST_RANGES:
                detail = f"more than {limits.MAX_LIST_RANGES:,} ranges"
                raise Refused("too-many-ranges", detail, where=name)
        distinct = np.concatenate(rows)
        ((total,),) = self._scratch.rows(f"SELECT count(*) FROM ({union})")
        merged = merged_ranges(distinct)
        tally.rows += int(str(total))
        tally.duplicates += int(str(total)) - len(distinct)
        tally.merged_ranges += len(distinct) - len(merged)
        return merged


_DELTAS_GO = "a load takes full lists, and `eir feed publish --deltas` takes deltas"
_ORDER_COLUMNS = {
    generation.OVERRIDES: "a, b, c, d, who, said_at, why",
    generation.HOLDS: "name, c, reason, prefix, who, said_at, why, a",
    generation.ORDERS: "name, a, b, who, said_at, why",
}


def outcome_of(
    scratch: Scratch, piece: Piece, file: ListFile, number: int, count: reading.Count
) -> FileOutcome:
    """What became of a piece that was read as the ``number``-th."""
    reasons = scratch.rows(
        "SELECT reason, count(*) FROM rejects WHERE piece = ? GROUP BY reason", [number]
    )
    return FileOutcome(
        name=piece.name,
        list_name=file.list_name,
        rows=count.rows,
        rejected=count.rejected,
        blank=count.blank,
        wrong_check_digits=count.wrong_check_digits,
        reasons={str(reason): int(str(rows)) for reason, rows in reasons},
    )


def _list_outcomes(facts: SnapshotFacts, tallies: Mapping[str, Tally]) -> tuple[ListOutcome, ...]:
    return tuple(
        ListOutcome(name, facts.counts[name], t.duplicates, t.merged_ranges, t.conflicts)
        for name, t in tallies.items()
    )


def _select(source: _Source, columns: str) -> str:
    return f"SELECT {columns} FROM rows{source.number} WHERE ok AND (mask & {source.bit}) <> 0"


def _lists_of(file: ListFile, manifest: Manifest) -> Iterable[str]:
    """The lists that a file without rows stands for."""
    if file.list_name == "black":
        return [BLACK + reason for reason in sorted(set(manifest.reasons.values()))]
    return [file.list_name]


def _empty(file: ListFile, piece: Piece) -> str:
    """Why the piece holds no list, "" if it does. Raises Refused where that is not allowed."""
    advice = "If the list is truly empty, say so: allow_empty = true"
    if piece.header == (catalogue.CEIR_MESSAGE,):
        note = f"no list, but a message: {second_line(piece)!r}"
        if not file.allow_empty:
            raise Refused("file-message", f"{note}. {advice}", where=piece.name)
        return note
    if piece.first_line or piece.lines > 1:
        return ""
    note = "empty, without even a header"
    if not file.allow_empty:
        raise Refused("file-empty", f"{note}. {advice}", where=piece.name)
    return note


def second_line(piece: Piece) -> str:
    """What another CEIR says behind the header `Message`."""
    with piece.path.open("rb") as stream:
        lines = stream.read(limits.MAX_LIST_LINE_BYTES).splitlines()
    return lines[1].decode("utf-8", "replace")[:200] if len(lines) > 1 else ""


def beside(report: Path, what: str) -> Path:
    """Where the CSV of rejects or conflicts goes."""
    return report.with_name(f"{report.name}.{what}.csv")


def rejects_written(scratch: Scratch, files: list[FileOutcome], path: Path) -> Path | None:
    """All rejects as file,line,column,value,reason; an older such file goes away."""
    path.unlink(missing_ok=True)
    if not any(file.rejected for file in files):
        return None
    scratch.rows("CREATE TABLE pieces (number INTEGER, name VARCHAR)")
    for number, file in enumerate(files):
        scratch.rows("INSERT INTO pieces VALUES (?, ?)", [number, file.name])
    made = scratch.folder / "rejects.csv"
    scratch.run(
        'COPY (SELECT name AS file, line, col AS "column", value, reason FROM rejects'
        " JOIN pieces ON piece = number ORDER BY number, line)"
        f" TO '{str(made).replace(chr(39), chr(39) * 2)}' (HEADER)"
    )
    return _published(made, path)


def _conflicts_written(tallies: Mapping[str, Tally], folder: Path, path: Path) -> Path | None:
    """The named conflicts as list,item,number,kept,dropped,reason; an older such file goes away."""
    path.unlink(missing_ok=True)
    if not any(tally.conflicts for tally in tallies.values()):
        return None
    made = folder / "conflicts.csv"
    with made.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(("list", "item", "number", "kept", "dropped", "reason"))
        for name, tally in tallies.items():
            as_text: Callable[[int], str] = _imei_text
            if spec_of(name).keys == "imsi":
                as_text = _imsi_text
            for found in tally.named:
                item, number = found.item
                row = (as_text(item), number or "", found.kept, found.dropped, found.reason)
                lines.writerow((name, *row))
    return _published(made, path)


def _imei_text(key: int) -> str:
    return digits14(ImeiKey(key)) if key else ""


def _imsi_text(code: int) -> str:
    return imsi_text(ImsiCode(code))


def _published(made: Path, path: Path) -> Path:
    """Copied into place, maybe on another disk. It holds identities: its owner alone reads it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with made.open("rb") as source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
    return path


def _moved(written: SnapshotFacts, out_path: Path) -> SnapshotFacts:
    """The finished snapshot in its place, durably."""
    os.replace(written.path, out_path)
    descriptor = os.open(out_path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return replace(written, path=out_path)
