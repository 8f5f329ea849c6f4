"""The head: canonical, verified before parsed, and no damaged byte of it is ever believed."""

import contextlib
import dataclasses
import uuid

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir import limits
from eir.errors import Refused
from eir.feed.envelope import PublicKey, SecretKey
from eir.feed.head import HEAD, FeedFile, Head, Serial, is_file_name, open_head, seal_head

KEY = SecretKey(b"k" * 32)
TRUSTED = [KEY.public]
SESSION = "5d2e2ab4-5c5f-4a37-9c56-3d7f3a1a1f00"


def feed_file(serial: int, name: str) -> FeedFile:
    return FeedFile(Serial(serial), name, 10 + serial, f"{serial:02x}" * 32, f"{serial:02x}" * 16)


def small_head(**changes: object) -> Head:
    head = Head(
        registry_id="nation",
        epoch=3,
        session=SESSION,
        serial=Serial(7),
        made_at=1_790_000_000,
        snapshot=feed_file(5, "snapshot-5-aa"),
        counts=(("black.stolen", 12), ("white", 400)),
        deltas=(feed_file(6, "delta-6-bb"), feed_file(7, "delta-7-cc")),
    )
    return dataclasses.replace(head, **changes)


def body_of(head: Head) -> dict[str, object]:
    fields: dict[str, object] = msgpack.unpackb(seal_head(head, KEY)[80:])
    return fields


def signed(fields: object) -> bytes:
    return HEAD.seal(msgpack.packb(fields), KEY)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    serials = draw(st.lists(st.integers(1, limits.MAX_SERIAL), unique=True, max_size=6).map(sorted))
    at = draw(st.integers(1, limits.MAX_SERIAL))
    digests = {serial: draw(st.binary(min_size=16, max_size=16)).hex() for serial in {*serials, at}}

    def one(serial: int, kind: str) -> FeedFile:
        size = draw(st.integers(1, limits.MAX_FEED_FILE_BYTES))
        sha256 = draw(st.binary(min_size=32, max_size=32)).hex()
        return FeedFile(Serial(serial), f"{kind}-{serial}", size, sha256, digests[serial])

    sections = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,31}", fullmatch=True)
    counts = draw(st.dictionaries(sections, st.integers(0, limits.MAX_SECTION_ITEMS), max_size=4))
    return Head(
        registry_id=draw(st.text("abcXYZ-_.ایران", min_size=1, max_size=30)),
        epoch=draw(st.integers(1, limits.MAX_SERIAL)),
        session=str(draw(st.uuids())),
        serial=Serial(draw(st.integers(max([at, *serials]), limits.MAX_SERIAL))),
        made_at=draw(st.integers(1, limits.MAX_UNIX_S)),
        snapshot=one(at, "snapshot"),
        counts=tuple(sorted(counts.items())),
        deltas=tuple(one(serial, "delta") for serial in serials),
    )


@given(heads())
def test_decode_of_encode_is_identity_and_canonical(head: Head) -> None:
    raw = seal_head(head, KEY)
    assert open_head(raw, TRUSTED) == head
    assert seal_head(open_head(raw, TRUSTED), KEY) == raw


def test_every_truncation_is_refused() -> None:
    raw = seal_head(small_head(), KEY)
    for length in range(len(raw)):
        with pytest.raises(Refused):
            open_head(raw[:length], TRUSTED)


def test_every_flipped_byte_is_refused() -> None:
    raw = seal_head(small_head(), KEY)
    for place in range(len(raw)):
        for mask in (0x01, 0x80):
            bad = bytearray(raw)
            bad[place] ^= mask
            with pytest.raises(Refused):
                open_head(bytes(bad), TRUSTED)


@given(st.binary(max_size=200))
def test_a_trusted_key_over_noise_is_refused_not_a_crash(noise: bytes) -> None:
    with pytest.raises(Refused, match=r"feed-(malformed|format)"):
        open_head(HEAD.seal(b"\x80" + noise, KEY), TRUSTED)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-1, 9)
        | st.text(max_size=4)
        | st.binary(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=6,
    ),
    st.sampled_from(sorted(body_of(small_head()))),
)
def test_any_value_of_any_field_is_read_or_refused(value: object, field: str) -> None:
    fields = body_of(small_head())
    fields[field] = value
    with contextlib.suppress(Refused):
        assert body_of(open_head(signed(fields), TRUSTED)) == fields


def test_signature_is_checked_before_anything_is_parsed() -> None:
    stranger = SecretKey(b"s" * 32)
    raw = HEAD.magic + KEY.public.id + stranger.sign(b"\xc1") + b"\xc1"
    with pytest.raises(Refused) as refused:
        open_head(raw, TRUSTED)
    assert refused.value.reason == "feed-signature"
    with pytest.raises(Refused) as refused:
        open_head(HEAD.seal(b"\xc1", stranger), TRUSTED)
    assert refused.value.reason == "head-key-unknown"


