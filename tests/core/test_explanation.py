"""An explanation says what the kernel did: same verdict, and facts that lead to it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core import golden
from eir.core.explanation import explain
from eir.core.policy import CODES, ROWS
from eir.core.tables import Tables
from tests.model import naive_eir as naive
from tests.model.test_kernel_is_naive import (
    FACTS,
    NOW,
    POLICIES,
    QUERIES,
    TIMES,
    code,
    engine_policy,
    operator,
    registry,
)

ROW_OF_FACT = {
    "not an IMEI": 3,
    "exempt equipment": 8,
    "the pair is bound": 9,
    "in legacy": 10,
    "a grey entry": 13,
    "in white": 15,
}
"""The lowest row that a fact alone leads to: nobody with it falls through to a later one."""


@settings(max_examples=60, deadline=None)
@given(FACTS, POLICIES, TIMES, st.sampled_from(QUERIES))
def test_an_explanation_agrees_with_the_verdict(
    facts: naive.Facts, chosen: naive.Policy, grace_time: int, query: naive.Query
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generations = registry(facts, Path(folder, "r")), operator(facts, Path(folder, "o"))
        tables = Tables(*generations, engine_policy(chosen))
        told = explain(
            tables, query.imei, query.msisdn, code(query.imsi), now=NOW, grace_time=grace_time
        )
    due = naive.check(facts, chosen, query, NOW, grace_time)
    assert (told.row, told.reason, told.decided, told.status, told.valid_until) == (
        due.row, due.reason, due.decided, due.status, due.valid_until,
    )  # fmt: skip
    outcomes = ["no"] * (due.row - 1) + ["yes"] + ["not reached"] * (16 - due.row)
    assert [rule.outcome for rule in told.rules] == outcomes
    assert [rule.row for rule in told.rules] == [row for row, _ in ROWS]
    assert bool(told.changed_by) == (told.status != told.decided)
    assert told.number == (query.msisdn or facts.imsi_msisdn.get(query.imsi, 0))
    assert all(told.row <= row for fact, row in ROW_OF_FACT.items() if fact in told.facts)
    if 0 < query.imei < 10**14:
        held = [name for name, members in facts.black.items() if query.imei in members]
        flags = {name: chosen.black.get(name, naive.BlackList()) for name in held}
        assert set(told.black) == {
            name for name in held if naive.active(flags[name], NOW, grace_time)
        }
        deadline = facts.grey.get((query.imei, told.number), facts.grey.get((query.imei, 0), -1))
        assert told.deadline == deadline
        assert ("a grey entry" in told.facts) == (deadline >= 0)
    assert [origin.feed for origin in told.origins] == ["registry", "operator"]


def test_explaining_counts_nothing_and_agrees_on_every_golden_vector() -> None:
    tables = golden.golden_tables()
    for vector in golden.VECTORS:
        told = explain(
            tables, vector.imei, vector.msisdn, vector.imsi,
            now=golden.NOW, grace_time=golden.GRACE_TIME,
        )  # fmt: skip
        assert (told.row, told.reason, told.decided, told.status, told.valid_until) == (
            vector.row, vector.reason, vector.decided, vector.status, vector.valid_until,
        )  # fmt: skip
        assert told.changed_by == ("hold" if told.status != told.decided else "")


def test_what_changed_a_status_is_named() -> None:
    shadow = golden.golden_tables(replace(golden.POLICY, mode="shadow"))
    refused = next(vector for vector in golden.VECTORS if vector.reason == "stolen")
    told = explain(
        shadow, refused.imei, refused.msisdn, refused.imsi,
        now=golden.NOW, grace_time=golden.GRACE_TIME,
    )  # fmt: skip
    assert (told.changed_by, told.reason) == ("shadow", "stolen")
    assert told.black == ("stolen",)


def test_batches_are_counted_by_code_and_status() -> None:
    tables = golden.golden_tables()
    counts = np.zeros((CODES, 5), np.uint64)
    imei, msisdn, imsi = golden.queries().T.copy()
    verdicts = tables.check(
        imei, msisdn, imsi, now=golden.NOW, grace_time=golden.GRACE_TIME, counts=counts
    )
    expected = np.zeros_like(counts)
    for status, _, verdict_code, _ in verdicts.rows.tolist():
        expected[verdict_code, status] += np.uint64(1)
    assert np.array_equal(counts, expected)
    assert int(counts.sum()) == len(golden.VECTORS)
