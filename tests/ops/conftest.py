"""A command line run in this process, and nodes run as processes of their own."""

import contextlib
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from eir.ops import cli, console

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'eir'; import eir.ops.cli as c; c.main()",
)
PATIENCE_S = 60.0


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


def started(*words: object) -> subprocess.Popen[bytes]:
    """``eir`` as a process of its own, its standard error to be read."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [*PROGRAM, *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)


class Node:
    """``eir serve`` of one folder, which holds ``eir.toml``."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "eir.toml"
        self.log = ""
        self.process = started("serve", "--config", self.config)

    def wait_for(self, text: str) -> None:
        """Until this stands in the log."""
        assert self.process.stderr is not None
        until = time.monotonic() + PATIENCE_S
        while text not in self.log:
            left = until - time.monotonic()
            assert left > 0, f"{text!r} never came: {self.log}"
            if select.select([self.process.stderr], [], [], left)[0]:
                piece = os.read(self.process.stderr.fileno(), 65_536).decode()
                assert piece or text in self.log, f"ended without {text!r}: {self.log}"
                self.log += piece

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=PATIENCE_S)
        self.log += rest.decode()
        return self.process.returncode


def write_config(folder: Path, more: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = '[node]\ndepot = "depot"\n\n[grpc]\nlisten = ["unix:door"]\n'
    (folder / "eir.toml").write_text(text + more)
    return folder / "eir.toml"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Node]:
    node = Node(folder)
    try:
        node.wait_for("answering on")
        yield node
    finally:
        if node.process.poll() is None:  # killed, it would leave its workers behind
            node.stop()


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
    """A copy of it, for one test."""
    sockets = shutil.ignore_patterns("door", "*.sock")
    return Path(shutil.copytree(loaded, tmp_path / "node", ignore=sockets))
