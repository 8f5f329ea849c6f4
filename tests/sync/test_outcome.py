"""The outcome of a run: which kinds are good, and the line that people read."""

import pytest

from eir.sync.outcome import SyncOutcome


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        ("up-to-date", True),
        ("snapshot", True),
        ("deltas", True),
        ("held", False),
        ("refused", False),
        ("failed", False),
    ],
)
def test_good_kinds(kind: str, good: bool) -> None:
    assert SyncOutcome(kind, "reason").good is good


def test_the_line_says_what_from_to_and_why() -> None:
    outcome = SyncOutcome(
        "refused", "fetch-hash", from_serial=4, to_serial=4, fetched_bytes=10, seconds=0.256,
        detail="delta-5-aa: not the bytes that the head promised",
    )  # fmt: skip
    assert outcome.line() == (
        "refused [fetch-hash] serial 4 → 4, 10 bytes, 0.26 s:"
        " delta-5-aa: not the bytes that the head promised"
    )
    assert SyncOutcome("up-to-date", "up-to-date").line().endswith("0 bytes, 0.00 s")
