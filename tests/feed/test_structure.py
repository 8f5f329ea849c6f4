"""Files whose every hash is right and whose structure is not: found before the kernel trusts them.

The kernel looks at no bounds, so what passes here is believed. Each case names the section that
must be blamed, and takes a good file apart, changes one thing, and sews it up with right hashes.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
import pyroaring
import pytest

from eir.core import imeiset
from eir.core.generation import BLACK_UNION, OPERATOR, REGISTRY
from eir.core.orders import Hold, Override
from eir.errors import Corrupt
from eir.feed.codec import open_snapshot
from eir.feed.digest import encode_order
from tests.feed import small
from tests.feed.incisions import (
    Change,
    entry,
    header,
    longer,
    parts_swapped,
    repeated,
    runs,
    shorter,
    swapped,
    unread_part,
    whole,
    without,
    word,
)
from tests.feed.surgery import Cut, Patient, dissect, enclose, sew

INFINITE = struct.pack("<I", 0x7FFF_FFFF)


@dataclass(frozen=True, slots=True)
class Attack:
    says: str
    blamed: str
    change: Change
    feed: str = REGISTRY


def roaring(name: str, *values: int) -> Change:
    """Another list's bytes, in a section that counts its own."""
    return whole(name, "keys", imeiset.build([small.array(*values)]).data.tobytes())


def ranges(*rows: tuple[int, int]) -> Change:
    octets = b"".join(struct.pack("<QQ", low, high) for low, high in rows)

    def change(patient: Patient) -> None:
        cut = patient["legacy"]
        cut.items = len(rows)
        cut.put("ranges", octets)

    return change


def as_if(name: str, other: str) -> Change:
    """The content and kind of one section under the name of another."""

    def change(patient: Patient) -> None:
        taken = patient.drop(name)
        place = patient.cuts.index(patient[other])
        patient.cuts[place] = Cut(other, taken.kind, 0, taken.base, taken.items, taken.parts)

    return change


def rows(name: str, *orders: Override | Hold) -> Change:
    def change(patient: Patient) -> None:
        patient[name].items = len(orders)
        patient[name].put("rows", b"".join(encode_order(order) for order in orders))

    return change


def packed(name: str, *fields: object) -> Change:
    def change(patient: Patient) -> None:
        patient[name].items = len(fields)
        patient[name].put("rows", b"".join(msgpack.packb(row) for row in fields))

    return change


def reorder(patient: Patient) -> None:
    patient.cuts[0], patient.cuts[1] = patient.cuts[1], patient.cuts[0]


def union_first(patient: Patient) -> None:
    patient.cuts.insert(0, patient.drop(BLACK_UNION))


def other_bytes(name: str, octets: bytes, items: int) -> Change:
    """Roaring bytes of any maker, in a section that counts them right."""

    def change(patient: Patient) -> None:
        patient[name].items = items
        patient[name].put("keys", octets)

    return change


def uncompacted(*values: int) -> bytes:
    return bytes(pyroaring.BitMap64(values, optimize=False).serialize())


OWN = "black.own-words"
RUNS = [
    Attack("a run beyond its container", OWN, other_bytes(OWN, runs(100, (65500, 99)), 100)),
    Attack("runs that hold less than they claim", OWN, other_bytes(OWN, runs(101, (1, 99)), 101)),
    Attack("runs that hold more than they claim", OWN, other_bytes(OWN, runs(99, (1, 99)), 99)),
    Attack("runs that touch", OWN, other_bytes(OWN, runs(100, (1, 49), (51, 49)), 100)),
    Attack("runs that overlap", OWN, other_bytes(OWN, runs(100, (1, 49), (50, 49)), 100)),
    Attack("runs out of order", OWN, other_bytes(OWN, runs(100, (100, 49), (1, 49)), 100)),
    Attack("no runs in a container of runs", OWN, other_bytes(OWN, runs(100), 100)),
    Attack("runs that take more than an array", OWN, other_bytes(OWN, runs(2, (1, 1)), 2)),
    Attack("flags of containers that there are not", OWN,
           other_bytes(OWN, runs(100, (1, 99), flags=3), 100)),
    Attack("no flag on the only container", OWN,
           other_bytes(OWN, runs(100, (1, 99), flags=0), 100)),
    Attack("an array that runs would shorten", OWN,
           other_bytes(OWN, uncompacted(*range(1, 100)), 99)),
    Attack("a bitset that runs would shorten", OWN,
           other_bytes(OWN, uncompacted(*range(1, 9000)), 8999)),
]  # fmt: skip

