"""Many CheckRequests in one pass: what gathered in the native door, as the arrays of one question.

A message as client libraries write it (each field at most once, short, its digits usable) is read
by a compiled loop over the joined bytes. Whatever else comes, be it only unusual, is left to the
codec, message by message: so nothing is accepted or refused here that the codec would not. Pure:
bytes in, arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eir import limits
from eir.core.bare_lines import IMEI, IMSI, MSISDN, fits
from eir.core.jit import compiled
from eir.doors import eligibility_codec as codec
from eir.errors import Refused

_FIRST_TAG, _TAG_STEP = 0x0A, 8  # a text's tag: its field's number << 3 | 2


@dataclass(frozen=True, slots=True)
class Gathered:
    """``asked`` are the questions of all messages but those ``refused``, in order.

    ``refused`` says why, by the place of the message.
    """

    asked: codec.Questions
    refused: Mapping[int, Refused]


def read_checks(messages: Sequence[bytes]) -> Gathered:
    """The questions of at least one CheckRequest, each accepted or refused as by ``read_check``."""
    joined = np.frombuffer(b"".join(messages), np.uint8)
    ends = np.fromiter(map(len, messages), np.int64, len(messages)).cumsum()
    columns = np.empty((3, len(messages)), np.uint64)
    unusual = np.empty(len(messages), np.bool_)
    refused: dict[int, Refused] = {}
    if read_plain(joined, ends, columns, unusual):
        for place in unusual.nonzero()[0].tolist():
            try:
                one = codec.read_check(messages[place])
            except Refused as refusal:
                refused[place] = refusal
            else:
                columns[:, place] = one.imei[0], one.msisdn[0], one.imsi[0]
    if refused:
        columns = np.delete(columns, list(refused), axis=1)
    return Gathered(codec.Questions(columns[IMEI], columns[MSISDN], columns[IMSI]), refused)


@compiled
def read_plain(raw, ends, columns, unusual):
    """Fill ``columns`` uint64[3, n] (key, number, IMSI code) from plain messages; count the others.

    ``raw`` uint8: the messages joined; ``ends`` int64[n]: where each ends. ``unusual`` bool[n].
    """
    others, begin = 0, np.int64(0)
    for i in range(len(ends)):
        end = ends[i]
        columns[IMEI, i] = columns[MSISDN, i] = columns[IMSI, i] = np.uint64(0)
        unusual[i] = not read_one(raw, begin, end, columns, i)
        others += unusual[i]
        begin = end
    return others


@compiled
def read_one(raw, at, end, columns, i):
    """Whether raw[at:end] is plain; then its identifiers stand in column i."""
    seen = 0
    while at < end:
        tag = np.int64(raw[at])
        field = (tag - _FIRST_TAG) // _TAG_STEP
        if tag & 7 != 2 or not 0 <= field <= IMSI or at + 2 > end or (seen >> field) & 1:
            return False
        size = np.int64(raw[at + 1])
        at += 2
        if size > end - at or not fits(field, size, raw[at] if size > 0 else 0):
            return False
        seen |= 1 << field
        number = np.uint64(0)
        for k in range(size):
            digit = np.int64(raw[at + k]) - 0x30
            if digit < 0 or digit > 9:
                return False
            if field != IMEI or k < limits.IMEI_DIGITS:
                number = number * np.uint64(10) + np.uint64(digit)
        if field == IMSI:
            number = number << np.uint64(4) | np.uint64(size)
        columns[field, i] = number
        at += size
    return seen & 1 == 1
