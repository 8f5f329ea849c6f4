"""docs/s13.md names every way a connection ends, and every error code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/s13.md").read_text()
CODE = "".join(path.read_text() for path in sorted((ROOT / "eir/doors").glob("s13_*.py")))


def test_every_reason_is_documented():
    reasons = set(re.findall(r'(?:_close|drop)\("([a-z-]+)"\)', CODE))
    reasons |= set(re.findall(r'note\("closed", "([a-z-]+)"', CODE))
    assert len(reasons) >= 14
    assert {reason for reason in reasons if f"`{reason}`" not in TEXT} == set()


def test_every_error_code_is_documented():
    codes = set(re.findall(r"^[A-Z_]+: Final = ((?:3|5)0\d\d)$", CODE, re.MULTILINE))
    assert len(codes) >= 17
    assert {code for code in codes if f"| {code} |" not in TEXT} == set()
