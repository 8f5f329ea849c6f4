"""docs/s13.md names every setting, every way a connection ends, and every error code."""

import dataclasses
import re
from pathlib import Path

import pytest

from eir.doors.s13_settings import PeerRule, S13Settings, TlsSettings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/s13.md").read_text()
CODE = "".join(path.read_text() for path in sorted((ROOT / "eir/doors").glob("s13_*.py")))


@pytest.mark.parametrize("owner", [S13Settings, PeerRule, TlsSettings])
def test_every_setting_is_documented(owner):
    prefix = "peers." if owner is PeerRule else ""
    for field in dataclasses.fields(owner):
        assert f"`{prefix}{field.name}`" in TEXT, field.name


def test_every_reason_is_documented():
    reasons = set(re.findall(r'(?:_close|drop)\("([a-z-]+)"\)', CODE))
    reasons |= set(re.findall(r'counts\["closed", "([a-z-]+)"\]', CODE))
    assert len(reasons) >= 14
    assert {reason for reason in reasons if f"`{reason}`" not in TEXT} == set()


def test_every_error_code_is_documented():
    codes = set(re.findall(r"^[A-Z_]+: Final = ((?:3|5)0\d\d)$", CODE, re.MULTILINE))
    assert len(codes) >= 17
    assert {code for code in codes if f"| {code} |" not in TEXT} == set()
