"""Two small generations with every kind of section, and in them every kind of container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import OPERATOR, REGISTRY
from eir.core.orders import Hold, Override
from eir.core.subscriber import imsi_from_digits
from eir.feed.codec import SnapshotHead, SnapshotWriter

U64 = NDArray[np.uint64]

TAC = 35_209_900
FIRST = TAC * 1_000_000
NUMBER = 989_121_000_000
TIME = 1_750_000_000
SESSIONS = {
    REGISTRY: "5b0e6f9c-7a53-4d3f-9d51-0c8f2a6e1b01",
    OPERATOR: "9d3c1c55-3f0a-4a57-8a77-5f2f5be0ce02",
}

Step = Callable[[SnapshotWriter], object]


def array(*values: object) -> U64:
    return np.array(values, np.uint64)


def span(first: int, count: int, step: int = 1) -> U64:
    return np.arange(first, first + count * step, step, dtype=np.uint64)


def joined(*parts: U64) -> U64:
    return np.unique(np.concatenate(parts))


WHITE = joined(
    array(1, 2, 4, 99_999_999_999_999),
    span(FIRST, 300),
    span(FIRST + 70_000, 2_100, 3),
    span(FIRST + 200_000, 5_000, 7),
)
"""An array, a run, and what lies about a bucket's border."""
CROWD = joined(span(FIRST, 4_200, 3), span(FIRST + 131_072, 5))
"""A bitset."""
BINDINGS = np.unique(
    np.concatenate(
        [
            np.stack([span(FIRST, 400, 2), span(NUMBER, 400)], axis=1),
            array(FIRST, 1, FIRST + 4, NUMBER, FIRST + 90_000, 10**15 - 1).reshape(-1, 2),
            array(10**13, 12_345, 10**13, NUMBER + 5, 10**13, 10**14).reshape(-1, 2),
        ]
    ),
    axis=0,
)
"""Single numbers near each other, several of one device, and numbers far away."""
GREY = [(10**13, 0, TIME), (FIRST, 0, TIME), (FIRST, NUMBER, TIME + 5), (FIRST + 9, NUMBER, 0)]
IMSIS = [
    imsi_from_digits(text) for text in ("00101123456789", "432111111111111", "432112222222222")
]


def registry_steps() -> list[Step]:
    blocks = array(FIRST, FIRST + 999_999, 10**13, 10**13).reshape(2, 2)
    grey = [np.array(column) for column in zip(*GREY, strict=True)]
    return [
        lambda w: w.add_list("white", [WHITE]),
        lambda w: w.add_list("legacy", [], blocks),
        lambda w: w.add_list("black.stolen", [CROWD], reason_id=256),
        lambda w: w.add_list("black.lost", [array(5, FIRST + 1)], blocks[1:], reason_id=257),
        lambda w: w.add_list("black.own-words", [array(6)], reason_id=512),
        lambda w: w.add_list("bound-elsewhere", [span(FIRST + 65_530, 20)]),
        lambda w: w.add_pairs("bindings", [(BINDINGS[:, 0].copy(), BINDINGS[:, 1].copy())]),
        lambda w: w.add_pairs("bindings.imsi", [(array(FIRST, FIRST + 1), array(*IMSIS[:2]))]),
        lambda w: w.add_deadlines(
            "grey",
            [(grey[0].astype(np.uint64), grey[1].astype(np.uint64), grey[2].astype(np.int64))],
        ),
    ]


def operator_steps() -> list[Step]:
    numbers = array(NUMBER, NUMBER + 9_999).reshape(1, 2)
    overrides = [
        Override(FIRST, NUMBER, True, TIME, forced=True, who="duty", at=TIME - 9, why="a court"),
        Override(FIRST + 1, 0, False),
        Override(0, NUMBER + 7, True),
    ]
    holds = [Hold(TIME, (TAC, TAC + 1), "grace-expired", "98912"), Hold(TIME + 9, why="outage")]
    return [
        lambda w: w.add_pairs("imsi-msisdn", [(np.sort(array(*IMSIS)), span(NUMBER, 3))]),
        lambda w: w.add_list("exempt.subscriber.all", [array(12_345)]),
        lambda w: w.add_list("exempt.subscriber.registration", [], numbers),
        lambda w: w.add_list("exempt.equipment", [array(FIRST + 3)]),
        lambda w: w.add_list("released", [array(NUMBER + 1)]),
        lambda w: w.add_list("black.stolen", [array(7)], reason_id=256),
        lambda w: w.add_list("black.of-ours", [], numbers, reason_id=32_768),
        lambda w: w.add_overrides(overrides),
        lambda w: w.add_holds(holds),
    ]


STEPS = {REGISTRY: registry_steps, OPERATOR: operator_steps}


def write(feed: str, path: Path, steps: list[Step] | None = None) -> bytes:
    """The bytes of the small generation of a feed, its sections added in the given order."""
    writer = SnapshotWriter(SnapshotHead(feed, "small", SESSIONS[feed], 1, TIME))
    for step in STEPS[feed]() if steps is None else steps:
        step(writer)
    writer.write(path)
    return path.read_bytes()
