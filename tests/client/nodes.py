"""Nodes to ask, each a process of its own that listens with the real door.

A stopped process (SIGSTOP) is a node that hangs, a killed one a node that dies in mid-flight. Their
verdicts follow from the identifiers, so that any mix-up shows; the registry serial is the node's
own number, and the operator serial counts its messages, so that who shared a message shows.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
from numpy.typing import NDArray

from eir.core.policy import FIXED_REASONS
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.errors import Unavailable
from eir.serve.checker import Answer

NAMES = {number: name for name, number in FIXED_REASONS.items()}
NAMES |= {256: "stolen", 600: "by-decree", 40_000: "unpaid"}
REASONS = np.array(list(NAMES), np.uint16)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.client.nodes"])


def expected(imei: int, msisdn: int, imsi: int) -> tuple[int, str, int]:
    """(status, reason name, valid_until) that every node answers."""
    mixed = imei + 3 * msisdn + 7 * imsi
    return mixed % 4 + 1, NAMES[int(REASONS[mixed % len(REASONS)])], mixed % 2**40


@dataclass(slots=True)
class Verdicts:
    """The checker behind the door of node ``number``."""

    number: int
    ready: bool
    messages: int = 0

    def check(
        self, imei: NDArray[np.uint64], msisdn: NDArray[np.uint64], imsi: NDArray[np.uint64]
    ) -> Answer:
        if not self.ready:
            raise Unavailable("nothing serves")
        self.messages += 1
        mixed = imei + np.uint64(3) * msisdn + np.uint64(7) * imsi
        status = (mixed % 4 + 1).astype(np.uint8)
        return Answer(
            status=status,
            decided=status,
            code=status,
            reason=REASONS[mixed % len(REASONS)],
            valid_until=(mixed % 2**40).astype(np.int64),
            registry_serial=self.number,
            operator_serial=self.messages,
            stale=False,
            reason_names=NAMES,
        )


def run(told: Connection, number: int, ready: bool, settings: dict[str, object]) -> None:
    """The process: listen, tell the address, serve until killed."""

    async def forever() -> None:
        chosen = GrpcSettings(**{"listen": ("127.0.0.1:0",), **settings})
        door = GrpcDoor(chosen, Verdicts(number, ready))
        await door.start()
        told.send(door.addresses[0])
        await asyncio.Event().wait()

    asyncio.run(forever())


@dataclass(frozen=True, slots=True)
class Node:
    """One running node."""

    address: str
    number: int
    child: BaseProcess

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def die(self) -> None:
        self.child.kill()
        self.child.join()

    def _signal(self, number: int) -> None:
        assert self.child.pid is not None
        os.kill(self.child.pid, number)


def start(number: int, *, ready: bool = True, **settings: object) -> Node:
    here, there = CONTEXT.Pipe()
    child = CONTEXT.Process(target=run, args=(there, number, ready, settings), daemon=True)
    child.start()
    assert here.poll(60)
    return Node(here.recv(), number, child)
