"""What served from this depot, and when: the last line is what the next start is weighed against.

    served.jsonl         a line for each change, appended and fsynced before anybody swaps
    policies/            <sha256>.json: a policy that a line names, written once

A line that a crash cut is left out. What lies further back than the depot keeps data goes, with
the policies that nothing names any more. Knows no policy's meaning: it is bytes here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from eir.store.durable import write_durably
from eir.store.kept import DAY_S

_NAME: Final = "served.jsonl"
_TAIL_BYTES: Final = 64 << 10
_PRUNE_EVERY: Final = 1_000


@dataclass(frozen=True, slots=True)
class ServedFeed:
    """One feed's part; ``made_at`` in Unix seconds UTC."""

    session: str
    serial: int
    digest: str
    made_at: int


@dataclass(frozen=True, slots=True)
class Served:
    """What served from ``at`` on (Unix s), until the next. ``policy``: SHA-256 of its bytes.

    ``data_time``, ``grace_lag``: by which grace time went when it began.
    """

    at: int
    feeds: Mapping[str, ServedFeed]
    policy: str
    data_time: int
    grace_lag: int

    @property
    def content(self) -> object:
        """What makes it the same as another, whenever that served."""
        feeds = {feed: (each.session, each.serial) for feed, each in self.feeds.items()}
        return self.policy, self.grace_lag, feeds


class ServedLog:
    """The lines of one depot. Written by its keeper alone, read by anybody."""

    def __init__(self, folder: Path, *, keep_days: int) -> None:
        self._path = folder / _NAME
        self._policies = folder / "policies"
        self._keep_days = keep_days
        self._appended = 0

    def append(self, served: Served, policy: bytes) -> None:
        """Durably; ``policy`` is what the line names. Raises OSError."""
        if self._appended % _PRUNE_EVERY == 0:
            self._prune()
        self._appended += 1
        self._keep_policy(served.policy, policy)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            os.write(file, b"\n" * torn + _line(served))
            os.fsync(file)
        finally:
            os.close(file)

    def last(self) -> Served | None:
        """What served last; None where nothing ever did."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                tail = file.read()
        except FileNotFoundError:
            return None
        found = [each for line in tail.splitlines() if (each := _served_of(line))]
        return found[-1] if found else None

    def lines(self) -> Iterator[Served]:
        """Everything that served, the oldest first."""
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        for line in raw.splitlines():
            if served := _served_of(line):
                yield served

    def policy(self, sha256: str) -> bytes | None:
        """The bytes of a policy; None where they are gone or not what they were."""
        try:
            raw = (self._policies / f"{sha256}.json").read_bytes()
        except OSError:
            return None
        return raw if hashlib.sha256(raw).hexdigest() == sha256 else None

    def _keep_policy(self, sha256: str, raw: bytes) -> None:
        if self.policy(sha256) is not None:
            return
        self._policies.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._policies / f"{sha256}.json", raw)

    def _prune(self) -> None:
        lines = list(self.lines())
        if not lines:
            return
        horizon = lines[-1].at - self._keep_days * DAY_S
        ends = [each.at for each in lines[1:]]
        kept = [each for each, end in zip(lines, ends, strict=False) if end >= horizon]
        kept.append(lines[-1])
        if len(kept) < len(lines):
            write_durably(self._path, b"".join(map(_line, kept)))
        named = {each.policy for each in kept}
        for path in self._policies.glob("*.json"):
            if path.stem not in named:
                path.unlink(missing_ok=True)


def _line(served: Served) -> bytes:
    return json.dumps(asdict(served)).encode() + b"\n"


def _served_of(line: bytes) -> Served | None:
    """None where the line was cut."""
    try:
        fields = json.loads(line)
        fields["feeds"] = {name: ServedFeed(**each) for name, each in fields["feeds"].items()}
        return Served(**fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
