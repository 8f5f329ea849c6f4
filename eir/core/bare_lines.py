"""Lines of bare digits → numbers, compiled: what is plain and good, and which lines are not.

A line is one or two fields with a comma between, each of ASCII digits alone, and ends in LF or
CR LF, or with the text. Its fields are good by the rules of ``core.imei`` and ``core.subscriber``.
Of any other line it is only said where it stands: somebody else judges it.
"""

from __future__ import annotations

import numpy as np

from eir import limits
from eir.core.jit import compiled, inlined, load8

IMEI, MSISDN, IMSI = 0, 1, 2
_COMMA, _FEED, _RETURN = 44, 10, 13
_LONGEST = limits.IMEI_DIGITS + 2
SHORTEST_LINE_BYTES = 6
ROWS, LEFT, LINES, AT = range(4)
"""What ``counts`` holds: good rows, lines left, lines in all, bytes that were looked at."""


@compiled
def take(address, size, fields, rows, wrong, left, counts):
    """Read whole lines of ``size`` bytes at an address until they end, or ``left`` is full.

    ``fields`` int64[f, 2]: kind, place in the row. ``rows`` uint64[2, n] and ``wrong`` uint8[n],
    1 for a wrong check digit, have room for a line in each six bytes. ``left`` int64[m, 3]: begin,
    end, and which line, of each that is not of bare digits, or not good. ``counts`` int64[4] is
    filled.
    """
    at = row = odd = line = np.int64(0)
    while at < size and odd < len(left):
        end, mistyped = _line(address, at, size, fields, rows, row)
        if end >= 0:
            wrong[row] = np.uint8(mistyped)
            row += 1
        else:
            end = at
            while end < size and load8(address + end) != _FEED:
                end += 1
            end = min(end + 1, size)
            left[odd, 0], left[odd, 1], left[odd, 2] = at, end, line
            odd += 1
        at = end
        line += 1
    counts[ROWS], counts[LEFT], counts[LINES], counts[AT] = row, odd, line, at


@compiled
def _line(address, at, size, fields, rows, row):
    """(where the next line begins, 1 for a wrong check digit) of a good line; else (-1, 0)."""
    mistyped = np.int64(0)
    for f in range(len(fields)):
        if f > 0:
            if at >= size or load8(address + at) != _COMMA:
                return np.int64(-1), np.int64(0)
            at += 1
        value, at, wrong = _field(address, at, size, fields[f, 0])
        if value < 0:
            return np.int64(-1), np.int64(0)
        rows[fields[f, 1], row] = np.uint64(value)
        mistyped |= wrong
    if at < size:
        if load8(address + at) == _RETURN:
            at += 1
        if at >= size or load8(address + at) != _FEED:
            return np.int64(-1), np.int64(0)
        at += 1
    return at, mistyped


@compiled
def _field(address, at, size, kind):
    """(its number or -1, where it ends, 1 if its check digit is wrong) of a field of digits."""
    begin, value, luhn = at, np.int64(0), np.int64(0)
    first = load8(address + at) if at < size else np.int64(0)
    while at < size and at - begin <= _LONGEST:
        digit = load8(address + at) - 48
        if digit < 0 or digit > 9:
            break
        place = at - begin
        if kind != IMEI or place < limits.IMEI_DIGITS:
            value = 10 * value + digit
        luhn += digit + (place & 1) * (digit + np.int64(digit >= 5))
        at += 1
    length = at - begin
    if not fits(kind, length, first) or (kind == IMEI and value == 0):
        return np.int64(-1), at, np.int64(0)
    mistyped = kind == IMEI and length == limits.IMEI_DIGITS + 1 and luhn % 10 != 0
    return (16 * value + length if kind == IMSI else value), at, np.int64(mistyped)


@inlined
def fits(kind, length, first):
    """Whether an identifier may have so many digits, and begin with this character."""
    if kind == IMEI:
        return limits.IMEI_DIGITS <= length <= limits.IMEI_DIGITS + 2
    if kind == MSISDN:
        in_size = limits.MIN_MSISDN_DIGITS <= length <= limits.MAX_MSISDN_DIGITS
        return in_size and first != 48
    return limits.MIN_IMSI_DIGITS <= length <= limits.MAX_IMSI_DIGITS
