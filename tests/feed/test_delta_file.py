"""Laws 4 and 6 of delta files: one encoding of equal content, and any other octet is refused."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eir import limits
from eir.core.delta import Delta, between
from eir.core.generation import Generation
from eir.errors import Conflict, Corrupt, Refused
from eir.feed.delta_columns import decode_rows, encode_rows
from eir.feed.delta_file import (
    DeltaHead,
    advance,
    check_delta,
    decode_delta,
    read_delta,
    write_delta,
)
from tests.core.contents import (
    HISTORIES,
    SESSION,
    Content,
    Listed,
    changes_of,
    content_of,
    delta_of,
    generation_of,
    without_empty,
)

OLD: Content = {
    "white": Listed(frozenset({(1,), (2,), (65_536,)}), frozenset({(10, 19)})),
    "grey": Listed(frozenset({(3, 0, 1_750_000_000), (3, 12_345, 1_750_000_001)})),
    "black.lost": Listed(frozenset({(5,)})),
}
NEW: Content = {
    "white": Listed(frozenset({(1,), (7,), (8,), (9,)}), frozenset({(30, 39), (50, 59)})),
    "bindings": Listed(frozenset({(1, 989_120_000_000), (1, 989_120_000_001)})),
    "grey": Listed(frozenset({(3, 0, 1_760_000_000)})),
    "black.lost": Listed(frozenset({(5,), (6,)})),
}


def head_of(old: Generation, new: Generation) -> DeltaHead:
    return DeltaHead(old.feed, "test", SESSION, 1, 2, 1_700_000_100, old.digest, new.digest)


def written(path: Path, old: Generation, new: Generation) -> bytes:
    path.unlink(missing_ok=True)
    facts = write_delta(path, head_of(old, new), between(old, new))
    raw = path.read_bytes()
    assert (facts.size, facts.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    return raw


@pytest.fixture
def small(tmp_path: Path) -> bytes:
    return written(tmp_path / "delta", generation_of(OLD), generation_of(NEW))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HISTORIES)
def test_what_was_written_is_read_and_leads_on(
    tmp_path: Path, history: tuple[str, list[Content]]
) -> None:
    feed, contents = history
    old, new = (generation_of(content, feed=feed) for content in contents[:2])
    raw = written(tmp_path / "delta", old, new)
    head, delta = read_delta(tmp_path / "delta")
    assert head == head_of(old, new)
    assert changes_of(delta) == changes_of(between(old, new))
    assert written(tmp_path / "delta", old, new) == raw
    after = advance(old, head, delta)
    assert content_of(after) == without_empty(contents[1])
    assert (after.serial, after.digest) == (2, new.digest)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, (1 << 54) - 1) | st.integers(0, 3)] * 2), unique=True))
def test_columns_are_read_back(found: list[tuple[int, int]]) -> None:
    rows = np.array(sorted(found), np.uint64).reshape(-1, 2)
    packed = np.frombuffer(encode_rows(rows), np.uint8)
    again, used = decode_rows(packed, len(rows), 2)
    assert used == len(packed)
    assert np.array_equal(again, rows)


def test_equal_differences_take_no_more_octets() -> None:
    batch = np.arange(35_209_900_000_000, 35_209_900_100_000, 2, dtype=np.uint64).reshape(-1, 1)
    assert len(encode_rows(batch)) < 16


def test_a_word_beyond_54_bits_is_not_written() -> None:
    with pytest.raises(ValueError, match="54 bits"):
        encode_rows(np.array([[1 << 54]], np.uint64))


def test_every_truncation_flip_and_tail_is_corrupt(small: bytes) -> None:
    for size in range(len(small)):
        with pytest.raises(Corrupt):
            decode_delta(small[:size])
    for at in range(len(small)):
        flipped = bytearray(small)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises(Corrupt):
            decode_delta(bytes(flipped))
    for tail in (b"\0", b"x", small):
        with pytest.raises(Corrupt):
            decode_delta(small + tail)


def test_octets_behind_good_hashes_do_no_harm(small: bytes, tmp_path: Path) -> None:
    """In a process of its own: compiled code that reads too far would end the process."""
    (tmp_path / "small").write_bytes(small)
    command = [sys.executable, "-m", "tests.feed.fuzz_delta", str(tmp_path / "small"), "4000"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    refused, taken = map(int, ended.stdout.split())
    assert refused > 3000
    assert refused + taken == 4000


def resealed(raw: bytes, **changed: object) -> bytes:
    """The file with fields of its header changed, and hashes that fit."""
    length = struct.unpack_from("<Q", raw, 8)[0]
    fields = msgpack.unpackb(raw[64 : 64 + length]) | changed
    packed = msgpack.packb(fields)
    prefix = struct.pack("<8sQ32s16x", raw[:8], len(packed), hashlib.sha256(packed).digest())
    return prefix + packed + raw[64 + length :]


@pytest.mark.parametrize(
    "changed",
    [
        {"to": 3},
        {"from": 0, "to": 1},
        {"from": "1"},
        {"made_at": 0},
        {"made_at": 1.5},
        {"feed": "nation"},
        {"feed": "operator"},
        {"registry": ""},
        {"registry": 7},
        {"session": "1"},
        {"session": None},
        {"digest_after": b""},
        {"digest_before": 1.5},
        {"format": "eir-delta-2"},
        {"sections": []},
        {"sections": [["white", 0, [1 << 60, 0, 0], [0, 0, 0]]]},
        {"sections": [["white", 0, [-1, 0, 0], [0, 0, 0]]]},
        {"sections": [[7, 0, [0, 0, 0], [1, 0, 0]]]},
        {"sections": None},
        {"length": 0},
        {"more": 1},
    ],
)
def test_a_header_out_of_its_domain_is_corrupt(small: bytes, changed: dict[str, object]) -> None:
    assert decode_delta(resealed(small))
    with pytest.raises(Corrupt):
        decode_delta(resealed(small, **changed))


def test_counts_beyond_the_cap_allocate_nothing(small: bytes) -> None:
    most = limits.MAX_DELTA_ITEMS
    with pytest.raises(Corrupt, match="at most"):
        decode_delta(resealed(small, sections=[["white", 0, [most, 0, 0], [1, 0, 0]]]))


@pytest.mark.parametrize(
    "changed",
    [
        {"feed": "operator"},
        {"registry_id": "other"},
        {"session": "00000000-0000-4000-8000-000000000009"},
        {"from_serial": 2, "to_serial": 3},
        {"digest_before": "0" * 32},
        {"digest_after": "0" * 32},
    ],
)
def test_a_step_of_another_feed_or_content_is_a_conflict(changed: dict[str, object]) -> None:
    old, new = generation_of(OLD), generation_of(NEW)
    delta = between(old, new)
    assert advance(old, head_of(old, new), delta)
    with pytest.raises(Conflict):
        advance(old, replace(head_of(old, new), **changed), delta)


@pytest.mark.parametrize(
    "changes",
    [
        {"white": (Listed(frozenset({(1,)})), Listed(frozenset({(1,)})))},
        {"white": (Listed(), Listed(ranges=frozenset({(1, 5), (4, 9)})))},
        {"white": (Listed(), Listed())},
        {"white": (Listed(), Listed(frozenset({(0,)})))},
        {"white": (Listed(), Listed(frozenset({(10**14,)})))},
        {"released": (Listed(), Listed(frozenset({(12_345,)})))},
        {"grey": (Listed(), Listed(frozenset({(1, 0, 1 << 32)})))},
        {"bindings": (Listed(), Listed(ranges=frozenset({(1, 5)})))},
        {"black.new": (Listed(), Listed(frozenset({(1,)})))},
    ],
)
def test_a_malformed_delta_is_not_written(
    changes: dict[str, tuple[Listed, Listed]], tmp_path: Path
) -> None:
    old = generation_of(OLD)
    with pytest.raises(ValueError, match=r"\w"):
        write_delta(tmp_path / "delta", head_of(old, old), delta_of(changes))
    assert not (tmp_path / "delta").exists()


def test_too_many_items_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = generation_of(OLD), generation_of(NEW)
    monkeypatch.setattr(limits, "MAX_DELTA_ITEMS", 3)
    with pytest.raises(Refused, match="delta-too-big"):
        written(tmp_path / "delta", old, new)
    assert not (tmp_path / "delta").exists()


def test_a_reasons_id_belongs_to_a_black_list() -> None:
    delta = delta_of({"white": (Listed(), Listed(frozenset({(1,)})))})
    with pytest.raises(ValueError, match="no black list"):
        check_delta("registry", Delta(delta.changes, {"white": 256}))


def test_a_missing_file_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="No such file"):
        read_delta(tmp_path / "delta")
