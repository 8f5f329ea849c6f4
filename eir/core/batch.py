"""A batch decided: what its probes read is sent for in groups, then query by query.

Of 10^8 devices nearly every probe misses the caches, one miss after the other. So before a group is
decided, its probes of large sections are made together, in steps: the sieves' lines, the slots of
directories, the containers' fences, the blocks these name. Each step asks for the memory of the
next, so the misses of a group overlap. What is found is left as ``found``, what nobody has asked
yet as ``hints``; the verdicts are those of ``kernel.facts_of`` and ``policy.decide``, with or
without.
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import (
    compiled,
    either,
    inlined,
    load8,
    load32,
    load64,
    prefetch,
    trailing_zeros,
)
from eir.core.kernel import (
    NONE,
    UNRANKED,
    active_black,
    facts_of,
    held,
    hints_of,
    later,
    number_at,
    number_of,
)
from eir.core.layout import (
    AT_GREY,
    AT_IMSI_MSISDN,
    AT_STATUSES,
    DATA,
    DEADLINES,
    DIRECTORY,
    FENCES,
    HOLD_COUNT,
    INDEX_SLOT_BYTES,
    LINES,
    LIST_SLOT_BYTES,
    NUMBERS,
    OPERATOR_OVERLAY_SIEVE,
    OPERATOR_SIEVE,
    REGISTRY_OVERLAY_SIEVE,
    REGISTRY_SIEVE,
    SHADOW,
    VALUES,
    WORDS,
)
from eir.core.pairtable import RUN
from eir.core.policy import decide, leaves_as
from eir.core.probes import (
    BLOCK_BITS,
    BLOCK_BYTES,
    BLOCK_HALVINGS,
    block_of,
    body_of,
    covers,
    find_slot,
    first_line,
    last_at_most,
    rank_in_container,
)
from eir.core.rankindex import LINE_BITS, LINE_BYTES
from eir.core.sieve import LINE_BYTES as SIEVE_LINE
from eir.core.sieve import line_of, spread

SIEVES = (REGISTRY_SIEVE, OPERATOR_SIEVE, REGISTRY_OVERLAY_SIEVE, OPERATOR_OVERLAY_SIEVE)
BY_NUMBER_SIEVES = (OPERATOR_SIEVE, OPERATOR_OVERLAY_SIEVE)
GROUP = 128
LEAST_WARMED = 4
LOW = np.uint64(0xFFFF)

# A row of a plan stands at the place of its hint's bit: a section, what it is, which column of a
# query is its key, which row of scratch gets its ranks. Behind these rows one for each wave of
# probes: its hints, and those of which one found spares the query the wave. The IMSI table has no
# hint, and the row of a bit that no one has.
SECTION, IS_INDEX, IS_BY_NUMBER, RANKED = range(4)
WAVE, UNLESS = range(2)
PLAN_WORDS = 4
PLANNED = 32
IMSI_ROW = 15
SMALL, BOUND, SEEN = range(3)
WAVES = 3

# Rows of scratch int64[SCRATCH_ROWS, ASKS]: of a group's queries, then of its probes in flight, and
# which of these search.
NUMBER, HINTS, FOUND, RANK, IMSI_RANK, GREY_RANK, NO_RANK = range(7)
WHO, WHAT, KEY, SLOT, BODY, STRIDE, LEFT, AT, ORDER = range(7, 16)
SCRATCH_ROWS = 16
ASKS = 520
"""Not 512: the rows would fall into the same sets of the cache."""


@compiled
def check(
    desc, plan, scratch, masks, imei, msisdn, imsi, now, grace_time, verdicts, valid_until, counts
):
    """Decide a batch of uint64 queries.

    ``plan`` int64[PLANNED + WAVES, PLAN_WORDS]: the sections to probe for a group at once; with
    none, of length 0, ``scratch`` is not touched.
    ``verdicts`` uint8[n, 4]: (status, decided status, code, row). ``valid_until`` int64[n].
    ``counts`` uint64[CODES, 5]: one is added at (code, status) for each.
    """
    times = (later(now, grace_time), grace_time)
    active = active_black(desc, *times)
    for begin in range(0, len(imei), GROUP):
        end = min(begin + GROUP, len(imei))
        together = len(plan) > 0 and end - begin >= LEAST_WARMED
        if together:
            probe(desc, plan, imei[begin:end], msisdn[begin:end], imsi[begin:end], scratch)
        for i in range(begin, end):
            at = i - begin
            if together:
                number = np.uint64(scratch[NUMBER, at])
                hints, found = scratch[HINTS, at], scratch[FOUND, at]
                ranks = (scratch[RANK, at], scratch[IMSI_RANK, at], scratch[GREY_RANK, at])
            else:
                number = number_of(desc, msisdn[i], imsi[i])
                hints = hints_of(desc, imei[i], number)
                found, ranks = np.int64(0), UNRANKED
            facts, black, deadline, until = facts_of(
                desc, imei[i], number, imsi[i], *times, active, False, hints, found, ranks
            )
            row, code = decide(facts, black, deadline, grace_time, masks)
            decided = load8(desc[AT_STATUSES] + code)
            spared = row >= 12 and desc[HOLD_COUNT] > 0
            spared = spared and held(desc, imei[i], number, code, grace_time)
            status = leaves_as(decided, row, spared, desc[SHADOW] != 0)
            verdicts[i, 0], verdicts[i, 1] = status, decided
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
    send_for_sieves(desc, SIEVES, imei)
    map_numbers(desc, plan, imei, msisdn, imsi, scratch)
    send_for_sieves(desc, BY_NUMBER_SIEVES, scratch[NUMBER, :count])
    for i in range(count):
        hints[i] = hints_of(desc, imei[i], np.uint64(scratch[NUMBER, i]))
        found[i] = 0
        scratch[RANK, i] = scratch[IMSI_RANK, i] = scratch[GREY_RANK, i] = -1
    for wave in range(PLANNED, PLANNED + WAVES):
        planned, unless = plan[wave, WAVE], plan[wave, UNLESS]
        asks = 0
        for i in range(count):
            left = np.uint64(either(found[i] & unless == 0, hints[i] & planned, 0))
            # Most have one, or none: that this is one is no branch.
            scratch[WHO, asks], scratch[WHAT, asks] = i, trailing_zeros(left)
            asks += np.int64(left != NONE)
            left &= left - np.uint64(1)
            while left != NONE:
                scratch[WHO, asks], scratch[WHAT, asks] = i, trailing_zeros(left)
                asks += 1
                left &= left - np.uint64(1)
            if asks >= ASKS - PLANNED:
                settle(desc, plan, imei, scratch, asks)
                asks = 0
        settle(desc, plan, imei, scratch, asks)


@inlined
def map_numbers(desc, plan, imei, msisdn, imsi, scratch):
    """Fill NUMBER: as it was asked for, else that of the operator's table, else 0."""
    asks = 0
    for i in range(len(imei)):
        scratch[NUMBER, i] = np.int64(msisdn[i])
        if msisdn[i] == NONE and imsi[i] != NONE:
            scratch[NUMBER, i] = np.int64(imsi[i])
            scratch[WHO, asks], scratch[WHAT, asks] = i, IMSI_ROW
            asks += 1
    planned = plan[IMSI_ROW, SECTION] == AT_IMSI_MSISDN
    if planned:
        settle(desc, plan, imei, scratch, asks)
    for a in range(asks):
        i = scratch[WHO, a]
        if planned:
            scratch[NUMBER, i] = np.int64(number_at(desc, imsi[i], scratch[RANK, i]))
        else:
            scratch[NUMBER, i] = np.int64(number_of(desc, NONE, imsi[i]))


