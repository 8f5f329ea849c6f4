"""What befell a node, and what people did about it: one JSON line each, appended, never changed.

    depot/events.jsonl    at   Unix seconds    what   a code    who, why   where a person did it

The file is bounded: the older half of it is moved to ``events.jsonl.old`` in its time.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_NAME: Final = "events.jsonl"
_LONGEST_BYTES: Final = 1 << 20
_LONGEST_WORDS_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class Happening:
    """One line. ``detail``: figures, in words."""

    at: int
    what: str
    who: str = ""
    why: str = ""
    detail: str = ""


def write_down(depot: Path, what: str, *, who: str = "", why: str = "", detail: str = "") -> None:
    """Append, durably. Raises OSError."""
    path = depot / _NAME
    happening = Happening(int(time.time()), what, who, why[:_LONGEST_WORDS_CHARS], detail)
    if path.exists() and path.stat().st_size > _LONGEST_BYTES:
        path.replace(depot / f"{_NAME}.old")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, json.dumps(asdict(happening), ensure_ascii=False).encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def happenings(depot: Path, about: str, *, most: int = 10) -> list[Happening]:
    """The last ones whose code begins so, the newest first; what was cut by a crash is left out."""
    found: list[Happening] = []
    for path in (depot / _NAME, depot / f"{_NAME}.old"):
        lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
        for line in reversed(lines):
            try:
                happening = Happening(**json.loads(line))
            except (ValueError, TypeError):
                continue
            if happening.what.startswith(about) and len(found) < most:
                found.append(happening)
    return found


def utc(seconds: int) -> str:
    """Unix seconds as a person reads them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def this_person() -> str:
    """Who sits before the command line, as the system knows it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{behind} as {name}" if behind else name
