"""A node that is told to stop while it starts, and a reload that is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from eir.errors import Refused
from eir.ops.following import Following
from eir.ops.keeper import Keeper
from eir.ops.settings.config import read_config
from eir.ops.stopping import done_before, stop_on_signals
from tests.ops.conftest import write_config


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_cuts_a_start_off_and_what_it_had_is_undone(number):
    stopped, unwound = stop_on_signals(lambda: None), asyncio.Event()

    async def start() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            unwound.set()

    assert not await asyncio.wait_for(done_before(stopped, start()), 30)
    assert unwound.is_set()


async def test_a_start_that_comes_to_its_end_is_done_or_raises():
    async def fails() -> None:
        raise Refused("listen-failed", "taken")

    assert await done_before(asyncio.Event(), asyncio.sleep(0))
    with pytest.raises(Refused):
        await done_before(asyncio.Event(), fails())


class Refuses:
    def reload(self) -> None:
        raise Refused("tls-unreadable", "no such file")


async def test_a_reload_that_is_refused_has_swapped_nothing(tmp_path: Path, monkeypatch):
    path = write_config(tmp_path)
    config = read_config(path.read_text(), name=str(path), folder=tmp_path)
    keeper = Keeper(config, config_path=path)
    taken = []

    async def take_up(_: Keeper, config: object) -> None:
        taken.append(config)

    monkeypatch.setattr(Keeper, "_take_up", take_up)
    monkeypatch.setattr(keeper, "_admin", Refuses())
    with pytest.raises(Refused):
        await keeper.reload("SIGHUP")
    assert (taken, keeper.reloads()["refused"]) == ([], 1)


def test_a_run_gives_up_a_loop_that_has_ended(monkeypatch):
    """Nothing runs on this loop any more: who waits for it waits for ever."""
    monkeypatch.setattr("eir.ops.following._LOOK_SECONDS", 0.01)
    following = Following.__new__(Following)
    following._over = threading.Event()
    following._over.set()
    following._serve = lambda: asyncio.sleep(0)
    loop = asyncio.new_event_loop()
    reached = type("Reached", (), {"serial": 7})()
    with pytest.raises(Refused) as refused:
        following._publish(loop, reached)
    assert refused.value.reason == "fetch-cut"
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
