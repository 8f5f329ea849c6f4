"""A sample registry as list files: what `eir load` reads, with one question per row of the table.

Promises the same bytes for the same (devices, seed, now), written chunk by chunk, and that the two
manifests come last: where they are, the files are complete. Rows are shuffled, as real exports are.
Never overwrites a folder that is no sample: only the files named here are touched.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.ops.demo import cast
from eir.ops.demo.population import SECTIONS, Columns, plan_population

Progress = Callable[[int, int], None]
"""Called with the devices written and the devices wanted."""

_WIDTH: Final = {"imei": limits.IMEI_DIGITS, "msisdn": 12, "imsi": 15, "deadline": 10}
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "bindings": ("imei", "msisdn"),
    "bindings.imsi": ("imei", "imsi"),
    "grey": ("imei", "msisdn", "deadline"),
    "imsi-msisdn": ("imsi", "msisdn"),
    "released": ("msisdn",),
    "exempt.subscriber.all": ("msisdn",),
    "exempt.subscriber.registration": ("msisdn",),
    "overrides": ("imei", "msisdn", "action", "until", "forced"),
}
_OPERATOR_SECTIONS: Final = (
    "imsi-msisdn",
    "released",
    "exempt.subscriber.all",
    "exempt.subscriber.registration",
    "exempt.equipment",
    "black.unpaid",
    "overrides",
)
_QUADS: Final = np.array([f"{value:04d}" for value in range(10_000)], "S4").view("<u4")


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What was written: the two manifests, the questions, and rows by section (ranges included)."""

    registry_manifest: Path
    operator_manifest: Path
    queries: Path
    devices: int
    rows: Mapping[str, int]


def write_sample(
    folder: Path,
    devices: int = 1_000_000,
    *,
    seed: int = 1,
    now: int | None = None,
    progress: Progress | None = None,
) -> SampleFacts:
    """Write ``registry.toml``, ``operator.toml``, their list files and ``queries.csv``.

    ``now`` (Unix seconds; None: the clock) is what deadlines lie around. The policy that the
    questions expect is ``cast.HOME_PLMNS`` and ``cast.BINDING_OVERRIDES``. Raises ValueError when
    there are too few or too many devices, OSError when the folder cannot be written.
    """
    moment = int(time.time()) if now is None else now
    population = plan_population(devices, seed=seed, now=moment)
    folder.mkdir(parents=True, exist_ok=True)
    registry, operator = folder / "registry.toml", folder / "operator.toml"
    registry.unlink(missing_ok=True)
    operator.unlink(missing_ok=True)
    rng = np.random.default_rng([seed, 1 << 32])
    rows = dict.fromkeys(SECTIONS, 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context(_started(folder, name)) for name in SECTIONS}
        _append(files, cast.cast_rows(moment), rows, rng)
        done = 0
        for index in rng.permutation(population.chunks):
            _append(files, population.rows(int(index)), rows, rng)
            done += population.chunk_devices(int(index))
            if progress is not None:
                progress(done, devices)
    _write_blocks(folder)
    queries = _write_questions(folder)
    registry.write_text(_manifest("registry", rows), encoding="utf-8")
    operator.write_text(_manifest("operator", rows), encoding="utf-8")
    for name, blocks in (*cast.BLOCKED_TACS.items(), *cast.BLOCKS.items()):
        rows[name] += len(blocks)
    return SampleFacts(registry, operator, queries, devices, rows)


def _file_name(section: str, suffix: str = "") -> str:
    return f"{section.replace('.', '-')}{suffix}.csv"


def _started(folder: Path, section: str) -> BinaryIO:
    file = (folder / _file_name(section)).open("wb")
    file.write(f"{','.join(_HEADERS.get(section, ('imei',)))}\n".encode())
    return file


def _append(
    files: Mapping[str, BinaryIO],
    sections: Mapping[str, Columns],
    rows: dict[str, int],
    rng: np.random.Generator,
) -> None:
    for name, columns in sections.items():
        rows[name] += len(columns[0])
        if name == "overrides":
            files[name].write(_override_text(columns))
            continue
        lines = _lines(_HEADERS.get(name, ("imei",)), columns)
        octets = lines[rng.permutation(len(lines))].ravel()
        files[name].write((octets[octets != 0] if name == "grey" else octets).data)


def _lines(header: Sequence[str], columns: Columns) -> NDArray[np.uint8]:
    """The CSV lines as octets, one row each. A number of 0 becomes NULs, to be left out."""
    widths = [_WIDTH[name] for name in header]
    lines = np.empty((len(columns[0]), sum(widths) + len(widths)), np.uint8)
    start = 0
    for name, width, column in zip(header, widths, columns, strict=True):
        value = (column >> np.uint64(4) if name == "imsi" else column).astype(np.uint64)
        for place in (0, *range(width - 4, 0, -4)):
            quad = value // np.uint64(10 ** (width - place - 4)) % np.uint64(10_000)
            lines[:, start + place : start + place + 4].view("<u4")[:, 0] = _QUADS[quad]
        if name == "msisdn":
            lines[value == 0, start : start + width] = 0
        start += width + 1
        lines[:, start - 1] = ord(",")
    lines[:, -1] = ord("\n")
    return lines


def _override_text(columns: Columns) -> bytes:
    """Overrides are few, and their fields of every length."""
    return "".join(
        f"{f'{key:014d}' if key else ''},{number or ''},{'allow' if allow else 'deny'},"
        f"{until or ''},{'true' if forced else 'false'}\n"
        for key, number, allow, until, forced in zip(*(c.tolist() for c in columns), strict=True)
    ).encode()


def _write_blocks(folder: Path) -> None:
    """Whole TACs and ranges, each list's in a second file."""
    for name, tacs in cast.BLOCKED_TACS.items():
        text = "".join(f"{tac:08d}\n" for tac in tacs)
        (folder / _file_name(name, "-tacs")).write_text(f"tac\n{text}", encoding="ascii")
    for name, blocks in cast.BLOCKS.items():
        text = "".join(f"{low},{high}\n" for low, high in blocks)
        (folder / _file_name(name, "-blocks")).write_text(f"from,to\n{text}", encoding="ascii")


def _write_questions(folder: Path) -> Path:
    path = folder / "queries.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("row", "name", "reason", "imei", "msisdn", "imsi"))
        for q in cast.questions():
            out.writerow((q.row, q.name, q.reason, q.imei, q.msisdn, q.imsi))
    return path


def _manifest(feed: str, rows: Mapping[str, int]) -> str:
    """The manifest of one feed: every file, and which list it belongs to."""
    names = [name for name in SECTIONS if (name in _OPERATOR_SECTIONS) == (feed == "operator")]
    files = [(_file_name(name), name, rows[name] == 0) for name in names]
    files += [(_file_name(n, "-tacs"), n, False) for n in cast.BLOCKED_TACS if n in names]
    files += [(_file_name(n, "-blocks"), n, False) for n in cast.BLOCKS if n in names]
    head = (
        f'feed = "{feed}"\nregistry = "local"\ntimezone = "Asia/Tehran"\nmax_reject_share = 0.0\n'
    )
    return head + "".join(
        f'\n[[file]]\npath = "{path}"\nlist = "{name}"\nformat = "csv"\n'
        + ("allow_empty = true\n" if empty else "")
        for path, name, empty in files
    )
