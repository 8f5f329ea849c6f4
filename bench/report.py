"""The page and the plots of a run, made from its JSON lines alone.

    python -m bench.report [docs/benchmarks.jsonl]

The same lines give the same bytes. Ratios are the point: absolute figures do not outlast a machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.lines import faults_of, read
from bench.targets import LIMIT, PIPELINED, judged, largest

Line = Mapping[str, Any]
PLOTS: Final = {
    "benchmarks-throughput.svg": "Checks a second on one core of the server",
    "benchmarks-latency.svg": "Latency at half of the door's peak, open loop",
    "benchmarks-during.svg": "p99 while something happens, over the quiet one",
    "benchmarks-growth.svg": "Growth with the number of devices",
}
_PLACES: Final = {
    "benchmarks-throughput.svg": "Throughput",
    "benchmarks-latency.svg": "Latency",
    "benchmarks-during.svg": "Latency while something happens",
    "benchmarks-growth.svg": "What was to be reached",
}
_HEAD: Final = """# Benchmarks

What this engine does on one small machine, beside others that answer on the same cores in the same
minutes, and whether it reaches what it was built to reach. Made from
[benchmarks.jsonl](benchmarks.jsonl); do not edit.

How to read it: every answer was compared with the right one, and a wrong or a missing one would
have failed the run. A figure is the median over the rounds, its range in brackets. Rounds go
A B A B, so that what the machine does meanwhile falls on all alike. Servers have one core and the
load generator another, of the same machine: **read the ratios, not the absolute figures**.
"""
_REPEAT: Final = """## How to repeat it

```sh
make bench        # 10^6 devices, some twenty minutes
make bench-full   # 10^8 devices: an hour, 16 GB of memory, 60 GB of scratch space
```

Debian packages of the peers are installed if they are not there (as root, or by sudo). A part that
fails is told at the end, and the others go on. With a scratch folder of your own, what was built
stays there, and some parts can be measured anew while all other lines of the page stay:

```sh
make bench-full BENCH="--scratch /srv/bench"
make bench-full BENCH="--scratch /srv/bench --only transport,kernel --add"
```

Measure on a machine that does nothing else: a neighbour on one core of two is in every figure.
"""


def write(lines: Sequence[Line], folder: Path) -> None:
    """``benchmarks.md`` and its plots into ``folder``; without matplotlib, no plots."""
    try:
        from bench import plots
    except ImportError as error:
        print(f"NOT MADE: the plots: {error}", file=sys.stderr)
        drawn: tuple[str, ...] = ()
    else:
        drawn = plots.draw(lines, folder)
    (folder / "benchmarks.md").write_text(page(lines, drawn), encoding="utf-8")


def page(lines: Sequence[Line], drawn: Sequence[str]) -> str:
    """The page's text, with the plots that were drawn."""
    parts = [_HEAD, _about(lines[0])]
    told = set()
    for title, make in (
        ("What was to be reached", _targets),
        ("Faults", _faults),
        ("Not measured", _absent),
        ("Throughput", _throughput),
        ("Throughput by h2load", _h2load),
        ("Latency", _latency),
        ("Latency while something happens", _during),
        ("The decide kernel alone", _kernel),
        ("A usual EIR's look-up", _lookups),
        ("Bulk load", _loads),
        ("Start", _starts),
        ("Bytes an item", _sizes),
        ("Memory of each server", _memory),
        ("A delta", _deltas),
        ("Following a feed", _follows),
        ("A crowd that follows one feed", _crowds),
        ("Other doors", _doors),
        ("Overload", _overloads),
        ("Workers", _workers),
        ("What took how long", _parts),
    ):
        body = make(lines)
        if not body:
            continue
        parts.append(f"## {title}\n\n{body}")
        for name in drawn:
            if _PLACES.get(name) == title:
                parts.append(f"![{PLOTS[name]}]({name})\n")
                told.add(name)
    parts += [f"![{PLOTS[name]}]({name})\n" for name in drawn if name not in told]
    parts.append(_REPEAT)
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _targets(lines: Sequence[Line]) -> str:
    rows = judged(lines)
    met = sum(verdict == "met" for *_, verdict in rows)
    told = f"{met} of {len(rows)} met, at {largest(lines):,} devices.\n\n"
    return told + _table(("what", "target", "measured", "met"), rows)


