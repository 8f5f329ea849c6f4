"""The page of a run: from its lines alone, with every figure's machine, versions and date."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench import others
from bench.lines import Lines, interleaved, read, spread, without
from bench.machine import about
from bench.report import page, write
from bench.targets import judged

ROOT = Path(__file__).parents[2]
ABOUT = {
    "machine": {"cpu": "A model", "cores": 4, "memory_gib": 16.0, "system": "Linux 6.1"},
    "versions": {"eir": "0.1.0", "python": "3.13.1"},
    "date": "2026-01-31",
}


def a_run(path: Path) -> Lines:
    lines = Lines(path, ABOUT)
    for subject, rates in (("node, native door", [60, 80, 70]), ("C++ gRPC, constant", [100] * 3)):
        samples = [{"checks_per_s": rate, "cpu_us_per_check": 9, "wrong": 0} for rate in rates]
        lines.add("throughput", subject, samples, ask="Check", devices=10)
    lines.add("start", "eir serve, to its first verdict", [{"seconds": 1.5}], devices=10)
    lines.miss("PostgreSQL", "Traceback …\nno file '/some/folder/of/this/pgbench' is there")
    return lines


def test_medians_ranges_and_ratios(tmp_path: Path):
    lines = a_run(tmp_path / "lines.jsonl")
    text = page(read(lines.path), ())
    assert "| node, native door | Check | 70 (60–80) | 0.70 |" in text
    assert "A model, 4 cores" in text
    assert "2026-01-31" in text
    assert "eir 0.1.0, python 3.13.1" in text
    assert "- PostgreSQL: no file '…/pgbench' is there\n" in text
    assert not lines.faults


def test_a_wrong_or_missing_answer_is_a_fault(tmp_path: Path):
    lines = Lines(tmp_path / "lines.jsonl", ABOUT)
    lines.add("throughput", "node", [{"wrong": 0, "missing": 0}, {"wrong": 2, "missing": 1}])
    assert lines.faults == [
        "throughput, node: 2 answers wrong",
        "throughput, node: 1 answers missing",
    ]


def test_rounds_go_by_turns():
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) or {"n": len(order)} for name in "abc"}
    samples = interleaved(2, runs)
    assert "".join(order) == "abcabc"
    assert samples["b"] == [{"n": 2}, {"n": 5}]
    assert spread([3, 1, 2.00004]) == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_the_same_lines_make_the_same_page_and_plots(tmp_path: Path):
    pytest.importorskip("matplotlib")
    lines = a_run(tmp_path / "benchmarks.jsonl")
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write(read(lines.path), folder)
        made.append({each.name: each.read_bytes() for each in folder.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {"benchmarks.md", "benchmarks-throughput.svg"}


def test_a_line_says_where_it_was_measured_but_not_on_which_machine():
    text = json.dumps(about())
    assert {"machine", "versions", "date"} == set(about())
    assert not re.search(r'"/|hostname|localhost', text)


def test_the_page_in_docs_is_of_its_lines():
    lines = ROOT / "docs/benchmarks.jsonl"
    if not lines.exists():
        assert not (ROOT / "docs/benchmarks.md").exists()
        return
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    drawn = re.findall(r"!\[.*?\]\((.+?)\)", text)
    assert page(read(lines), drawn) == text
    assert all((lines.parent / name).exists() for name in drawn)


def test_the_saved_baseline_names_no_machine():
    text = (ROOT / "bench/micro/baseline.json").read_text(encoding="utf-8")
    assert '"cpu"' in text
    assert not re.search(r'"node"|"/|hostname', text)


def a_script(folder: Path, monkeypatch, text: str) -> None:
    """Put a program in the place of bench.overload."""
    (folder / "bench").mkdir()
    (folder / "bench/overload.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(others, "HERE", folder / "bench")


@pytest.mark.parametrize(("wrong", "code"), [(0, 0), (3, 1)])
def test_a_script_s_wrong_answers_fail_the_run(tmp_path: Path, monkeypatch, wrong: int, code: int):
    row = json.dumps({"bench": "overload", "answered_per_s": 9, "wrong": wrong})
    a_script(tmp_path, monkeypatch, f"print({row!r})\nraise SystemExit({code})\n")
    lines = Lines(tmp_path / "lines.jsonl", ABOUT)
    others.overload(lines, devices=10, rounds=1, seconds=1)
    assert lines.faults == (["overload, overload: 3 answers wrong"] if wrong else [])
    assert lines.absent == []


def test_a_script_that_fails_is_told(tmp_path: Path, monkeypatch):
    a_script(tmp_path, monkeypatch, "raise SystemExit('no such thing')\n")
    lines = Lines(tmp_path / "lines.jsonl", ABOUT)
    others.overload(lines, devices=10, rounds=1, seconds=1)
    assert lines.faults == ["bench/overload.py: no such thing"]


def test_what_overload_did_is_shown_and_judged_of_the_own_bound_alone(tmp_path: Path):
    lines = Lines(tmp_path / "lines.jsonl", ABOUT)
    names = ("asked_per_s", "refused_share", "held_share", "answered_p50_us", "refused_p99_us")
    told = dict.fromkeys((*names, "late_p99_us"), 0.25)
    for bound, of_peak, p99 in (("no bound", 0.1, 9e6), ("1024 may wait", 0.9, 40_000)):
        told |= {"answered_of_peak": of_peak, "answered_p99_us": p99}
        lines.add("overload", f"overload, native, {bound}, 2 x peak", [told], devices=10)
    text = page(read(lines.path), ())
    row = "| native, 1024 may wait, 2 x peak | 0.25 | 0.9 | 0.25 | 0.25 | 0.25 | 40,000 | 0.25 |"
    assert row in text
    verdicts = {what: (found, met) for what, _, found, met in judged(read(lines.path))}
    assert verdicts["asked at twice the peak, native engine: answered ÷ peak"] == ("0.9", "met")
    assert verdicts["… p99 of what is answered, native engine"] == ("40 ms", "met")


def test_parts_measured_anew_replace_their_lines(tmp_path: Path):
    lines = a_run(tmp_path / "lines.jsonl")
    lines.part = "kernel"
    lines.add("kernel", "bound", [{"ns_at_512": 1}], devices=10)
    before = len(read(lines.path))
    without(lines.path, ["kernel"])
    assert [line.get("part") for line in read(lines.path)] == [None] * (before - 1)


def test_a_target_is_met_missed_or_not_measured(tmp_path: Path):
    found = {
        what: (told, verdict) for what, _, told, verdict in judged(read(a_run(tmp_path / "l").path))
    }
    assert found["… × the C++ server answering a constant"] == ("0.7", "met")
    assert found["bulk load of the registry's lists"] == ("", "not measured")
    assert found["a node's cold start to its first verdict"] == ("1.5 s", "told at 10^8 only")
