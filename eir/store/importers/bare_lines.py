"""Lines of bare digits, which most lists are made of, read by compiled code.

    the file ─▶ every line: digits and commas alone, and good? ─▶ rows of numbers
                    └─ any other: as it stands, into a file of leftovers ─▶ ``reading``, as ever

Promises the rows, the counts and the rejects that ``reading`` makes of the whole file: what is
taken here is good by the same rules, and what is not good, or only not so plain, is judged there,
under its own line number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from eir.core.bare_lines import IMEI, IMSI, MSISDN, SHORTEST_LINE_BYTES, take
from eir.errors import Refused
from eir.store.importers import reading
from eir.store.importers.layout import Layout
from eir.store.importers.plain import Piece
from eir.store.importers.reading import Count
from eir.store.importers.scratch import Scratch

if TYPE_CHECKING:
    import pyarrow

_KINDS: Final = {"imei": IMEI, "msisdn": MSISDN, "imsi": IMSI}
_CHUNK_BYTES: Final = 1 << 22
_LEFT_AT_ONCE: Final = 1 << 14


def read_lines(
    scratch: Scratch,
    piece: Piece,
    layout: Layout,
    *,
    number: int,
    typed: bool,
    share: Callable[[float], None],
) -> Count:
    """As ``reading.read_piece``, which has all that is not of bare digits. Raises Refused as it."""
    fields = _fields(layout, typed=typed)
    if fields is None:
        return reading.read_piece(scratch, piece, layout, number=number, typed=typed, share=share)
    lines = _Bare(piece, fields, piece.path.with_name(f"left-{number}.csv"))
    columns = ", ".join("ab"[: len(fields)])
    scratch.take_in(
        f"CREATE TEMP TABLE bare{number} AS SELECT {columns}, 1::UTINYINT AS mask, true AS ok,"
        " wrong::BOOLEAN AS wrong FROM coming",
        lines.schema(),
        lines.batches(),
        lambda: share(lines.done / max(piece.size_bytes, 1)),
    )
    if lines.seen != max(piece.lines - 1, 0):
        detail = f"{piece.lines - 1:,} lines counted, {lines.seen:,} read: it changed meanwhile"
        raise Refused("file-changed", detail, where=piece.name)
    count = Count(lines.rows, 0, 0, lines.wrong)
    if lines.left:
        count = _with_leftovers(scratch, lines, layout, number, count, typed=typed)
    scratch.run(f"ALTER TABLE bare{number} RENAME TO rows{number}")
    return count


def _fields(layout: Layout, *, typed: bool) -> tuple[tuple[int, int], ...] | None:
    """(kind, place in the row) of each field; None where rows are more than their fields.

    A number that a person typed is not yet the one that it means.
    """
    names = [f"{{{name}}}" for name in layout.kinds]
    row = list(layout.row.values())
    kinds = list(layout.kinds.values())
    known = all(kind in _KINDS and not (typed and kind == "msisdn") for kind in kinds)
    bare = sorted(row) == sorted(names) and not (layout.checks or layout.ranges)
    if not (known and bare and layout.mask == "1" and len(layout.lists) == 1):
        return None
    return tuple((_KINDS[kind], row.index(n)) for kind, n in zip(kinds, names, strict=True))


class _Bare:
    """The one pass over a piece, and what was met so far: lines ``seen``, good ``rows``, those with
    a ``wrong`` check digit, and the numbers of the lines ``left``.
    """

    def __init__(self, piece: Piece, fields: tuple[tuple[int, int], ...], leftovers: Path) -> None:
        self.piece, self.leftovers = piece, leftovers
        self.seen = self.rows = self.wrong = self.done = 0
        self.left: list[NDArray[np.int64]] = []
        self._fields = np.array(fields, np.int64)

    def schema(self) -> pyarrow.Schema:
        """Of the batches: numbers ``a`` and perhaps ``b``, and ``wrong``."""
        import pyarrow as pa

        numbers = [(name, pa.uint64()) for name in "ab"[: len(self._fields)]]
        return pa.schema([*numbers, ("wrong", pa.uint8())])

    def batches(self) -> Iterator[pyarrow.RecordBatch]:
        """The good rows. Raises OSError where there is no room for what is left over."""
        import pyarrow as pa

        with self.piece.path.open("rb", buffering=0) as stream, self.leftovers.open("xb") as left:
            for chunk in self._whole_lines(stream, left):
                at = 0
                while at < len(chunk):
                    columns, taken = self._parsed(chunk[at:], left)
                    at += taken
                    yield pa.RecordBatch.from_arrays(
                        list(map(pa.array, columns)), schema=self.schema()
                    )

    def _whole_lines(self, stream: BinaryIO, left: BinaryIO) -> Iterator[NDArray[np.uint8]]:
        """The lines after the first, which goes before what is left over."""
        held, header = b"", True
        while chunk := self._read(stream):
            self.done += len(chunk)
            held += chunk
            end = held.rfind(b"\n") + 1
            begin = held.find(b"\n") + 1 if header else 0
            if end:
                left.write(held[:begin])
                header = False
                yield np.frombuffer(held, np.uint8)[begin:end]
                held = held[end:]
        if not header:
            yield np.frombuffer(held, np.uint8)

    def _read(self, stream: BinaryIO) -> bytes:
        try:
            return stream.read(_CHUNK_BYTES)
        except OSError as error:
            detail = error.strerror or str(error)
            raise Refused("file-unreadable", detail, where=self.piece.name) from error

    def _parsed(
        self, lines: NDArray[np.uint8], left: BinaryIO
    ) -> tuple[list[NDArray[np.generic]], int]:
        """The columns of the good ones, and how many bytes were looked at."""
        most = len(lines) // SHORTEST_LINE_BYTES + 2
        rows, wrong = np.empty((2, most), np.uint64), np.empty(most, np.uint8)
        spans, counts = np.empty((_LEFT_AT_ONCE, 3), np.int64), np.zeros(4, np.int64)
        take(lines.ctypes.data, len(lines), self._fields, rows, wrong, spans, counts)
        good, odd, seen, at = counts.tolist()
        for begin, end, _ in spans[:odd].tolist():
            left.write(lines[begin:end].data)
        if odd:
            self.left.append(spans[:odd, 2] + self.seen + 2)
        self.seen, self.rows = self.seen + seen, self.rows + good
        self.wrong += int(wrong[:good].sum())
        return [*(rows[place, :good] for place in range(len(self._fields))), wrong[:good]], at


def _with_leftovers(
    scratch: Scratch, lines: _Bare, layout: Layout, number: int, count: Count, *, typed: bool
) -> Count:
    """What ``reading`` makes of the leftovers, put to the rest under their numbers in the file."""
    import pyarrow as pa

    numbers = np.concatenate(lines.left)
    rest = replace(
        lines.piece,
        path=lines.leftovers,
        size_bytes=lines.leftovers.stat().st_size,
        lines=len(numbers) + 1,
    )
    found = reading.read_piece(
        scratch, rest, layout, number=number, typed=typed, share=lambda _: None
    )
    lines.leftovers.unlink()
    scratch.run(f"INSERT INTO bare{number} SELECT * FROM rows{number}")
    scratch.run(f"DROP TABLE rows{number}")
    places = pa.RecordBatch.from_pydict({"place": np.arange(2, len(numbers) + 2), "line": numbers})
    scratch.take_in(
        "UPDATE rejects SET line = coming.line FROM coming"
        f" WHERE rejects.piece = {number} AND rejects.line = coming.place",
        places.schema,
        iter([places]),
        lambda: None,
    )
    return Count(
        rows=count.rows + found.rows,
        rejected=found.rejected,
        blank=found.blank,
        wrong_check_digits=count.wrong_check_digits + found.wrong_check_digits,
    )