def _faults(lines: Sequence[Line]) -> str:
    return "".join(f"- {fault}\n" for fault in faults_of(lines))


def _parts(lines: Sequence[Line]) -> str:
    rows = [
        (line["subject"], _shown(line, "seconds"), f"{line['devices']:,}", line["date"])
        for line in of(lines, "part")
    ]
    return _table(("part", "s", "devices", "date"), rows) if rows else ""


def of(lines: Iterable[Line], measure: str) -> list[Line]:
    """The lines of one measure."""
    return [line for line in lines if line["measure"] == measure]


def median(line: Line, name: str) -> float:
    """The median of one value."""
    return float(line["values"][name]["median"])


def _about(line: Line) -> str:
    machine = line["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in line["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; {line['date']}.\n\n{versions}.\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)) + "\n"


def _shown(line: Line, name: str, *, per: float = 1.0) -> str:
    value = line["values"][name]
    median, low, high = (_digits(value[key] / per) for key in ("median", "low", "high"))
    return median if line["rounds"] == 1 else f"{median} ({low}–{high})"


def _digits(value: float) -> str:
    if value >= 100:
        return f"{float(f'{value:.4g}'):,.0f}"
    return f"{value:.3g}"


def _ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else ""


def _base(lines: Iterable[Line], name: str, **wanted: object) -> float | None:
    for line in lines:
        if all(line.get(key) == value for key, value in wanted.items()):
            return median(line, name)
    return None


def _throughput(lines: Sequence[Line]) -> str:
    found = of(lines, "throughput")
    pipelined = _base(found, "checks_per_s", ask=PIPELINED)
    rows = []
    for line in found:
        value, ask = median(line, "checks_per_s"), line["ask"]
        limit = _base(found, "checks_per_s", subject=LIMIT, ask=ask)
        rows.append(
            (
                line["subject"],
                ask,
                _shown(line, "checks_per_s"),
                _ratio(value, limit),
                _ratio(value, pipelined) if ask.startswith("CheckBatch") else "",
                _shown(line, "cpu_us_per_check"),
                f"{line['devices']:,}",
            )
        )
    head = ("server", "asked", "checks/s", "× C++", "× pipelined Redis", "CPU µs a check", "rows")
    return _table(head, rows) if rows else ""


def _h2load(lines: Sequence[Line]) -> str:
    found = of(lines, "h2load")
    limit = _base(found, "checks_per_s", subject=LIMIT)
    rows = [
        (
            line["subject"],
            _shown(line, "checks_per_s"),
            _ratio(median(line, "checks_per_s"), limit),
        )
        for line in found
    ]
    told = "One question again and again, by the usual tool: a cross-check of our generator.\n\n"
    return told + _table(("server", "checks/s", "× C++"), rows) if rows else ""


def _latency(lines: Sequence[Line]) -> str:
    found = of(lines, "latency")
    rows = []
    for line in found:
        limit = _base(
            found, "p99_us", subject=LIMIT, load=line["load"], rate_per_s=line["rate_per_s"]
        )
        quantiles = [_shown(line, f"{name}_us") for name in ("p50", "p99", "p999", "max")]
        ratio = _ratio(median(line, "p99_us"), limit)
        rows.append(
            (line["subject"], line["load"], f"{line['rate_per_s']:,}", *quantiles, ratio,
             _shown(line, "late_p99_us"))
        )  # fmt: skip
    told = (
        "Open loop: questions leave at the times of a Poisson process whatever the answers do,\n"
        "and a latency is counted from when the question should have left. Microseconds.\n"
        "*Late* is by how much the generator itself was late (p99).\n\n"
    )
    head = ("server", "load", "checks/s", "p50", "p99", "p99.9", "max", "p99 × C++", "late")
    return told + _table(head, rows) if rows else ""