def test_too_large_is_refused_by_its_length_alone() -> None:
    with pytest.raises(Refused) as refused:
        open_head(b"x" * (limits.MAX_HEAD_BYTES + 1), TRUSTED)
    assert refused.value.reason == "feed-too-large"


def test_the_largest_head_fits() -> None:
    count = limits.MAX_HEAD_DELTAS
    deltas = tuple(
        FeedFile(Serial(limits.MAX_SERIAL - i), f"{i:0128d}", 1 << 40, "aa" * 32, "dd" * 16)
        for i in reversed(range(count))
    )
    counts = tuple((f"{i:064d}", 1 << 32) for i in range(limits.MAX_HEAD_COUNTS))
    head = small_head(deltas=deltas, counts=counts, serial=Serial(limits.MAX_SERIAL))
    assert open_head(seal_head(head, KEY), TRUSTED) == head
    more = (FeedFile(Serial(6), "more", 1, "aa" * 32, "dd" * 16), *deltas)
    with pytest.raises(Refused, match="feed-malformed"):
        seal_head(dataclasses.replace(head, deltas=more), KEY)


def test_a_later_format_says_upgrade() -> None:
    with pytest.raises(Refused) as refused:
        open_head(signed({"format": "eir-head-2", "anything": 1}), TRUSTED)
    assert refused.value.reason == "feed-format"


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"serial": Serial(0)},
        {"serial": Serial(1 << 64)},
        {"serial": Serial(6)},
        {"made_at": 0},
        {"session": SESSION.upper()},
        {"session": "none"},
        {"registry_id": ""},
        {"registry_id": "a\nb"},
        {"registry_id": "x" * 257},
        {"registry_id": "\ud800"},
        {"deltas": (feed_file(7, "b"), feed_file(6, "c"))},
        {"deltas": (feed_file(6, "b"), feed_file(6, "c"))},
        {"deltas": (feed_file(6, "b"), feed_file(7, "b"))},
        {"deltas": (dataclasses.replace(feed_file(5, "b"), digest="ff" * 16),)},
        {"deltas": (feed_file(6, "../b"),)},
        {"snapshot": feed_file(8, "a")},
        {"snapshot": feed_file(5, "head")},
        {"snapshot": dataclasses.replace(feed_file(5, "a"), size=0)},
        {"snapshot": dataclasses.replace(feed_file(5, "a"), size=(1 << 40) + 1)},
        {"snapshot": dataclasses.replace(feed_file(5, "a"), sha256="aa" * 31)},
        {"snapshot": dataclasses.replace(feed_file(5, "a"), sha256="AA" * 32)},
        {"snapshot": dataclasses.replace(feed_file(5, "a"), digest="not hex")},
        {"counts": (("white", 1), ("black", 1))},
        {"counts": (("white", 1), ("white", 1))},
        {"counts": (("WHITE", 1),)},
        {"counts": (("white", -1),)},
    ],
)
def test_a_publisher_cannot_sign_what_no_reader_takes(changes: dict[str, object]) -> None:
    with pytest.raises(Refused) as refused:
        seal_head(small_head(**changes), KEY)
    assert refused.value.reason == "feed-malformed"


def test_long_forms_trailing_bytes_and_double_keys_are_refused() -> None:
    good = seal_head(small_head(), KEY)[80:]
    long_epoch = good.replace(b"\xa5epoch\x03", b"\xa5epoch\xcc\x03")
    double = b"\x89" + good[1:] + msgpack.packb("epoch") + b"\x03"
    for body in (long_epoch, good + b"\x00", double):
        assert body != good
        with pytest.raises(Refused) as refused:
            open_head(HEAD.seal(body, KEY), TRUSTED)
        assert refused.value.reason == "feed-malformed"


@pytest.mark.parametrize("name", ["snapshot-1-ab", "0", "delta-9.eird", "a" * 128])
def test_plain_names_are_names(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/a",
        ".a",
        "-a",
        "A",
        "a\n",
        "a%2f",
        "head",
        "keys",
        "a\x00",
        "س",
        "c:a",
        "a b",
        "a?b",
        "a#b",
        "a" * 129,
    ],
)
def test_names_never_leave_the_folder(name: str) -> None:
    assert not is_file_name(name)


def test_digests_tell_every_serial() -> None:
    head = small_head()
    assert head.digests() == {serial: f"{serial:02x}" * 16 for serial in (5, 6, 7)}


def test_a_session_is_a_uuid_of_any_version() -> None:
    for session in (uuid.uuid1(), uuid.uuid4()):
        head = small_head(session=str(session))
        assert open_head(seal_head(head, KEY), TRUSTED) == head


def test_no_repr_shows_a_secret() -> None:
    assert "kkk" not in repr(KEY)
    assert PublicKey(KEY.public.raw) == KEY.public
