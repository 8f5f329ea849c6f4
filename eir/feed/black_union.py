"""The union of a feed's black lists: derived, in no digest, and never short of a device.

One probe of it clears a clean device of all of them. It may say too much, never too little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pyroaring

from eir.core import imeiset
from eir.core.generation import BLACK, BLACK_UNION, Generation, Section
from eir.core.imeiset import ImeiSet
from eir.errors import Corrupt


def of_sections(sections: Mapping[str, Section]) -> ImeiSet | None:
    """The union of the black lists among these, None where there are fewer than two."""
    blacks = [cast(ImeiSet, s.content) for name, s in sections.items() if name.startswith(BLACK)]
    return _union_of(blacks) if len(blacks) > 1 else None


def verify(generation: Generation) -> None:
    """Raises Corrupt unless a snapshot's union is exactly that of its black lists.

    A device in a black list that the union misses would be let through: never.
    """
    expected = of_sections(generation.sections)
    section = generation.sections.get(BLACK_UNION)
    if (section is None) != (expected is None):
        raise Corrupt(BLACK_UNION, "stands exactly where there are two black lists or more")
    if section is None or expected is None:
        return
    union = cast(ImeiSet, section.content)
    same = union.data.tobytes() == expected.data.tobytes()
    if not (same and np.array_equal(union.ranges, expected.ranges)):
        raise Corrupt(BLACK_UNION, "is not the union of the black lists")


def _union_of(lists: list[ImeiSet]) -> ImeiSet:
    union = pyroaring.BitMap64()
    for content in lists:
        for keys in content.chunks():
            union |= pyroaring.BitMap64(keys)
    ranges = np.concatenate([content.ranges for content in lists])
    keys = np.frombuffer(union.to_array(), np.uint64)
    return imeiset.build([keys] if len(keys) else [], ranges)
