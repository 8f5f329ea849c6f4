"""The golden table: what the compiled kernel must answer before anyone may ask it.

A tiny pair of generations, a policy and a time, all fixed, and vectors that together hit every row
of the decision table, every kind of container and every way to an answer. A kernel that the
compiler, the processor or a stale cache made wrong is found here, and never answers a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eir.core import deadlines, imeiset, pairtable, policy
from eir.core.generation import OPERATOR, REGISTRY, Content, Generation, Section
from eir.core.imeiset import ImeiSet
from eir.core.orders import Hold, Override
from eir.core.policy import BlackList, Policy, Status
from eir.core.sieving import with_sieve
from eir.core.subscriber import imsi_from_digits
from eir.core.tables import Tables

U64 = NDArray[np.uint64]

NOW = 1_750_000_000
GRACE_TIME = NOW - 3_600

_TAC = 35_209_900
_FIRST = _TAC * 1_000_000
_HELD = 1_234_567 * 1_000_000
_BLOCK = 86_000_000 * 1_000_000
_NUMBER = 989_121_000_000
_RELEASED, _EXEMPT, _REGISTRATION = _NUMBER + 900, _NUMBER + 901, _NUMBER + 5_000
_FOREIGN = 4_915_112_345_678
_HOME_IMSI = int(imsi_from_digits("432110000000001"))
_MAPPED_IMSI = int(imsi_from_digits("432110000000002"))
_ROAMING_IMSI = int(imsi_from_digits("00101123456789"))

POLICY = Policy(
    status={"not-registered": Status.UNKNOWN},
    black={
        "cloned": BlackList(binding_overrides=True),
        "smuggled": BlackList(legacy_overrides=True, bound_overrides=True),
        "lost": BlackList(Status.GREYLISTED),
        "lapsed": BlackList(active_until=NOW),
        "to-come": BlackList(active_from=NOW),
    },
    black_order=("stolen", "lost", "cloned", "smuggled"),
    home_plmns=("43211",),
)


@dataclass(frozen=True, slots=True)
class Vector:
    """One query (IMEI key, MSISDN, IMSI code) and its verdict. ``decided`` is the table's status,
    ``status`` the one that leaves; ``valid_until``: Unix seconds UTC, 0 = none.
    """

    says: str
    imei: int
    msisdn: int
    imsi: int
    row: int
    reason: str
    decided: Status
    status: Status
    valid_until: int = 0


_W, _G, _B, _U = Status.WHITELISTED, Status.GREYLISTED, Status.BLACKLISTED, Status.UNKNOWN

# fmt: off
VECTORS: tuple[Vector, ...] = (
    Vector("deny the pair", _FIRST, _NUMBER, 0, 1, "override-deny", _B, _B),
    Vector("allow until grace time", _FIRST, 0, 0, 1, "override-allow", _W, _W, NOW),
    Vector("allow the number", 0, _NUMBER + 1, 0, 1, "override-allow", _W, _W),
    Vector("allow clears lost", _FIRST + 7, _NUMBER + 1, 0, 1, "override-allow", _W, _W),
    Vector("allow does not clear stolen", _FIRST + 3, _NUMBER + 1, 0, 6, "stolen", _B, _B),
    Vector("forced, it does", _FIRST + 3, _NUMBER + 3, 0, 1, "override-allow", _W, _W),
    Vector("exempt, though stolen", _FIRST + 3, _EXEMPT, 0, 2, "exempt-subscriber", _W, _W),
    Vector("no IMEI", 0, _NUMBER, 0, 3, "malformed-imei", _G, _G),
    Vector("fifteen digits", 10**14, 0, 0, 3, "malformed-imei", _G, _G),
    Vector("a clone's owner", _FIRST + 5, _NUMBER + 5, 0, 4, "bound-exception", _W, _W),
    Vector("a clone, nobody known", _FIRST + 5, 0, _HOME_IMSI, 5, "black-subscriber-unknown",
           _G, _G),
    Vector("a clone with a stranger", _FIRST + 5, _NUMBER + 6, 0, 6, "cloned", _B, _B),
    Vector("in a crowd of stolen", _FIRST + 40_003, 0, 0, 6, "stolen", _B, _B),
    Vector("between the stolen", _FIRST + 40_004, _FOREIGN, 0, 12, "grace", _G, _G, NOW),
    Vector("lost goes before smuggled", _FIRST + 7, 0, 0, 6, "lost", _G, _G),
    Vector("a blocked TAC's last", _BLOCK + 999_999, 0, 0, 6, "of-the-operator", _B, _B),
    Vector("behind a blocked TAC", _BLOCK + 1_000_000, 0, 0, 16, "not-registered", _U, _U),
    Vector("smuggled, but legacy", _FIRST + 8, _NUMBER + 6, 0, 10, "legacy", _W, _W),
    Vector("smuggled, but bound", _FIRST + 9, _NUMBER + 9, 0, 9, "bound", _W, _W),
    Vector("smuggled", _FIRST + 10, _NUMBER + 9, 0, 6, "smuggled", _B, _B),
    Vector("exempt from registration", _FIRST + 12, _REGISTRATION + 9, 0, 7, "exempt-subscriber",
           _W, _W),
    Vector("exempt by its IMSI", _FIRST + 12, 0, _MAPPED_IMSI, 7, "exempt-subscriber", _W, _W),
    Vector("a roamer", _FIRST + 12, 0, _ROAMING_IMSI, 7, "roamer", _W, _W),
    Vector("a terminal", _FIRST + 13, 0, 0, 8, "exempt-equipment", _W, _W),
    Vector("bound, one of three", _FIRST + 14, _NUMBER + 15, 0, 9, "bound", _W, _W),
    Vector("bound, far away", _FIRST + 14, _FOREIGN, 0, 9, "bound", _W, _W),
    Vector("bound by IMSI", _FIRST + 16, 0, _HOME_IMSI, 9, "bound", _W, _W),
    Vector("bound in a crowd", _FIRST + 60_000, _NUMBER + 60_000, 0, 9, "bound", _W, _W),
    Vector("legacy, with any SIM", _FIRST + 17, _NUMBER, 0, 10, "legacy", _W, _W),
    Vector("bound, nobody known", _FIRST + 14, 0, 0, 11, "subscriber-unknown", _W, _W),
    Vector("elsewhere, nobody known", _FIRST + 19, 0, _HOME_IMSI, 11, "subscriber-unknown",
           _W, _W),
    Vector("the pair's deadline ahead", _FIRST + 20, _NUMBER, 0, 12, "grace", _G, _G,
           GRACE_TIME + 1),
    Vector("any number's reached", _FIRST + 20, _NUMBER + 1_000, 0, 13, "grace-expired", _B, _B),
    Vector("reached, but held", _HELD, _NUMBER, 0, 13, "grace-expired", _B, _G),
    Vector("bound to others", _FIRST + 14, _NUMBER, 0, 14, "bound-to-other", _G, _G),
    Vector("bound to a number since released", _FIRST + 21, _RELEASED, 0, 14, "bound-to-other",
           _G, _G),
    Vector("bound elsewhere", _FIRST + 19, _NUMBER, 0, 14, "bound-to-other", _G, _G),
    Vector("imported", _FIRST + 12, _NUMBER, 0, 15, "not-activated", _G, _G),
    Vector("imported, the last of a run", _FIRST + 99, _NUMBER, 0, 15, "not-activated", _G, _G),
    Vector("a list whose time is over", _FIRST + 200, _NUMBER, 0, 16, "not-registered", _U, _U),
    Vector("a list whose time comes", _FIRST + 201, _NUMBER, 0, 16, "not-registered", _U, _U),
    Vector("the highest IMEI", 10**14 - 1, _NUMBER, 0, 16, "not-registered", _U, _U),
)
# fmt: on


def golden_tables(chosen: Policy = POLICY) -> Tables:
    """The golden pair of generations under a policy, the registry's with a sieve."""
    registry = with_sieve(_generation(REGISTRY, _registry()))
    return Tables(registry, _generation(OPERATOR, _operator()), chosen)


