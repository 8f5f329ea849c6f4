"""Probes of mapped data, compiled: a batch of queries in, facts, then verdicts out.

Stage one (``facts_of``) collects what the data say, stage two (``policy.decide``) is the table.
Everything that serves is reached through one int64 array of addresses, ``desc``, laid out by
``tables.Tables``, which also keeps alive what it points to. No bounds are checked here: what is
mapped was verified before.

A section of a generation may be overlaid by newer deltas: a set of touched keys with the complete
new rows of each, and all the ranges of a list. A key that is not touched is the base's alone.

Most sections do not hold the key, most overlays did not touch it. A query's ``hints`` say which may
(``sieve`` tells how): a bit for each section's base, 32 above it one for its overlay. ``found``: the
bits of bases that are known to hold it. Where both lack a bit, nobody looks.
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import compiled, load8, load16, load32, load64, popcount
from eir.core.pairtable import ESCAPE, LAST, RUN
from eir.core.policy import (
    BOUND,
    BOUND_ELSEWHERE,
    EXEMPT_ALL,
    EXEMPT_EQUIPMENT,
    EXEMPT_REGISTRATION,
    GREY,
    HAS_BINDINGS,
    LEGACY,
    MALFORMED,
    NUMBER_KNOWN,
    RELEASED,
    ROAMER,
    WHITE,
)
from eir.core.rankindex import LINE_BITS, LINE_BYTES
from eir.core.sieve import IMEI_COLUMNS, sift, spread

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
VACANT = np.uint64(0xFFFFFFFFFFFFFFFF)
NONE = np.uint64(0)
MAX_KEY = np.uint64(99_999_999_999_999)

# A directory: a hash table over key >> 16. A view: a directory and what its slots point into.
DIRECTORY, SHIFT, MASK, DATA = 0, 1, 2, 3
RANGES, RANGE_COUNT = 4, 5
VALUES, WORDS, BASE = 4, 5, 6
STARTS, NUMBERS, DEADLINES = 4, 5, 6
VIEW_WORDS = 8
# A section: its base's view and its overlay's two; the hints that lead to the overlay (0: there is
# none), to the base, and to any of both.
BASE_VIEW, OVERLAID, TOUCHED, STANDING, ROWS, ASKED = 0, 7, 8, 15, 16, 23
SECTION_WORDS = 24
# Hints: the registry's columns, the operator's from bit 16 on; those of overlays from bit 32 on.
# Bits 31 and 63 are in every query's.
OPERATOR_HINTS, OVERLAY_HINTS, FEED_HINTS = 16, 32, 0x7FFF
BY_NUMBER = FEED_HINTS & -(1 << IMEI_COLUMNS)
ALWAYS_ASKED = 1 << 31
ALWAYS = ALWAYS_ASKED | -(1 << 63)
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
) = range(SECTION_WORDS * 13, SECTION_WORDS * 13 + 24)
NOWHERE = SECTION_WORDS * 13 + 24
AT_BLACK = SECTION_WORDS * 13 + 32
BLACK_WORDS = SECTION_WORDS + 8
BLACK_BIT = SECTION_WORDS
OVERRIDE_WORDS, HOLD_WORDS, PLMN_WORDS = 4, 6, 2


@compiled
def hash_directory(rows, table, shift, mask):
    """Put rows uint64[n, w] (first word: key >> 16) into the vacant table uint64[2^k, w]."""
    for i in range(rows.shape[0]):
        at = (rows[i, 0] * GOLDEN) >> shift
        while table[at, 0] != VACANT:
            at = (at + np.uint64(1)) & mask
        for w in range(rows.shape[1]):
            table[at, w] = rows[i, w]


@compiled
def find_slot(desc, view, key, slot_bytes):
    """Address of the directory slot of key's container, or 0."""
    if desc[view + DIRECTORY] == 0:
        return np.int64(0)
    container = key >> np.uint64(16)
    mask = np.uint64(desc[view + MASK])
    at = (container * GOLDEN) >> np.uint64(desc[view + SHIFT])
    while True:
        slot = desc[view + DIRECTORY] + np.int64(at) * slot_bytes
        found = load64(slot)
        if found == container:
            return slot
        if found == VACANT:
            return np.int64(0)
        at = (at + np.uint64(1)) & mask


