"""What Prometheus reads of the feeds that a node follows: how far, how old, and what runs came to.

``FeedFigures`` is what whoever follows a feed says of it; the metrics are nothing but that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFigures:
    """One feed that is followed.

    ``reached``: the serial that is kept; ``served``: the same, or the one that is pinned;
    ``head``: of the newest head believed; 0 stands for none. ``age_s``: since the newest good head
    was made, or heard, whichever is longer; None where none came yet. ``runs``: by (kind, reason);
    these and ``fetched_bytes`` since the keeper started. ``last_at``: Unix seconds of the last run,
    0 = none yet, and ``last_s`` how long it took.
    """

    feed: str
    reached: int
    served: int
    head: int
    age_s: float | None
    stale: bool
    held: bool
    pinned: bool
    detached: bool
    runs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    fetched_bytes: int = 0
    last_at: int = 0
    last_s: float = 0.0

    @property
    def lag(self) -> int:
        """How many serials what serves is behind the newest head."""
        return max(0, self.head - self.served)


def sync_metrics(feeds: Sequence[FeedFigures]) -> Iterator[Metric]:
    """Every metric of the feeds, also where none is followed: without samples then."""
    gauges: tuple[tuple[str, str, Callable[[FeedFigures], float | None]], ...] = (
        ("eir_sync_serial", "The serial reached.", lambda each: each.reached),
        ("eir_sync_head_serial", "The serial of the newest head.", lambda each: each.head),
        ("eir_sync_lag_serials", "Serials behind the newest head.", lambda each: each.lag),
        ("eir_sync_age_seconds", "Since the feed was heard.", lambda each: each.age_s),
        ("eir_sync_stale", "1 while no good head came for too long.", lambda each: each.stale),
        ("eir_sync_held", "1 while a change waits for a person.", lambda each: each.held),
        ("eir_sync_pinned", "1 while an older serial is pinned.", lambda each: each.pinned),
        ("eir_sync_detached", "1 while the feed is not followed.", lambda each: each.detached),
        ("eir_sync_last_run_time_seconds", "When the last run ended.", lambda each: each.last_at),
        ("eir_sync_last_run_seconds", "How long it took.", lambda each: each.last_s),
    )
    for name, says, of in gauges:
        gauge = GaugeMetricFamily(name, says, labels=["feed"])
        for each in feeds:
            if (value := of(each)) is not None:
                gauge.add_metric([each.feed], float(value))
        yield gauge
    runs = CounterMetricFamily(
        "eir_sync_runs", "Runs, by what they came to.", labels=["feed", "kind", "reason"]
    )
    fetched = CounterMetricFamily("eir_sync_bytes", "Bytes fetched.", labels=["feed"])
    for each in feeds:
        fetched.add_metric([each.feed], each.fetched_bytes)
        for (kind, reason), times in sorted(each.runs.items()):
            runs.add_metric([each.feed, kind, reason], times)
    yield from (runs, fetched)
