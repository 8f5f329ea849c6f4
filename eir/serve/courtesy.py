"""Work beside the answering, and how it gives way.

Niceness counts among the tasks of one scheduling group, and Linux has one for each session
(sched(7), "The autogroup feature"). So a node's processes stay in the session that they were
started in: each has a process group of its own, none a session.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import threading
from typing import Final

BEHIND, LAST = 10, 19
"""Niceness of what should be done soon, about a tenth of a busy core; and of what can wait."""

_SLICE_NS: Final = 500_000
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES: Final = struct.Struct("<IIQiIQQQ")
_TURN_SECONDS: Final = 0.000_5


def yield_to_answers(nice: int = BEHIND) -> None:
    """Whoever answers goes before the calling thread, which does what nobody waits for.

    Its turns are short besides, as far as the system lets a thread say so (Linux 6.12): its share
    is then taken in many pieces, none of which an answer feels.

    Not for a thread of a worker: there it would hold the interpreter lock while others run.
    """
    thread = threading.get_native_id()
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None:
        size = _ATTRIBUTES.size
        wanted = _ATTRIBUTES.pack(size, os.SCHED_BATCH, 0, nice, 0, _SLICE_NS, 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(number, thread, wanted, 0) == 0:
            return
    os.setpriority(os.PRIO_PROCESS, thread, nice)


def take_short_turns() -> None:
    """A thread of this process that waits for the interpreter asks for it after half a
    millisecond, not after five: whoever answers beside a take-up of new data.
    """
    sys.setswitchinterval(_TURN_SECONDS)
