"""Odd lines and odd files: each has one outcome, named by file and line, and never half a list."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eir import limits
from eir.store.importers import plain
from tests.store.list_bench import A, B, Bench, zipped


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"\ufeffimei\n{A}\n{B}\n", id="BOM"),
        pytest.param(f"imei\r\n{A}\r\n{B}\r\n", id="CRLF"),
        pytest.param(f"imei\r{A}\r{B}\r", id="CR"),
        pytest.param(f"imei\r\n{A}\n{B}\r", id="mixed ends"),
        pytest.param(f"imei\n{A}\n{B}", id="no last end"),
        pytest.param(f'"imei"\n"{A}"\n "{B}" \n', id="quotes"),
        pytest.param(f" IMEI \n  {A}\t\n\t{B}  \n", id="blanks"),
        pytest.param(f"imei\n\n{A}\n   \n{B}\n\n\n", id="blank lines"),
        pytest.param(gzip.compress(f"imei\n{A}\n{B}\n".encode()), id="gzip"),
        pytest.param(
            gzip.compress(f"imei\n{A}\n".encode()) + gzip.compress(f"{B}\n".encode()),
            id="two gzips",
        ),
    ],
)
def test_how_a_file_is_written_does_not_matter(bench: Bench, content: str | bytes) -> None:
    outcome = bench.file("w'[*]?.csv", content, "white").load()
    assert bench.keys("white") == [A, B]
    assert outcome.rejects_path is None


ODD_LINES: list[tuple[bytes, str, str]] = [
    (b"\xff\xfe352099", "", "encoding"),
    (b"3" * (limits.MAX_LIST_LINE_BYTES + 100), "", "line-too-long"),
    (b"35209900\x00176148", "imei", "imei-characters"),
    (b"35209900176148,1", "", "columns"),
    (b'"35209900176148', "", "quotes"),
    (b'352099"00176148', "", "quotes"),
    (b"35209900176148\x1f", "imei", "imei-characters"),
    (b"=HYPERLINK(1)", "imei", "imei-characters"),
    (b"3.52099E+14", "imei", "imei-characters"),
    (b"+35209900176148", "imei", "imei-characters"),
]


@pytest.mark.parametrize(("line", "column", "reason"), ODD_LINES, ids=[o[2] for o in ODD_LINES])
def test_odd_lines_are_rejects_with_their_line(
    bench: Bench, line: bytes, column: str, reason: str
) -> None:
    bench.file("w.csv", b"imei\r\n%d\n\n" % A + line + b"\n%d\n1\n" % B, "white").load()
    assert bench.keys("white") == [A, B]
    found = [(row[1], row[2], row[4]) for row in bench.rejects()]
    assert found == [("4", column, reason), ("6", "imei", "imei-length")]


def test_a_quoted_line_break_is_two_bad_lines(bench: Bench) -> None:
    bench.file("b.csv", f'imei,msisdn\n"{A}\n",989121234567\n{B},989121234567\n', "bindings").load()
    assert bench.rows("bindings") == [(B, 989121234567)]
    assert [row[1] for row in bench.rejects()] == ["2", "3"]


LINES = st.lists(
    st.sampled_from([b"%d" % A, b"%d0" % B, b"1", b"x", b"", b"  ", b"\xff", b'"', b'"%d"' % A,
                     b"%d,%d" % (A, B), b"7" * (limits.MAX_LIST_LINE_BYTES + 1)]),
    max_size=30,
)  # fmt: skip


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=LINES, ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=31, max_size=31)
)
def test_every_line_is_a_row_a_blank_or_a_reject_of_that_line(
    bench: Bench, lines: list[bytes], ends: list[bytes]
) -> None:
    # A CR just before an empty line's LF would be one end, in any editor: keep such apart.
    ends = [b"\n" if end == b"\r" else end for end in ends] if b"" in lines else ends
    bench.entries.clear()
    content = b"imei" + ends[0] + b"".join(map(bytes.__add__, lines, ends[1:]))
    outcome = bench.file("w.csv", content, "white").load()
    good = {b"%d" % A, b"%d0" % B, b'"%d"' % A}
    file = outcome.files[0]
    assert file.rows == sum(line in good for line in lines)
    assert file.blank == sum(not line.strip() for line in lines)
    expected = [n for n, line in enumerate(lines, 2) if line not in good and line.strip()]
    assert [int(row[1]) for row in (bench.rejects() if expected else [])] == expected


def test_line_numbers_hold_in_a_file_of_many_blocks(bench: Bench) -> None:
    lines = [f"{10**13 + n}" for n in range(400_000)]
    bad = [3, 77_777, 200_000, 200_001, 399_998]
    for n in bad:
        lines[n] = "bad" if n % 2 else "\udcff"
    content = ("imei\n" + "\n".join(lines)).encode("utf-8", "surrogateescape")
    outcome = bench.file("w.csv", content, "white").load()
    assert [int(row[1]) for row in bench.rejects()] == [n + 2 for n in bad]
    assert outcome.facts.counts["white"] == 400_000 - len(bad)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "file-empty", id="empty"),
        pytest.param(b"\xef\xbb\xbf", "file-empty", id="BOM only"),
        pytest.param(b"\n\n", "file-header", id="blank lines only"),
        pytest.param(b"imie\n1\n", "file-header", id="wrong header"),
        pytest.param(b"35209900176148\n", "file-header", id="no header"),
        pytest.param(b"imei;msisdn\n1;2\n", "file-header", id="semicolons"),
        pytest.param(b'"imei\n1\n', "file-header", id="unclosed header"),
        pytest.param("imei\n1\n".encode("utf-16"), "file-encoding", id="UTF-16"),
        pytest.param("imei\n1\n".encode("utf-16-le"), "file-encoding", id="UTF-16 without BOM"),
        pytest.param(b"\x81\x82\n", "file-encoding", id="other encoding"),
        pytest.param(b"imei\n" + bytes(range(32)), "file-encoding", id="binary"),
        pytest.param(b"imei\n1\n" + b"9" * (1 << 22), "file-line-too-long", id="endless line"),
        pytest.param(gzip.compress(b"imei\n" * 999)[:-9], "file-damaged", id="gzip cut short"),
        pytest.param(gzip.compress(b"imei\n1\n") + b"junk", "file-damaged", id="gzip with a tail"),
        pytest.param(b"PK\x03\x04 no zip", "file-damaged", id="no zip"),
        pytest.param(
            gzip.compress(b"imei\n" + b"1\n" * (1 << 24)), "file-too-large", id="gzip bomb"
        ),
    ],
)
def test_a_wrong_file_is_refused_by_name(bench: Bench, content: bytes, reason: str) -> None:
    bench.out.write_bytes(b"as it was")
    refused = bench.file("w.csv", content, "white").refused()
    assert refused.reason == reason
    assert refused.where.startswith("w.csv")
    assert bench.out.read_bytes() == b"as it was"


def test_a_wrong_header_is_told_the_nearest_column(bench: Bench) -> None:
    refused = bench.file("w.csv", "imie\n1\n", "white").refused()
    assert "did you mean 'imei'?" in refused.detail
    assert refused.where == "w.csv: line 1"


def test_header_only_is_an_empty_list(bench: Bench) -> None:
    outcome = bench.file("w.csv", "imei\n", "white").load()
    assert outcome.facts.counts == {"white": 0}


def test_an_empty_file_is_an_empty_list_on_demand(bench: Bench) -> None:
    outcome = bench.file("w.csv", "", "white", allow_empty=True).load()
    assert outcome.facts.counts == {"white": 0}


def test_missing_file_and_folder(bench: Bench) -> None:
    assert bench.file("gone.csv", None, "white").refused().reason == "file-missing"
    bench.entries.clear()
    (bench.folder / "folder.csv").mkdir()
    assert bench.file("folder.csv", None, "white").refused().reason == "file-unreadable"


def test_no_line_is_lost_unnoticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain._Seen, "lines", 3)
    assert bench.file("w.csv", f"imei\n{A}\n", "white").refused().reason == "file-changed"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"readme.txt": "x"}, "zip-no-csv"),
        ({"[Content_Types].xml": "x", "xl/a.xml": ""}, "zip-no-csv"),
        ({"a.csv": b"imei\n" + b"1\n" * (1 << 24)}, "file-too-large"),
    ],
)
def test_wrong_zips(bench: Bench, members: Mapping[str, str | bytes], reason: str) -> None:
    zipped(bench.folder / "w.zip", members)
    assert bench.file("w.zip", None, "white").refused().reason == reason


def test_a_zip_of_too_many_members(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ZIP_MEMBERS", 2)
    zipped(bench.folder / "w.zip", {f"{n}.csv": "imei\n" for n in range(3)})
    assert bench.file("w.zip", None, "white").refused().reason == "zip-too-many"


def test_a_zip_of_deltas_only(bench: Bench) -> None:
    zipped(bench.folder / "w.zip", {"x_delta_-1_2_added.csv": "imei,imsi\n"})
    refused = bench.file("w.zip", None, "", format="dirbs-exceptions").refused()
    assert refused.reason == "zip-only-deltas"


def test_an_encryptedzipped(bench: Bench) -> None:
    zipped(bench.folder / "w.zip", {"a.csv": "imei\n"})
    raw = bytearray((bench.folder / "w.zip").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (bench.folder / "w.zip").write_bytes(raw)
    assert bench.file("w.zip", None, "white").refused().reason == "zip-encrypted"


def test_a_zip_member_s_name_reaches_no_file(bench: Bench) -> None:
    zipped(
        bench.folder / "w.zip", {"../../out\n.csv": f"imei\n{A}\n1\n", "/etc/b.csv": f"imei\n{B}\n"}
    )
    outcome = bench.file("w.zip", None, "white").load()
    assert bench.keys("white") == [A, B]
    assert [file.name for file in outcome.files] == ["w.zip!../../out?.csv", "w.zip!/etc/b.csv"]
    assert {path.name for path in bench.folder.iterdir()} == {
        "w.zip", "lists.toml", "out.eir", "out.eir.rejects.csv",
    }  # fmt: skip
