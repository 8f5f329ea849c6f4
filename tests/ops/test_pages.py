"""Pages made from declarations: the sample file says what holds, and nothing is left out."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from eir.core.policy import DEFAULT_STATUS
from eir.ops.pages import cli_page, eir_command, settings_page, write_pages
from eir.ops.settings.config import read_config
from eir.ops.settings.sample_config import default_toml
from eir.ops.settings.sections import Settings
from eir.ops.settings.setting import known_keys

FOLDER = Path("/etc/eir")


def test_the_sample_file_says_what_holds_anyway() -> None:
    plain = read_config("", name="empty", folder=FOLDER)
    assert read_config(default_toml(), name="sample", folder=FOLDER) == plain
    text = re.sub(r"(?m)^#(?=\S)", "", default_toml())
    spelled = read_config(text, name="sample", folder=FOLDER)
    assert replace(spelled, policy=plain.policy) == plain
    assert spelled.policy.status == DEFAULT_STATUS
    assert replace(spelled.policy, status={}) == plain.policy


def test_the_sample_file_and_the_page_leave_no_setting_out() -> None:
    for key in known_keys(Settings()):
        last = key.rpartition(".")[2]
        assert re.search(rf"(?m)^#? ?(\[{re.escape(key)}(\..+)?\]|{last} = )", default_toml()), key
        assert f"`{last}`" in settings_page() or f"[{key}" in settings_page(), key


def toy() -> typer.Typer:
    app = typer.Typer(help="A toy | with a pipe.")
    members = typer.Typer(help="Looks into files.")

    @app.command()
    def load(
        manifest: Annotated[Path, typer.Argument(help="Which file is which list.")],
        threads: Annotated[int, typer.Option("--threads", "-t", help="How many | at most.")] = 2,
        json: Annotated[bool, typer.Option("--json/--text", help="As JSON.")] = False,
        secret: Annotated[str, typer.Option(hidden=True)] = "",
    ) -> None:
        """Build a snapshot.

        It is written aside.

        \b
        Examples:
          toy load m.toml
          toy load m.toml -t 2
        """

    @members.command("diff")
    def diff(files: list[Path], by: Annotated[str, typer.Option()]) -> None:
        """Compare files."""

    @app.command(hidden=True)
    def inner() -> None:
        """Not for people."""

    app.add_typer(members, name="snapshot")
    return app


def test_every_command_and_option_stands_on_the_page() -> None:
    page = cli_page(get_command(toy()), "toy")
    assert "## `toy load`" in page
    assert "toy load [OPTIONS] MANIFEST\n" in page
    assert "Build a snapshot.\n\nIt is written aside.\n\nExamples:\n" in page
    assert "```console\n$ toy load m.toml\n$ toy load m.toml -t 2\n```" in page
    assert "| `MANIFEST` | Which file is which list. |" in page
    assert "| `--threads`, `-t` | How many \\| at most. Default: `2`. |" in page
    assert "| `--json`, `--text` | As JSON. |" in page
    assert "## `toy snapshot`\n\nLooks into files.\n" in page
    assert "toy snapshot diff [OPTIONS] FILES…\n" in page
    assert "| `--by` |  Required. |" in page
    assert "secret" not in page
    assert "inner" not in page


def test_the_pages_are_written_into_a_folder(tmp_path: Path) -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in write_pages(tmp_path)}
    assert written["settings.md"] == settings_page()
    assert written["cli.md"] == cli_page(eir_command(), "eir")
