"""Each command: its help, its JSON, its exit code; bad input is one line and never a traceback."""

import csv
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
from typer.main import get_command

from eir.ops.cli.main import app
from eir.ops.demo import cast
from tests.ops.conftest import Node, Ran, run, serving, write_config

STOLEN, BOUND = cast.questions()[5], cast.questions()[8]


def commands(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, member in getattr(command, "commands", {}).items():
        yield from commands(member, (*words, name))


COMMANDS = list(commands(get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_that_is_whole(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run(*words, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: {' '.join(('eir', *words))} ")
    shown = ran.out.replace("[ARGS]...", "").replace("}...", "")
    assert "..." not in shown, "a summary is too long for its line"
    assert max(map(len, ran.out.splitlines())) <= 96


@pytest.mark.parametrize("command", ["load", "check", "explain", "snapshot", "serve", "status"])
def test_the_help_of_what_is_typed_often_has_examples(command: str) -> None:
    shown = re.findall(rf"(?m)^    (eir {command} ?.*)$", run(command, "--help").out)
    assert len(shown) >= 2


def test_a_group_without_its_command_shows_its_help() -> None:
    for words in ((), ("snapshot",), ("config",)):
        ran = run(*words)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.rstrip() == run(*words, "--help").out.rstrip()


def test_the_version_is_the_package_s() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", run("--version").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed(shell: str) -> None:
    named_not_detected = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    with patch.dict(os.environ, named_not_detected):
        ran = run("--show-completion", shell)
    assert ran.code == 0
    assert "_EIR_COMPLETE" in ran.out


def test_completion_knows_commands_and_options() -> None:
    def completed(line: str) -> set[str]:
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        with patch.dict(os.environ, {"_EIR_COMPLETE": "complete_bash", **asked}):
            return set(run().out.split())

    assert completed("eir sn") == {"snapshot"}
    assert completed("eir snapshot ") == {"info", "verify", "diff", "export"}
    assert {"--imsi", "--json"} <= completed("eir check --")


BAD = [
    (("frob",), 3, "no such command 'frob'"),
    (("--frob",), 3, "no such option"),
    (("check",), 3, "missing argument"),
    (("check", "1", "2", "3"), 3, "unexpected extra argument"),
    (("demo", "--devices", "many"), 3, "--devices"),
    (("check", "35999901000010"), 2, "no answer"),
    (("check", "3599990100001"), 3, "imei-length"),
    (("check", "359999010000108"), 3, "imei-check-digit"),
    (("check", "35999901oooo10"), 3, "imei-characters"),
    (("check", "35999901000010", "0912"), 3, "msisdn-length"),
    (("check", "35999901000010", "hello"), 3, "msisdn-characters"),
    (("check", "35999901000010", "--imsi", "12"), 3, "imsi-length"),
    (("check", "35999901000010", "--cert", "absent.pem", "--ca", "absent.pem"), 3, "client-tls"),
    (("explain", "0" * 14), 3, "imei-zero"),
    (("explain", "35999901000010"), 2, "no answer"),
    (("status",), 2, "no answer"),
    (("reload",), 2, "no answer"),
    (("load", "absent.toml"), 3, "manifest-unreadable"),
    (("load", "eir.toml"), 3, "manifest-unknown"),
    (("snapshot", "info", "absent"), 1, "No such file"),
    (("snapshot", "verify", "eir.toml"), 1, "a snapshot"),
    (("snapshot", "diff", "eir.toml", "eir.toml"), 1, "a snapshot"),
    (("snapshot", "export", "eir.toml", "out"), 1, "a snapshot"),
    (("config", "check", "absent.toml"), 3, "config-missing"),
    (("sample", "eir.toml/lists"), 1, "eir.toml"),
    (("serve", "--config", "absent.toml"), 3, "config-missing"),
    (("sync", "--once"), 3, "feed-none"),
    (("sync", "--json"), 3, "give --once, or a command"),
    (("sync", "--json", "status"), 3, "options go behind the command"),
]


@pytest.mark.parametrize(("words", "code", "text"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_clear_line(
    words: tuple[str, ...], code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    ran = run(*words)
    assert (ran.code, ran.out) == (code, "")
    assert re.fullmatch(r"error: [^\n]+\n", ran.err)
    assert text in ran.err


def test_a_configuration_s_faults_are_told_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "eir.toml"
    path.write_text('[policy]\nmode = "shadows"\n\n[node]\ndepott = "x"\n')
    ran = run("config", "check", path)
    assert ran.code == 3
    assert f"{path}:2" in ran.err
    assert 'did you mean "shadow"?' in ran.err
    assert f"{path}:5" in ran.err
    assert "did you mean 'depot'?" in ran.err


def test_the_default_configuration_is_good(tmp_path: Path) -> None:
    path = tmp_path / "eir.toml"
    path.write_text(run("config", "default").out)
    assert run("config", "check", path).out == f"good: {path}\n"
    for option in ("-c", "--config"):
        assert run("config", "check", option, path).out == f"good: {path}\n"
    twice = run("config", "check", path, "--config", path)
    assert (twice.code, "give one of them" in twice.err) == (3, True)
    document = run("config", "check", path, "--json").document
    assert document == {"path": str(path), "ok": True, "mode": "enforce"}


def test_a_sample_tells_what_to_do_with_it(tmp_path: Path) -> None:
    ran = run("sample", tmp_path, "--devices", 500, "--json")
    assert ran.document["devices"] == 500
    assert Path(str(ran.document["registry"])).name == "registry.toml"
    with Path(str(ran.document["queries"])).open() as file:
        assert {int(row["row"]) for row in csv.DictReader(file)} == set(range(1, 17))


def test_a_load_accounts_for_every_row(lists: Path, tmp_path: Path) -> None:
    ran = run("load", lists / "registry.toml", "--config", write_config(tmp_path), "--json")
    assert (ran.code, ran.err) == (0, "")
    document = ran.document
    assert document["serving"] is False
    assert (document["feed"], document["serial"], document["rejects"]) == ("registry", 1, None)
    items = {each["name"]: each["items"] for each in document["lists"]}
    rows = {each["name"]: each["rows"] for each in document["files"]}
    assert items["bindings"] == rows["bindings.csv"]
    assert re.fullmatch(r"[0-9a-f]{32}", str(document["digest"]))


def test_a_load_says_in_words_what_it_did(lists: Path, tmp_path: Path) -> None:
    ran = run("load", lists / "operator.toml", "--config", write_config(tmp_path))
    assert ran.code == 0
    assert re.search(r"(?m)^[\d,]+ rows in [\d.]+ s \([\d,]+ rows/s\), 0 rejects, ", ran.out)
    assert "`eir serve` will serve it" in ran.out


def test_too_many_rejects_change_nothing_and_are_all_named(folder: Path, tmp_path: Path) -> None:
    before = (folder / "depot/manifest.json").read_bytes()
    (tmp_path / "white.csv").write_text("imei\n35999901000010\nnonsense\n1234\n")
    manifest = tmp_path / "bad.toml"
    manifest.write_text('feed = "registry"\n[[file]]\npath = "white.csv"\nlist = "white"\n')
    ran = run("load", manifest, "--config", folder / "eir.toml")
    assert ran.code == 3
    assert re.fullmatch(r"error: .*2 of 3 rows rejected.*\[too-many-rejects\]\n", ran.err)
    with (tmp_path / "bad.rejects.csv").open() as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["3", "4"]
    assert (folder / "depot/manifest.json").read_bytes() == before
    assert list((folder / "depot/scratch").iterdir()) == []


def snapshots(folder: Path, feed: str) -> list[Path]:
    """Of a depot, the newest first."""
    kept = json.loads((folder / "depot/manifest.json").read_text())["feeds"][feed]
    return [folder / "depot/snapshots" / each["file"] for each in kept]


def test_a_snapshot_is_told_about_verified_and_exported(loaded: Path, tmp_path: Path) -> None:
    (path,) = snapshots(loaded, "operator")
    told = run("snapshot", "info", path, "--json").document
    assert (told["feed"], told["serial"], told["verified"]) == ("operator", 1, False)
    verified = run("snapshot", "verify", path, "--json").document
    assert verified == {**told, "verified": True}
    assert re.search(f"(?m)^digest +{told['digest']} *$", run("snapshot", "info", path).out)
    exported = run("snapshot", "export", path, tmp_path / "lists", "--json").document
    config = write_config(tmp_path / "second")
    back = run("load", exported["manifest"], "--config", config, "--json").document
    assert back["digest"] == exported["digest"] == told["digest"]
    again = run("snapshot", "export", path, tmp_path / "lists")
    assert (again.code, "export-folder" in again.err) == (3, True)
    (second,) = snapshots(tmp_path / "second", "operator")
    assert run("snapshot", "diff", path, second, "--json").document == {
        "equal": True,
        "sections": {},
    }


def test_a_difference_is_counted_by_section(lists: Path, loaded: Path, tmp_path: Path) -> None:
    for each in lists.iterdir():
        (tmp_path / each.name).write_bytes(each.read_bytes())
    rows = (tmp_path / "white.csv").read_text().splitlines()
    (tmp_path / "white.csv").write_text("\n".join([*rows[:-3], "86000000000001"]) + "\n")
    config = write_config(tmp_path / "node")
    assert run("load", tmp_path / "registry.toml", "--config", config).code == 0
    (old,), (new,) = snapshots(loaded, "registry"), snapshots(tmp_path / "node", "registry")
    ran = run("snapshot", "diff", old, new, "--json")
    assert ran.document == {"equal": False, "sections": {"white": {"removed": 3, "added": 1}}}
    (operator,) = snapshots(loaded, "operator")
    ran = run("snapshot", "diff", old, operator)
    assert (ran.code, "delta-feeds" in ran.err) == (3, True)


def test_a_damaged_snapshot_is_named_with_its_section(folder: Path) -> None:
    (path,) = snapshots(folder, "registry")
    damage(path)
    ran = run("snapshot", "verify", path)
    assert ran.code == 1
    assert re.fullmatch(rf"error: {re.escape(str(path))}: section [a-z.-]+: .+\n", ran.err)


def damage(path: Path) -> None:
    """Flip one bit in the last section."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def node(loaded: Path) -> Iterator[Node]:
    with serving(loaded) as node:
        yield node


def ask(node: Node, *words: str) -> Ran:
    return run(*words, "--config", node.config)


def test_every_row_of_the_table_is_answered(node: Node) -> None:
    for question in cast.questions():
        if question.reason == "malformed-imei":
            continue  # nobody can type that; the door's tests ask it
        words = [question.imei, *([question.msisdn] if question.msisdn else [])]
        words += ["--imsi", question.imsi] if question.imsi else []
        document = ask(node, "check", *words, "--json").document
        assert document["reason_name"] == question.reason
        assert ask(node, "explain", *words, "--json").document["row"] == question.row


def test_a_verdict_is_readable_and_masked(node: Node) -> None:
    ran = ask(node, "check", STOLEN.imei, STOLEN.msisdn)
    assert ran.code == 0
    assert re.search(r"(?m)^status +BLACKLISTED *$", ran.out)
    assert re.search(r"(?m)^reason +stolen *$", ran.out)
    assert STOLEN.imei[:8] in ran.out
    assert STOLEN.imei[:14] not in ran.out


def test_a_log_names_nobody(folder: Path) -> None:
    config = folder / "eir.toml"
    config.write_text(config.read_text().replace("[node]\n", '[node]\nlog_level = "debug"\n', 1))
    with serving(folder) as talkative:
        for question in (STOLEN, BOUND):
            words = [question.imei, *([question.msisdn] if question.msisdn else [])]
            words += ["--imsi", question.imsi] if question.imsi else []
            for command in ("check", "explain"):
                assert ask(talkative, command, *words).code == 0
        ask(talkative, "reload")
        assert talkative.stop() == 0
    said = talkative.log
    assert "reload asked for" in said
    for question in (STOLEN, BOUND):
        for identity in (question.imei[:14], question.msisdn, question.imsi):
            assert not identity or identity not in said


def test_numbers_are_taken_as_people_write_them(node: Node) -> None:
    bound = next(q for q in cast.questions() if q.reason == "bound-exception")
    national = bound.msisdn.removeprefix("98")
    persian = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
    for typed in (
        f"0{national}",
        f"+98{national}",
        f"0098{national}",
        bound.msisdn.translate(persian),
    ):
        document = ask(node, "check", bound.imei, typed, "--json").document
        assert document["reason_name"] == "bound-exception"


def test_an_explanation_shows_the_row_that_was_hit(node: Node) -> None:
    ran = ask(node, "explain", BOUND.imei, "--imsi", BOUND.imsi)
    assert ran.code == 0
    assert re.search(r"(?m)^8 .* no *$", ran.out)
    assert re.search(r"(?m)^9 +the pair is bound +yes *$", ran.out)
    assert re.search(r"(?m)^10 .* not reached *$", ran.out)
    assert ran.out.rstrip().endswith("WHITELISTED: bound")


def test_the_status_tells_what_serves(node: Node, loaded: Path) -> None:
    ran = ask(node, "status", "--json")
    assert ran.code == 0
    document = ran.document
    assert (document["ready"], document["mode"], document["alarms"]) == (True, "enforce", [])
    digests = {each["origin"]["feed"]: each["origin"]["digest"] for each in document["generations"]}
    for feed in ("registry", "operator"):
        told = run("snapshot", "info", snapshots(loaded, feed)[0], "--json").document
        assert digests[feed] == told["digest"]
    words = ask(node, "status")
    assert words.code == 0
    assert re.search(r"(?m)^ready +yes *$", words.out)


def test_a_reload_names_what_changed(node: Node) -> None:
    assert ask(node, "reload", "--json").document == {"changes": []}
    assert ask(node, "reload").out == "nothing had changed\n"
    text = node.config.read_text()
    try:
        node.config.write_text("[polcy]\n")
        ran = run("reload", "--config", write_config(node.config.parent / "depot-of-none"))
        assert ran.code == 2
        socket = f'\n[admin]\nsocket = "{node.config.parent}/depot/admin.sock"\n'
        ran = run("reload", "--config", write_config(node.config.parent / "beside", socket))
        assert ran.code == 3
        assert "did you mean 'policy'?" in ran.err
    finally:
        node.config.write_text(text)


def test_an_address_can_be_given(node: Node, tmp_path: Path) -> None:
    elsewhere = write_config(tmp_path)
    address = f"unix:{node.config.parent}/door"
    words = (STOLEN.imei, STOLEN.msisdn, "--address", address, "--config", elsewhere, "--json")
    assert run("check", *words).document["reason_name"] == "stolen"
    shut = write_config(tmp_path / "shut")
    shut.write_text("[grpc]\nlisten = []\n")
    ran = run("check", STOLEN.imei, "--config", shut)
    assert (ran.code, "no-address" in ran.err) == (3, True)


def test_nothing_of_typer_is_missed() -> None:
    """The kind of fault that a wrong command line is has no public name: it is found by this."""
    assert typer.BadParameter.__mro__[1].__name__ == "UsageError"
    assert sys.modules["eir.ops.cli.main"]._USAGE_ERROR is typer.BadParameter.__mro__[1]
