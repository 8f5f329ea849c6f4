"""The text of a field → a number, in SQL: which number it is, or why it is none.

Each kind of field has a *digits* expression (what a person typed → ASCII digits), a *value* (NULL
when it is none) and a *problem* (the reject's reason, asked only where the value is NULL). The law:
with ``typed`` they agree with ``eir.core``'s ``…_from_typed`` on every text; without, with
``…_from_digits``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from eir import limits
from eir.core.digits import SEPARATORS
from eir.core.orders import HOLDABLE_REASONS
from eir.core.subscriber import Numbering

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2105
_DIRECTION_MARKS: Final = "\u200e\u200f\u202a"
_COMMON_DIGITS: Final = "۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩"
_ISO_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_INSTANT: Final = rf"{_ISO_DAY}[T ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\.[0-9]{{1,9}})?)?"
_OFFSET: Final = "(Z|[+-][0-9]{2}:?[0-9]{2})"


@dataclass(frozen=True, slots=True)
class Field:
    """SQL of one kind of field over ``{t}`` (trimmed text), ``{d}`` (digits), ``{v}`` (value).

    ``{p}``: a condition under which the text is known to be ASCII digits.
    """

    digits: str
    value: str
    problem: str
    wrong_check: str = "false"


def quoted(text: str) -> str:
    """``text`` as a SQL string literal. Must hold no NUL."""
    return "'" + text.replace("'", "''") + "'"


def field_of(kind: str, *, typed: bool, reasons: Mapping[str, int] | None = None) -> Field:
    """The SQL of a kind of field.

    Kinds: imei, tac, msisdn, imsi; each also with ``?`` behind it, where empty is allowed and 0;
    deadline and until (end of a day; the latter may be empty), block-date (its beginning); action,
    operation (of another CEIR: 1 add, 2 delete, 4 update), forced; whole (a number, empty is 0);
    text, hold-reason, prefix (which stay texts); reasons (a mask by ``reasons``, DIRBS text → bit);
    any (not looked at).
    """
    if kind.endswith("?"):
        field = field_of(kind[:-1], typed=typed)
        value = f"CASE WHEN {{t}} = '' THEN 0 ELSE {field.value} END"
        wrong = f"{{t}} <> '' AND {field.wrong_check}"
        return Field(field.digits, value, field.problem, wrong)
    if kind == "reasons":
        return _reasons(reasons or {})
    if kind == "msisdn" and typed:
        return _TYPED_MSISDN
    field = _FIELDS[kind]
    digits = "typed_digits({t})" if typed and kind in ("imei", "tac", "imsi") else field.digits
    if typed and kind in ("deadline", "until", "block-date"):
        digits = "ascii_digits({t})"
    return Field(digits, field.value, field.problem, field.wrong_check)


def define(connection: DuckDBPyConnection, numbering: Numbering, timezone: ZoneInfo) -> None:
    """Give the connection the macros and the table of days that the fields' SQL uses."""
    for macro in (*_digit_macros(), *_number_macros(numbering), *_date_macros()):
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {macro}")
    days = ",".join(map(str, _day_starts(timezone)))
    connection.execute(f"SET VARIABLE day_starts = [{days}]::BIGINT[]")


_IMEI: Final = Field(
    digits="{t}",
    value="CASE WHEN digits_only({d}, 14, 16, {p})"
    " THEN nullif(TRY_CAST(left({d}, 14) AS UBIGINT), 0) END",
    problem="CASE WHEN {t} = '' THEN 'imei-missing'"
    " WHEN {d} IS NULL OR NOT regexp_full_match({d}, '[0-9]*') THEN 'imei-characters'"
    " WHEN strlen({d}) NOT BETWEEN 14 AND 16 THEN 'imei-length' ELSE 'imei-zero' END",
    wrong_check="CASE WHEN strlen({d}) = 15"
    " THEN (luhn_sum({v}) + ascii(right({d}, 1)) - 48) % 10 <> 0 ELSE false END",
)