@inlined
def send_for_sieves(desc, sieves, keys):
    """The lines of IMEIs, or of numbers, in these sieves."""
    for sieve in sieves:
        address, lines = desc[sieve], desc[sieve + 1]
        if lines > 0:
            for i in range(len(keys)):
                prefetch(address + SIEVE_LINE * line_of(spread(np.uint64(keys[i])), lines))


@compiled
def settle(desc, plan, imei, scratch, asks):
    """Make the probes, WHO asks WHAT, in steps, each sending for the memory of the next: AT."""
    if asks > 0:
        find_lines(desc, plan, imei, scratch, asks)
        send_for(scratch[AT, :asks])
        searches = find_bodies(desc, plan, scratch, asks)
        send_for(scratch[AT, :asks])
        find_blocks(desc, plan, scratch, searches)
        conclude(desc, plan, scratch, asks)
        send_for(scratch[AT, :asks])
        find_values(desc, plan, scratch, asks)
        send_for(scratch[AT, :asks])


@inlined
def send_for(places):
    """The lines at these addresses.

    A place that no TLB knows holds up what comes behind it until it is walked to. So this is all
    that the loop does: the walks of several run beside each other.
    """
    for a in range(len(places)):
        prefetch(places[a])


@inlined
def find_lines(desc, plan, imei, scratch, asks):
    """The lines where the directories' searches begin; leaves each probe's KEY."""
    for a in range(asks):
        who, what = scratch[WHO, a], scratch[WHAT, a]
        section = plan[what, SECTION]
        key = np.uint64(scratch[NUMBER, who]) if plan[what, IS_BY_NUMBER] else imei[who]
        scratch[KEY, a] = np.int64(key)
        line = first_line(key >> np.uint64(16), desc[section + LINES])
        scratch[AT, a] = desc[section + DIRECTORY] + LINE_BYTES * line


