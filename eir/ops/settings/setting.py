"""What a setting is: a dataclass field that says how it is written in TOML, bounded, and explained.

Holds the field specifiers (``whole``, ``text``, ``choice``, …) and the one reader that turns a
TOML table into a section. Promises that every fault of a file is found in one reading, each with
its line where that can be told. Never opens a file and knows no setting by name.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NewType, TypeVar, cast

from eir.errors import Refused

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section = TypeVar("Section", bound=DataclassInstance)
Value = TypeVar("Value")

UnixSeconds = NewType("UnixSeconds", int)
"""A moment, in seconds UTC since 1970; 0 is none."""

_SETTING = "setting"
_DEEPEST = 4
_FIRST_MOMENT = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp())
_LAST_MOMENT = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) - 1
_BARE_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\\n]*"|'[^'\n]*')"""
_KEY = rf"{_BARE_KEY}(?:[ \t]*\.[ \t]*{_BARE_KEY})*"
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*({_KEY})[ \t]*\]")
_ASSIGNMENT = re.compile(rf"[ \t]*({_KEY})[ \t]*=")
_TOML_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (str, "a string"),
    (list, "an array"),
    (dict, "a table"),
    (datetime, "a date and time"),
    (date, "a date"),
    (time, "a time"),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it is for, how it is written, and how it is read and shown.

    ``read`` returns the value or raises Refused. A table has ``entry``, the section that it holds
    at its defaults; where ``names`` is not None, it holds such a section, or a plain value, under
    each name, and ``names`` has the defaults of plain values; ``example`` is such a name.
    """

    doc: str
    form: str
    read: Callable[[object, Spot], object]
    show: Callable[[object], str]
    entry: DataclassInstance | None = None
    names: Mapping[str, str] | None = None
    example: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A TOML text being read: its name for messages, where its keys stand, its faults so far, each
    with its line, 0 where none can be told.
    """

    name: str
    lines: Mapping[tuple[str, ...], int]
    known: tuple[str, ...]
    noted: list[tuple[int, Refused]]

    @property
    def faults(self) -> list[Refused]:
        """All of them as they stand in the file, from the top; those without a line come first."""
        return [fault for _, fault in sorted(self.noted, key=lambda each: each[0])]


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of one value in its source."""

    source: Source
    key: tuple[str, ...] = ()

    def at(self, *names: str) -> Spot:
        """The place of a key below this one."""
        return Spot(self.source, (*self.key, *names))

    @property
    def line(self) -> int:
        """Where the key stands, else the nearest table around it; 0 where neither can be told."""
        lines = self.source.lines
        return next(
            (lines[self.key[:n]] for n in range(len(self.key), 0, -1) if self.key[:n] in lines), 0
        )

    @property
    def where(self) -> str:
        """File, line if it can be told, and key: ``eir.toml:4: policy.mode``."""
        place = f"{self.source.name}:{self.line}" if self.line else self.source.name
        return f"{place}: {'.'.join(map(_key_text, self.key))}" if self.key else place

    def refuse(self, fault: Refused) -> None:
        """Notes a fault here; reading goes on."""
        placed = Refused(fault.reason, fault.detail, where=self.where)
        self.source.noted.append((self.line, placed))


def settings_in(section: DataclassInstance) -> list[tuple[str, Setting, object]]:
    """Name, setting and value of every field of a section, in the order declared."""
    return [(f.name, _setting_of(f), getattr(section, f.name)) for f in fields(section)]


def is_table(setting: Setting) -> bool:
    """Whether it is a TOML table, with settings of its own."""
    return setting.names is not None or setting.entry is not None


def known_keys(section: DataclassInstance, prefix: str = "") -> list[str]:
    """Every dotted key that a file may set; names that a file chooses stand as ``*``."""
    keys = []
    for name, setting, _ in settings_in(section):
        keys.append(prefix + name)
        below = f"{prefix}{name}." if setting.names is None else f"{prefix}{name}.*."
        keys += known_keys(setting.entry, below) if setting.entry else []
    return keys


def read_section(section: Section, table: object, spot: Spot) -> Section:
    """The section with what the table sets. What is at fault is noted, and stays as it was."""
    known = {name: setting for name, setting, _ in settings_in(section)}
    values: dict[str, object] = {}
    for key, raw in _table(table).items():
        try:
            if key not in known:
                raise _unknown(key, list(known), spot)
            values[key] = known[key].read(raw, spot.at(key))
        except Refused as fault:
            spot.at(key).refuse(fault)
    return replace(section, **values)


def line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Line (from 1) of each table and assignment of a TOML text, by key; the first if several.

    Reads line by line, so a line inside a multi-line string may be taken for a key: good enough to
    point a person to a place, and used for nothing else.
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _key_parts(header[1])
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            key = _key_parts(assignment[1])
            for depth in range(1, min(len(key), _DEEPEST) + 1):
                lines.setdefault(table + key[:depth], number)
    return lines


def whole(default: int, doc: str, *, low: int, high: int, unit: str) -> int:
    """A whole number of some unit, from low to high."""

    def read(raw: object, _: Spot) -> object:
        value = _typed(raw, int)
        if not low <= value <= high:
            raise Refused("config-range", f"expected {low} to {high} {unit}, got {value}")
        return value

    return _declare(default, Setting(doc, f"{low} to {high} {unit}", read, str))


def share(default: float, doc: str) -> float:
    """A share of a whole, from 0 to 1."""

    def read(raw: object, _: Spot) -> object:
        value = float(raw) if type(raw) is int else _typed(raw, float)
        if not 0.0 <= value <= 1.0:
            raise Refused("config-range", f"expected a share from 0 to 1, got {value}")
        return value

    return _declare(default, Setting(doc, "number from 0 to 1", read, str))


def switch(default: bool, doc: str) -> bool:
    """True or false."""

    def read(raw: object, _: Spot) -> object:
        return _typed(raw, bool)

    return _declare(default, Setting(doc, "true or false", read, _show))


def choice(default: str, doc: str, *, words: tuple[str, ...]) -> str:
    """One of a few words."""

    def read(raw: object, _: Spot) -> object:
        return one_of(raw, words)

    return _declare(default, Setting(doc, " or ".join(map(_show, words)), read, _show))


def text(default: str, doc: str, *, form: str, check: Callable[[str], str]) -> str:
    """A string; ``check`` returns it as it shall stand, or raises Refused."""

    def read(raw: object, _: Spot) -> object:
        return check(_typed(raw, str))

    return _declare(default, Setting(doc, form, read, _show))


def texts(
    default: tuple[str, ...], doc: str, *, form: str, check: Callable[[str], str], most: int
) -> tuple[str, ...]:
    """An array of at most so many different strings, each checked as by ``text``."""

    def read(raw: object, _: Spot) -> object:
        items = _typed(raw, list)
        values = tuple(check(_typed(item, str)) for item in items)
        if len(values) > most:
            raise Refused("config-range", f"at most {most} entries, got {len(values)}")
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise Refused("config-range", f"{twice[0]!r} stands there twice")
        return values

    return _declare(default, Setting(doc, f"array of {form}", read, _show))


def path(default: str, doc: str) -> Path:
    """A file or folder, relative to the folder of the configuration file."""

    def read(raw: object, _: Spot) -> object:
        return _path(_typed(raw, str))

    return _declare(Path(default), Setting(doc, "path", read, _show))


def path_or_none(doc: str) -> Path | None:
    """As ``path``; the empty string, which is the default, is none."""

    def read(raw: object, _: Spot) -> object:
        return _path(value) if (value := _typed(raw, str)) else None

    return _declare(None, Setting(doc, "path or empty", read, _show))


def instant(doc: str) -> UnixSeconds:
    """A moment: date and time with its offset from UTC, or Unix seconds; the default is 0, none."""

    def read(raw: object, _: Spot) -> object:
        if isinstance(raw, datetime) and raw.tzinfo is None:
            raise Refused(
                "config-type", f"say which time zone: {raw.isoformat()}Z, or +03:30 after it"
            )
        moment = raw if type(raw) is int else int(_typed(raw, datetime).timestamp())
        if moment != 0 and not _FIRST_MOMENT <= moment <= _LAST_MOMENT:
            raise Refused("config-range", "expected a Gregorian year from 2000 to 2199")
        return UnixSeconds(moment)

    form = "date and time with offset (2026-03-21T00:00:00+03:30), or Unix seconds; 0 is none"
    return _declare(UnixSeconds(0), Setting(doc, form, read, str))


def words_by_name(
    doc: str, *, defaults: Mapping[str, str], words: tuple[str, ...]
) -> Mapping[str, str]:
    """A table with one of a few words under each of some names; what is not set is absent.

    ``defaults`` has every name with what is in force when it is not set.
    """

    def read(raw: object, spot: Spot) -> object:
        values: dict[str, object] = {}
        for name, word in _table(raw).items():
            try:
                if name not in defaults:
                    raise _unknown(name, list(defaults), spot)
                values[name] = one_of(word, words)
            except Refused as fault:
                spot.at(name).refuse(fault)
        return values

    form = "table of " + " or ".join(map(_show, words))
    return _declare({}, Setting(doc, form, read, _show, names=defaults))


def section(default: Section, doc: str = "") -> Section:
    """A table with its own settings, explained by ``doc``, else by its class's docstring."""

    def read(raw: object, spot: Spot) -> object:
        return read_section(default, raw, spot)

    doc = doc or inspect.getdoc(type(default)) or ""
    return _declare(default, Setting(doc, "table", read, _show, entry=default))


