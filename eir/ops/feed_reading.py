"""A feed as anyone who pins its root can read it: fetched, verified, followed from end to end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eir.core.delta import Delta
from eir.core.generation import Generation
from eir.errors import Corrupt, Refused
from eir.feed.address import Address
from eir.feed.codec import open_snapshot
from eir.feed.delta_file import DeltaHead, advance, read_delta
from eir.feed.envelope import PublicKey
from eir.feed.head import FeedFile, Head, open_head
from eir.feed.keys import Keys, open_keys
from eir.sync.reader import Patience
from eir.sync.source import Source, open_source

Tell = Callable[[str, int, int], None]
"""Told (file, bytes there, bytes in all)."""


@dataclass(frozen=True, slots=True)
class FeedReader:
    """One feed, its files fetched into ``folder``. The head is verified when this is made."""

    source: Source
    folder: Path
    keys: Keys
    head: Head
    tell: Tell

    def steps(self) -> Iterator[tuple[FeedFile, DeltaHead, Delta]]:
        """Each delta of the head. Raises Refused as ``Source.fetch``, Corrupt for a bad file or
        one that is not the step that the head says.
        """
        head, before = self.head, ""
        for file in head.deltas:
            step, delta = read_delta(self._fetched(file))
            named = (step.registry_id, step.session, step.to_serial, step.digest_after)
            if named != (head.registry_id, head.session, file.serial, file.digest):
                raise Corrupt("header", "is not the delta that the head names", where=file.name)
            if before and step.digest_before != before:
                raise Corrupt("header", "does not go on where the last one ended", where=file.name)
            before = step.digest_after
            yield file, step, delta

    def verify(self) -> Generation:
        """The content at the head's serial: the snapshot, with every delta behind it applied.

        Raises as ``steps``; Conflict where a delta does not fit.
        """
        head = self.head
        generation = open_snapshot(self._fetched(head.snapshot))
        found = (generation.registry_id, generation.session, generation.serial, generation.digest)
        if found != (head.registry_id, head.session, head.snapshot.serial, head.snapshot.digest):
            raise Corrupt("header", "is not the snapshot that the head names")
        for file, step, delta in self.steps():
            if file.serial > generation.serial:
                generation = advance(generation, step, delta)
        if generation.serial != head.serial:
            raise Corrupt("head", f"its files lead to {generation.serial}, not to {head.serial}")
        return generation

    def _fetched(self, file: FeedFile) -> Path:
        part = self.folder / file.name
        self.source.fetch(file, part, advance=lambda there: self.tell(file.name, there, file.size))
        return part


@contextmanager
def reading(address: Address, root: PublicKey, tell: Tell) -> Iterator[FeedReader]:
    """The feed at ``address``, as the root vouches for it now.

    Raises Refused: as ``Source.head``, ``open_keys`` and ``open_head``.
    """
    source = open_source(address, Patience())
    keys_file, head_file = source.keys(), source.head()
    if keys_file is None or head_file is None:
        raise Refused("fetch-failed", "unchanged since never: the server is confused")
    keys = open_keys(keys_file.raw, [root], now=int(time.time()))
    head = open_head(head_file.raw, keys.keys)
    with tempfile.TemporaryDirectory(prefix="eir-feed-") as folder:
        yield FeedReader(source, Path(folder), keys, head, tell)


def changes_of(delta: Delta) -> Mapping[str, tuple[int, int]]:
    """Items (removed, added) by section."""
    return {
        name: (len(change.removed), len(change.added)) for name, change in delta.changes.items()
    }
