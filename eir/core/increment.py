"""What the step of somebody else's list changes in a content: their rows in, our delta out.

Strict, as all deltas are: what a step takes away must stand there, what it brings must not, and it
says one thing of each identity. Anything else means that it was made for another content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir.core.delta import Change, Delta, Items, apart
from eir.core.gather import rows_of
from eir.core.generation import BLACK, Generation, Section, empty_content, reason_ids, spec_of
from eir.errors import Conflict, Refused

U64 = NDArray[np.uint64]
_IDENTITY_WORDS: Final = 2
"""Of an item that is no key alone: IMEI and number. A deadline is what is said of them."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one file says of the lists in ``group``.

    ``gone``: uint64[n, k], identities (the first k words of a row) that leave every list of the
    group, and stand in one at least; ``come``: rows that a list gets; ``kept``: identities that
    must stand, and stay. ``first``: it is the whole list, which begins here. ``where`` names file
    and line of an item, for what is refused.
    """

    group: tuple[str, ...]
    gone: U64 | None = None
    come: Mapping[str, U64] = field(default_factory=dict)
    kept: U64 | None = None
    first: bool = False
    where: Callable[[U64], str] = lambda _: ""


def stepped(
    content: Generation, steps: Sequence[Step], ids: Mapping[str, int] | None = None
) -> Delta:
    """The delta that all steps together are to ``content``; ``ids``: of reasons new to it.

    Raises Refused ``delta-base`` where a step does not fit, naming the first item's file and line,
    the list, and how many do not; Conflict where two files say the same.
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
        _check_new(content, name, went, came, steps)
        if len(went) + len(came):
            changes[name] = Change(Items(went), Items(came))
    return Delta(changes, _ids(content, changes, ids or {}))


def _leaving(content: Generation, step: Step) -> dict[str, U64]:
    sections = {name: _section(content, name) for name in step.group}
    if step.first and any(section.items for section in sections.values()):
        lists = " or ".join(sections)
        detail = f"{lists}: a whole list, and one is published already"
        raise Refused("delta-base", detail, where=step.where(np.empty(0, np.uint64)))
    if step.kept is not None and len(step.kept):
        _standing(sections, step.kept, step)
    if step.gone is None or not len(step.gone):
        return {}
    return _standing(sections, step.gone, step)


def _standing(sections: Mapping[str, Section], identities: U64, step: Step) -> dict[str, U64]:
    """The rows of these identities, by list. Raises Refused where one has none."""
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
        detail = f"not in {lists}, so it can't go or change{_more(~found)}"
        raise Refused("delta-base", detail, where=step.where(identities[~found][0]))
    return rows


def _check_new(content: Generation, name: str, went: U64, came: U64, steps: Sequence[Step]) -> None:
    """Raise Refused where something comes that stands there, and does not go."""
    if not len(came):
        return
    _, stays = apart(went, rows_of(_section(content, name), np.unique(came[:, 0])))
    words = min(came.shape[1], _IDENTITY_WORDS)
    there = np.isin(_words(came[:, :words]), _words(stays[:, :words]))
    if there.any():
        item = came[there][0]
        step = next(s for s in steps if (s.come.get(name, came[:0]) == item).all(axis=1).any())
        detail = f"in {name} already, so it can't come{_more(there)}"
        raise Refused("delta-base", detail, where=step.where(item[:words]))


def _more(which: NDArray[np.bool_]) -> str:
    others = int(np.count_nonzero(which)) - 1
    return f"; {others:,} more like it" if others else ""


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