LISTS = [
    Attack("more buckets than bytes", "white", word("white", "keys", 0, 1 << 60, size=8)),
    Attack("buckets below zero", "white", word("white", "keys", 0, (1 << 64) - 1, size=8)),
    Attack("one bucket less than there are", "white", word("white", "keys", 0, 2, size=8)),
    Attack("one bucket more than there are", "white", word("white", "keys", 0, 5, size=8)),
    Attack("a bucket's number goes back", "white", word("white", "keys", 8, 0xFFFF_FFFF)),
    Attack("an unknown cookie", "white", word("white", "keys", 12, 12348)),
    Attack("containers without end", "white", word("white", "keys", 12, 0xFFFF << 16 | 12347)),
    Attack("no container in a bucket", "white", word("white", "keys", 16, 0)),
    Attack("a container's key goes back", "legacy", roaring("legacy", 1)),
    Attack("an offset points elsewhere", "white", word("white", "keys", 24, 17)),
    Attack("a card that is not the container's", "white", word("white", "keys", 22, 9, size=2)),
    Attack("values out of order", "black.stolen", word("black.stolen", "keys", -2, 0, size=2)),
    Attack("values repeated", "black.own-words",
           lambda p: (roaring("black.own-words", 6, 8, 20)(p),
                      entry("black.own-words", items=3)(p),
                      word("black.own-words", "keys", -4, 6, size=2)(p))),
    Attack("more bits than the bitset's card", "black.stolen",
           word("black.stolen", "keys", 2000, (1 << 64) - 1, size=8)),
    Attack("cut short", "white", shorter("white", "keys", 2)),
    Attack("bytes behind the last container", "white", longer("white", "keys", b"\0\0")),
    Attack("nothing at all", "white", whole("white", "keys", b"")),
    Attack("an empty list with an item", "black.own-words",
           whole("black.own-words", "keys", bytes(8))),
    Attack("one item more than counted", "black.own-words", roaring("black.own-words", 6, 7)),
    Attack("zero, which is none, in a list", "black.own-words", roaring("black.own-words", 0)),
    Attack("what is no IMEI in a list", "black.own-words", roaring("black.own-words", 10**14)),
    Attack("ranges that overlap", "legacy", ranges((1, 5), (5, 6))),
    Attack("ranges that touch", "legacy", ranges((1, 5), (6, 7))),
    Attack("ranges out of order", "legacy", ranges((6, 7), (1, 2))),
    Attack("a range that ends before it begins", "legacy", ranges((7, 6))),
    Attack("a range beyond all IMEIs", "legacy", ranges((1, 10**14))),
    Attack("half a range", "legacy", shorter("legacy", "ranges", 8)),
    Attack("a range without its end's last byte", "legacy", shorter("legacy", "ranges", 1)),
    Attack("a list with a base", "white", entry("white", base=1)),
    Attack("a list without ranges", "white", without("white", "ranges")),
    Attack("parts in another order", "white", parts_swapped("white")),
    Attack("a part that nobody reads", "white", unread_part("white")),
]  # fmt: skip