def _during(lines: Sequence[Line]) -> str:
    found = of(lines, "during")
    rows = []
    for line in found:
        same = {"subject": line["subject"], "event": line["event"], "when": "quiet"}
        ratio = _ratio(median(line, "p99_us"), _base(found, "p99_us", **same))
        quantiles = [_shown(line, f"{name}_us") for name in ("p50", "p99", "p999", "max")]
        when = "quiet" if line["when"] == "quiet" else f"**{line['event']}**"
        rate = f"{line['rate_per_s']:,}"
        rest = (ratio, _shown(line, "shed"), _shown(line, "event_s"))
        rows.append((line["subject"], when, rate, *quantiles, *rest))
    head = ("server", "", "checks/s", "p50", "p99", "p99.9", "max", "p99 × quiet")
    head += ("shed", "it took, s")
    told = (
        "Open loop at half of the door's own peak, microseconds; each event beside a quiet run\n"
        "just before it. The worker has the servers' core, as everywhere here; its keeper has\n"
        "what is left of all, and the generator goes before both, as a machine of its own would:\n"
        "what happens takes longer here than on a node that is asked less. A window begins half a\n"
        "second before the event and ends with it: when the delta, the base or the generation\n"
        "serves. What swaps in was built beforehand. Shed: calls that were refused at once since\n"
        "too many waited.\n\n"
    )
    return told + _table(head, rows) if rows else ""


def _kernel(lines: Sequence[Line]) -> str:
    rows = [
        (
            line["subject"],
            line["serials"],
            f"{line['devices']:,}",
            *(_shown(line, f"ns_at_{batch}") for batch in (1, 16, 512)),
        )
        for line in of(lines, "kernel")
    ]
    head = ("questions", "serials", "devices", "ns a check, batch 1", "16", "512")
    return _table(head, rows) if rows else ""


def _lookups(lines: Sequence[Line]) -> str:
    rows = [
        (
            line["subject"],
            line["ask"],
            _shown(line, "checks_per_s"),
            _shown(line, "cpu_us_per_check"),
            f"{line['devices']:,}",
        )
        for line in of(lines, "lookup")
    ]
    head = ("", "", "look-ups/s", "CPU µs a look-up", "rows")
    told = "One SELECT by primary key: a part of what a check needs, and no protocol of a core.\n\n"
    return told + _table(head, rows) if rows else ""


def _loads(lines: Sequence[Line]) -> str:
    rows = [
        (
            line["subject"],
            f"{line['devices']:,}",
            _shown(line, "rows"),
            _shown(line, "seconds"),
            _shown(line, "rows_per_s"),
            _shown(line, "cpu_seconds"),
            _shown(line, "peak_bytes", per=2**20),
        )
        for line in of(lines, "load")
    ]
    made = [
        f"The list files of {line['devices']:,} devices, {_shown(line, 'bytes', per=2**30)} GiB, "
        f"were written in {_shown(line, 'seconds')} s, which is in no figure here.\n"
        for line in of(lines, "lists")
    ]
    head = ("", "devices", "CSV rows", "s", "rows/s", "CPU s", "peak MiB")
    return _table(head, rows) + "\n" + "".join(made) if rows else ""


def _starts(lines: Sequence[Line]) -> str:
    rows = [
        (
            line["subject"],
            f"{line['devices']:,}",
            _shown(line, "seconds"),
            _shown(line, "pss_bytes", per=2**20) if "pss_bytes" in line["values"] else "",
        )
        for line in of(lines, "start")
    ]
    return _table(("", "devices", "s", "PSS, MiB"), rows) if rows else ""


def _sizes(lines: Sequence[Line]) -> str:
    rows = [
        (
            f"`{line['subject']}`",
            f"{line['devices']:,}",
            _shown(line, "items"),
            _shown(line, "bytes_per_item"),
            line["item"],
        )
        for line in of(lines, "size")
    ]
    return _table(("section", "devices", "items", "bytes", "an"), rows) if rows else ""


def _memory(lines: Sequence[Line]) -> str:
    rows = [
        (line["subject"], f"{line['devices']:,}", _shown(line, "pss_bytes", per=2**20))
        for line in of(lines, "memory")
    ]
    return _table(("server", "devices", "PSS, MiB"), rows) if rows else ""


