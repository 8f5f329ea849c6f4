"""The publisher: a content in, a feed out. Files first, then one change of the head.

    look:     keys → head → snapshot and deltas → the content that is published
    publish:  compare → write delta, snapshot aside → read back → add files → swap the head
    sweep:    files long out of the head go

Promises: killed at any step, readers see the old head or the new, and every file that it names is
there; of two publishers the second loses; (session, serial) names one content. A session's epoch is
the time it began, so it rises even when all history is lost. Never removes what a head names, and
never signs what it has not read back and applied.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from eir import limits
from eir.core.delta import Delta, between
from eir.core.generation import BLACK, BLACK_UNION, Generation, Section, empty_content, reason_ids
from eir.errors import Conflict, Corrupt, Refused
from eir.feed.codec import SnapshotHead, open_snapshot, write_generation
from eir.feed.delta_file import DeltaHead, FileFacts, advance, read_delta, write_delta
from eir.feed.envelope import PublicKey, SecretKey
from eir.feed.head import HEAD_NAME, KEYS_NAME, FeedFile, Head, Serial, open_head, seal_head
from eir.feed.keys import Keys, open_keys
from eir.feed.site import Site, file_name

Kind = Literal["first", "new-session", "delta", "delta-and-snapshot", "snapshot", "re-signed"]
_RETIRED: Final = "retired.json"


@dataclass(frozen=True, slots=True)
class Habits:
    """A snapshot is due after so many deltas, or when those since the last outweigh it; how long a
    file stays after leaving the head, in seconds.
    """

    snapshot_every: int = 100
    delta_stay_s: int = 3_600
    snapshot_stay_s: int = 86_400


@dataclass(frozen=True, slots=True)
class Edition:
    """What is published: the head and its tag (None: nothing yet), and its content.

    ``lost`` says why the content, or even the head, can't be had though one stands; else "".
    """

    head: Head | None = None
    tag: str | None = None
    content: Generation | None = None
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What a run did. ``changes``: items (removed, added) by section, of a delta; ``size``: bytes
    of the files that it added.
    """

    kind: Kind
    head: Head
    changes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Made:
    """A file that was written aside."""

    path: Path
    file: FeedFile


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes to ``site``, signing with ``key``; ``folder`` is its own, for files in the making,
    copies and the memory of what left the head.
    """

    site: Site
    key: SecretKey
    folder: Path
    habits: Habits = Habits()

    def look(self, roots: Iterable[PublicKey], *, now: int) -> Edition:
        """What is published, verified from the root to the last delta.

        Raises Refused: as ``open_keys`` and ``open_head``, ``publish-no-keys`` where the site has
        no `keys` file, ``publish-key-unlisted`` where that does not name our key.
        """
        trusted = self._trusted(roots, now)
        found = self.site.read(HEAD_NAME)
        if found is None:
            return Edition()
        try:
            head = open_head(found.raw, trusted.keys)
        except Refused as refused:
            if refused.reason != "head-key-unknown":
                raise
            return Edition(tag=found.tag, lost=str(refused))
        try:
            return Edition(head, found.tag, self._content_of(head))
        except (Corrupt, Conflict) as error:
            return Edition(head, found.tag, lost=str(error))
        except Refused as refused:
            if refused.reason not in ("fetch-missing", "fetch-hash"):
                raise
            return Edition(head, found.tag, lost=str(refused))

    def publish(
        self,
        content: Generation,
        edition: Edition,
        *,
        now: int,
        new_session: bool = False,
        allow_missing: bool = False,
    ) -> Published:
        """Make ``content`` what the feed says; ``now`` in Unix seconds UTC.

        Raises Conflict where another publisher was first (look again), and Refused:
        ``publish-head-unknown`` (it needs ``new_session``), ``publish-clock``, ``delta-feeds``,
        ``publish-other-registry``, ``publish-list-missing`` (a list that has items is not in
        ``content``; ``allow_missing`` empties it).
        """
        head, old = edition.head, edition.content
        if head is None and edition.lost and not new_session:
            detail = f"{edition.lost}: have a keys file name it again, or begin a new session"
            raise Refused("publish-head-unknown", detail)
        if head is not None:
            _check_clock(head, now)
        if head is not None and head.registry_id != content.registry_id:
            detail = f"the feed is {head.registry_id!r}'s, the lists are {content.registry_id!r}'s"
            raise Refused("publish-other-registry", detail)
        if head is None or old is None or new_session:
            return self._begin(content, edition, now)
        if old.feed != content.feed:
            detail = f"this is a feed of {old.feed} lists, the manifest's are {content.feed} lists"
            raise Refused("delta-feeds", detail)
        settled = _settled(old, content, allow_missing=allow_missing)
        delta = between(old, settled)
        if not len(delta):
            return self._re_signed(head, edition.tag, now)
        return self._step(edition, head, old, settled, delta, now)

    def re_sign(self, roots: Iterable[PublicKey], *, now: int) -> Published:
        """Sign the head anew as of ``now``, looking at no content: a quiet head's age says that
        its publisher lives.

        Raises as ``look`` and ``publish``, and Refused ``publish-nothing`` where there is no head.
        """
        trusted = self._trusted(roots, now)
        found = self.site.read(HEAD_NAME)
        if found is None:
            raise Refused("publish-nothing", "nothing is published yet: publish lists first")
        head = open_head(found.raw, trusted.keys)
        _check_clock(head, now)
        return self._re_signed(head, found.tag, now)

    def sweep(self, head: Head, *, now: int) -> list[str]:
        """Remove files that left the head long enough ago; their names.

        When each left is remembered in the publisher's folder; forgotten, it leaves now. What
        killed publishers left half-written goes too.
        """
        named = {head.snapshot.name, *(delta.name for delta in head.deltas)}
        known = self._retired()
        retired: dict[str, int] = {}
        gone = []
        for each in self.site.standing():
            if each.name in named:
                continue
            stay = self._stay_s(each.name)
            left_at = min(known.get(each.name, now), now)
            if stay is not None and now - left_at >= stay:
                self.site.remove(each.name)
                gone.append(each.name)
            else:
                retired[each.name] = left_at
        self._remember(retired)
        self.site.clear(before=now - self.habits.snapshot_stay_s)
        for path in self.folder.glob("[ds]*-*-*"):
            if self.site.near or path.name not in named:
                path.unlink(missing_ok=True)
        return gone

    def _trusted(self, roots: Iterable[PublicKey], now: int) -> Keys:
        found = self.site.read(KEYS_NAME)
        if found is None:
            raise Refused("publish-no-keys", "the feed has no keys file: `eir feed init` puts it")
        trusted = open_keys(found.raw, roots, now=now)
        if self.key.public not in trusted.keys:
            detail = f"no node would believe a head by key {self.key.public.id.hex()}: sign it in"
            raise Refused("publish-key-unlisted", detail)
        return trusted

    def _content_of(self, head: Head) -> Generation:
        generation = open_snapshot(self.site.bring(head.snapshot, self.folder))
        for file in head.deltas:
            if file.serial > head.snapshot.serial:
                step = read_delta(self.site.bring(file, self.folder))
                generation = advance(generation, *step)
        found = (generation.registry_id, generation.session, generation.serial, generation.digest)
        digest = head.digests().get(head.serial)
        if found != (head.registry_id, head.session, head.serial, digest):
            raise Conflict(f"the files lead to {found}, not to the head's own serial and digest")
        return generation

    def _re_signed(self, head: Head, tag: str | None, now: int) -> Published:
        after = replace(head, made_at=now)
        self.site.swap(HEAD_NAME, seal_head(after, self.key), was=tag)
        return Published("re-signed", after)

    def _begin(self, content: Generation, edition: Edition, now: int) -> Published:
        """A new session: serial 1 and its snapshot."""
        before = edition.head
        epoch = max(now, before.epoch + 1 if before else 1)
        identity = SnapshotHead(
            content.feed, content.registry_id, str(uuid.uuid4()), 1, max(now, 1)
        )
        made, counts = self._snapshot(identity, content)
        head = Head(
            content.registry_id, epoch, identity.session, Serial(1), identity.made_at,
            made.file, counts, (),
        )  # fmt: skip
        self._put([made], head, edition.tag)
        kind: Kind = "new-session" if edition.tag else "first"
        return Published(kind, head, size=made.file.size, reason=edition.lost)

    def _step(
        self,
        edition: Edition,
        head: Head,
        old: Generation,
        content: Generation,
        delta: Delta,
        now: int,
    ) -> Published:
        """One serial on: a delta, a snapshot, or both."""
        serial = Serial(head.serial + 1)
        made = []
        deltas: tuple[FeedFile, ...] = ()
        step = self._delta(old, content, delta, now)
        if step is not None:
            made, deltas = [step], (*head.deltas, step.file)
        snapshot, counts = head.snapshot, head.counts
        if step is None or self._snapshot_is_due(head, deltas):
            identity = SnapshotHead(content.feed, head.registry_id, head.session, serial, now)
            whole, counts = self._snapshot(identity, content)
            snapshot = whole.file
            made.append(whole)
        kept = _worth_keeping(deltas, snapshot)
        after = replace(
            head, serial=serial, made_at=now, snapshot=snapshot, counts=counts, deltas=kept
        )
        put = [each for each in made if each.file in (snapshot, *kept)]
        self._put(put, after, edition.tag)
        kind: Kind = "delta" if snapshot is head.snapshot else "delta-and-snapshot"
        if not kept:
            kind = "snapshot"
        changes = {
            name: (len(change.removed), len(change.added)) for name, change in delta.changes.items()
        }
        return Published(kind, after, changes, sum(each.file.size for each in put))

    def _snapshot_is_due(self, head: Head, deltas: Iterable[FeedFile]) -> bool:
        since = [delta for delta in deltas if delta.serial > head.snapshot.serial]
        weight = sum(delta.size for delta in since)
        return weight > head.snapshot.size or len(since) >= self.habits.snapshot_every

    def _delta(self, old: Generation, content: Generation, delta: Delta, now: int) -> _Made | None:
        """The step as a file, read back and applied; None where it is too big to be one."""
        serial = Serial(old.serial + 1)
        name = file_name("delta", serial)
        identity = DeltaHead(
            old.feed, old.registry_id, old.session, old.serial, serial, now, old.digest,
            content.digest,
        )  # fmt: skip
        try:
            facts = write_delta(self.folder / name, identity, delta)
        except Refused as refused:
            if refused.reason != "delta-too-big":
                raise
            return None
        advance(old, *read_delta(facts.path))
        return _Made(facts.path, _feed_file(serial, facts, content.digest))

    def _snapshot(
        self, identity: SnapshotHead, content: Generation
    ) -> tuple[_Made, tuple[tuple[str, int], ...]]:
        serial = Serial(identity.serial)
        written = write_generation(self.folder / file_name("snapshot", serial), identity, content)
        facts = FileFacts(written.path, written.size, written.sha256)
        counts = tuple(sorted((n, c) for n, c in written.counts.items() if n != BLACK_UNION))
        return _Made(written.path, _feed_file(serial, facts, written.digest)), counts

    def _put(self, made: Iterable[_Made], head: Head, was: str | None) -> None:
        """The files, then the head; the loser of two publishers takes its files away again."""
        raw = seal_head(head, self.key)
        added = []
        try:
            for each in made:
                self.site.add(each.file.name, each.path)
                added.append(each.file.name)
            self.site.swap(HEAD_NAME, raw, was=was)
        except Conflict:
            for name in added:
                with contextlib.suppress(Refused, OSError):
                    self.site.remove(name)
            raise

    def _stay_s(self, name: str) -> int | None:
        """How long a file of this name stays; None: it is none of ours."""
        kinds = {"delta": self.habits.delta_stay_s, "snapshot": self.habits.snapshot_stay_s}
        return kinds.get(name.partition("-")[0])

    def _retired(self) -> dict[str, int]:
        try:
            found = json.loads((self.folder / _RETIRED).read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(name): at for name, at in found.items() if type(at) is int}

    def _remember(self, retired: Mapping[str, int]) -> None:
        aside = self.folder / f"{_RETIRED}.new"
        aside.write_text(json.dumps(retired, indent=1))
        os.replace(aside, self.folder / _RETIRED)


def _check_clock(head: Head, now: int) -> None:
    if now < head.made_at:
        detail = f"it is {now} here, and the feed's head was made at {head.made_at}"
        raise Refused("publish-clock", detail)


def _feed_file(serial: Serial, facts: FileFacts, digest: str) -> FeedFile:
    return FeedFile(serial, facts.path.name, facts.size, facts.sha256, digest)


def _worth_keeping(deltas: tuple[FeedFile, ...], snapshot: FeedFile) -> tuple[FeedFile, ...]:
    """The newest deltas that together don't outweigh the snapshot, at most 1,000."""
    weight, first = 0, len(deltas)
    while first > 0 and len(deltas) - first < limits.MAX_HEAD_DELTAS:
        weight += deltas[first - 1].size
        if weight > snapshot.size:
            break
        first -= 1
    return deltas[first:]


