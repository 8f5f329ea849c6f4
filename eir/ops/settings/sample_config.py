"""The sample configuration: every setting with its default, explained and commented out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from eir.ops.settings.sections import Settings
from eir.ops.settings.setting import Setting, is_table, settings_in

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SAMPLE_INTRO = """\
# Configuration of an eir node. Every setting stands here with its default, commented out;
# `eir config check` tells what is wrong with a file.
"""


def default_toml() -> str:
    """A configuration file with every setting explained, and commented out at its default.

    A line that begins with ``#`` and no space after it is a setting: with that ``#`` taken away it
    says what holds anyway.
    """
    parts = [_SAMPLE_INTRO]
    for name, setting, value in settings_in(Settings()):
        parts += _sample_lines(name, setting, cast("DataclassInstance", value), commented=False)
    return "\n".join(parts)


def _sample_lines(
    name: str, setting: Setting, value: DataclassInstance, *, commented: bool
) -> Iterator[str]:
    yield f"{_prose(setting.doc)}\n{'#' if commented else ''}[{name}]\n"
    tables = []
    for key, inner, default in settings_in(value):
        if is_table(inner):
            tables.append((f"{name}.{key}", inner, default))
        else:
            yield f"{_prose(f'{inner.doc} ({inner.form})')}\n#{key} = {inner.show(default)}\n"
    for dotted, inner, entries in tables:
        yield from _sample_table(dotted, inner, entries)


def _sample_table(dotted: str, table: Setting, entries: object) -> Iterator[str]:
    if table.names is None:
        section = cast("DataclassInstance", entries)
        yield from _sample_lines(dotted, table, section, commented=False)
    elif table.entry is None:
        yield f"{_prose(table.doc)}\n#[{dotted}]"
        yield from (f"#{word} = {table.show(default)}" for word, default in table.names.items())
        yield ""
    elif table.example:
        yield f'{_prose(table.doc)} For instance:\n# [{dotted}."{table.example}"]'
        yield from (f"# {key} = {s.show(v)}" for key, s, v in settings_in(table.entry))
        yield ""
    else:
        for word, entry in cast("Mapping[str, DataclassInstance]", entries).items():
            yield from _sample_lines(f"{dotted}.{word}", table, entry, commented=True)


def _prose(text: str) -> str:
    return textwrap.fill(text, 96, initial_indent="# ", subsequent_indent="# ")
