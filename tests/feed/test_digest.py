"""The digest adds up whatever the order, and tells unlike things apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eir.core import imeiset
from eir.core.generation import Section
from eir.core.orders import Hold, Override
from eir.feed.digest import Digest, of_order, of_rows, of_section

Rows = list[tuple[int, int]]
WORDS = st.integers(0, (1 << 64) - 1)
ROWS = st.lists(st.tuples(WORDS, WORDS), unique=True, max_size=20)


def digest(rows: Rows, name: str = "bindings", form: str = "") -> Digest:
    return of_rows(name, np.array(rows, np.uint64).reshape(-1, 2), form=form)


@given(ROWS, ROWS)
def test_parts_add_up_and_come_off_again(one: Rows, other: Rows) -> None:
    assert digest(one) + digest(other) == digest(other + one)
    assert digest(one + other) - digest(other) == digest(one)
    assert digest([]) == Digest()


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(rows: Rows, rng: object) -> None:
    shuffled = list(rows)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert digest(shuffled) == digest(rows)


@given(ROWS.filter(len))
def test_another_section_form_or_order_of_words_is_another_digest(
    rows: Rows,
) -> None:
    told = {str(digest(rows)), str(digest(rows, "bindings.imsi")), str(digest(rows, form="range"))}
    assert len(told) == 3
    turned = [(second, first) for first, second in rows]
    assert (digest(turned) == digest(rows)) == (sorted(turned) == sorted(rows))


def test_zero_is_an_item_too() -> None:
    assert digest([(0, 0)]) != Digest()
    assert digest([(0, 0)], "white") != digest([(0, 0)], "legacy")


def test_a_range_is_not_its_keys() -> None:
    keys = Section("white", imeiset.build([np.arange(1, 4, dtype=np.uint64)]))
    block = Section("white", imeiset.build([], np.array([[1, 3]], np.uint64)))
    assert of_section(keys) != of_section(block)


def test_every_field_of_an_order_counts() -> None:
    rows = [
        ("overrides", Override(1, 2, True)),
        ("overrides", Override(1, 2, False)),
        ("overrides", Override(1, 2, True, 5)),
        ("overrides", Override(1, 2, True, forced=True)),
        ("overrides", Override(1, 2, True, who="a")),
        ("overrides", Override(1, 2, True, why="a")),
        ("overrides", Override(1, 2, True, at=5)),
        ("overrides", Override(2, 1, True)),
        ("holds", Hold(5)),
        ("holds", Hold(5, (1,))),
        ("holds", Hold(5, (), "grace")),
        ("holds", Hold(5, (), "", "98")),
    ]
    assert len({str(of_order(name, row)) for name, row in rows}) == len(rows)


def test_the_text_is_thirty_two_hex_digits() -> None:
    assert str(Digest(1, 1 << 63)) == "0000000000000001" + "8000000000000000"
