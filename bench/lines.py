"""What a run says: one JSON line for each thing measured, and what went wrong.

A line: ``measure``, ``subject``, what it was asked (``ask``), sizes, and ``values``, each a median
with its range over the rounds; then machine, versions, date. Wrong and missing answers are in it,
and make the whole run a failed one.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Sample = Mapping[str, float]
_FAULTS: Final = ("wrong", "missing")
_FOLDERS: Final = re.compile(r"(?<!\w)/(?:[^\s/'\"]+/)+")


@dataclass(slots=True)
class Lines:
    """The lines so far: appended to ``path`` as they come, and printed without ``about``."""

    path: Path
    about: Mapping[str, object]
    faults: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def add(self, measure: str, subject: str, samples: Sequence[Sample], **facts: object) -> None:
        """One line, of the same measurement made so many times."""
        line: dict[str, object] = {"measure": measure, "subject": subject, **facts}
        line["rounds"] = len(samples)
        line["values"] = {name: spread([s[name] for s in samples]) for name in samples[0]}
        for name in _FAULTS:
            total = sum(sample.get(name, 0) for sample in samples)
            if total:
                self.faults.append(f"{measure}, {subject}: {total:.0f} answers {name}")
        self._write(line)

    def miss(self, what: str, why: object) -> None:
        """Something that could not be measured here, told loudly; kept without paths."""
        print(f"NOT MEASURED: {what}: {why}", file=sys.stderr, flush=True)
        last = (str(why).splitlines() or [""])[-1]
        told = _FOLDERS.sub("…/", last)
        self.absent.append(f"{what}: {told}")
        self._write({"measure": "absent", "subject": what, "why": told})

    def _write(self, line: dict[str, object]) -> None:
        text = json.dumps({**line, **self.about}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(json.dumps(line, ensure_ascii=False), flush=True)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest, to four digits."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def interleaved(rounds: int, runs: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """A B C A B C …: what the machine does meanwhile falls on all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            samples[name].append(run())
    return samples


def read(path: Path) -> list[dict[str, object]]:
    """The lines of a run."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
