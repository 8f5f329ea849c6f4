"""What people write as digits: other scripts' digits, blanks and dashes, to ASCII digits."""

from __future__ import annotations

import unicodedata

SEPARATORS = frozenset(" -./\u00a0\u200e\u200f\u202a\u202c\u2009\u2010\u2011\u2012\u2013")
"""Blanks, dashes, dots, slashes and direction marks that people put between digits."""


def ascii_digits(text: str) -> str | None:
    """The digits of what a person typed as ASCII, separators dropped; None with anything else.

    Decimal digits of every script count (Unicode Nd: ۰۹۱۲…, ٠٩١٢…), look-alikes such as ² do not.
    """
    digits = []
    for char in text.strip():
        if char in SEPARATORS:
            continue
        value = unicodedata.decimal(char, None)
        if value is None:
            return None
        digits.append(str(value))
    return "".join(digits)
