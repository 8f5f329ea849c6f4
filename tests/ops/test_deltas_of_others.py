"""Deltas of DIRBS and of another CEIR, published as a person does it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from eir import limits
from eir.errors import Conflict, Refused
from eir.feed.head import HEAD_NAME
from eir.feed.publish import Publisher
from eir.ops.demo.registry import demo_registry
from eir.ops.desk import Desk
from eir.ops.runs import remember, runs_of, runs_said
from tests.ops.conftest import Ran, run
from tests.store.list_bench import A, B, zipped

pytest.importorskip("duckdb")

C, D, E = 35209900176149, 35209900176150, 35209900176151
IMSI, NUMBER = 432110000000001, 989121234567
REASONS = '[reasons]\n"Stolen device" = "stolen"\n"Duplicate" = "cloned"\n'
BLACK, NOTES, PAIRS = (
    "imei,block_date,reasons",
    "imei,imsi,msisdn,block_date,reasons",
    "imei,imsi,msisdn",
)
DIRBS = {"blacklist": BLACK, "notifications_op1": NOTES, "exceptions_op1": PAIRS}
FORMATS = {name: f"dirbs-{name.partition('_')[0]}" for name in DIRBS}
# Of each list: the whole at run 7, the whole at run 8, and what DIRBS writes between them.
LISTS: Mapping[str, tuple[list[str], list[str], Mapping[str, list[str]]]] = {
    "blacklist": (
        [f"{A},20250101,Stolen device", f"{B},20250101,Stolen device|Duplicate",
         f"{C},20250101,Duplicate"],
        [f"{A},20250101,Stolen device", f"{B},20250101,Duplicate", f"{D},20250202,Duplicate"],
        {
            "blocked": [f"{D},20250202,Duplicate"],
            "unblocked": [f"{C},,"],
            "changed": [f"{B},20250101,Duplicate"],
        },
    ),
    "notifications_op1": (
        [f"{key},{IMSI},{NUMBER},20260101,x" for key in (A, B, C, D)],
        [f"{A},{IMSI},{NUMBER},20260301,x", f"{E},{IMSI},{NUMBER},20260301,x"],
        {
            "new": [f"{E},{IMSI},{NUMBER},20260301,x"],
            "resolved": [f"{B},{IMSI},{NUMBER},20260101,x"],
            "blacklisted": [f"{C},{IMSI},{NUMBER},20260101,x"],
            "no_longer_seen": [f"{D},{IMSI},{NUMBER},20260101,x"],
            "changed": [f"{A},{IMSI},{NUMBER},20260301,x"],
        },
    ),
    "exceptions_op1": (
        [f"{A},{IMSI},{NUMBER}", f"{B},{IMSI},"],
        [f"{A},{IMSI},{NUMBER}", f"{E},{IMSI},{NUMBER}", f"{C},{IMSI},"],
        {"added": [f"{E},{IMSI},{NUMBER}", f"{C},{IMSI},"], "removed": [f"{B},{IMSI},"]},
    ),
}  # fmt: skip


def text_of(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows, ""])


def delta_members(base: int, at: int, name: str, **instead: list[str]) -> dict[str, str]:
    parts = {**LISTS[name][2], **instead}
    return {
        f"2026_{name}_delta_{base}_{at}_{why}.csv": text_of(DIRBS[name], rows)
        for why, rows in parts.items()
    }


class Registry:
    """A desk, and the files that its next publication takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.desk = demo_registry(folder).desk

    def manifest(self, *files: str, reasons: bool = True) -> Path:
        path = self.folder / "lists.toml"
        head = 'feed = "registry"\n' + (REASONS if reasons else "")
        path.write_text(head + "".join(f"[[file]]\n{file}\n" for file in files))
        return path

    def dirbs(self, members: Mapping[str, Mapping[str, str]]) -> Path:
        for name, texts in members.items():
            zipped(self.folder / f"{name}.zip", texts)
        return self.manifest(
            *(f'path = "{name}.zip"\nformat = "{FORMATS[name]}"' for name in members)
        )

    def whole(self, at: int, *, beside: Mapping[str, Mapping[str, str]] | None = None) -> Path:
        """The zips of all lists as of run 7 or 8; ``beside``: deltas in them."""
        return self.dirbs(
            {
                name: {
                    f"2026_{name}.csv": text_of(DIRBS[name], LISTS[name][at - 7]),
                    **(beside or {}).get(name, {}),
                }
                for name in DIRBS
            }
        )

    def ceir(self, rows: str) -> Path:
        (self.folder / "step.csv").write_text(rows)
        return self.manifest(
            'path = "step.csv"\nlist = "black.stolen"\nformat = "ceir"', reasons=False
        )

    def published(self, *words: object) -> dict[str, object]:
        ran = run("feed", "publish", self.desk.folder, *words, "--json")
        assert ran.code == 0, ran.err
        return ran.document

    def refused(self, reason: str, *words: object) -> str:
        before = self.head
        ran: Ran = run("feed", "publish", self.desk.folder, *words)
        assert (ran.code, self.head) == (3, before)
        assert f"[{reason}]" in ran.err
        return ran.err

    @property
    def head(self) -> bytes:
        found = self.desk.site().read(HEAD_NAME)
        return found.raw if found else b""

    @property
    def digest(self) -> str:
        ran = run("feed", "verify", self.desk.folder, "--json")
        return str(ran.document["digest"])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "one").mkdir()
    return Registry(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path) -> Registry:
    (tmp_path / "other").mkdir()
    return Registry(tmp_path / "other")


