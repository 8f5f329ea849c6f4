"""A node as it is run: `eir serve` with its workers, on a small depot, under clients that press."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

from eir.client.node import NodeClient
from eir.errors import Unavailable
from eir.feed.codec import SnapshotHead, SnapshotWriter
from eir.serve.counters import living
from eir.store.depot import Depot
from eir.wire.v1 import admin_pb2
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc

SESSION = "8f9a2c1e-0000-4000-8000-000000000001"
DEVICES = np.arange(35_000_000_000_000, 35_000_000_000_400, dtype=np.uint64)
LISTS = ("white", "legacy", "black.stolen", "black.smuggled")
REASONS = {"white": 15, "legacy": 10, "black.stolen": 256, "black.smuggled": 259}
LONG = 180.0


def expected(serial: int) -> list[int]:
    """The reason of each device: in the next serial, another one for all of them."""
    order = LISTS[serial % 4 :] + LISTS[: serial % 4]
    return [REASONS[name] for name in order for _ in range(100)]


def publish(depot: Depot, serial: int) -> None:
    """Make a registry snapshot the depot's newest."""
    head = SnapshotHead("registry", "local", SESSION, serial, int(time.time()))
    writer = SnapshotWriter(head)
    order = LISTS[serial % 4 :] + LISTS[: serial % 4]
    for place, name in enumerate(order):
        keys = DEVICES[place * 100 : place * 100 + 100]
        reason = REASONS[name] if name.startswith("black.") else 0
        writer.add_list(name, [keys], reason_id=reason)
    depot.adopt(writer.write(depot.new_path()), head)


class RunningNode:
    """One `eir serve`, from start to a finish of whatever kind."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        self.depot = Depot(folder / "depot")
        self.config = folder / "eir.toml"
        self.config.write_text(settings)
        self.lines: list[str] = []
        self._said = threading.Condition()

    def start(self) -> RunningNode:
        program = "from eir.ops.cli.main import main; main()"
        self.keeper = subprocess.Popen(
            [sys.executable, "-c", program, "serve", "-c", str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.keeper,), daemon=True)
        self._reader.start()
        line = self.wait_for("answering on (.*)", "Refused|error:")
        self.address = line.split("answering on ")[1].split(", ")[0]
        return self

    def _read(self, keeper: subprocess.Popen[str]) -> None:
        assert keeper.stderr is not None
        for line in keeper.stderr:
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self.lines.append("error: its standard error ended")
            self._said.notify_all()

    def wait_for(self, pattern: str, otherwise: str = "^$") -> str:
        """The first line of the log that matches; fails at one that is ``otherwise``."""
        with self._said:

            def found() -> str | None:
                return next((x for x in self.lines if re.search(f"{pattern}|{otherwise}", x)), None)

            assert self._said.wait_for(found, LONG), f"never said {pattern!r}: {self.lines}"
            line = found()
        assert line is not None
        assert re.search(pattern, line), self.lines
        return line

    def status(self) -> admin_pb2.StatusReply:
        with NodeClient(f"unix:{self.depot.folder}/admin.sock", timeout=LONG) as client:
            return client.status()

    def reload(self) -> list[str]:
        with NodeClient(f"unix:{self.depot.folder}/admin.sock") as client:
            return list(client.reload(timeout=LONG).changes)

    def until(self, holds: Callable[[admin_pb2.StatusReply], bool]) -> admin_pb2.StatusReply:
        """The first status for which it holds; a keeper that is starting is waited for."""
        end = time.monotonic() + LONG
        status = None
        while time.monotonic() < end:
            with suppress(Unavailable):
                status = self.status()
                if holds(status):
                    return status
        raise AssertionError(f"never: the last status is {status}")

    def workers(self) -> set[int]:
        return set(living(self.depot.workers))

    def finish(self) -> None:
        self.keeper.send_signal(signal.SIGTERM)
        self.keeper.wait(LONG)
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)


class Press:
    """Clients on connections of their own, each asking batch after batch until stopped.

    For each client, ``good``: right answers by serial; ``lost``: calls that ended UNAVAILABLE;
    ``cut``: calls that ended CANCELLED, as grpc ends what reaches a server that is just closing.
    Anything else is in ``wrong``.
    """

    def __init__(self, address: str, clients: int) -> None:
        self.good: list[Counter[int]] = [Counter() for _ in range(clients)]
        self.lost = [0] * clients
        self.cut = [0] * clients
        self.wrong: list[str] = []
        self.stale = False
        self._over = threading.Event()
        self._address = address
        self._progress = threading.Condition()
        self._threads = [
            threading.Thread(target=self._ask, args=(client,)) for client in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, client: int) -> None:
        batch = wire.CheckBatchRequest(imei14=DEVICES.tolist())
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)]
        with grpc.insecure_channel(self._address, options) as channel:
            stub = wire_grpc.EligibilityStub(channel)
            while not self._over.is_set():
                try:
                    reply = stub.CheckBatch(batch, timeout=LONG)
                except grpc.RpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        with self._progress:
                            self.lost[client] += 1
                            self._progress.notify_all()
                        self._over.wait(0.01)
                    elif error.code() is grpc.StatusCode.CANCELLED:
                        self.cut[client] += 1
                    else:
                        self.wrong.append(f"{error.code()}: {error.details()}")
                    continue
                if list(reply.reason) != expected(reply.registry_serial):
                    self.wrong.append(f"serial {reply.registry_serial}: {list(reply.reason)}")
                self.stale = self.stale or reply.stale
                with self._progress:
                    self.good[client][reply.registry_serial] += 1
                    self._progress.notify_all()

    def answered(self, more: int, serial: int | None = None) -> None:
        """Wait until every client that still gets answers has so many more of them."""
        with self._progress:
            before = [self._of(c, serial) for c in range(len(self.good))]

            def enough() -> bool:
                counts = enumerate(before)
                return all(self._of(client, serial) >= count + more for client, count in counts)

            assert self._progress.wait_for(enough, LONG), (before, self.good, self.wrong)

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that answers, or lost calls, bring about."""
        with self._progress:
            assert self._progress.wait_for(holds, LONG), (self.good, self.lost, self.wrong)

    def _of(self, client: int, serial: int | None) -> int:
        return self.good[client][serial] if serial else self.good[client].total()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LONG)
        assert not self.wrong, self.wrong[:3]
        assert max(self.cut) <= 2, "more than what was on its way when each worker closed"


