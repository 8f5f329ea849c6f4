"""What a node does about a head that it believes: nothing, deltas, or the snapshot."""

import pytest

from eir.sync.plan import PlanLimits
from tests.scenarios.world import NOW, Engine, Registry, white


def test_the_first_load_takes_snapshot_and_deltas(registry: Registry, engine: Engine) -> None:
    registry.say(white(1))
    registry.say(white(1, 2))
    registry.announce()
    outcome = engine.sync()
    assert (outcome.kind, outcome.reason, outcome.to_serial) == ("snapshot", "first-load", 2)
    assert engine.published[-1] is engine.held
    assert engine.holds(white(1, 2))


def test_an_unchanged_head_costs_no_bytes(registry: Registry, following: Engine) -> None:
    following.sync()
    registry.asked.clear()
    outcome = following.sync()
    assert (outcome.kind, outcome.fetched_bytes) == ("up-to-date", 0)
    assert registry.asked == ["keys", "head"]
    assert len(following.published) == 1


def test_a_head_signed_again_renews_what_is_held(registry: Registry, following: Engine) -> None:
    head = registry.announce()
    assert following.sync().reason == "up-to-date"
    assert following.renewed[-1] == head.made_at


def test_one_delta(registry: Registry, following: Engine) -> None:
    registry.say(white(2, 3))
    registry.announce()
    outcome = following.sync()
    assert (outcome.kind, outcome.from_serial, outcome.to_serial) == ("deltas", 2, 3)
    assert outcome.counts == (("white", 2),)
    assert following.holds(white(2, 3))


def test_ten_deltas(registry: Registry, following: Engine) -> None:
    for key in range(3, 13):
        registry.say(white(key, key + 1), snapshot=False)
    registry.announce()
    following.bounds = PlanLimits(max_deltas=1000)
    registry.files[registry.snapshots[1].name] = b"nobody asks for it"
    outcome = following.sync()
    assert (outcome.kind, outcome.to_serial) == ("deltas", 12)
    assert following.holds(white(12, 13))


def test_a_snapshot_ahead_of_the_deltas_is_passed_over(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    registry.announce(snapshot=3)
    assert following.sync().reason == "deltas"
    assert following.holds(white(3))


@pytest.mark.parametrize(
    ("deltas", "reason"),
    [
        ([], "deltas-empty"),
        ([4, 5], "deltas-lack-next"),
        ([2], "deltas-lack-next"),
        ([3, 5], "deltas-hole"),
        ([2, 3, 4], "deltas-end-early"),
    ],
)
def test_deltas_that_do_not_lead_there_mean_the_snapshot(
    registry: Registry, following: Engine, deltas: list[int], reason: str
) -> None:
    for serial in (3, 4, 5):
        registry.say(white(serial))
    registry.announce(snapshot=5, deltas=deltas)
    outcome = following.sync()
    assert (outcome.kind, outcome.reason, outcome.to_serial) == ("snapshot", reason, 5)
    assert following.holds(white(5))


def test_an_empty_list_at_the_same_serial_is_nothing(registry: Registry, following: Engine) -> None:
    registry.announce(snapshot=2, deltas=[])
    assert following.sync().reason == "up-to-date"


def test_a_snapshot_behind_and_no_deltas_lead_nowhere(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    registry.announce(snapshot=1, deltas=[])
    for _ in range(3):
        outcome = following.sync()
        assert (outcome.kind, outcome.reason, outcome.alarm) == ("refused", "snapshot-behind", True)
    assert following.holds(white(1, 2))


def test_a_new_session_is_a_new_history(registry: Registry, following: Engine) -> None:
    registry.begin_anew(epoch=2)
    registry.say(white(7))
    registry.announce()
    outcome = following.sync()
    assert (outcome.reason, outcome.to_serial) == ("new-session", 1)
    assert following.holds(white(7))


def test_a_new_session_with_the_same_serial_is_one_too(
    registry: Registry, following: Engine
) -> None:
    registry.begin_anew(epoch=2)
    registry.say(white(7))
    registry.say(white(8))
    registry.announce(snapshot=2)
    assert following.sync().reason == "new-session"
    assert following.holds(white(8))


def test_history_rewritten_is_taken_with_an_alarm(registry: Registry, following: Engine) -> None:
    registry.begin_anew(epoch=1)
    for keys in ((1,), (1, 5), (1, 5, 6)):
        registry.say(white(*keys))
    registry.announce(snapshot=3)
    outcome = following.sync()
    assert (outcome.reason, outcome.alarm) == ("history-rewritten", True)
    assert following.holds(white(1, 5, 6))


@pytest.mark.parametrize("by", ["delta", "snapshot"])
def test_history_rewritten_by_one_file_alone(
    registry: Registry, following: Engine, by: str
) -> None:
    """The other kind is not in the head, or is what it was."""
    registry.begin_anew(epoch=1)
    for keys in ((1,), (1, 5), (1, 5, 6)):
        registry.say(white(*keys))
    if by == "delta":
        registry.announce(snapshot=3, deltas=[2, 3])
    else:
        registry.announce(snapshot=2, deltas=[3])
    outcome = following.sync()
    assert (outcome.kind, outcome.reason, outcome.alarm) == ("snapshot", "history-rewritten", True)
    assert following.holds(white(1, 5, 6))


def test_deltas_bigger_than_the_snapshot_mean_the_snapshot(
    registry: Registry, following: Engine
) -> None:
    for keys in (range(1_000, 9_000, 7), range(2_000, 9_000, 11), (9,)):
        registry.say(white(*keys))
    registry.announce(snapshot=5)
    outcome = following.sync()
    assert (outcome.kind, outcome.reason, outcome.to_serial) == ("snapshot", "deltas-too-big", 5)
    assert following.holds(white(9))


def test_too_many_deltas_mean_a_newer_snapshot(registry: Registry, following: Engine) -> None:
    for key in range(3, 8):
        registry.say(white(key))
    registry.announce(snapshot=7)
    following.bounds = PlanLimits(max_deltas=4)
    assert following.sync().reason == "deltas-too-many"
    assert following.holds(white(7))


def test_a_delta_over_the_cap_means_the_snapshot(registry: Registry, following: Engine) -> None:
    registry.say(white(*range(100, 150)))
    registry.announce(snapshot=3)
    following.bounds = PlanLimits(max_delta_bytes=registry.deltas[3].size - 1)
    assert following.sync().reason == "delta-too-large"
    assert following.holds(white(*range(100, 150)))


def test_a_snapshot_over_the_cap_is_refused(registry: Registry, engine: Engine) -> None:
    registry.say(white(1))
    registry.announce()
    engine.bounds = PlanLimits(max_snapshot_bytes=10)
    assert engine.sync().reason == "snapshot-too-large"
    assert engine.held is None


def test_a_resync_over_what_is_there_replaces_it(registry: Registry, following: Engine) -> None:
    outcome = following.sync(forced=True)
    assert (outcome.kind, outcome.reason) == ("snapshot", "forced")
    assert following.holds(white(1, 2))


@pytest.mark.parametrize("years", [-20, 20])
def test_a_clock_that_jumps_ends_no_service(
    registry: Registry, following: Engine, years: int
) -> None:
    following.now = NOW + years * 31_000_000
    assert following.sync().kind == "refused"
    assert following.serial == 2
    following.now = NOW
    registry.say(white(3))
    registry.announce()
    assert following.sync().kind == "deltas"
