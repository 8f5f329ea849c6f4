"""Keys: only the pinned root's newest word counts, missed rotations heal, secrets stay private."""

import base64
import contextlib
import dataclasses
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir import limits
from eir.errors import Refused
from eir.feed.envelope import PublicKey, SecretKey
from eir.feed.keys import (
    KEYS,
    Keys,
    key_from_text,
    key_text,
    load_secret,
    new_secret,
    open_keys,
    rotated,
    seal_keys,
)

ROOT, OTHER_ROOT = SecretKey(b"r" * 32), SecretKey(b"o" * 32)
FIRST, SECOND, THIRD = (SecretKey(bytes([i]) * 32).public for i in (1, 2, 3))
NOW = 1_790_000_000
V1 = Keys(1, (FIRST,), NOW - 10, NOW + 1_000)


def refusal(raw: bytes, *, now: int = NOW, kept: Keys | None = None) -> str:
    with pytest.raises(Refused) as refused:
        open_keys(raw, [ROOT.public], now=now, kept=kept)
    return refused.value.reason


def test_what_the_root_signed_is_believed() -> None:
    assert open_keys(seal_keys(V1, ROOT), [ROOT.public], now=NOW) == V1
    assert open_keys(seal_keys(V1, ROOT), [OTHER_ROOT.public, ROOT.public], now=NOW, kept=V1) == V1


def test_another_root_is_not_believed() -> None:
    assert refusal(seal_keys(V1, OTHER_ROOT)) == "root-unknown"


def test_a_lower_version_is_refused() -> None:
    v2 = rotated(V1, new=SECOND, not_before=NOW - 5, expires=NOW + 500)
    assert refusal(seal_keys(V1, ROOT), kept=v2) == "keys-lower"


def test_one_version_has_one_content() -> None:
    again = dataclasses.replace(V1, expires=NOW + 2_000)
    assert refusal(seal_keys(again, ROOT), kept=V1) == "keys-rewritten"


@pytest.mark.parametrize(
    ("now", "reason"), [(NOW - 11, "keys-early"), (NOW + 1_000, "keys-expired")]
)
def test_outside_its_dates_a_keys_file_is_refused(now: int, reason: str) -> None:
    assert refusal(seal_keys(V1, ROOT), now=now) == reason
    assert open_keys(seal_keys(V1, ROOT), [ROOT.public], now=NOW - 10) == V1
    assert open_keys(seal_keys(V1, ROOT), [ROOT.public], now=NOW + 999) == V1


def test_a_missed_rotation_heals() -> None:
    v2 = rotated(V1, new=SECOND, retire=[FIRST], not_before=NOW, expires=NOW + 500)
    v3 = rotated(v2, new=THIRD, retire=[SECOND], not_before=NOW, expires=NOW + 900)
    assert open_keys(seal_keys(v3, ROOT), [ROOT.public], now=NOW, kept=V1) == v3
    assert v3.keys == (THIRD,)
    assert v3.version == 3


def test_rotation_keeps_the_old_key_unless_retired() -> None:
    assert rotated(V1, new=SECOND, not_before=0, expires=1).keys == (SECOND, FIRST)
    for new, retire in ((FIRST, []), (SECOND, [SECOND])):
        with pytest.raises(Refused, match="feed-malformed"):
            rotated(V1, new=new, retire=retire, not_before=0, expires=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": 1 << 64},
        {"keys": ()},
        {"keys": (FIRST, FIRST)},
        {"keys": tuple(SecretKey(bytes([i]) * 32).public for i in range(17))},
        {"not_before": NOW + 1_000},
        {"not_before": -1},
        {"expires": limits.MAX_UNIX_S + 1},
    ],
)
def test_a_root_cannot_sign_what_no_reader_takes(changes: dict[str, object]) -> None:
    with pytest.raises(Refused, match="feed-malformed"):
        seal_keys(dataclasses.replace(V1, **changes), ROOT)


