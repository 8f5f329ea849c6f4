"""A batch decided: what its probes read is sent for in groups, then query by query.

Of 10^8 devices nearly every probe misses the caches, one miss after the other. So before a group is
decided, its probes of large sections are made together, in steps: the sieves' lines, the slots of
directories, the containers, the halvings of searches. Each step asks for the memory of the next, so
the misses of a group overlap. What is found is left as ``found``, what nobody has asked yet as
``hints``; the verdicts are those of ``kernel.facts_of`` and ``policy.decide``, with or without.
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import (
    compiled,
    load8,
    load16,
    load32,
    load64,
    prefetch,
    trailing_zeros,
)
from eir.core.kernel import NONE, active_black, facts_of, held, hints_of, later, number_of
from eir.core.layout import (
    AT_BINDINGS,
    AT_GREY,
    AT_STATUSES,
    DATA,
    DEADLINES,
    DIRECTORY,
    HOLD_COUNT,
    INDEX_SLOT_BYTES,
    LIST_SLOT_BYTES,
    NUMBERS,
    OPERATOR_OVERLAY_SIEVE,
    OPERATOR_SIEVE,
    REGISTRY_OVERLAY_SIEVE,
    REGISTRY_SIEVE,
    SHADOW,
    SHIFT,
    VALUES,
    WORDS,
)
from eir.core.pairtable import RUN
from eir.core.policy import decide, leaves_as
from eir.core.probes import GOLDEN, find_slot, rank_in_lines
from eir.core.rankindex import LINE_BITS, LINE_BYTES
from eir.core.sieve import LINE_BYTES as SIEVE_LINE
from eir.core.sieve import line_of, spread

GROUP = 128
LEAST_WARMED = 4
LOW = np.uint64(0xFFFF)

# A row of a plan stands at the place of its hint's bit: a section, what it is, which column of a
# query is its key. Behind these rows one more: the hints probed at once, those probed later, and
# those of which one found spares the later ones.
SECTION, IS_INDEX, IS_BY_NUMBER = range(3)
PLAN_WORDS = 3
PLANNED = 32
AT_ONCE, LATER, SPARING = range(3)

# Rows of scratch int64[SCRATCH_ROWS, ASKS]: of a group's queries, then of its probes in flight, and
# which of these still search.
NUMBER, HINTS, FOUND, RANK, WHO, WHAT, KEY, SLOT, AT, LEFT, STRIDE, ORDER = range(12)
SCRATCH_ROWS = 12
ASKS = 512


@compiled
def check(
    desc, plan, scratch, masks, imei, msisdn, imsi, now, grace_time, verdicts, valid_until, counts
):
    """Decide a batch of uint64 queries.

    ``plan`` int64[PLANNED + 1, PLAN_WORDS]: the sections to probe for a group at once; with none,
    of length 0, ``scratch`` is not touched.
    ``verdicts`` uint8[n, 4]: (status, decided status, code, row). ``valid_until`` int64[n].
    ``counts`` uint64[CODES, 5]: one is added at (code, status) for each.
    """
    late = later(now, grace_time)
    active = active_black(desc, late, grace_time)
    for begin in range(0, len(imei), GROUP):
        end = min(begin + GROUP, len(imei))
        together = len(plan) > 0 and end - begin >= LEAST_WARMED
        if together:
            probe(desc, plan, imei[begin:end], msisdn[begin:end], imsi[begin:end], scratch)
        for i in range(begin, end):
            if together:
                number = np.uint64(scratch[NUMBER, i - begin])
                hints, found = scratch[HINTS, i - begin], scratch[FOUND, i - begin]
                rank = scratch[RANK, i - begin]
            else:
                number = number_of(desc, msisdn[i], imsi[i])
                hints = hints_of(desc, imei[i], number)
                found, rank = np.int64(0), np.int64(-1)
            facts, black, deadline, until = facts_of(
                desc, imei[i], number, imsi[i], late, grace_time, active, False, hints, found, rank
            )
            row, code = decide(facts, black, deadline, grace_time, masks)
            decided = load8(desc[AT_STATUSES] + code)
            spared = row >= 12 and desc[HOLD_COUNT] > 0
            spared = spared and held(desc, imei[i], number, code, grace_time)
            status = leaves_as(decided, row, spared, desc[SHADOW] != 0)
            verdicts[i, 0] = status
            verdicts[i, 1] = decided
            verdicts[i, 2] = code
            verdicts[i, 3] = row
            valid_until[i] = deadline if row == 12 else (until if row == 1 else 0)
            counts[code, status] += np.uint64(1)


@compiled
def probe(desc, plan, imei, msisdn, imsi, scratch):
    """Fill NUMBER, HINTS, FOUND and RANK (in the bindings' base, or -1) of a group's queries.

    A probe that was made has its bit taken from the hints, and put to what was found if it was.
    """
    hints, found = scratch[HINTS], scratch[FOUND]
    count = len(imei)
    for i in range(count):
        scratch[NUMBER, i] = np.int64(number_of(desc, msisdn[i], imsi[i]))
    send_for_sieves(desc, imei, scratch)
    for i in range(count):
        hints[i] = hints_of(desc, imei[i], np.uint64(scratch[NUMBER, i]))
        found[i], scratch[RANK, i] = 0, -1
    for wave in (AT_ONCE, LATER):
        planned, sparing = plan[PLANNED, wave], plan[PLANNED, SPARING] if wave == LATER else 0
        asks = 0
        for i in range(count):
            left = np.uint64(hints[i] & planned if found[i] & sparing == 0 else 0)
            while left != NONE:
                scratch[WHO, asks] = i
                scratch[WHAT, asks] = trailing_zeros(left)
                left &= left - np.uint64(1)
                asks += 1
            if asks >= ASKS - PLANNED:
                settle(desc, plan, imei, scratch, asks)
                asks = 0
        settle(desc, plan, imei, scratch, asks)


@compiled
def send_for_sieves(desc, imei, scratch):
    """The sieves' lines."""
    for sieve in (REGISTRY_SIEVE, OPERATOR_SIEVE, REGISTRY_OVERLAY_SIEVE, OPERATOR_OVERLAY_SIEVE):
        address, lines = desc[sieve], desc[sieve + 1]
        if lines > 0:
            for i in range(len(imei)):
                prefetch(address + SIEVE_LINE * line_of(spread(imei[i]), lines))
        if lines > 0 and sieve in (OPERATOR_SIEVE, OPERATOR_OVERLAY_SIEVE):
            for i in range(len(imei)):
                word = spread(np.uint64(scratch[NUMBER, i]))
                prefetch(address + SIEVE_LINE * line_of(word, lines))


@compiled
def settle(desc, plan, imei, scratch, asks):
    """Make the probes, WHO asks WHAT, in steps, each sending for the memory of the next."""
    send_for_slots(desc, plan, imei, scratch, asks)
    searches = begin(desc, plan, scratch, asks)
    halve(scratch, searches)
    conclude(desc, plan, scratch, asks)
    send_for_values(desc, plan, scratch, asks)


@compiled
def send_for_slots(desc, plan, imei, scratch, asks):
    """The slots where the directories' searches begin; leaves each probe's KEY."""
    for a in range(asks):
        who, what = scratch[WHO, a], scratch[WHAT, a]
        section = plan[what, SECTION]
        slot_bytes = INDEX_SLOT_BYTES if plan[what, IS_INDEX] else LIST_SLOT_BYTES
        key = np.uint64(scratch[NUMBER, who]) if plan[what, IS_BY_NUMBER] else imei[who]
        scratch[KEY, a] = np.int64(key)
        at = ((key >> np.uint64(16)) * GOLDEN) >> np.uint64(desc[section + SHIFT])
        prefetch(desc[section + DIRECTORY] + np.int64(at) * slot_bytes)


@compiled
def begin(desc, plan, scratch, asks):
    """Find the containers, and send for the one line to read, or for the first of a search.

    Leaves SLOT (0: there is no container), AT and STRIDE (0: nothing to search), of searches how
    many are LEFT, and in ORDER which probes these are: their number is given back.
    """
    searches = 0
    for a in range(asks):
        what = scratch[WHAT, a]
        section = plan[what, SECTION]
        key = np.uint64(scratch[KEY, a])
        low = np.int64(key & LOW)
        is_index = plan[what, IS_INDEX]
        slot = find_slot(desc, section, key, INDEX_SLOT_BYTES if is_index else LIST_SLOT_BYTES)
        scratch[SLOT, a] = slot
        if slot == 0:
            continue
        if is_index:
            meta = load64(slot + 16)
            at = desc[section + DATA] + np.int64(load64(slot + 24))
            left, stride = np.int64(meta & np.uint64(0xFFFFF)), 2
            if (meta >> np.uint64(40)) & np.uint64(1) == np.uint64(1):
                at += (low - np.int64((meta >> np.uint64(20)) & LOW)) // LINE_BITS * LINE_BYTES
                stride = 0
        else:
            meta = load64(slot + 8)
            at = desc[section + DATA] + np.int64(meta & np.uint64((1 << 44) - 1))
            left, kind = np.int64(meta >> np.uint64(46)), (meta >> np.uint64(44)) & np.uint64(3)
            stride = 2 * (kind == np.uint64(0)) + 4 * (kind == np.uint64(2))
            at += low >> 3 if stride == 0 else 0
        scratch[AT, a], scratch[LEFT, a], scratch[STRIDE, a] = at, left, stride
        prefetch(at + stride * (left >> 1))
        scratch[ORDER, searches] = a
        searches += np.int64(stride > 0)
    return searches


@compiled
def halve(scratch, searches):
    """Halve all searches in step; each step sends for what the next compares."""
    at, left, stride = scratch[AT], scratch[LEFT], scratch[STRIDE]
    key, order = scratch[KEY], scratch[ORDER]
    longest = 0
    for s in range(searches):
        longest = max(longest, left[order[s]])
    while longest > 1:
        for s in range(searches):
            a = order[s]
            half = left[a] >> 1
            middle = at[a] + stride[a] * half
            here = middle if load16(middle) <= key[a] & 0xFFFF else at[a]
            at[a] = here
            left[a] -= half
            prefetch(here + stride[a] * (left[a] >> 1))
        longest -= longest >> 1


@compiled
def conclude(desc, plan, scratch, asks):
    """Note what the probes came to; AT becomes the rank in an index, or -1."""
    for a in range(asks):
        who, what, slot, at = scratch[WHO, a], scratch[WHAT, a], scratch[SLOT, a], scratch[AT, a]
        section, is_index = plan[what, SECTION], plan[what, IS_INDEX]
        low, stride = scratch[KEY, a] & 0xFFFF, scratch[STRIDE, a]
        there, rank = False, np.int64(-1)
        if slot != 0 and is_index:
            body, first = desc[section + DATA] + np.int64(load64(slot + 24)), load64(slot + 8)
            meta = load64(slot + 16)
            lowest = np.int64((meta >> np.uint64(20)) & LOW)
            if stride == 0 and lowest <= low <= np.int64((meta >> np.uint64(44)) & LOW):
                rank = rank_in_lines(body, low - lowest, np.int64(first))
            elif stride > 0 and load16(at) == low:
                rank = np.int64(first) + ((at - body) >> 1)
            there = rank >= 0
            prefetch(desc[section + VALUES] + 4 * max(rank, 0))
        elif slot != 0 and stride == 0:
            there = (load8(at) >> (low & 7)) & 1 == 1
        elif slot != 0:
            start = load16(at)
            there = start <= low <= (start + load16(at + 2) if stride == 4 else start)
        scratch[AT, a] = rank
        scratch[HINTS, who] &= ~(1 << what)
        scratch[FOUND, who] |= np.int64(there) << what
        if section == AT_BINDINGS:
            scratch[RANK, who] = rank


@compiled
def send_for_values(desc, plan, scratch, asks):
    """Where a key has several values the words, of a grey entry the rows that they stand in."""
    for a in range(asks):
        if scratch[AT, a] < 0:
            continue
        section = plan[scratch[WHAT, a], SECTION]
        entry = load32(desc[section + VALUES] + 4 * scratch[AT, a])
        if section == AT_GREY:
            prefetch(desc[section + NUMBERS] + 8 * entry)
            prefetch(desc[section + DEADLINES] + 4 * entry)
        else:
            prefetch(desc[section + WORDS] + 4 * max(entry - RUN, 0))
