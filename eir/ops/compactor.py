"""The process that writes the next base: reads a base and the deltas since, writes, and ends.

Pinned: its order names session, serial and digest, and it writes that content or nothing. It comes
after everybody else (the last in turn, idle disk class, first to go when memory is short), has one
thread, and dies with its keeper. It touches no depot: the keeper decides what becomes of the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from eir.serve.courtesy import LAST, yield_to_answers

ONE_THREAD: Final = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
EXIT_GOOD: Final = 0
EXIT_TOLD: Final = 3

_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}
_IOPRIO_WHO_PROCESS, _IOPRIO_IDLE = 1, 3 << 13
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to write, and where. ``base``, ``chain``: descriptors of verified files; ``keeper``: the
    process that it is for.
    """

    feed: str
    registry_id: str
    session: str
    serial: int
    made_at: int
    digest: str
    base: int
    chain: int
    path: str
    keeper: int


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it. ``reason``: "" where the file is there, else why it is not.

    ``peak_bytes``: resident memory at most, mapped files included; ``busy_s``: processor time.
    """

    reason: str = ""
    detail: str = ""
    size: int = 0
    sha256: str = ""
    digest: str = ""
    peak_bytes: int = 0
    busy_s: float = 0.0


def compact(order: Order) -> Told:
    """Write the base. Faults of files and disk are told, never raised."""
    # What is heavy is loaded here, after the process has stepped back.
    from eir.errors import Conflict, Corrupt
    from eir.feed.codec import SnapshotHead, open_file, write_generation
    from eir.feed.delta_file import advance, decode_delta, read_frames

    try:
        with open(order.base, "rb") as base:
            generation = open_file(base, trusted=True)
        for raw in read_frames(order.chain):
            if generation.serial >= order.serial:
                break
            generation = advance(generation, *decode_delta(raw))
        reached = (generation.session, generation.serial, generation.digest)
        if reached != (order.session, order.serial, order.digest):
            return Told("compaction-digest", f"the deltas lead to {reached}")
        head = SnapshotHead(
            order.feed, order.registry_id, order.session, order.serial, order.made_at
        )
        facts = write_generation(Path(order.path), head, generation)
    except (Corrupt, Conflict) as fault:
        return Told("compaction-digest", str(fault))
    except OSError as fault:
        return Told("disk-error", f"{fault.strerror or fault}: {fault.filename or order.path}")
    except MemoryError:
        return Told("compaction-memory", "there is not enough memory for the next base")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Told(
        size=facts.size,
        sha256=facts.sha256,
        digest=facts.digest,
        peak_bytes=peak,
        busy_s=time.process_time(),
    )


def step_back(keeper: int) -> None:
    """Let everybody else go before this process, and end it with its keeper."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:
        sys.exit(EXIT_TOLD)
    yield_to_answers(LAST)
    number = _IOPRIO_SET.get(platform.machine())
    if number is not None:
        libc.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def main(words: str) -> int:
    """The life of the process; what came of it is one JSON line on standard output."""
    order = Order(**json.loads(words))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    step_back(order.keeper)
    told = compact(order)
    sys.stdout.write(json.dumps(asdict(told)) + "\n")
    return EXIT_TOLD if told.reason else EXIT_GOOD


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