SETTINGS = """
[node]
depot = "depot"
[grpc]
listen = ["127.0.0.1:0", "unix:grpc.sock"]
drain_seconds = 5
engine = "ENGINE"
[metrics]
listen = "127.0.0.1:0"
[workers]
count = 2
stale_after_seconds = 1
"""


@pytest.fixture
def engine() -> str:
    """Of the gRPC door; a test that holds for both is parametrized by it."""
    return "grpcio"


@pytest.fixture
def new_node(tmp_path: Path, engine: str) -> Iterator[Callable[..., RunningNode]]:
    """Start a node with two workers that serve serial 1, unless told otherwise."""
    made: list[RunningNode] = []

    def start(*, serial: int = 1, settings: str = SETTINGS) -> RunningNode:
        node = RunningNode(tmp_path, settings.replace("ENGINE", engine))
        if serial and not node.depot.kept("registry"):
            publish(node.depot, serial)
        made.append(node)
        return node.start()

    yield start
    for node in reversed(made):
        if node.keeper.poll() is None:
            node.finish()
        for pid in node.workers():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def one_port() -> str:
    """Settings with a port that is free now, so that a successor can have the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return SETTINGS.replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)


@contextmanager
def pressed(node: RunningNode, clients: int = 12) -> Iterator[Press]:
    """The node under load. At the end: every answer was right, and errors were of the kinds that
    tell a client to ask again.
    """
    press = Press(node.address, clients)
    try:
        press.answered(3)
        yield press
    finally:
        press.stop()


@pytest.fixture
def press() -> Callable[..., object]:
    return pressed


@pytest.fixture
def reasons_of() -> Callable[[int], list[int]]:
    return expected


@pytest.fixture
def publish_serial() -> Callable[[Depot, int], None]:
    return publish
