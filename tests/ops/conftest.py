"""A command line run in this process, and nodes run as processes of their own."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from eir.ops import console
from eir.ops.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'eir'; import eir.ops.cli.main as c; c.main()",
)
PATIENCE_S = 60.0
MARK = "EIR_TEST_LOG"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, object]:
        return json.loads(self.out)


def run(*words: object) -> Ran:
    """``eir`` with these words, by its entry point."""
    out, err = io.StringIO(), io.StringIO()
    console.out.width = 200
    with (
        patch.object(sys, "argv", ["eir", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def started(*words: object, log: Path) -> subprocess.Popen[bytes]:
    """``eir`` as a process of its own, with a session of its own; what it says goes to ``log``.

    A file and not a pipe: workers that outlive their keeper would hold a pipe open. All that comes
    of it bears the mark of the log.
    """
    environ = {**os.environ, "PYTHONPATH": str(ROOT), MARK: str(log)}
    command = [*PROGRAM, *map(str, words)]
    with log.open("wb") as said:
        return subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=environ, start_new_session=True
        )


def until(holds: Callable[[], bool], what: str) -> None:
    """Waits for a condition."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.002)


class Node:
    """``eir serve`` of one folder, which holds ``eir.toml``."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "eir.toml"
        self._said = folder / f"{time.monotonic_ns()}.log"
        self.process = started("serve", "--config", self.config, log=self._said)

    @property
    def log(self) -> str:
        return self._said.read_text()

    def wait_for(self, text: str) -> None:
        """Until this stands in the log."""
        until(lambda: text in self.log or self.process.poll() is not None, text)
        assert text in self.log, f"{text!r} never came: {self.log}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """Whatever is left, workers included: they outlive their keeper, in a session of theirs."""
        mark = f"{MARK}={self._said}\0".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environ.read_bytes():
                    os.kill(int(environ.parent.name), signal.SIGKILL)
        self.process.wait(PATIENCE_S)


def write_config(folder: Path, more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = '[node]\ndepot = "depot"\n\n[grpc]\nlisten = ["unix:door"]\n\n[workers]\ncount = 1\n'
    (folder / "eir.toml").write_text(text + more)
    return folder / "eir.toml"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Node]:
    node = Node(folder)
    try:
        node.wait_for("answering on")
        yield node
    finally:
        node.end()


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """List files of a small sample registry."""
    folder = tmp_path_factory.mktemp("lists")
    assert run("sample", folder, "--devices", 3000).code == 0
    return folder


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory, lists: Path) -> Path:
    """A folder with a configuration, and a depot with both feeds of the sample, to be left so."""
    folder = tmp_path_factory.mktemp("node")
    plmns = '\n[policy]\nhome_plmns = ["43211", "43220", "43235"]\n'
    config = write_config(folder, plmns)
    for feed in ("registry", "operator"):
        ran = run("load", lists / f"{feed}.toml", "--config", config)
        assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def folder(loaded: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test, of which nothing served yet."""
    elsewhere = shutil.ignore_patterns("door", "*.sock", "served.jsonl", "policies")
    return Path(shutil.copytree(loaded, tmp_path / "node", ignore=elsewhere))
