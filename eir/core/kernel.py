"""Probes of mapped data, compiled: a batch of queries in, facts, then verdicts out.

Stage one (``facts_of``) collects what the data say, stage two (``policy.decide``) is the table.
Everything that serves is reached through one int64 array of addresses, ``desc``, laid out by
``tables.Tables``, which also keeps alive what it points to. No bounds are checked here: what is
mapped was verified before.

A section of a generation may be overlaid by newer deltas: a set of touched keys with the complete
new rows of each, and all the ranges of a list. A key that is not touched is the base's alone.

Most sections do not hold the key, most overlays did not touch it. A query's ``hints`` say which
may (``sieve`` tells how): a bit for each section's base, 32 above it one for its overlay.
``found``: the bits of bases that are known to hold it. Where both lack a bit, nobody looks.
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import compiled, either, inlined, load32, load64
from eir.core.layout import (
    ALL_HINTS,
    ALWAYS,
    ALWAYS_ASKED,
    ASKED,
    ASKED_ANYWAY,
    AT_BINDINGS,
    AT_BINDINGS_IMSI,
    AT_BLACK,
    AT_BLACK_TIMES,
    AT_BOUND_ELSEWHERE,
    AT_EXEMPT_ALL,
    AT_EXEMPT_EQUIPMENT,
    AT_EXEMPT_REGISTRATION,
    AT_GREY,
    AT_HOLDS,
    AT_IMSI_MSISDN,
    AT_LEGACY,
    AT_OPERATOR_BLACK,
    AT_OVERRIDES,
    AT_PLMNS,
    AT_REGISTRY_BLACK,
    AT_RELEASED,
    AT_WHITE,
    BASE,
    BASE_VIEW,
    BLACK_BIT,
    BLACK_COUNT,
    BLACK_WORDS,
    BY_NUMBER,
    DEADLINES,
    FEED_HINTS,
    HOLD_COUNT,
    HOLD_WORDS,
    IN_RANGES,
    KEYS,
    NOWHERE,
    NUMBERS,
    OPERATOR_HINTS,
    OPERATOR_OVERLAY_SIEVE,
    OPERATOR_SIEVE,
    OPERATOR_UNION,
    OVERLAID,
    OVERLAY_HINTS,
    OVERRIDDEN,
    OVERRIDE_COUNT,
    OVERRIDE_MARKS,
    PLMN_COUNT,
    RANGE_BLOCK_BITS,
    RANGE_MARKS,
    REGISTRY_BLACK_COUNT,
    REGISTRY_OVERLAY_SIEVE,
    REGISTRY_SIEVE,
    REGISTRY_UNION,
    ROWS,
    STANDING,
    STARTS,
    TOUCHED,
    VALUES,
    WORDS,
    YIELDING_BLACK,
)
from eir.core.marks import is_marked
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
    OVERRIDE_DENY,
    RELEASED,
    ROAMER,
    WHITE,
)
from eir.core.probes import in_keys, in_ranges, rank_of
from eir.core.sieve import sift, spread

NONE = np.uint64(0)
MAX_KEY = np.uint64(99_999_999_999_999)
TENS = 10 ** np.arange(16, dtype=np.uint64)
UNRANKED = (np.int64(-1), np.int64(-1), np.int64(-1))
LONG_RUN = 16
"""So many of a device's numbers are read one by one, before the others are searched."""
ENTRIES_AHEAD = 1_024
"""Among so many entries the end of a long run is looked for."""


@inlined
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
    hints = desc[ASKED_ANYWAY] | registry | operator << OPERATOR_HINTS
    if are_marked(desc, OVERRIDE_MARKS, imei, msisdn):
        hints |= OVERRIDDEN
    block = np.uint64(RANGE_BLOCK_BITS)
    if are_marked(desc, RANGE_MARKS, spread(key >> block), spread(number >> block)):
        hints |= IN_RANGES
    return hints


@inlined
def are_marked(desc, marks, imei, msisdn):
    """Whether one of two spread blocks of keys is marked."""
    address, shift = desc[marks], desc[marks + 1]
    return is_marked(address, shift, imei) or is_marked(address, shift, msisdn)


@inlined
def sifted(desc, sieve, word):
    """The columns that may hold a spread key."""
    lines = desc[sieve + 1]
    return sift(desc[sieve], lines, word) & FEED_HINTS if lines > 0 else np.int64(0)


