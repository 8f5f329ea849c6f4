"""The control page: written whole, read at once by everybody, and there again after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.serve.control import MINUTES, RESET, RESET_AS_NORMAL, Control, open_control


def test_whoever_has_it_mapped_sees_a_word_at_once(tmp_path: Path) -> None:
    keeper, worker = (open_control(tmp_path / "control") for _ in range(2))
    assert worker.open_since == 0
    keeper.open_breaker(1_700_000_000)
    assert worker.open_since == 1_700_000_000
    keeper.stand_still(1_600_000_000, jumped_by=-40)
    assert worker.grace_time(1_700_000_000, 1_700_000_000) == 1_600_000_000
    assert worker.jumped_by == -40


def test_it_outlives_everybody(tmp_path: Path) -> None:
    page = open_control(tmp_path / "control")
    page.open_breaker(7)
    page.learn(12)
    page.look_at(5.5, 2.25, 9)
    del page
    again = open_control(tmp_path / "control")
    assert (again.open_since, again.baseline, again.known_minutes) == (7, 12.0, 1)
    assert again.looked_at == (5.5, 2.25, 9)


def test_what_is_no_page_begins_anew_and_is_never_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "control"
    path.write_bytes(b"\xff" * 100)
    inode = path.stat().st_ino
    assert open_control(path).open_since == 0
    assert path.stat().st_ino != inode
    size = path.stat().st_size
    path.write_bytes(b"\xff" * size)
    page = open_control(path)
    assert (page.open_since, page.grace_stands_at, page.baseline) == (0, 0, 0.0)
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("now", "reach", "lease", "stands", "is_now"),
    [
        (100, 200, 0, 0, 100),
        (300, 200, 0, 0, 200),
        (100, 200, 90, 0, 90),
        (100, 200, 110, 0, 100),
        (100, 200, 110, 50, 50),
        (20, 200, 110, 50, 50),
        (300, 40, 310, 50, 40),
    ],
    ids=["moves", "data", "nobody-looks", "lease", "stands", "stands-when-set-back", "rollback"],
)
def test_grace_time(now: int, reach: int, lease: int, stands: int, is_now: int) -> None:
    page = Control()
    page.let_move_until(lease)
    if stands:
        page.stand_still(stands, jumped_by=0)
    assert page.grace_time(now, reach) == is_now


def test_a_day_is_remembered_and_no_more() -> None:
    page = Control()
    for minute in range(MINUTES + 10):
        page.learn(1_000 if minute < 10 else 4)
    assert (page.known_minutes, page.baseline) == (MINUTES, 4.0)


def test_what_is_normal_raises_the_known_minutes_alone() -> None:
    page = Control()
    for refusals in (2, 50, 4):
        page.learn(refusals)
    page.take_as_normal(10)
    assert page.minutes[:4].tolist() == [10, 50, 10, 0]


def test_what_was_said_is_heard_once() -> None:
    page = Control()
    page.open_breaker(1)
    page.reset_breaker(RESET_AS_NORMAL)
    assert (page.open_since, page.heard(), page.heard()) == (0, RESET_AS_NORMAL, 0)
    assert RESET != RESET_AS_NORMAL