@compiled
def in_keys(desc, view, key):
    """Whether the portable Roaring bytes of a list hold the key."""
    slot = find_slot(desc, view, key, LIST_SLOT_BYTES)
    if slot == 0:
        return False
    meta = load64(slot + 8)
    body = desc[view + DATA] + np.int64(meta & np.uint64((1 << 44) - 1))
    kind = np.int64((meta >> np.uint64(44)) & np.uint64(3))
    low = np.int64(key & np.uint64(0xFFFF))
    if kind == 1:
        return (load8(body + (low >> 3)) >> (low & 7)) & 1 == 1
    stride = 2 if kind == 0 else 4
    body += stride * last_at_most(body, stride, np.int64(meta >> np.uint64(46)), low)
    start = load16(body)
    reach = start + load16(body + 2) if kind == 2 else start
    return start <= low <= reach


@compiled
def last_at_most(body, stride, count, low):
    """The place of the last of ``count`` > 0 ascending uint16 that is not above ``low``; 0 if none.

    Each step is an addition, not a branch: half of those would be mispredicted.
    """
    at = np.int64(0)
    while count > 1:
        half = count >> 1
        at += half * np.int64(load16(body + stride * (at + half)) <= low)
        count -= half
    return at


@compiled
def in_ranges(desc, view, key):
    """Whether one of the disjoint ascending ranges (lo, hi) of a list holds the key."""
    begin, end = np.int64(0), desc[view + RANGE_COUNT]
    if end == 0:
        return False
    ranges = desc[view + RANGES]
    while begin < end:
        middle = (begin + end) >> 1
        if load64(ranges + 16 * middle) <= key:
            begin = middle + 1
        else:
            end = middle
    return begin > 0 and key <= load64(ranges + 16 * (begin - 1) + 8)


@compiled
def hints_of(desc, key, number):
    """What the sieves say of a key and a number."""
    imei, msisdn = spread(key), spread(number)
    registry = sifted(desc, REGISTRY_SIEVE, imei)
    registry |= sifted(desc, REGISTRY_OVERLAY_SIEVE, imei) << OVERLAY_HINTS
    operator = sifted(desc, OPERATOR_SIEVE, imei) & ~BY_NUMBER
    operator |= (sifted(desc, OPERATOR_OVERLAY_SIEVE, imei) & ~BY_NUMBER) << OVERLAY_HINTS
    if number != NONE:
        operator |= sifted(desc, OPERATOR_SIEVE, msisdn) & BY_NUMBER
        operator |= (sifted(desc, OPERATOR_OVERLAY_SIEVE, msisdn) & BY_NUMBER) << OVERLAY_HINTS
    return desc[ASKED_ANYWAY] | registry | operator << OPERATOR_HINTS


@compiled
def sifted(desc, sieve, word):
    """The columns that may hold a spread key."""
    lines = desc[sieve + 1]
    return sift(desc[sieve], lines, word) & FEED_HINTS if lines > 0 else np.int64(0)


@compiled
def rows_view(desc, section, key, hints):
    """The view with the key's rows: the overlay's if a delta touched the key, else the base's.

    Where no hint leads to the base, a view with nothing in it.
    """
    if hints & desc[section + OVERLAID] != 0 and in_keys(desc, section + TOUCHED, key):
        return section + ROWS
    return section + BASE_VIEW if hints & desc[section + STANDING] != 0 else NOWHERE


@compiled
def in_list(desc, section, key, hints, found):
    """Membership of a list: among its single keys, or in one of its ranges."""
    asked = (hints | found) & desc[section + ASKED] != 0
    return asked and stands_in(desc, section, key, hints, found)


@compiled
def stands_in(desc, section, key, hints, found):
    """As ``in_list``, which spares most queries this call."""
    ranges = section + ROWS if desc[section + OVERLAID] != 0 else section + BASE_VIEW
    view = rows_view(desc, section, key, hints | found)
    there = view == section + BASE_VIEW and found & desc[section + STANDING] != 0
    return there or in_keys(desc, view, key) or in_ranges(desc, ranges, key)


