"""The SQL of fields and the core's Python say the same of every text."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eir.core import imei, subscriber
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.store.importers.fields import field_of
from eir.store.importers.scratch import Scratch

TEHRAN = ZoneInfo("Asia/Tehran")
NUMBERINGS = (
    Numbering(),
    Numbering("1", "1", "011", 10, 10),
    Numbering("39", "", "00", 6, 11),
    Numbering("7", "8", "810", 10, 10),
)
SAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DIGITS = "0123456789۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩०१२𝟎𝟗"
ODD = " -./+\u00a0\u200e\u200f\u202a\u202c\u2009\u2010\u2013\t\u3000\u2003\u0085\u001f²½a'\"{}"


def texts() -> st.SearchStrategy[str]:
    """What people write, and nobody would: digits of many scripts amid blanks, dashes, junk."""
    shaped = st.text(alphabet=st.sampled_from(DIGITS[:20] + ODD), max_size=24)
    plain = st.text(alphabet=string.digits, max_size=18)
    prefix = st.sampled_from(
        ["", "+", "00", "0", "98", "+98", "0098", "\u200e+", " ", "011", "810"]
    )
    any_text = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=70
    )
    return st.one_of(st.tuples(prefix, plain | shaped).map("".join), shaped, any_text)


@pytest.fixture(scope="module", params=NUMBERINGS, ids=lambda n: n.country_code)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scratch, Numbering]]:
    folder = tmp_path_factory.mktemp("fields")
    with Scratch(folder, request.param, TEHRAN) as scratch:
        yield scratch, request.param


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    with Scratch(tmp_path_factory.mktemp("fields"), Numbering(), TEHRAN) as made:
        yield made


def read(
    scratch: Scratch, kind: str, written: list[str], *, typed: bool
) -> list[tuple[object, ...]]:
    """(value, problem, wrong check digit) of each text."""
    field = field_of(kind, typed=typed, reasons={"Stolen device": 1, "it's {odd}": 2})
    names = {"t": "t", "d": "d", "v": "v", "p": "false"}
    return scratch.rows(
        f"SELECT v, CASE WHEN v IS NULL THEN {field.problem.format(**names)} END,"
        f" {field.wrong_check.format(**names)}"
        f" FROM (SELECT *, {field.value.format(**names)} AS v"
        f" FROM (SELECT t, {field.digits.format(**names)} AS d FROM unnest(?::VARCHAR[]) u(t)))",
        [written],
    )


def one(scratch: Scratch, kind: str, text: str, *, typed: bool = False) -> object:
    ((value, problem, _),) = read(scratch, kind, [text], typed=typed)
    return problem if value is None else value


def in_core(parse: Callable[[str], int], text: str) -> tuple[int | None, str | None]:
    try:
        return int(parse(text)), None
    except Refused as refused:
        return None, refused.reason


@SAMPLES
@given(written=st.lists(texts(), min_size=20, max_size=60))
@example(
    written=["+98 912 345 6789", "۰۹۱۲۳۴۵۶۷۸۹", "0098912", "+", "+ 98912000", "98", "0", "9" * 65]
)
def test_typed_number_is_the_core_s(bench: tuple[Scratch, Numbering], written: list[str]) -> None:
    scratch, numbering = bench
    for text, (value, problem, _) in zip(
        written, read(scratch, "msisdn", written, typed=True), strict=True
    ):
        expected, reason = in_core(lambda t: subscriber.msisdn_from_typed(t, numbering), text)
        assert value == expected, text
        if text:
            assert problem == reason, text


@SAMPLES
@given(written=st.lists(texts(), min_size=20, max_size=60))
def test_typed_imei_and_imsi_are_the_core_s(scratch: Scratch, written: list[str]) -> None:
    imeis = read(scratch, "imei", written, typed=True)
    imsis = read(scratch, "imsi", written, typed=True)
    for text, (value, _, wrong), (imsi, _, _) in zip(written, imeis, imsis, strict=True):
        expected, reason = in_core(imei.key_from_typed, text)
        if reason == "imei-check-digit":
            assert wrong, text
            assert value is not None
        else:
            assert (value, bool(wrong)) == (expected, False), text
        assert imsi == in_core(subscriber.imsi_from_typed, text)[0], text


@SAMPLES
@given(written=st.lists(texts() | st.text(string.digits, max_size=17), min_size=20, max_size=60))
def test_files_fields_are_the_wire_s(scratch: Scratch, written: list[str]) -> None:
    for kind, parse in (
        ("imei", imei.key_from_digits),
        ("msisdn", subscriber.msisdn_from_digits),
        ("imsi", subscriber.imsi_from_digits),
    ):
        for text, (value, problem, _) in zip(
            written, read(scratch, kind, written, typed=False), strict=True
        ):
            assert (value or 0) == parse(text), (kind, text)
            assert (value is None) == (problem is not None)


@SAMPLES
@given(keys=st.lists(st.integers(1, 10**14 - 1), min_size=20, max_size=60))
def test_wrong_check_digit_is_told_from_right(scratch: Scratch, keys: list[int]) -> None:
    right = [imei.digits15(imei.ImeiKey(key)) for key in keys]
    off = [text[:14] + str((int(text[14]) + 1) % 10) for text in right]
    for written, expected in ((right, False), (off, True), ([t[:14] for t in right], False)):
        assert [(v, bool(w)) for v, _, w in read(scratch, "imei", written, typed=False)] == [
            (key, expected) for key in keys
        ]


@SAMPLES
@given(
    day=st.dates(datetime(2000, 1, 1).date(), datetime(2105, 12, 31).date()),
    at=st.times(),
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_dates(scratch: Scratch, day: object, at: object, minutes: int) -> None:
    date = datetime.combine(day, datetime.min.time(), TEHRAN)  # type: ignore[arg-type]
    begins = max(int(date.replace(fold=fold).timestamp()) for fold in (0, 1))
    after = date + timedelta(days=1)
    ends = max(int(after.replace(fold=fold).timestamp()) for fold in (0, 1))
    for text in (f"{day:%Y-%m-%d}", f"{day:%Y%m%d}"):
        assert one(scratch, "deadline", text) == ends
        assert one(scratch, "until", text) == ends
        assert one(scratch, "block-date", text) == begins
    moment = datetime.combine(day, at, UTC).replace(microsecond=0)  # type: ignore[arg-type]
    sign, size = "-" if minutes < 0 else "+", abs(minutes)
    local = moment + timedelta(minutes=minutes)
    text = f"{local:%Y-%m-%dT%H:%M:%S}{sign}{size // 60:02d}:{size % 60:02d}"
    expected = int(moment.timestamp())
    if 2000 <= moment.year <= 2105 and local.year >= 2000:
        assert one(scratch, "deadline", text) == expected
        assert one(scratch, "deadline", f"{moment:%Y-%m-%d %H:%M:%S.5}Z") == expected
        assert one(scratch, "deadline", str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "date-missing"),
        ("1404-07-01", "date-jalali"),
        ("14040701", "date-jalali"),
        ("1404/7/1", "date-jalali"),
        ("2025-02-30", "date-format"),
        ("20251301", "date-format"),
        ("01/02/2025", "date-format"),
        ("tomorrow", "date-format"),
        ("2025-01-01T10:00:00", "date-no-offset"),
        ("2025-01-01 10:00", "date-no-offset"),
        ("1999-12-31", "date-range"),
        ("21060101", "date-range"),
        ("4291747200000", "date-format"),
        ("99999999999", "date-range"),
        ("2025-01-01T10:00Z", 1735725600),
        ("2025-01-01T10:00+0330", 1735713000),
        ("۲۰۲۵-۰۱-۰۱", "date-format"),
    ],
)
def test_odd_dates(scratch: Scratch, text: str, expected: object) -> None:
    assert one(scratch, "deadline", text) == expected


def test_typed_dates_may_have_other_digits(scratch: Scratch) -> None:
    assert one(scratch, "deadline", "۲۰۲۵-۰۱-۰۱", typed=True) == 1735763400
    assert one(scratch, "deadline", "۱۴۰۴/۰۷/۰۱", typed=True) == "date-jalali"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("imei", "", "imei-missing"),
        ("imei", "3520990017614", "imei-length"),
        ("imei", "35209900176148231", "imei-length"),
        ("imei", "00000000000000", "imei-zero"),
        ("imei", "35209900x76148", "imei-characters"),
        ("imei", "۳۵۲۰۹۹۰۰۱۷۶۱۴۸", "imei-characters"),
        ("imei?", "", 0),
        ("imei?", "1", "imei-length"),
        ("tac", "35209900", 35209900),
        ("tac", "3520990", "tac-length"),
        ("tac", "00000000", "tac-zero"),
        ("msisdn", "09121234567", "msisdn-not-international"),
        ("msisdn", "", "msisdn-missing"),
        ("msisdn?", "", 0),
        ("msisdn", "1234", "msisdn-length"),
        ("imsi", "00101", 101 << 4 | 5),
        ("imsi", "0010", "imsi-length"),
        ("until", "", 0),
        ("action", "Allow", 1),
        ("action", "DENY", 0),
        ("action", "", "action-unknown"),
        ("forced", "", 0),
        ("forced", "True", 1),
        ("forced", "maybe", "forced-unknown"),
        ("reasons", "Stolen device", 1),
        ("reasons", "Stolen device|it's {odd}", 3),
        ("reasons", "Stolen device|Other", "reason-unmapped"),
        ("reasons", "", "reason-missing"),
        ("any", "whatever", 0),
    ],
)
def test_odd_fields(scratch: Scratch, kind: str, text: str, expected: object) -> None:
    assert one(scratch, kind, text) == expected


def test_a_midnight_that_is_skipped_or_comes_twice_is_the_later_one(tmp_path: Path) -> None:
    with Scratch(tmp_path, Numbering(), TEHRAN) as scratch:
        skipped = one(scratch, "block-date", "2022-03-22")  # 00:00 did not exist
    with Scratch(tmp_path, Numbering(), ZoneInfo("America/Havana")) as scratch:
        twice = one(scratch, "block-date", "2024-11-03")
    assert skipped == int(datetime(2022, 3, 21, 20, 30, tzinfo=UTC).timestamp())
    assert twice == int(datetime(2024, 11, 3, 5, tzinfo=UTC).timestamp())