def queries() -> U64:
    """The vectors' queries, uint64[n, 3]: IMEI, MSISDN, IMSI code."""
    return np.array([(v.imei, v.msisdn, v.imsi) for v in VECTORS], np.uint64)


def verify_kernel() -> None:
    """Put every vector through the compiled kernel, as one batch and one by one.

    Raises RuntimeError, naming the vector, where an answer differs: this process must not serve.
    """
    tables = golden_tables()
    asked = queries()
    together = answers(tables, asked)
    for place, vector in enumerate(VECTORS):
        alone = answers(tables, asked[place : place + 1])[0]
        due = (vector.row, vector.reason, vector.decided, vector.status, vector.valid_until)
        if not together[place] == alone == due:
            raise RuntimeError(
                f"the kernel is wrong: {vector.says!r} is {due}; it says {alone} alone and"
                f" {together[place]} in a batch"
            )


def answers(tables: Tables, asked: U64) -> list[tuple[int, str, int, int, int]]:
    """(row, reason, decided status, status, valid until) of each query, uint64[n, 3]."""
    imei, msisdn, imsi = (asked[:, column].copy() for column in range(3))
    verdicts = tables.check(
        imei,
        msisdn,
        imsi,
        now=NOW,
        grace_time=GRACE_TIME,
        counts=np.zeros((policy.CODES, 5), np.uint64),
    )
    return [
        (row, tables.reason_names[int(tables.reasons[code])], decided, status, until)
        for (status, decided, code, row), until in zip(
            verdicts.rows.tolist(), verdicts.valid_until.tolist(), strict=True
        )
    ]


