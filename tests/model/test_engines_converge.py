"""A random history, told in random ways, to engines that end and begin at random: one content."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.contents import REGISTRY_CONTENTS, Content, content_of, without_empty
from tests.faults.test_depot_writes import Killed, failing
from tests.scenarios.world import Engine, Registry

ENGINES = 3


@dataclass(frozen=True)
class Publish:
    """The next serial, told by the newest ``deltas`` and a snapshot so many serials back."""

    content: Content
    deltas: int
    back: int
    anew: bool


@dataclass(frozen=True)
class Sync:
    """One engine asks; ended at the ``killed``th step on its disk, if it takes so many."""

    engine: int
    killed: int
    restarted: bool


STEPS = st.lists(
    st.builds(
        Publish,
        REGISTRY_CONTENTS,
        st.integers(0, 4),
        st.integers(0, 3),
        st.sampled_from([False, False, False, True]),
    )
    | st.builds(Sync, st.integers(0, ENGINES - 1), st.integers(1, 40), st.booleans()),
    min_size=4,
    max_size=20,
)


def publish(registry: Registry, step: Publish) -> None:
    if step.anew and registry.generations:
        registry.begin_anew(registry.epoch + 1)
    serial = registry.say(step.content)
    first = max(2, serial - step.deltas + 1)
    deltas = list(range(first, serial + 1))
    reachable = max(1, serial - step.back, first - 1)
    registry.announce(snapshot=reachable if deltas else serial, deltas=deltas)


def ask(engine: Engine, step: Sync, patch: pytest.MonkeyPatch) -> None:
    before = engine.serial
    try:
        with failing(patch, step.killed, after=step.restarted, how=Killed()):
            outcome = engine.sync()
    except Killed:
        engine.restart()
        return
    assert outcome.good, outcome.line()
    assert outcome.kind != "deltas" or engine.serial > before
    if step.restarted:
        engine.restart()


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_all_engines_end_with_what_the_registry_says(steps: list[Publish | Sync]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        registry = Registry(folder / "feed")
        registry.say({})
        registry.announce()
        engines = [Engine(folder / f"depot-{n}", registry) for n in range(ENGINES)]
        told: dict[tuple[str, int], Content] = {(session(registry), 1): {}}
        for step in steps:
            if isinstance(step, Publish):
                publish(registry, step)
                told[session(registry), max(registry.generations)] = step.content
                continue
            engine = engines[step.engine]
            ask(engine, step, patch)
            if engine.held is not None:
                is_said = told[engine.held.session, engine.held.serial]
                assert content_of(engine.held) == without_empty(is_said)
        last = registry.generations[max(registry.generations)]
        for engine in engines:
            engine.sync()
            engine.restart()
            assert engine.held is not None
            assert (engine.held.serial, engine.held.digest) == (last.serial, last.digest)
            assert engine.sync().kind == "up-to-date"


def session(registry: Registry) -> str:
    return registry.generations[1].session
