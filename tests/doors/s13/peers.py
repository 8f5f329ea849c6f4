"""Peers that no one here wrote: asked for loudly, and never missing in CI."""

import asyncio
import importlib.util
import os
import shutil
import warnings
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / "peers"


def needs(name: str, found: object) -> None:
    """Skip, loudly, without this peer; with CI=true its absence is a failure."""
    if found:
        return
    words = f"{name} is not installed: run tests/peers/install.sh (and pip install .[peers])"
    if os.environ.get("CI") == "true":
        pytest.fail(words, pytrace=False)
    warnings.warn(words, stacklevel=2)
    pytest.skip(words)


def needs_program(*names: str) -> None:
    for name in names:
        needs(name, shutil.which(name))


def needs_module(name: str) -> None:
    needs(name, importlib.util.find_spec(name))


async def run(*words: str, timeout: float = 60, **how) -> str:
    """A peer's standard output; its failure, with what it said, is the test's."""
    child = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **how
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), timeout)
    except TimeoutError:
        child.kill()
        out, err = await child.communicate()
        pytest.fail(f"{words[0]} did not end: {out.decode()}{err.decode()}")
    assert child.returncode == 0, f"{words}: {out.decode()}\n{err.decode()}"
    return out.decode()
