"""A nation's devices, made up: which IMEIs there are, who uses them, and what the registry knows.

Holds the shares and shapes of a realistic registry. A population is a function of (devices, seed,
now) alone: it is cut into chunks of whole TACs, ascending, and each chunk can be made by itself, so
10^8 devices need the memory of one chunk. Never opens a file and never looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eir import limits

Numbers = NDArray[np.uint64]
Columns = tuple[NDArray[Any], ...]
"""The columns of a section, of one length: keys, numbers and IMSI codes uint64, times int64."""

DAY_S: Final = 86_400
MAX_DEVICES: Final = 1_000_000_000
DEVICES_PER_TAC: Final = 1_470
MIN_TACS: Final = 24
MAX_TAC_WEIGHT: Final = 100.0
CHUNK_DEVICES: Final = 1 << 18
CONSIGNMENT_DEVICES: Final = 300
DUAL_SIM_SHARE: Final = 0.7
BODIES: Final[Mapping[int, float]] = {35: 0.52, 86: 0.40, 1: 0.02, 91: 0.03, 98: 0.015, 99: 0.015}
"""Reporting body (the first two digits of a TAC) -> its share of the TACs."""

RESERVED_TAC: Final = 35_999_900
"""This TAC and the 99 after it are in no population: free for devices made by hand."""

MCC: Final = 432
OPERATORS: Final[Mapping[int, tuple[int, ...]]] = {
    11: (*range(910, 920), *range(990, 995), 996),
    35: (*range(900, 906), 930, 933, *range(935, 940), 941),
    20: (920, 921, 922, 923),
}
"""Mobile network code -> the prefixes of its subscribers' numbers, after 98."""

_PREFIXES: Final = np.array([p for of in OPERATORS.values() for p in of], np.uint64)
_PREFIX_MNC: Final = np.array([mnc for mnc, of in OPERATORS.items() for _ in of], np.uint64)
_PER_PREFIX: Final = 10_000_000
SUBSCRIBERS: Final = len(_PREFIXES) * _PER_PREFIX
"""How many numbers there are; larger populations share them."""

_SLOTS: Final = 3
_NUMBER_STRIDE: Final = 210_132_407
MSINS: Final = 9_999_000_000
"""Subscriber numbers within an IMSI run below this; those above are free for hand-made IMSIs."""

_SIM_BATCH: Final = 100_000
"""SIMs are made by the batch: so many consecutive MSINs, which come to subscribers in no order."""
_STRIDE: Final = 61_837


@dataclass(frozen=True, slots=True)
class Story:
    """What became of a device: ``grey`` is "", "own" (its user's number), "any" or "stranger"."""

    share: float
    lists: tuple[str, ...] = ("white",)
    bound: bool = False
    grey: str = ""


STORIES: Final[Mapping[str, Story]] = {
    "activated": Story(0.80, bound=True),
    "in the shop": Story(0.03),
    "first use": Story(0.015, grey="own"),
    "sighted without a number": Story(0.01, grey="any"),
    "on another's SIM": Story(0.01, bound=True, grey="stranger"),
    "from before the plan": Story(0.04, ("legacy",)),
    "from before the plan, SIM added": Story(0.02, ("legacy",), bound=True),
    "another operator's": Story(0.025, ("white", "bound-elsewhere")),
    "sighted, never registered": Story(0.01, (), grey="own"),
    "payment terminal": Story(0.01, ("exempt.equipment",)),
    "stolen": Story(0.004, ("white", "black.stolen"), bound=True),
    "lost": Story(0.003, ("white", "black.lost"), bound=True),
    "cloned": Story(0.003, ("white", "black.cloned"), bound=True),
    "contract unpaid": Story(0.002, ("white", "black.unpaid"), bound=True),
    "smuggled": Story(0.015, ("black.smuggled",)),
    "not homologated": Story(0.003, ("black.non-homologated",)),
}
"""Every device has one of these; the shares add up to 1."""

LISTS: Final = tuple(dict.fromkeys(name for story in STORIES.values() for name in story.lists))

_OVERRIDE_SHARE: Final = 0.0001
_IMSI_ONLY_SHARE: Final = 0.01
_HOLE_SHARE: Final = 0.45
_OLD_NUMBER_SHARE: Final = 0.08