@inlined
def find_bodies(desc, plan, scratch, asks):
    """Find the containers: AT becomes the one line to read, or the fences of a search.

    Leaves SLOT (0: there is no container), BODY as its offset, STRIDE (0: nothing to search), of
    searches the entries LEFT, and in ORDER which probes these are: their number is given back.
    """
    searches = 0
    for a in range(asks):
        what, low = scratch[WHAT, a], scratch[KEY, a] & 0xFFFF
        section, is_index = plan[what, SECTION], plan[what, IS_INDEX]
        key = np.uint64(scratch[KEY, a])
        slot = find_slot(desc, section, key, INDEX_SLOT_BYTES if is_index else LIST_SLOT_BYTES)
        scratch[SLOT, a] = slot
        if slot == 0:
            continue
        body, stride, left = body_of(slot, is_index)
        if stride > 0:
            at = desc[section + FENCES] + 2 * (body >> BLOCK_BITS)
            scratch[ORDER, searches] = a
            searches += 1
        else:
            at = desc[section + DATA] + body + line_in(slot, is_index, low)
        scratch[BODY, a], scratch[STRIDE, a], scratch[LEFT, a] = body, stride, left
        scratch[AT, a] = at
    return searches


@inlined
def line_in(slot, is_index, low):
    """Where in a container of bits the line of a key begins."""
    if is_index:
        lowest = np.int64((load64(slot + 16) >> np.uint64(20)) & LOW)
        return max(0, low - lowest) // LINE_BITS * LINE_BYTES
    return low >> 3


@inlined
def find_blocks(desc, plan, scratch, searches):
    """Find the blocks of the searches: AT becomes the first entry's address, LEFT how many."""
    for s in range(searches):
        a = scratch[ORDER, s]
        section = plan[scratch[WHAT, a], SECTION]
        body, stride, low = scratch[BODY, a], scratch[STRIDE, a], scratch[KEY, a] & 0xFFFF
        entry, left = block_of(desc[section + FENCES], body, stride, scratch[LEFT, a], low)
        scratch[AT, a], scratch[LEFT, a] = desc[section + DATA] + body + stride * entry, left
    for s in range(searches):
        for line in range(0, BLOCK_BYTES, LINE_BYTES):
            prefetch(scratch[AT, scratch[ORDER, s]] + line)


@inlined
def conclude(desc, plan, scratch, asks):
    """Note what the probes came to; SLOT becomes the rank in an index, or -1, AT its value."""
    for a in range(asks):
        who, what, slot, at = scratch[WHO, a], scratch[WHAT, a], scratch[SLOT, a], scratch[AT, a]
        section, is_index = plan[what, SECTION], plan[what, IS_INDEX]
        low, stride = scratch[KEY, a] & 0xFFFF, scratch[STRIDE, a]
        there, rank = False, np.int64(-1)
        if slot != 0:
            if stride > 0:
                at = last_at_most(at, stride, scratch[LEFT, a], low, BLOCK_HALVINGS)
                there = covers(at, stride, low)
            if is_index:
                body = desc[section + DATA] + scratch[BODY, a]
                if stride == 0:
                    rank = rank_in_container(slot, body, low)
                elif there:
                    rank = np.int64(load64(slot + 8)) + ((at - body) >> 1)
                there = rank >= 0
            elif stride == 0:
                there = (load8(at) >> (low & 7)) & 1 == 1
        scratch[SLOT, a], scratch[AT, a] = rank, desc[section + VALUES] + 4 * max(rank, 0)
        scratch[HINTS, who] &= ~(1 << what)
        scratch[FOUND, who] |= np.int64(there) << what
        scratch[plan[what, RANKED], who] = rank


@inlined
def find_values(desc, plan, scratch, asks):
    """Where a key has several values AT becomes the words, of a grey entry the rows."""
    for a in range(asks):
        if scratch[SLOT, a] < 0:
            continue
        section = plan[scratch[WHAT, a], SECTION]
        entry = load32(scratch[AT, a])
        if section == AT_GREY:
            scratch[AT, a] = desc[section + NUMBERS] + 8 * entry
            prefetch(desc[section + DEADLINES] + 4 * entry)
        else:
            scratch[AT, a] = desc[section + WORDS] + 4 * max(entry - RUN, 0)
