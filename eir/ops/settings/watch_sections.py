"""The settings of what a node sees and minds by itself: its breaker, and whom it has sighted."""

# ruff: noqa: RUF009 - the calls in these classes are field specifiers, and declare a field each

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eir import limits
from eir.ops.settings import setting
from eir.serve.control import MINUTES


@dataclass(frozen=True, slots=True)
class BreakerSection:
    """When a sudden wave of refusals is taken for a fault: then nobody is refused, until a person
    resets it."""

    factor: int = setting.whole(
        10,
        "It opens when more are refused in a minute than so many times the usual, which is the mean"
        " minute of the last 24 hours; 0: never.",
        low=0,
        high=1_000_000,
        unit="times",
    )
    least_refusals: int = setting.whole(
        100,
        "Fewer refusals in a minute than this never open it.",
        low=1,
        high=10**9,
        unit="refusals a minute",
    )
    learn_minutes: int = setting.whole(
        60,
        "It does not open before it has learned so long what is usual.",
        low=1,
        high=MINUTES,
        unit="minutes",
    )


@dataclass(frozen=True, slots=True)
class SightingsSection:
    """Telling the registry whom this node has seen ([sightings.md](sightings.md))."""

    outbox: str = setting.text(
        "",
        "Folder or bucket that signed files are put into; empty: nothing is noted.",
        form="path, `s3://…` or empty",
        check=str,
    )
    census: bool = setting.switch(
        False,
        "Note every pair of device and subscriber, whatever is decided: for the list of what was in"
        " use before the plan begins.",
    )
    every: int = setting.whole(
        300, "How long a sighting may wait for its file.", low=1, high=86_400, unit="seconds"
    )
    rows: int = setting.whole(
        50_000,
        "How many make a file full.",
        low=1,
        high=limits.MAX_SIGHTINGS_ROWS,
        unit="rows",
    )
    remember: int = setting.whole(
        1_000_000,
        "How many pairs at least are known again, and not noted twice; 32 bytes each, on disk and"
        " mapped.",
        low=1,
        high=limits.MAX_SIGHTINGS_REMEMBERED,
        unit="pairs",
    )
    endpoint: str = setting.text(
        "", "The bucket's server, where it is not AWS.", form="URL or empty", check=str
    )
    region: str = setting.text("us-east-1", "The bucket's region.", form="text", check=str)
    root_certificate: Path | None = setting.path_or_none(
        "PEM file with authorities that are trusted for the server, beside the system's."
    )
    plaintext: str = setting.choice(
        "refused",
        "Whether a bucket may be written over http on another machine.",
        words=("refused", "accepted"),
    )