# A container of an index: (key >> 16, rank, cardinality | lowest | kind | highest, offset).
INDEXES = [
    Attack("a rank that jumps", "bindings", word("bindings", "containers", 40, 1 << 40, size=8)),
    Attack("a rank that goes back", "bindings", word("bindings", "containers", 40, 0, size=8)),
    Attack("a first rank", "bindings", word("bindings", "containers", 8, 1, size=8)),
    Attack("no key in a container", "bindings", word("bindings", "containers", 16, 0, size=8)),
    Attack("a million keys in one", "bindings", word("bindings", "containers", 16, 0xFFFFF)),
    Attack("containers out of order", "bindings", swapped("bindings", "containers", 32, 0, 1)),
    Attack("a container twice", "bindings",
           lambda p: longer("bindings", "containers", p["bindings"].part("containers")[-32:])(p)),
    Attack("a container's number beyond keys", "bindings",
           word("bindings", "containers", 6, 0xFFFF, size=2)),
    Attack("an offset beyond the bytes", "bindings",
           word("bindings", "containers", -8, 1 << 40, size=8)),
    Attack("an offset below zero", "bindings",
           word("bindings", "containers", -8, (1 << 64) - 64, size=8)),
    Attack("lines where lows stand", "bindings", word("bindings", "containers", 21, 1, size=1)),
    Attack("a line's rank", "bindings", word("bindings", "index", 64, 7, size=2)),
    Attack("a bit more than keys", "bindings", word("bindings", "index", 70, 0xFF, size=1)),
    Attack("a container less than keys", "bindings", shorter("bindings", "containers", 32)),
    Attack("half a container", "bindings", shorter("bindings", "containers", 16)),
    Attack("an index cut short", "bindings", shorter("bindings", "index", 16)),
    Attack("an index with more behind", "bindings", longer("bindings", "index", bytes(16))),
    Attack("padding that is not zero", "bindings.imsi",
           word("bindings.imsi", "index", -2, 1, size=2)),
    Attack("an empty index", "bindings", whole("bindings", "containers", b"")),
]  # fmt: skip

PAIRS = [
    Attack("a value less than keys", "bindings", shorter("bindings", "values", 4)),
    Attack("a value more than keys", "bindings", longer("bindings", "values", bytes(4))),
    Attack("half a value", "bindings", shorter("bindings", "values", 2)),
    Attack("a run that begins elsewhere", "bindings", word("bindings", "values", 0, 1 << 31 | 1)),
    Attack("a run beyond the words", "bindings", word("bindings", "values", -4, (1 << 32) - 1)),
    Attack("an escape that is no run", "bindings", word("bindings", "values", 8, 0x7FFF_FFFF)),
    Attack("a run without end", "bindings", whole("bindings", "words", INFINITE * 30)),
    Attack("a run whose escape is cut", "bindings", shorter("bindings", "words", 4)),
    Attack("words behind the last run", "bindings", longer("bindings", "words", bytes(4))),
    Attack("no words for its runs", "bindings", whole("bindings", "words", b"")),
    Attack("values of a run out of order", "bindings", swapped("bindings", "words", 4, 1, 4)),
    Attack("a base beyond words", "header", entry("bindings", base=1 << 63)),
    Attack("a base that its far values fit", "bindings", entry("bindings", base=0)),
    Attack("another base", "header", entry("bindings", base=(small.NUMBER >> 30 << 30) + 1)),
    Attack("a base that makes values what no number is", "bindings",
           entry("bindings", base=(1 << 63) - 1)),
    Attack("more items than pairs", "bindings", entry("bindings", items=404)),
    Attack("no items", "bindings", entry("bindings", items=0)),
]  # fmt: skip

DEADLINES = [
    Attack("starts that do not begin at zero", "grey", word("grey", "starts", 0, 1)),
    Attack("starts that go back", "grey", word("grey", "starts", 8, 0)),
    Attack("a key without rows", "grey", word("grey", "starts", 4, 0)),
    Attack("rows beyond the end", "grey", word("grey", "starts", -4, 1 << 31)),
    Attack("one row beyond the end", "grey", word("grey", "starts", -4, 5)),
    Attack("rows that nobody has", "grey", word("grey", "starts", -4, 3)),
    Attack("a start less than keys", "grey", shorter("grey", "starts", 4)),
    Attack("numbers out of order", "grey", swapped("grey", "numbers", 8, 1, 2)),
    Attack("a number twice", "grey", word("grey", "numbers", 16, 0, size=8)),
    Attack("what is no number", "grey", word("grey", "numbers", -8, 10**15, size=8)),
    Attack("a number less", "grey", shorter("grey", "numbers", 8)),
    Attack("a deadline less", "grey", shorter("grey", "deadlines", 4)),
    Attack("a deadline more", "grey", longer("grey", "deadlines", bytes(4))),
]

