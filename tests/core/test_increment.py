"""Others' steps as our deltas: what they say is what comes of it, and nothing that does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core.delta import apply
from eir.core.generation import spec_of
from eir.core.increment import Step, stepped
from eir.errors import Conflict, Refused
from eir.feed.digest import Digest, of_delta
from tests.core.contents import GREY as DEADLINES
from tests.core.contents import KEYS as IMEIS
from tests.core.contents import (
    PAIRS,
    Content,
    Listed,
    array,
    content_of,
    generation_of,
    rows,
    without_empty,
)

BLACK = ("black.lost", "black.stolen")
GROUPS = ((BLACK, 1), (("grey",), 2), (("bindings",), 2))
"""Lists that change together, and how many words are an identity in them."""
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(BLACK, rows(IMEIS).map(Listed)),
        "bindings": PAIRS,
        "grey": DEADLINES,
    },
)


def steps_between(old: Content, new: Content) -> list[Step]:
    """As DIRBS writes them: of each identity that it is new, gone, or changed."""
    found = []
    for group, words in GROUPS:
        before, after = ({n: held(content, n) for n in group} for content in (old, new))
        was, now = (standing(content, group, words) for content in (old, new))
        changed = {
            who for who in was & now if any(of(before[n], who) != of(after[n], who) for n in group)
        }
        fresh = {n: [row for row in after[n] if row[:words] not in was] for n in group}
        moved = {n: [row for row in after[n] if row[:words] in changed] for n in group}
        found += [
            Step(group, come=arrays(fresh)),
            Step(group, array(frozenset(was - now), words)),
            Step(group, array(frozenset(changed), words), arrays(moved)),
            Step(group, kept=array(frozenset(was & now), words)),
        ]
    return found


def held(content: Content, name: str) -> frozenset[tuple[int, ...]]:
    return content.get(name, Listed()).rows


def of(found: frozenset[tuple[int, ...]], who: tuple[int, ...]) -> set[tuple[int, ...]]:
    return {row for row in found if row[: len(who)] == who}


def arrays(found: dict[str, list[tuple[int, ...]]]) -> dict[str, np.ndarray]:
    return {name: array(frozenset(rows), spec_of(name).words) for name, rows in found.items()}


@settings(max_examples=80, deadline=None)
@given(CONTENTS, CONTENTS)
def test_the_steps_between_two_contents_lead_from_one_to_the_other(
    old: Content, new: Content
) -> None:
    before, after = generation_of(old), generation_of(new)
    delta = stepped(before, steps_between(old, new), {"lost": 257, "stolen": 256})
    digest = str(Digest.parse(before.digest) + of_delta(delta))
    found = apply(before, delta, serial=2, made_at=5, digest=digest)
    assert content_of(found) == without_empty(new)
    assert digest == after.digest


@settings(max_examples=40, deadline=None)
@given(CONTENTS, CONTENTS)
def test_a_repeated_step_is_refused_or_changes_nothing(old: Content, new: Content) -> None:
    """Who only changes stands before and after."""
    steps = steps_between(old, new)
    if any(standing(old, *group) != standing(new, *group) for group in GROUPS):
        with pytest.raises(Refused, match="delta-base"):
            stepped(generation_of(new), steps)
    else:
        assert not len(stepped(generation_of(new), steps))


def standing(content: Content, group: tuple[str, ...], words: int) -> set[tuple[int, ...]]:
    return {row[:words] for name in group for row in held(content, name)}


KNOWN = generation_of(
    {"black.stolen": Listed(frozenset({(1,), (2,)})), "grey": Listed(frozenset({(1, 7, 100)}))}
)


def keys(*imeis: int) -> np.ndarray:
    return np.array(imeis, np.uint64).reshape(-1, 1)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Step(BLACK, keys(1, 3, 4)), "at 3: not in black.lost or black.stolen.*; 1 more"),
        (Step(BLACK, kept=keys(3)), "at 3: not in"),
        (Step(("black.stolen",), come={"black.stolen": keys(2, 3)}), "at 2: in black.stolen"),
        (Step(("black.stolen",), first=True), "file: .*a whole list"),
        (Step(("grey",), come={"grey": np.array([[1, 7, 200]], np.uint64)}), "at 1: in grey"),
    ],
)
def test_what_does_not_fit_is_named(step: Step, words: str) -> None:
    step = Step(
        step.group, step.gone, step.come, step.kept, step.first,
        lambda found: f"at {found[0]}" if len(found) else "file",
    )  # fmt: skip
    with pytest.raises(Refused, match=words) as caught:
        stepped(KNOWN, [step])
    assert caught.value.reason == "delta-base"


def test_two_files_may_not_say_the_same() -> None:
    step = Step(("black.stolen",), come={"black.stolen": keys(3)})
    with pytest.raises(Conflict, match="change twice"):
        stepped(KNOWN, [step, step])
