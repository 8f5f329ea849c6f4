"""Law 12: ended at any step of the write path, what starts again has all of the old or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from eir.errors import Corrupt
from eir.store.depot import Depot
from tests.scenarios.world import FEED, Content, Engine, Registry, white

STEPS = ("fsync", "rename", "replace", "link", "unlink", "fchmod")
OLD, NEW = white(1, 2), white(3, 4)


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, nth: int, *, after: bool, how: Exception | Killed
            ) -> Iterator[list[str]]:  # fmt: skip
    """The nth step on the disk fails, before or after it is done; who is Killed there takes no
    other step, not even one that would tidy up.
    """
    done: list[str] = []

    def failing_step(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def step(*given: object, **named: object) -> object:
            dead = isinstance(how, Killed) and 0 < nth <= len(done)
            done.append(name)
            if dead or (len(done) == nth and not after):
                raise how
            result = real(*given, **named)
            if len(done) == nth:
                raise how
            return result

        return step

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(os, name, failing_step(name, getattr(os, name)))
        yield done


def engine_at_old(folder: Path) -> tuple[Engine, Registry]:
    folder.mkdir()
    registry = Registry(folder / "feed")
    engine = Engine(folder / "depot", registry)
    for content in (white(1), OLD):
        registry.say(content)
    registry.announce()
    engine.sync()
    return engine, registry


def announce_new(registry: Registry, *, by_snapshot: bool) -> None:
    registry.say(NEW)
    registry.announce(**({"snapshot": 3, "deltas": []} if by_snapshot else {}))


def steps_of_a_sync(folder: Path, monkeypatch: pytest.MonkeyPatch, by_snapshot: bool) -> int:
    engine, registry = engine_at_old(folder)
    announce_new(registry, by_snapshot=by_snapshot)
    with failing(monkeypatch, 0, after=False, how=Killed()) as done:
        engine.sync()
    assert engine.serial == 3
    return len(done)


def whole(engine: Engine) -> Content:
    engine.restart()
    return NEW if engine.serial == 3 else OLD


@pytest.mark.parametrize("by_snapshot", [False, True], ids=["delta", "snapshot"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, by_snapshot: bool
) -> None:
    steps = steps_of_a_sync(tmp_path / "counted", monkeypatch, by_snapshot)
    assert steps > 8
    came = []
    for nth in range(1, steps + 1):
        engine, registry = engine_at_old(tmp_path / f"{nth}")
        announce_new(registry, by_snapshot=by_snapshot)
        with failing(monkeypatch, nth, after=after, how=Killed()), pytest.raises(Killed):
            engine.sync()
        content = whole(engine)
        assert engine.holds(content)
        came.append(content is NEW)
        engine.sync()
        assert engine.holds(NEW)
    assert came == sorted(came)
    assert came[0] is False
    assert came[-1] is True


@pytest.mark.parametrize("by_snapshot", [False, True], ids=["delta", "snapshot"])
def test_what_the_manifest_names_is_on_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_snapshot: bool
) -> None:
    engine, registry = engine_at_old(tmp_path / "node")
    announce_new(registry, by_snapshot=by_snapshot)
    depot, done = tmp_path / "node/depot", []
    with monkeypatch.context() as patched:
        sync, rename, replace = os.fsync, os.rename, os.replace
        patched.setattr(os, "fsync", lambda file: done.append(_synced(file)) or sync(file))
        patched.setattr(os, "rename", lambda a, b: done.append((str(a), str(b))) or rename(a, b))
        patched.setattr(os, "replace", lambda a, b: done.append((str(a), str(b))) or replace(a, b))
        engine.sync()
    named = next(n for n, (_, into) in enumerate(done) if into == str(depot / "manifest.json"))
    kept = [n for n, (_, into) in enumerate(done) if into.endswith((".snap", ".delta"))]
    assert kept
    for move in (*kept, named):
        source, target = done[move]
        assert (source, "") in done[:move], "its bytes"
        assert (str(Path(target).parent), "") in done[move : named if move < named else None]


def _synced(file: int) -> tuple[str, str]:
    return os.readlink(f"/proc/self/fd/{file}"), ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    steps = steps_of_a_sync(tmp_path / "counted", monkeypatch, by_snapshot=False)
    for nth in range(1, steps + 1):
        engine, registry = engine_at_old(tmp_path / f"{nth}")
        announce_new(registry, by_snapshot=False)
        fault = OSError(number, os.strerror(number))
        with failing(monkeypatch, nth, after=False, how=fault):
            outcome = engine.sync()
        assert (outcome.kind, outcome.reason, outcome.alarm) == ("failed", "disk-error", True)
        engine.sync()
        assert engine.holds(NEW)


def test_killed_for_real_at_a_random_moment(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from tests.faults.test_depot_writes import engine_at_old, announce_new, NEW\n"
        "engine, registry = engine_at_old(pathlib.Path(sys.argv[1]))\n"
        "print('old', flush=True)\n"
        "for serial in range(3, 10_000):\n"
        "    registry.say(NEW if serial % 2 else {}, snapshot=False)\n"
        "    registry.announce()\n"
        "    assert engine.sync(forced=True).to_serial == serial\n"
    )
    folder = tmp_path / "killed"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", program, folder], stdout=subprocess.PIPE, env=environ
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"old\n"
    while len(list((folder / "depot" / "deltas").iterdir())) < 12:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    engine = Engine.__new__(Engine)
    Engine.__init__(engine, folder / "depot", None)  # type: ignore[arg-type]
    engine.restart()
    assert engine.serial >= 3
    assert engine.opened is not None
    assert engine.opened.damaged == ()
    assert engine.holds(NEW if engine.serial % 2 else {})


def test_a_damaged_delta_leaves_the_serial_before_it(tmp_path: Path) -> None:
    engine, registry = engine_at_old(tmp_path / "node")
    announce_new(registry, by_snapshot=False)
    engine.sync()
    last = engine.depot.kept(FEED)[0].deltas[-1]
    path = tmp_path / "node" / "depot" / "deltas" / last.file
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    engine.restart()
    assert engine.holds(OLD)
    assert engine.opened is not None
    assert [type(damage) for damage in engine.opened.damaged] == [Corrupt]
    assert engine.sync().to_serial == 3
    assert engine.holds(NEW)


def test_what_is_open_goes_on_by_the_new_deltas_alone(tmp_path: Path) -> None:
    engine, registry = engine_at_old(tmp_path / "node")
    before = engine.depot.open_newest(FEED)
    announce_new(registry, by_snapshot=False)
    engine.sync()
    after = engine.depot.open_newest(FEED, before=before)
    assert after.base is before.base
    assert after.file is before.file
    assert after.chain is before.chain
    assert after.generation.digest == engine.held.digest  # type: ignore[union-attr]
    back = engine.depot.open_newest(FEED, before=after, serial=2)
    assert (back.generation.serial, back.base) == (2, before.base)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", [Killed(), OSError(errno.ENOSPC, "full")], ids=["killed", "full"])
def test_ended_or_refused_while_it_is_noted_that_a_base_was_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, how: Killed | OSError
) -> None:
    engine_at_old(tmp_path / "node")
    depot = Depot(tmp_path / "node/depot")
    manifest = depot.folder / "manifest.json"
    noted = depot.kept(FEED)[0]
    assert noted.verified
    unknown = manifest.read_text().replace(noted.verified, "")
    for nth in range(1, 4):
        manifest.write_text(unknown)
        with (
            failing(monkeypatch, nth, after=after, how=how) as done,
            contextlib.suppress(Killed),
            depot.held_by_keeper(),
        ):
            depot.open_newest(FEED).close_unless_in(None)
        assert len(done) >= nth
        assert depot.kept(FEED)[0] in (noted, replace(noted, verified=""))
        with depot.held_by_keeper():
            depot.open_newest(FEED).close_unless_in(None)
        assert depot.kept(FEED)[0] == noted
