"""A registry's history through publishers that end and begin at random, read by three engines that
do: equal digests, and equal answers to every query.
"""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from eir.core.generation import Generation
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.feed.address import Address
from eir.feed.publish import Habits
from eir.sync.reader import Patience
from eir.sync.store_reader import StoreReader
from tests.core.contents import (
    BLOCKS,
    IMSIS,
    KEYS,
    NUMBERS,
    REGISTRY_CONTENTS,
    Content,
    content_of,
    generation_of,
    without_empty,
)
from tests.faults.test_depot_writes import Killed, failing
from tests.scenarios.nation import Nation
from tests.scenarios.world import Engine

NOW = 1_760_000_000
EDGES = [key for block in BLOCKS for key in (block[0] - 1, block[0], block[1], block[1] + 1)]
ASKED = np.array(
    [each for each in product((0, *KEYS, *EDGES), (0, *NUMBERS), (0, *IMSIS)) if any(each)],
    np.uint64,
)
"""Every query that any of these contents can tell apart from another."""

ENDS = st.none() | st.integers(1, 40)
"""At which step on its disk a process ends; None: it lives."""


def answers(generation: Generation) -> list[tuple[int, ...]]:
    """Status, decided status, reason and row of every query, and until when it holds."""
    tables = Tables(generation, None, Policy())
    columns = [np.ascontiguousarray(column) for column in ASKED.T]
    counts = np.zeros((256, 5), np.uint64)
    told = tables.check(*columns, now=NOW, grace_time=NOW, counts=counts)
    names = [tables.reason_names[int(tables.reasons[code])] for code in told.rows[:, 2]]
    rows = zip(told.rows[:, [0, 1, 3]].tolist(), names, told.valid_until.tolist(), strict=True)
    return [(*row, name, until) for row, name, until in rows]


class LivesOfAFeed(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.scratch = tempfile.TemporaryDirectory()
        folder = Path(self.scratch.name)
        habits = Habits(snapshot_every=3, delta_stay_s=4, snapshot_stay_s=4)
        self.nation = Nation(folder, habits=habits)
        self.told: dict[tuple[str, int], Content] = {}
        self.publish({}, None, anew=False)
        reader = StoreReader(Address(str(folder / "feed")), Patience())
        self.engines = [Engine(folder / f"depot-{n}", reader) for n in range(3)]

    @rule(content=REGISTRY_CONTENTS, ended=ENDS, anew=st.sampled_from([False, False, True]))
    def publish(self, content: Content, ended: int | None, anew: bool) -> None:
        """A publisher begins, publishes, and may end in the middle."""
        self.nation.now += 1
        try:
            with failing(self.patch, ended or 0, after=False, how=Killed()):
                self.nation.publish(content, new_session=anew)
        except Killed:
            pass
        stands = self.nation.look()
        assert stands.head is not None
        assert stands.content is not None, stands.lost
        said = (stands.head.session, int(stands.head.serial))
        self.told.setdefault(said, content)
        assert content_of(stands.content) == without_empty(self.told[said])

    @rule()
    def lose_the_desk(self) -> None:
        """The publisher goes on from another machine."""
        desk = self.nation.publisher.folder
        self.nation = Nation(
            self.nation.folder,
            self.nation.site,
            habits=self.nation.publisher.habits,
            desk=f"{desk.name}-",
            now=self.nation.now,
        )

    @rule(number=st.integers(0, 2), ended=ENDS, after=st.booleans(), restarted=st.booleans())
    def sync(self, number: int, ended: int | None, after: bool, restarted: bool) -> None:
        """An engine asks; it may end in the middle, and begin again from its disk."""
        engine = self.engines[number]
        try:
            with failing(self.patch, ended or 0, after=after, how=Killed()):
                outcome = engine.sync()
        except Killed:
            engine.restart()
            return
        assert outcome.good, outcome.line()
        if restarted:
            engine.restart()

    @invariant()
    def every_engine_holds_what_was_told_whole(self) -> None:
        for engine in self.engines:
            held = engine.held
            if held is not None:
                assert content_of(held) == without_empty(self.told[held.session, held.serial])

    def teardown(self) -> None:
        try:
            head = self.nation.look().head
            assert head is not None
            expected = answers(generation_of(self.told[head.session, int(head.serial)]))
            for engine in self.engines:
                assert engine.sync().good
                engine.restart()
                assert engine.held is not None
                assert (engine.held.session, engine.serial) == (head.session, head.serial)
                assert engine.held.digest == self.nation.digest()
                assert answers(engine.held) == expected
        finally:
            self.patch.undo()
            self.scratch.cleanup()


LivesOfAFeed.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestLivesOfAFeed = LivesOfAFeed.TestCase
