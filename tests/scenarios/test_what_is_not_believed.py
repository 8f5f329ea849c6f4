"""Heads and keys of somebody else, of yesterday, or of an attacker: what served goes on."""

from eir.feed.head import HEAD_NAME
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
