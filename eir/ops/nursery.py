"""The nursery: the process that workers fork from, with everything loaded and nothing started.

    keeper ─ prove ─▶ the kernel is loaded, and proven on a small nation
           ◀─ proven, or it ends ─
           ─ commission + one end of a pair ─▶ fork; the child is a worker, and speaks for itself

It has one thread, always: what a second one holds at a fork, the child never gets back. So grpc is
imported here and started by nobody. It ends with its keeper; the workers go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from eir.core.golden import golden_tables, verify_kernel
from eir.core.jit import CACHE_FOLDER
from eir.core.sighting import verify_noting
from eir.doors.s13_door import run_loop
from eir.errors import Refused
from eir.ops.doors import open_doors
from eir.ops.logs import start_logging
from eir.ops.settings.config import Config
from eir.ops.settings.outbox_config import FOLDER, RINGS
from eir.serve import control
from eir.serve.checker import Checker
from eir.serve.events import EventsFile
from eir.serve.handover import new_pair, receive, send
from eir.serve.holder import Holder
from eir.serve.sighting_ring import Noting, RingFile
from eir.serve.worker import Worker

_log = logging.getLogger("eir.ops.nursery")

_PROVE = b"prove"
_PROVE_NOTING = b"prove, and noting"
_PROVEN = b"proven"


@dataclass(frozen=True, slots=True)
class Commission:
    """What a worker is to be: its place, from 0, and the settings of the node.

    ``state_id`` is greater than that of any worker before: S13's Origin-State-Id. ``take_over``:
    the workers of a dead keeper answer yet, and a Unix socket's name is taken from them.
    """

    slot: int
    config: Config
    folder: Path
    state_id: int
    take_over: bool = False


class Nursery:
    """The keeper's end. Starts loading at once."""

    def __init__(self, config: Config) -> None:
        ours, theirs = new_pair()
        command = [sys.executable, "-P", "-m", "eir.ops.nursery", str(theirs.fileno())]
        command += [config.node.log_level, str(int(config.node.json_logs))]
        with theirs:
            self._child = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                process_group=0,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        ours.setblocking(False)
        self._end = ours
        self._noting = config.sightings is not None

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._child.pid

    async def prove(self) -> None:
        """Have the golden table pass through the compiled kernel; nobody serves before.

        Raises Refused ``kernel-unproven``.
        """
        try:
            send(self._end, _PROVE_NOTING if self._noting else _PROVE)
            said = await asyncio.get_running_loop().sock_recv(self._end, len(_PROVEN))
        except (BrokenPipeError, ConnectionResetError):
            said = b""
        if said != _PROVEN:
            raise Refused(
                "kernel-unproven",
                "the compiled kernel did not give the answers that it must; the log has the first"
                " that is wrong",
            )

    def fork(self, commission: Commission, worker_end: socket.socket) -> None:
        """A new worker at the other end of a pair. Raises OSError where the nursery is gone."""
        send(self._end, pickle.dumps(commission), [worker_end.fileno()])

    def close(self) -> None:
        """Let it end, and wait for it: it has nothing to finish."""
        self._end.close()
        self._child.kill()
        self._child.wait()


def main(descriptor: int, log_level: str, json_logs: bool) -> None:
    """The nursery's life; in a forked child, the worker's."""
    start_logging(log_level, as_json=json_logs)
    keeper = socket.socket(fileno=descriptor)
    new_loop = run_loop()
    signal.signal(signal.SIGCHLD, _bury)
    while (heard := receive(keeper)) is not None:
        message, files = heard
        if message in (_PROVE, _PROVE_NOTING):
            verify_kernel()
            if message == _PROVE_NOTING:
                verify_noting()
            send(keeper, _PROVEN)
            gc.collect()
            gc.freeze()  # the collector would write to pages that forks share
            continue
        threads = os.listdir("/proc/self/task")
        if len(threads) != 1:
            raise RuntimeError(f"{len(threads)} threads: a fork would copy what they hold")
        if os.fork() == 0:
            keeper.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _live(message, files[0], new_loop)
        os.close(files[0])


def _live(
    message: bytes, keeper: int, new_loop: Callable[[], asyncio.AbstractEventLoop] | None
) -> NoReturn:
    """The child's life, and its end: threads of grpc that still run can't hold it up."""
    code = 1
    try:
        commission = cast(Commission, pickle.loads(message))  # noqa: S301 (our own keeper's)
        runner = asyncio.Runner(loop_factory=new_loop)
        runner.run(_work(commission, socket.socket(fileno=keeper)))
        code = 0
    finally:
        if code:
            _log.critical("the worker ends", exc_info=True)
        logging.shutdown()
        os._exit(code)


async def _work(commission: Commission, keeper: socket.socket) -> None:
    config, holder = commission.config, Holder()
    keeper.setblocking(False)
    opening = partial(
        open_doors,
        config,
        Checker(holder),
        holder,
        only_one=commission.slot == 0,
        events=EventsFile(commission.folder).events,
        state_id=commission.state_id,
        take_over=commission.take_over,
    )
    await Worker(
        keeper,
        holder,
        folder=commission.folder,
        open_doors=opening,
        stale_after_seconds=config.workers.stale_after_seconds,
        noting=_noting(config),
        control=control.open_control(config.node.depot / control.NAME),
    ).run()


def _noting(config: Config) -> Callable[[NDArray[np.uint16]], Noting | None]:
    """Where sightings are told, a ring of this process's own."""
    if config.sightings is None:
        return lambda _: None
    ring = RingFile(config.node.depot / FOLDER / RINGS)
    return partial(ring.noting, census=config.sightings.census)


def was_proven(*, noting: bool) -> bool:
    """Whether this very code was compiled and proven here before, so that a start is quick."""
    return _mark(noting).exists()


def _mark(noting: bool) -> Path:
    """Lies with the machine code, which is kept for each place that the code lies at."""
    place = hashlib.sha256(__file__.encode()).hexdigest()[:16]
    return Path(CACHE_FOLDER, f"proven-{place}{'-noting' * noting}")


def prove_kernel(*, noting: bool) -> None:
    """Compile what is not yet, so that neither the nursery nor `explain` waits; and prove it.

    Raises Refused ``kernel-unproven``.
    """
    try:
        verify_kernel()
        if noting:
            verify_noting()
    except RuntimeError as wrong:
        raise Refused("kernel-unproven", str(wrong)) from wrong
    golden_tables().facts(0, 0, 0, now=0, grace_time=0)
    with contextlib.suppress(OSError):  # nothing is kept either: the next start compiles again
        _mark(noting).touch()


def _bury(*_: object) -> None:
    """Take note of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        if code:
            why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            _log.error("worker process %d ended by %s", pid, why)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3] == "1")