def test_full_lists_and_the_delta_of_dirbs_lead_to_the_same_content(
    registry: Registry, other: Registry
) -> None:
    beside = {"blacklist": {"2026_blacklist_delta_-1_7_blocked.csv": text_of(BLACK, [])}}
    first = registry.published("--from", registry.whole(7, beside=beside), "--run",
                               "notifications_op1=7", "--run", "exceptions_op1=7")  # fmt: skip
    runs = dict.fromkeys(DIRBS, 7)
    assert first["runs"] == runs
    steps = {name: delta_members(7, 8, name) for name in DIRBS}
    manifest = registry.whole(8, beside=steps)
    done = registry.published("--deltas", manifest)
    assert (done["serial"], done["runs"]) == (2, dict.fromkeys(DIRBS, 8))
    assert done["changes"] == {
        "bindings": {"removed": 0, "added": 1},
        "bindings.imsi": {"removed": 1, "added": 1},
        "black.cloned": {"removed": 1, "added": 1},
        "black.stolen": {"removed": 1, "added": 0},
        "grey": {"removed": 4, "added": 2},
    }
    other.published("--from", other.whole(8))
    assert registry.digest == other.digest

    again = run("feed", "publish", registry.desk.folder, "--deltas", manifest)
    assert "already published: run 8 of blacklist" in again.out
    assert cast(dict[str, object], registry.published())["serial"] == 2
    gap = registry.dirbs({"blacklist": delta_members(9, 10, "blacklist")})
    assert "run 8 is published" in registry.refused("delta-base", "--deltas", gap)
    assert registry.published("--from", registry.whole(8))["runs"] == dict.fromkeys(DIRBS, 8)


