"""What doors count besides verdicts: connections, refusals, answers by peer; each under a name.

    workers/<pid>-events-<random>    0600, a table of slots: name, then a counter

A name is written once and never moves, so that another process may read while this one counts.
Verdicts are counted by ``counters``, whose places need no names; this is for what is told apart by
words that come from configuration or a protocol. Beyond SLOTS names all further ones are one; of
peers that nobody configured each door names so many and no more.
"""

from __future__ import annotations

import mmap
import os
import secrets
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from eir import limits
from eir.serve.locked import new_locked

SLOTS: Final = 2_048
_SLOT_BYTES: Final = 384
_NAME_BYTES: Final = _SLOT_BYTES - 8
_WORDS_A_SLOT: Final = _SLOT_BYTES // 8
_BYTES: Final = SLOTS * _SLOT_BYTES

Key = tuple[str, str, str, str]
"""Door, event, what it was, and the peer; the last two may be empty."""

_WRITTEN: Final = b"\3"
"""Ends a name, so that one which is half written is seen to be."""

OVERFLOW: Final[Key] = ("", "further-names", "", "")


OTHERS: Final = "others"
"""All peers of a door beyond those that are named."""


class Events:
    """One table; any thread may count. ``events["s13", "closed"]`` sums all that begin so."""

    def __init__(self, memory: bytearray | mmap.mmap | None = None) -> None:
        """Over a mapped file, else over memory of this process alone."""
        self._memory = memory if memory is not None else bytearray(_BYTES)
        self._counts = memoryview(self._memory).cast("Q")
        self._places: dict[Key, int] = {}
        self._adding = threading.Lock()

    def add(self, key: Key, times: int = 1) -> None:
        """It happened, or so many times."""
        with self._adding:
            place = self._places.get(key)
            if place is None:
                place = self._placed(key)
            self._counts[place] += times

    def __getitem__(self, words: tuple[str, ...]) -> int:
        """How often what begins with these words happened."""
        return sum(times for key, times in self if key[: len(words)] == words)

    def __iter__(self) -> Iterator[tuple[Key, int]]:
        """Every name with its count, in the order in which they came up."""
        for at in range(SLOTS):
            start = at * _SLOT_BYTES
            name = bytes(self._memory[start : start + _NAME_BYTES]).rstrip(b"\0")
            if not name.endswith(_WRITTEN):
                return
            door, event, what, peer = name.removesuffix(_WRITTEN).decode().split("\n")
            yield (door, event, what, peer), self._counts[at * _WORDS_A_SLOT + _WORDS_A_SLOT - 1]

    def _placed(self, key: Key) -> int:
        """The place of a new name's counter; the last slot is for all that find none."""
        at = len(self._places)
        if at >= SLOTS - 1:
            key, at = OVERFLOW, SLOTS - 1
            if key in self._places:
                return self._places[key]
        name = "\n".join(word.replace("\n", " ") for word in key).encode() + _WRITTEN
        if len(name) > _NAME_BYTES:
            raise ValueError(f"a name of {len(name)} bytes: {key}")
        start = at * _SLOT_BYTES
        self._memory[start : start + len(name)] = name
        place = at * _WORDS_A_SLOT + _WORDS_A_SLOT - 1
        self._places[key] = place
        return place


class Peers:
    """By which names one door's peers are counted: the first MAX_COUNTED_PEERS, then OTHERS."""

    def __init__(self) -> None:
        self._named: dict[str, str] = {}

    def named(self, peer: str) -> str:
        """The name to count this peer under, cut to MAX_PEER_NAME_BYTES."""
        name = self._named.get(peer)
        if name is not None:
            return name
        if len(self._named) >= limits.MAX_COUNTED_PEERS:
            return OTHERS
        cut = peer.encode(errors="replace")[: limits.MAX_PEER_NAME_BYTES]
        return self._named.setdefault(peer, cut.decode(errors="ignore"))


@lru_cache(maxsize=4_096)
def host_of(address: str) -> str:
    """The host of a peer's address, as gRPC ("ipv4:…:port", "unix:…") and HTTP servers write it."""
    if address.startswith("unix:"):
        return "unix"
    host, _, _ = unquote(address.removeprefix("ipv4:").removeprefix("ipv6:")).rpartition(":")
    return host.strip("[]")


class EventsFile:
    """Events that others may read, and the lock that says that this process lives."""

    def __init__(self, folder: Path) -> None:
        """A new file in the folder. Raises OSError where the disk has no room."""
        self.path = folder / f"{os.getpid()}-events-{secrets.token_hex(8)}"
        self._lock = new_locked(self.path, _BYTES)
        self.events = Events(mmap.mmap(self._lock, _BYTES))


def read_events(folder: Path, pid: int) -> dict[Key, int]:
    """What this process has counted, as it stands whenever one looks; empty where it has none."""
    counted: dict[Key, int] = {}
    for path in folder.glob(f"{pid}-events-*"):
        raw = path.read_bytes()
        if len(raw) == _BYTES:
            counted.update(Events(bytearray(raw)))
    return counted
