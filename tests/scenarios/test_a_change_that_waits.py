"""What the guard holds waits for a person, survives a restart, and lapses when superseded."""

import pytest

from eir.core.generation import Generation
from eir.core.policy import Policy
from eir.ops.weighing import Beside, judge_by
from eir.serve.guard import GuardLimits
from eir.sync.client import Candidate, Change
from tests.scenarios.world import Engine, Registry, white


def too_much(old: Generation | None, new: Candidate) -> str:
    return "9 newly refused" if new.generation.serial < 5 else ""


def waiting(registry: Registry, engine: Engine) -> Change:
    engine.judge = too_much
    registry.say(white(3))
    registry.announce()
    outcome = engine.sync()
    assert (outcome.kind, outcome.reason, outcome.detail) == ("held", "guard", "9 newly refused")
    change = engine.keeping.memory().waiting
    assert change is not None
    return change


def test_it_is_told_again_and_again_but_weighed_once(registry: Registry, following: Engine) -> None:
    waiting(registry, following)
    renewed = list(following.renewed)
    following.restart()
    registry.asked.clear()
    assert following.sync().detail == "9 newly refused"
    assert registry.asked == ["keys", "head"]
    assert following.renewed == renewed
    assert following.holds(white(1, 2))


def test_it_serves_once_accepted(registry: Registry, following: Engine) -> None:
    following.keeping.accept(waiting(registry, following))
    assert following.sync().to_serial == 3
    assert following.keeping.memory().waiting is None
    assert following.holds(white(3))


def test_what_was_accepted_lapses_when_superseded(registry: Registry, following: Engine) -> None:
    following.keeping.accept(waiting(registry, following))
    registry.say(white(4))
    registry.announce()
    assert following.sync().kind == "held"
    registry.say(white(1, 2, 3))
    registry.announce()
    assert following.sync().to_serial == 5
    assert following.keeping.memory().waiting is None


@pytest.mark.parametrize(
    ("keys", "figures"),
    [
        (
            range(1, 700),
            "shrinks from 1,000 items to 699, beyond [guard] max_shrink = 0.2; 0 of 301",
        ),
        (
            range(1, 2_100),
            "grows from 1,000 items to 2,099, beyond [guard] max_growth_percent = 100; 0 of 1,099",
        ),
    ],
    ids=["shrinks", "grows"],
)
def test_a_list_that_leaves_the_guards_bounds(
    registry: Registry, engine: Engine, keys: range, figures: str
) -> None:
    engine.judge = judge_by(lambda: Beside(GuardLimits(), Policy(), {}, 0, 3_600))
    registry.say(white(*range(1, 1_001)))
    registry.announce()
    assert engine.sync().reason == "first-load"
    registry.say(white(*keys))
    registry.announce(snapshot=2, deltas=[])
    for _ in range(2):
        outcome = engine.sync()
        assert (outcome.kind, outcome.reason, outcome.alarm) == ("held", "guard", True)
        assert outcome.detail == f"white {figures} devices and pairs newly refused"
    assert engine.holds(white(*range(1, 1_001)))
    registry.say(white(*range(1, 1_002)))
    registry.announce(snapshot=3)
    assert engine.sync().to_serial == 3
