"""A file of sightings: what one node wrote is what is read, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import struct

import msgpack
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from eir import limits
from eir.errors import Refused
from eir.feed.envelope import SecretKey, pack, unpack
from eir.feed.sightings import (
    SIGHTINGS,
    FileName,
    Sightings,
    file_name,
    open_sightings,
    seal_sightings,
)

KEY, OTHER = SecretKey(b"n" * 32), SecretKey(b"o" * 32)
IMSI = (432_110_000_000_001 << 4) | 15

keys = st.tuples(
    st.integers(1, limits.MAX_IMEI_KEY), st.integers(0, 10**15 - 1), st.sampled_from((0, IMSI))
)
contents = st.builds(
    lambda triples, sequence, made_at, census, seed: Sightings(
        sequence, made_at, census, rows_of(triples, seed)
    ),
    st.sets(keys, min_size=1, max_size=40),
    st.integers(1, 10**10 - 1),
    st.integers(0, limits.MAX_UNIX_S),
    st.booleans(),
    st.integers(0, 2**32),
)


def rows_of(triples: set[tuple[int, int, int]], seed: int = 0) -> np.ndarray:
    chance = random.Random(seed)
    rest = ((chance.randrange(1, 1 << 16), chance.randrange(1 << 32)) for _ in triples)
    return np.array([(*t, *r) for t, r in zip(sorted(triples), rest, strict=True)], np.uint64)


def small(**other: object) -> Sightings:
    rows = rows_of({(35_209_900_000_001, 0, IMSI), (35_209_900_000_002, 989_121_000_000, 0)})
    return dataclasses.replace(Sightings(7, 1_750_000_000, False, rows), **other)


def refusal(raw: bytes) -> str:
    with pytest.raises(Refused) as refused:
        open_sightings(raw, [KEY.public])
    return refused.value.reason


@given(contents)
def test_what_was_sealed_is_opened_and_has_one_encoding(sightings: Sightings) -> None:
    raw = seal_sightings(sightings, KEY)
    found = open_sightings(raw, [OTHER.public, KEY.public])
    assert (found.sequence, found.made_at, found.census) == (
        sightings.sequence,
        sightings.made_at,
        sightings.census,
    )
    assert (found.rows == sightings.rows).all()
    assert seal_sightings(found, KEY) == raw


def test_a_reader_written_from_the_page_alone_reads_the_same() -> None:
    raw = seal_sightings(small(), KEY)
    magic, key_id, signature, body = raw[:8], raw[8:16], raw[16:80], raw[80:]
    public = KEY.public.raw
    assert (magic, key_id) == (b"EIRSEEN1", hashlib.sha256(public).digest()[:8])
    Ed25519PublicKey.from_public_bytes(public).verify(signature, body)
    fields = msgpack.unpackb(body)
    rows = zip(
        struct.unpack("<2Q", fields["imei"]),
        struct.unpack("<2Q", fields["msisdn"]),
        struct.unpack("<2Q", fields["imsi"]),
        struct.unpack("<2H", fields["reason"]),
        struct.unpack("<2I", fields["seen"]),
        strict=True,
    )
    assert [list(row) for row in rows] == small().rows.tolist()
    told = {name: fields[name] for name in ("format", "sequence", "made_at", "census", "count")}
    assert told == {
        "format": "eir-sightings-1",
        "sequence": 7,
        "made_at": 1_750_000_000,
        "census": False,
        "count": 2,
    }


def test_the_longest_file_fits_its_cap() -> None:
    rows = np.zeros((limits.MAX_SIGHTINGS_ROWS, 5), np.uint64)
    rows[:, 0] = np.arange(1, len(rows) + 1)
    rows[:, 3] = 16
    raw = seal_sightings(small(rows=rows), KEY)
    assert len(open_sightings(raw, [KEY.public]).rows) == limits.MAX_SIGHTINGS_ROWS


def test_every_flipped_bit_and_every_truncation_is_refused() -> None:
    raw = seal_sightings(small(), KEY)
    for at in range(len(raw)):
        refusal(raw[:at])
        refusal(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :])
    assert refusal(raw + b"\0") == "feed-signature"


def test_another_nodes_key_is_not_believed() -> None:
    assert refusal(seal_sightings(small(), OTHER)) == "root-unknown"
    assert refusal(b"x" * (limits.MAX_SIGHTINGS_BYTES + 1)) == "feed-too-large"


def signed(**changes: object) -> bytes:
    """Properly signed, with fields that no node would write."""
    fields = unpack(seal_sightings(small(), KEY)[80:], max_items=20)
    assert isinstance(fields, dict)
    return SIGHTINGS.seal(pack({**fields, **changes}), KEY)


def column(*values: int, kind: str = "<u8") -> bytes:
    return np.array(values, kind).tobytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sequence": 0}, "1 or more"),
        ({"sequence": 10**10}, "1 or more"),
        ({"sequence": True}, "integers"),
        ({"made_at": -1}, "time"),
        ({"census": 1}, "true or false"),
        ({"count": 0}, "rows"),
        ({"count": 1 << 40}, "rows"),
        ({"count": 3}, "values"),
        ({"imei": b""}, "values"),
        ({"imei": "text"}, "values"),
        ({"imei": column(0, 5)}, "none can be"),
        ({"imei": column(1, 10**14)}, "none can be"),
        ({"imei": column(5, 5), "msisdn": column(7, 7), "imsi": column(0, 0)}, "ascend"),
        ({"imei": column(6, 5)}, "ascend"),
        ({"msisdn": column(10**15, 1)}, "none can be"),
        ({"imsi": column(1 << 60, 0)}, "none can be"),
        ({"imsi": column(123_456 << 4 | 5, 0)}, "none can be"),
        ({"imsi": column(1_234 << 4 | 4, 0)}, "none can be"),
        ({"reason": column(0, 16, kind="<u2")}, "no reason"),
        ({"more": 1}, "limits"),
        ({"sequence": 7.0}, "integers"),
        ({"format": 1}, "canonical"),
    ],
    ids=str,
)
def test_a_signed_file_that_breaks_the_format_is_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        open_sightings(signed(**changes), [KEY.public])
    assert refused.value.reason == "sightings-malformed"


def test_a_later_format_asks_for_an_upgrade() -> None:
    assert refusal(signed(format="eir-sightings-2")) == "feed-format"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 8))
def test_whatever_is_signed_is_read_or_refused(noise: bytes, at: int, cut: int) -> None:
    """The key's owner may be anybody by now: no body ends in anything but a content or Refused."""
    body = seal_sightings(small(), KEY)[80:]
    for damaged in (noise or b"x", body[:at] + noise + body[at + cut :]):
        raw = SIGHTINGS.seal(damaged, KEY)
        try:
            found = open_sightings(raw, [KEY.public])
        except Refused:
            continue
        assert seal_sightings(found, KEY) == raw


@pytest.mark.parametrize(
    "name",
    [
        "",
        "head",
        "sightings-1",
        "sightings-" + "0" * 16 + "-0000000000",
        "x" + str(FileName("a", 1)),
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert file_name(name) is None


def test_a_name_says_node_and_sequence() -> None:
    name = FileName(KEY.public.id.hex(), 12)
    assert file_name(str(name)) == name
    assert str(name).endswith("-0000000012")
