"""Where everything stands in ``desc``, the int64 array through which the kernel reaches all data.

``tables.Tables`` writes it, ``kernel`` and ``batch`` read it.
"""

from __future__ import annotations

from eir.core.sieve import IMEI_COLUMNS

# A directory: a hash table over key >> 16, of so many lines of slots. A view: a directory, what its
# slots point into, the fences of that, and what belongs to the keys.
DIRECTORY, LINES, DATA, FENCES = 0, 1, 2, 3
RANGES, RANGE_COUNT = 4, 5
VALUES, WORDS, BASE, KEYS = 4, 5, 6, 7
STARTS, NUMBERS, DEADLINES = 4, 5, 6
VIEW_WORDS = 8
# A section: its base's view and its overlay's two; the hints that lead to the overlay (0: there is
# none), to the base, and to any of both.
BASE_VIEW, TOUCHED, ROWS, OVERLAID, STANDING, ASKED = 0, 8, 16, 24, 25, 26
SECTION_WORDS = 27
# Hints: the registry's columns, the operator's from bit 16 on; those of overlays from bit 32 on.
# Bits 31 and 63 are in every query's. Of the two that are left one says that a range may hold the
# key or the number, one that an override may be theirs (``marks``).
OPERATOR_HINTS, OVERLAY_HINTS, FEED_HINTS = 16, 32, 0x7FFF
BY_NUMBER = FEED_HINTS & -(1 << IMEI_COLUMNS)
ALWAYS_ASKED = 1 << 31
ALWAYS = ALWAYS_ASKED | -(1 << 63)
IN_RANGES, OVERRIDDEN = 1 << 15, 1 << 47
RANGE_BLOCK_BITS = 20
"""Of a key within its block, which is about a TAC."""

ALL_HINTS = -1
LIST_SLOT_BYTES, INDEX_SLOT_BYTES = 16, 32

# Where each section's words begin in desc.
(
    AT_WHITE,
    AT_LEGACY,
    AT_BOUND_ELSEWHERE,
    AT_GREY,
    AT_BINDINGS,
    AT_BINDINGS_IMSI,
    AT_IMSI_MSISDN,
    AT_EXEMPT_ALL,
    AT_EXEMPT_REGISTRATION,
    AT_RELEASED,
    AT_EXEMPT_EQUIPMENT,
    AT_REGISTRY_BLACK,
    AT_OPERATOR_BLACK,
) = (SECTION_WORDS * i for i in range(13))
# Behind them: overrides, holds, PLMNs, policy, and where the black lists begin.
(
    AT_OVERRIDES,
    OVERRIDE_COUNT,
    AT_HOLDS,
    HOLD_COUNT,
    AT_PLMNS,
    PLMN_COUNT,
    AT_MASKS,
    AT_STATUSES,
    SHADOW,
    AT_BLACK_TIMES,
    BLACK_COUNT,
    REGISTRY_BLACK_COUNT,
    REGISTRY_UNION,
    OPERATOR_UNION,
    REGISTRY_SIEVE,
    _,
    OPERATOR_SIEVE,
    _,
    REGISTRY_OVERLAY_SIEVE,
    _,
    OPERATOR_OVERLAY_SIEVE,
    _,
    YIELDING_BLACK,
    ASKED_ANYWAY,
    RANGE_MARKS,
    _,
    OVERRIDE_MARKS,
    _,
) = range(SECTION_WORDS * 13, SECTION_WORDS * 13 + 28)
NOWHERE = SECTION_WORDS * 13 + 28
AT_BLACK = SECTION_WORDS * 13 + 36
BLACK_WORDS = SECTION_WORDS + 8
BLACK_BIT = SECTION_WORDS
OVERRIDE_WORDS, HOLD_WORDS, PLMN_WORDS = 4, 6, 2
