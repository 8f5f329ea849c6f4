"""Snapshot files: equal content gives equal bytes, and a damaged byte never a generation."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eir.core.generation import BLACK_UNION, OPERATOR, REGISTRY, Generation
from eir.core.orders import Hold, Override
from eir.errors import Corrupt, Refused
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from tests.feed import small
from tests.feed.surgery import PREFIX, dissect, sew

FEEDS = [REGISTRY, OPERATOR]
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def head(feed: str = REGISTRY, **changes: object) -> SnapshotHead:
    fields = {"registry_id": "r", "session": "s", "serial": 1, "made_at": 0} | changes
    return SnapshotHead(feed, **fields)  # type: ignore[arg-type]


def contents(generation: Generation) -> dict[str, object]:
    return {
        name: (
            section.reason_id,
            section.items,
            [row for rows in section.rows() for row in rows.tolist()],
            section.ranges.tolist(),
            section.orders,
        )
        for name, section in generation.sections.items()
    }


@pytest.fixture(params=FEEDS)
def feed(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.snapshot"


def test_what_is_read_is_what_was_written(feed: str, path: Path) -> None:
    octets = small.write(feed, path)
    read = open_snapshot(path)
    again = SnapshotWriter(
        head(feed, registry_id="small", session=read.session, made_at=small.TIME)
    )
    for section in read.sections.values():
        again.add(section)
    facts = again.write(path.with_name("b"))
    assert path.with_name("b").read_bytes() == octets
    assert (facts.size, facts.digest) == (len(octets), read.digest)
    assert (read.feed, read.registry_id, read.serial, read.made_at) == (
        feed, "small", 1, small.TIME,
    )  # fmt: skip


def test_the_registry_says_what_went_in(path: Path) -> None:
    small.write(REGISTRY, path)
    said = contents(open_snapshot(path))
    assert said["white"][2] == [[key] for key in small.WHITE.tolist()]  # type: ignore[index]
    assert said["bindings"][2] == small.BINDINGS.tolist()  # type: ignore[index]
    assert said["grey"][2] == [list(row) for row in small.GREY]  # type: ignore[index]
    assert said["legacy"][3] == [[10**13] * 2, [small.FIRST, small.FIRST + 999_999]]  # type: ignore[index]
    assert said["black.own-words"][:2] == (512, 1)  # type: ignore[index]
    assert BLACK_UNION in said


@QUICK
@given(st.sampled_from(FEEDS), st.randoms(use_true_random=False))
def test_the_order_of_adding_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, feed: str, rng: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("order")
    steps = small.STEPS[feed]()
    rng.shuffle(steps)
    assert small.write(feed, folder / "a", steps) == small.write(feed, folder / "b")


def test_sewn_up_unchanged_it_is_the_same_file(feed: str, path: Path) -> None:
    octets = small.write(feed, path)
    assert sew(dissect(octets)) == octets


def test_a_file_without_sections(path: Path) -> None:
    facts = SnapshotWriter(head()).write(path)
    assert facts.digest == "0" * 32
    assert open_snapshot(path).sections == {}


def test_a_written_file_is_read_only_and_never_overwritten(path: Path) -> None:
    SnapshotWriter(head()).write(path)
    assert path.stat().st_mode & 0o777 == 0o444
    with pytest.raises(FileExistsError):
        SnapshotWriter(head()).write(path)


def expect_corrupt(path: Path, octets: bytes) -> Corrupt:
    path.unlink(missing_ok=True)
    path.write_bytes(octets)
    with pytest.raises(Corrupt) as corrupt:
        open_snapshot(path)
    assert corrupt.value.where == str(path)
    return corrupt.value


def places(octets: bytes) -> list[tuple[str, int, int]]:
    """(section, where it begins, where it ends) of each section, its body only."""
    found = []
    _, length, _ = PREFIX.unpack(octets[: PREFIX.size])
    at = PREFIX.size + length
    for cut in dissect(octets).cuts:
        start = at = -(-at // 64) * 64
        for _, body in cut.parts:
            at = start + -(-(at - start) // 64) * 64 + len(body)
        found.append((str(cut.name), start, at))
    return found


def test_a_flipped_byte_is_found_and_named(feed: str, path: Path) -> None:
    """Every byte of the header and of what lies between sections; sections at 40 places each."""
    octets = small.write(feed, path)
    where = {
        at: name
        for name, start, end in places(octets)
        for at in np.linspace(start, end - 1, 40).astype(int).tolist()
        if start < end
    }
    inside = {at for _, start, end in places(octets) for at in range(start, end)}
    header = PREFIX.size + PREFIX.unpack(octets[: PREFIX.size])[1]
    for at in sorted({*range(0, header, 7), *where, *(set(range(header, len(octets))) - inside)}):
        broken = bytearray(octets)
        broken[at] ^= 1 << at % 8
        named = expect_corrupt(path, bytes(broken)).section
        if at < header:
            assert named == "header"
        elif at in where:
            assert named == where[at]


def test_a_file_cut_anywhere_is_refused(feed: str, path: Path) -> None:
    octets = small.write(feed, path)
    borders = {
        at + by for _, start, end in places(octets) for at in (start, end) for by in (-1, 0, 1)
    }
    sizes = {0, 1, 8, 63, 64, 65, *borders, *range(0, len(octets), 997)}
    for size in sorted(size for size in sizes if size < len(octets)):
        expect_corrupt(path, octets[:size])


@pytest.mark.parametrize("more", [b"\0", bytes(64), b"more"])
def test_bytes_behind_the_end_are_refused(feed: str, path: Path, more: bytes) -> None:
    assert expect_corrupt(path, small.write(feed, path) + more).section == "file"


def test_a_missing_file_is_corrupt_too(path: Path) -> None:
    with pytest.raises(Corrupt, match="No such file"):
        open_snapshot(path)


def test_a_trusted_file_is_not_read_again(path: Path) -> None:
    """The process that verified it has read every byte; another opens the same file at once."""
    octets = bytearray(small.write(REGISTRY, path))
    assert contents(open_snapshot(path, trusted=True)) == contents(open_snapshot(path))
    _, _, end = next(place for place in places(bytes(octets)) if place[0] == "grey")
    octets[end - 1] ^= 1
    assert expect_corrupt(path, bytes(octets)).section == "grey"
    assert open_snapshot(path, trusted=True).sections["grey"].items == len(small.GREY)


@pytest.mark.parametrize(
    "changes",
    [
        {"registry_id": ""},
        {"registry_id": "x" * 257},
        {"session": 5},
        {"serial": 0},
        {"serial": -1},
        {"serial": True},
        {"serial": 1 << 63},
        {"made_at": -1},
        {"made_at": 1.5},
    ],
)
def test_a_head_out_of_its_domain_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(Refused, match="snapshot-head"):
        SnapshotWriter(head(**changes))


def test_an_unknown_feed_is_refused() -> None:
    with pytest.raises(Refused, match="snapshot-head"):
        SnapshotWriter(head("somebody"))


ONE = small.array(1)
FORCED_DENIAL = Override(1, 0, False, forced=True)
LONG_STORY = Override(1, 0, True, why="x" * 257)
BOTH_WAYS = [Override(1, 0, True), Override(1, 0, False)]


@pytest.mark.parametrize(
    ("feed_name", "step", "reason"),
    [
        (OPERATOR, lambda w: w.add_list("white", [ONE]), "section-misplaced"),
        (REGISTRY, lambda w: w.add_list("released", [ONE]), "section-misplaced"),
        (REGISTRY, lambda w: w.add_list("whyte", [ONE]), "section-unknown"),
        (REGISTRY, lambda w: w.add_list("black.", [ONE], reason_id=256), "reason-name"),
        (REGISTRY, lambda w: w.add_list("black.Lost", [ONE], reason_id=257), "reason-name"),
        (REGISTRY, lambda w: w.add_list("black.lost", [ONE]), "reason-id"),
        (REGISTRY, lambda w: w.add_list("black.lost", [ONE], reason_id=65_536), "reason-id"),
        (OPERATOR, lambda w: w.add_overrides([Override(0, 0, True)]), "override-invalid"),
        (OPERATOR, lambda w: w.add_overrides([FORCED_DENIAL]), "override-invalid"),
        (OPERATOR, lambda w: w.add_overrides([Override(10**14, 0, True)]), "override-invalid"),
        (OPERATOR, lambda w: w.add_overrides([Override(1, 0, True, -1)]), "override-invalid"),
        (OPERATOR, lambda w: w.add_overrides([LONG_STORY]), "override-invalid"),
        (OPERATOR, lambda w: w.add_overrides(BOTH_WAYS), "override-twice"),
        (OPERATOR, lambda w: w.add_holds([Hold(0)]), "hold-invalid"),
        (OPERATOR, lambda w: w.add_holds([Hold(1, (2, 1))]), "hold-invalid"),
        (OPERATOR, lambda w: w.add_holds([Hold(1, (10**8,))]), "hold-invalid"),
        (OPERATOR, lambda w: w.add_holds([Hold(1, reason="stolen")]), "hold-invalid"),
        (OPERATOR, lambda w: w.add_holds([Hold(1, msisdn_prefix="۹۸")]), "hold-invalid"),
        (OPERATOR, lambda w: w.add_holds([Hold(1, msisdn_prefix="0")]), "hold-invalid"),
        (OPERATOR, lambda w: w.add_holds([Hold(n) for n in range(1, 66)]), "too-many-holds"),
    ],
)  # fmt: skip
def test_what_does_not_belong_is_refused(feed_name: str, step: small.Step, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        step(SnapshotWriter(head(feed_name)))
    assert refused.value.reason == reason


def test_a_section_is_added_once() -> None:
    writer = SnapshotWriter(head())
    writer.add_list("white", [ONE])
    with pytest.raises(Refused, match="section-twice"):
        writer.add_list("white", [ONE])


def test_an_id_names_one_reason() -> None:
    writer = SnapshotWriter(head())
    writer.add_list("black.one", [ONE], reason_id=512)
    with pytest.raises(Refused, match="reason-id"):
        writer.add_list("black.other", [ONE], reason_id=512)


@pytest.mark.parametrize(
    ("feed_name", "step"),
    [
        (REGISTRY, lambda w: w.add_list("white", [small.array(0)])),
        (REGISTRY, lambda w: w.add_list("white", [small.array(10**14)])),
        (REGISTRY, lambda w: w.add_list("white", [], small.array(0, 10**14).reshape(1, 2))),
        (OPERATOR, lambda w: w.add_list("released", [small.array(10**15)])),
        (REGISTRY, lambda w: w.add_pairs("bindings", [(ONE, small.array(0))])),
        (REGISTRY, lambda w: w.add_pairs("bindings", [(ONE, small.array(10**15))])),
        (REGISTRY, lambda w: w.add_pairs("bindings", [(ONE, small.array((1 << 64) - 1))])),
        (REGISTRY, lambda w: w.add_pairs("bindings", [(small.array(10**14), ONE)])),
        (OPERATOR, lambda w: w.add_pairs("imsi-msisdn", [(small.array(10**15 << 4), ONE)])),
        (REGISTRY, lambda w: w.add_deadlines("grey", [(ONE, small.array(10**15), np.array([1]))])),
    ],
)  # fmt: skip
def test_what_is_no_identity_is_never_written(feed_name: str, step: small.Step, path: Path) -> None:
    writer = SnapshotWriter(head(feed_name))
    step(writer)
    with pytest.raises(ValueError, match=r"IMEI|MSISDN|IMSI"):
        writer.write(path)
    assert not path.exists()
