"""What was to be reached, and whether a run did: computed from its lines alone.

A target is met, missed, or not measured; one that is about 10^8 devices is judged on a run of that
size only. What bounds it is said where it is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Line = Mapping[str, Any]
Found = Callable[[Sequence[Line]], float | None]
NATIVE, GRPCIO = "node, native door", "node, grpcio door"
FRONT, LIMIT = "native front, constant", "C++ gRPC, constant"
PIPELINED: Final = "GET, pipelined by 32"
LOAD, SUCCESSOR = "eir load, registry data", "a worker's successor"
BATCH: Final = "CheckBatch of 512"
NATION: Final = 100_000_000
MIXES: Final = ("bound", "white", "unknown", "black")


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to reach: ``least`` or ``most``. ``nation``: it is about 10^8 devices."""

    what: str
    found: Found
    least: float | None = None
    most: float | None = None
    unit: str = ""
    bound_by: str = ""
    nation: bool = False

    def wanted(self) -> str:
        """The target in words."""
        value = self.least if self.least is not None else self.most
        return f"{'≥' if self.least is not None else '≤'} {shown(value or 0.0)}{self.unit}"

    def met(self, value: float) -> bool:
        """Whether a figure reaches it."""
        return (self.least is None or value >= self.least) and (
            self.most is None or value <= self.most
        )


def shown(value: float) -> str:
    """A figure as people read it."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def largest(lines: Iterable[Line]) -> int:
    """How many devices the run was about."""
    return max((line.get("devices", 0) for line in lines), default=0)


def pick(lines: Iterable[Line], measure: str, name: str, **wanted: object) -> float | None:
    """The median of a value, of the line with most devices that is so; None: there is none."""
    fitting = [
        line
        for line in lines
        if line["measure"] == measure
        and name in line["values"]
        and all(line.get(key) == value for key, value in wanted.items())
    ]
    if not fitting:
        return None
    line = max(fitting, key=lambda each: each.get("devices", 0))
    return float(line["values"][name]["median"])


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _rate(subject: str, ask: str) -> Found:
    return lambda lines: pick(lines, "throughput", "checks_per_s", subject=subject, ask=ask)


def _rates(one: str, other: str, ask: str = "Check", other_ask: str = "") -> Found:
    def found(lines: Sequence[Line]) -> float | None:
        return _over(_rate(one, ask)(lines), _rate(other, other_ask or ask)(lines))

    return found


def _kernel(serials: str) -> Found:
    """The slowest mix."""

    def found(lines: Sequence[Line]) -> float | None:
        wanted = {"serials": serials}
        each = [pick(lines, "kernel", "ns_at_512", subject=mix, **wanted) for mix in MIXES]
        known = [value for value in each if value is not None]
        return max(known) if len(known) == len(MIXES) else None

    return found


def _of(measure: str, name: str, *, scale: float = 1.0, **wanted: object) -> Found:
    def found(lines: Sequence[Line]) -> float | None:
        value = pick(lines, measure, name, **wanted)
        return None if value is None else value * scale

    return found


def _half(door: str) -> Found:
    """p99 at half of the door's peak, over that of the C++ server at the same rate."""

    def found(lines: Sequence[Line]) -> float | None:
        load = f"50% of the peak of {door}"
        ours, limit = (
            pick(lines, "latency", "p99_us", subject=each, load=load) for each in (door, LIMIT)
        )
        return _over(ours, limit)

    return found


def _during(door: str, event: str) -> Found:
    """p99 while it happens, over the quiet one of the same rounds."""

    def found(lines: Sequence[Line]) -> float | None:
        moved, quiet = (
            pick(lines, "during", "p99_us", subject=door, event=event, when=when)
            for when in (event, "quiet")
        )
        return _over(moved, quiet)

    return found


def _past_capacity(door: str, name: str, *, scale: float = 1.0) -> Found:
    """Of a gRPC engine with its own bound, asked at twice its peak."""

    def found(lines: Sequence[Line]) -> float | None:
        for line in lines:
            subject = str(line.get("subject"))
            bounded = subject.startswith(f"overload, {door}, ") and "may wait" in subject
            told = bounded and "answered_of_peak" in line["values"]
            if told and subject.endswith(", 2 x peak"):
                return float(line["values"][name]["median"]) * scale
        return None

    return found


def _delta_seconds(lines: Sequence[Line], devices: int) -> float | None:
    """Head seen to served, of the delta of about 100,000 changes."""
    for line in lines:
        if line["measure"] == "follow" and line["subject"] == "delta":
            changes = line["values"]["changes"]["median"]
            if line["devices"] == devices and 50_000 < changes < 200_000:
                return float(line["values"]["seconds"]["median"])
    return None


def _delta(lines: Sequence[Line]) -> float | None:
    return _delta_seconds(lines, largest(lines))


def _flat(lines: Sequence[Line]) -> float | None:
    most = largest(lines)
    small = _delta_seconds(lines, 1_000_000) if most > 1_000_000 else None
    return _over(_delta_seconds(lines, most), small)


_SHARED: Final = "keeper, worker and this generator share two cores"
_WAITING: Final = "waiting for memory: each probe is a miss of cache and TLB at this size"
_REFUSING: Final = "to refuse costs HTTP/2 what to answer does, on the one core that it has"
_EVENTS: Final = (
    ("delta of 1,000,000", "a change of 10^6 applies"),
    ("compaction", "the next base is written"),
    ("reload", "a generation swaps in"),
)

