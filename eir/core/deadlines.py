"""Grey entries: (IMEI, number or 0 for any) → deadline, Unix seconds UTC. At most one each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.core.pairtable import RowOrder, group_starts, whole_keys
from eir.core.rankindex import IndexBuilder, RankIndex
from eir.errors import Corrupt

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]

MAX_DEADLINE = (1 << 32) - 1


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class DeadlineTable:
    """Rows sorted by (IMEI, number). Immutable.

    ``index``: the IMEIs. ``starts`` uint32[keys + 1]: where a key's rows begin. ``numbers``
    uint64[rows]: MSISDN, 0 = any. ``deadlines`` uint32[rows]: Unix seconds UTC.
    """

    index: RankIndex
    starts: U32
    numbers: U64
    deadlines: U32

    @property
    def items(self) -> int:
        """Number of rows."""
        return len(self.numbers)

    def chunks(self) -> Iterator[tuple[U64, U64, U64]]:
        """(IMEIs, numbers, deadlines), all uint64, sorted; everything checked: raises Corrupt."""
        order = RowOrder()
        keys_seen = 0
        if len(self.starts) == 0 or int(self.starts[0]) != 0:
            raise Corrupt("starts", "the first row does not begin at 0")
        if len(self.deadlines) != self.items:
            raise Corrupt("deadlines", "not as many as numbers")
        for rank, keys in self.index.chunks():
            starts = self.starts[rank : rank + len(keys) + 1].astype(np.int64)
            if len(starts) != len(keys) + 1 or not bool((starts[1:] > starts[:-1]).all()):
                raise Corrupt("starts", "rows do not follow the index")
            if int(starts[-1]) > self.items:
                raise Corrupt("starts", "rows point behind the end")
            rows = slice(int(starts[0]), int(starts[-1]))
            imeis, numbers = np.repeat(keys, np.diff(starts)), self.numbers[rows]
            try:
                order.check(imeis, numbers)
            except ValueError as error:
                raise Corrupt("numbers", str(error)) from error
            keys_seen += len(keys)
            yield imeis, numbers, self.deadlines[rows].astype(np.uint64)
        if (len(self.starts) - 1, int(self.starts[-1])) != (keys_seen, self.items):
            raise Corrupt("starts", "counts of keys and rows do not agree")

    def rows(self) -> Iterator[U64]:
        """As ``chunks``, each uint64[n, 3]."""
        for columns in self.chunks():
            yield np.stack(columns, axis=1)


def build(rows: Iterable[tuple[U64, U64, NDArray[np.int64]]]) -> DeadlineTable:
    """The table of batches (IMEIs, numbers, deadlines), sorted by (IMEI, number), unique there.

    Raises ValueError where rows are out of order or a deadline is below 0 or above 2^32 − 1.
    """
    index, order = IndexBuilder(), RowOrder()
    starts: list[U32] = [np.zeros(1, np.uint32)]
    numbers: list[U64] = [np.empty(0, np.uint64)]
    deadlines: list[U32] = [np.empty(0, np.uint32)]
    done = 0
    for keys, column, times in whole_keys(rows):
        order.check(keys, column)
        if int(times.min()) < 0 or int(times.max()) > MAX_DEADLINE:
            raise ValueError("a deadline lies outside 1970–2106")
        begins = group_starts(keys)
        index.add(keys[begins[:-1]])
        starts.append((begins[1:] + done).astype(np.uint32))
        numbers.append(column)
        deadlines.append(times.astype(np.uint32))
        done += len(keys)
    return DeadlineTable(
        index.finish(), np.concatenate(starts), np.concatenate(numbers), np.concatenate(deadlines)
    )
