"""When a node is told to stop: heard from its first moment, and obeyed at any.

Ends nothing itself: says that it is time, and for whom nobody waits.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

SYNCING: Final = "sync"
"""How the threads are called in which runs of a feed go on."""
STARTING: Final = "start"
"""How the thread is called in which a node compiles, verifies and builds before its doors open."""


@contextmanager
def unwaited() -> Iterator[ThreadPoolExecutor]:
    """A thread to start in: who is told to stop meanwhile goes without it."""
    aside = ThreadPoolExecutor(1, STARTING)
    try:
        yield aside
    finally:
        aside.shutdown(wait=False, cancel_futures=True)


def someone_is_left() -> bool:
    """Whether a thread goes on that the process need not wait for, and would."""
    names = [thread.name for thread in threading.enumerate()]
    return any(name.startswith((SYNCING, STARTING)) for name in names)


def stop_on_signals(hang_up: Callable[[], None]) -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on; SIGHUP calls ``hang_up``."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return stopped


async def done_before(stopped: asyncio.Event, starting: Coroutine[object, object, None]) -> bool:
    """Whether it came to its end before the node was told to stop; cut off, it has unwound.

    Raises what it raises.
    """
    begun, stopping = asyncio.create_task(starting), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((begun, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        begun.cancel()
        await asyncio.wait((begun,))
    if begun.cancelled():
        return False
    begun.result()
    return True
