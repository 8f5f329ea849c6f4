"""Which files stay: what can be built again, and how far back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eir.store.kept import DAY_S, Kept, KeptDelta, chain_of, passing, retained

MADE = 1_750_000_000


def delta(serial: int) -> KeptDelta:
    return KeptDelta(f"{serial}.delta", serial, f"digest-{serial}", "", 1, MADE + serial * DAY_S)


def base(serial: int, last: int, session: str = "s") -> Kept:
    """A base of one serial a day, and the deltas up to ``last``."""
    deltas = tuple(delta(n) for n in range(serial + 1, last + 1))
    made_at = MADE + serial * DAY_S
    name = f"{session}-{serial}.snap"
    return Kept(name, "r", session, serial, made_at, f"digest-{serial}", "", 1, deltas)


def test_a_chain_goes_through_newer_bases_of_the_same_content() -> None:
    rows = (base(7, 9), base(4, 7), base(1, 4))
    assert [d.serial for d in chain_of(rows, rows[2])] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [row.serial for row in passing(rows, "s", 8)] == [7, 4, 1]
    assert passing(rows, "other", 8) == ()
    gap = (base(7, 9), base(4, 6), base(1, 4))
    assert [row.serial for row in passing(gap, None, 8)] == [7]
    rewritten = (base(7, 9), Kept(**{**_fields(base(4, 7)), "deltas": (delta(5),)}))
    assert chain_of(rewritten, rewritten[1]) == (delta(5),)


def _fields(row: Kept) -> dict[str, object]:
    return {name: getattr(row, name) for name in Kept.__slots__}


def test_another_session_is_kept_by_number_alone() -> None:
    rows = [base(1, 3, "d"), base(1, 5, "c"), base(1, 9, "b"), base(1, 40, "a")]
    assert retained(rows, keep=3, days=30, served=None) == rows[:3]
    assert retained(rows, keep=1, days=30, served=None) == rows[:1]
    assert retained(rows, keep=1, days=30, served=("a", 7)) == [rows[0], rows[3]]
    assert retained(rows, keep=1, days=30, served=("gone", 7)) == rows[:1]


@given(
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    keep=st.integers(1, 4),
    days=st.integers(0, 40),
)
def test_as_far_back_as_was_promised(steps: list[int], keep: int, days: int) -> None:
    """A base every so many days, for ever: few bases stay, and no serial of the span is lost."""
    rows: list[Kept] = []
    last = 1
    for step in steps:
        newest = base(last, last + step)
        rows = retained([newest, *rows], keep=keep, days=days, served=None)
        last += step
        assert rows[0] == newest
        assert len(rows) <= keep + 2
        for serial in range(max(1, last - days), last + 1):
            assert passing(rows, "s", serial), (serial, last)
        assert sum(len(row.deltas) for row in rows[keep:]) <= 2 * days + 9 * (keep + 3)
