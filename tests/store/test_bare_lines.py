"""Lines of bare digits by compiled code: the same load, to the last reject, as without it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eir.core.bare_lines import IMEI, IMSI, MSISDN, SHORTEST_LINE_BYTES, take
from eir.store import load as loading
from eir.store.importers import bare_lines, reading
from tests.store.list_bench import Bench

LISTS = {"white": ("imei",), "bindings": ("imei", "msisdn"), "bindings.imsi": ("imsi", "imei")}

digits = st.text(alphabet="0123456789", max_size=18)
fields = st.one_of(
    digits,
    st.from_regex("[0-9]{14,16}", fullmatch=True),
    st.from_regex("[1-9][0-9]{9,13}", fullmatch=True),
    st.sampled_from(["35209900176148", "352099001761481", "3520990017614801", "0" * 14, "۱۲۳"]),
    st.text(alphabet='0123456789 "\t;-x', max_size=20),
)
rows = st.lists(st.lists(fields, min_size=1, max_size=3).map(",".join), max_size=25)


def outcome(folder: Path, name: str, raw: bytes, *, typed: bool) -> object:
    """All that a load of one file says and does."""
    bench = Bench(folder).file("list.csv", raw, name, typed=typed)
    found = bench.load()
    return found.files, found.lists, found.facts.digest, found.rejects_path and bench.rejects()


@settings(max_examples=12, deadline=None)
@given(rows, st.sampled_from(sorted(LISTS)), st.booleans(), st.booleans(), st.booleans())
@example(["35209900176148"] * 3 + ["", "x", "352099001761481"], "white", False, True, True)
@example(
    ["35209900176148,989121234567", "35209900176148,0912", "1,2"], "bindings", False, False, False
)
def test_a_load_is_the_same_as_without_it(
    lines: list[str], name: str, typed: bool, returns: bool, last: bool
) -> None:
    end = "\r\n" if returns else "\n"
    text = end.join([",".join(LISTS[name]), *lines]) + (end if last else "")
    found = []
    for read in (bare_lines.read_lines, reading.read_piece):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(loading.bare_lines, "read_lines", read)
            found.append(outcome(Path(folder), name, text.encode(), typed=typed))
    assert found[0] == found[1]


def test_lines_are_numbered_as_in_the_file_across_chunks_and_full_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare_lines, "_CHUNK_BYTES", 100)
    monkeypatch.setattr(bare_lines, "_LEFT_AT_ONCE", 2)
    good = "35209900176148"
    lines = [good if place % 3 else f"x{place}" for place in range(2, 200)]
    bench = Bench(tmp_path).file("list.csv", "\n".join(["imei", *lines]), "white")
    assert bench.load().files[0].rows == len(lines) - 66
    told = [(int(line), value) for _, line, _, value, _ in bench.rejects()]
    assert told == [(place, f"x{place}") for place in range(3, 200, 3)]


def test_a_file_that_grew_since_it_was_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = loading._Load.survey

    def grown(run: loading._Load) -> object:
        found = survey(run)
        with (tmp_path / "list.csv").open("a") as file:
            file.write("35209900176148\n")
        return found

    monkeypatch.setattr(loading._Load, "survey", grown)
    bench = Bench(tmp_path).file("list.csv", "imei\n35209900176148\n", "white")
    assert bench.refused().reason == "file-changed"


@given(st.binary(max_size=200), st.sampled_from([[IMEI], [MSISDN], [IMSI, IMEI], [IMEI, MSISDN]]))
@settings(max_examples=120, deadline=None)
def test_whatever_bytes_come_each_is_read_once_and_none_beyond(
    raw: bytes, kinds: list[int]
) -> None:
    lines = np.frombuffer(b"0" * 20 + raw + b"1" * 20, np.uint8)  # digits that are not its own
    shape = np.array([(kind, place) for place, kind in enumerate(kinds)], np.int64)
    most = len(raw) // SHORTEST_LINE_BYTES + 2
    found, wrong = np.full((2, most), 7, np.uint64), np.zeros(most, np.uint8)
    left, counts = np.zeros((len(raw) + 1, 3), np.int64), np.zeros(4, np.int64)
    take(lines.ctypes.data + 20, len(raw), shape, found, wrong, left, counts)
    good, odd, seen, at = counts.tolist()
    cut = raw.split(b"\n")
    assert (at, seen) == (len(raw), len(cut) - (cut[-1] == b""))
    assert good + odd == seen
    for begin, end, line in left[:odd].tolist():
        assert raw[begin:end].rstrip(b"\n") == cut[line].rstrip(b"\n")
