"""What a person types when ordering is normalised, and a slip is refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.ops import typed

IRAN = Numbering()
NOW = int(datetime(2026, 3, 20, 12, tzinfo=UTC).timestamp())
KEY, NUMBER = 49_015_420_323_751, 989_121_234_567


@pytest.mark.parametrize(
    ("words", "meant", "expected"),
    [
        (["490154203237518"], "", (KEY, 0)),
        (["49-015420-323751"], "", (KEY, 0)),
        (["۴۹۰۱۵۴۲۰۳۲۳۷۵۱۸"], "", (KEY, 0)),
        (["490154203237518", "0912 123 4567"], "", (KEY, NUMBER)),
        (["+98 912 123 4567"], "", (0, NUMBER)),
        (["09121234567"], "", (0, NUMBER)),
        (["00989121234567"], "number", (0, NUMBER)),
        (["00989121234567"], "imei", (989_121_234_567, 0)),
        (["010006001234567"], "imei", "imei-check-digit"),
        (["490154203237519"], "", "imei-check-digit"),
        (["00989121234567"], "", "order-ambiguous"),
        (["49015420323751", "no number"], "", "msisdn-characters"),
        (["0912"], "", "msisdn-length"),
        ([], "", "order-identity"),
        (["490154203237518", "09121234567", "1"], "", "order-identity"),
    ],
)
def test_whom_is_meant(words: list[str], meant: str, expected: tuple[int, int] | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(Refused, match=expected):
            typed.identity(words, IRAN, meant)
    else:
        assert typed.identity(words, IRAN, meant) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("2026-03-21", datetime(2026, 3, 21, 20, 30, tzinfo=UTC)),
        ("۲۰۲۶-۰۳-۲۱", datetime(2026, 3, 21, 20, 30, tzinfo=UTC)),
        ("20260321", datetime(2026, 3, 21, 20, 30, tzinfo=UTC)),
        ("2026-03-21T08:00+03:30", datetime(2026, 3, 21, 4, 30, tzinfo=UTC)),
        ("2026-03-21T08:00Z", datetime(2026, 3, 21, 8, tzinfo=UTC)),
        ("12h", datetime(2026, 3, 21, tzinfo=UTC)),
        ("7d", datetime(2026, 3, 27, 12, tzinfo=UTC)),
    ],
)
def test_a_moment_is_as_people_write_it(word: str, expected: datetime) -> None:
    assert typed.moment(word, "Asia/Tehran", now=NOW) == int(expected.timestamp())


@pytest.mark.parametrize(
    "word",
    ["1405-01-01", "2026-03-19", "2026-03-21T08:00", "tomorrow", "", "0d", "2200-01-01"],
)
def test_a_moment_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(Refused, match="order-until"):
        typed.moment(word, "Asia/Tehran", now=NOW)


def test_devices_and_tacs(tmp_path: Path) -> None:
    assert typed.device_span("490154203237518") == (KEY, KEY)
    assert typed.device_span("49015420") == (49_015_420_000_000, 49_015_420_999_999)
    file = tmp_path / "tacs"
    file.write_text("TAC\n35999901\n\n35-999902\n")
    assert typed.tacs_in(file) == [35_999_901, 35_999_902]
    file.write_text("35999901\n3599990\n")
    with pytest.raises(Refused, match="line 2"):
        typed.tacs_in(file)
    with pytest.raises(Refused, match="order-file"):
        typed.tacs_in(tmp_path / "none")


@pytest.mark.parametrize("word", ["0912", "98912", "+98912", "0098912", "۰۹۱۲"])
def test_a_prefix_is_international(word: str) -> None:
    assert typed.prefix(word, IRAN) == "98912"


def test_a_prefix_of_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="order-prefix"):
        typed.prefix("+", IRAN)