def _generation(feed: str, contents: Mapping[str, tuple[Content, int]]) -> Generation:
    sections = {
        name: Section(name, content, reason_id) for name, (content, reason_id) in contents.items()
    }
    return Generation(feed, "golden", "golden", 1, NOW, "0" * 32, sections)


def _registry() -> dict[str, tuple[Content, int]]:
    crowd = np.arange(_FIRST + 40_003, _FIRST + 60_000, 3, dtype=np.uint64)
    white = np.arange(_FIRST + 12, _FIRST + 100, dtype=np.uint64)
    lists = {
        "stolen": _keys(_FIRST + 3, *crowd.tolist()),
        "lost": _keys(_FIRST + 7),
        "cloned": _keys(_FIRST + 5),
        "smuggled": _keys(_FIRST + 7, _FIRST + 8, _FIRST + 9, _FIRST + 10),
        "lapsed": _keys(_FIRST + 200),
        "to-come": _keys(_FIRST + 201),
    }
    known = ("stolen", "lost", "cloned", "smuggled")
    ids = {name: 256 + n for n, name in enumerate(known)} | {"lapsed": 512, "to-come": 513}
    union = np.unique(np.concatenate([keys.keys() for keys in lists.values()]))
    grey = [
        (_HELD, 0, GRACE_TIME),
        (_FIRST + 20, 0, GRACE_TIME),
        (_FIRST + 20, _NUMBER, GRACE_TIME + 1),
        (_FIRST + 40_004, _FOREIGN, NOW),
    ]
    return {
        **{f"black.{name}": (keys, ids[name]) for name, keys in lists.items()},
        "black-union": (imeiset.build([union]), 0),
        "white": (imeiset.build([white]), 0),
        "legacy": (_keys(_FIRST + 8, _FIRST + 17), 0),
        "bound-elsewhere": (_keys(_FIRST + 19), 0),
        "bindings": (_pairs(*_bindings()), 0),
        "bindings.imsi": (_pairs((_FIRST + 16, _HOME_IMSI)), 0),
        "grey": (_deadlines(*grey), 0),
    }


def _bindings() -> list[tuple[int, int]]:
    crowd = [(_FIRST + at, _NUMBER + at) for at in range(59_000, 61_000, 2)]
    three = [(_FIRST + 14, number) for number in (_NUMBER + 14, _NUMBER + 15, _FOREIGN)]
    single = [(_FIRST + at, _NUMBER + at) for at in (5, 9)]
    return [*single, *three, (_FIRST + 21, _RELEASED), *crowd]


def _operator() -> dict[str, tuple[Content, int]]:
    overrides = (
        Override(0, _NUMBER + 1, True),
        Override(_FIRST, 0, True, NOW),
        Override(_FIRST, _NUMBER, False),
        Override(_FIRST + 3, _NUMBER + 3, True, forced=True),
        Override(_FIRST + 12, 0, False, NOW),
    )
    holds = (Hold(NOW, (1_234_567,), "grace-expired", "98912"),)
    return {
        "imsi-msisdn": (_pairs((_MAPPED_IMSI, _REGISTRATION)), 0),
        "exempt.subscriber.all": (_keys(_EXEMPT), 0),
        "exempt.subscriber.registration": (_blocks((_REGISTRATION, _REGISTRATION + 9)), 0),
        "exempt.equipment": (_keys(_FIRST + 13), 0),
        "released": (_keys(_RELEASED), 0),
        "black.of-the-operator": (_blocks((5, 5), (_BLOCK, _BLOCK + 999_999)), 32_768),
        "overrides": (overrides, 0),
        "holds": (holds, 0),
    }


def _keys(*keys: int) -> ImeiSet:
    return imeiset.build([np.array(keys, np.uint64)])


def _blocks(*ranges: tuple[int, int]) -> ImeiSet:
    return imeiset.build([], np.array(ranges, np.uint64))


def _pairs(*rows: tuple[int, int]) -> Content:
    table = np.array(rows, np.uint64)
    return pairtable.of_rows(table[:, 0].copy(), table[:, 1].copy())


def _deadlines(*rows: tuple[int, int, int]) -> Content:
    table = np.array(rows, np.uint64)
    return deadlines.build([(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].astype(np.int64))])