@inlined
def rows_view(desc, section, key, hints):
    """The view with the key's rows: the overlay's if a delta touched the key, else the base's.

    Where no hint leads to the base, a view with nothing in it.
    """
    if hints & desc[section + OVERLAID] != 0 and in_keys(desc, section + TOUCHED, key):
        return section + ROWS
    return section + BASE_VIEW if hints & desc[section + STANDING] != 0 else NOWHERE


@inlined
def in_list(desc, section, key, hints, found):
    """Membership of a list: among its single keys, or in one of its ranges."""
    if (hints | found) & desc[section + ASKED] == 0:
        return False
    known = found & desc[section + STANDING] != 0 and hints & desc[section + OVERLAID] == 0
    return known or stands_in(desc, section, key, hints, found)


@compiled
def stands_in(desc, section, key, hints, found):
    """As ``in_list``, which spares most queries this call."""
    ranges = section + ROWS if desc[section + OVERLAID] != 0 else section + BASE_VIEW
    view = rows_view(desc, section, key, hints | found)
    there = view == section + BASE_VIEW and found & desc[section + STANDING] != 0
    return there or in_keys(desc, view, key) or in_ranges(desc, ranges, key)


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
    patience = LONG_RUN
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
        patience -= 1
        if patience == 0:
            at = skip_in_run(desc, view, rank, at, value)


@compiled
def skip_in_run(desc, view, rank, at, value):
    """Where to read on in a long run for a value, from ``at`` on, where a number begins.

    A run ends where the next begins, which stands in one of the entries after its own. Where all
    the rest of it is single words, that is searched by halves; else nothing is skipped.
    """
    base, end = np.uint64(desc[view + BASE]), np.int64(0)
    for after in range(rank + 1, min(rank + ENTRIES_AHEAD, desc[view + KEYS])):
        entry = load32(desc[view + VALUES] + 4 * after)
        if entry >= RUN:
            end = desc[view + WORDS] + 4 * (entry - RUN)
            break
    if end == 0 or value < base or load32(at) & ESCAPE == ESCAPE or load32(end - 4) & LAST == 0:
        return at
    sought, count = min(value - base, np.uint64(ESCAPE)), (end - at) >> 2
    while count > 1:
        half = count >> 1
        middle = at + 4 * half
        at = either(np.uint64(load32(middle) & ESCAPE) <= sought, middle, at)
        count -= half
    return at


@compiled
def deadline_of(desc, key, number, hints, rank):
    """The deadline of (key, number), else of (key, any), else -1: Unix seconds.

    ``rank``: as for ``pairs_of``.
    """
    view = rows_view(desc, AT_GREY, key, hints)
    if rank < 0 or view != AT_GREY + BASE_VIEW:
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
def find_override(desc, key, number, late, grace_time):
    """(facts, until) of exactly (key, number), sorted rows (key, number, until, facts).

    An allowing one ends by grace time, a denying one by the later of both.
    """
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
    until, facts = np.int64(load64(row + 16)), np.int64(load64(row + 24))
    if until != 0 and until <= (late if facts & OVERRIDE_DENY else grace_time):
        return np.int64(0), np.int64(0)
    return facts, until


@compiled
def override_of(desc, key, number, late, grace_time):
    """(facts, until) of the pair's override, else the IMEI's, else the number's."""
    facts, until = np.int64(0), np.int64(0)
    if key != NONE and number != NONE:
        facts, until = find_override(desc, key, number, late, grace_time)
    if facts == 0 and key != NONE:
        facts, until = find_override(desc, key, NONE, late, grace_time)
    if facts == 0 and number != NONE:
        facts, until = find_override(desc, NONE, number, late, grace_time)
    return facts, until


@compiled
def roams(desc, imsi):
    """An IMSI outside every home and enforced PLMN; nobody roams where no PLMN is set."""
    digits, length = imsi >> np.uint64(4), np.int64(imsi & np.uint64(15))
    six = digits // TENS[max(length - 6, 0)]
    five = six // np.uint64(10) if length > 5 else six
    for i in range(desc[PLMN_COUNT]):
        row = desc[AT_PLMNS] + 16 * i
        prefix = load64(row)
        if prefix == (five if load64(row + 8) == np.uint64(5) else six) and (
            load64(row + 8) == np.uint64(5) or length > 5
        ):
            return False
    return desc[PLMN_COUNT] > 0


