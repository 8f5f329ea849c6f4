"""Work beside the answering, and how it gives way."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

_NICE: Final = 10
_TURN_SECONDS: Final = 0.000_5


def yield_to_answers() -> None:
    """Whoever answers goes before this thread of the keeper, which does what nobody waits for.

    Not for a thread of a worker: there it would hold the interpreter lock while others run.
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def take_short_turns() -> None:
    """A thread of this process that waits for the interpreter asks for it after half a
    millisecond, not after five: whoever answers beside a take-up of new data.
    """
    sys.setswitchinterval(_TURN_SECONDS)
