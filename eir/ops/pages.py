"""Pages made from what the code declares: docs/settings.md and docs/cli.md.

``python -m eir.ops.pages docs`` writes them; a test compares. Promises that a setting, command or
option that exists stands on its page, and that nothing else does. Holds no text of its own beyond
headings: what a thing means is said where it is declared.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from typer.main import get_command

from eir.ops.cli import main as cli
from eir.ops.settings.sections import Settings
from eir.ops.settings.setting import Setting, is_table, settings_in

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_SETTINGS_INTRO = """\
# Settings

One TOML file configures a node. `eir` takes the file named by `--config`, else by `$EIR_CONFIG`,
else `eir.toml` in the working directory, else `/etc/eir/eir.toml`; with none of them, or with an
empty file, every setting has its default and the node serves this machine alone.

Relative paths start at the folder of the file. `eir config check` says everything that is wrong
with a file, each fault with its line; `eir config default` prints a file to begin with.

A node of an operator's core network, to be watched before it refuses anybody:

```toml
[node]
depot = "/var/lib/eir"
json_logs = true

[grpc]
listen = ["0.0.0.0:50061"]
tls_cert = "tls/node.pem"
tls_key = "tls/node.key"
client_ca = "tls/core-network-ca.pem"

[policy]
mode = "shadow"
home_plmns = ["43211", "43235"]
```
"""
_CLI_INTRO = "# The `eir` command\n"


class Parameter(Protocol):
    """What is read of an argument or option of a command."""

    name: str
    opts: Sequence[str]
    secondary_opts: Sequence[str]
    required: bool
    param_type_name: str
    nargs: int


class Command(Protocol):
    """What is read of a typer or click command; a group has ``commands`` too."""

    name: str | None
    help: str | None
    hidden: bool
    params: Sequence[Parameter]


def settings_page(settings: DataclassInstance | None = None) -> str:
    """docs/settings.md: one table of settings for each section."""
    parts = [_SETTINGS_INTRO]
    for name, setting, value in settings_in(settings or Settings()):
        parts += _section_lines(name, setting, cast("DataclassInstance", value))
    return "\n".join(parts)


def cli_page(command: Command, program: str) -> str:
    """docs/cli.md: each command with its usage, arguments and options; groups come first."""
    parts = [_CLI_INTRO]
    for words, each in _commands(command, (program,)):
        arguments = [p for p in each.params if p.param_type_name == "argument"]
        options = [p for p in each.params if p.param_type_name == "option" and not _hidden(p)]
        parts += [] if len(words) == 1 else [f"## `{' '.join(words)}`\n"]
        parts += [*_paragraphs(each.help)] if each.help else []
        parts += [f"```\n{_usage(words, each, arguments, options)}\n```\n"]
        rows = [f"| `{_metavar(p)}` | {_cell(_help(p))} |" for p in arguments]
        rows += [f"| {_spelling(p)} | {_cell(_help(p))}{_default(p)} |" for p in options]
        parts += ["| Argument or option | Meaning |\n| --- | --- |", *rows, ""] if rows else []
    return "\n".join(parts)


def write_pages(folder: Path) -> list[Path]:
    """Writes the pages into a folder, and says which."""
    pages = {"settings.md": settings_page(), "cli.md": cli_page(eir_command(), "eir")}
    for name, page in pages.items():
        (folder / name).write_text(page, encoding="utf-8")
    return [folder / name for name in pages]


def eir_command() -> Command:
    """The ``eir`` command, with all that is below it."""
    return cast(Command, get_command(cli.app))


def _section_lines(
    name: str, setting: Setting, value: DataclassInstance, *, heading: str = "##"
) -> Iterator[str]:
    yield f"{heading} `[{name}]`\n\n{setting.doc}\n"
    rows = settings_in(value)
    yield from _table([(key, s, s.show(v)) for key, s, v in rows if not is_table(s)])
    for key, table, entries in rows:
        if not is_table(table):
            continue
        if table.names is None:
            yield from _section_lines(
                f"{name}.{key}", table, cast("DataclassInstance", entries), heading="###"
            )
            continue
        inner = f"{name}.{key}" if table.entry is None else f"{name}.{key}.<name>"
        yield f"### `[{inner}]`\n\n{table.doc}\n"
        if table.entry is not None:
            yield from _table([(k, s, s.show(v)) for k, s, v in settings_in(table.entry)])
            yield from _exceptions(f"{name}.{key}", table.entry, _sections(entries))
        else:
            yield f"Each is {table.form.removeprefix('table of ')}.\n"
            yield "| Name | Default |\n| --- | --- |"
            yield from (
                f"| `{word}` | `{table.show(default)}` |" for word, default in table.names.items()
            )
            yield ""


def _exceptions(
    dotted: str, usual: DataclassInstance, entries: Mapping[str, DataclassInstance]
) -> Iterator[str]:
    for word, entry in entries.items():
        pairs = zip(settings_in(entry), settings_in(usual), strict=True)
        own = [
            f"`{key} = {s.show(value)}`"
            for (key, s, value), (_, _, other) in pairs
            if value != other
        ]
        yield f"`[{dotted}.{word}]` has by default {', '.join(own)}.\n"


def _sections(entries: object) -> Mapping[str, DataclassInstance]:
    return cast("Mapping[str, DataclassInstance]", entries)


def _table(rows: list[tuple[str, Setting, str]]) -> Iterator[str]:
    yield "| Setting | Default | Written as | Meaning |\n| --- | --- | --- | --- |"
    for key, setting, default in rows:
        yield f"| `{key}` | `{default}` | {_cell(setting.form)} | {_cell(setting.doc)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _commands(
    command: Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Command]]:
    if command.hidden:
        return
    yield words, command
    members: Mapping[str, Command] = getattr(command, "commands", {})
    for name, member in members.items():
        yield from _commands(member, (*words, name))


def _paragraphs(text: str) -> Iterator[str]:
    """A command's help as Markdown: what is indented in a paragraph kept as it is, is commands."""
    for paragraph in textwrap.dedent(text).split("\f")[0].strip().split("\n\n"):
        kept = paragraph.startswith("\b\n")
        for indented, lines in groupby(paragraph.splitlines()[kept:], lambda line: line[:1] == " "):
            if kept and indented:
                commands = "\n".join(f"$ {line.strip()}" for line in lines)
                yield f"```console\n{commands}\n```\n"
            else:
                yield "\n".join(lines) + "\n"


def _usage(
    words: tuple[str, ...], command: Command, arguments: list[Parameter], options: list[Parameter]
) -> str:
    parts = [*words, "[OPTIONS]" if options else "", *map(_metavar, arguments)]
    parts.append("COMMAND" if getattr(command, "commands", None) else "")
    return " ".join(filter(None, parts))


def _metavar(parameter: Parameter) -> str:
    shown = (getattr(parameter, "metavar", None) or parameter.name).upper()
    many = "…" if parameter.nargs == -1 else ""
    return f"{shown}{many}" if parameter.required else f"[{shown}{many}]"


def _spelling(option: Parameter) -> str:
    return ", ".join(f"`{word}`" for word in (*option.opts, *option.secondary_opts))


def _hidden(option: Parameter) -> bool:
    return bool(getattr(option, "hidden", False))


def _help(parameter: Parameter) -> str:
    return str(getattr(parameter, "help", None) or "")


def _default(option: Parameter) -> str:
    default = getattr(option, "default", None)
    if option.required:
        return " Required."
    if default is None or callable(default) or default in (False, "", (), []):
        return ""
    return f" Default: `{getattr(default, 'value', default)}`."


if __name__ == "__main__":
    for written in write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        sys.stdout.write(f"{written}\n")
