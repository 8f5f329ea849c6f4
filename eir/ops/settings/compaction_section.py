"""The settings of compaction: when a next base is due. As ``sections`` has the others."""

from __future__ import annotations

from dataclasses import dataclass

from eir.ops.settings import setting


@dataclass(frozen=True, slots=True)
class CompactionSection:
    """When what deltas have brought is written into a next base, by a process that goes last."""

    max_touched_keys: int = setting.whole(
        4_000_000, "Keys touched by deltas at which it is due.", low=1, high=10**9, unit="keys"
    )
    max_touched_share: float = setting.share(
        0.05, "The share of a base's items at which it is due, if that is less (10,000 at least)."
    )
    max_deltas: int = setting.whole(
        1_000,
        "Deltas behind a base at which it is due, however small: a start applies each of them.",
        low=1,
        high=100_000,
        unit="deltas",
    )
