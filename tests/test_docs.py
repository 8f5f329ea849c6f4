"""The docs are true: pages made from code are fresh, codes and links exist, examples parse."""

import contextlib
import importlib
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from eir.core.generation import WELL_KNOWN_REASONS
from eir.core.policy import DEFAULT_STATUS, FIXED_REASONS
from eir.ops.pages import cli_page, eir_command, settings_page
from eir.ops.settings.config import read_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose_of(path: Path) -> str:
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def anchors_of(path: Path) -> set[str]:
    """The names under which a page's headings can be linked to, as code hosts make them."""
    headings = re.findall(r"(?m)^#+ +(.+?) *$", prose_of(path))
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def test_the_settings_page_is_what_the_code_declares() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "docs/settings.md is out of date: make docs"


def test_the_command_line_page_is_what_the_command_declares() -> None:
    page, expected = ROOT / "docs/cli.md", cli_page(eir_command(), "eir")
    found = page.read_text(encoding="utf-8") if page.exists() else None
    assert found == expected, "docs/cli.md is out of date: make docs"


def test_every_reason_of_a_verdict_is_explained_with_its_status() -> None:
    page = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    part = page.partition("\n## Reasons of a verdict\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"(?m)^\| `([^`]+)` \| [\d, ]+ \| ([A-Z]+) \|", part))
    assert list(rows) == list(FIXED_REASONS), "docs/reasons.md: one row for each reason, in order"
    assert rows == {reason: status.name for reason, status in DEFAULT_STATUS.items()}


def test_every_well_known_black_list_is_explained_with_its_id() -> None:
    page = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `black\.([a-z-]+)` \| (\d+) \|", page)
    assert {name: int(number) for name, number in rows} == WELL_KNOWN_REASONS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in ("".join(pair) for pair in LINK.findall(prose_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists():
            lost.append(f"{target}: no such file")
        elif anchor and there.suffix == ".md" and anchor not in anchors_of(there):
            lost.append(f"{target}: no such heading")
    assert not lost, f"{name_of(page)}: {lost}"


SHELL = re.compile(r"(?ms)^ *```(?:console|sh)\n(.*?)^ *```$")


def commands_in(text: str) -> Iterator[str]:
    """Every ``eir`` command of a page's shell blocks, without pipes and redirections."""
    for block in SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\||;|>", line.strip().removeprefix("$ ")):
                if re.match(r"(?:\S+/)?eir\s", f"{part.strip()} "):
                    yield part.strip()


COMMANDS = [
    pytest.param(command, id=f"{name_of(page)}: {command}")
    for page in PAGES
    for command in dict.fromkeys(commands_in(page.read_text(encoding="utf-8")))
]


def parse(command: Any, words: list[str], above: Any = None) -> None:
    """Resolve a command line as typer would, without running it."""
    context = command.make_context(command.name, words, parent=above)
    words = [*context._protected_args, *context.args]
    if not words and getattr(command, "invoke_without_command", False):
        return
    if members := getattr(command, "commands", None):
        name, *rest = words
        assert name in members, f"no command {name!r}"
        parse(members[name], rest, context)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_examples_exist(command: str) -> None:
    _, *words = shlex.split(command)
    with contextlib.suppress(typer.Exit):  # --help and --version end there
        parse(eir_command(), words)


def test_a_wrong_example_would_be_seen() -> None:
    for wrong in ("eir chek 1", "eir check", "eir load m.toml --jsn", "eir snapshot inf x"):
        text = f"```console\n$ {wrong} > out\n```\n"
        (command,) = commands_in(text)
        with pytest.raises((typer.BadParameter.__mro__[1], AssertionError)):
            parse(eir_command(), shlex.split(command)[1:])


def test_every_alarm_of_the_operators_page_is_one() -> None:
    page = (ROOT / "docs/operators.md").read_text(encoding="utf-8")
    part = page.partition("| Alarm | Means |")[2].partition("\n\n")[0]
    told = re.findall(r"(?m)^\| `([^`]+)` \|", part)
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "eir").rglob("*.py"))
    assert len(told) >= 4
    assert [alarm for alarm in told if alarm not in sources] == []


TOML_BLOCKS = [
    pytest.param(text, id=f"{name_of(page)}:{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if kind == "toml"
]


@pytest.mark.parametrize("text", TOML_BLOCKS)
def test_examples_are_accepted(text: str, tmp_path: Path) -> None:
    """A block with ``[[file]]`` is a manifest; every other is a configuration, or part of one."""
    example = tomllib.loads(text)
    if "file" not in example:
        read_config(text, name="example", folder=tmp_path)
        return
    for entry in example["file"]:
        (tmp_path / entry["path"]).touch()
    (tmp_path / "manifest.toml").write_text(text, encoding="utf-8")
    if (ROOT / "eir/store/importers/manifest.py").exists():
        importer = importlib.import_module("eir.store.importers.manifest")
        importer.read_manifest(tmp_path / "manifest.toml")


def test_the_pictures_are_what_their_script_draws() -> None:
    folder = ROOT / "docs/pictures"
    drawn = runpy.run_path(str(folder / "draw.py"))
    for name in ("house", "flow"):
        picture = (folder / f"{name}.svg").read_text(encoding="utf-8")
        assert picture == drawn[f"_{name}"](), f"out of date: python {folder.name}/draw.py"
