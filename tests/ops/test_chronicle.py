"""What befell a node is written down whole, in order, and never without bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.ops import chronicle
from eir.ops.chronicle import happenings, this_person, write_down


def test_the_newest_comes_first_and_only_what_was_asked_about(tmp_path: Path) -> None:
    for number in range(12):
        write_down(tmp_path, "breaker-opened", detail=str(number))
        write_down(tmp_path, "clock-jumped")
    write_down(tmp_path, "breaker-reset", who="ada", why="ein Grund: «é»")
    found = happenings(tmp_path, "breaker-", most=3)
    assert [(each.what, each.detail) for each in found] == [
        ("breaker-reset", ""),
        ("breaker-opened", "11"),
        ("breaker-opened", "10"),
    ]
    assert (found[0].who, found[0].why) == ("ada", "ein Grund: «é»")
    assert found[0].at > 1_700_000_000


def test_a_line_that_a_crash_has_cut_is_left_out(tmp_path: Path) -> None:
    write_down(tmp_path, "clock-jumped", detail="first")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"at": 1, "what": "clock-j')
    assert [each.detail for each in happenings(tmp_path, "")] == ["first"]


def test_it_is_bounded_and_the_last_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chronicle, "_LONGEST_BYTES", 2_000)
    for number in range(200):
        write_down(tmp_path, "clock-jumped", detail=str(number), why="w" * 10_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 10_000
    assert happenings(tmp_path, "", most=2)[0].detail == "199"


def test_nothing_has_happened_yet(tmp_path: Path) -> None:
    assert happenings(tmp_path, "") == []


def test_who_acts_for_somebody_is_named_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    alone = this_person()
    monkeypatch.setenv("SUDO_USER", "ada")
    assert this_person() == f"ada as {alone}"
