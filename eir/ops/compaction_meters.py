"""What Prometheus reads of compaction: how far overlays have grown, and what attempts came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from eir.ops.compaction import CompactionState


def compaction_metrics(states: Mapping[str, CompactionState]) -> Iterator[Metric]:
    """Every metric of it, as things stand now."""
    labels = ["feed"]
    touched = GaugeMetricFamily("eir_overlay_keys", "Keys that overlays hold.", labels=labels)
    due = GaugeMetricFamily(
        "eir_overlay_due_keys", "The keys at which the next base is due.", labels=labels
    )
    deltas = GaugeMetricFamily("eir_overlay_deltas", "Deltas behind the base.", labels=labels)
    running = GaugeMetricFamily("eir_compaction_running", "1 while one runs.", labels=labels)
    seconds = GaugeMetricFamily(
        "eir_compaction_last_seconds", "How long the last one that was done took.", labels=labels
    )
    peak = GaugeMetricFamily("eir_compaction_last_peak_bytes", "Its memory at most.", labels=labels)
    runs = CounterMetricFamily(
        "eir_compactions", "Compactions by outcome.", labels=["feed", "outcome"]
    )
    for feed, state in states.items():
        touched.add_metric([feed], state.touched_keys)
        due.add_metric([feed], state.due_at_keys)
        deltas.add_metric([feed], state.deltas)
        running.add_metric([feed], state.running)
        seconds.add_metric([feed], state.done.seconds if state.done else 0)
        peak.add_metric([feed], state.done.peak_bytes if state.done else 0)
        for outcome, times in state.counts.items():
            runs.add_metric([feed, outcome], times)
    yield from (touched, due, deltas, running, seconds, peak, runs)
