"""A publisher's desk: one run at a time, and nothing of a killed one stays."""

from pathlib import Path

import pytest

from eir.errors import Conflict
from eir.feed.publish import Habits
from eir.ops.demo.registry import demo_registry
from eir.ops.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return demo_registry(tmp_path).desk


def test_a_second_run_at_one_desk_is_told_to_come_again(desk: Desk) -> None:
    with desk.at_work(Habits()), pytest.raises(Conflict, match="another run"):
        desk.at_work(Habits()).__enter__()
    with desk.at_work(Habits()) as publisher:
        assert publisher.folder == desk.folder


def test_what_a_killed_run_left_in_the_making_goes(desk: Desk) -> None:
    kept = {path.name for path in desk.folder.iterdir()}
    loading = desk.loading()
    (loading.__enter__() / "lists").write_bytes(b"half")
    (desk.folder / ".snapshot-7-aa.part").write_bytes(b"half")
    (desk.folder / "retired.json").write_text("{}")
    with desk.at_work(Habits()):
        left = {path.name for path in desk.folder.iterdir()}
    assert left - kept == {"retired.json", ".lock"}


def test_lists_in_the_making_are_gone_at_the_end(desk: Desk) -> None:
    with desk.loading() as folder:
        assert folder.parent == desk.folder
    assert not folder.exists()