_TAC: Final = Field(
    digits="{t}",
    value="CASE WHEN digits_only({d}, 8, 8, {p}) THEN nullif(TRY_CAST({d} AS UBIGINT), 0) END",
    problem="CASE WHEN {t} = '' THEN 'tac-missing'"
    " WHEN {d} IS NULL OR NOT regexp_full_match({d}, '[0-9]*') THEN 'tac-characters'"
    " WHEN strlen({d}) <> 8 THEN 'tac-length' ELSE 'tac-zero' END",
)

_IMSI: Final = Field(
    digits="{t}",
    value="CASE WHEN digits_only({d}, 5, 15, {p})"
    " THEN TRY_CAST({d} AS UBIGINT) * 16 + strlen({d}) END",
    problem="CASE WHEN {t} = '' THEN 'imsi-missing'"
    " WHEN {d} IS NULL OR NOT regexp_full_match({d}, '[0-9]*') THEN 'imsi-characters'"
    " ELSE 'imsi-length' END",
)

_MSISDN: Final = Field(
    digits="{t}",
    value="CASE WHEN digits_only({d}, 5, 15, {p}) AND {d} >= '1' THEN TRY_CAST({d} AS UBIGINT) END",
    problem="CASE WHEN {t} = '' THEN 'msisdn-missing'"
    " WHEN NOT regexp_full_match({d}, '[0-9]*') THEN 'msisdn-characters'"
    " WHEN {d}[1] = '0' THEN 'msisdn-not-international' ELSE 'msisdn-length' END",
)

_TYPED_MSISDN: Final = Field(
    digits="typed_number({t})",
    value="CASE WHEN digits_only({d}, 5, 15, {p}) AND {d} >= '1' AND country_fits({d})"
    " THEN TRY_CAST({d} AS UBIGINT) END",
    problem="CASE WHEN {t} = '' THEN 'msisdn-missing'"
    f" WHEN length({{t}}) > {limits.MAX_TYPED_CHARS} THEN 'msisdn-length'"
    " WHEN {d} IS NULL THEN 'msisdn-characters' ELSE 'msisdn-length' END",
)


def _date(days_later: int) -> Field:
    """Seconds at which a day (or the one ``days_later``) starts, of an instant, or as written."""
    dashed = "TRY_CAST({d} AS DATE)"
    packed = "TRY_CAST(left({d}, 4) || '-' || {d}[5:6] || '-' || {d}[7:8] AS DATE)"
    value = (
        f"CASE WHEN regexp_full_match({{d}}, '{_braced(_ISO_DAY)}')"
        f" THEN start_of({dashed}, {days_later})"
        f" WHEN regexp_full_match({{d}}, '[0-9]{{{{8}}}}') THEN start_of({packed}, {days_later})"
        " WHEN regexp_full_match({d}, '[0-9]{{9,11}}') THEN in_years(TRY_CAST({d} AS BIGINT))"
        f" WHEN regexp_full_match({{d}}, '{_braced(_INSTANT + _OFFSET)}')"
        " THEN in_years(instant({d})) END"
    )
    problem = (
        "CASE WHEN {t} = '' THEN 'date-missing'"
        " WHEN regexp_matches({d}, '^1[345][0-9]{{2}}([-/.]|[0-9]{{4}}$)') THEN 'date-jalali'"
        f" WHEN regexp_full_match({{d}}, '{_braced(_INSTANT)}') THEN 'date-no-offset'"
        " WHEN regexp_full_match({d}, '[0-9]{{9,11}}')"
        " OR TRY_CAST(left({d}, 10) AS DATE) IS NOT NULL"
        f" OR strlen({{d}}) = 8 AND {packed} IS NOT NULL THEN 'date-range' ELSE 'date-format' END"
    )
    return Field("{t}", value, problem)


def _until() -> Field:
    field = _date(1)
    return Field("{t}", f"CASE WHEN {{t}} = '' THEN 0 ELSE {field.value} END", field.problem)


def _braced(pattern: str) -> str:
    return pattern.replace("{", "{{").replace("}", "}}")