OVERRIDE = [1, 0, True, 0, False, "", 0, ""]
HOLD = [5, [], "", "", "", 0, ""]
ORDERS = [
    Attack(says, section, change, OPERATOR)
    for says, section, change in [
        ("overrides out of order", "overrides",
         rows("overrides", Override(2, 0, True), Override(1, 0, True))),
        ("an override twice", "overrides",
         rows("overrides", Override(1, 0, True), Override(1, 0, True))),
        ("two overrides of one pair", "overrides",
         rows("overrides", Override(1, 0, False), Override(1, 0, True))),
        ("an override of nobody", "overrides", rows("overrides", Override(0, 0, True))),
        ("an override of what is no IMEI", "overrides",
         rows("overrides", Override(10**14, 0, True))),
        ("a float for an IMEI", "overrides", packed("overrides", [1.0, *OVERRIDE[1:]])),
        ("true for an IMEI", "overrides", packed("overrides", [True, *OVERRIDE[1:]])),
        ("a text for allow", "overrides", packed("overrides", [1, 0, "no", *OVERRIDE[3:]])),
        ("a list for a text", "overrides", packed("overrides", [*OVERRIDE[:7], ["x"]])),
        ("nil for a text", "overrides", packed("overrides", [*OVERRIDE[:7], None])),
        ("a field less", "overrides", packed("overrides", OVERRIDE[:7])),
        ("a field more", "overrides", packed("overrides", [*OVERRIDE, 0])),
        ("a map for a row", "overrides", packed("overrides", {"imei": 1})),
        ("a number for a row", "overrides", packed("overrides", 7)),
        ("one item more than counted", "overrides",
         longer("overrides", "rows", msgpack.packb([10**13, *OVERRIDE[1:]]))),
        ("half a row", "overrides", shorter("overrides", "rows", 1)),
        ("a byte that msgpack never uses", "overrides", longer("overrides", "rows", b"\xc1")),
        ("an array without end", "overrides", whole("overrides", "rows", b"\xdd\xff\xff\xff\xff")),
        ("a text without end", "overrides", whole("overrides", "rows", b"\xdb\xff\xff\xff\xff")),
        ("arrays in arrays", "overrides", whole("overrides", "rows", b"\x91" * 100_000)),
        ("a text that is no UTF-8", "overrides",
         whole("overrides", "rows", msgpack.packb(OVERRIDE)[:-1] + b"\xa1\xff")),
        ("a number longer than need be", "overrides",
         whole("overrides", "rows", b"\x98\xcc\x01" + msgpack.packb(OVERRIDE)[2:])),
        ("holds out of order", "holds", rows("holds", Hold(6), Hold(5))),
        ("a hold without a date", "holds", rows("holds", Hold(0))),
        ("TACs out of order", "holds", packed("holds", [5, [2, 1], *HOLD[2:]])),
        ("a text for TACs", "holds", packed("holds", [5, "12", *HOLD[2:]])),
        ("a TAC that is none", "holds", packed("holds", [5, [10**8], *HOLD[2:]])),
        ("a TAC of half a number", "holds", packed("holds", [5, [1.5], *HOLD[2:]])),
        ("a reason that can't be held", "holds", packed("holds", [5, [], "stolen", *HOLD[3:]])),
        ("a prefix that is no digits", "holds", packed("holds", [5, [], "", "x", *HOLD[4:]])),
        ("a prefix of bytes", "holds", packed("holds", [5, [], "", b"98", *HOLD[4:]])),
        ("sixty-five holds", "holds", rows("holds", *(Hold(n) for n in range(1, 66)))),
    ]
]  # fmt: skip

