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
_OURS, _THEIRS = "#1f6f5c", "#9aa5b1"

mpl.rcParams.update({"svg.hashsalt": "eir", "svg.fonttype": "none", "font.size": 9})


def draw(lines: Sequence[Line], folder: Path) -> tuple[str, ...]:
    """Draw what the lines have something for; the names of the files."""
    drawn = []
    for name, make in (
        ("benchmarks-throughput.svg", _throughput),
        ("benchmarks-latency.svg", _latency),
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


def _growth(lines: Sequence[Line]) -> Figure | None:
    panels = (
        ("size", "bytes_per_item", "bytes an item", ("white", "bindings")),
        ("load", "seconds", "bulk load, s", ("eir load, registry data",)),
        ("start", "seconds", "start to first verdict, s", ()),
        ("kernel", "ns_at_512", "ns a check, batch 512", ()),
    )
    kept = []
    for measure, value, label, only in panels:
        found = [line for line in _of(lines, measure) if not only or line["subject"] in only]
        if len({line["devices"] for line in found}) > 1:
            kept.append((found, value, label))
    if not kept:
        return None
    figure = Figure(figsize=(3.2 * len(kept), 3.2), layout="constrained")
    for axes, (found, value, label) in zip(
        figure.subplots(1, len(kept), squeeze=False)[0], kept, strict=True
    ):
        for subject in dict.fromkeys(line["subject"] for line in found):
            points = [
                (line["devices"], line["values"][value]["median"])
                for line in found
                if line["subject"] == subject
            ]
            axes.plot(*zip(*points, strict=True), marker="o", label=subject)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("devices")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=6)
    return figure
