"""The guard of a reload: what differs is weighed whole, and an acceptance is of one time."""

from __future__ import annotations

from pathlib import Path

import pytest

from eir.core.generation import OPERATOR
from eir.core.orders import Override
from eir.core.policy import Policy, Status
from eir.core.tables import Tables
from eir.errors import Refused
from eir.ops.accepted import write_down
from eir.ops.reload_guard import accept, waiting, weigh
from eir.serve.guard import GuardLimits
from eir.serve.holder import Serving
from eir.store.depot import Depot
from tests.core.contents import Content, Listed, generation_of

NOW = 1_760_000_000
NONE_UNASKED = GuardLimits(max_newly_refused=0)
STOLEN: Content = {"black.stolen": Listed(frozenset((n,) for n in range(1, 31)))}
SHADOW, ENFORCE = Policy(mode="shadow"), Policy()


def serving(
    registry: Content, own: Content | None = None, policy: Policy = ENFORCE, grace_lag: int = 3_600
) -> Serving:
    operator = generation_of(own, feed=OPERATOR) if own is not None else None
    tables = Tables(generation_of(registry), operator, policy)
    return Serving(tables, data_time=NOW - 9_000, grace_lag=grace_lag)


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(tmp_path)


def held(depot: Depot, old: Serving, new: Serving) -> str:
    """What the change waits for; "" where it passes."""
    try:
        weigh(depot, NONE_UNASKED, old, new, NOW)
    except Refused as refused:
        return str(refused)
    return ""


def accepted(depot: Depot) -> None:
    stands = waiting(depot)
    assert stands is not None
    accept(depot, stands.change)


def test_what_served_has_to_be_accepted_again(depot: Depot) -> None:
    shadow, enforced = (serving(STOLEN, policy=policy) for policy in (SHADOW, ENFORCE))
    assert held(depot, shadow, enforced)
    accepted(depot)
    assert not held(depot, shadow, enforced)
    assert not held(depot, shadow, enforced), "accepted until it is written down"
    write_down(depot, enforced, NOW, shadow)
    write_down(depot, shadow, NOW, enforced)
    assert "30 of 30" in held(depot, shadow, enforced)


def test_what_served_and_was_killed_then_has_to_be_accepted_again(depot: Depot) -> None:
    shadow, enforced = (serving(STOLEN, policy=policy) for policy in (SHADOW, ENFORCE))
    assert held(depot, shadow, enforced)
    accepted(depot)
    write_down(depot, enforced, NOW)
    assert held(depot, shadow, enforced)
    accepted(depot)
    assert not held(depot, enforced, shadow)
    assert held(depot, shadow, enforced), "another change was weighed meanwhile"


def test_an_acceptance_outlives_what_a_feed_brings_meanwhile(depot: Depot) -> None:
    shadow, enforced = (serving(STOLEN, policy=policy) for policy in (SHADOW, ENFORCE))
    assert held(depot, shadow, enforced)
    accepted(depot)
    grown = serving({**STOLEN, "white": Listed(frozenset({(99,)}))}, policy=SHADOW)
    weigh(depot, NONE_UNASKED, shadow, grown, NOW, only="registry")
    write_down(depot, grown, NOW, shadow)
    assert not held(depot, shadow, enforced)


def test_grace_time_that_goes_further_by_a_setting_is_weighed(depot: Depot) -> None:
    grey = frozenset((n, 98_900 + n, NOW - 4_000) for n in range(1, 31))
    short, long = (serving({"grey": Listed(grey)}, grace_lag=lag) for lag in (3_600, 7_200))
    assert "grace-expired 30" in held(depot, short, long)
    assert not held(depot, long, short)


def test_a_feed_that_is_new_to_a_reload_is_weighed(depot: Depot) -> None:
    deny = Listed(orders=frozenset(Override(n, 0, allow=False) for n in range(1, 31)))
    before, after = serving({}), serving({}, {"overrides": deny})
    assert "override-deny 30" in held(depot, before, after)


def test_a_policy_hides_no_list_that_went(depot: Depot) -> None:
    strict = Policy(status={"not-registered": Status.BLACKLISTED})
    other = Policy(status=strict.status, black_order=("lost",))
    white = {"white": Listed(frozenset((n,) for n in range(1, 31)))}
    assert "not-registered 30" in held(
        depot, serving(white, policy=strict), serving({}, policy=other)
    )