@inlined
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
def active_black(desc, late, grace_time):
    """Bit n for each black list n that counts now; times stand as (from, until), 0 = no bound.

    One begins by grace time, and ends by the later of both.
    """
    active = NONE
    for n in range(64):
        begin = np.int64(load64(desc[AT_BLACK_TIMES] + 16 * n))
        end = np.int64(load64(desc[AT_BLACK_TIMES] + 16 * n + 8))
        if begin <= grace_time and (end == 0 or late < end):
            active |= np.uint64(1) << np.uint64(n)
    return active


@compiled
def later(now, grace_time):
    """The time by which ends what refuses: of the clock and grace time the later."""
    return max(now, grace_time)


@inlined
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
    if imsi != NONE and desc[PLMN_COUNT] > 0 and roams(desc, imsi):
        facts |= ROAMER
    return facts


@inlined
def device_facts(desc, key, number, imsi, released, black, every, hints, found, ranks):
    """Stage one, what the lists and bindings say of a device and its subscriber: facts, deadline.

    Without ``every``, the lists that no row can ask any more are left out: most devices are bound,
    and then only what stands above row 9 counts. The verdict is the same.
    """
    facts, asked = np.int64(0), hints | found
    rank, imsi_rank, grey = ranks
    if in_list(desc, AT_EXEMPT_EQUIPMENT, key, hints, found):
        facts |= EXEMPT_EQUIPMENT
    has = bound = False
    if asked & desc[AT_BINDINGS + ASKED] != 0:
        has, bound, _ = pairs_of(desc, AT_BINDINGS, key, number, asked, rank)
    bound = bound and number != NONE and not released
    if not bound and asked & desc[AT_BINDINGS_IMSI + ASKED] != 0:
        has_imsi, bound_imsi, _ = pairs_of(desc, AT_BINDINGS_IMSI, key, imsi, asked, imsi_rank)
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
        deadline = deadline_of(desc, key, number, asked, grey)
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
def number_at(desc, imsi, rank):
    """The number in the operator's table, or 0, of an IMSI of that rank in its base, or of none."""
    hints = np.int64(ALWAYS if rank >= 0 else ALWAYS & ~ALWAYS_ASKED)
    _, _, number = pairs_of(desc, AT_IMSI_MSISDN, imsi, NONE, hints, rank)
    return number


@inlined
def facts_of(desc, key, number, imsi, late, grace_time, active, every, hints, found, ranks):
    """Stage one: (facts, black, deadline, override's until).

    ``late``: as ``later``. ``every``: as for ``device_facts``. ``ranks``: each as for ``pairs_of``,
    of the bindings, of those to an IMSI, of the grey entries.
    """
    facts, until = subscriber_facts(desc, number, imsi, hints, found), np.int64(0)
    decodable = key != NONE and key <= MAX_KEY
    if hints & OVERRIDDEN != 0:
        asked = key if decodable else NONE
        override, until = override_of(desc, asked, number, late, grace_time)
        facts |= override
    if not decodable:
        return facts | MALFORMED, NONE, np.int64(0), until
    black = black_of(desc, key, active, hints, found)
    highest = black & (~black + np.uint64(1))
    if highest & ~np.uint64(desc[YIELDING_BLACK]) != NONE and not every:
        return facts, black, np.int64(-1), until
    released = facts & RELEASED != 0
    more, deadline = device_facts(
        desc, key, number, imsi, released, black, every, hints, found, ranks
    )
    return facts | more, black, deadline, until


@compiled
def held(desc, key, number, code, grace_time):
    """Whether a hold covers this refusal: rows (until, code, prefix, its limit, TACs, count)."""
    tac = key // np.uint64(1_000_000)
    for i in range(desc[HOLD_COUNT]):
        row = desc[AT_HOLDS] + 8 * HOLD_WORDS * i
        reason = np.int64(load64(row + 8))
        if grace_time >= np.int64(load64(row)) or (reason != 0 and reason != code):
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
def collect(desc, imei, msisdn, imsi, now, grace_time):
    """Stage one alone, of one query, for ``explain``: what ``facts_of`` says, and the number."""
    number = number_of(desc, msisdn, imsi)
    late = later(now, grace_time)
    hints, found, active = np.int64(ALL_HINTS), np.int64(0), active_black(desc, late, grace_time)
    facts, black, deadline, until = facts_of(
        desc, imei, number, imsi, late, grace_time, active, True, hints, found, UNRANKED
    )
    return facts, black, number, deadline, until
