"""Orders by hand as list files: what was exported loads back to the same digest."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eir.core.orders import HOLDABLE_REASONS, LISTS_BY_HAND, MODES, Hold, Order, Override
from eir.core.subscriber import Numbering
from eir.errors import Refused
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.store.export import export
from eir.store.load import load

pytest.importorskip("duckdb")

AT = st.integers(1_000_000_000, 4_000_000_000)
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\",'؛ن‌‍"), max_size=20
).map(str.strip)
WHO = TEXT.filter(bool)
NUMBER = st.integers(10_000, 10**15 - 1)
KEY = st.integers(1, 10**14 - 1)
OVERRIDES = st.builds(
    Override,
    KEY,
    NUMBER | st.just(0),
    st.booleans(),
    AT | st.just(0),
    st.just(False),
    WHO,
    AT,
    TEXT,
)
HOLDS = st.builds(
    Hold,
    AT,
    st.frozensets(st.integers(1, 99_999_999), max_size=4).map(lambda tacs: tuple(sorted(tacs))),
    st.sampled_from(("", *HOLDABLE_REASONS)),
    st.sampled_from(("", "98912", "1")),
    WHO,
    AT,
    TEXT,
)
ORDERS = st.builds(
    lambda what, key, *said: Order(what, *((0, 0) if what in MODES else (key, key)), *said),
    st.sampled_from((MODES[0], *LISTS_BY_HAND)),
    KEY,
    WHO,
    AT,
    TEXT,
)


def by(rows: st.SearchStrategy[object], *names: str) -> st.SearchStrategy[list[object]]:
    return st.lists(
        rows, max_size=5, unique_by=lambda row: tuple(getattr(row, name) for name in names)
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(by(OVERRIDES, "imei", "msisdn"), st.lists(HOLDS, max_size=4, unique=True),
       by(ORDERS, "what"))  # fmt: skip
@example([Override(1, 0, True, 0, False, 'a,"b"', 1_000_000_000, "چرا")],
         [Hold(1_900_000_000, (), "", "", "a"), Hold(1_900_000_000, (), "", "", "b")],
         [Order("mode.shadow", who="x", at=1_000_000_000, why="y")])  # fmt: skip
def test_what_was_exported_loads_back(
    tmp_path_factory: pytest.TempPathFactory,
    overrides: list[Override],
    holds: list[Hold],
    orders: list[Order],
) -> None:
    folder = tmp_path_factory.mktemp("orders")
    writer = SnapshotWriter(SnapshotHead("operator", "local", "0" * 36, 1, 1))
    writer.add_overrides(overrides)
    writer.add_holds(holds)
    writer.add_orders(orders)
    before = open_snapshot(writer.write(folder / "before").path)
    manifest = export(before, folder / "lists")
    load(manifest, folder / "after", Numbering())
    after = open_snapshot(folder / "after")
    assert after.digest == before.digest
    for name in ("overrides", "holds", "orders"):
        assert after.orders(name) == before.orders(name)


def loaded(folder: Path, name: str, text: str) -> tuple[object, ...]:
    (folder / "orders.csv").write_text(text, encoding="utf-8")
    manifest = folder / "manifest.toml"
    file = f'[[file]]\npath = "orders.csv"\nlist = "{name}"\n'
    manifest.write_text(f'feed = "operator"\nmax_reject_share = 0.9\n{file}')
    load(manifest, folder / "out", Numbering())
    return open_snapshot(folder / "out").orders(name)


def rejects(folder: Path) -> list[str]:
    with (folder / "out.rejects.csv").open(newline="") as file:
        return [row["reason"] for row in csv.DictReader(file)]


def test_a_hold_is_a_row_a_tac(tmp_path: Path) -> None:
    text = (
        "hold,tac,until,reason,msisdn_prefix\n"
        "1,35999902,1900000000,grace-expired,98912\n1,35999901,1900000000,grace-expired,98912\n"
        "2,,2030-01-01,,\n2,3599990,2030-01-01,,\n2,,2030-01-01,stolen,\n2,,2030-01-01,,0912\n"
    )
    everybody, two = loaded(tmp_path, "holds", text)
    assert two == Hold(1_900_000_000, (35_999_901, 35_999_902), "grace-expired", "98912")
    assert isinstance(everybody, Hold)
    assert everybody.tacs == ()
    reasons = ["tac-length", "reason-unmapped", "msisdn-not-international"]
    assert rejects(tmp_path) == reasons


def test_of_two_modes_the_newer_stands(tmp_path: Path) -> None:
    text = (
        "what,from,to,who,at,why\nmode.shadow,,,a,1700000000,x\nmode.enforce,,,b,1800000000,y\n"
        "released,989121234567,989121234567,a,1700000000,z\n"
    )
    released, mode = sorted(
        loaded(tmp_path, "orders", text), key=lambda row: row.what != "released"
    )
    assert mode == Order("mode.enforce", who="b", at=1_800_000_000, why="y")
    assert released == Order("released", 989_121_234_567, 989_121_234_567, "a", 1_700_000_000, "z")


def test_what_is_no_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="order-invalid"):
        loaded(tmp_path, "orders", "what,from,to\nwhite,1,1\n")
