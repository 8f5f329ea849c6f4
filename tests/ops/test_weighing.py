"""Two feeds that move at the same moment: each is weighed beside what serves when it would."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from eir.core.generation import OPERATOR, REGISTRY, Generation
from eir.errors import Refused
from eir.feed.codec import SnapshotHead, SnapshotWriter
from eir.ops.keeper import Keeper
from eir.ops.keeping import FeedKeeping
from eir.ops.reload_guard import waiting
from eir.ops.settings.config import read_config
from eir.sync.client import Candidate, Change
from tests.core.contents import Content, Listed, generation_of
from tests.ops.conftest import write_config

DEVICES = range(1, 31)
WHITE = {"white": Listed(frozenset((n,) for n in DEVICES))}
PAST = {**WHITE, "grey": Listed(frozenset((n, 0, 1_700_000_000) for n in DEVICES))}
EXEMPT = {"exempt.equipment": Listed(frozenset((n,) for n in DEVICES))}


class Absent:
    """A crew of nobody: what it is told to serve, it serves."""

    def next_number(self) -> int:
        return 1

    async def hand_over(self, order: object, tables: object) -> None: ...

    def send_orphans_home(self) -> None: ...


class Two:
    """A keeper's write path, without processes, over a depot of two feeds."""

    def __init__(self, folder: Path) -> None:
        path = write_config(folder, "\n[guard]\nmax_newly_refused = 10\n")
        config = read_config(path.read_text(), name=str(path), folder=folder)
        self.keeper = Keeper(config, config_path=path)
        self.keeper._crew = Absent()  # type: ignore[assignment]
        self.depot, self.config = self.keeper._depot, config
        self.said: dict[tuple[str, int], Generation] = {}

    def keep(self, feed: str, serial: int, content: Content) -> None:
        """The gate has let it through: it is durable."""
        made = replace(generation_of(content, feed=feed), serial=serial)
        head = SnapshotHead(feed, made.registry_id, made.session, serial, 1_760_000_000)
        writer = SnapshotWriter(head)
        for name, section in made.sections.items():
            if name != "black-union":
                writer.add(section)
        self.depot.adopt(writer.write(self.depot.new_path()), head)
        self.said[feed, serial] = self.depot.open_newest(feed).generation

    def judged(self, feed: str, serial: int, content: Content) -> str:
        """What the guard says at the gate, as of now."""
        new = replace(generation_of(content, feed=feed), serial=serial)
        candidate = Candidate(new, (), (), base=True, steps=())
        judge = self.keeper._followings[OPERATOR]._judge
        return judge(self.said[feed, serial - 1], candidate)

    async def serve(self, *feeds: str) -> None:
        if not feeds:
            await self.keeper._take_up(self.config)
        for feed in feeds:
            await self.keeper._serve_reached(feed)

    @property
    def serials(self) -> Mapping[str, int]:
        return {feed: opened.generation.serial for feed, opened in self.keeper._taken.items()}


@pytest.fixture
async def two(tmp_path: Path) -> Two:
    two = Two(tmp_path / "node")
    two.keep(REGISTRY, 1, WHITE)
    two.keep(OPERATOR, 1, EXEMPT)
    await two.serve()
    return two


async def both_judged(two: Two) -> None:
    assert two.judged(REGISTRY, 2, PAST) == ""
    assert two.judged(OPERATOR, 2, {}) == ""
    two.keep(REGISTRY, 2, PAST)
    two.keep(OPERATOR, 2, {})


@pytest.mark.parametrize("first", [REGISTRY, OPERATOR])
async def test_two_harmless_changes_that_harm_together_dont_both_serve(
    two: Two, first: str
) -> None:
    await both_judged(two)
    (second,) = {REGISTRY, OPERATOR} - {first}
    await two.serve(first)
    assert two.serials == {first: 2, second: 1}
    with pytest.raises(Refused, match=r"30 of 30 .* newly refused .*grace-expired 30"):
        await two.serve(second)
    assert two.serials == {first: 2, second: 1}
    stands = waiting(two.depot)
    assert stands is not None
    await two.serve(first)
    assert waiting(two.depot) == stands, "what the other feed does of itself settles nothing"
    with pytest.raises(Refused, match="30 of 30"):
        await two.serve(second)


async def test_what_waits_lapses_when_its_feed_goes_on(two: Two) -> None:
    await both_judged(two)
    await two.serve(REGISTRY)
    with pytest.raises(Refused):
        await two.serve(OPERATOR)
    two.keep(OPERATOR, 3, EXEMPT)
    await two.serve(OPERATOR)
    assert two.serials == {REGISTRY: 2, OPERATOR: 3}
    assert waiting(two.depot) is None


async def test_a_person_lets_both_serve(two: Two) -> None:
    await both_judged(two)
    await two.serve(REGISTRY)
    made = two.said[OPERATOR, 2]
    FeedKeeping(two.depot, OPERATOR, 1).accept(Change(made.session, 2, made.digest))
    await two.serve(OPERATOR)
    assert two.serials == {REGISTRY: 2, OPERATOR: 2}


async def test_what_was_judged_beside_what_serves_is_weighed_once(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert two.judged(REGISTRY, 2, PAST) == ""
    two.keep(REGISTRY, 2, PAST)
    monkeypatch.setattr("eir.ops.keeper.weigh", None)
    await two.serve(REGISTRY)
    assert two.serials == {REGISTRY: 2, OPERATOR: 1}
