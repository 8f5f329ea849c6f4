"""A list's bytes in other hands: implementations that no one here wrote find the same members.

roaring-wasm (npm) is always asked; where it can't be, the test says so loudly, and in CI fails. The
Go implementation shares no source with the C one; it is asked where it is installed (see read.go).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eir.core import imeiset
from tests.core.strategies import CARDS, U64, stretch
from tests.feed import small

HERE = Path(__file__).parent
GO_SOURCE = Path("/usr/share/gocode/src/github.com/RoaringBitmap/roaring")
Reader = Callable[[bytes], dict[str, object]]


def at_random(count: int, below: int) -> U64:
    return np.unique(np.random.default_rng(7).integers(1, below, count, np.uint64))


LISTS: dict[str, U64] = {
    "nothing": small.array(),
    "one key": small.array(7),
    "the least and the greatest IMEI": small.array(1, 10**14 - 1),
    "the small generation's": small.WHITE,
    "a crowd": small.CROWD,
    "full containers about a bucket's border": small.span((1 << 32) - 70_000, 200_000),
    "every cardinality": np.concatenate(
        [stretch(n << 16, card, 1 + n % 3) for n, card in enumerate(CARDS * 3)]
    ),
    "seventeen containers of runs": np.concatenate([stretch(n << 16, 99, 1) for n in range(17)]),
    "at random": np.unique(np.random.default_rng(7).integers(1, 10**14, 20_000, np.uint64)),
    "at random and close": np.unique(
        np.random.default_rng(8).integers(1, 10**6, 300_000, np.uint64)
    ),
}


def run(command: list[str | Path], octets: bytes, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        command,
        input=octets,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return dict(json.loads(done.stdout))


def absent(why: str, *, needed: bool) -> None:
    if needed and os.environ.get("CI") == "true":
        pytest.fail(why)
    warnings.warn(f"NOT TESTED: a list read by another implementation: {why}", stacklevel=2)
    pytest.skip(why)


@pytest.fixture(scope="module")
def node() -> Reader:
    if shutil.which("node") is None or shutil.which("npm") is None:
        absent("node and npm are not installed", needed=True)
    sources = [HERE / "roaring_node" / n for n in ("package.json", "package-lock.json", "read.mjs")]
    stamp = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "eir-tests"
    folder = cache / f"roaring-{stamp}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, folder)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            absent(f"npm could not install roaring-wasm: {done.stderr[-400:]}", needed=True)
        (folder / "installed").touch()
    return lambda octets: run(["node", folder / "read.mjs"], octets)


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    if shutil.which("go") is None or not GO_SOURCE.exists():
        absent("Go and its Roaring package are not installed", needed=False)
    program = tmp_path_factory.mktemp("go") / "read"
    environment = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
    subprocess.run(
        ["go", "build", "-o", program, HERE / "roaring_go" / "read.go"],
        env={**os.environ, **environment},
        check=True,
        timeout=300,
    )
    return lambda octets: run([program], octets)


@pytest.fixture(params=["node", "go"])
def reader(request: pytest.FixtureRequest) -> Reader:
    found: Reader = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("name", LISTS)
def test_another_implementation_finds_the_same_members(reader: Reader, name: str) -> None:
    keys = LISTS[name]
    seen = hashlib.sha256(keys.astype("<u8").tobytes()).digest()
    assert reader(imeiset.build([keys]).data.tobytes()) == {
        "count": len(keys),
        "sha256": base64.b64encode(seen).decode(),
    }
