"""A batch decided: its memory sent for in groups, then query by query.

Of 10^8 devices nearly every probe misses the caches, one miss after the other. So before a group is
decided, each probe's steps are taken for the whole group, and each step only asks for the memory of
the next: the misses of a group overlap. Nothing is kept of it but warm caches: the verdicts are
those of ``kernel.facts_of`` and ``policy.decide``, with or without.
"""

from __future__ import annotations

import numpy as np

from eir.core.jit import compiled, load8, load16, load64, prefetch
from eir.core.kernel import (
    AT_STATUSES,
    BASE_VIEW,
    DATA,
    DIRECTORY,
    GOLDEN,
    HOLD_COUNT,
    INDEX_SLOT_BYTES,
    LIST_SLOT_BYTES,
    SHADOW,
    SHIFT,
    VALUES,
    active_black,
    facts_of,
    find_slot,
    held,
    rank_of,
)
from eir.core.policy import decide, leaves_as
from eir.core.rankindex import LINE_BITS, LINE_BYTES

GROUP = 64
SCRATCH_ROWS = 5
LEAST_WARMED = 4
LOW = np.uint64(0xFFFF)

# A row of a plan: what a section is, which column of a query is its key, when it is asked.
SECTION, IS_INDEX, COLUMN, IF_NOT_BOUND = 0, 1, 2, 3
PLAN_WORDS = 4
BY_IMEI, BY_MSISDN = 0, 1


@compiled
def check(
    desc, plan, scratch, masks, imei, msisdn, imsi, now, grace_time, verdicts, valid_until, counts
):
    """Decide a batch of uint64 queries.

    ``plan`` int64[m, PLAN_WORDS]: the sections worth warming, those of IF_NOT_BOUND last; with
    none, ``scratch`` int64[SCRATCH_ROWS, GROUP] is not touched.
    ``verdicts`` uint8[n, 4]: (status, decided status, code, row). ``valid_until`` int64[n].
    ``counts`` uint64[CODES, 5]: one is added at (code, status) for each.
    """
    active = active_black(desc, now)
    for begin in range(0, len(imei), GROUP):
        end = min(begin + GROUP, len(imei))
        if len(plan) > 0 and end - begin >= LEAST_WARMED:
            warm(desc, plan, imei[begin:end], msisdn[begin:end], scratch)
        for i in range(begin, end):
            facts, black, number, deadline, until = facts_of(
                desc, imei[i], msisdn[i], imsi[i], now, active, False
            )
            row, code = decide(facts, black, deadline, grace_time, masks)
            decided = load8(desc[AT_STATUSES] + code)
            spared = row >= 12 and desc[HOLD_COUNT] > 0 and held(desc, imei[i], number, code, now)
            status = leaves_as(decided, row, spared, desc[SHADOW] != 0)
            verdicts[i, 0] = status
            verdicts[i, 1] = decided
            verdicts[i, 2] = code
            verdicts[i, 3] = row
            valid_until[i] = deadline if row == 12 else (until if row == 1 else 0)
            counts[code, status] += np.uint64(1)


@compiled
def warm(desc, plan, imei, msisdn, scratch):
    """Send for what the probes of at most GROUP queries will read.

    What only a device without bindings is asked is sent for only for those.
    """
    at, left, stride = scratch[0], scratch[1], scratch[2]
    absent = scratch[3:].view(np.uint64)
    keys, others = imei, imei
    for p in range(len(plan)):
        view = plan[p, SECTION] + BASE_VIEW
        keys = msisdn if plan[p, COLUMN] == BY_MSISDN else imei
        if plan[p, IF_NOT_BOUND] != 0:
            keys = others
        if plan[p, IS_INDEX] == 0:
            warm_list(desc, view, keys, at, left, stride)
            continue
        unbound = absent[plan[p, IF_NOT_BOUND]]
        found = warm_index(desc, view, keys, at, left, stride, unbound)
        if plan[p, IF_NOT_BOUND] == 0:
            others = unbound[:found]


@compiled
def warm_list(desc, view, keys, at, left, stride):
    """Of a list: the directory's slots, then the bitset's byte or the search's lines."""
    warm_slots(desc, view, keys, LIST_SLOT_BYTES)
    for i in range(len(keys)):
        left[i] = 0
        slot = find_slot(desc, view, keys[i], LIST_SLOT_BYTES)
        if slot == 0:
            continue
        meta = load64(slot + 8)
        body = desc[view + DATA] + np.int64(meta & np.uint64((1 << 44) - 1))
        kind = np.int64((meta >> np.uint64(44)) & np.uint64(3))
        if kind == 1:
            prefetch(body + np.int64((keys[i] & LOW) >> np.uint64(3)))
            continue
        at[i], left[i] = body, np.int64(meta >> np.uint64(46))
        stride[i] = 2 if kind == 0 else 4
        prefetch(body + stride[i] * (left[i] >> 1))
    warm_search(keys, at, left, stride)


@compiled
def warm_index(desc, view, keys, at, left, stride, absent):
    """Of a ranked index: slots, lines, then the values. Put the keys it has not in ``absent``.

    How many those are is given back.
    """
    warm_slots(desc, view, keys, INDEX_SLOT_BYTES)
    for i in range(len(keys)):
        left[i] = 0
        slot = find_slot(desc, view, keys[i], INDEX_SLOT_BYTES)
        if slot == 0:
            continue
        meta = load64(slot + 16)
        place = np.int64(keys[i] & LOW) - np.int64((meta >> np.uint64(20)) & LOW)
        body = desc[view + DATA] + np.int64(load64(slot + 24))
        if (meta >> np.uint64(40)) & np.uint64(1) == np.uint64(1):
            prefetch(body + place // LINE_BITS * LINE_BYTES)
            continue
        at[i], left[i], stride[i] = body, np.int64(meta & np.uint64(0xFFFFF)), 2
        prefetch(body + 2 * (left[i] >> 1))
    warm_search(keys, at, left, stride)
    found = 0
    for i in range(len(keys)):
        rank = rank_of(desc, view, keys[i])
        prefetch(desc[view + VALUES] + 4 * max(rank, 0))
        if rank < 0:
            absent[found] = keys[i]
            found += 1
    return found


@compiled
def warm_slots(desc, view, keys, slot_bytes):
    """The directory's slots where the probes will begin."""
    shift = np.uint64(desc[view + SHIFT])
    for i in range(len(keys)):
        at = ((keys[i] >> np.uint64(16)) * GOLDEN) >> shift
        prefetch(desc[view + DIRECTORY] + np.int64(at) * slot_bytes)


@compiled
def warm_search(keys, at, left, stride):
    """Halve all the group's searches in step: ``left`` entries from ``at``, ``stride`` bytes each.

    What one step compares, the step before has sent for.
    """
    longest = 0
    for i in range(len(keys)):
        longest = max(longest, left[i])
    while longest > 1:
        for i in range(len(keys)):
            if left[i] > 1:
                half = left[i] >> 1
                middle = at[i] + stride[i] * half
                if load16(middle) <= np.int64(keys[i] & LOW):
                    at[i] = middle
                left[i] -= half
                prefetch(at[i] + stride[i] * (left[i] >> 1))
        longest -= longest >> 1
