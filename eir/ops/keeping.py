"""What one feed's gate keeps in the depot: its memory, its files, and what people said to it.

    registry.memory     the gate's own: keys, highest head, files that failed, a held change
    registry.accepted   a person's word: the one change that may pass the guard
    registry.pin        a person's word: the session and serial that serve until released
    registry.detached   a person's word: the feed is not followed

Each is a note of its own, written whole: the gate and a person never write the same one.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from eir.core.generation import Generation
from eir.errors import Corrupt, Unavailable
from eir.feed.codec import SnapshotFacts, SnapshotHead
from eir.feed.head import FeedFile, Serial
from eir.ops.settings.sections import NodeSection
from eir.store.depot import Depot
from eir.store.kept import Kept, NewFile
from eir.sync.client import Candidate, Change, Memory
from eir.sync.plan import Mark

_log = logging.getLogger(__name__)

MEMORY, ACCEPTED, PIN, DETACHED = "memory", "accepted", "pin", "detached"


@dataclass(frozen=True, slots=True)
class Pin:
    """What is to serve until released: a serial means nothing without its session."""

    session: str
    serial: int

    def __str__(self) -> str:
        return f"serial {self.serial} of session {self.session}"


@dataclass(frozen=True, slots=True)
class FeedKeeping:
    """A client.Keeping over a depot; ``keep`` snapshots are kept, each with its deltas."""

    depot: Depot
    feed: str
    keep: int

    def memory(self) -> Memory:
        """See Keeping. Raises Corrupt where the note is damaged."""
        raw = self.depot.note(self.feed, MEMORY)
        if not raw:
            return Memory()
        try:
            fields = json.loads(raw)
            highest, waiting = fields["highest"], fields["waiting"]
            return Memory(
                keys=base64.b64decode(fields["keys"]),
                highest=Mark(**highest) if highest else None,
                failed=frozenset(fields["failed"]),
                waiting=Change(**waiting) if waiting else None,
                figures=fields["figures"],
            )
        except (ValueError, KeyError, TypeError) as error:
            where = str(self.depot.folder / f"{self.feed}.{MEMORY}")
            detail = f"unreadable ({error}): without it a replayed head can't be told"
            raise Corrupt("memory", detail, where=where) from error

    def remember(self, memory: Memory) -> None:
        """See Keeping."""
        fields = {
            **asdict(memory),
            "keys": base64.b64encode(memory.keys).decode(),
            "failed": sorted(memory.failed),
        }
        self.depot.write_note(self.feed, MEMORY, json.dumps(fields, indent=1).encode())

    def seen(self) -> Mapping[Serial, str]:
        """See Keeping."""
        passed: dict[Serial, str] = {}
        newer: Kept | None = None
        for row in self.depot.kept(self.feed):
            if newer is not None and not row.leads_to(newer):
                break
            passed |= {Serial(serial): digest for serial, digest in row.digests.items()}
            newer = row
        return passed

    def accepted(self, change: Change) -> bool:
        """See Keeping."""
        raw = self.depot.note(self.feed, ACCEPTED)
        return bool(raw) and raw == _words(change)

    def accept(self, change: Change) -> None:
        """A person lets this change through, and no other."""
        self.depot.write_note(self.feed, ACCEPTED, _words(change))

    def part(self, file: FeedFile) -> Path:
        """See Keeping."""
        return self.depot.part(file.sha256)

    def persist(self, candidate: Candidate) -> None:
        """See Keeping."""
        reached = candidate.generation
        files = [
            NewFile(path, file.serial, file.digest, file.sha256, file.size, made_at)
            for (file, path), made_at in zip(candidate.files, candidate.made_at, strict=True)
        ]
        if not candidate.base:
            from_serial = reached.serial - len(files)
            self.depot.adopt_deltas(
                self.feed, files, session=reached.session, from_serial=from_serial, keep=self.keep
            )
            return
        first = files[0]
        facts = SnapshotFacts(
            path=first.path, size=first.size, sha256=first.sha256, counts={}, digest=first.digest
        )
        head = SnapshotHead(
            reached.feed, reached.registry_id, reached.session, first.serial, first.made_at
        )
        self.depot.adopt(facts, head, deltas=files[1:], keep=self.keep, verified=True)

    def pinned(self) -> Pin | None:
        """What is to serve until released; None: the newest. Raises Corrupt where the note is
        damaged: nobody knows then which of the two was meant.
        """
        raw = self.depot.note(self.feed, PIN)
        if not raw:
            return None
        serial, _, session = raw.partition(b" ")
        try:
            if serial.isdigit() and session:
                return Pin(session.decode("ascii"), int(serial))
            detail = "is no serial with its session"
        except ValueError as error:
            detail = f"unreadable ({error})"
        where = str(self.depot.folder / f"{self.feed}.{PIN}")
        raise Corrupt("pin", f"{detail}: `eir rollback` writes it anew", where=where)

    def pin(self, pin: Pin | None) -> None:
        """Have this serve, which is kept; None: the newest again."""
        raw = f"{pin.serial} {pin.session}".encode() if pin else b""
        self.depot.write_note(self.feed, PIN, raw)

    def detached(self) -> bool:
        """Whether the feed is not to be followed."""
        return bool(self.depot.note(self.feed, DETACHED))

    def detach(self) -> None:
        """Follow the feed no more, until ``attach``."""
        self.depot.write_note(self.feed, DETACHED, b"by load")

    def attach(self) -> None:
        """Follow the feed again."""
        if self.detached():
            self.depot.write_note(self.feed, DETACHED, b"")

    def weigh_again(self) -> None:
        """A held change is weighed anew at the next run: limits or policy may be others."""
        memory = self.memory()
        if memory.waiting is not None:
            self.remember(replace(memory, waiting=None, figures=""))

    def reached(self) -> tuple[str, int] | None:
        """Session and serial that the newest chain leads to; None where nothing is kept."""
        rows = self.depot.kept(self.feed)
        return (rows[0].session, rows[0].last_serial) if rows else None

    def kept(self) -> tuple[Kept, ...]:
        """What is kept of the feed, newest first."""
        return self.depot.kept(self.feed)


def _words(change: Change) -> bytes:
    return json.dumps(asdict(change)).encode()


def pinned_in(depot: Depot, feed: str) -> Pin | None:
    """What of a feed is to serve until released; None: the newest. Raises Corrupt as ``pinned``."""
    return FeedKeeping(depot, feed, 1).pinned()


def may_be_pinned(depot: Depot, feed: str) -> bool:
    """Whether something other than the newest is to serve, or it can't be told."""
    try:
        return pinned_in(depot, feed) is not None
    except Corrupt:
        return True


def reached_in(depot: Depot, feed: str) -> Generation | None:
    """The newest good generation of a feed in a depot; None where a snapshot has to come first."""
    try:
        return depot.open_newest(feed).generation
    except Unavailable:
        return None
    except Corrupt as error:
        _log.error("%s: the feed will bring it again", error)
        return None


def depot_of(section: NodeSection) -> Depot:
    """The node's depot. Raises Refused ``depot-unusable``."""
    return Depot(section.depot, keep_days=section.keep_days)
