"""The plan: each way out by its reason, then its whole small state space (law 9)."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eir.feed.head import FeedFile, Head, Serial
from eir.sync import client as client_module
from eir.sync import plan as plan_module
from eir.sync.plan import ALARMS, Mark, Plan, PlanLimits, Reached, SyncState, mark_of, plan

A, B = "aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"
EPOCH = {A: 1, B: 2}
NOW = 1_790_000_000
BOUNDS = PlanLimits(max_head_age_s=1_000, max_deltas=5)


def digest(session: str, serial: int, version: str = "") -> str:
    return f"{session[0]}{serial:x}{version}"


def snapshot_of(session: str, serial: int, *, size: int = 100, version: str = "") -> FeedFile:
    content = digest(session, serial, version)
    return FeedFile(Serial(serial), f"snapshot-{serial}", size, "5" + content, content)


def delta_of(session: str, serial: int, *, size: int = 10, version: str = "") -> FeedFile:
    content = digest(session, serial, version)
    return FeedFile(Serial(serial), f"delta-{serial}", size, "d" + content, content)


def head_of(
    serial: int,
    base: int,
    deltas: Iterable[int],
    *,
    session: str = A,
    version: str = "",
    made_at: int = NOW,
    delta_size: int = 10,
    snapshot_size: int = 100,
) -> Head:
    return Head(
        registry_id="nation",
        epoch=EPOCH[session],
        session=session,
        serial=Serial(serial),
        made_at=made_at,
        snapshot=snapshot_of(session, base, version=version, size=snapshot_size),
        counts=(),
        deltas=tuple(delta_of(session, at, version=version, size=delta_size) for at in deltas),
    )


def at(serial: int, session: str = A, **changes: object) -> SyncState:
    """An engine that reached ``serial`` and believed a head of that serial."""
    state = SyncState(
        registry_id="nation",
        now=NOW,
        reached=Reached(session, Serial(serial), digest(session, serial)),
        highest=Mark(EPOCH[session], session, Serial(serial), NOW - 60),
    )
    return dataclasses.replace(state, **changes)


NOTHING = SyncState(registry_id="nation", now=NOW)


def brief(found: Plan) -> tuple[str, str, int | None, list[int]]:
    """Kind, reason, the snapshot's serial, the deltas' serials."""
    base = None if found.snapshot is None else int(found.snapshot.serial)
    return found.kind, found.reason, base, [int(delta.serial) for delta in found.deltas]


@pytest.mark.parametrize(
    ("state", "head", "expected"),
    [
        (NOTHING, head_of(5, 3, [4, 5]), ("snapshot", "first-load", 3, [4, 5])),
        (NOTHING, head_of(5, 5, []), ("snapshot", "first-load", 5, [])),
        (NOTHING, head_of(5, 2, [4, 5]), ("snapshot", "first-load", 2, [])),
        (at(5), head_of(5, 3, [4, 5]), ("up-to-date", "up-to-date", None, [])),
        (at(5), head_of(5, 3, []), ("up-to-date", "up-to-date", None, [])),
        (at(4), head_of(5, 3, [4, 5]), ("deltas", "deltas", None, [5])),
        (at(1), head_of(5, 1, [2, 3, 4, 5]), ("deltas", "deltas", None, [2, 3, 4, 5])),
        (at(4), head_of(7, 6, [4, 5, 7]), ("snapshot", "deltas-hole", 6, [7])),
        (at(3), head_of(7, 7, [4, 5, 7]), ("snapshot", "deltas-hole", 7, [])),
        (at(4), head_of(7, 6, [6, 7]), ("snapshot", "deltas-lack-next", 6, [7])),
        (at(6), head_of(7, 7, [4, 5]), ("snapshot", "deltas-lack-next", 7, [])),
        (at(4), head_of(7, 7, [5, 6]), ("snapshot", "deltas-end-early", 7, [])),
        (at(4), head_of(7, 7, []), ("snapshot", "deltas-empty", 7, [])),
        (at(4), head_of(7, 4, []), ("refuse", "snapshot-behind", None, [])),
        (at(4), head_of(7, 3, [4, 6, 7]), ("refuse", "snapshot-behind", None, [])),
        (at(4), head_of(7, 3, [4, 5, 7]), ("snapshot", "deltas-hole", 3, [4, 5])),
        (at(4), head_of(2, 2, [], session=B), ("snapshot", "new-session", 2, [])),
        (at(4), head_of(4, 4, [], session=B), ("snapshot", "new-session", 4, [])),
        (at(4), head_of(5, 5, [5], version="'"), ("deltas", "deltas", None, [5])),
        (at(4), head_of(5, 3, [4, 5], version="'"), ("snapshot", "history-rewritten", 3, [4, 5])),
        (at(5), head_of(5, 5, [], version="'"), ("snapshot", "history-rewritten", 5, [])),
        (at(5), head_of(6, 4, [6], version="'"), ("deltas", "deltas", None, [6])),
        (at(9), head_of(9, 4, [], session=A), ("up-to-date", "up-to-date", None, [])),
        (at(4, forced=True), head_of(4, 4, []), ("snapshot", "forced", 4, [])),
        (at(4, forced=True), head_of(5, 3, [4, 5]), ("snapshot", "forced", 3, [4, 5])),
        (at(4, forced=True), head_of(5, 3, [5]), ("refuse", "snapshot-behind", None, [])),
        (at(5), head_of(4, 4, []), ("refuse", "head-replayed", None, [])),
        (at(5), head_of(5, 5, [], made_at=NOW - 61), ("refuse", "head-replayed", None, [])),
        (at(5, session=B), head_of(9, 9, []), ("refuse", "head-replayed", None, [])),
        (at(5, allow_downgrade=True), head_of(4, 3, [4]), ("snapshot", "downgrade", 3, [4])),
        (at(5, B, allow_downgrade=True), head_of(9, 9, []), ("snapshot", "new-session", 9, [])),
        (at(5, registry_id="other"), head_of(6, 6, []), ("refuse", "other-registry", None, [])),
    ],
)
def test_reasons(state: SyncState, head: Head, expected: tuple[str, str, int, list[int]]) -> None:
    assert brief(plan(state, head, BOUNDS)) == expected


def test_a_serial_seen_before_with_another_digest_is_history_rewritten() -> None:
    state = at(6, seen={Serial(4): digest(A, 4), Serial(5): digest(A, 5)})
    head = head_of(7, 7, [5, 6, 7])
    assert plan(state, head, BOUNDS).kind == "deltas"
    fifth = dataclasses.replace(head.deltas[0], digest="?")
    found = plan(state, dataclasses.replace(head, deltas=(fifth, *head.deltas[1:])), BOUNDS)
    assert brief(found) == ("snapshot", "history-rewritten", 7, [])
    assert found.alarm


def test_a_file_encoded_anew_is_no_rewritten_history() -> None:
    head = head_of(5, 5, [])
    again = dataclasses.replace(head.snapshot, sha256="!", name="again", size=7)
    assert plan(at(5), dataclasses.replace(head, snapshot=again), BOUNDS).kind == "up-to-date"


def test_an_old_head_is_refused_only_where_nothing_is_known() -> None:
    head = head_of(5, 5, [], made_at=NOW - 1_001)
    assert plan(NOTHING, head, BOUNDS).reason == "head-old"
    assert plan(NOTHING, head_of(5, 5, [], made_at=NOW - 1_000), BOUNDS).kind == "snapshot"
    assert plan(NOTHING, head_of(5, 5, [], made_at=NOW + 999_999), BOUNDS).kind == "snapshot"
    known = dataclasses.replace(NOTHING, highest=mark_of(head))
    assert plan(known, head, BOUNDS).reason == "first-load"


def test_the_highest_outlives_the_data() -> None:
    lost = at(5, reached=None)
    assert plan(lost, head_of(4, 4, []), BOUNDS).reason == "head-replayed"
    assert plan(lost, head_of(5, 5, []), BOUNDS).reason == "first-load"


def test_an_epoch_belongs_to_one_session() -> None:
    impostor = dataclasses.replace(head_of(9, 9, [], session=B), epoch=EPOCH[A])
    found = plan(at(5), impostor, BOUNDS)
    assert (found.kind, found.reason, found.alarm) == ("refuse", "epoch-reused", True)


def test_too_many_deltas_are_left_for_a_newer_snapshot_only() -> None:
    assert plan(at(1), head_of(7, 4, range(2, 8)), BOUNDS).reason == "deltas-too-many"
    assert plan(at(2), head_of(7, 4, range(2, 8)), BOUNDS).kind == "deltas"
    assert plan(at(1), head_of(7, 1, range(2, 8)), BOUNDS).kind == "deltas"


def test_deltas_that_outweigh_the_way_by_snapshot_are_left() -> None:
    heavy = head_of(5, 4, [2, 3, 4, 5], delta_size=51)
    assert brief(plan(at(1), heavy, BOUNDS)) == ("snapshot", "deltas-too-big", 4, [5])
    even = head_of(5, 4, [2, 3, 4, 5], delta_size=33)
    assert plan(at(1), even, BOUNDS).kind == "deltas"
    behind = head_of(5, 1, [2, 3, 4, 5], delta_size=51)
    assert plan(at(1), behind, BOUNDS).kind == "deltas"


def test_a_shorter_way_that_is_closed_is_not_taken() -> None:
    head = head_of(7, 4, range(2, 8))
    state = at(1, failed=frozenset([head.snapshot.sha256]))
    assert plan(state, head, BOUNDS).kind == "deltas"
    small = dataclasses.replace(BOUNDS, max_snapshot_bytes=99)
    assert plan(at(1), head, small).kind == "deltas"


def test_a_delta_that_failed_is_passed_by_the_snapshot_or_not_at_all() -> None:
    failed = frozenset([delta_of(A, 5).sha256])
    state = at(4, failed=failed)
    assert brief(plan(state, head_of(6, 5, [5, 6]), BOUNDS)) == ("snapshot", "delta-failed", 5, [6])
    found = plan(state, head_of(6, 3, [4, 5, 6]), BOUNDS)
    assert (found.kind, found.reason) == ("refuse", "snapshot-behind")
    assert "delta-failed" in found.detail
    assert plan(at(2, failed=failed), head_of(6, 2, range(3, 7)), BOUNDS).reaches == 4


def test_a_delta_above_its_cap_is_not_fetched() -> None:
    bounds = dataclasses.replace(BOUNDS, max_delta_bytes=9)
    assert brief(plan(at(4), head_of(6, 6, [5, 6]), bounds))[:2] == ("snapshot", "delta-too-large")
    assert brief(plan(NOTHING, head_of(6, 5, [6]), bounds)) == ("snapshot", "first-load", 5, [])


def test_a_snapshot_above_its_cap_or_that_failed_is_refused() -> None:
    bounds = dataclasses.replace(BOUNDS, max_snapshot_bytes=99)
    head = head_of(5, 5, [])
    assert plan(NOTHING, head, bounds).reason == "snapshot-too-large"
    failed = dataclasses.replace(NOTHING, failed=frozenset([head.snapshot.sha256]))
    assert plan(failed, head, BOUNDS).reason == "snapshot-failed"


def test_alarms_are_reasons_that_exist() -> None:
    assert {"history-rewritten", "snapshot-failed", "head-replayed"} < ALARMS
    assert not plan(at(5), head_of(5, 5, []), BOUNDS).alarm


def test_every_reason_is_explained() -> None:
    """What the plan can say is what the page explains, with the same alarms."""
    page = (Path(__file__).parents[2] / "docs/reasons.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"(?m)^\| `([a-z-]+)` \| ([^|]+) \|",
        page.partition("## Outcomes of a sync")[2].partition("\n## ")[0],
    )
    source = Path(plan_module.__file__).read_text(encoding="utf-8")
    said = set(re.findall(r'"([a-z]+(?:-[a-z]+)+|deltas|forced|downgrade)"', source))
    of_the_run = {"guard", "disk-error", "sync-error"}
    run = Path(client_module.__file__).read_text(encoding="utf-8")
    assert all(f'"{code}"' in run for code in of_the_run)
    assert {code for code, _ in rows} == said | of_the_run
    assert {code for code, done in rows if "alarm" in done} == ALARMS | of_the_run


def small_heads() -> Iterator[Head]:
    """Every head of two sessions up to serial 4: any snapshot, any set of deltas, true or not."""
    for session, serial, version in itertools.product((A, B), range(1, 5), ("", "'")):
        for base in range(1, serial + 1):
            for mask in range(1 << serial):
                deltas = [i + 1 for i in range(serial) if mask >> i & 1]
                for delta_size in (10, 60):
                    yield head_of(
                        serial,
                        base,
                        deltas,
                        session=session,
                        version=version,
                        delta_size=delta_size,
                    )


def small_states(head: Head) -> Iterator[SyncState]:
    """Every small state, sound or not, before ``head``."""
    reached = [None] + [Reached(s, Serial(n), digest(s, n)) for s in (A, B) for n in range(1, 5)]
    marks = [None] + [Mark(EPOCH[s], s, Serial(n), NOW - 1) for s in (A, B) for n in (1, 4)]
    tried = [frozenset[str](), frozenset([head.snapshot.sha256])]
    tried += [frozenset([delta.sha256]) for delta in head.deltas[-2:]]
    flags = [(False, False), (True, False), (False, True)]
    for one, mark, failed, (forced, down) in itertools.product(reached, marks, tried, flags):
        yield SyncState("nation", NOW, one, mark, {}, failed, forced, down)


def check_sound(state: SyncState, head: Head, found: Plan) -> None:
    """Never a gap, never backwards, never a fetch that leads nowhere, never a failed file."""
    assert found.reason
    if found.kind in ("refuse", "up-to-date"):
        assert found.files == ()
        assert found.kind == "refuse" or (state.reached and found.reaches == state.reached.serial)
        return
    assert (found.kind == "snapshot") == (found.snapshot is not None)
    start = found.snapshot.serial if found.snapshot else state.reached and state.reached.serial
    assert start is not None
    assert [delta.serial for delta in found.deltas] == list(
        range(start + 1, start + 1 + len(found.deltas))
    )
    assert found.reaches == start + len(found.deltas) <= head.serial
    assert not state.failed & {file.sha256 for file in found.files}
    if found.kind == "deltas":
        assert state.reached
        assert (state.reached.session, found.reaches) == (head.session, head.serial)
    if state.reached and state.reached.session == head.session and not state.allow_downgrade:
        assert found.reaches >= state.reached.serial
        anew = found.reason in ("forced", "history-rewritten")
        assert found.reaches > state.reached.serial or anew


def after(state: SyncState, head: Head, found: Plan) -> SyncState:
    """The state once ``found`` was done in full."""
    assert found.reaches is not None
    last = found.files[-1]
    seen = {} if found.snapshot else dict(state.seen)
    seen |= {file.serial: file.digest for file in found.files}
    return dataclasses.replace(
        state,
        reached=Reached(head.session, found.reaches, last.digest),
        highest=mark_of(head),
        seen=seen,
        forced=False,
        allow_downgrade=False,
    )


def test_the_whole_small_state_space_is_sound_and_comes_to_rest() -> None:
    plans = 0
    for head in small_heads():
        for state in small_states(head):
            found = plan(state, head, BOUNDS)
            check_sound(state, head, found)
            for _ in range(3):
                if not found.files:
                    break
                state = after(state, head, found)
                found = plan(state, head, BOUNDS)
                check_sound(state, head, found)
                plans += 1
            assert found.files == ()
    assert plans > 50_000


@dataclasses.dataclass(frozen=True)
class Registry:
    """A model publisher: its session, serial, snapshot and the first delta that it still names."""

    session: str = A
    serial: int = 1
    base: int = 1
    first: int = 2
    hole: int = 0

    def head(self) -> Head:
        kept = [n for n in range(self.first, self.serial + 1) if n != self.hole]
        return head_of(self.serial, self.base, kept, session=self.session)

    def moves(self) -> Iterator["Registry"]:
        if self.serial < 4:
            yield dataclasses.replace(self, serial=self.serial + 1)
        if self.base < self.serial:
            yield dataclasses.replace(self, base=self.serial)
        if self.first <= self.base:
            yield dataclasses.replace(self, first=self.first + 1)
        if self.hole == 0 and self.serial > 2:
            yield dataclasses.replace(self, hole=self.serial - 1)
        if self.session == A:
            for serial in (1, self.serial):
                yield Registry(B, serial, serial, serial + 1)


def polled(state: SyncState, head: Head) -> Iterator[SyncState]:
    """What one run can leave behind: done, killed before any byte, killed once believed, spoilt."""
    found = plan(state, head, BOUNDS)
    check_sound(state, head, found)
    yield state
    if found.kind == "refuse":
        return
    yield dataclasses.replace(state, highest=mark_of(head))
    if found.files:
        yield after(state, head, found)
        spoilt = state.failed | {found.files[-1].sha256}
        yield dataclasses.replace(state, highest=mark_of(head), failed=spoilt)


def frozen(state: SyncState) -> tuple[object, ...]:
    return (state.reached, state.highest, tuple(sorted(state.seen.items())), state.failed)


def test_against_a_model_registry_no_history_ever_misleads() -> None:
    """Every interleaving of publishing, pruning, losing and polling, with stale heads replayed."""
    start = (Registry(), NOTHING, Registry())
    waiting, known = [start], {(start[0], frozen(NOTHING), start[2])}
    while waiting:
        registry, state, older = waiting.pop()
        if state.reached is not None:
            truth = digest(state.reached.session, state.reached.serial)
            assert state.reached.digest == truth
        following = [(moved, state, registry) for moved in registry.moves()]
        for head in (registry.head(), older.head()):
            for new in polled(state, head):
                check_no_step_back(state, new)
                following.append((registry, new, older))
        for one in following:
            key = (one[0], frozen(one[1]), one[2])
            if key not in known and len(one[1].failed) < 2:
                known.add(key)
                waiting.append(one)
    assert len(known) > 5_000


def check_no_step_back(old: SyncState, new: SyncState) -> None:
    if old.reached and new.reached and old.reached.session == new.reached.session:
        assert new.reached.serial >= old.reached.serial
    if old.reached and new.reached:
        assert EPOCH[new.reached.session] >= EPOCH[old.reached.session]
    if old.highest:
        assert new.highest
        assert (new.highest.epoch, new.highest.serial) >= (old.highest.epoch, old.highest.serial)


def test_a_whole_feed_is_always_reached() -> None:
    """Where snapshot and deltas are whole, one run from any sound state ends at the head."""
    for serial, base in itertools.product(range(1, 5), range(1, 5)):
        if base > serial:
            continue
        head = head_of(serial, base, range(2, serial + 1))
        for local in [None, *range(1, serial + 1)]:
            state = NOTHING if local is None else at(local)
            found = plan(state, head, BOUNDS)
            assert found.reaches == serial, (state, head)


serials = st.integers(1, 40)
heads = st.builds(
    lambda top, base, deltas, session, version, size: head_of(
        max([top, base, *deltas]), base, sorted(deltas), session=session, version=version,
        delta_size=size,
    ),
    serials, serials, st.sets(serials, max_size=40), st.sampled_from([A, B]),
    st.sampled_from(["", "'"]), st.integers(1, 200),
)  # fmt: skip
reacheds = st.none() | st.builds(
    lambda session, serial: Reached(session, Serial(serial), digest(session, serial)),
    st.sampled_from([A, B]),
    serials,
)
marks = st.none() | st.builds(
    lambda session, serial: Mark(EPOCH[session], session, Serial(serial), NOW),
    st.sampled_from([A, B]),
    serials,
)


@given(heads, reacheds, marks, st.booleans(), st.booleans(), st.sets(serials, max_size=3))
def test_the_plan_is_total_sound_and_comes_to_rest(
    head: Head,
    reached: Reached | None,
    mark: Mark | None,
    forced: bool,
    down: bool,
    failing: set[int],
) -> None:
    failed = frozenset(delta_of(head.session, serial).sha256 for serial in failing)
    state = SyncState("nation", NOW, reached, mark, {}, failed, forced, down)
    for _ in range(4):
        found = plan(state, head, BOUNDS)
        check_sound(state, head, found)
        if not found.files:
            return
        state = after(state, head, found)
    pytest.fail(f"{head} is fetched again and again")