TARGETS: Final = (
    Target(
        "gRPC `Check`, one worker: × the native front answering a constant",
        _rates(NATIVE, FRONT), least=0.9,
        bound_by="parsing, encoding and the worker's Python for a message; see CPU µs a check",
    ),
    Target(
        "… × the C++ server answering a constant", _rates(NATIVE, LIMIT), least=0.7,
        bound_by="the native front itself, which answers a constant below the C++ server",
    ),
    Target("… × our grpcio door", _rates(NATIVE, GRPCIO), least=7),
    Target(
        "`CheckBatch` of 512, checks/s a core", _rate(NATIVE, BATCH), least=3_000_000,
        bound_by=_WAITING,
    ),
    Target(
        "… × pipelined Redis GET", _rates(NATIVE, "Redis GET", BATCH, PIPELINED), least=3,
        bound_by=_WAITING,
    ),
    Target(
        "decide kernel, batch 512, slowest mix, clustered serials", _kernel("clustered"),
        most=200, unit=" ns", bound_by=_WAITING,
    ),
    Target(
        "… uniform serials (10^7 devices at most)", _kernel("uniform"), most=200, unit=" ns",
        bound_by=_WAITING,
    ),
    Target("S13 ECR → ECA, a second and core", _of("door", "per_core"), least=50_000),
    Target("… × python-diameter as server", _of("door", "ratio", subject="s13_load"), least=30),
    Target(
        "N5g-eir GET × granian answering a constant", _of("door", "ratio", subject="n5g_load"),
        least=0.7, bound_by="parsing the query and deciding, in Python, for each request",
    ),
    *(
        Target(
            f"p99 at half of the peak × the C++ server's, {door.removeprefix('node, ')}",
            _half(door), most=3, bound_by="the queue before one Python thread",
        )
        for door in (NATIVE, GRPCIO)
    ),
    *(
        Target(
            f"p99 while {told} × quiet, {door.removeprefix('node, ')}", _during(door, event),
            most=2, bound_by=_SHARED,
        )
        for event, told in _EVENTS
        for door in (NATIVE, GRPCIO)
    ),
    *(
        target
        for door in ("native", "grpcio")
        for target in (
            Target(
                f"asked at twice the peak, {door} engine: answered ÷ peak",
                _past_capacity(door, "answered_of_peak"), least=0.8, bound_by=_REFUSING,
            ),
            Target(
                f"… p99 of what is answered, {door} engine",
                _past_capacity(door, "answered_p99_us", scale=1e-3),
                most=100, unit=" ms", bound_by=_REFUSING,
            ),
        )
    ),
    Target(
        "a list, dense, bytes an IMEI",
        _of("kernel-memory", "bytes_an_imei", serials="clustered"), most=1.2,
        bound_by="how densely serials are used: below some 250 devices a TAC headers weigh",
    ),
    Target(
        "a list, sparse, bytes an IMEI", _of("kernel-memory", "bytes_an_imei", serials="uniform"),
        most=2.6,
    ),
    Target(
        "bindings, bytes a pair", _of("kernel-memory", "bytes_a_pair", serials="clustered"),
        most=6.5,
    ),
    Target(
        "bulk load of the registry's lists", _of("load", "seconds", subject=LOAD),
        most=180, unit=" s", nation=True, bound_by="sorting on two cores",
    ),
    Target(
        "… peak memory",
        _of("load", "peak_bytes", scale=1e-9, subject=LOAD),
        most=6, unit=" GB", nation=True,
        bound_by="what is sorted, and the snapshot's pages while it is verified",
    ),
    Target(
        "a worker's start to its first verdict", _of("start", "seconds", subject=SUCCESSOR),
        most=0.5, unit=" s", nation=True,
        bound_by="opening the snapshot, and making its directories and fences",
    ),
    Target(
        "a node's cold start to its first verdict",
        _of("start", "seconds", subject="eir serve, to its first verdict"),
        most=5, unit=" s", nation=True,
        bound_by="hashing both feeds' snapshots on one core, and building the sieve",
    ),
    Target(
        "delta of 100,000: head seen to served, durable", _delta, most=1, unit=" s", nation=True,
        bound_by=_SHARED,
    ),
    Target(
        "… this, over the same at 10^6 devices", _flat, most=1.5, nation=True,
        bound_by="each changed key is looked up in a base that no cache holds",
    ),
)  # fmt: skip


def judged(lines: Sequence[Line]) -> list[tuple[str, str, str, str]]:
    """Of each target: what, wanted, measured, and met or not with what bounds it."""
    devices, rows = largest(lines), []
    for target in TARGETS:
        value = target.found(lines)
        told = "" if value is None else f"{shown(value)}{target.unit}"
        if value is None:
            verdict = "not measured"
        elif target.nation and devices < NATION:
            verdict = "told at 10^8 only"
        elif target.met(value):
            verdict = "met"
        else:
            verdict = f"**missed**: {target.bound_by}" if target.bound_by else "**missed**"
        rows.append((target.what, target.wanted(), told, verdict))
    return rows