def sections_by_name(
    default: Section,
    doc: str,
    *,
    entries: Mapping[str, Section],
    check: Callable[[str], str],
    most: int,
    example: str = "",
) -> Mapping[str, Section]:
    """A table of tables under names that the file chooses; each name is checked as by ``text``.

    A table starts as the one of ``entries`` with its name, else as ``default``; entries that a
    file does not name stay.
    """

    def read(raw: object, spot: Spot) -> object:
        merged = dict(entries)
        for name, table in _table(raw).items():
            try:
                base = entries.get(name, default)
                merged[check(name)] = read_section(base, table, spot.at(name))
            except Refused as fault:
                spot.at(name).refuse(fault)
        if len(merged) > most:
            raise Refused("config-range", f"at most {most} entries, got {len(merged)}")
        return merged

    setting = Setting(doc, "table of tables", read, _show, default, {}, example)
    return _declare(dict(entries), setting)


def one_of(raw: object, words: tuple[str, ...]) -> str:
    """The string, if it is one of the words; else Refused, with the nearest."""
    value = _typed(raw, str)
    if value not in words:
        near = {word.lower(): word for word in words}
        close = get_close_matches(value.lower(), list(near), 1)
        hint = f"; did you mean {_show(near[close[0]])}?" if close else ""
        raise Refused(
            "config-range", f"expected {' or '.join(map(_show, words))}, got {_show(value)}{hint}"
        )
    return value