@compiled
def rank_of(desc, view, key):
    """The place of a key in a ranked index, or -1."""
    slot = find_slot(desc, view, key, INDEX_SLOT_BYTES)
    return rank_in_slot(desc, view, slot, key) if slot != 0 else np.int64(-1)


@compiled
def rank_in_slot(desc, view, slot, key):
    """The place of a key whose container's slot this is, or -1."""
    meta = load64(slot + 16)
    low = np.int64(key & np.uint64(0xFFFF))
    lowest = np.int64((meta >> np.uint64(20)) & np.uint64(0xFFFF))
    if low < lowest or low > np.int64((meta >> np.uint64(44)) & np.uint64(0xFFFF)):
        return np.int64(-1)
    first = np.int64(load64(slot + 8))
    body = desc[view + DATA] + np.int64(load64(slot + 24))
    if (meta >> np.uint64(40)) & np.uint64(1) == np.uint64(1):
        return rank_in_lines(body, low - lowest, first)
    at = last_at_most(body, 2, np.int64(meta & np.uint64(0xFFFFF)), low)
    return first + at if load16(body + 2 * at) == low else np.int64(-1)


@compiled
def rank_in_lines(body, place, first):
    """One cache line: is the bit there, and how many stand before it."""
    line = body + place // LINE_BITS * LINE_BYTES
    bit = place % LINE_BITS + 16
    word = load64(line + 8 * (bit >> 6))
    here = np.uint64(1) << np.uint64(bit & 63)
    if word & here == NONE:
        return np.int64(-1)
    before = popcount(word & (here - np.uint64(1)))
    for w in range(bit >> 6):
        before += popcount(load64(line + 8 * w))
    rank = load16(line)
    return first + rank + before - popcount(np.uint64(rank))


@compiled
def pairs_of(desc, section, key, value, hints, rank):
    """(the key has pairs, the pair (key, value) is among them, the key's lowest value or 0).

    ``rank``: the key's in the base, or -1 where nobody has looked.
    """
    view = rows_view(desc, section, key, hints)
    if rank < 0 or view != section + BASE_VIEW:
        rank = rank_of(desc, view, key)
    if rank < 0:
        return False, False, NONE
    base = np.uint64(desc[view + BASE])
    entry = load32(desc[view + VALUES] + 4 * rank)
    if entry < RUN:
        only = base + np.uint64(entry)
        return True, only == value, only
    at = desc[view + WORDS] + 4 * (entry - RUN)
    lowest = NONE
    while True:
        head = load32(at)
        found = base + np.uint64(head & ESCAPE)
        at += 4
        if head & ESCAPE == ESCAPE:
            found = np.uint64(load32(at)) | (np.uint64(load32(at + 4)) << np.uint64(32))
            at += 8
        if lowest == NONE:
            lowest = found
        if found >= value or head & LAST:
            return True, found == value, lowest


@compiled
def deadline_of(desc, key, number, hints):
    """The deadline of (key, number), else of (key, any), else -1: Unix seconds."""
    view = rows_view(desc, AT_GREY, key, hints)
    rank = rank_of(desc, view, key)
    if rank < 0:
        return np.int64(-1)
    first = load32(desc[view + STARTS] + 4 * rank)
    begin, end = first, load32(desc[view + STARTS] + 4 * rank + 4)
    last = end
    numbers, deadlines = desc[view + NUMBERS], desc[view + DEADLINES]
    while begin < end:
        middle = (begin + end) >> 1
        if load64(numbers + 8 * middle) < number:
            begin = middle + 1
        else:
            end = middle
    if begin < last and load64(numbers + 8 * begin) == number:
        return load32(deadlines + 4 * begin)
    if load64(numbers + 8 * first) == NONE:
        return load32(deadlines + 4 * first)
    return np.int64(-1)


@compiled
def find_override(desc, key, number, now):
    """(facts, until) of exactly (key, number), sorted rows (key, number, until, facts)."""
    begin, end = np.int64(0), desc[OVERRIDE_COUNT]
    rows = desc[AT_OVERRIDES]
    last = end
    while begin < end:
        middle = (begin + end) >> 1
        row = rows + 32 * middle
        imei = load64(row)
        if imei < key or (imei == key and load64(row + 8) < number):
            begin = middle + 1
        else:
            end = middle
    row = rows + 32 * begin
    if begin == last or load64(row) != key or load64(row + 8) != number:
        return np.int64(0), np.int64(0)
    until = np.int64(load64(row + 16))
    if until != 0 and until <= now:
        return np.int64(0), np.int64(0)
    return np.int64(load64(row + 24)), until


