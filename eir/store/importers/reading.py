"""One plain CSV → one table of numbers, and its rejects with line, column, value and reason.

The reader is handed whole lines: what a line is, and which number it has, is then the same for it,
for an editor and for a person, whatever quotes or stray bytes a row holds. A first pass over all
lines in parallel keeps what is good; only where something is bad, a second numbers the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from eir import limits
from eir.errors import Refused
from eir.store.importers.fields import Field, field_of, quoted
from eir.store.importers.layout import Layout
from eir.store.importers.plain import Piece
from eir.store.importers.scratch import Scratch

_MAX_VALUE_CHARS: Final = 200
_ITEM: Final = '"(?:[^"]|"")*"|[^",]*'
_LINE: Final = quoted(f"[ \t]*(?:{_ITEM})[ \t]*(?:,[ \t]*(?:{_ITEM})[ \t]*)*")
_NEXT_ITEM: Final = quoted(f",[ \t]*({_ITEM})")
_MACROS: Final = (
    """trimmed(f) AS (list_transform(f, lambda x: trim(x, ' \t')))""",
    """unquoted(f) AS (list_transform(f, lambda x:
        CASE WHEN starts_with(x, '"') THEN replace(x[2:-2], '""', '"') ELSE x END))""",
    f"""split_quoted(line) AS (CASE WHEN regexp_full_match(line, {_LINE})
        THEN unquoted(regexp_extract_all(',' || line, {_NEXT_ITEM}, 1)) END)""",
    """split_line(line, plain) AS (CASE WHEN plain THEN string_split(line, ',')
        WHEN contains(line, '"') THEN trimmed(split_quoted(line))
        ELSE trimmed(string_split(line, ',')) END)""",
)


@dataclass(frozen=True, slots=True)
class Count:
    """Lines of one piece after its header: ``rows`` good ones, and why the others are none."""

    rows: int
    rejected: int
    blank: int
    wrong_check_digits: int


def prepare(scratch: Scratch) -> None:
    """Make the table of rejects and the macros that split lines."""
    for macro in _MACROS:
        scratch.run(f"CREATE OR REPLACE TEMP MACRO {macro}")
    columns = "piece INTEGER, line BIGINT, col VARCHAR, value VARCHAR, reason VARCHAR"
    scratch.run(f"CREATE TABLE rejects ({columns})")


def read_piece(
    scratch: Scratch,
    piece: Piece,
    layout: Layout,
    *,
    number: int,
    typed: bool,
    share: Callable[[float], None],
) -> Count:
    """Fill table ``rows<number>`` (columns of ``layout.row``, mask, ok, wrong) and the rejects.

    The table is a temporary one: packing it for a file costs more than reading it once repays.
    Raises Refused ``file-changed`` unless every line of the file was seen.
    """
    sql = _RowSql(piece, layout, typed)
    scratch.run(f"CREATE TEMP TABLE rows{number} AS {sql.good_rows(number)}", share)
    (count,) = scratch.rows(
        "SELECT count(*), count(*) FILTER (ok), count(*) FILTER (NOT ok),"
        f" count(*) FILTER (ok AND wrong) FROM rows{number}"
    )
    seen, rows, bad, wrong = (int(str(value)) for value in count)
    ((lost,),) = scratch.rows(f"SELECT count(DISTINCT line) FROM unread{number}")
    unread = int(str(lost))
    if seen + unread != max(piece.lines - 1, 0):
        detail = f"{piece.lines - 1:,} lines counted, {seen + unread:,} read: it changed meanwhile"
        raise Refused("file-changed", detail, where=piece.name)
    if unread:
        scratch.run(_unread_rejects(number))
    if bad:
        scratch.run("SET preserve_insertion_order = true")
        scratch.run(f"INSERT INTO rejects {sql.bad_rows(number)}")
        scratch.run("SET preserve_insertion_order = false")
    return Count(rows, bad + unread, seen - rows - bad, wrong)


def line_of(
    scratch: Scratch,
    piece: Piece,
    layout: Layout,
    *,
    number: int,
    typed: bool,
    identity: Sequence[int],
) -> int:
    """The first line of a piece that was read whose row begins with ``identity``."""
    sql = _RowSql(piece, layout, typed).first_line(number, identity)
    scratch.run("SET preserve_insertion_order = true")
    ((line,),) = scratch.rows(sql)
    scratch.run("SET preserve_insertion_order = false")
    return int(str(line))


class _RowSql:
    """The SELECTs over one piece: lines → fields → digits → values → rows."""

    def __init__(self, piece: Piece, layout: Layout, typed: bool) -> None:
        self._piece = piece
        self._layout = layout
        self._fields: dict[str, Field] = {
            name: field_of(kind, typed=typed, reasons=layout.reasons)
            for name, kind in layout.kinds.items()
        }
        self._values = {name: f"v{place}" for place, name in enumerate(layout.kinds)}

    def good_rows(self, number: int) -> str:
        columns = [f"({sql.format(**self._values)})::{_TYPES.get(name, 'VARCHAR')} AS {name}"
                   for name, sql in self._layout.row.items()]  # fmt: skip
        wrong = " OR ".join(f"({sql})" for sql in self._each(lambda field: field.wrong_check))
        mask = f"({self._layout.mask.format(**self._values)})::{self._mask_type()}"
        return (
            f"SELECT {', '.join(columns)}, {mask} AS mask, {self._ok()} AS ok,"
            f" coalesce({wrong}, false) AS wrong FROM ({self._valued(number, numbered=False)})"
        )

    def bad_rows(self, number: int) -> str:
        """(piece, line, column, value, reason) of each bad line, numbered as in the file."""
        arms = [("f IS NULL", "''", "line", "'quotes'"), ("NOT shaped", "''", "line", "'columns'")]
        problems = self._each(lambda field: field.problem)
        for place, (name, problem) in enumerate(zip(self._fields, problems, strict=True)):
            arms.append((f"v{place} IS NULL", quoted(name), f"t{place}", problem))
        texts = {name: f"t{place}" for place, name in enumerate(self._fields)}
        for check in self._layout.checks:
            failed = f"NOT ({check.holds.format(**self._values)})"
            arms.append((failed, quoted(check.column), texts[check.column], quoted(check.reason)))
        column, value, reason = (
            "CASE " + " ".join(f"WHEN {arm[0]} THEN {arm[part]}" for arm in arms) + " END"
            for part in (1, 2, 3)
        )
        return (
            f"SELECT {number}, n + 1 + coalesce(lost, 0), {column}, {_printable(value)}, {reason}"
            f" FROM {self._numbered(number)} WHERE NOT {self._ok()}"
        )

    def first_line(self, number: int, identity: Sequence[int]) -> str:
        """The first good line whose row begins with ``identity``, numbered as in the file."""
        columns = [sql.format(**self._values) for sql in self._layout.row.values()]
        same = [f"({sql}) = {value}" for sql, value in zip(columns, identity, strict=False)]
        return (
            f"SELECT min(n + 1 + coalesce(lost, 0)) FROM {self._numbered(number)}"
            f" WHERE {self._ok()} AND {' AND '.join(same)}"
        )

    def _numbered(self, number: int) -> str:
        """The rows with ``n``, their place among those that were read, and ``lost``.

        The reader's own rejects are missing among the numbered rows, so each counts one up for all
        lines behind it.
        """
        return (
            f"({self._valued(number, numbered=True)}) numbered"
            " ASOF LEFT JOIN (SELECT line - place AS since, max(place) + 1 AS lost FROM"
            " (SELECT line, row_number() OVER (ORDER BY line) - 1 AS place"
            f" FROM (SELECT DISTINCT line FROM unread{number})) GROUP BY since) shifts"
            " ON n + 1 >= shifts.since"
        )

    def _valued(self, number: int, *, numbered: bool) -> str:
        places = range(len(self._fields))
        fields = list(self._fields.values())
        texts = ", ".join(f"coalesce(f[{place + 1}], '') AS t{place}" for place in places)
        digits = ", ".join(f"{fields[p].digits.format(t=f't{p}')} AS d{p}" for p in places)
        values = ", ".join(
            f"{fields[p].value.format(t=f't{p}', d=f'd{p}', p='plain')} AS v{p}" for p in places
        )
        blank = "line IS NULL OR len(f) = 1 AND f[1] = ''"
        return (
            f"SELECT *, {values} FROM (SELECT *, {digits} FROM"
            f" (SELECT *, coalesce(len(f), 0) = {len(fields)} AS shaped,"
            f" coalesce({blank}, false) AS blank, {texts}"
            " FROM (SELECT *, split_line(line, plain) AS f FROM"
            " (SELECT *, regexp_full_match(line, '[0-9,]*') AS plain"
            f" FROM {self._lines(number, numbered)}))))"
        )

    def _lines(self, number: int, numbered: bool) -> str:
        kept = "ignore_errors = true" if numbered else (
            f"store_rejects = true, rejects_table = 'unread{number}', rejects_scan = 'scan{number}'"
        )  # fmt: skip
        counter = "row_number() OVER () AS n, " if numbered else ""
        return (
            f"(SELECT {counter}line FROM read_csv({quoted(str(self._piece.path))},"
            " columns = {'line': 'VARCHAR'}, header = false, skip = 1, auto_detect = false,"
            f" delim = {quoted(self._piece.delimiter)}, quote = '', escape = '', comment = '',"
            f" strict_mode = false, max_line_size = {limits.MAX_LIST_LINE_BYTES}, {kept}))"
        )

    def _mask_type(self) -> str:
        return "UBIGINT" if max(self._layout.lists.values()) > _WIDEST_SMALL_BIT else "UTINYINT"

    def _ok(self) -> str:
        """True for a good row, false for a bad one, NULL for a blank line."""
        known = [f"{value} IS NOT NULL" for value in self._values.values()]
        known += [f"({check.holds.format(**self._values)})" for check in self._layout.checks]
        return f"CASE WHEN NOT blank THEN coalesce(shaped AND {' AND '.join(known)}, false) END"

    def _each(self, part: Callable[[Field], str]) -> list[str]:
        return [
            part(field).format(t=f"t{place}", d=f"d{place}", v=f"v{place}")
            for place, field in enumerate(self._fields.values())
        ]


_WIDEST_SMALL_BIT: Final = 1 << 7
_TYPES: Final = {
    "a": "UBIGINT",
    "b": "UBIGINT",
    "c": "BIGINT",
    "d": "UTINYINT",
    "said_at": "BIGINT",
}
"""Of the columns that are numbers; the others are texts."""


def _unread_rejects(number: int) -> str:
    """What the reader itself could not take: over-long lines and broken UTF-8."""
    reason = (
        "CASE max(error_type::VARCHAR) WHEN 'LINE SIZE OVER MAXIMUM' THEN 'line-too-long'"
        " WHEN 'INVALID ENCODING' THEN 'encoding' ELSE 'unreadable' END"
    )
    value = _printable("ltrim(any_value(csv_line), chr(10) || chr(13))")
    return (
        f"INSERT INTO rejects SELECT {number}, line, '', {value}, {reason}"
        f" FROM unread{number} GROUP BY line"
    )


def _printable(value: str) -> str:
    return f"regexp_replace(left({value}, {_MAX_VALUE_CHARS}), '[\\x00-\\x1f\\x7f]', '?', 'g')"