_FIELDS: Final[dict[str, Field]] = {
    "imei": _IMEI,
    "tac": _TAC,
    "imsi": _IMSI,
    "msisdn": _MSISDN,
    "deadline": _date(1),
    "until": _until(),
    "block-date": _date(0),
    "action": Field(
        "lower({t})",
        "CASE {d} WHEN 'allow' THEN 1 WHEN 'deny' THEN 0 END",
        "'action-unknown'",
    ),
    "operation": Field(
        "lower({t})",
        "CASE {d} WHEN 'add' THEN 1 WHEN 'delete' THEN 2 WHEN 'update' THEN 4 END",
        "'action-unknown'",
    ),
    "forced": Field(
        "lower({t})",
        "CASE WHEN {d} IN ('true', 'yes', '1') THEN 1"
        " WHEN {d} IN ('false', 'no', '0', '') THEN 0 END",
        "'forced-unknown'",
    ),
    "whole": Field(
        "{t}",
        "CASE WHEN {t} = '' THEN 0 WHEN digits_only({d}, 1, 16, {p})"
        " THEN TRY_CAST({d} AS UBIGINT) END",
        "'number-format'",
    ),
    "text": Field(
        "{t}",
        f"CASE WHEN length({{d}}) <= {limits.MAX_TEXT_FIELD_CHARS}"
        " AND NOT regexp_matches({d}, '[\\x00-\\x1f\\x7f]') THEN {d} END",
        "'text-length'",
    ),
    "hold-reason": Field(
        "{t}",
        f"CASE WHEN {{d}} IN ('', {', '.join(map(quoted, HOLDABLE_REASONS))}) THEN {{d}} END",
        "'reason-unmapped'",
    ),
    "prefix": Field(
        "{t}",
        "CASE WHEN regexp_full_match({d}, '([1-9][0-9]{{0,14}})?') THEN {d} END",
        "'msisdn-not-international'",
    ),
    "any": Field("''", "0", "''"),
}


def _reasons(bits: Mapping[str, int]) -> Field:
    """A mask of the lists that a DIRBS ``a|b`` names; no value unless every text is mapped."""
    pairs = ", ".join(f"{quoted(text)}: {bit}::UBIGINT" for text, bit in bits.items())
    table = "MAP {{" + _braced(pairs) + "}}"
    return Field(
        digits=f"list_transform(string_split({{t}}, '|'), lambda x: {table}[trim(x)])",
        value="CASE WHEN list_count({d}) = len({d}) THEN list_bit_or({d}) END",
        problem="CASE WHEN {t} = '' THEN 'reason-missing' ELSE 'reason-unmapped' END",
    )


def _digit_macros() -> list[str]:
    digits = [f"(k // {10**place} % 10)" for place in range(limits.IMEI_DIGITS)]
    doubled = [f"2 * {digit} + {digit} // 5" for digit in digits[::2]]  # modulo 10
    return [
        f"luhn_sum(k) AS ({' + '.join(doubled + digits[1::2])})",
        f"ascii_digits(t) AS ({_to_ascii('t', separators=False)})",
        f"bare_digits(t) AS ({_to_ascii('t', separators=True)})",
        "digits_only(d, low, high, plain) AS (strlen(d) BETWEEN low AND high"
        " AND CASE WHEN plain THEN true ELSE regexp_full_match(d, '[0-9]*') END)",
        "only_digits(t) AS (CASE WHEN regexp_full_match(t, '[0-9]*') THEN t END)",
        f"typed_digits(t) AS (CASE WHEN length(t) <= {limits.MAX_TYPED_CHARS}"
        f" THEN only_digits(bare_digits(trim(t, {quoted(_blanks())}))) END)",
    ]


def _number_macros(numbering: Numbering) -> list[str]:
    """``msisdn_from_typed``, step by step: ``u`` unmarked, ``d`` digits as typed."""
    low, high = numbering.min_national_digits, numbering.max_national_digits
    country, international = numbering.country_code, numbering.international_prefix
    trunk = numbering.trunk_prefix
    return [
        f"country_fits(d) AS (NOT starts_with(d, {quoted(country)})"
        f" OR strlen(d) - {len(country)} BETWEEN {low} AND {high})",
        f"international(d) AS (CASE WHEN {_prefixed(international)}"
        f" THEN substring(d, {len(international) + 1})"
        f" WHEN {_prefixed(trunk)} THEN {quoted(country)} || substring(d, {len(trunk) + 1})"
        f" WHEN starts_with(d, {quoted(country)}) AND country_fits(d) THEN d"
        f" WHEN strlen(d) <= {high} THEN {quoted(country)} || d ELSE d END)",
        f"unmarked(t) AS (ltrim(trim(t, {quoted(_blanks())}), {quoted(_DIRECTION_MARKS)}))",
        "plussed(u) AS (CASE WHEN starts_with(u, '+')"
        " THEN nullif(typed_digits(substring(u, 2)), '')"
        " ELSE international(nullif(typed_digits(u), '')) END)",
        f"typed_number(t) AS (CASE WHEN length(t) <= {limits.MAX_TYPED_CHARS}"
        " THEN plussed(unmarked(t)) END)",
    ]