def test_a_feed_may_begin_with_the_delta_that_is_the_whole_list(
    registry: Registry, other: Registry
) -> None:
    parts = {"blocked": LISTS["blacklist"][0], "unblocked": [], "changed": []}
    members = delta_members(-1, 7, "blacklist", **parts)
    changed = "2026_blacklist_delta_-1_7_changed.csv"
    members[changed] = text_of(f"{BLACK},change_type", [])
    manifest = registry.dirbs({"blacklist": members})
    assert registry.published("--deltas", manifest)["runs"] == {"blacklist": 7}
    whole = {"blacklist": {"2026_blacklist.csv": text_of(BLACK, LISTS["blacklist"][0])}}
    other.published("--from", other.dirbs(whole))
    assert registry.digest == other.digest
    other.refused("delta-base", "--deltas", manifest)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_run_that_was_killed_at_the_head_goes_on_where_it_was(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, swapped: bool
) -> None:
    whole = {"blacklist": {"2026_blacklist.csv": text_of(BLACK, LISTS["blacklist"][0])}}
    registry.published("--from", registry.dirbs(whole), "--run", "blacklist=7")
    manifest = registry.dirbs({"blacklist": delta_members(7, 8, "blacklist")})
    put = Publisher._put

    def killed(*how: Any) -> None:
        if swapped:
            put(*how)
        raise Conflict("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Publisher, "_put", killed)
        assert run("feed", "publish", registry.desk.folder, "--deltas", manifest).code == 1
    ran = run("feed", "publish", registry.desk.folder, "--deltas", manifest)
    assert ran.code == 0
    assert ("already published" in ran.out) is swapped
    assert registry.published()["serial"] == 2


def test_what_does_not_fit_is_refused_by_file_and_line(registry: Registry) -> None:
    registry.published("--from", registry.whole(7))
    right = registry.dirbs({"blacklist": delta_members(7, 8, "blacklist")})
    assert "unknown" in registry.refused("delta-base", "--deltas", right)
    gone = delta_members(7, 8, "blacklist", unblocked=["junk,,", f"{C},,", f"{E},,"])
    manifest = registry.dirbs({"blacklist": gone})
    with_share = manifest.read_text().replace("[reasons]", "max_reject_share = 1\n[reasons]")
    manifest.write_text(with_share)
    said = registry.refused("delta-base", "--deltas", manifest, "--run", "blacklist=7")
    assert "delta_7_8_unblocked.csv: line 4: not in black" in said
    come = delta_members(7, 8, "blacklist", blocked=[f"{A},20250101,Stolen device"])
    said = registry.refused(
        "delta-base", "--deltas", registry.dirbs({"blacklist": come}), "--run", "blacklist=7"
    )
    assert "delta_7_8_blocked.csv: line 2: in black.stolen already" in said
    right = registry.dirbs({"blacklist": delta_members(7, 8, "blacklist")})
    assert registry.published("--deltas", right, "--run", "blacklist=7")["serial"] == 2


def test_wrong_files_are_refused_before_anything_changes(registry: Registry) -> None:
    registry.published("--from", registry.whole(7))
    rows = delta_members(7, 8, "blacklist", blocked=["A1B2,20250101,Duplicate", f"{E},x,Odd"])
    manifest = registry.dirbs({"blacklist": rows})
    said = registry.refused("too-many-rejects", "--deltas", manifest, "--run", "blacklist=7")
    assert "blocked.csv" in said
    rejects = (registry.folder / "lists.toml.rejects.csv").read_text()
    assert "blocked.csv,2,imei,A1B2,imei-characters" in rejects
    assert "blocked.csv,3,block_date,x,date-format" in rejects

    half = delta_members(7, 8, "blacklist")
    half.pop("2026_blacklist_delta_7_8_unblocked.csv")
    manifest = registry.dirbs({"blacklist": half})
    assert "unblocked" in registry.refused("delta-parts", "--deltas", manifest)
    two = {**delta_members(7, 8, "blacklist"), **delta_members(8, 9, "blacklist")}
    registry.refused("delta-parts", "--deltas", registry.dirbs({"blacklist": two}))
    odd = {"2026_blacklist_delta_7_8_odd.csv": text_of(BLACK, [])}
    registry.refused("delta-name", "--deltas", registry.dirbs({"blacklist": odd}))
    back = {"2026_blacklist_delta_8_7_blocked.csv": text_of(BLACK, [])}
    registry.refused("delta-name", "--deltas", registry.dirbs({"blacklist": back}))
    header = {**delta_members(7, 8, "blacklist"), "2026_blacklist_delta_7_8_changed.csv": "imei\n"}
    registry.refused("file-header", "--deltas", registry.dirbs({"blacklist": header}))
    registry.refused("delta-none", "--deltas", registry.whole(8))
    manifest = registry.dirbs({"blacklist": delta_members(7, 8, "blacklist")})
    registry.refused("zip-only-deltas", "--from", manifest)
    registry.refused("delta-run", "--deltas", manifest, "--run", "blacklist")
    both = run("feed", "publish", registry.desk.folder, "--deltas", manifest, "--from", manifest)
    alone = run("feed", "publish", registry.desk.folder, "--run", "blacklist=7")
    assert (both.code, alone.code) == (3, 3)
    (registry.folder / "x_delta_7_8_blocked.csv").write_text(text_of(BLACK, []))
    lone = registry.manifest('path = "x_delta_7_8_blocked.csv"\nformat = "dirbs-blacklist"')
    registry.refused("file-delta", "--from", lone)


def test_full_lists_and_the_delta_of_another_ceir_lead_to_the_same_content(
    registry: Registry, other: Registry
) -> None:
    registry.published("--from", registry.ceir(f"Device ID\n{A}\n{B}\n"))
    step = registry.ceir(f"Device Id,Operation\n{C},Add\n{A},Delete\n{B},update\n")
    done = registry.published("--deltas", step)
    assert done["changes"] == {"black.stolen": {"removed": 1, "added": 1}}
    other.published("--from", other.ceir(f"Device ID\n{B}\n{C}\n"))
    assert registry.digest == other.digest

    said = registry.refused("delta-base", "--deltas", step)
    assert "step.csv: line 3: not in black.stolen" in said
    twice = registry.ceir(f"Device Id,Operation\n{B},Add\n")
    assert "step.csv: line 2: in black.stolen" in registry.refused("delta-base", "--deltas", twice)
    absent = registry.ceir(f"Device Id,Operation\n{B},Update\n{E},Update\n")
    assert "step.csv: line 3" in registry.refused("delta-base", "--deltas", absent)
    odd = registry.ceir(f"Device Id,Operation\n{B},Burn\n{B},\n")
    registry.refused("too-many-rejects", "--deltas", odd)
    rejects = (registry.folder / "lists.toml.rejects.csv").read_text()
    assert "step.csv,2,operation,Burn,action-unknown" in rejects
    nothing = registry.ceir("Message\nNo records found.\n")
    assert registry.published("--deltas", nothing)["did"] == "re-signed"


def test_another_registry_s_deltas_are_refused(registry: Registry) -> None:
    registry.published("--from", registry.ceir(f"Device ID\n{A}\n"))
    step = registry.ceir(f"Device Id,Operation\n{B},Add\n")
    text = step.read_text()
    step.write_text('registry = "elsewhere"\n' + text)
    registry.refused("publish-other-registry", "--deltas", step)
    step.write_text(text.replace('"registry"', '"operator"', 1))
    registry.refused("delta-feeds", "--deltas", step)


def test_deltas_have_the_limits_of_lists(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = registry.ceir(f"Device Id,Operation\n{A},Add{' ' * limits.MAX_LIST_LINE_BYTES}\n")
    registry.refused("too-many-rejects", "--deltas", long)
    assert 'step.csv,2,"",' in (registry.folder / "lists.toml.rejects.csv").read_text()
    monkeypatch.setattr(limits, "MAX_ZIP_MEMBERS", 2)
    many = registry.dirbs({"blacklist": delta_members(-1, 7, "blacklist")})
    registry.refused("zip-too-many", "--deltas", many)
    registry.refused("file-empty", "--deltas", registry.ceir(""))


@pytest.mark.parametrize("text", ["", "blacklist", "=7", "a=", "a=-1", "a=x", "a=" + "9" * 19])
def test_a_run_is_a_name_and_a_number(text: str) -> None:
    with pytest.raises(Refused, match="delta-run"):
        runs_said([text])


def test_runs_are_of_one_content_whatever_is_killed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, url="", key=tmp_path, root_key="")
    assert runs_of(desk, "a") == {}
    remember(desk, "a", {"blacklist": 7})
    remember(desk, "b", {"blacklist": 8}, published="a")
    assert (runs_of(desk, "a"), runs_of(desk, "b")) == ({"blacklist": 7}, {"blacklist": 8})
    remember(desk, "c", {"blacklist": 9}, published="b")
    assert json.loads((tmp_path / "runs.json").read_text()).keys() == {"b", "c"}
    (tmp_path / "runs.json").write_text("spoiled")
    assert runs_of(desk, "b") == {}
