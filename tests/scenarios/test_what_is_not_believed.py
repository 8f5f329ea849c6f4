"""Heads and keys of somebody else, of yesterday, or of an attacker: what served goes on."""

import msgpack
import pytest

from eir.feed.head import HEAD, HEAD_NAME
from tests.scenarios.world import KEY, NOW, OTHER, Engine, Registry, white


def refused(engine: Engine, reason: str, serial: int = 2) -> None:
    before = len(engine.published)
    outcome = engine.sync()
    assert (outcome.kind, outcome.reason, outcome.to_serial) == ("refused", reason, serial)
    assert len(engine.published) == before


def test_another_registry(registry: Registry, following: Engine) -> None:
    registry.announce(registry_id="elsewhere")
    refused(following, "other-registry")


def test_a_signature_that_is_none(registry: Registry, following: Engine) -> None:
    registry.announce()
    raw = bytearray(registry.files[HEAD_NAME])
    raw[-1] ^= 1
    registry.files[HEAD_NAME] = bytes(raw)
    refused(following, "feed-signature")


def test_a_key_that_nobody_named(registry: Registry, following: Engine) -> None:
    registry.announce(key=OTHER)
    refused(following, "head-key-unknown")


def test_a_head_one_behind(registry: Registry, following: Engine) -> None:
    stale = registry.files[HEAD_NAME]
    registry.say(white(3))
    registry.announce()
    assert following.sync().to_serial == 3
    registry.files[HEAD_NAME] = stale
    refused(following, "head-replayed", serial=3)


def test_a_head_far_behind(registry: Registry, following: Engine) -> None:
    stale = registry.files[HEAD_NAME]
    for key in range(3, 20):
        registry.say(white(key))
    registry.announce()
    assert following.sync().to_serial == 19
    registry.files[HEAD_NAME] = stale
    refused(following, "head-replayed", serial=19)


def resigned(registry: Registry, **changes: object) -> None:
    """The head with fields that no publisher of ours would sign, signed by its key."""
    fields = msgpack.unpackb(HEAD.open(registry.files[HEAD_NAME], [KEY.public]))
    registry.files[HEAD_NAME] = HEAD.seal(msgpack.packb(fields | changes), KEY)


@pytest.mark.parametrize("order", [[1, 0, 0], [0, 0, 1], [1, 0], [0, 1, 1]], ids=str)
def test_deltas_that_are_doubled_or_out_of_order(
    registry: Registry, following: Engine, order: list[int]
) -> None:
    for key in (3, 4):
        registry.say(white(key))
    registry.announce(deltas=[3, 4])
    good = registry.files[HEAD_NAME]
    listed = msgpack.unpackb(HEAD.open(good, [KEY.public]))["deltas"]
    resigned(registry, deltas=[listed[place] for place in order])
    refused(following, "feed-malformed")
    registry.files[HEAD_NAME] = good
    assert following.sync().to_serial == 4


@pytest.mark.parametrize("name", ["../head", "/etc/passwd", "..", "a/b", "head"])
def test_a_name_that_leaves_the_folder(registry: Registry, following: Engine, name: str) -> None:
    registry.say(white(3))
    head = registry.announce(deltas=[3])
    raw = registry.files[HEAD_NAME]
    (file,) = msgpack.unpackb(HEAD.open(raw, [KEY.public]))["deltas"]
    assert file["name"] == head.deltas[0].name
    resigned(registry, deltas=[file | {"name": name}])
    registry.asked.clear()
    refused(following, "feed-malformed")
    assert registry.asked == ["keys", "head"]


def test_an_older_session_is_a_replay_even_when_all_data_is_lost(
    registry: Registry, following: Engine
) -> None:
    stale = registry.files[HEAD_NAME]
    registry.begin_anew(epoch=2)
    registry.say(white(7))
    registry.announce()
    following.sync()
    registry.files[HEAD_NAME] = stale
    (following.depot.folder / "manifest.json").unlink()
    following.restart()
    refused(following, "head-replayed", serial=0)
    assert following.sync(allow_downgrade=True).reason == "first-load"


def test_two_sessions_of_one_epoch(registry: Registry, following: Engine) -> None:
    registry.announce(session="00000000-0000-0000-0000-0000000000ff")
    refused(following, "epoch-reused")


def test_a_rotation(registry: Registry, following: Engine) -> None:
    registry.sign_keys(2, OTHER, KEY)
    registry.say(white(3))
    registry.announce(key=OTHER)
    assert following.sync().to_serial == 3


def test_a_rotation_that_was_slept_through(registry: Registry, following: Engine) -> None:
    registry.sign_keys(5, OTHER)
    registry.say(white(3))
    registry.announce(key=OTHER)
    assert following.sync().to_serial == 3


def test_an_expired_keys_file(registry: Registry, following: Engine) -> None:
    following.now = NOW + 10**8
    refused(following, "keys-expired")


def test_a_lower_keys_file_even_after_the_higher_has_expired(
    registry: Registry, following: Engine
) -> None:
    registry.sign_keys(3, KEY, expires=NOW + 10)
    following.sync()
    following.now = NOW + 20
    refused(following, "keys-expired")
    registry.sign_keys(2, KEY)
    following.restart()
    refused(following, "keys-lower")


def test_a_keys_file_of_another_root(registry: Registry, following: Engine) -> None:
    registry.sign_keys(2, KEY, root=OTHER)
    refused(following, "root-unknown")


def test_a_head_that_is_too_old_to_begin_with(registry: Registry, engine: Engine) -> None:
    registry.say(white(1))
    registry.announce()
    engine.now = NOW + 8 * 86_400
    refused(engine, "head-old", serial=0)