def _declare(default: Value, setting: Setting) -> Value:
    metadata = {_SETTING: setting}
    if isinstance(default, dict):
        return cast(Value, field(default_factory=lambda: dict(default), metadata=metadata))
    return field(default=default, metadata=metadata)


def _setting_of(declared: Field[object]) -> Setting:
    return cast(Setting, declared.metadata[_SETTING])


def _typed(raw: object, wanted: type[Value]) -> Value:
    if type(raw) is not wanted:
        raise Refused("config-type", f"expected {_toml_name(wanted)}, got {_toml_name(type(raw))}")
    return raw


def _table(raw: object) -> dict[str, object]:
    return cast("dict[str, object]", _typed(raw, dict))


def _toml_name(python: type) -> str:
    return next((name for known, name in _TOML_NAMES if known is python), python.__name__)


def _path(value: str) -> Path:
    if not value or value.startswith("~"):
        raise Refused("config-range", f"expected the path of a file or folder, got {value!r}")
    return Path(value)


def _unknown(key: str, siblings: list[str], spot: Spot) -> Refused:
    if close := get_close_matches(key.lower(), siblings, 1):
        hint = f"did you mean {close[0]!r}?"
    elif elsewhere := [known for known in spot.source.known if known.rpartition(".")[2] == key]:
        hint = f"did you mean {elsewhere[0]!r}?"
    else:
        hint = f"known here: {', '.join(siblings)}"
    return Refused("config-unknown-key", f"no such setting; {hint}")


def _key_text(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part[:64])


def _key_parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_BARE_KEY, dotted))


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_show, value))}]"
    if isinstance(value, Mapping):
        return "{}" if not value else repr(value)
    return json.dumps("" if value is None else str(value), ensure_ascii=False)
