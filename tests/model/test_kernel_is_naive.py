"""Law 10: over any facts, policy and time, the compiled kernel says what the naive EIR says."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from eir.core import orders, policy
from eir.core.generation import OPERATOR, REGISTRY, Generation, reason_ids
from eir.core.policy import CODES
from eir.core.sieving import with_sieve
from eir.core.subscriber import imsi_from_digits
from eir.core.tables import Tables
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from tests.model import naive_eir as naive
from tests.model.naive_eir import BlackList, Facts, Hold, Members, Override, Policy, Query

NOW = 1_750_000_000
TIMES = st.integers(NOW - 2, NOW + 2)
TACS = (1_234_567, 35_209_900)
IMEIS = [tac * 1_000_000 + serial for tac in TACS for serial in (0, 1, 70_000)]
NUMBERS = [989_121_111_111, 989_352_222_222, 4_915_112_345_678, 12_345]
IMSIS = ["432111111111111", "00101123456789", "26201", "432200000000001"]
BLACK = ("stolen", "lost", "cloned", "unpaid")
PLMNS = ("43211", "00101", "262010", "26201")
HOLDABLE = ("", "grace-expired", "bound-to-other", "not-activated", "not-registered")
QUERIES = [
    Query(imei, number, imsi)
    for imei in (0, 10**14, *IMEIS)
    for number in (0, *NUMBERS)
    for imsi in ("", *IMSIS)
]


def members(keys: list[int], blocks: list[tuple[int, int]]) -> SearchStrategy[Members]:
    ranges = st.sets(st.sampled_from(blocks), max_size=1).map(lambda found: tuple(sorted(found)))
    return st.builds(Members, st.frozensets(st.sampled_from(keys), max_size=3), ranges)


DEVICES = members(IMEIS, [(tac * 1_000_000, tac * 1_000_000 + 999) for tac in TACS])
SUBSCRIBERS = members(NUMBERS, [(989_121_000_000, 989_121_999_999)])
STATUSES = st.sampled_from(policy.Status)


def mapping(
    keys: list[int], values: list[object]
) -> SearchStrategy[Mapping[int, frozenset[object]]]:
    some = st.frozensets(st.sampled_from(values), min_size=1, max_size=3)
    return st.dictionaries(st.sampled_from(keys), some, max_size=4)


def pairs() -> SearchStrategy[tuple[int, int]]:
    return st.tuples(st.sampled_from([0, *IMEIS]), st.sampled_from([0, *NUMBERS])).filter(any)


FACTS = st.builds(
    Facts,
    white=DEVICES,
    legacy=DEVICES,
    bound_elsewhere=DEVICES,
    black=st.dictionaries(st.sampled_from(BLACK), DEVICES, max_size=3),
    bindings=mapping(IMEIS, NUMBERS),
    imsi_bindings=mapping(IMEIS, IMSIS),
    grey=st.dictionaries(
        st.tuples(st.sampled_from(IMEIS), st.sampled_from([0, *NUMBERS])), TIMES, max_size=6
    ),
    imsi_msisdn=st.dictionaries(st.sampled_from(IMSIS), st.sampled_from(NUMBERS), max_size=3),
    exempt_all=SUBSCRIBERS,
    exempt_registration=SUBSCRIBERS,
    exempt_equipment=DEVICES,
    released=SUBSCRIBERS,
    overrides=st.dictionaries(
        pairs(),
        st.builds(Override, st.booleans(), st.just(0) | TIMES, st.booleans()).map(
            lambda o: Override(o.allow, o.until, o.forced and o.allow)
        ),
        max_size=4,
    ),
    holds=st.lists(
        st.builds(
            Hold,
            TIMES,
            st.frozensets(st.sampled_from(TACS), max_size=1),
            st.sampled_from(HOLDABLE),
            st.sampled_from(["", "9", "98912", "12345"]),
        ),
        max_size=2,
    ).map(tuple),
)

POLICIES = st.builds(
    Policy,
    mode=st.sampled_from(["enforce", "shadow"]),
    status=st.dictionaries(st.sampled_from(sorted(naive.DEFAULT_STATUS)), STATUSES, max_size=3),
    black=st.dictionaries(
        st.sampled_from(BLACK),
        st.builds(
            BlackList,
            STATUSES,
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.just(0) | TIMES,
            st.just(0) | TIMES,
        ).filter(lambda b: b.active_until == 0 or b.active_from < b.active_until),
    ),
    black_order=st.permutations(BLACK).map(lambda order: tuple(order[:2])),
    home_plmns=st.lists(st.sampled_from(PLMNS), max_size=2, unique=True).map(tuple),
    enforced_plmns=st.lists(st.sampled_from(PLMNS), max_size=1).map(tuple),
)


def code(imsi: str) -> int:
    return int(imsi_from_digits(imsi))


def array(values: object) -> np.ndarray:
    return np.array(sorted(values), np.uint64)


def add_lists(writer: SnapshotWriter, lists: Mapping[str, Members], ids: Mapping[str, int]) -> None:
    for name, of in lists.items():
        inside = {k for k in of.keys if any(low <= k <= high for low, high in of.ranges)}
        ranges = np.array(of.ranges, np.uint64).reshape(-1, 2)
        writer.add_list(name, [array(of.keys - inside)], ranges, reason_id=ids.get(name, 0))


def add_pairs(writer: SnapshotWriter, name: str, rows: set[tuple[int, int]]) -> None:
    table = np.array(sorted(rows), np.uint64).reshape(-1, 2)
    writer.add_pairs(name, [(table[:, 0].copy(), table[:, 1].copy())])


def registry(facts: Facts, path: Path) -> Generation:
    head = SnapshotHead(REGISTRY, "test", "00000000-0000-4000-8000-000000000001", 1, NOW)
    writer = SnapshotWriter(head)
    black = {f"black.{reason}": of for reason, of in facts.black.items()}
    ids = {f"black.{r}": number for r, number in reason_ids(REGISTRY, list(facts.black)).items()}
    lists = {
        "white": facts.white,
        "legacy": facts.legacy,
        "bound-elsewhere": facts.bound_elsewhere,
        **black,
    }
    add_lists(writer, lists, ids)
    add_pairs(writer, "bindings", {(k, n) for k, of in facts.bindings.items() for n in of})
    by_imsi = {(k, code(i)) for k, of in facts.imsi_bindings.items() for i in of}
    add_pairs(writer, "bindings.imsi", by_imsi)
    grey = sorted(facts.grey.items())
    keys, numbers = (np.array([who[i] for who, _ in grey], np.uint64) for i in (0, 1))
    writer.add_deadlines("grey", [(keys, numbers, np.array([t for _, t in grey], np.int64))])
    writer.write(path)
    return open_snapshot(path)


def operator(facts: Facts, path: Path) -> Generation:
    head = SnapshotHead(OPERATOR, "test", "00000000-0000-4000-8000-000000000002", 1, NOW)
    writer = SnapshotWriter(head)
    lists = {
        "exempt.subscriber.all": facts.exempt_all,
        "exempt.subscriber.registration": facts.exempt_registration,
        "exempt.equipment": facts.exempt_equipment,
        "released": facts.released,
    }
    add_lists(writer, lists, {})
    add_pairs(writer, "imsi-msisdn", {(code(imsi), n) for imsi, n in facts.imsi_msisdn.items()})
    writer.add_overrides(
        orders.Override(imei, number, o.allow, o.until, o.forced)
        for (imei, number), o in facts.overrides.items()
    )
    writer.add_holds(
        orders.Hold(h.until, tuple(sorted(h.tacs)), h.reason, h.prefix) for h in facts.holds
    )
    writer.write(path)
    return open_snapshot(path)


def engine_policy(chosen: Policy) -> policy.Policy:
    return policy.Policy(
        mode=chosen.mode,
        status=chosen.status,
        black={
            name: policy.BlackList(
                of.status,
                of.binding_overrides,
                of.legacy_overrides,
                of.bound_overrides,
                of.active_from,
                of.active_until,
            )
            for name, of in chosen.black.items()
        },
        black_order=chosen.black_order,
        home_plmns=chosen.home_plmns,
        enforced_plmns=chosen.enforced_plmns,
    )


@settings(max_examples=200, deadline=None)
@given(FACTS, POLICIES, TIMES, st.booleans())
def test_kernel_is_naive(facts: Facts, chosen: Policy, grace_time: int, sieved: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generations = registry(facts, Path(folder, "r")), operator(facts, Path(folder, "o"))
        if sieved:
            generations = with_sieve(generations[0]), with_sieve(generations[1])
        tables = Tables(*generations, engine_policy(chosen))
        verdicts = tables.check(
            np.array([q.imei for q in QUERIES], np.uint64),
            np.array([q.msisdn for q in QUERIES], np.uint64),
            np.array([code(q.imsi) for q in QUERIES], np.uint64),
            now=NOW,
            grace_time=grace_time,
            counts=np.zeros((CODES, 5), np.uint64),
        )
        reasons = [tables.reason_names[int(tables.reasons[row[2]])] for row in verdicts.rows]
    for query, reason, row, until in zip(
        QUERIES, reasons, verdicts.rows.tolist(), verdicts.valid_until.tolist(), strict=True
    ):
        said = naive.Verdict(row[3], reason, row[1], row[0], until)
        assert said == naive.check(facts, chosen, query, NOW, grace_time), query
