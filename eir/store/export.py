"""A generation as list files and a manifest, which load back to the same digest."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eir import limits
from eir.core.deadlines import DeadlineTable
from eir.core.generation import BLACK_UNION, WELL_KNOWN_REASONS, Generation, Section, spec_of
from eir.core.imeiset import ImeiSet
from eir.core.jit import compiled
from eir.core.orders import Hold, Order, Override
from eir.core.pairtable import PairTable
from eir.errors import Refused

U64 = NDArray[np.uint64]

_IMEI, _NUMBER, _IMSI = 14, 0, 99
_FORMS = {"imei": _IMEI, "msisdn": _NUMBER, "imsi": _IMSI}
_VALUES = {"bindings": "msisdn", "bindings.imsi": "imsi", "imsi-msisdn": "msisdn"}
_MAX_FIELD_CHARS = 20

Progress = Callable[[int, int], None]
"""Told (items written, items in all)."""


def export(generation: Generation, folder: Path, progress: Progress = lambda *_: None) -> Path:
    """Write every section as CSV, and ``manifest.toml``, into a new folder; the manifest's path.

    Raises Refused ``export-folder`` where the folder is there and not empty, or can't be written.
    """
    sections = [s for name, s in generation.sections.items() if name != BLACK_UNION]
    total = sum(section.items for section in sections)
    done = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Refused("export-folder", "the folder is not empty", where=str(folder))
        listed: list[tuple[str, str]] = []
        for section in sections:
            for name, items in _write_section(section, folder):
                if (section.name, name) not in listed:
                    listed.append((section.name, name))
                done += items
                progress(done, total)
        manifest = folder / "manifest.toml"
        manifest.write_text(_manifest(generation, listed), encoding="utf-8")
    except OSError as error:
        raise Refused("export-folder", error.strerror or str(error), where=str(folder)) from error
    return manifest


def _manifest(generation: Generation, listed: list[tuple[str, str]]) -> str:
    own = {n: s for n, s in generation.black().items() if n not in WELL_KNOWN_REASONS}
    lines = [f"feed = {json.dumps(generation.feed)}"]
    lines += [f"registry = {json.dumps(generation.registry_id)}", "max_reject_share = 0.0"]
    if own:
        lines += ["", "[reason_ids]"]
        lines += [f"{json.dumps(name)} = {section.reason_id}" for name, section in own.items()]
    for section, file in listed:
        lines += ["", "[[file]]", f"path = {json.dumps(file)}", f"list = {json.dumps(section)}"]
        lines += ['format = "csv"', "allow_empty = true"]
    return "\n".join(lines) + "\n"


def _write_section(section: Section, folder: Path) -> Iterator[tuple[str, int]]:
    """(file name, items) for each piece that was written."""
    content, keys = section.content, spec_of(section.name).keys
    if isinstance(content, ImeiSet):
        yield from _write_rows(folder, f"{section.name}.csv", [keys], section.rows())
        if len(section.ranges):
            name, ends = f"{section.name}.ranges.csv", [section.ranges]
            yield from _write_rows(folder, name, ["from", "to"], ends, forms=[keys, keys])
    elif isinstance(content, PairTable):
        header = [keys, _VALUES[section.name]]
        yield from _write_rows(folder, f"{section.name}.csv", header, section.rows())
    elif isinstance(content, DeadlineTable):
        header = ["imei", "msisdn", "deadline"]
        forms = ["imei", "msisdn", "msisdn"]
        yield from _write_rows(folder, f"{section.name}.csv", header, section.rows(), forms=forms)
    else:
        yield _write_orders(folder, f"{section.name}.csv", content)


def _write_rows(
    folder: Path,
    name: str,
    header: list[str],
    chunks: Iterable[U64],
    *,
    forms: list[str] | None = None,
) -> Iterator[tuple[str, int]]:
    codes = np.array([_FORMS[form] for form in forms or header], np.int64)
    digits = np.empty(_MAX_FIELD_CHARS, np.uint8)
    with (folder / name).open("xb") as file:
        file.write((",".join(header) + "\n").encode())
        yield name, 0
        for rows in chunks:
            text = np.empty(rows.size * (_MAX_FIELD_CHARS + 1), np.uint8)
            file.write(text[: _format(rows, codes, text, digits)].data)
            yield name, len(rows)


_TOLD = ("who", "at", "why")
_ORDER_HEADERS = {
    "overrides": ("imei", "msisdn", "action", "until", "forced"),
    "holds": ("hold", "tac", "until", "reason", "msisdn_prefix"),
    "orders": ("what", "from", "to"),
}


def _write_orders(
    folder: Path, name: str, rows: Iterable[Override | Hold | Order]
) -> tuple[str, int]:
    """Who, when and why stand only where something is known of them: list files know nothing."""
    kept = list(rows)
    with (folder / name).open("x", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        told = any(row.who or row.at or row.why for row in kept)
        out.writerow([*_ORDER_HEADERS[name.removesuffix(".csv")], *(_TOLD if told else ())])
        for number, row in enumerate(kept, 1):
            said = [row.who, row.at or "", row.why] if told else []
            out.writerows([*fields, *said] for fields in _order_fields(row, number))
    return name, len(kept)


def _order_fields(row: Override | Hold | Order, number: int) -> Iterator[list[str | int]]:
    """A row; of a hold, one for each TAC, and the hold's number in all of them."""
    if isinstance(row, Order):
        yield [row.what, row.low or "", row.high or ""]
    elif isinstance(row, Hold):
        for tac in [f"{each:0{limits.TAC_DIGITS}d}" for each in row.tacs] or [""]:
            yield [number, tac, row.until, row.reason, row.msisdn_prefix]
    else:
        imei = f"{row.imei:0{limits.IMEI_DIGITS}d}" if row.imei else ""
        action = "allow" if row.allow else "deny"
        forced = "true" if row.forced else "false"
        yield [imei, row.msisdn or "", action, row.until or "", forced]


@compiled
def _format(rows, codes, text, digits):
    """Write uint64[n, k] as CSV lines; how many octets. A number of 0 is left out.

    ``digits``: room for one field, since compiled code allocates nothing.
    """
    at = 0
    for i in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            value, width = rows[i, k], codes[k]
            if width == _IMSI:
                width = np.int64(value & np.uint64(15))
                value >>= np.uint64(4)
            count = 0
            while value > np.uint64(0) or count < width:
                digits[count] = np.uint8(48 + value % np.uint64(10))
                value //= np.uint64(10)
                count += 1
            for d in range(count):
                text[at + d] = digits[count - 1 - d]
            text[at + count] = 44 if k < rows.shape[1] - 1 else 10
            at += count + 1
    return at
