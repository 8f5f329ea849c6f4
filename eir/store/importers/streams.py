"""Sorted batches → unique, settled batches; what disagrees between rows is counted and named.

What a conflict comes to is decided here, always for the outcome that refuses nobody: an IMSI said
to have two numbers has none, the later of two deadlines holds, of two overrides the one that
admits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core.orders import MODES, Hold, Order, Override
from eir.core.pairtable import whole_keys

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One conflict: which item, what was ``kept`` and ``dropped`` (as written in conflicts.csv)."""

    reason: str
    item: tuple[int, int]
    kept: str
    dropped: str


@dataclass(slots=True)
class Tally:
    """What was seen between the rows of one list: ``named`` holds the first conflicts only."""

    rows: int = 0
    duplicates: int = 0
    merged_ranges: int = 0
    conflicts: int = 0
    named: list[Disagreement] = field(default_factory=list)

    def name(self, found: Iterator[Disagreement], count: int) -> None:
        """Count ``count`` conflicts and keep as many of them as may be named."""
        self.conflicts += count
        for disagreement in found:
            if len(self.named) >= limits.MAX_CONFLICTS_NAMED:
                return
            self.named.append(disagreement)


def unique_keys(batches: Iterable[tuple[U64, ...]], tally: Tally) -> Iterator[U64]:
    """Sorted uint64 batches without repeats."""
    for (keys,) in whole_keys(batches):
        first = _first_of_each(keys)
        tally.rows += len(keys)
        tally.duplicates += len(keys) - int(first.sum())
        yield keys[first]


def unique_pairs(batches: Iterable[tuple[U64, ...]], tally: Tally) -> Iterator[tuple[U64, U64]]:
    """Batches (keys, values) sorted by both, without repeats."""
    for keys, values in whole_keys(batches):
        first = _first_of_each(keys, values)
        tally.rows += len(keys)
        tally.duplicates += len(keys) - int(first.sum())
        yield keys[first], values[first]


def one_value_each(pairs: Iterable[tuple[U64, U64]], tally: Tally) -> Iterator[tuple[U64, U64]]:
    """Unique pairs without the keys that have several values: those are named and dropped whole."""
    for keys, values in whole_keys(pairs):
        begins = np.flatnonzero(_first_of_each(keys))
        sizes = np.diff(np.append(begins, len(keys)))
        several = begins[sizes > 1]
        tally.name(_several(keys, values, several, sizes[sizes > 1]), len(several))
        alone = begins[sizes == 1]
        yield keys[alone], values[alone]


def latest_deadlines(
    batches: Iterable[tuple[U64, U64, I64]], tally: Tally
) -> Iterator[tuple[U64, U64, I64]]:
    """Batches (IMEIs, numbers, deadlines) sorted by all three; the last deadline of each pair."""
    for keys, numbers, deadlines in whole_keys(batches):
        first = _first_of_each(keys, numbers)
        last = np.append(first[1:], True)
        distinct = _first_of_each(keys, numbers, deadlines)
        tally.rows += len(keys)
        tally.duplicates += len(keys) - int(distinct.sum())
        dropped = np.flatnonzero(distinct & ~_of_last_value(distinct, last))
        kept = np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), dropped)]
        tally.name(_earlier(keys, numbers, deadlines, dropped, kept), len(dropped))
        yield keys[last], numbers[last], deadlines[last].astype(np.int64)


def settled_overrides(
    batches: Iterable[tuple[NDArray[np.generic], ...]], tally: Tally
) -> list[Override]:
    """One override an identity of rows (imei, msisdn, until, 1 for allow + 2 for forced), and
    perhaps who, at, why behind them.
    """
    best: dict[tuple[int, int], Override] = {}
    for batch in batches:
        tally.rows += len(batch[0])
        for fields in zip(*(column.tolist() for column in batch), strict=True):
            imei, msisdn, until, flags, *told = fields
            row = Override(imei, msisdn, bool(flags & 1), until, bool(flags & 2), *told)
            other = best.setdefault((imei, msisdn), row)
            if other == row and other is not row:
                tally.duplicates += 1
            elif other != row:
                kept, dropped = sorted((other, row), key=_admits, reverse=True)
                best[imei, msisdn] = kept
                item = (imei, msisdn)
                named = Disagreement("override-twice", item, _worded(kept), _worded(dropped))
                tally.name(iter([named]), 1)
    return list(best.values())


def joined_holds(rows: Iterable[tuple[object, ...]], tally: Tally) -> list[Hold]:
    """One hold of all rows (name, until, reason, prefix, who, at, why, TAC or 0) that agree in all
    but the TAC.
    """
    tacs: dict[tuple[object, ...], set[int]] = {}
    for *fields, tac in rows:
        held = tacs.setdefault(tuple(fields), set())
        tally.rows += 1
        tally.duplicates += tac in held
        held.add(cast(int, tac))
    return [
        Hold(until, tuple(sorted(held - {0})), *others)  # type: ignore[arg-type]
        for (_, until, *others), held in tacs.items()
    ]


def newest_orders(rows: Iterable[tuple[object, ...]], tally: Tally) -> list[Order]:
    """One order an item, or of the mode, of rows (what, low, high, who, at, why): the newest."""
    best: dict[object, Order] = {}
    for fields in rows:
        row = Order(*fields)  # type: ignore[arg-type]
        named = "mode" if row.what in MODES else (row.what, row.low, row.high)
        other = best.setdefault(named, row)
        tally.rows += 1
        tally.duplicates += other is not row
        best[named] = max(row, other, key=lambda each: (each.at, each))
    return list(best.values())


def _admits(row: Override) -> tuple[bool, bool, int]:
    """The greater of two admits more: allow, forced, for longer; of two denials the shorter."""
    length = row.until or 1 << 32
    return row.allow, row.forced, length if row.allow else -length


def _worded(row: Override) -> str:
    action = "allow" if row.allow else "deny"
    return f"{action} until {row.until or 'ever'}{' forced' if row.forced else ''}"


def _first_of_each(*columns: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where a row differs from the one before it."""
    first = np.ones(len(columns[0]), np.bool_)
    if len(first):
        first[1:] = columns[0][1:] != columns[0][:-1]
        for column in columns[1:]:
            first[1:] |= column[1:] != column[:-1]
    return first


def _of_last_value(distinct: NDArray[np.bool_], last: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows that begin the run of equal rows which ends at a ``last`` one."""
    begins = np.flatnonzero(distinct)
    runs = np.searchsorted(begins, np.flatnonzero(last), side="right") - 1
    found = np.zeros(len(distinct), np.bool_)
    found[begins[runs]] = True
    return found


def _several(keys: U64, values: U64, begins: I64, sizes: I64) -> Iterator[Disagreement]:
    for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True):
        dropped = " ".join(map(str, values[begin : begin + size].tolist()))
        yield Disagreement("imsi-several-numbers", (int(keys[begin]), 0), "", dropped)


def _earlier(
    keys: U64, numbers: U64, deadlines: I64, dropped: I64, kept: I64
) -> Iterator[Disagreement]:
    for lost, held in zip(dropped.tolist(), kept.tolist(), strict=True):
        item = (int(keys[lost]), int(numbers[lost]))
        yield Disagreement("several-deadlines", item, str(deadlines[held]), str(deadlines[lost]))