@compiled
def override_of(desc, key, number, now):
    """(facts, until) of the pair's override, else the IMEI's, else the number's."""
    facts, until = np.int64(0), np.int64(0)
    if key != NONE and number != NONE:
        facts, until = find_override(desc, key, number, now)
    if facts == 0 and key != NONE:
        facts, until = find_override(desc, key, NONE, now)
    if facts == 0 and number != NONE:
        facts, until = find_override(desc, NONE, number, now)
    return facts, until


@compiled
def roams(desc, imsi):
    """An IMSI outside every home and enforced PLMN; nobody roams where no PLMN is set."""
    digits, length = imsi >> np.uint64(4), np.int64(imsi & np.uint64(15))
    six = digits
    for _ in range(6, length):
        six //= np.uint64(10)
    five = six // np.uint64(10) if length > 5 else six
    for i in range(desc[PLMN_COUNT]):
        row = desc[AT_PLMNS] + 16 * i
        prefix = load64(row)
        if prefix == (five if load64(row + 8) == np.uint64(5) else six) and (
            load64(row + 8) == np.uint64(5) or length > 5
        ):
            return False
    return desc[PLMN_COUNT] > 0


@compiled
def black_of(desc, key, active, hints, found):
    """Bit n for each active black list n with the key.

    Of a clean device nothing is read where the lists have hints, else a union a feed.
    """
    black = NONE
    first, last = np.int64(0), desc[REGISTRY_BLACK_COUNT]
    for union, gated in ((AT_REGISTRY_BLACK, REGISTRY_UNION), (AT_OPERATOR_BLACK, OPERATOR_UNION)):
        perhaps = (hints | found) & desc[union + ASKED] != 0
        if perhaps and (desc[gated] == 0 or stands_in(desc, union, key, hints, found)):
            for i in range(first, last):
                at = AT_BLACK + BLACK_WORDS * i
                bit = np.uint64(1) << np.uint64(desc[at + BLACK_BIT])
                if active & bit != NONE and in_list(desc, at, key, hints, found):
                    black |= bit
        first, last = last, desc[BLACK_COUNT]
    return black


@compiled
def active_black(desc, now):
    """Bit n for each black list n that counts now; times stand as (from, until), 0 = no bound."""
    active = NONE
    for n in range(64):
        begin = np.int64(load64(desc[AT_BLACK_TIMES] + 16 * n))
        end = np.int64(load64(desc[AT_BLACK_TIMES] + 16 * n + 8))
        if begin <= now and (end == 0 or now < end):
            active |= np.uint64(1) << np.uint64(n)
    return active


@compiled
def subscriber_facts(desc, number, imsi, hints, found):
    """Stage one, the half that needs no device."""
    facts = np.int64(0)
    if number != NONE:
        facts |= NUMBER_KNOWN
        if in_list(desc, AT_EXEMPT_ALL, number, hints, found):
            facts |= EXEMPT_ALL
        if in_list(desc, AT_EXEMPT_REGISTRATION, number, hints, found):
            facts |= EXEMPT_REGISTRATION
        if in_list(desc, AT_RELEASED, number, hints, found):
            facts |= RELEASED
    if imsi != NONE and roams(desc, imsi):
        facts |= ROAMER
    return facts


