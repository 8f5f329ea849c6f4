"""When a node is told to stop: heard from its first moment, and obeyed at any.

Ends nothing itself: says that it is time.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine


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
