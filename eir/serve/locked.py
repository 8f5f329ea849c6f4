"""Files that say by their lock that the process which made them lives.

    .<name>: created, locked, allocated ─▶ renamed to <name>

Promises that whoever finds the name finds a whole file, locked while its maker lives. Names that
begin with a dot are none yet.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def new_locked(path: Path, size: int) -> int:
    """Descriptor of a new file of so many zeros, 0600, which holds its lock until it is closed.

    Raises OSError where the disk has no room; then nothing is left.
    """
    scratch = path.with_name(f".{path.name}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.open(scratch, flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.posix_fallocate(file, 0, size)
        scratch.rename(path)
    except OSError:
        scratch.unlink()
        os.close(file)
        raise
    return file