HEADERS = [
    Attack("the digest of something else", "header", header(digest="0" * 32)),
    Attack("a digest that is no text", "header", header(digest=0)),
    Attack("another format", "header", header(format=2)),
    Attack("true for a format", "header", header(format=True)),
    Attack("another feed", "header", header(feed=OPERATOR)),
    Attack("no feed at all", "header", header(feed=None)),
    Attack("a serial of zero", "header", header(serial=0)),
    Attack("a serial below zero", "header", header(serial=-1)),
    Attack("a time that is no whole number", "header", header(made_at=1.0)),
    Attack("a registry id of bytes", "header", header(registry=b"small")),
    Attack("a session of any length", "header", header(session="x" * 257)),
    Attack("a field that nobody knows", "header", header(more=1)),
    Attack("sections out of order", "header", reorder),
    Attack("a section twice", "header", repeated("white")),
    Attack("a black list twice", "header", repeated("black.lost")),
    Attack("the union twice", "header", repeated(BLACK_UNION)),
    Attack("the union in another place", "header", union_first),
    Attack("a section that nobody knows", "header", entry("white", name="whyte")),
    Attack("a reason that is none", "header", entry("black.lost", name="black.Lost")),
    Attack("a section of the other feed", "header", entry("white", name="exempt.equipment")),
    Attack("a number for a name", "header", entry("white", name=5)),
    Attack("a list for a name", "header", entry("white", name=["white"])),
    Attack("nil for a kind", "header", entry("white", kind=None)),
    Attack("kinds swapped: pairs as a list", "header", as_if("bindings", "bound-elsewhere")),
    Attack("kinds swapped: a list as pairs", "header", as_if("white", "bindings")),
    Attack("kinds swapped: deadlines as pairs", "header", as_if("grey", "bindings.imsi")),
    Attack("a list called pairs", "header", entry("white", kind="pairs")),
    Attack("a kind that nobody knows", "header", entry("white", kind="bloom")),
    Attack("more items than may be", "header", entry("white", items=1 << 33)),
    Attack("items below zero", "header", entry("white", items=-1)),
    Attack("a text for items", "header", entry("white", items="1")),
    Attack("an id for a list that is not black", "header", entry("white", reason_id=256)),
    Attack("a black list without an id", "header", entry("black.lost", reason_id=0)),
    Attack("an id beyond its word", "header", entry("black.lost", reason_id=65_536)),
    Attack("one id for two black lists", "header", entry("black.lost", reason_id=256)),
    Attack("one item less than there are", "white", entry("white", items=len(small.WHITE) - 1)),
]

UNIONS = [
    Attack("a union that misses a key", BLACK_UNION, roaring(BLACK_UNION, 5)),
    Attack("no union of three lists", BLACK_UNION, lambda p: p.drop(BLACK_UNION)),
    Attack("a union that misses a range", BLACK_UNION, whole(BLACK_UNION, "ranges", b"")),
]  # fmt: skip

ATTACKS = [*RUNS, *LISTS, *INDEXES, *PAIRS, *DEADLINES, *ORDERS, *HEADERS, *UNIONS]


def refused(octets: bytes, path: Path) -> Corrupt:
    path.write_bytes(octets)
    with pytest.raises(Corrupt) as corrupt:
        open_snapshot(path)
    return corrupt.value


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.blamed}: {attack.says}")
def test_attack(attack: Attack, tmp_path: Path) -> None:
    octets = small.write(attack.feed, tmp_path / "good")
    patient = dissect(octets)
    attack.change(patient)
    assert sew(patient) != octets
    assert refused(sew(patient), tmp_path / "bad").section == attack.blamed


def test_a_union_of_one_list_alone_is_refused(tmp_path: Path) -> None:
    patient = dissect(small.write(REGISTRY, tmp_path / "good"))
    patient.drop("black.lost")
    patient.drop("black.own-words")
    told = re.search("[0-9a-f]{32}", refused(sew(patient), tmp_path / "bad").detail)
    assert told is not None
    patient.fields["digest"] = told[0]
    assert refused(sew(patient), tmp_path / "bad").section == BLACK_UNION


def miscounted(patient: Patient) -> None:
    """The union's own count is of no digest: a wrong key in it must be found by comparing."""
    keys = imeiset.build(
        [np.unique(np.concatenate([small.CROWD[1:], small.array(2, 5, 6, small.FIRST + 1)]))]
    )
    patient[BLACK_UNION].items = keys.items + 1
    patient[BLACK_UNION].put("keys", keys.data.tobytes())


def test_a_union_with_another_key_of_the_same_count_is_found(tmp_path: Path) -> None:
    patient = dissect(small.write(REGISTRY, tmp_path / "good"))
    before = patient[BLACK_UNION].items
    miscounted(patient)
    assert patient[BLACK_UNION].items == before
    corrupt = refused(sew(patient), tmp_path / "bad")
    assert corrupt.section == BLACK_UNION
    assert "not the union" in corrupt.detail


