"""The plots of a run, as SVG that is the same for the same lines. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

Line = Mapping[str, Any]
_QUANTILES: Final = (("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"))
_OURS, _THEIRS, _MISSED = "#1f6f5c", "#9aa5b1", "#b3541e"
_MOST_DURING: Final = 2.0

mpl.rcParams.update({"svg.hashsalt": "eir", "svg.fonttype": "none", "font.size": 9})


def draw(lines: Sequence[Line], folder: Path) -> tuple[str, ...]:
    """Draw what the lines have something for; the names of the files."""
    drawn = []
    for name, make in (
        ("benchmarks-throughput.svg", _throughput),
        ("benchmarks-latency.svg", _latency),
        ("benchmarks-during.svg", _during),
        ("benchmarks-growth.svg", _growth),
    ):
        figure = make(lines)
        (folder / name).unlink(missing_ok=True)
        if figure is None:
            continue
        figure.supxlabel(_caption(lines[0]), fontsize=6, color="#667788")
        figure.savefig(folder / name, metadata={"Date": None, "Creator": None})
        drawn.append(name)
    return tuple(drawn)


def _caption(line: Line) -> str:
    machine, versions = line["machine"], line["versions"]
    told = [f"{name} {versions[name]}" for name in ("eir", "python", "grpcio") if name in versions]
    return f"{machine['cpu']}, {machine['cores']} cores; {', '.join(told)}; {line['date']}"


def _of(lines: Sequence[Line], *measures: str) -> list[Line]:
    return [line for line in lines if line["measure"] in measures]


def _throughput(lines: Sequence[Line]) -> Figure | None:
    found = _of(lines, "throughput", "lookup")
    if not found:
        return None
    found = sorted(found, key=lambda line: line["values"]["checks_per_s"]["median"])
    figure = Figure(figsize=(8, 0.6 + 0.28 * len(found)), layout="constrained")
    axes = figure.subplots()
    spreads = [line["values"]["checks_per_s"] for line in found]
    medians = [spread["median"] for spread in spreads]
    errors = [
        [spread["median"] - spread["low"] for spread in spreads],
        [spread["high"] - spread["median"] for spread in spreads],
    ]
    colors = [_OURS if line["subject"].startswith("node") else _THEIRS for line in found]
    names = [f"{line['subject']}: {line['ask']}" for line in found]
    axes.barh(names, medians, xerr=errors, color=colors, ecolor="#333", capsize=2)
    axes.set_xscale("log")
    axes.set_xlabel("checks a second, one core of the server (median, range)")
    return figure


def _latency(lines: Sequence[Line]) -> Figure | None:
    found = [
        line for line in _of(lines, "latency") if line["load"].startswith("50% of the peak of node")
    ]
    loads = list(dict.fromkeys(line["load"] for line in found))
    if not loads:
        return None
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, load in zip(figure.subplots(1, len(loads), squeeze=False)[0], loads, strict=True):
        same = [line for line in found if line["load"] == load]
        for line in same:
            _quantile_line(axes, line)
        axes.set_title(f"{same[0]['rate_per_s']:,} checks/s: {load}", fontsize=8)
        axes.set_yscale("log")
        axes.set_ylabel("µs")
        axes.legend(fontsize=7)
    return figure


def _quantile_line(axes: Axes, line: Line) -> None:
    places = range(len(_QUANTILES))
    spreads = [line["values"][name] for name, _ in _QUANTILES]
    (drawn,) = axes.plot(
        places, [spread["median"] for spread in spreads], marker="o", label=line["subject"]
    )
    low, high = ([spread[end] for spread in spreads] for end in ("low", "high"))
    axes.fill_between(places, low, high, color=drawn.get_color(), alpha=0.15)
    axes.set_xticks(list(places), [shown for _, shown in _QUANTILES])


def _during(lines: Sequence[Line]) -> Figure | None:
    """p99 of each event over the quiet one beside it."""
    found = _of(lines, "during")
    quiet = {(x["subject"], x["event"]): x for x in found if x["when"] == "quiet"}
    rows = [
        (f"{x['event']}: {x['subject'].removeprefix('node, ')}", _p99(x) / _p99(quiet[key]))
        for x in found
        if x["when"] != "quiet"
        and (key := (x["subject"], x["event"])) in quiet
        and _p99(quiet[key]) > 0
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: row[0], reverse=True)
    figure = Figure(figsize=(8, 0.8 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colors = [_OURS if ratio <= _MOST_DURING else _MISSED for _, ratio in rows]
    axes.barh([name for name, _ in rows], [ratio for _, ratio in rows], color=colors)
    axes.axvline(1, color="#667788", linewidth=0.8)
    axes.axvline(_MOST_DURING, color="#333", linewidth=0.8, linestyle="--")
    axes.set_xlabel("p99 while it happens, over the quiet p99; dashed: the target")
    return figure


def _p99(line: Line) -> float:
    return float(line["values"]["p99_us"]["median"])


def _growth(lines: Sequence[Line]) -> Figure | None:
    """Everything that grows, in one chart: a straight line that rises by one is O(n)."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    drawn = 0
    for name, points in _growing(lines).items():
        if len(points) > 1:
            axes.plot(*zip(*sorted(points.items()), strict=True), marker="o", label=name)
            drawn += 1
    if not drawn:
        return None
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("devices")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def _growing(lines: Sequence[Line]) -> dict[str, dict[int, float]]:
    """What grows: by name the median at each number of devices."""
    found: dict[str, dict[int, float]] = {}

    def add(name: str, line: Line, value: str, per: float = 1.0) -> None:
        if value in line["values"]:
            median = float(line["values"][value]["median"]) / per
            found.setdefault(name, {})[line["devices"]] = median

    for line in _of(lines, "load", "start", "kernel", "follow"):
        subject = line["subject"]
        if subject == "eir load, registry data":
            add("bulk load of the registry's lists, s", line, "seconds")
            add("snapshot, MB", line, "snapshot_bytes", 1e6)
        elif subject == "eir serve, to its first verdict":
            add("a node's cold start, s", line, "seconds")
            add("memory of a node (PSS), MB", line, "pss_bytes", 1e6)
        elif subject == "a worker's successor":
            add("a worker's start, s", line, "seconds")
        elif line["measure"] == "kernel" and line["serials"] == "clustered" and subject == "bound":
            add("look-up of a bound device, batch 512, ns", line, "ns_at_512")
        elif subject == "delta":
            changes = line["values"]["changes"]["median"]
            if 5_000 < changes < 20_000:
                add("delta of 10,000 changes, served, s", line, "seconds")
            elif 50_000 < changes < 200_000:
                add("delta of 100,000 changes, served, s", line, "seconds")
    return found
