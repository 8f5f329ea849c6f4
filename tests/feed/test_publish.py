"""A feed from its publisher's side: what stands there after each run, whatever interrupts it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core.generation import Generation
from eir.errors import Conflict, Refused
from eir.feed.codec import open_snapshot
from eir.feed.delta_file import advance, read_delta
from eir.feed.digest import Digest, of_section
from eir.feed.envelope import SecretKey
from eir.feed.head import HEAD_NAME, KEYS_NAME, FeedFile, Head, open_head
from eir.feed.keys import Keys, seal_keys
from eir.feed.publish import Edition, Habits, Published, Publisher
from eir.feed.site import FolderSite, Site, Standing, Tagged
from tests.core.contents import (
    REGISTRY_CONTENTS,
    Content,
    Listed,
    content_of,
    generation_of,
    without_empty,
)

ROOT, KEY, OTHER = SecretKey(b"r" * 32), SecretKey(b"k" * 32), SecretKey(b"o" * 32)
NOW = 1_750_000_000


def white(*keys: int) -> Content:
    return {"white": Listed(frozenset((key,) for key in keys))}


MANY = white(*random.Random(1).sample(range(1, 100_000), 33_000))
"""Smaller as a snapshot than as a delta: a third of all keys."""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class MortalSite:
    """A site whose publisher is killed before (or after) its nth change."""

    inner: Site
    dies_at: int
    after: bool
    changes: int = 0
    near: bool = True

    def _change(self, act: Callable[[], object]) -> object:
        self.changes += 1
        if self.changes == self.dies_at and not self.after:
            raise Killed
        result = act()
        if self.changes == self.dies_at:
            raise Killed
        return result

    def read(self, name: str) -> Tagged | None:
        return self.inner.read(name)

    def add(self, name: str, path: Path) -> None:
        self._change(lambda: self.inner.add(name, path))

    def swap(self, name: str, raw: bytes, *, was: str | None) -> str:
        return str(self._change(lambda: self.inner.swap(name, raw, was=was)))

    def bring(self, file: FeedFile, aside: Path) -> Path:
        return self.inner.bring(file, aside)

    def standing(self) -> list[Standing]:
        return self.inner.standing()

    def remove(self, name: str) -> None:
        self._change(lambda: self.inner.remove(name))

    def clear(self, *, before: int) -> None:
        self._change(lambda: self.inner.clear(before=before))


@dataclass
class Feed:
    """A feed in a folder, and how to publish to it and read it."""

    folder: Path
    habits: Habits = field(default_factory=Habits)
    now: int = NOW

    def __post_init__(self) -> None:
        self.site = FolderSite(self.folder / "feed")
        (self.folder / "desk").mkdir(exist_ok=True)
        keys = Keys(1, (KEY.public,), NOW - 100, NOW + 10**8)
        self.site.swap(KEYS_NAME, seal_keys(keys, ROOT), was=None)

    def publisher(self, site: Site | None = None, key: SecretKey = KEY) -> Publisher:
        return Publisher(site or self.site, key, self.folder / "desk", self.habits)

    def look(self) -> Edition:
        return self.publisher().look([ROOT.public], now=self.now)

    def publish(
        self, content: Content | Generation, site: Site | None = None, **options: bool
    ) -> Published:
        self.now += 10
        made = content if isinstance(content, Generation) else generation_of(content)
        publisher = self.publisher(site)
        done = publisher.publish(made, self.look(), now=self.now, **options)
        publisher.sweep(done.head, now=self.now)
        return done

    def head(self) -> Head | None:
        found = self.site.read(HEAD_NAME)
        return open_head(found.raw, [KEY.public]) if found else None

    def path(self, file: FeedFile) -> Path:
        path = self.folder / "feed" / file.name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        assert path.stat().st_size == file.size
        return path

    def read(self, local: Generation | None = None) -> Generation:
        """What a node holds after a sync: by deltas where they reach, else by the snapshot."""
        head = self.head()
        assert head is not None
        serials = [delta.serial for delta in head.deltas]
        assert serials == list(range(head.serial - len(serials) + 1, head.serial + 1))
        for file in (head.snapshot, *head.deltas):
            self.path(file)
        reaches = local is not None and local.session == head.session
        if (
            local is None
            or not reaches
            or not {*range(local.serial + 1, head.serial + 1)} <= {*serials}
        ):
            local = open_snapshot(self.path(head.snapshot))
        for file in head.deltas:
            if file.serial > local.serial:
                local = advance(local, *read_delta(self.path(file)))
        assert (local.serial, local.session) == (head.serial, head.session)
        assert local.digest == head.digests()[head.serial]
        return local


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def test_the_first_publication_is_a_snapshot_of_serial_1(feed: Feed) -> None:
    done = feed.publish(white(1, 2))
    assert (done.kind, done.head.serial, done.head.deltas) == ("first", 1, ())
    assert done.head.counts == (("white", 2),)
    assert content_of(feed.read()) == white(1, 2)


def test_a_change_is_one_delta(feed: Feed) -> None:
    feed.publish(MANY)
    local = feed.read()
    done = feed.publish({**MANY, "legacy": Listed(frozenset({(5,)}))})
    assert (done.kind, done.head.serial) == ("delta", 2)
    assert done.changes == {"legacy": (0, 1)}
    assert done.head.snapshot.serial == 1
    assert done.size == done.head.deltas[0].size < 500
    assert feed.read(local).serial == 2
    assert feed.read().digest == feed.read(local).digest


def test_nothing_changed_re_signs_the_head(feed: Feed) -> None:
    before = feed.publish(MANY)
    files = feed.site.standing()
    done = feed.publish(MANY)
    assert done.kind == "re-signed"
    assert done.head.made_at > before.head.made_at
    assert done.head.serial == 1
    assert feed.site.standing() == files


def test_deltas_that_outweigh_the_snapshot_bring_a_new_one(feed: Feed) -> None:
    feed.publish(white(1))
    kinds = [feed.publish(white(*range(1, 20 * n, 3))).kind for n in range(2, 60)]
    assert "delta" in kinds
    assert {"snapshot", "delta-and-snapshot"} & set(kinds)
    head = feed.head()
    assert head is not None
    assert sum(delta.size for delta in head.deltas) <= head.snapshot.size
    assert feed.read().serial == 59


def test_a_snapshot_comes_after_so_many_deltas(tmp_path: Path) -> None:
    feed = Feed(tmp_path, Habits(snapshot_every=3))
    feed.publish(MANY)
    kinds = [feed.publish({**MANY, "legacy": Listed(frozenset({(n,)}))}).kind for n in range(1, 7)]
    assert kinds == ["delta", "delta", "delta-and-snapshot"] * 2
    head = feed.head()
    assert head is not None
    assert [delta.serial for delta in head.deltas] == [2, 3, 4, 5, 6, 7]
    assert head.snapshot.serial == 7


def test_a_delta_bigger_than_its_snapshot_is_not_published(feed: Feed) -> None:
    feed.publish(MANY)
    local = feed.read()
    done = feed.publish(white(1))
    assert (done.kind, done.head.serial, done.head.deltas) == ("snapshot", 2, ())
    assert content_of(feed.read(local)) == white(1)
    assert [each.name.split("-")[0] for each in feed.site.standing()] == ["snapshot", "snapshot"]


def test_lost_history_begins_a_new_session_with_a_higher_epoch(feed: Feed) -> None:
    before = feed.publish(MANY).head
    (feed.folder / "feed" / before.snapshot.name).unlink()
    assert "fetch-missing" in feed.look().lost
    done = feed.publish(MANY)
    assert done.kind == "new-session"
    assert "fetch-missing" in done.reason
    assert done.head.epoch > before.epoch
    assert done.head.session != before.session
    assert done.head.serial == 1
    assert content_of(feed.read()) == MANY


def test_a_lost_head_too_leads_to_a_higher_epoch(feed: Feed) -> None:
    before = feed.publish(MANY).head
    (feed.folder / "feed" / HEAD_NAME).unlink()
    assert feed.publish(MANY).head.epoch > before.epoch


def test_a_damaged_delta_is_lost_history(feed: Feed) -> None:
    feed.publish(MANY)
    head = feed.publish({**MANY, "legacy": Listed(frozenset({(5,)}))}).head
    path = feed.folder / "feed" / head.deltas[0].name
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    assert feed.publish(MANY).kind == "new-session"


def test_the_second_of_two_publishers_loses_and_leaves_nothing(feed: Feed) -> None:
    feed.publish(MANY)
    seen = feed.look()
    first = feed.publish({**MANY, "legacy": Listed(frozenset({(5,)}))})
    files = feed.site.standing()
    late = generation_of({**MANY, "legacy": Listed(frozenset({(6,)}))})
    with pytest.raises(Conflict, match="another publisher"):
        feed.publisher().publish(late, seen, now=feed.now)
    assert feed.site.standing() == files
    assert feed.head() == first.head
    assert feed.publish(late).head.serial == 3


def test_both_may_not_be_first(feed: Feed) -> None:
    nothing = feed.look()
    feed.publish(MANY)
    with pytest.raises(Conflict):
        feed.publisher().publish(generation_of(MANY), nothing, now=feed.now)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(1, 5))
def test_killed_at_any_change_the_old_head_or_the_new_stands(
    tmp_path: Path, step: int, after: bool
) -> None:
    feed = Feed(tmp_path, Habits(snapshot_every=1, delta_stay_s=0, snapshot_stay_s=0))
    feed.publish(MANY)
    new = {**MANY, "legacy": Listed(frozenset({(5,)}))}
    with pytest.raises(Killed):
        feed.publish(new, MortalSite(feed.site, step, after))
    swapped = step > 3 or (step == 3 and after)
    assert content_of(feed.read()) == (new if swapped else MANY)
    done = feed.publish(new)
    assert (done.head.serial, content_of(feed.read())) == (2, new)
    head = done.head
    named = {head.snapshot.name, *(delta.name for delta in head.deltas)}
    assert {each.name for each in feed.site.standing()} == named
    assert [path.name for path in (feed.folder / "desk").iterdir() if "-" in path.name] == []


def test_files_stay_their_time_after_leaving_the_head(tmp_path: Path) -> None:
    feed = Feed(tmp_path, Habits(snapshot_every=1, delta_stay_s=3_600, snapshot_stay_s=86_400))
    first = feed.publish(MANY).head.snapshot.name
    small = feed.publish({**MANY, "legacy": Listed(frozenset({(5,)}))}).head.deltas[0].name
    left_at = feed.now
    gone = feed.publish(white(1), allow_missing=True).head
    assert not gone.deltas

    def standing_at(now: int) -> set[str]:
        feed.publisher().sweep(gone, now=now)
        return {each.name for each in feed.site.standing()}

    assert {first, small} <= standing_at(left_at + 3_600)
    assert small not in standing_at(left_at + 10 + 3_600)
    assert first in standing_at(left_at + 86_399)
    assert first not in standing_at(left_at + 86_400)
    assert gone.snapshot.name in standing_at(left_at + 10**7)


def test_a_forgotten_memory_lets_files_stay_longer(tmp_path: Path) -> None:
    feed = Feed(tmp_path, Habits(snapshot_every=1, snapshot_stay_s=100))
    first = feed.publish(MANY).head.snapshot.name
    head = feed.publish({**MANY, "legacy": Listed(frozenset({(5,)}))}).head
    (feed.folder / "desk" / "retired.json").write_text("[")
    assert not feed.publisher().sweep(head, now=feed.now + 99)
    assert not feed.publisher().sweep(head, now=feed.now + 198)
    assert feed.publisher().sweep(head, now=feed.now + 199) == [first]


def test_a_stranger_in_the_folder_is_left_alone(feed: Feed) -> None:
    (feed.folder / "feed" / "robots.txt").write_text("")
    head = feed.publish(MANY).head
    feed.publisher().sweep(head, now=NOW + 10**9)
    assert (feed.folder / "feed" / "robots.txt").exists()


def test_a_reason_keeps_its_id_and_a_new_one_takes_no_others(feed: Feed) -> None:
    one = Listed(frozenset({(1,)}))
    feed.publish({**MANY, "black.stolen": one, "black.unpaid": one})
    content = generation_of({**MANY, "black.stolen": one, "black.lost": one})
    shuffled = dict(content.sections)
    other = generation_of({"black.unpaid": one}).sections["black.unpaid"]
    for name, number in (("black.alpha", 512), ("black.unpaid", 513)):
        shuffled[name] = type(other)(name, other.content, number)
    mixed = Generation("registry", "test", content.session, 1, 1, content.digest, shuffled)
    anew = feed.publish(_digested(mixed))
    ids = {name: section.reason_id for name, section in feed.read().sections.items()}
    assert anew.kind.startswith("delta")
    assert ids["black.stolen"] == 256
    assert ids["black.lost"] == 257
    assert ids["black.unpaid"] == 512
    assert ids["black.alpha"] == 513


def _digested(generation: Generation) -> Generation:
    owned = [s for name, s in generation.sections.items() if name != "black-union"]
    return replace(generation, digest=str(sum(map(of_section, owned), Digest())))


def test_a_list_that_is_gone_is_refused_unless_it_is_meant(feed: Feed) -> None:
    feed.publish({**MANY, "legacy": Listed(frozenset({(5,)}))})
    with pytest.raises(Refused, match=r"legacy .publish-list-missing"):
        feed.publish(MANY)
    assert feed.publish(MANY, allow_missing=True).changes == {"legacy": (1, 0)}
    assert content_of(feed.read()) == MANY


def test_what_a_publisher_refuses(feed: Feed, tmp_path: Path) -> None:
    content, key = generation_of(MANY), OTHER
    feed.publish(MANY)
    seen = feed.look()
    assert seen.head is not None
    with pytest.raises(Refused, match="publish-clock"):
        feed.publisher().publish(content, seen, now=seen.head.made_at - 1)
    with pytest.raises(Refused, match="publish-key-unlisted"):
        feed.publisher(key=key).look([ROOT.public], now=NOW)
    with pytest.raises(Refused, match="root-unknown"):
        feed.publisher().look([OTHER.public], now=NOW)
    bare = Publisher(FolderSite(tmp_path / "bare"), KEY, tmp_path)
    with pytest.raises(Refused, match="publish-no-keys"):
        bare.look([ROOT.public], now=NOW)
    elsewhere = Generation("registry", "other", content.session, 1, 1, content.digest, {})
    with pytest.raises(Refused, match="publish-other-registry"):
        feed.publish(elsewhere)
    with pytest.raises(Refused, match="delta-feeds"):
        feed.publish(generation_of({}, feed="operator"))


def test_a_head_by_a_key_retired_too_early_needs_a_new_session(feed: Feed) -> None:
    before = feed.publish(MANY).head
    held = feed.site.read(KEYS_NAME)
    assert held is not None
    keys = seal_keys(Keys(2, (OTHER.public,), NOW - 100, NOW + 10**8), ROOT)
    feed.site.swap(KEYS_NAME, keys, was=held.tag)
    publisher, now = feed.publisher(key=OTHER), feed.now + 10
    seen = publisher.look([ROOT.public], now=now)
    with pytest.raises(Refused, match="publish-head-unknown"):
        publisher.publish(generation_of(MANY), seen, now=now)
    done = publisher.publish(generation_of(MANY), seen, now=now, new_session=True)
    assert done.kind == "new-session"
    assert done.head.epoch > before.epoch


def test_a_quiet_head_is_signed_anew(feed: Feed) -> None:
    with pytest.raises(Refused, match="publish-nothing"):
        feed.publisher().re_sign([ROOT.public], now=NOW)
    head = feed.publish(MANY).head
    done = feed.publisher().re_sign([ROOT.public], now=feed.now + 60)
    assert done.kind == "re-signed"
    assert feed.head() == replace(head, made_at=feed.now + 60)
    with pytest.raises(Refused, match="publish-clock"):
        feed.publisher().re_sign([ROOT.public], now=feed.now)


STEPS = st.tuples(REGISTRY_CONTENTS, st.integers(0, 5), st.booleans(), st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=8), st.integers(1, 4))
def test_any_history_through_killed_publishers_is_read_whole(
    history: list[tuple[Content, int, bool, bool]], every: int
) -> None:
    with TemporaryDirectory() as folder:
        feed = Feed(Path(folder), Habits(every, delta_stay_s=0, snapshot_stay_s=0))
        feed.publish({})
        local, published = feed.read(), dict[str, Listed]()
        for content, dies_at, after, reads in history:
            try:
                feed.publish(content, MortalSite(feed.site, dies_at, after), allow_missing=True)
            except Killed:
                now_there = content_of(feed.read())
                assert now_there in (published, without_empty(content))
                published = now_there
            else:
                published = without_empty(content)
            if reads:
                local = feed.read(local)
                assert content_of(local) == content_of(feed.read()) == published
        assert content_of(feed.read(local)) == published
