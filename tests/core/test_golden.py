"""The golden table itself: it covers the decision table, and tells a wrong kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eir.core import batch, golden, tables
from eir.core.golden import POLICY, VECTORS
from eir.core.policy import DEFAULT_STATUS, Status


def test_the_kernel_is_right() -> None:
    golden.verify_kernel()


def test_every_row_and_every_fixed_reason_has_a_vector() -> None:
    assert {vector.row for vector in VECTORS} == set(range(1, 17))
    assert {vector.reason for vector in VECTORS} >= set(DEFAULT_STATUS)
    assert {vector.decided for vector in VECTORS} == set(Status)
    assert any(vector.status != vector.decided for vector in VECTORS)


def test_a_wrong_vector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, vector in enumerate(VECTORS):
        wrong = replace(vector, valid_until=vector.valid_until + 1)
        monkeypatch.setattr(golden, "VECTORS", (*VECTORS[:place], wrong, *VECTORS[place + 1 :]))
        with pytest.raises(RuntimeError, match=vector.says):
            golden.verify_kernel()


def test_a_kernel_that_answers_otherwise_in_a_batch_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = batch.check

    def wrong_from_the_second_on(*arguments: object) -> None:
        right(*arguments)
        arguments[9][1:, 0] = Status.WHITELISTED  # type: ignore[index]

    monkeypatch.setattr(tables.batch, "check", wrong_from_the_second_on)
    with pytest.raises(RuntimeError, match="in a batch"):
        golden.verify_kernel()


def test_in_shadow_nobody_is_refused() -> None:
    """The same decisions, and nothing leaves as BLACKLISTED or UNKNOWN."""
    shadow = golden.golden_tables(replace(POLICY, mode="shadow"))
    queries = golden.queries()
    for vector, answer in zip(VECTORS, golden.answers(shadow, queries), strict=True):
        row, reason, decided, status, until = answer
        assert (row, reason, decided, until) == (
            vector.row, vector.reason, vector.decided, vector.valid_until,
        )  # fmt: skip
        refused = decided in (Status.BLACKLISTED, Status.UNKNOWN)
        assert status == (Status.GREYLISTED if refused else decided)
