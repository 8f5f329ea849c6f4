"""Machine code is kept under a stamp of all that it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.core import jit


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("limits.py", "core/jit.py", "core/layout.py", "serve/guard.py", "ops/keeper.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("A = 1\n")
    (tmp_path / "serve/guard.py").write_text("@compiled\n")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "core/jit.py"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("limits.py", True),
        ("core/layout.py", True),
        ("serve/guard.py", True),
        ("ops/keeper.py", False),
    ],
)
def test_a_constant_that_the_kernel_takes_in_changes_the_stamp(
    house: Path, name: str, counts: bool
) -> None:
    before = jit._stamp()
    (house / name).write_text("@compiled\n\nA = 2\n" if "guard" in name else "A = 2\n")
    assert (jit._stamp() != before) is counts
