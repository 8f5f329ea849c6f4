"""The sample registry: files that say what the population says, and every row of the table."""

from __future__ import annotations

import csv
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from eir.core.imei import key_from_digits
from eir.core.subscriber import ImsiCode, imsi_text
from eir.ops.demo import cast
from eir.ops.demo.population import LISTS, SECTIONS, plan_population
from eir.ops.demo.sample import SampleFacts, write_sample
from tests.model.naive_eir import BlackList, Facts, Members, Override, Policy, Query, Verdict, check

DEVICES, SEED, NOW = 6_000, 11, 1_750_000_000
POLICY = Policy(
    black={reason: BlackList(binding_overrides=True) for reason in cast.BINDING_OVERRIDES},
    home_plmns=cast.HOME_PLMNS,
)
HEADERS = {
    "bindings": "imei,msisdn",
    "bindings.imsi": "imei,imsi",
    "grey": "imei,msisdn,deadline",
    "imsi-msisdn": "imsi,msisdn",
    "overrides": "imei,msisdn,action,until,forced",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleFacts:
    return write_sample(tmp_path_factory.mktemp("sample"), DEVICES, seed=SEED, now=NOW)


@pytest.fixture(scope="module")
def facts(sample: SampleFacts) -> Facts:
    return read_facts(sample)


def entries(manifest: Path) -> Iterator[tuple[str, Path]]:
    for entry in tomllib.loads(manifest.read_text())["file"]:
        assert entry["format"] == "csv"
        yield entry["list"], manifest.parent / entry["path"]


def rows_by_list(sample: SampleFacts) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for manifest in (sample.registry_manifest, sample.operator_manifest):
        for name, path in entries(manifest):
            with path.open(newline="") as file:
                rows[name] += csv.DictReader(file)
    return rows


def members(rows: list[dict[str, str]]) -> Members:
    keys, ranges = set(), []
    for row in rows:
        if "tac" in row:
            first = int(row["tac"]) * 1_000_000
            ranges.append((first, first + 999_999))
        elif "from" in row:
            ranges.append((int(row["from"]), int(row["to"])))
        else:
            keys.add(int(row.get("imei") or row["msisdn"]))
    return Members(frozenset(keys), tuple(ranges))


def by_imei(rows: list[dict[str, str]], column: str) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        found[int(row["imei"])].add(row[column])
    return {imei: frozenset(values) for imei, values in found.items()}


def read_facts(sample: SampleFacts) -> Facts:
    rows = rows_by_list(sample)
    numbers = by_imei(rows["bindings"], "msisdn")
    return Facts(
        white=members(rows["white"]),
        legacy=members(rows["legacy"]),
        bound_elsewhere=members(rows["bound-elsewhere"]),
        black={
            name.removeprefix("black."): members(rows[name])
            for name in rows
            if name.startswith("black.")
        },
        bindings={imei: frozenset(map(int, values)) for imei, values in numbers.items()},
        imsi_bindings=by_imei(rows["bindings.imsi"], "imsi"),
        grey={
            (int(row["imei"]), int(row["msisdn"] or 0)): int(row["deadline"])
            for row in rows["grey"]
        },
        imsi_msisdn={row["imsi"]: int(row["msisdn"]) for row in rows["imsi-msisdn"]},
        exempt_all=members(rows["exempt.subscriber.all"]),
        exempt_registration=members(rows["exempt.subscriber.registration"]),
        exempt_equipment=members(rows["exempt.equipment"]),
        released=members(rows["released"]),
        overrides={
            (int(row["imei"] or 0), int(row["msisdn"] or 0)): Override(
                row["action"] == "allow", int(row["until"] or 0), row["forced"] == "true"
            )
            for row in rows["overrides"]
        },
    )


def ask(facts: Facts, imei: str, msisdn: str = "", imsi: str = "") -> Verdict:
    query = Query(key_from_digits(imei), int(msisdn or 0), imsi)
    return check(facts, POLICY, query, NOW, NOW)


def test_every_question_gets_its_row_and_reason(sample: SampleFacts, facts: Facts) -> None:
    with sample.queries.open(newline="") as file:
        questions = list(csv.DictReader(file))
    assert [int(q["row"]) for q in questions] == list(range(1, 17))
    assert len({q["name"] for q in questions}) == 16
    for q in questions:
        verdict = ask(facts, q["imei"], q["msisdn"], q["imsi"])
        assert (verdict.row, verdict.reason) == (int(q["row"]), q["reason"]), q["name"]


def test_a_sample_of_one_device_answers_every_question(tmp_path: Path) -> None:
    tiny = read_facts(write_sample(tmp_path, 1, seed=SEED, now=NOW))
    for q in cast.questions():
        assert ask(tiny, q.imei, q.msisdn, q.imsi).row == q.row, q.name


def test_the_questions_hold_for_years(sample: SampleFacts, facts: Facts) -> None:
    for q in cast.questions():
        query = Query(key_from_digits(q.imei), int(q.msisdn or 0), q.imsi)
        later = NOW + 5 * 365 * 86_400
        assert check(facts, POLICY, query, later, later).row == q.row, q.name


def test_the_population_itself_meets_most_rows(facts: Facts) -> None:
    """Without the cast: each device asked with its own number, with a stranger's, with none."""
    populace = {
        key for name in (facts.white, facts.legacy, facts.exempt_equipment) for key in name.keys
    }
    populace |= {key for black in facts.black.values() for key in black.keys}
    populace |= {key for key, _ in facts.grey}
    met = set()
    for key in populace:
        if key // 1_000_000 == cast.CAST_TAC:
            continue
        own = min(facts.bindings.get(key, {0}))
        greyed = next((n for k, n in ((key, own), (key, 0)) if (k, n) in facts.grey), own)
        for msisdn in (own, greyed, 989_349_999_999, 0):
            met.add(ask(facts, f"{key:014d}", str(msisdn)).row)
    assert met >= {4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15}


def test_headers_and_counts(sample: SampleFacts) -> None:
    rows = rows_by_list(sample)
    assert set(rows) == set(SECTIONS)
    assert {name: len(found) for name, found in rows.items()} == sample.rows
    for manifest in (sample.registry_manifest, sample.operator_manifest):
        for name, path in entries(manifest):
            header = path.read_text().split("\n", 1)[0]
            numbers = name == "released" or name.startswith("exempt.subscriber")
            single = HEADERS.get(name, "msisdn" if numbers else "imei")
            assert header in ({single, "tac", "from,to"})


def test_manifests_name_their_feed_and_every_file(sample: SampleFacts) -> None:
    registry, operator = (
        tomllib.loads(path.read_text())
        for path in (sample.registry_manifest, sample.operator_manifest)
    )
    assert (registry["feed"], operator["feed"]) == ("registry", "operator")
    named = [entry["path"] for manifest in (registry, operator) for entry in manifest["file"]]
    on_disk = {path.name for path in sample.queries.parent.glob("*.csv")} - {"queries.csv"}
    assert sorted(named) == sorted(on_disk)
    of_registry = {entry["list"] for entry in registry["file"]}
    assert of_registry == {*LISTS, "bindings", "bindings.imsi", "grey"} - {
        "exempt.equipment",
        "black.unpaid",
    }


def test_the_files_say_what_the_population_says(sample: SampleFacts, facts: Facts) -> None:
    rows = plan_population(DEVICES, seed=SEED, now=NOW).rows(0)
    for key, number in zip(*(column.tolist() for column in rows["bindings"]), strict=True):
        assert number in facts.bindings[key]
    for code, number in zip(*(column.tolist() for column in rows["imsi-msisdn"]), strict=True):
        assert facts.imsi_msisdn[imsi_text(ImsiCode(code))] == number
    for key, number, deadline in zip(*(c.tolist() for c in rows["grey"]), strict=True):
        assert facts.grey[key, number] == deadline
    white = (sample.queries.parent / "white.csv").read_text().split()
    assert {f"{key:014d}" for key in rows["white"][0].tolist()} < set(white[1:])
    assert any(text.startswith("01") for text in white)


def test_an_empty_file_is_meant_to_be_empty(tmp_path: Path) -> None:
    tiny = write_sample(tmp_path, 1, seed=SEED, now=NOW)
    for manifest in (tiny.registry_manifest, tiny.operator_manifest):
        for entry in tomllib.loads(manifest.read_text())["file"]:
            lines = (tmp_path / entry["path"]).read_text().splitlines()
            assert entry.get("allow_empty", False) == (len(lines) == 1), entry["path"]


def test_rows_come_in_no_order(sample: SampleFacts) -> None:
    lines = (sample.queries.parent / "white.csv").read_text().split()[1:]
    assert lines != sorted(lines)
    assert len(lines) == len(set(lines))


def test_the_same_seed_writes_the_same_bytes(sample: SampleFacts, tmp_path: Path) -> None:
    write_sample(tmp_path, DEVICES, seed=SEED, now=NOW)
    for path in sample.queries.parent.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_seed_writes_other_devices(sample: SampleFacts, tmp_path: Path) -> None:
    write_sample(tmp_path, DEVICES, seed=SEED + 1, now=NOW)
    name = "white.csv"
    assert (tmp_path / name).read_bytes() != (sample.queries.parent / name).read_bytes()


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_sample(tmp_path, 100, now=NOW, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)


def test_an_interrupted_sample_has_no_manifest(tmp_path: Path) -> None:
    """Also where a complete one stood before: a manifest never names half a file."""
    write_sample(tmp_path, 100, now=NOW)

    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path, 100, now=NOW, progress=interrupt)
    assert not list(tmp_path.glob("*.toml"))


def test_too_few_devices_leave_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="devices"):
        write_sample(tmp_path / "sample", 0, now=NOW)
    assert not (tmp_path / "sample").exists()
