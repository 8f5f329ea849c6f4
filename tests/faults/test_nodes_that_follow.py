"""Nodes under load that follow a feed, while it is slow, they are reloaded, stopped and killed."""

from __future__ import annotations

import functools
import http.server
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eir.feed.keys import key_text
from tests.core.contents import Content, Listed
from tests.faults.conftest import DEVICES, LISTS, LONG
from tests.scenarios.nation import Nation
from tests.scenarios.world import ROOT

FEED = """
[feed]
url = "http://127.0.0.1:{port}"
root_key = "{root}"
registry = "nation"
every = 1
[guard]
max_newly_refused = 100000
"""


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; while ``holding``, a file's bytes wait after the first half of them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.folder = folder
        self.holding = False
        self.half_sent, self.released = threading.Event(), threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A node that was killed hangs up."""

    def let_go(self) -> None:
        self.holding = False
        self.released.set()


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None: ...

    def copyfile(self, source, outputfile) -> None:
        raw = source.read()
        immutable = self.path.startswith(("/delta-", "/snapshot-"))
        half = len(raw) // 2 if immutable and self.server.holding else len(raw)
        outputfile.write(raw[:half])
        if half < len(raw):
            outputfile.flush()
            self.server.half_sent.set()
            self.server.released.wait(LONG)
        outputfile.write(raw[half:])


def content(serial: int) -> Content:
    """Each serial has every device on another list, as ``expected`` says."""
    order = LISTS[serial % 4 :] + LISTS[: serial % 4]
    keys = [DEVICES[place * 100 : place * 100 + 100].tolist() for place in range(4)]
    return {
        name: Listed(frozenset((key,) for key in some))
        for name, some in zip(order, keys, strict=True)
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "nation").mkdir()
    server = Server(tmp_path / "nation" / "feed")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.let_go()
    server.shutdown()
    server.server_close()


@pytest.fixture
def nation(tmp_path: Path, server: Server) -> Nation:
    nation = Nation(tmp_path / "nation", now=int(time.time()) - 100)
    nation.publish(content(1))
    return nation


@pytest.fixture
def settings(one_port: str, server: Server) -> str:
    return one_port + FEED.format(port=server.server_port, root=key_text(ROOT.public, "root"))


def serials(status) -> list[int]:
    return [worker.serials.get("registry", 0) for worker in status.workers]


def test_readers_during_every_swap(new_node, press, nation, settings):
    node = new_node(serial=0, settings=settings)
    node.until(lambda s: serials(s) == [1, 1])
    with press(node) as load:
        for serial in range(2, 6):
            nation.now += 1
            assert nation.publish(content(serial)).head.serial == serial
            load.answered(3, serial)
    assert not any(load.lost + load.cut)
    (generation,) = node.status().generations
    assert generation.origin.digest == nation.digest()


def in_mid_download(node, nation, server, serial):
    server.holding = True
    nation.now += 1
    nation.publish(content(serial))
    assert server.half_sent.wait(LONG)


def test_a_reload_in_the_middle_of_a_sync(new_node, press, nation, server, settings):
    node = new_node(serial=0, settings=settings)
    node.until(lambda s: serials(s) == [1, 1])
    with press(node) as load:
        in_mid_download(node, nation, server, 2)
        node.config.write_text(node.config.read_text() + '[policy.status]\ngrace = "WHITELISTED"\n')
        assert node.reload() == ["policy: status changed"]
        load.answered(3, 1)
        server.let_go()
        load.answered(3, 2)
    assert not any(load.lost + load.cut)


def test_stopped_in_mid_download_it_ends_soon_and_goes_on_after(new_node, nation, server, settings):
    node = new_node(serial=0, settings=settings)
    node.until(lambda s: serials(s) == [1, 1])
    in_mid_download(node, nation, server, 2)
    begun = time.monotonic()
    node.keeper.send_signal(signal.SIGTERM)
    assert node.keeper.wait(LONG) == 0
    assert time.monotonic() - begun < 20
    server.let_go()
    successor = new_node(serial=0, settings=settings)
    successor.until(lambda s: serials(s) == [2, 2])


def test_a_keeper_killed_in_mid_download(new_node, press, nation, server, settings):
    node = new_node(serial=0, settings=settings)
    node.until(lambda s: serials(s) == [1, 1])
    with press(node) as load:
        in_mid_download(node, nation, server, 2)
        node.keeper.kill()
        node.keeper.wait()
        load.answered(3, 1)
        load.until(lambda: load.stale)
        server.let_go()
        successor = new_node(serial=0, settings=settings)
        successor.until(lambda s: serials(s) == [2, 2])
        load.answered(3, 2)
    (generation,) = successor.status().generations
    assert generation.origin.digest == nation.digest()
