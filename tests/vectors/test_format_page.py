"""docs/snapshot-format.md is enough: a reader written from that page alone gives back the content.

The reader uses nothing of the engine, no numpy and no Roaring library: bytes, SHA-256 and msgpack.
"""

import hashlib
import random
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest

from eir.core.generation import BLACK_UNION
from eir.core.orders import Hold, Order, Override
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot

GOLDEN = sorted(Path(__file__).parent.glob("**/*snap"))
WORD = (1 << 64) - 1
Rows = dict[str, list[tuple[int, ...]]]


def u(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]


def read_page(data: bytes) -> tuple[dict[str, object], Rows, Rows]:
    """Header, items and ranges of a snapshot file, hashes and digest compared on the way."""
    assert data[:8] == b"EIRSNAP1"
    assert data[48:64] == bytes(16)
    end = 64 + u(data[8:16], 8)[0]
    assert hashlib.sha256(data[64:end]).digest() == data[16:48]
    header = msgpack.unpackb(data[64:end])
    items, ranges, lanes = {}, {}, [0, 0]
    for name, kind, _, base, count, offset, length, sha256, places in header["sections"]:
        begin = int.from_bytes(offset, "big")
        assert begin == -(-end // 64) * 64
        assert not any(data[end:begin])
        end = begin + length
        assert hashlib.sha256(data[begin:end]).digest() == sha256
        parts = {part: data[begin + at : begin + at + size] for part, at, size in places}
        items[name] = list(READERS[kind](parts, base))
        ends = u(parts.get("ranges", b""), 8)
        ranges[name] = list(zip(ends[::2], ends[1::2], strict=True))
        assert len(items[name]) + len(ranges[name]) == count
        if name != "black-union":
            hashed = [order_words(row) for row in items[name]] if "rows" in parts else items[name]
            lanes = [a + b for a, b in zip(lanes, digest(name, "", hashed), strict=True)]
            lanes = [a + b for a, b in zip(lanes, digest(name, "range", ranges[name]), strict=True)]
    assert end == len(data)
    assert "".join(f"{lane & WORD:016x}" for lane in lanes) == header["digest"]
    return header, items, ranges


def read_list(parts: dict[str, bytes], base: int) -> Iterator[tuple[int]]:
    data, at = parts["keys"], 8
    for _ in range(u(data[:8], 8)[0]):
        (high,), at = u(data[at : at + 4], 4), at + 4
        cookie = u(data[at : at + 4], 4)[0]
        runs = cookie & 0xFFFF == 12347
        count = (cookie >> 16) + 1 if runs else u(data[at + 4 : at + 8], 4)[0]
        is_run, at = (data[at + 4 :], at + 4 + -(-count // 8)) if runs else (b"", at + 8)
        heads = u(data[at : at + 4 * count], 2)
        at += 4 * count + (4 * count if not runs or count >= 4 else 0)
        for i in range(count):
            start, card = high << 32 | heads[2 * i] << 16, heads[2 * i + 1] + 1
            if runs and is_run[i // 8] >> (i % 8) & 1:
                size = 2 + 4 * u(data[at : at + 2], 2)[0]
                pairs = u(data[at + 2 : at + size], 2)
                for first, more in zip(pairs[::2], pairs[1::2], strict=True):
                    yield from ((start + key,) for key in range(first, first + more + 1))
            elif card <= 4096:
                size = 2 * card
                yield from ((start + low,) for low in u(data[at : at + size], 2))
            else:
                size = 8192
                bits = int.from_bytes(data[at : at + size], "little")
                yield from ((start + n,) for n in range(65536) if bits >> n & 1)
            at += size


def read_index(parts: dict[str, bytes]) -> Iterator[tuple[int, int]]:
    """(rank, key) ascending; each rank from its container and line, as a probe would find it."""
    words = u(parts["containers"], 8)
    for high, rank, meta, at in zip(*(words[i::4] for i in range(4)), strict=True):
        card, lowest, highest = meta & 0xFFFFF, meta >> 20 & 0xFFFFF, meta >> 44
        if not meta >> 40 & 1:
            lows = u(parts["index"][at : at + 2 * card], 2)
            yield from ((rank + i, high << 16 | low) for i, low in enumerate(lows))
            continue
        for n in range((highest - lowest) // 496 + 1):
            line = int.from_bytes(parts["index"][at + 64 * n : at + 64 * n + 64], "little")
            there = [i for i in range(496) if line >> (16 + i) & 1]
            start = (high << 16) + lowest + 496 * n
            yield from ((rank + (line & 0xFFFF) + k, start + i) for k, i in enumerate(there))


def read_pairs(parts: dict[str, bytes], base: int) -> Iterator[tuple[int, int]]:
    values, words = u(parts["values"], 4), u(parts["words"], 4)
    for rank, key in read_index(parts):
        if values[rank] < 1 << 31:
            yield key, values[rank] + base
            continue
        at, last = values[rank] - (1 << 31), False
        while not last:
            last, low = words[at] >= 1 << 31, words[at] & 0x7FFFFFFF
            far = low == 0x7FFFFFFF
            yield key, words[at + 1] | words[at + 2] << 32 if far else low + base
            at += 3 if far else 1


def read_deadlines(parts: dict[str, bytes], base: int) -> Iterator[tuple[int, int, int]]:
    starts, numbers = u(parts["starts"], 4), u(parts["numbers"], 8)
    deadlines = u(parts["deadlines"], 4)
    for rank, key in read_index(parts):
        yield from ((key, numbers[n], deadlines[n]) for n in range(starts[rank], starts[rank + 1]))


def read_orders(parts: dict[str, bytes], base: int) -> Iterator[tuple[object, ...]]:
    reader = msgpack.Unpacker(use_list=True)
    reader.feed(parts["rows"])
    yield from map(tuple, reader)


READERS = {
    "list": read_list,
    "pairs": read_pairs,
    "deadlines": read_deadlines,
    "overrides": read_orders,
    "holds": read_orders,
    "orders": read_orders,
}


def order_words(row: tuple[object, ...]) -> tuple[int, ...]:
    return struct.unpack("<2Q", hashlib.sha256(msgpack.packb(row)).digest()[:16])


def digest(section: str, form: str, items: list[tuple[int, ...]]) -> list[int]:
    seed = hashlib.sha256(section.encode() + b"\0" + form.encode()).digest()
    sums = []
    for lane in struct.unpack("<2Q", seed[:16]):
        total = 0
        for words in items:
            h = lane
            for word in words:
                h ^= word
                for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
                    h = (h ^ h >> 33) * factor & WORD
                h ^= h >> 33
            total += h
        sums.append(total)
    return sums


def keys_of_every_shape(draw: random.Random) -> list[int]:
    """Arrays, bitsets and runs, in one bucket of four containers and over several buckets."""
    scattered = {draw.randrange(1, 10**14) for _ in range(200)}
    start = 35_000_000_000_000
    dense = {start + draw.randrange(40_000) for _ in range(30_000)}
    runs = set(range(start + 70_000, start + 90_000)) | set(range(start + 200_000, start + 260_000))
    return sorted(scattered | dense | runs)


def u64(rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint64)


def content(draw: random.Random) -> tuple[Rows, Rows]:
    keys = keys_of_every_shape(draw)
    numbers = [989_120_000_000 + draw.randrange(10**7) for _ in keys]
    pairs = set(zip(keys, numbers, strict=True))
    several = draw.sample(keys, 500)
    pairs |= {(key, 989_350_000_000 + draw.randrange(10**9)) for key in several}
    pairs |= {(key, draw.choice([12_345, 10**15 - 1, 44_700_900_123])) for key in several[:50]}
    grey = {(key, draw.choice([0, 989_121_111_111]), draw.randrange(1 << 32)) for key in several}
    grey |= {(key, 989_122_222_222, 1_900_000_000) for key in several[:20]}
    registry = {
        "black.lost": [(key,) for key in keys[::977]],
        "black.stolen": [(key,) for key in keys],
        "white": [],
        "bindings": sorted(pairs),
        "grey": sorted(grey),
    }
    operator = {
        "imsi-msisdn": sorted(
            {((432110000000000 + k) << 4 | 15, 989120000000 + k) for k in several}
        ),
        "overrides": [
            (35_000_000_000_000, 0, False, 0, False, "noc", 1_800_000_000, "see ticket"),
            (35_000_000_000_001, 989_121_234_567, True, 1_900_000_000, True, "", 0, ""),
        ],
        "holds": [(1_900_000_000, [35_000_000, 35_000_001], "grace-expired", "98912", "a", 7, "ب")],
        "orders": [
            ("exempt.equipment", 35_000_000_000_000, 35_000_000_999_999, "a", 7, "ب"),
            ("mode.shadow", 0, 0, "noc", 1_800_000_000, "see ticket"),
        ],
    }
    return registry, operator


def write(path: Path, feed: str, sections: Rows, ranges: list[tuple[int, int]]) -> None:
    writer = SnapshotWriter(SnapshotHead(feed, "IR", str(uuid.UUID(int=7)), 9, 1_800_000_000))
    ids = {"black.lost": 257, "black.stolen": 256}
    for name, rows in sections.items():
        orders = name in ("overrides", "holds", "orders")
        columns = (
            [] if orders or not rows else [u64(list(each)) for each in zip(*rows, strict=True)]
        )
        if name == "overrides":
            writer.add_overrides(Override(*row) for row in rows)
        elif name == "holds":
            writer.add_holds(Hold(row[0], tuple(row[1]), *row[2:]) for row in rows)
        elif name == "orders":
            writer.add_orders(Order(*row) for row in rows)
        elif name == "grey":
            writer.add_deadlines(name, [(columns[0], columns[1], columns[2].astype(np.int64))])
        elif len(columns) == 2:
            writer.add_pairs(name, [(columns[0], columns[1])])
        else:
            own = np.array(ranges, np.uint64) if name == "black.lost" else None
            writer.add_list(name, columns[:1], own, reason_id=ids.get(name, 0))
    writer.write(path)


@pytest.mark.parametrize("feed", ["registry", "operator"])
def test_the_page_leads_to_the_content(feed: str, tmp_path: Path) -> None:
    sections = content(random.Random(29))[feed == "operator"]
    ranges = [(86_000_000_000_000, 86_000_000_999_999), (99_999_999_999_999, 99_999_999_999_999)]
    write(tmp_path / "s", feed, sections, ranges)
    header, items, found = read_page((tmp_path / "s").read_bytes())
    assert (header["feed"], header["serial"], header["made_at"]) == (feed, 9, 1_800_000_000)
    union = items.pop(BLACK_UNION, None)
    assert items == sections
    assert found.get("black.lost", []) == (ranges if feed == "registry" else [])
    if feed == "registry":
        assert union == sections["black.stolen"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_the_page_leads_to_the_golden_content(path: Path) -> None:
    header, items, ranges = read_page(path.read_bytes())
    for name, section in open_snapshot(path).sections.items():
        assert len(items[name]) + len(ranges[name]) == section.items
    assert header["format"] == 1


def test_the_reader_sees_a_flipped_byte(tmp_path: Path) -> None:
    write(tmp_path / "s", "registry", {"white": [(35_000_000_000_000,)]}, [])
    data = bytearray((tmp_path / "s").read_bytes())
    for place in (0, 20, 70, len(data) - 1):
        hurt = bytes(data[:place]) + bytes([data[place] ^ 1]) + bytes(data[place + 1 :])
        with pytest.raises(AssertionError):
            read_page(hurt)
