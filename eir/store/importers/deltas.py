"""Deltas of others: which list a file changes, how, and between which runs of its maker.

DIRBS-Core writes a CSV for each reason, ``<date>_<list>[_<operator>]_delta_<base>_<run>_<reason>``,
with the columns of the full list; another CEIR one file with the column ``Operation``. Pure: names
and headers in, a `Part` and a layout out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from eir.errors import Refused
from eir.store.importers import catalogue
from eir.store.importers.catalogue import FileFormat
from eir.store.importers.layout import Check, Layout, layout_of
from eir.store.importers.manifest import ListFile, Manifest
from eir.store.importers.plain import Piece

Action = Literal["add", "remove", "change"]

ACTIONS: Final[Mapping[FileFormat, Mapping[str, Action]]] = {
    FileFormat.DIRBS_BLACKLIST: {"blocked": "add", "unblocked": "remove", "changed": "change"},
    FileFormat.DIRBS_NOTIFICATIONS: {
        "new": "add",
        "resolved": "remove",
        "blacklisted": "remove",
        "no_longer_seen": "remove",
        "changed": "change",
    },
    FileFormat.DIRBS_EXCEPTIONS: {"added": "add", "removed": "remove"},
}
CEIR_HEADER: Final = ("device id", "operation")
CEIR_BITS: Final = {"add": 1, "delete": 2, "update": 4}
_CHANGE_TYPE: Final = "change_type"
"""A column that some have beside those of the full list: it says what the name says."""
WHOLE: Final = -1
"""The base of a DIRBS delta that is the whole list."""

_NAME: Final = re.compile(
    r"(?:.*[/!\\])?[0-9_]*(?P<source>[A-Za-z0-9][A-Za-z0-9_.-]*?)"
    r"_delta_(?P<base>-1|[0-9]{1,18})_(?P<run>[0-9]{1,18})_(?P<why>[a-z_]+)\.csv(?:\.gz)?"
)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a DIRBS delta. ``source``: the list as its maker calls it, such as ``blacklist``
    or ``notifications_operator1``; ``base`` and ``run``: the maker's runs that it lies between.
    """

    source: str
    base: int
    run: int
    why: str


def is_delta(name: str) -> bool:
    """Whether a file of DIRBS-Core is a part of a delta, by its name."""
    return "_delta_" in name


def part_of(name: str, file_format: FileFormat) -> Part:
    """What a delta's name says. Raises Refused ``delta-name``."""
    found = _NAME.fullmatch(name)
    known = ACTIONS[file_format]
    if found is None or found["why"] not in known:
        detail = (
            "a delta is called <date>_<list>_delta_<base>_<run>_<reason>.csv,"
            f" with a reason of {', '.join(known)}"
        )
        raise Refused("delta-name", detail, where=name)
    base, run = int(found["base"]), int(found["run"])
    if base >= run:
        raise Refused("delta-name", f"from run {base} to run {run} is no way on", where=name)
    return Part(found["source"], base, run, found["why"])


def runs_beside(names: Iterable[str]) -> dict[str, int]:
    """The run of each source by the names of deltas: which run the full list beside them is of.

    A source whose deltas lead to several runs is left out.
    """
    runs: dict[str, set[int]] = {}
    for name in names:
        found = _NAME.fullmatch(name)
        if found is not None:
            runs.setdefault(found["source"], set()).add(int(found["run"]))
    return {source: max(known) for source, known in runs.items() if len(known) == 1}


def check_whole(parts: Iterable[tuple[Part, FileFormat]]) -> None:
    """Raises Refused ``delta-parts`` unless each source has one step, and every file of it: with
    only the half of a step a device could stand in two lists, or in none.
    """
    steps: dict[str, tuple[int, int]] = {}
    missing: dict[str, list[str]] = {}
    for part, file_format in parts:
        step = steps.setdefault(part.source, (part.base, part.run))
        if step != (part.base, part.run):
            detail = f"{step[0]} to {step[1]} and {part.base} to {part.run}: publish one by one"
            raise Refused("delta-parts", detail, where=part.source)
        left = missing.setdefault(part.source, list(ACTIONS[file_format]))
        if part.why not in left:
            raise Refused("delta-parts", f"{part.why!r} is there twice", where=part.source)
        left.remove(part.why)
    for source, left in missing.items():
        if left:
            detail = f"the step {steps[source][0]} to {steps[source][1]} lacks {', '.join(left)}"
            raise Refused("delta-parts", detail, where=source)


def layout_in(file: ListFile, manifest: Manifest, piece: Piece, action: str, *, now: int) -> Layout:
    """The layout of a part. Raises Refused ``file-header``.

    Of what is removed only the identity is looked at: why it was there is the past.
    """
    if file.format is FileFormat.CEIR:
        return _ceir(file, piece)
    bare = replace(piece, header=tuple(n for n in piece.header if n != _CHANGE_TYPE))
    layout = layout_of(file, manifest, bare, now=now)
    if action != "remove" or file.format is FileFormat.DIRBS_EXCEPTIONS:
        return replace(layout, kinds={n: layout.kinds.get(n, "any") for n in piece.header})
    known = {"imei": "imei"}
    if file.format is FileFormat.DIRBS_NOTIFICATIONS:
        known["msisdn"] = "msisdn"
    kinds = {name: known.get(name, "any") for name in piece.header}
    row = {place: f"{{{name}}}" for place, name in zip("ab", known, strict=False)}
    return Layout(kinds, row, dict.fromkeys(layout.lists, 1))


def _ceir(file: ListFile, piece: Piece) -> Layout:
    if sorted(piece.header) != sorted(CEIR_HEADER):
        detail = f"the header is {piece.first_line[:100]!r}, expected `{','.join(CEIR_HEADER)}`"
        raise Refused("file-header", detail, where=f"{piece.name}: line 1")
    kinds = {"device id": "imei", "operation": "operation"}
    return Layout(
        {name: kinds[name] for name in piece.header},
        {"a": "{device id}"},
        {file.list_name: 1},
        mask="{operation}",
        checks=(Check("{operation} <> 0", "action-unknown", "operation"),),
    )


def is_message(piece: Piece) -> bool:
    """Whether another CEIR says in a sentence that it has nothing to say."""
    return piece.header == (catalogue.CEIR_MESSAGE,)
