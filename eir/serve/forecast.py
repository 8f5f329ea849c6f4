"""What time itself will newly refuse: deadlines that pass, holds, overrides and lists that end.

Asked of the kernel, day by day, as of each day's end, as if the registry were heard until then and
said nothing more. So it is the most that deadlines can cut; whoever activates meanwhile is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from eir.core.tables import Tables
from eir.serve.affected import Queries
from eir.serve.guard import Impact, impact

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Day:
    """One day: from ``begins`` until ``ends``, Unix s, and who is newly refused at its end."""

    begins: int
    ends: int
    impact: Impact


def forecast(tables: Tables, *, now: int, grace_time: int, days: int) -> Iterator[Day]:
    """Each of the next days. ``grace_time``: where it stands at ``now``; both Unix s UTC.

    Asked are the grey entries whose deadline has passed by the end of the day: pairs, and devices
    where the entry is for any number.
    """
    for number in range(days):
        begins = now + number * DAY_S
        ends = begins + DAY_S
        stands = grace_time if number == 0 else begins
        asked = _due(tables, ends)
        found = impact(tables, tables, asked, now=begins, grace_time=stands, until=ends)
        yield Day(begins, ends, found)


def _due(tables: Tables, until: int) -> Iterator[Queries]:
    grey = tables.registry.sections.get("grey")
    for rows in grey.rows() if grey is not None else ():
        due = rows[rows[:, 2] <= np.uint64(until)]
        none = np.zeros(len(due), np.uint64)
        yield np.ascontiguousarray(due[:, 0]), np.ascontiguousarray(due[:, 1]), none