@compiled
def device_facts(desc, key, number, imsi, released, black, every, hints, found, rank):
    """Stage one, what the lists and bindings say of a device and its subscriber: facts, deadline.

    Without ``every``, the lists that no row can ask any more are left out: most devices are bound,
    and then only what stands above row 9 counts. The verdict is the same.
    """
    facts, asked = np.int64(0), hints | found
    if in_list(desc, AT_EXEMPT_EQUIPMENT, key, hints, found):
        facts |= EXEMPT_EQUIPMENT
    has = bound = False
    if asked & desc[AT_BINDINGS + ASKED] != 0:
        has, bound, _ = pairs_of(desc, AT_BINDINGS, key, number, asked, rank)
    bound = bound and number != NONE and not released
    if not bound and asked & desc[AT_BINDINGS_IMSI + ASKED] != 0:
        has_imsi, bound_imsi, _ = pairs_of(desc, AT_BINDINGS_IMSI, key, imsi, asked, -1)
        has, bound = has or has_imsi, bound_imsi and imsi != NONE
    if has:
        facts |= HAS_BINDINGS
    if bound:
        facts |= BOUND
    if (every or not bound or black != NONE) and in_list(desc, AT_LEGACY, key, hints, found):
        facts |= LEGACY
    if facts & (BOUND | LEGACY) and not every:
        return facts, np.int64(-1)
    if in_list(desc, AT_BOUND_ELSEWHERE, key, hints, found):
        facts |= BOUND_ELSEWHERE
    deadline = np.int64(-1)
    if asked & desc[AT_GREY + ASKED] != 0:
        deadline = deadline_of(desc, key, number, asked)
    if deadline >= 0:
        facts |= GREY
    if (every or not facts & (HAS_BINDINGS | BOUND_ELSEWHERE | GREY)) and in_list(
        desc, AT_WHITE, key, hints, found
    ):
        facts |= WHITE
    return facts, deadline


@compiled
def number_of(desc, msisdn, imsi):
    """The number as it was asked for, else that of the operator's table, else 0."""
    if msisdn != NONE or imsi == NONE:
        return msisdn
    _, _, number = pairs_of(desc, AT_IMSI_MSISDN, imsi, NONE, np.int64(ALWAYS), -1)
    return number


@compiled
def facts_of(desc, key, number, imsi, now, active, every, hints, found, rank):
    """Stage one: (facts, black, deadline, override's until).

    ``every``: as for ``device_facts``. ``rank``: as for ``pairs_of``, of the bindings.
    """
    facts = subscriber_facts(desc, number, imsi, hints, found)
    decodable = key != NONE and key <= MAX_KEY
    until = np.int64(0)
    if desc[OVERRIDE_COUNT] > 0:
        override, until = override_of(desc, key if decodable else NONE, number, now)
        facts |= override
    if not decodable:
        return facts | MALFORMED, NONE, np.int64(0), until
    black = black_of(desc, key, active, hints, found)
    highest = black & (~black + np.uint64(1))
    if highest & ~np.uint64(desc[YIELDING_BLACK]) != NONE and not every:
        return facts, black, np.int64(-1), until
    released = facts & RELEASED != 0
    more, deadline = device_facts(
        desc, key, number, imsi, released, black, every, hints, found, rank
    )
    return facts | more, black, deadline, until


@compiled
def held(desc, key, number, code, now):
    """Whether a hold covers this refusal: rows (until, code, prefix, its limit, TACs, count)."""
    tac = key // np.uint64(1_000_000)
    for i in range(desc[HOLD_COUNT]):
        row = desc[AT_HOLDS] + 8 * HOLD_WORDS * i
        reason = np.int64(load64(row + 8))
        if now >= np.int64(load64(row)) or (reason != 0 and reason != code):
            continue
        limit = load64(row + 24)
        leading = number
        while leading >= limit and limit > NONE:
            leading //= np.uint64(10)
        if limit > NONE and leading != load64(row + 16):
            continue
        begin, end = np.int64(0), np.int64(load64(row + 40))
        tacs, count = np.int64(load64(row + 32)), end
        while begin < end:
            middle = (begin + end) >> 1
            if load64(tacs + 8 * middle) < tac:
                begin = middle + 1
            else:
                end = middle
        if count == 0 or (begin < count and load64(tacs + 8 * begin) == tac):
            return True
    return False


@compiled
def collect(desc, imei, msisdn, imsi, now):
    """Stage one alone, of one query, for ``explain``: what ``facts_of`` says, and the number."""
    number = number_of(desc, msisdn, imsi)
    hints, active = np.int64(ALL_HINTS), active_black(desc, now)
    facts, black, deadline, until = facts_of(
        desc, imei, number, imsi, now, active, True, hints, np.int64(0), np.int64(-1)
    )
    return facts, black, number, deadline, until
