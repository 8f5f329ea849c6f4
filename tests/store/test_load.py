"""List files in, one snapshot out: every format, every conflict, one small test each."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from eir import limits
from eir.core.orders import Override
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.feed.codec import open_snapshot
from eir.store.importers.scratch import Effort, Progress, Scratch
from tests.store.list_bench import DAY_END, NOW, A, B, Bench, C, zipped


def test_imeis_of_14_15_and_16_digits_are_one_identity(bench: Bench) -> None:
    lines = ["imei", f"{A:014d}", f"{A:014d}2", f"{A:014d}99", f"{C:014d}", f"{B:014d}8"]
    outcome = bench.file("w.csv", "\n".join(lines) + "\n", "white").load()
    assert bench.keys("white") == [C, A, B]
    assert outcome.lists[0].duplicates == 2
    assert outcome.files[0].wrong_check_digits == 1
    assert outcome.files[0].rejected == 0
    assert outcome.rejects_path is None
    assert outcome.facts.path == bench.out
    assert outcome.facts.counts == {"white": 3}
    assert (outcome.head.registry_id, outcome.head.serial, outcome.head.made_at) == (
        "local",
        1,
        NOW,
    )


def test_ranges_and_tacs_touching_or_overlapping_become_one(bench: Bench) -> None:
    bench.file("t.csv", "tac\n35209900\n35209901\n35209900\n", "black.stolen")
    bench.file("r.csv", "from,to\n35209901500000,352099029999991\n49015420000000,49015420000009\n",
               "black.stolen")  # fmt: skip
    bench.file("k.csv", f"imei\n{A}\n", "black.stolen")
    outcome = bench.load()
    assert bench.ranges("black.stolen") == [
        [35209900_000000, 35209902_999999],
        [49015420_000000, 49015420_000009],
    ]
    assert bench.keys("black.stolen") == [A]
    assert (outcome.lists[0].merged_ranges, outcome.lists[0].duplicates) == (2, 1)


def test_columns_may_stand_in_any_order(bench: Bench) -> None:
    bench.file("b.csv", f"MSISDN, IMEI\n989121234567,{A}\n", "bindings").load()
    assert bench.rows("bindings") == [(A, 989121234567)]


def test_several_files_make_one_list(bench: Bench) -> None:
    bench.file("1.csv", f"imei,msisdn\n{A},989121234567\n{A},989120000000\n", "bindings")
    bench.file("2.csv", f"imei,msisdn\n{B},989121234567\n{A},989121234567\n", "bindings")
    bench.file("3.csv", f"imei,imsi\n{A},001010123456789\n", "bindings.imsi")
    outcome = bench.load()
    assert bench.rows("bindings") == [(A, 989120000000), (A, 989121234567), (B, 989121234567)]
    assert bench.rows("bindings.imsi") == [(A, 1010123456789 << 4 | 15)]
    assert {item.name: item.duplicates for item in outcome.lists} == {
        "bindings": 1,
        "bindings.imsi": 0,
    }


def test_what_people_typed_is_normalised_where_the_manifest_says_so(bench: Bench) -> None:
    lines = "imei,msisdn\n35-209900-176148-1,0912 123 4567\n۴۹۰۱۵۴۲۰۳۲۳۷۵۱,+98-912-0000000\n"
    bench.file("b.csv", lines, "bindings", typed=True).load()
    assert bench.rows("bindings") == [(A, 989121234567), (B, 989120000000)]


def test_without_typed_the_same_is_a_reject_that_says_so(bench: Bench) -> None:
    bench.file("b.csv", f"imei,msisdn\n{A},09121234567\n۴۹۰۱۵۴۲۰۳۲۳۷۵۱,989120000000\n", "bindings")
    bench.load()
    assert bench.rejects() == [
        ("b.csv", "2", "msisdn", "09121234567", "msisdn-not-international"),
        ("b.csv", "3", "imei", "۴۹۰۱۵۴۲۰۳۲۳۷۵۱", "imei-characters"),
    ]


def test_deadlines_are_the_end_of_the_day_there(bench: Bench) -> None:
    lines = f"imei,msisdn,deadline\n{A},989121234567,2025-12-31\n{A},,20251231\n{B},,{NOW}\n"
    lines += f"{C:014d},,2025-12-31T23:59:59+03:30\n"
    bench.file("g.csv", lines, "grey").load()
    assert bench.rows("grey") == [
        (C, 0, DAY_END - 1),
        (A, 0, DAY_END),
        (A, 989121234567, DAY_END),
        (B, 0, NOW),
    ]


def test_a_jalali_year_is_refused_row_by_row(bench: Bench) -> None:
    bench.file("g.csv", f"imei,msisdn,deadline\n{A},,1404-10-10\n{B},,{NOW}\n", "grey").load()
    assert bench.rejects() == [("g.csv", "2", "deadline", "1404-10-10", "date-jalali")]
    assert bench.rows("grey") == [(B, 0, NOW)]


def test_operator_lists(bench: Bench) -> None:
    bench.head = 'feed = "operator"\n'
    bench.file("e.csv", "msisdn\n989121234567\n", "exempt.subscriber.all")
    bench.file("r.csv", "from,to\n989120000000,989120000999\n", "released")
    bench.file("i.csv", "imsi,msisdn\n432110000000001,989121234567\n", "imsi-msisdn")
    bench.file("o.csv", f"imei,msisdn,action,until,forced\n{A},,deny,,\n,989121234567,Allow,"
               f"2025-12-31,yes\n,,deny,,\n{B},,deny,,yes\n", "overrides")  # fmt: skip
    bench.load()
    generation = open_snapshot(bench.out)
    assert bench.keys("exempt.subscriber.all") == [989121234567]
    assert bench.ranges("released") == [[989120000000, 989120000999]]
    assert bench.rows("imsi-msisdn") == [(432110000000001 << 4 | 15, 989121234567)]
    assert generation.sections["overrides"].content == (
        Override(0, 989121234567, True, DAY_END, True),
        Override(A, 0, False),
    )
    assert [row[1:] for row in bench.rejects()] == [
        ("4", "imei", "", "identity-missing"),
        ("5", "forced", "yes", "forced-deny"),
    ]


def test_number_ranges_have_one_length_and_one_direction(bench: Bench) -> None:
    bench.head = 'feed = "operator"\n'
    bench.file("r.csv", "from,to\n98912,989129999999\n989129,989121\n", "released").load()
    assert [row[4] for row in bench.rejects()] == ["range-lengths", "range-reversed"]


REASONS = '[reasons]\n"Stolen device" = "stolen"\n"Duplicate, local" = "cloned"\n'


def test_dirbs_blacklist_goes_to_the_lists_its_reasons_name(bench: Bench) -> None:
    lines = (
        f"imei,block_date,reasons\n{A},20250101,Stolen device\n{B},20250101,"
        f'"Stolen device|Duplicate, local"\n{C:014d},20250101,Stolen device|Odd\n'
        "A1B2C3*#,20250101,Stolen device\n35209900176149,20991231,Stolen device\n"
    )
    bench.file("blacklist.csv", lines, "", format="dirbs-blacklist")
    bench.load("max_reject_share = 1\n" + REASONS)
    assert (bench.keys("black.stolen"), bench.keys("black.cloned")) == ([A, B], [B])
    assert [row[1:] for row in bench.rejects()] == [
        ("4", "reasons", "Stolen device|Odd", "reason-unmapped"),
        ("5", "imei", "A1B2C3*#", "imei-characters"),
        ("6", "block_date", "20991231", "block-date-future"),
    ]


def test_dirbs_notifications_become_deadlines_at_the_day_s_beginning(bench: Bench) -> None:
    lines = (
        "imei,imsi,msisdn,block_date,reasons,amnesty_granted\n"
        f"{A},432110000000001,989121234567,20260101,Anything,True\n{B},432110000000001,,20260101,x,\n"
    )
    bench.file("n.csv", lines, "", format="dirbs-notifications").load()
    assert bench.rows("grey") == [(A, 989121234567, DAY_END)]
    assert bench.rejects() == [("n.csv", "3", "msisdn", "", "msisdn-missing")]


def test_dirbs_exceptions_bind_the_number_else_the_imsi(bench: Bench) -> None:
    lines = f"imei,imsi,msisdn\n{A},432110000000001,989121234567\n{B},432110000000001,\n{B},,\n"
    bench.file("e.csv", lines, "", format="dirbs-exceptions")
    bench.file("o.csv", f"imei,imsi\n{A},00101012345\n", "", format="dirbs-exceptions")
    bench.load()
    assert bench.rows("bindings") == [(A, 989121234567)]
    assert bench.rows("bindings.imsi") == [
        (A, 101012345 << 4 | 11),
        (B, 432110000000001 << 4 | 15),
    ]
    assert [row[4] for row in bench.rejects()] == ["identity-missing"]


def test_dirbs_zip_is_read_without_the_deltas_beside_the_list(bench: Bench) -> None:
    zipped(bench.folder / "x.zip", {
        "20250101_blacklist.csv": f"imei,block_date,reasons\n{A},20250101,Stolen device\n",
        "20250101_blacklist_delta_-1_7_blocked.csv":
            f"imei,block_date,reasons,change_type\n{B},20250101,Stolen device,blocked\n",
        "__MACOSX/._a.csv": "junk", "readme.txt": "junk",
    })  # fmt: skip
    bench.file("x.zip", None, "", format="dirbs-blacklist")
    outcome = bench.load("max_reject_share = 1\n" + REASONS)
    assert bench.keys("black.stolen") == [A]
    assert [file.note for file in outcome.files] == ["a delta", ""]


def test_dirbs_delta_is_no_full_list(bench: Bench) -> None:
    lines = f"imei,imsi,msisdn,change_type\n{A},432110000000001,989121234567,added\n"
    refused = bench.file("d.csv", lines, "", format="dirbs-exceptions").refused()
    assert refused.reason == "file-header"
    assert "delta" in refused.detail


def test_ceir_list(bench: Bench) -> None:
    bench.file("c.csv", f"Device ID\n{A}\n{B}\n", "black.stolen", format="ceir").load()
    assert bench.keys("black.stolen") == [A, B]


def test_ceir_incremental_file_is_no_full_list(bench: Bench) -> None:
    bench.file("c.csv", f"Device Id,Operation\n{A},Add\n", "black.stolen", format="ceir")
    refused = bench.refused()
    assert (refused.reason, "delta" in refused.detail) == ("file-header", True)


@pytest.mark.parametrize("format_name", ["ceir", "csv"])
def test_a_message_is_neither_data_nor_an_empty_list(bench: Bench, format_name: str) -> None:
    bench.file("m.csv", "Message\nNo records found.\n", "white", format=format_name)
    refused = bench.refused()
    assert refused.reason == "file-message"
    assert "No records found." in refused.detail
    assert not bench.out.exists()


def test_a_message_taken_as_an_empty_list_on_demand(bench: Bench) -> None:
    bench.file("m.csv", "Message\nNo records found.\n", "white", format="ceir", allow_empty=True)
    bench.file("w.csv", f"imei\n{A}\n", "legacy")
    outcome = bench.load()
    assert outcome.facts.counts == {"white": 0, "legacy": 1}
    assert "No records found." in outcome.files[0].note


def test_an_imsi_with_two_numbers_has_none(bench: Bench) -> None:
    bench.head = 'feed = "operator"\n'
    bench.file("i.csv", "imsi,msisdn\n43211000001,989121234567\n43211000002,989120000000\n"
               "43211000001,989121111111\n43211000001,989121234567\n", "imsi-msisdn")  # fmt: skip
    outcome = bench.load()
    assert bench.rows("imsi-msisdn") == [(43211000002 << 4 | 11, 989120000000)]
    assert (outcome.lists[0].conflicts, outcome.lists[0].duplicates) == (1, 1)
    assert bench.conflicts() == [
        ("imsi-msisdn", "43211000001", "", "", "989121111111 989121234567", "imsi-several-numbers")
    ]


def test_the_later_of_two_deadlines_holds(bench: Bench) -> None:
    lines = f"imei,msisdn,deadline\n{A},,{NOW}\n{A},,{NOW + 9}\n{A},,{NOW + 9}\n{A},,{NOW + 5}\n"
    outcome = bench.file("g.csv", lines + f"{A},98912000,{NOW}\n", "grey").load()
    assert bench.rows("grey") == [(A, 0, NOW + 9), (A, 98912000, NOW)]
    assert (outcome.lists[0].conflicts, outcome.lists[0].duplicates) == (2, 1)
    assert [row[1:] for row in bench.conflicts()] == [
        (f"{A}", "", str(NOW + 9), str(lost), "several-deadlines") for lost in (NOW, NOW + 5)
    ]


def test_of_two_overrides_the_one_that_admits_holds(bench: Bench) -> None:
    bench.head = 'feed = "operator"\n'
    rows = [f"{A},,deny,,", f"{A},,allow,2025-12-31,", f"{A},,allow,,", f"{B},,deny,,",
            f"{B},,deny,2025-12-31,", f"{B},,deny,,"]  # fmt: skip
    lines = "\n".join(["imei,msisdn,action,until,forced", *rows])
    outcome = bench.file("o.csv", lines, "overrides").load()
    assert open_snapshot(bench.out).sections["overrides"].content == (
        Override(A, 0, True),
        Override(B, 0, False, DAY_END),
    )
    assert outcome.lists[0].conflicts >= 3
    assert {row[5] for row in bench.conflicts()} == {"override-twice"}


def test_too_many_rejects_fail_the_load_and_are_written_down(bench: Bench) -> None:
    bench.out.write_bytes(b"as it was")
    bench.file("big.csv", "imei\n" + "".join(f"{10**13 + n}\n" for n in range(1000)), "white")
    bench.file("small.csv", f"imei\n{A}\nbad\n12\n", "legacy")
    refused = bench.refused("max_reject_share = 0.5\n")
    assert (refused.reason, refused.where) == ("too-many-rejects", "small.csv")
    assert "2 of 3 rows" in refused.detail
    assert str(bench.folder / "out.eir.rejects.csv") in refused.detail
    assert len(bench.rejects()) == 2
    assert bench.out.read_bytes() == b"as it was"


def test_rejects_up_to_the_share_pass(bench: Bench) -> None:
    bench.file("w.csv", f"imei\n{A}\nbad\n", "white")
    outcome = bench.load("max_reject_share = 0.5\n")
    assert outcome.files[0].reasons == {"imei-characters": 1}
    assert outcome.rejects_path is not None
    assert outcome.rejects_path.stat().st_mode & 0o777 == 0o600


def test_old_reject_and_conflict_files_go_away(bench: Bench) -> None:
    for what in ("rejects", "conflicts"):
        (bench.folder / f"out.eir.{what}.csv").write_text("old")
    bench.file("w.csv", f"imei\n{A}\n", "white").load()
    assert not list(bench.folder.glob("out.eir.*"))


def test_equal_lists_give_equal_digests_whatever_their_order(bench: Bench) -> None:
    bench.file("1.csv", f"imei\n{A}\n{B}\n{C:014d}\n", "white")
    first = bench.load().facts.digest
    bench.entries.clear()
    bench.file("2.csv", f"imei\n{C:014d}5\n{B}\n", "white").file(
        "3.csv", f"imei\n{A}\n{A}\n", "white"
    )
    assert bench.load().facts.digest == first


def test_progress_ends_where_it_should(bench: Bench) -> None:
    told: list[Progress] = []
    bench.file("1.csv", f"imei\n{A}\nbad\n", "white").file("2.csv", f"imei\n{B}\n", "legacy")
    bench.load(progress=told.append)
    size = sum((bench.folder / name).stat().st_size for name in ("1.csv", "2.csv"))
    read = [step for step in told if step.stage == "read"]
    assert (read[-1].done, read[-1].total, read[-1].rows, read[-1].rejects) == (size, size, 3, 1)
    assert [step.done for step in read] == sorted(step.done for step in read)
    assert {step.stage for step in told} == {"survey", "read", "sort"}
    assert [step.done for step in told if step.stage == "sort" and step.done == step.total]


def test_an_interrupt_leaves_nothing(bench: Bench) -> None:
    def stop(step: Progress) -> None:
        if step.stage == "sort":
            raise KeyboardInterrupt

    bench.file("1.csv", f"imei\n{A}\n", "white")
    with pytest.raises(KeyboardInterrupt):
        bench.load(progress=stop)
    assert {path.name for path in bench.folder.iterdir()} == {"1.csv", "lists.toml"}


def test_an_interrupt_while_the_next_batch_is_fetched_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(step: Progress) -> None:
        if step.stage == "sort" and 0 < step.done < step.total:
            raise KeyboardInterrupt

    monkeypatch.setattr(limits, "LOAD_BATCH_ROWS", 2_048)
    keys = "\n".join(f"{key:014d}" for key in range(1, 20_001))
    bench.file("1.csv", f"imei\n{keys}\n", "white")
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        bench.load(progress=stop)
    assert threading.active_count() == before
    assert {path.name for path in bench.folder.iterdir()} == {"1.csv", "lists.toml"}
    assert bench.load().lists[0].items == 20_000


def test_a_folder_that_cannot_be_written(bench: Bench) -> None:
    bench.out = bench.folder / "missing" / "out.eir"
    assert bench.file("1.csv", f"imei\n{A}\n", "white").refused().reason == "scratch-unwritable"
    bench.out = bench.folder / "taken.eir"
    bench.out.mkdir()
    assert bench.refused().reason == "scratch-unwritable"


def test_no_room_for_the_tables_is_refused_whatever_is_asked_of_them(tmp_path: Path) -> None:
    with (
        pytest.raises(Refused, match="scratch-full"),
        Scratch(tmp_path, Numbering(), ZoneInfo("UTC"), Effort(1, 16)) as scratch,
    ):
        scratch.rows("SELECT list(range) FROM range(10_000_000)")
    assert list(tmp_path.iterdir()) == []


def test_no_database_file_is_made(tmp_path: Path) -> None:
    with Scratch(tmp_path, Numbering(), ZoneInfo("UTC")) as scratch:
        scratch.run("CREATE TABLE small AS SELECT 1")
        assert list(scratch.folder.iterdir()) == []


def test_reports_go_where_they_are_wanted(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reports = tmp_path_factory.mktemp("reports")
    bench.file("1.csv", f"imei\n{A}\nbad\n", "white")
    outcome = bench.load(reports=reports)
    assert outcome.rejects_path == reports / "lists.rejects.csv"
    assert outcome.rejects_path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused) as caught:
        bench.load(reports=reports / "missing")
    assert caught.value.reason == "scratch-unwritable"


def test_own_reasons_keep_the_ids_of_the_manifest(bench: Bench) -> None:
    for reason in ("stolen", "rented", "unpaid"):
        bench.file(f"{reason}.csv", f"imei\n{A}\n", f"black.{reason}")
    bench.load("[reason_ids]\nunpaid = 512\n")
    black = open_snapshot(bench.out).black()
    assert {name: section.reason_id for name, section in black.items()} == {
        "stolen": 256, "unpaid": 512, "rented": 513,
    }  # fmt: skip


def test_the_store_imports_without_the_extra(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('feed="registry"\n[[file]]\npath="x"\nlist="white"\n')
    code = f"""
import sys
import threading
sys.modules["duckdb"] = sys.modules["pyarrow"] = None
from pathlib import Path
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.store.load import load
try:
    load(Path({str(tmp_path / "m.toml")!r}), Path({str(tmp_path / "o")!r}), Numbering())
except Refused as refused:
    print(refused.reason, refused.detail)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert "extra-missing" in ran.stdout
    assert "pip install 'eir[load]'" in ran.stdout