@dataclass(frozen=True, slots=True)
class Population:
    """The plan of a population: its TACs, ascending, and how many devices each has.

    ``borders`` cuts the TACs into chunks. ``uniform`` scatters the serials of a TAC evenly instead
    of in consignments.
    """

    devices: int
    seed: int
    now: int
    uniform: bool
    tacs: Numbers
    counts: NDArray[np.int64]
    borders: NDArray[np.int64]

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return len(self.borders) - 1

    def chunk_devices(self, index: int) -> int:
        """How many devices chunk ``index`` holds."""
        return int(self.counts[self.borders[index] : self.borders[index + 1]].sum())

    def rows(self, index: int) -> dict[str, Columns]:
        """What every list of SECTIONS holds about the devices of chunk ``index``.

        A section keyed by IMEI is sorted, unique, and above that of the chunk before; one of
        UNORDERED is unique, in no order.
        """
        chunk = _draw_chunk(self, index)
        return {name: make(chunk) for name, make in SECTIONS.items()}

    def section(self, name: str) -> Iterator[Columns]:
        """The batches of one section, chunk by chunk: what a snapshot writer takes."""
        for index in range(self.chunks):
            yield SECTIONS[name](_draw_chunk(self, index))


def plan_population(devices: int, *, seed: int, now: int, uniform: bool = False) -> Population:
    """Choose TACs and their popularity (log-normal: few models sell by the hundred thousand).

    ``now`` is Unix seconds: deadlines lie around it. Raises ValueError outside 1 … MAX_DEVICES.
    """
    if not 1 <= devices <= MAX_DEVICES:
        raise ValueError(f"a population has 1 to {MAX_DEVICES} devices, not {devices}")
    rng = np.random.default_rng([seed, 0])
    tacs = _draw_tacs(rng, max(MIN_TACS, devices // DEVICES_PER_TAC))
    weight = np.minimum(rng.lognormal(0.0, 1.3, len(tacs)), MAX_TAC_WEIGHT)
    reached = np.floor(np.cumsum(weight) / weight.sum() * devices).astype(np.int64)
    reached[-1] = devices
    counts = np.diff(reached, prepend=0)
    tacs, counts = tacs[counts > 0], counts[counts > 0]
    number = np.cumsum(counts) // CHUNK_DEVICES
    borders = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(tacs)]])
    return Population(devices, seed, now, uniform, tacs, counts, np.unique(borders))


def device_arrays(
    devices: int, *, seed: int, now: int = 1_750_000_000, uniform: bool = False
) -> dict[str, Columns]:
    """Every section of a population in memory, ascending by first column: snapshots without CSV.

    Overrides, few, come as they are. Bytes needed: about 300 a device. For more devices than
    fit, stream ``Population.section``.
    """
    population = plan_population(devices, seed=seed, now=now, uniform=uniform)
    chunks = [population.rows(index) for index in range(population.chunks)]
    arrays = {
        name: tuple(np.concatenate(parts) for parts in zip(*(c[name] for c in chunks), strict=True))
        for name in chunks[0]
    }
    for name in UNORDERED:
        order = np.argsort(arrays[name][0])
        arrays[name] = tuple(column[order] for column in arrays[name])
    return arrays


UNORDERED: Final = (
    "imsi-msisdn",
    "released",
    "exempt.subscriber.all",
    "exempt.subscriber.registration",
)
"""The sections keyed by number or IMSI, which chunks hand out in no order."""


def subscriber_msisdn(subscriber: Numbers) -> Numbers:
    """The number of each subscriber: a bijection below SUBSCRIBERS, scattered over all prefixes."""
    prefix, line = _line(subscriber)
    numbers: Numbers = (np.uint64(98_000) + _PREFIXES[prefix]) * np.uint64(_PER_PREFIX) + line
    return numbers


