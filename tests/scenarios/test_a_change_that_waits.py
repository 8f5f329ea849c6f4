"""What the guard holds waits for a person, survives a restart, and lapses when superseded."""

from eir.core.generation import Generation
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