def _deltas(lines: Sequence[Line]) -> str:
    names = ("changes", "write_s", "read_s", "advance_s", "second_s", "bytes_a_change")
    names += ("csv_bytes_a_change", "csv_gzip_bytes_a_change")
    rows = [
        (f"{line['devices']:,}", *(_shown(line, name) for name in names))
        for line in of(lines, "delta")
    ]
    head = ("base, devices", "changes", "write, s", "read, s", "apply, s", "one more, s", "bytes")
    head += ("as CSV", "gzipped")
    told = (
        "*One more*: applying a delta of 1,000 changes behind this one. Bytes: a change, beside\n"
        "the same changes as a CSV file and as that gzipped.\n\n"
    )
    return told + _table(head, rows) if rows else ""


def _follows(lines: Sequence[Line]) -> str:
    found = of(lines, "follow")
    deltas = [
        (f"{line['devices']:,}", *(_shown(line, n) for n in ("changes", "seconds", "answered_s")))
        for line in found
        if line["subject"] == "delta"
    ]
    loads = [
        (f"{line['devices']:,}", _shown(line, "seconds"), _shown(line, "bytes_a_device"))
        for line in found
        if line["subject"] == "first load"
    ]
    if not found:
        return ""
    told = (
        "A node with its worker: *served* is from asking for the head until the change is\n"
        "weighed, durable and swapped in by every worker; *answered*, from publishing to the\n"
        "first answer, with up to a second until the node asks.\n\n"
    )
    first = _table(("first load, devices", "served, s", "bytes a device"), loads)
    steps = _table(("base, devices", "changes", "served, s", "answered, s"), deltas)
    return f"{told}{steps}\n{first}"


def _crowds(lines: Sequence[Line]) -> str:
    names = ("nodes", "seconds", "cpu_ms_a_node", "bytes_a_node")
    head = ("they take", "base, devices", "nodes", "s in all", "CPU, ms a node", "bytes a node")
    rows = [
        (
            line["subject"].removeprefix("crowd, "),
            f"{line['devices']:,}",
            *(_shown(line, name) for name in names),
        )
        for line in of(lines, "follow")
        if line["subject"].startswith("crowd")
    ]
    return _table(head, rows) if rows else ""


def _doors(lines: Sequence[Line]) -> str:
    return _listed(lines, "door", "As their own benchmarks tell, each beside its peer.")


def _workers(lines: Sequence[Line]) -> str:
    told = "The share is of the checks of so many connections: 1 is all of them by one worker."
    return _listed(lines, "workers", told)


def _listed(lines: Sequence[Line], measure: str, told: str) -> str:
    rows = [
        (line["subject"], name.replace("_", " "), _shown(line, name))
        for line in of(lines, measure)
        for name in line["values"]
    ]
    return f"{told}\n\n{_table(('benchmark', '', ''), rows)}" if rows else ""


def _overloads(lines: Sequence[Line]) -> str:
    names = ("asked_per_s", "answered_of_peak", "refused_share", "held_share", "answered_p50_us",
             "answered_p99_us", "refused_p99_us", "late_p99_us")  # fmt: skip
    rows = [
        (str(line["subject"]).removeprefix("overload, "), *(_shown(line, name) for name in names))
        for line in of(lines, "overload")
        if set(names) <= set(line["values"])
    ]
    head = ("engine, bound, load", "asked/s", "answered ÷ peak", "refused", "held", "p50", "p99",
            "p99 of a refusal", "late")  # fmt: skip
    told = (
        "The server has one core, the questions come over 64 connections whatever the answers do.\n"
        "*Held*: due while no connection may open another stream; such a question is not sent.\n"
        "Times are of what was answered or refused, from when it left; *late*: by how much the\n"
        "generator itself was late in sending (p99). Microseconds.\n\n"
    )
    return told + _table(head, rows) if rows else ""


def _absent(lines: Sequence[Line]) -> str:
    return "".join(f"- {line['subject']}: {line['why']}\n" for line in of(lines, "absent"))


if __name__ == "__main__":
    chosen = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/benchmarks.jsonl")
    write(read(chosen), chosen.parent)
