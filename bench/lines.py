"""What a run says: one JSON line for each thing measured, and what went wrong.

A line: ``part`` of the run, ``measure``, ``subject``, what it was asked (``ask``), sizes, and
``values``, each a median with its range over the rounds; then machine, versions, date. Wrong and
missing answers are in it, and make the whole run a failed one; so does a line of measure ``fault``.
Lines are kept as they come: what was measured before a failure stands.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

Sample = Mapping[str, float]
_FAULTS: Final = ("wrong", "refused", "missing")
_FOLDERS: Final = re.compile(r"(?<!\w)/(?:[^\s/'\"]+/)+")


@dataclass(slots=True)
class Lines:
    """The lines so far: appended to ``path`` as they come, and printed without ``about``."""

    path: Path
    about: Mapping[str, object]
    part: str = ""
    faults: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def add(self, measure: str, subject: str, samples: Sequence[Sample], **facts: object) -> None:
        """One line, of the same measurement made so many times."""
        line: dict[str, object] = {"measure": measure, "subject": subject, **facts}
        line["rounds"] = len(samples)
        line["values"] = {name: spread([s[name] for s in samples]) for name in samples[0]}
        counted = {name: sum(sample.get(name, 0) for sample in samples) for name in _FAULTS}
        for name, total in counted.items():
            if total:
                line.setdefault("faults", []).append(f"{total:.0f} answers {name}")  # type: ignore[attr-defined]
        self.faults += faults_of([line])
        self._write(line)

    def miss(self, what: str, why: object) -> None:
        """Something that could not be measured here, told loudly; kept without paths."""
        print(f"NOT MEASURED: {what}: {why}", file=sys.stderr, flush=True)
        told = _last_line(why)
        self.absent.append(f"{what}: {told}")
        self._write({"measure": "absent", "subject": what, "why": told})

    def fail(self, what: str, why: object) -> None:
        """Something that went wrong: it fails the run at its end."""
        print(f"FAILED: {what}: {why}", file=sys.stderr, flush=True)
        line = {"measure": "fault", "subject": what, "why": _last_line(why)}
        self.faults += faults_of([line])
        self._write(line)

    def _write(self, line: dict[str, object]) -> None:
        if self.part:
            line = {"part": self.part, **line}
        text = json.dumps({**line, **self.about}, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(time.strftime("%H:%M:%S ") + json.dumps(line, ensure_ascii=False), flush=True)


def _last_line(why: object) -> str:
    return _FOLDERS.sub("…/", (str(why).strip().splitlines() or [""])[-1])


def faults_of(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """What in these lines makes a run a failed one."""
    found = []
    for line in lines:
        if line["measure"] == "fault":
            found.append(f"{line['subject']}: {line['why']}")
        found += [
            f"{line['measure']}, {line['subject']}: {each}" for each in line.get("faults", [])
        ]
    return found


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


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a run."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def without(path: Path, parts: Iterable[str]) -> None:
    """Take the lines of these parts out of a file, where there is one: they are measured anew."""
    if not path.exists():
        return
    gone = set(parts)
    kept = [line for line in read(path) if line.get("part") not in gone]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    path.write_text(text, encoding="utf-8")