def test_runs_as_the_attacks_make_them_are_read_where_they_are_right(tmp_path: Path) -> None:
    """So that what refuses the attacks on runs is the one thing that is wrong in each."""
    good = imeiset.build([small.span(1, 100), small.array(500, 501, 502, 503)])
    assert runs(104, (1, 99), (500, 3)) == good.data.tobytes()


MISPLACED: list[tuple[str, Callable[[list[list[object]]], None]]] = [
    ("an offset beyond the file", lambda rows: rows[0].__setitem__(5, b"\x7f" + bytes(7))),
    ("an offset into the header", lambda rows: rows[0].__setitem__(5, (64).to_bytes(8, "big"))),
    ("an offset of seven bytes", lambda rows: rows[0].__setitem__(5, bytes(7))),
    ("an offset that is a number", lambda rows: rows[0].__setitem__(5, 64)),
    ("two sections in one place", lambda rows: rows[1].__setitem__(5, rows[0][5])),
    ("a length beyond the file", lambda rows: rows[0].__setitem__(6, 1 << 39)),
    ("a length beyond all files", lambda rows: rows[0].__setitem__(6, 1 << 62)),
    ("a length below zero", lambda rows: rows[0].__setitem__(6, -64)),
    ("a part beyond its section", lambda rows: rows[0][8][0].__setitem__(2, 1 << 39)),
    ("a part below zero", lambda rows: rows[0][8][0].__setitem__(1, -64)),
    ("a part off its border", lambda rows: rows[0][8][1].__setitem__(1, rows[0][8][1][1] + 1)),
    ("a part of two fields", lambda rows: rows[0][8].__setitem__(0, ["keys", 0])),
    ("a part that is a text", lambda rows: rows[0][8].__setitem__(0, "abc")),
    ("a text for a length", lambda rows: rows[0][8][0].__setitem__(2, "8")),
    ("no parts", lambda rows: rows[0].__setitem__(8, [])),
    ("nil for parts", lambda rows: rows[0].__setitem__(8, None)),
    ("a hash of nothing", lambda rows: rows[0].__setitem__(7, b"")),
    ("nil for a hash", lambda rows: rows[0].__setitem__(7, None)),
    ("a row of nothing", lambda rows: rows.__setitem__(0, [])),
    ("a row that is nil", lambda rows: rows.__setitem__(0, None)),
    ("three hundred sections", lambda rows: rows.extend([rows[0]] * 300)),
    ("a section less than there is", lambda rows: rows.pop()),
]


@pytest.mark.parametrize(("says", "change"), MISPLACED, ids=[says for says, _ in MISPLACED])
def test_a_header_that_points_elsewhere(
    says: str, change: Callable[[list[list[object]]], None], tmp_path: Path
) -> None:
    octets = small.write(REGISTRY, tmp_path / "good")
    length = int.from_bytes(octets[8:16], "little")
    fields = msgpack.unpackb(octets[64 : 64 + length])
    change(fields["sections"])
    body = octets[-(-(64 + length) // 64) * 64 :]
    refused(enclose(msgpack.packb(fields), [body]), tmp_path / "bad")


@pytest.mark.parametrize(
    "packed_header",
    [
        b"",
        b"\xc1",
        b"\xc0",
        msgpack.packb([]),
        msgpack.packb("header"),
        msgpack.packb({}),
        msgpack.packb({1: 2}),
        msgpack.packb({"format": 1}) + b"\0",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 60_000,
        b"\x81" * 60_000,
        msgpack.packb({"format": 1, "sections": 5}),
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb(msgpack.ExtType(5, b"x")),
        b"\x81\x90\x01",
    ],
)
def test_a_header_that_is_no_header(packed_header: bytes, tmp_path: Path) -> None:
    assert refused(enclose(packed_header, []), tmp_path / "bad").section == "header"


def test_a_header_longer_than_its_limit_is_not_read(tmp_path: Path) -> None:
    long = msgpack.packb({"format": 1, "more": "x" * (1 << 20)})
    octets = enclose(long, [])
    assert hashlib.sha256(long).digest() in octets[:64]
    assert "limit" in refused(octets, tmp_path / "bad").detail
