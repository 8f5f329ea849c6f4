"""What people write as digits: every script's digits count, nothing else does."""

import pytest

from eir.core.digits import ascii_digits


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("0912", "0912"),
        ("۰۹۱۲", "0912"),
        ("٠٩١٢", "0912"),
        ("०९१२", "0912"),
        (" 35-209900 176148/0 ", "352099001761480"),
        ("35.20\u00a099\u200900", "35209900"),
        ("\u202a۰۹۱۲\u202c", "0912"),
        ("\u200f0912\u200e", "0912"),
        ("", ""),
        (" - ", ""),
        ("²", None),
        ("Ⅷ", None),
        ("①", None),
        ("091O", None),
        ("+98912", None),
        ("1\n2", None),
        ("1\x002", None),
    ],
)
def test_ascii_digits(text: str, digits: str | None) -> None:
    assert ascii_digits(text) == digits
