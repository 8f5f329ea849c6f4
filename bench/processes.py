"""Starting what is measured, and ending all of it, whoever started it and however the run ends.

Promises that after ``swept`` no process lives that was started within it: children of scripts that
were killed come back to this process, which ends them too. Never runs Python between fork and exec:
that waits for ever where another thread (gRPC has some) held a lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Final

from bench.machine import process_tree

_PR_SET_CHILD_SUBREAPER: Final = 36
_PATIENCE_S: Final = 10.0


class TooLong(BaseException):
    """A part did not end within its time. No border within the part may take it for a fault."""


@contextlib.contextmanager
def held_to(cpus: Iterable[int]) -> Iterator[None]:
    """What this thread starts meanwhile is held to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def ends_on_request() -> None:
    """Have SIGTERM end this process as Ctrl-C does, once; orphans of what it started are its own.

    A second signal does not cut short what the first one ends.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, end)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLong in what takes longer; in the main thread only."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TooLong(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def swept() -> Iterator[None]:
    """End all that still lives of what was started within."""
    try:
        yield
    finally:
        sweep()


def sweep() -> None:
    """End every descendant of this process: asked first, by force after ten seconds."""
    for number, patience in ((signal.SIGTERM, _PATIENCE_S), (signal.SIGKILL, _PATIENCE_S)):
        left = _living()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + patience
        while left and time.monotonic() < until:
            time.sleep(0.05)
            left = _living()
        if not left:
            return
    print(f"STILL THERE: processes {_living()}", file=sys.stderr)


def _living() -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return [pid for pid in process_tree(os.getpid()) if pid != os.getpid()]
