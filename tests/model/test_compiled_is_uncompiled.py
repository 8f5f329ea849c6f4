"""Law 10's other half: compiled or not, the same source gives the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def said(**environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.corpus"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout))


def test_compiled_is_uncompiled() -> None:
    compiled, plain = said(NUMBA_DISABLE_JIT="0"), said(NUMBA_DISABLE_JIT="1")
    assert (compiled.pop("compiled"), plain.pop("compiled")) == (True, False)
    assert compiled == plain
    assert set(plain["rows"]) == {str(row) for row in range(1, 17)}  # type: ignore[call-overload]