def subscriber_imsi(subscriber: Numbers) -> Numbers:
    """The IMSI code of each subscriber, in the network its number belongs to."""
    plmn = np.uint64(MCC * 100) + _PREFIX_MNC[_line(subscriber)[0]]
    batch, sim = np.divmod(subscriber % np.uint64(SUBSCRIBERS), np.uint64(_SIM_BATCH))
    batch = batch * np.uint64(_STRIDE) % np.uint64(MSINS // _SIM_BATCH)
    sim = sim * np.uint64(_STRIDE) % np.uint64(_SIM_BATCH)
    msin = batch * np.uint64(_SIM_BATCH) + sim
    codes: Numbers = (plmn * np.uint64(10**10) + msin) << np.uint64(4) | np.uint64(15)
    return codes


def _line(subscriber: Numbers) -> tuple[Numbers, Numbers]:
    """The place of each subscriber's prefix in the table, and its line within the prefix."""
    all_of_them = np.uint64(SUBSCRIBERS)
    place = subscriber % all_of_them * np.uint64(_NUMBER_STRIDE) % all_of_them
    return place // np.uint64(_PER_PREFIX), place % np.uint64(_PER_PREFIX)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The devices of one chunk, a row each; then its IMEIs, ``device`` being the row of each.

    ``used`` are the user's subscribers in three slots, ``known`` says how many of them count;
    ``own`` is the first subscriber that nobody shares. ``luck`` in [0, 1) picks the rare cases.
    """

    seeds: tuple[int, int]
    now: int
    story: NDArray[np.uint8]
    used: Numbers
    own: Numbers
    known: NDArray[np.int64]
    luck: NDArray[np.float64]
    keys: Numbers
    device: NDArray[np.int64]

    def flag(self, wanted: Callable[[Story], bool]) -> NDArray[np.bool_]:
        """Which devices have a story of that kind."""
        return np.array([wanted(story) for story in STORIES.values()])[self.story]

    def lucky(self, low: float, share: float) -> NDArray[np.bool_]:
        """Which devices drew from ``low`` to ``low + share``."""
        return (self.luck >= low) & (self.luck < low + share)


def _draw_tacs(rng: np.random.Generator, wanted: int) -> Numbers:
    tacs = []
    for body, share in BODIES.items():
        models = RESERVED_TAC % 1_000_000 if body == RESERVED_TAC // 1_000_000 else 1_000_000
        count = max(1, int(share * wanted))
        tacs.append(body * 1_000_000 + rng.choice(models, count, replace=False))
    return np.sort(np.concatenate(tacs)).astype(np.uint64)


def _draw_chunk(population: Population, index: int) -> _Chunk:
    first, last = int(population.borders[index]), int(population.borders[index + 1])
    counts = population.counts[first:last]
    size, before = int(counts.sum()), int(population.counts[:first].sum())
    rng = np.random.default_rng([population.seed, 1 + index])
    dual = rng.random(size) < DUAL_SIM_SHARE
    serial = _draw_serials(rng, counts, dual, uniform=population.uniform).astype(np.uint64)
    of_tac = population.tacs[first:last] * np.uint64(limits.SERIAL_SPAN_KEYS)
    device = np.repeat(np.arange(size), 1 + dual)
    keys = (np.repeat(of_tac, counts) + serial)[device]
    keys[1:] += (device[1:] == device[:-1]).astype(np.uint64)

    reached = np.cumsum([story.share for story in STORIES.values()])
    story = np.searchsorted(reached[:-1], rng.random(size), side="right").astype(np.uint8)
    own = np.arange(before, before + size, dtype=np.uint64) * np.uint64(_SLOTS)
    shared = (rng.random(size) < _OLD_NUMBER_SHARE) & (own > 0)
    used = np.add(own[:, None], np.arange(_SLOTS, dtype=np.uint64), dtype=np.uint64)
    used[:, 0] -= np.uint64(_SLOTS) * shared.astype(np.uint64)
    known, luck = _draw_known(rng, dual), rng.random(size)
    seeds = (population.seed, 1 + index)
    return _Chunk(seeds, population.now, story, used, own, known, luck, keys, device)


def _draw_serials(
    rng: np.random.Generator, counts: NDArray[np.int64], dual: NDArray[np.bool_], *, uniform: bool
) -> NDArray[np.int64]:
    """Ascending serials within each TAC: consignments of a few hundred, with small holes, apart."""
    size = len(dual)
    starts = np.cumsum(counts) - counts
    step = 1 + dual + rng.integers(1, 3, size) * (rng.random(size) < _HOLE_SHARE)
    used = np.add.reduceat(step, starts)
    free = limits.SERIAL_SPAN_KEYS - used
    if (free < 0).any():
        raise ValueError("a TAC has more devices than serials: MAX_TAC_WEIGHT is too high")
    apart = np.ones(size, np.bool_) if uniform else rng.random(size) < 1 / CONSIGNMENT_DEVICES
    apart[starts] = True
    spread = free if uniform else np.minimum(free, used * rng.uniform(3, 9, len(used)))
    weight = rng.exponential(size=size) * apart
    jump = weight * np.repeat(spread / np.add.reduceat(weight, starts), counts)
    moved = np.cumsum(step + np.floor(jump).astype(np.int64)) - step
    base = moved[starts] - np.floor(jump[starts]).astype(np.int64)
    shift = np.floor(rng.random(len(used)) * (free - spread)).astype(np.int64)
    serials: NDArray[np.int64] = moved + np.repeat(shift - base, counts)
    return serials


def _draw_known(rng: np.random.Generator, dual: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many numbers the user of each device has: 1 to 3, more where two SIMs fit."""
    luck = rng.random(len(dual))
    one, two = np.where(dual, 0.15, 0.55), np.where(dual, 0.70, 0.85)
    return 1 + (luck >= one).astype(np.int64) + (luck >= two).astype(np.int64)


def _list(name: str, chunk: _Chunk) -> Columns:
    return (chunk.keys[chunk.flag(lambda story: name in story.lists)[chunk.device]],)


def _bound_by_imsi(chunk: _Chunk) -> NDArray[np.bool_]:
    """A few devices (modules, trackers) are bound by IMSI alone."""
    return chunk.flag(lambda story: story.bound) & chunk.lucky(0.9, _IMSI_ONLY_SHARE)


def _bindings(chunk: _Chunk) -> Columns:
    """Each IMEI × each number of its user."""
    bound = chunk.flag(lambda story: story.bound) & ~_bound_by_imsi(chunk)
    strangers = chunk.flag(lambda story: story.grey == "stranger")
    count = np.where(bound, np.where(strangers, 2, chunk.known), 0)
    unused = np.arange(_SLOTS) >= count[:, None]
    none = np.iinfo(np.uint64).max
    numbers = np.where(unused, none, subscriber_msisdn(chunk.used))
    numbers.sort(axis=1)
    of_imei = numbers[chunk.device]
    return np.repeat(chunk.keys, count[chunk.device]), of_imei[of_imei < none]


def _imsi_bindings(chunk: _Chunk) -> Columns:
    imeis = _bound_by_imsi(chunk)[chunk.device]
    return chunk.keys[imeis], subscriber_imsi(chunk.own[chunk.device[imeis]])


def _grey(chunk: _Chunk) -> Columns:
    """Deadlines: two in five past, one near (a fortnight), two far (up to two years)."""
    rng = np.random.default_rng([*chunk.seeds, 1])
    size = len(chunk.story)
    past = -rng.integers(DAY_S, 180 * DAY_S, size)
    near = rng.integers(3_600, 14 * DAY_S, size)
    far = rng.integers(30 * DAY_S, 720 * DAY_S, size)
    luck = rng.random(size)
    deadline = chunk.now + np.where(luck < 0.4, past, np.where(luck < 0.6, near, far))

    imeis = chunk.flag(lambda story: bool(story.grey))[chunk.device]
    device = chunk.device[imeis]
    slot = np.where(chunk.flag(lambda story: story.grey == "stranger"), 2, 0)[device]
    numbers = subscriber_msisdn(chunk.used[device, slot])
    numbers[chunk.flag(lambda story: story.grey == "any")[device]] = 0
    return chunk.keys[imeis], numbers, deadline[device]


def _sims(chunk: _Chunk) -> Columns:
    """The operator's own table: IMSI code and number, a row for each SIM in use."""
    strangers = chunk.flag(lambda story: story.grey == "stranger")
    slots = np.arange(_SLOTS, dtype=np.uint64)
    in_use = slots < np.where(strangers, _SLOTS, chunk.known)[:, None].astype(np.uint64)
    sims = (chunk.own[:, None] + slots)[in_use]
    sims = sims[sims < np.uint64(SUBSCRIBERS)]
    return subscriber_imsi(sims), subscriber_msisdn(sims)


def _numbers(low: float, share: float, chunk: _Chunk) -> Columns:
    picked = chunk.own[chunk.lucky(low, share)]
    return (subscriber_msisdn(picked[picked < np.uint64(SUBSCRIBERS)]),)


def _overrides(chunk: _Chunk) -> Columns:
    """Key or 0, number or 0, allow (else deny), until (0: for ever), forced."""
    rng = np.random.default_rng([*chunk.seeds, 2])
    picked = chunk.lucky(0.5, _OVERRIDE_SHARE) & (chunk.own < np.uint64(SUBSCRIBERS))
    device = np.flatnonzero(picked)
    size = len(device)
    kind = rng.integers(0, 3, size)
    until = chunk.now + rng.integers(-30 * DAY_S, 365 * DAY_S, size)
    allow = rng.random(size) < 0.7
    return (
        np.where(kind == 2, np.uint64(0), chunk.keys[np.searchsorted(chunk.device, device)]),
        np.where(kind == 1, np.uint64(0), subscriber_msisdn(chunk.own[device])),
        allow,
        np.where(rng.random(size) < 0.5, 0, until),
        allow & (rng.random(size) < 0.1),
    )


SECTIONS: Final[Mapping[str, Callable[[_Chunk], Columns]]] = {
    **{name: partial(_list, name) for name in LISTS},
    "bindings": _bindings,
    "bindings.imsi": _imsi_bindings,
    "grey": _grey,
    "imsi-msisdn": _sims,
    "released": partial(_numbers, 0.0, 0.0005),
    "exempt.subscriber.all": partial(_numbers, 0.1, 0.0002),
    "exempt.subscriber.registration": partial(_numbers, 0.2, 0.001),
    "overrides": _overrides,
}
"""Section name -> what makes its rows of a chunk."""
