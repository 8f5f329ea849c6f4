"""Files that are damaged, missing, another's, or do not apply: complete old or complete new."""

import dataclasses

import numpy as np
import pytest

from eir.core.delta import Change, Delta, Items
from eir.errors import Refused
from eir.feed.head import FeedFile
from tests.core.contents import array
from tests.feed.test_delta_file import resealed
from tests.scenarios.world import Engine, Registry, session_of, white


def items(*keys: int) -> Items:
    return Items(array(frozenset((key,) for key in keys), 1))


def changed(*, removed: Items, added: Items) -> Delta:
    return Delta({"white": Change(removed, added)}, {})


def replace_delta(registry: Registry, file: FeedFile) -> None:
    registry.deltas[int(file.serial)] = file


def test_a_wrong_hash_is_not_kept_and_asked_for_again(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    registry.announce()
    name = registry.deltas[3].name
    good = registry.files[name]
    registry.files[name] = good[:-1] + bytes([good[-1] ^ 1])
    outcome = following.sync()
    assert (outcome.kind, outcome.reason, outcome.to_serial) == ("failed", "fetch-hash", 2)
    registry.files[name] = good
    assert following.sync().to_serial == 3


@pytest.mark.parametrize("cut", [1, -1])
def test_another_length_than_promised(registry: Registry, following: Engine, cut: int) -> None:
    registry.say(white(3))
    registry.announce()
    name = registry.deltas[3].name
    raw = registry.files[name]
    registry.files[name] = raw + b"x" if cut > 0 else raw[:-1]
    assert following.sync().reason == "fetch-size"
    assert following.holds(white(1, 2))


@pytest.mark.parametrize("more", [-1, -30, -200, 1])
def test_a_delta_signed_but_cut_or_longer_gives_way_to_the_snapshot(
    registry: Registry, following: Engine, more: int
) -> None:
    registry.say(white(3))
    raw, digest = registry.files[registry.deltas[3].name], registry.deltas[3].digest
    other = raw[:more] if more < 0 else raw + bytes(more)
    replace_delta(registry, registry.put(3, other, digest, "delta"))
    registry.announce(snapshot=3)
    outcome = following.sync()
    assert (outcome.kind, outcome.reason, outcome.to_serial) == ("snapshot", "delta-failed", 3)
    assert following.holds(white(3))


def test_a_delta_signed_but_truncated_anywhere(registry: Registry, following: Engine) -> None:
    registry.say(white(3))
    good = registry.deltas[3]
    raw = registry.files[good.name]
    for size in range(1, len(raw)):
        replace_delta(registry, registry.put(3, raw[:size], good.digest, "delta"))
        registry.announce(snapshot=1)
        assert following.sync().reason == "snapshot-behind", size
    assert following.holds(white(1, 2))
    replace_delta(registry, good)
    registry.announce(snapshot=1)
    assert following.sync().kind == "deltas"
    assert following.holds(white(3))


def test_a_snapshot_signed_but_cut_anywhere_or_longer(registry: Registry, engine: Engine) -> None:
    registry.say(white(1, 2))
    good = registry.snapshots[1]
    raw = registry.files[good.name]
    for size in (*range(1, len(raw)), len(raw) + 1):
        registry.snapshots[1] = registry.put(
            1, raw.ljust(size, b"\0")[:size], good.digest, "snapshot"
        )
        registry.announce()
        assert engine.sync().reason == "snapshot-failed", size
    assert engine.held is None
    registry.snapshots[1] = good
    registry.announce()
    assert engine.sync().reason == "first-load"
    assert engine.holds(white(1, 2))


def test_a_file_that_unfolds_into_more_than_there_is_memory(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    good = registry.deltas[3]
    bomb = resealed(registry.files[good.name], sections=[["white", 0, [1 << 60, 0, 0], [0, 0, 0]]])
    replace_delta(registry, registry.put(3, bomb, good.digest, "delta"))
    registry.announce(snapshot=3)
    assert following.sync().reason == "delta-failed"
    assert following.holds(white(3))


def test_a_snapshot_of_another_session(registry: Registry, following: Engine) -> None:
    registry.say(white(3))
    other = dataclasses.replace(registry.generations[3], session=session_of(9))
    registry.snapshots[3] = registry.snapshot(other)
    registry.announce(snapshot=3, deltas=[])
    outcome = following.sync()
    assert (outcome.reason, outcome.alarm) == ("snapshot-failed", True)
    assert following.holds(white(1, 2))


@pytest.mark.parametrize(
    "other",
    [
        {"session": "00000000-0000-0000-0000-0000000000ff"},
        {"registry_id": "elsewhere"},
        {"feed": "registry", "from_serial": 7, "to_serial": 8},
        {"digest_before": "00" * 16},
        {"digest_after": "11" * 16},
    ],
)
def test_a_header_of_another_history(
    registry: Registry, following: Engine, other: dict[str, object]
) -> None:
    registry.say(white(2, 3))
    delta = changed(removed=items(1), added=items(3))
    replace_delta(
        registry,
        dataclasses.replace(
            registry.write(3, delta, **other), digest=registry.generations[3].digest
        ),
    )
    registry.announce(snapshot=3)
    assert following.sync().reason == "delta-failed"
    assert following.holds(white(2, 3))


@pytest.mark.parametrize(
    "delta",
    [
        changed(removed=items(), added=items(2)),
        changed(removed=items(9), added=items()),
    ],
    ids=["adds-what-is-there", "removes-what-is-not"],
)
def test_a_delta_that_contradicts_the_content(
    registry: Registry, following: Engine, delta: Delta
) -> None:
    registry.say(white(3))
    replace_delta(registry, registry.write(3, delta))
    registry.deltas[3] = dataclasses.replace(
        registry.deltas[3], digest=registry.snapshots[3].digest
    )
    registry.announce(snapshot=3)
    assert following.sync().reason == "delta-failed"
    assert following.holds(white(3))


@pytest.mark.parametrize("key", [1, 7], ids=["that-is-there", "that-is-not"])
@pytest.mark.parametrize("way", ["removed", "added"])
def test_a_delta_that_has_an_item_twice(
    registry: Registry, following: Engine, monkeypatch: pytest.MonkeyPatch, key: int, way: str
) -> None:
    registry.say(white(3))
    good = registry.deltas[3]
    twice = Items(np.array([[key], [key]], np.uint64))
    sides = {"removed": items(), "added": items(), way: twice}
    with monkeypatch.context() as careless:
        careless.setattr("eir.feed.delta_file.check_delta", lambda feed, delta: None)
        bad = registry.write(3, changed(**sides))
    replace_delta(registry, dataclasses.replace(bad, digest=good.digest))
    registry.announce(snapshot=3)
    assert following.sync().reason == "delta-failed"
    assert following.holds(white(3))


def test_a_stuck_delta_is_fetched_once(registry: Registry, following: Engine) -> None:
    registry.say(white(3))
    bad = registry.put(3, b"no delta at all", registry.deltas[3].digest, "delta")
    replace_delta(registry, bad)
    registry.announce(snapshot=1)
    for _ in range(3):
        assert following.sync().reason == "snapshot-behind"
    following.restart()
    following.sync()
    assert registry.asked.count(bad.name) == 1
    assert following.serial == 2


def test_a_snapshot_of_another_digest_is_refused_and_not_tried_again(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    registry.snapshots[3] = dataclasses.replace(registry.snapshots[3], digest="22" * 16)
    registry.announce(snapshot=3, deltas=[])
    for _ in range(3):
        outcome = following.sync()
        assert (outcome.reason, outcome.alarm) == ("snapshot-failed", True)
    assert registry.asked.count(registry.snapshots[3].name) == 1
    assert following.holds(white(1, 2))


def test_wrong_on_both_paths_ends_in_one_run(registry: Registry, following: Engine) -> None:
    registry.say(white(3))
    digest = "22" * 16
    replace_delta(registry, dataclasses.replace(registry.deltas[3], digest=digest))
    registry.snapshots[3] = dataclasses.replace(registry.snapshots[3], digest=digest)
    registry.announce(snapshot=3)
    assert following.sync().reason == "snapshot-failed"
    assert following.holds(white(1, 2))


def test_a_later_delta_that_fails_leaves_the_whole_old(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    registry.say(white(4))
    replace_delta(registry, registry.put(4, b"broken", registry.deltas[4].digest, "delta"))
    registry.announce(snapshot=1)
    outcome = following.sync()
    assert (outcome.kind, outcome.to_serial) == ("snapshot", 3)
    assert following.holds(white(3))


def test_files_gone_between_head_and_fetch(registry: Registry, following: Engine) -> None:
    registry.say(white(3))
    registry.announce()
    gone = registry.files.pop(registry.deltas[3].name)
    outcome = following.sync()
    assert (outcome.kind, outcome.reason) == ("failed", "fetch-missing")
    registry.files[registry.deltas[3].name] = gone
    assert following.sync().to_serial == 3


def test_a_head_that_changes_in_mid_sync_is_for_the_next_run(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(3))
    registry.announce()

    def more(name: str) -> None:
        if name.startswith("delta"):
            registry.before_get = lambda _: None
            registry.say(white(4))
            registry.announce()

    registry.before_get = more
    assert following.sync().to_serial == 3
    assert following.sync().to_serial == 4
    assert following.holds(white(4))


def test_a_download_that_was_cut_goes_on_after_a_restart(
    registry: Registry, following: Engine
) -> None:
    registry.say(white(*range(100, 400)))
    registry.announce()
    delta = registry.deltas[3]
    following.keeping.part(delta).write_bytes(registry.files[delta.name][:100])
    following.restart()
    outcome = following.sync()
    assert (outcome.to_serial, outcome.fetched_bytes) == (3, delta.size - 100)


def test_a_server_that_does_not_answer(registry: Registry, following: Engine) -> None:
    def dead(name: str) -> None:
        raise Refused("fetch-timeout", "nothing came", where=name)

    registry.before_get = dead
    outcome = following.sync()
    assert (outcome.kind, outcome.reason, outcome.alarm) == ("failed", "fetch-timeout", False)
    assert following.holds(white(1, 2))