def _date_macros() -> list[str]:
    return [
        f"in_years(s) AS (CASE WHEN s >= {_seconds(FIRST_YEAR)} AND s < {_seconds(LAST_YEAR + 1)}"
        " THEN s END)",
        f"start_of(day, later) AS (CASE WHEN year(day) BETWEEN {FIRST_YEAR} AND {LAST_YEAR} THEN"
        f" getvariable('day_starts')[date_diff('day', DATE '{FIRST_YEAR}-01-01', day) + 1 + later]"
        " END)",
        "instant(t) AS (epoch(TRY_CAST(replace(regexp_extract(t,"
        " '^[0-9-]*[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?'), 'T', ' ')"
        " || CASE WHEN t[17] = ':' THEN '' ELSE ':00' END AS TIMESTAMP))::BIGINT - shift(t))",
        r"shift(t) AS (CASE WHEN ends_with(t, 'Z') THEN 0 ELSE"
        r" CASE WHEN regexp_matches(t, '-[0-9]{2}:?[0-9]{2}$') THEN -60 ELSE 60 END"
        r" * (TRY_CAST(regexp_extract(t, '([0-9]{2}):?[0-9]{2}$', 1) AS BIGINT) * 60"
        r" + TRY_CAST(right(t, 2) AS BIGINT)) END)",
    ]


def _prefixed(prefix: str) -> str:
    return f"starts_with(d, {quoted(prefix)})" if prefix else "false"


def _seconds(year: int) -> int:
    return int((datetime(year, 1, 1) - datetime(1970, 1, 1)).total_seconds())


def _to_ascii(text: str, *, separators: bool) -> str:
    """Other scripts' digits to ASCII ones; the commoner the text, the cheaper the branch."""
    dropped = "".join(sorted(SEPARATORS)) if separators else ""
    ascii_dropped = "".join(char for char in dropped if char.isascii())
    common = quoted(_COMMON_DIGITS + dropped)
    digits = _all_digits()
    values = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    return (
        f"CASE WHEN regexp_full_match({text}, '[0-9]*') THEN {text}"
        f" WHEN regexp_full_match({text}, '[\\x00-\\x7f]*')"
        f" THEN translate({text}, {quoted(ascii_dropped)}, '')"
        f" WHEN regexp_full_match({text}, '[\\x00-\\x7f{_COMMON_DIGITS}]*')"
        f" THEN translate({text}, {common}, '{'0123456789' * 2}')"
        f" ELSE translate({text}, {quoted(digits + dropped)}, '{values}') END"
    )


@cache
def _all_digits() -> str:
    """Every decimal digit of Unicode but ASCII's."""
    chars = map(chr, range(0x80, 0x110000))
    return "".join(char for char in chars if unicodedata.decimal(char, None) is not None)


@cache
def _blanks() -> str:
    """What ``str.strip`` strips."""
    return "".join(char for char in map(chr, range(1, 0x3001)) if char.isspace())


def _day_starts(timezone: ZoneInfo) -> list[int]:
    """Unix seconds at which each day of FIRST_YEAR … LAST_YEAR, and the one after, begins.

    Where the clock shows midnight twice, or skips it, the later instant: nobody is cut early.
    """
    day, starts = datetime(FIRST_YEAR, 1, 1, tzinfo=timezone), []
    while day.year <= LAST_YEAR or (day.month, day.day) == (1, 1):
        starts.append(max(int(day.replace(fold=fold).timestamp()) for fold in (0, 1)))
        if day.year > LAST_YEAR:
            break
        day += timedelta(days=1)
    return starts
