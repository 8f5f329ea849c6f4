"""What the step of somebody else's list changes in a content: their rows in, our delta out.

Strict, as all deltas are: what a step takes away must stand there, what it brings must not, and it
says one thing of each identity. Anything else means that it was made for another content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eir.core.delta import Change, Delta, Items, apart
from eir.core.gather import rows_of
from eir.core.generation import BLACK, Generation, Section, empty_content, reason_ids, spec_of
from eir.errors import Conflict

U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Step:
    """What one file says of the lists in ``group``.

    ``gone``: uint64[n, k], identities (the first k words of a row) that leave every list of the
    group, and stand in one at least; ``come``: rows that a list gets; ``kept``: identities that
    must stand, and stay. ``first``: it is the whole list, which begins here.
    """

    group: tuple[str, ...]
    gone: U64 | None = None
    come: Mapping[str, U64] = field(default_factory=dict)
    kept: U64 | None = None
    first: bool = False


def stepped(
    content: Generation, steps: Sequence[Step], ids: Mapping[str, int] | None = None
) -> Delta:
    """The delta that all steps together are to ``content``; ``ids``: of reasons new to it.

    Raises Conflict where a step does not fit, naming the list and how many items do not.
    """
    gone: dict[str, list[U64]] = {}
    come: dict[str, list[U64]] = {}
    for step in steps:
        for name, rows in _leaving(content, step).items():
            gone.setdefault(name, []).append(rows)
        for name, rows in step.come.items():
            come.setdefault(name, []).append(rows)
    changes = {}
    for name in sorted({*gone, *come}):
        went, came = apart(_sorted(name, gone), _sorted(name, come))
        if len(went) + len(came):
            changes[name] = Change(Items(went), Items(came))
    return Delta(changes, _ids(content, changes, ids or {}))


def _leaving(content: Generation, step: Step) -> dict[str, U64]:
    sections = {name: _section(content, name) for name in step.group}
    if step.first and any(section.items for section in sections.values()):
        raise Conflict(f"{' or '.join(sections)}: a whole list, where one stands already")
    if step.kept is not None and len(step.kept):
        _standing(sections, step.kept)
    if step.gone is None or not len(step.gone):
        return {}
    return _standing(sections, step.gone)


def _standing(sections: Mapping[str, Section], identities: U64) -> dict[str, U64]:
    """The rows of these identities, by list. Raises Conflict where one has none."""
    wanted = _words(identities)
    found = np.zeros(len(wanted), np.bool_)
    rows = {}
    for name, section in sections.items():
        current = rows_of(section, np.unique(identities[:, 0]))
        named = _words(current[:, : identities.shape[1]])
        rows[name] = current[np.isin(named, wanted)]
        found |= np.isin(wanted, named)
    if not found.all():
        lists = " or ".join(sections)
        count = np.count_nonzero(~found)
        raise Conflict(f"{lists}: {count:,} items that are to go or to change are not there")
    return rows


def _words(rows: U64) -> NDArray[np.void]:
    """Each row as one value, to be compared whole."""
    return np.ascontiguousarray(rows).view([("", np.uint64)] * rows.shape[1]).reshape(-1)


def _section(content: Generation, name: str) -> Section:
    return content.sections.get(name) or Section(name, empty_content(name))


def _sorted(name: str, pieces: Mapping[str, list[U64]]) -> U64:
    """All rows of a list, ascending. Raises Conflict where two steps say the same."""
    rows = np.concatenate([np.empty((0, spec_of(name).words), np.uint64), *pieces.get(name, [])])
    once = np.unique(rows, axis=0)
    if len(once) != len(rows):
        raise Conflict(f"{name}: {len(rows) - len(once):,} items change twice")
    return once


def _ids(
    content: Generation, changes: Mapping[str, Change], given: Mapping[str, int]
) -> dict[str, int]:
    """The id of each black list that changes: its own, else the given, else the next free one."""
    own = {reason: section.reason_id for reason, section in content.black().items()}
    taken = set(own.values())
    known = {**{reason: n for reason, n in given.items() if n not in taken}, **own}
    reasons = [name.removeprefix(BLACK) for name in changes if name.startswith(BLACK)]
    found = reason_ids(content.feed, reasons, known)
    return {BLACK + reason: known.get(reason, found[reason]) for reason in reasons}
