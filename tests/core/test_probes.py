"""Directories: every container is found, wherever its line is full, and no other."""

from __future__ import annotations

import numpy as np
import pytest

from eir.core import imeiset, layout
from eir.core.pairtable import build as build_pairs
from eir.core.probes import first_line, in_keys, rank_of
from eir.core.view import view_of

LIST_LINES, INDEX_LINES = 6, 16
"""What the directories of ten containers have."""


def containers_of_line(line: int, lines: int, wanted: int, first: int = 0) -> list[int]:
    """The first containers whose search begins in one line of so many."""
    found: list[int] = []
    with np.errstate(over="ignore"):
        while len(found) < wanted:
            if first_line(np.uint64(first), lines) == line:
                found.append(first)
            first += 1
    return found


def keys_in(containers: list[int]) -> np.ndarray:
    return np.sort(np.array(containers, np.uint64)) * np.uint64(65_536) + np.uint64(77)


@pytest.mark.parametrize("line", [0, LIST_LINES - 1])
def test_a_list_is_found_behind_full_lines(line: int) -> None:
    held = containers_of_line(line, LIST_LINES, 10)
    absent = containers_of_line(line, LIST_LINES, 30, held[-1] + 1)
    view = view_of(imeiset.build([keys_in(held)]))
    assert view.words[layout.LINES] == LIST_LINES
    with np.errstate(over="ignore"):
        assert all(in_keys(view.words, 0, key) for key in keys_in(held))
        assert not any(in_keys(view.words, 0, key) for key in keys_in(absent))


@pytest.mark.parametrize("line", [0, INDEX_LINES - 1])
def test_a_rank_is_found_behind_full_lines(line: int) -> None:
    held = containers_of_line(line, INDEX_LINES, 10)
    absent = containers_of_line(line, INDEX_LINES, 30, held[-1] + 1)
    keys = keys_in(held)
    view = view_of(build_pairs([(keys, keys)]))
    assert view.words[layout.LINES] == INDEX_LINES
    with np.errstate(over="ignore"):
        assert [rank_of(view.words, 0, key) for key in keys] == list(range(10))
        assert {rank_of(view.words, 0, key) for key in keys_in(absent)} == {-1}
