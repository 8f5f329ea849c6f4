"""The commands of a feed and its keys, run as a person runs them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eir.errors import Refused
from eir.ops.cli import main as cli
from tests.ops.conftest import run as typed

pytest.importorskip("obstore")
pytest.importorskip("duckdb")

MANIFEST = """
feed = "registry"
registry = "nation"

[[file]]
path = "white.csv"
list = "white"
format = "csv"
allow_empty = true
"""


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def run_json(*words: object) -> dict[str, object]:
    found = json.loads(run(*words, "--json"))
    assert isinstance(found, dict)
    return found


def write_white(folder: Path, imeis: Sequence[int]) -> Path:
    rows = "".join(f"{imei:014d}\n" for imei in imeis)
    (folder / "white.csv").write_text(f"imei\n{rows}")
    manifest = folder / "lists.toml"
    manifest.write_text(MANIFEST)
    return manifest


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """A root, a feed key, and version 1 of the `keys` file."""
    root = str(run_json("keys", "init-root", tmp_path / "root.key")["text"])
    feed = str(run_json("keys", "new", tmp_path / "feed.key")["text"])
    run("keys", "sign", tmp_path / "keys-1", "--root", tmp_path / "root.key", "--key", feed)
    return {"root": root, "feed": feed}


@pytest.fixture
def desk(tmp_path: Path, keys: dict[str, str]) -> Path:
    run(
        "feed", "init", tmp_path / "desk",
        "--to", tmp_path / "feed",
        "--key", tmp_path / "feed.key",
        "--keys", tmp_path / "keys-1",
        "--root-key", keys["root"],
    )  # fmt: skip
    return tmp_path / "desk"


def test_from_lists_to_a_feed_that_anyone_can_verify(
    desk: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    first = run_json("feed", "publish", desk, "--from", write_white(tmp_path, range(1, 2000)))
    assert (first["did"], first["serial"]) == ("first", 1)
    manifest = write_white(tmp_path, range(3, 2002))
    second = run_json("feed", "publish", desk, "--from", manifest)
    assert second["changes"] == {"white": {"removed": 2, "added": 2}}
    assert (second["did"], second["serial"]) == ("delta", 2)
    assert run_json("feed", "publish", desk, "--from", manifest)["did"] == "re-signed"
    assert run_json("feed", "publish", desk)["did"] == "re-signed"

    log = run_json("feed", "log", desk)
    assert [entry["serial"] for entry in log["deltas"]] == [2]
    assert log["deltas"][0]["changes"] == second["changes"]
    facts = run_json("feed", "verify", tmp_path / "feed", "--root-key", keys["root"])
    assert (facts["serial"], facts["items"]) == (2, {"white": 1999})
    assert facts["digest"] == log["deltas"][0]["digest"]
    for command in ("verify", "log"):
        assert "serial" in run("feed", command, desk)


def test_a_feed_of_another_root_is_refused(desk: Path, tmp_path: Path) -> None:
    run("feed", "publish", desk, "--from", write_white(tmp_path, [1]))
    other = str(run_json("keys", "init-root", tmp_path / "other.key")["text"])
    with pytest.raises(Refused, match="root-unknown"):
        run("feed", "verify", tmp_path / "feed", "--root-key", other)
    with pytest.raises(Refused, match="key-text"):
        run("feed", "verify", tmp_path / "feed")


def test_a_damaged_file_is_found(desk: Path, keys: dict[str, str], tmp_path: Path) -> None:
    run("feed", "publish", desk, "--from", write_white(tmp_path, [1]))
    (snapshot,) = (tmp_path / "feed").glob("snapshot-*")
    raw = bytearray(snapshot.read_bytes())
    raw[-1] ^= 1
    snapshot.chmod(0o600)
    snapshot.write_bytes(raw)
    with pytest.raises(Refused, match="fetch-hash"):
        run("feed", "verify", tmp_path / "feed", "--root-key", keys["root"])


def test_a_rotation_as_the_page_tells_it(desk: Path, keys: dict[str, str], tmp_path: Path) -> None:
    manifest = write_white(tmp_path, [1])
    run("feed", "publish", desk, "--from", manifest)
    new = str(run_json("keys", "new", tmp_path / "feed-2.key")["text"])
    with pytest.raises(Refused, match="publish-key-unlisted"):
        run("feed", "put-keys", desk, tmp_path / "keys-1", "--key", tmp_path / "feed-2.key")
    root = ("--root", tmp_path / "root.key")
    rotate = ("keys", "rotate", tmp_path / "keys-2", *root, "--kept", tmp_path / "keys-1")
    run(*rotate, "--new", new)
    with pytest.raises(Refused, match="key-file-exists"):
        run(*rotate, "--new", new)
    run("feed", "put-keys", desk, tmp_path / "keys-2", "--key", tmp_path / "feed-2.key")
    run("feed", "publish", desk)
    with pytest.raises(Refused, match="keys-lower"):
        run("feed", "put-keys", desk, tmp_path / "keys-1", "--key", tmp_path / "feed.key")
    last = ("--after", tmp_path / "keys-2", "--key", new)
    signed = run_json("keys", "sign", tmp_path / "keys-3", *root, *last)
    assert (signed["version"], signed["keys"]) == (3, [new])
    run("feed", "put-keys", desk, tmp_path / "keys-3")
    shown = run("keys", "show", tmp_path / "keys-3", "--root-key", keys["root"])
    assert new in shown
    assert keys["feed"] not in shown
    assert run_json("feed", "verify", desk)["serial"] == 1


def test_init_refuses_what_no_node_would_believe(
    desk: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    run("keys", "new", tmp_path / "stranger.key")
    again = ("--to", tmp_path / "f2", "--keys", tmp_path / "keys-1", "--root-key", keys["root"])
    with pytest.raises(Refused, match="publish-key-unlisted"):
        run("feed", "init", tmp_path / "d2", *again, "--key", tmp_path / "stranger.key")
    with pytest.raises(Refused, match="publish-desk-taken"):
        run("feed", "init", desk, *again, "--key", tmp_path / "feed.key")
    assert not (tmp_path / "d2").exists()


@pytest.mark.parametrize("text", ["", "url = 1", "url = [", 'url = "x"\nmore = "y"'])
def test_a_desk_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="publish-desk"):
        run("feed", "publish", tmp_path)
    (tmp_path / "feed.toml").write_text(text)
    with pytest.raises(Refused, match="publish-desk"):
        run("feed", "publish", tmp_path)


def test_secret_keys_are_never_shown_and_never_overwritten(tmp_path: Path) -> None:
    shown = run("keys", "init-root", tmp_path / "root.key")
    secret = (tmp_path / "root.key").read_text().split(":")[1].strip()
    assert "eir-root-1:" in shown
    assert secret not in shown
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="key-file-exists"):
        run("keys", "init-root", tmp_path / "root.key")


def test_rows_that_were_not_taken_are_told_with_their_file(tmp_path: Path, desk: Path) -> None:
    manifest = write_white(tmp_path, range(1, 2_001))
    whole = run("feed", "publish", desk, "--from", manifest)
    assert "rejects" not in whole
    (tmp_path / "white.csv").open("a").write("nobody\n")
    report = tmp_path / "lists.rejects.csv"
    said = run("feed", "publish", desk, "--from", manifest).replace("\n", "")
    assert f"rejects: 1 row not taken, see {report}" in said
    assert "nobody" in report.read_text()
    told = run_json("feed", "publish", desk, "--from", manifest)
    assert (told["rejected"], told["rejects"]) == (1, str(report))


def test_one_delta_is_one_delta(tmp_path: Path, desk: Path) -> None:
    for count in (1_000, 1_001):
        manifest = write_white(tmp_path, range(1, count + 1))
        said = run("feed", "publish", desk, "--from", manifest)
    assert "the head has 1 delta of" in said.replace("\n", " ")


def test_a_place_where_nothing_answers_is_not_refused(keys: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        for command in ("verify", "log"):
            ran = typed("feed", command, place, "--root-key", keys["root"])
            assert (ran.code, ran.out) == (2, "")
            assert re.search(r"^error: .*\[fetch-(failed|timeout)\]$", ran.err)