def _settled(old: Generation, content: Generation, *, allow_missing: bool) -> Generation:
    """The content as the session goes on with it: a list's id stays, and so does its name."""
    missing = [
        name
        for name, section in old.sections.items()
        if section.items and name not in content.sections and name != BLACK_UNION
    ]
    if missing and not allow_missing:
        detail = f"not among the lists, so all of it would go: {', '.join(missing)}"
        raise Refused("publish-list-missing", detail)
    sections = {name: s for name, s in content.sections.items() if name != BLACK_UNION}
    for name, section in old.sections.items():
        if name != BLACK_UNION and name not in sections:
            sections[name] = Section(name, empty_content(name), section.reason_id)
    return replace(content, sections=_with_ids(old, sections))


def _with_ids(old: Generation, sections: Mapping[str, Section]) -> dict[str, Section]:
    """The sections with the ids that their reasons had; a new one keeps its own if it is free."""
    known = {name: section.reason_id for name, section in old.black().items()}
    for name, section in sorted(sections.items()):
        reason = name.removeprefix(BLACK)
        if name.startswith(BLACK) and reason not in known:
            taken = section.reason_id in known.values()
            fresh = reason_ids(old.feed, [reason], known)[reason] if taken else section.reason_id
            known[reason] = fresh
    return {
        name: replace(section, reason_id=known.get(name.removeprefix(BLACK), 0))
        if name.startswith(BLACK)
        else section
        for name, section in sections.items()
    }