def test_every_truncation_and_flipped_byte_is_refused() -> None:
    raw = seal_keys(V1, ROOT)
    for place in range(len(raw)):
        assert refusal(raw[:place])
        assert refusal(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
    assert refusal(raw + b"\x00") == "feed-signature"
    assert refusal(KEYS.seal(raw[80:] + b"\x00", ROOT)) == "feed-malformed"


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-1, limits.MAX_SERIAL)
    | st.text(max_size=3)
    | st.lists(st.binary(min_size=31, max_size=33) | st.integers(0, 9), max_size=3)
)


@given(st.sampled_from(["format", "version", "keys", "not_before", "expires"]), VALUES)
def test_any_value_of_any_field_is_read_or_refused(field: str, value: object) -> None:
    fields = msgpack.unpackb(seal_keys(V1, ROOT)[80:])
    fields[field] = value
    with contextlib.suppress(Refused):
        keys = open_keys(KEYS.seal(msgpack.packb(fields), ROOT), [ROOT.public], now=NOW)
        assert seal_keys(keys, ROOT)[80:] == msgpack.packb(fields)


def test_a_later_format_says_upgrade() -> None:
    assert refusal(KEYS.seal(msgpack.packb({"format": "eir-keys-2"}), ROOT)) == "feed-format"


@given(st.binary(min_size=32, max_size=32))
def test_the_text_of_a_key_reads_back(raw: bytes) -> None:
    text = key_text(PublicKey(raw), "root")
    assert key_from_text(text, "root") == PublicKey(raw)
    prefix, groups = text.split(":")
    typed = f"  {prefix}:{groups.replace('-', ' ')}\n".upper()
    assert key_from_text(typed, "root") == PublicKey(raw)


@given(st.integers(0, 55), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_mistyped_character_is_found(place: int, letter: str) -> None:
    prefix, groups = key_text(FIRST, "root").split(":")
    letters = groups.replace("-", "")
    typed = f"{prefix}:{letters[:place]}{letter}{letters[place + 1 :]}"
    if letters[place] == letter:
        assert key_from_text(typed, "root") == FIRST
    else:
        with pytest.raises(Refused, match="mistyped"):
            key_from_text(typed, "root")


def test_a_feed_key_is_not_pinned_as_root() -> None:
    text = key_text(FIRST, "feed")
    assert key_from_text(text, "feed") == FIRST
    for bad in (text, text.replace("feed", "root"), "", "eir-root-1:abc", "eir-root-1:" + "!" * 56):
        with pytest.raises(Refused, match="key-text"):
            key_from_text(bad, "root")
    with pytest.raises(Refused, match="key-text"):
        key_from_text(key_text(FIRST, "root") + "a" * 99, "root")


def test_a_secret_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    public = new_secret(path, "root")
    assert path.stat().st_mode & 0o777 == 0o600
    secret = load_secret(path, "root")
    assert secret.public == public
    assert public.verifies(secret.sign(b"word"), b"word")
    assert not public.verifies(secret.sign(b"word"), b"wort")


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    new_secret(tmp_path / "feed.key", "feed")
    before = (tmp_path / "feed.key").read_bytes()
    with pytest.raises(Refused, match="key-file-exists"):
        new_secret(tmp_path / "feed.key", "feed")
    assert (tmp_path / "feed.key").read_bytes() == before


def key_refusal(path: Path) -> str:
    with pytest.raises(Refused) as refused:
        load_secret(path, "feed")
    return refused.value.reason


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feed.key"
    assert key_refusal(path) == "key-file-unreadable"
    new_secret(path, "feed")
    path.chmod(0o640)
    assert key_refusal(path) == "key-file-mode"
    assert key_refusal(tmp_path) == "key-file-mode"
    path.chmod(0o600)
    seed = base64.b64encode(b"s" * 31)
    for text in (b"", b"hello", b"eir-feed-secret-1:" + seed, b"eir-feed-secret-1:!\n"):
        path.write_bytes(text)
        assert key_refusal(path) == "key-file-malformed"
    path.unlink()
    new_secret(path, "root")
    assert key_refusal(path) == "key-file-malformed"
