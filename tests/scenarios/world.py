"""A registry that can say anything it likes, and one engine that follows it into a real depot."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

from eir.core.delta import Delta, between
from eir.core.generation import Generation
from eir.errors import Refused, Unavailable
from eir.feed.codec import SnapshotHead, SnapshotWriter
from eir.feed.delta_file import DeltaHead, write_delta
from eir.feed.envelope import SecretKey
from eir.feed.head import HEAD_NAME, KEYS_NAME, FeedFile, Head, Serial, seal_head
from eir.feed.keys import Keys, seal_keys
from eir.ops.keeping import FeedKeeping
from eir.store.depot import Depot, Opened
from eir.sync.client import Candidate, Gate, Heard, run
from eir.sync.outcome import SyncOutcome
from eir.sync.plan import PlanLimits
from eir.sync.reader import Body, Patience, Reader
from eir.sync.source import Source
from tests.core.contents import Content, Listed, content_of, generation_of, without_empty

ROOT, KEY, OTHER = SecretKey(b"r" * 32), SecretKey(b"k" * 32), SecretKey(b"o" * 32)
NOW = 1_750_000_000
FEED = "registry"


def white(*keys: int) -> Content:
    return {"white": Listed(frozenset((key,) for key in keys))}


def session_of(epoch: int) -> str:
    return str(uuid.UUID(int=epoch))


class Registry:
    """What stands at the feed's address, and how it got there. ``reader``: is a sync Reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.files: dict[str, bytes] = {}
        self.made_at = NOW
        self.epoch = 1
        self.asked: list[str] = []
        self.before_get: Callable[[str], None] = lambda name: None
        self.generations: dict[int, Generation] = {}
        self.snapshots: dict[int, FeedFile] = {}
        self.deltas: dict[int, FeedFile] = {}
        self.sign_keys(1)

    def get(self, name: str, *, etag: str = "", offset: int = 0) -> Body | None:
        """See Reader."""
        self.asked.append(name)
        self.before_get(name)
        if name not in self.files:
            raise Refused("fetch-missing", "not there", where=name)
        raw = self.files[name]
        tag = hashlib.sha256(raw).hexdigest()
        if etag == tag:
            return None
        return Body(len(raw), tag, offset, iter([raw[offset:]]))

    def sign_keys(
        self, version: int, *keys: SecretKey, expires: int = NOW + 10**8, root: SecretKey = ROOT
    ) -> None:
        public = tuple(key.public for key in keys or (KEY,))
        self.files[KEYS_NAME] = seal_keys(Keys(version, public, NOW - 100, expires), root)

    def say(self, content: Content, *, snapshot: bool = True) -> int:
        """The next serial: its delta and its snapshot; nothing is announced yet."""
        serial = len(self.generations) + 1
        made = dataclasses.replace(
            generation_of(content),
            registry_id="nation",
            session=session_of(self.epoch),
            serial=serial,
        )
        if serial > 1:
            self.deltas[serial] = self.write(serial, between(self.generations[serial - 1], made))
        if snapshot:
            self.snapshots[serial] = self.snapshot(made)
        self.generations[serial] = made
        return serial

    def snapshot(self, made: Generation) -> FeedFile:
        path = self.folder / f"s{uuid.uuid4().hex}"
        head = SnapshotHead(FEED, made.registry_id, made.session, made.serial, self.made_at)
        writer = SnapshotWriter(head)
        for name, section in made.sections.items():
            if name != "black-union":
                writer.add(section)
        facts = writer.write(path)
        return self.put(made.serial, path.read_bytes(), facts.digest, "snapshot")

    def write(self, serial: int, delta: Delta, **other: object) -> FeedFile:
        """The delta file that leads to a serial; ``other``: what its header says instead."""
        before, path = self.generations[serial - 1], self.folder / f"d{uuid.uuid4().hex}"
        digest = self.digest_after(before, delta)
        said = DeltaHead(
            FEED, "nation", session_of(self.epoch), serial - 1, serial, self.made_at,
            before.digest, digest,
        )  # fmt: skip
        head = dataclasses.replace(said, **other)
        write_delta(path, head, delta)
        return self.put(serial, path.read_bytes(), head.digest_after, "delta")

    @staticmethod
    def digest_after(before: Generation, delta: Delta) -> str:
        from eir.feed.digest import Digest, of_delta

        return str(Digest.parse(before.digest) + of_delta(delta))

    def put(self, serial: int, raw: bytes, digest: str, kind: str) -> FeedFile:
        sha256 = hashlib.sha256(raw).hexdigest()
        file = FeedFile(Serial(serial), f"{kind}-{serial}-{sha256[:16]}", len(raw), sha256, digest)
        self.files[file.name] = raw
        return file

    def announce(
        self,
        *,
        snapshot: int = 1,
        deltas: list[int] | None = None,
        key: SecretKey = KEY,
        **other: object,
    ) -> Head:
        """Sign a head: the newest serial, a snapshot, and all deltas unless told otherwise."""
        serial = max(self.generations)
        named = sorted(self.deltas) if deltas is None else deltas
        said = Head(
            registry_id="nation",
            epoch=self.epoch,
            session=session_of(self.epoch),
            serial=Serial(serial),
            made_at=self.made_at,
            snapshot=self.snapshots[snapshot],
            counts=(),
            deltas=tuple(self.deltas[number] for number in named),
        )
        head = dataclasses.replace(said, **other)
        self.files[HEAD_NAME] = seal_head(head, key)
        self.made_at += 60
        return head

    def begin_anew(self, epoch: int) -> None:
        """Another session; what stood in the folder stays there."""
        self.epoch = epoch
        self.generations, self.snapshots, self.deltas = {}, {}, {}


class Engine:
    """One node's gate over a depot, without doors."""

    def __init__(self, folder: Path, registry: Reader, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self.depot = Depot(folder)
        self.keeping = FeedKeeping(self.depot, FEED, keep=3)
        self.registry = registry
        self.now = NOW
        self.bounds = PlanLimits()
        self.published: list[Generation] = []
        self.renewed: list[int] = []
        self.judge: Callable[[Generation | None, Candidate], str] = lambda old, new: ""
        self.heard = Heard()
        self.held: Generation | None = None
        self.opened: Opened | None = None

    def sync(self, **options: bool) -> SyncOutcome:
        gate = Gate(
            feed=FEED,
            registry_id="nation",
            roots=(ROOT.public,),
            source=Source(self.registry, self.patience),
            keeping=self.keeping,
            judge=lambda old, new: self.judge(old, new),
            publish=self.published.append,
            renew=self.renewed.append,
            heard=self.heard,
            bounds=self.bounds,
            clock=lambda: self.now,
        )
        outcome, self.held = run(gate, self.held, **options)
        return outcome

    def restart(self) -> None:
        """Another process begins, from what is on disk alone."""
        self.heard, self.opened = Heard(), None
        self.depot = Depot(self.depot.folder)
        self.keeping = FeedKeeping(self.depot, FEED, keep=3)
        try:
            self.opened = self.depot.open_newest(FEED)
        except Unavailable:
            self.held = None
        else:
            self.held = self.opened.generation

    @property
    def serial(self) -> int:
        return self.held.serial if self.held else 0

    def holds(self, content: Content) -> bool:
        """Whether this, and nothing else, is held; and, after a restart, still is."""
        assert self.held is not None
        now = content_of(self.held)
        self.restart()
        assert self.held is not None
        return now == content_of(self.held) == without_empty(content)
