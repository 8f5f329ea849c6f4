"""A feed published for real, carried by servers that no one here wrote, over a line that fails."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eir.core.generation import Generation
from eir.errors import Conflict, Refused
from eir.feed.address import Address
from eir.feed.publish import Habits
from eir.sync.reader import Patience
from eir.sync.store_reader import StoreReader
from tests.doors.conftest import absent
from tests.scenarios.carriers import Carrier, by_bucket, by_nginx, nginx_program
from tests.scenarios.nation import Nation
from tests.scenarios.world import Content, Engine, white

HASTY = Patience(connect_s=10, idle_s=0.3, grace_s=30)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        ip_address="127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["nginx", "bucket"])
def carrier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Carrier]:
    with ExitStack() as stack:
        if request.param == "bucket":
            endpoint = request.getfixturevalue("endpoint")
            yield stack.enter_context(by_bucket(endpoint, request.node.name))
            return
        program = nginx_program()
        if program is None:
            absent("nginx is not installed")
        yield stack.enter_context(by_nginx(tmp_path, program))


@pytest.fixture
def nation(carrier: Carrier, tmp_path: Path) -> Nation:
    return Nation(tmp_path, carrier.site, habits=Habits(snapshot_every=4))


def engine_at(folder: Path, carrier: Carrier, patience: Patience = HASTY) -> Engine:
    return Engine(folder, StoreReader(carrier.address, patience), patience)


def some(chance: random.Random) -> Content:
    """Lists of so many devices that files come in many pieces."""
    return white(*chance.sample(range(1, 4_000_000), chance.randrange(10_000, 30_000)))


def test_cut_and_delayed_at_random_all_nodes_end_equal(
    carrier: Carrier, nation: Nation, tmp_path: Path
) -> None:
    chance = random.Random(7)
    line = carrier.line
    nation.publish(some(chance))
    engines = [engine_at(tmp_path / f"node-{n}", carrier) for n in range(3)]
    line.passes = lambda: chance.choice([None, chance.randrange(1, 40_000)])
    line.delay_s = 0.001
    reasons = set()
    for _ in range(12):
        if chance.random() < 0.7:
            nation.publish(some(chance))
        for engine in engines:
            before = engine.held
            outcome = engine.sync()
            reasons.add(outcome.reason)
            assert outcome.good or outcome.kind == "failed", outcome.line()
            assert outcome.good or engine.held is before
            if chance.random() < 0.3:
                engine.restart()
    assert line.cuts > 5
    assert reasons & {"fetch-cut", "fetch-failed"}
    line.heal()
    for engine in engines:
        assert engine.sync().good
        engine.restart()
        assert engine.held is not None
        assert (engine.held.serial, engine.held.digest) == (
            nation.look().head.serial,  # type: ignore[union-attr]
            nation.digest(),
        )
        assert engine.sync().kind == "up-to-date"


def test_a_download_that_is_cut_again_and_again_comes_whole_piece_by_piece(
    carrier: Carrier, nation: Nation, tmp_path: Path
) -> None:
    size = nation.publish(some(random.Random(1))).size
    engine = engine_at(tmp_path / "node", carrier)
    carrier.line.passes = lambda: 9_000
    fetched, runs = 0, 0
    while engine.held is None:
        outcome = engine.sync()
        fetched, runs = fetched + outcome.fetched_bytes, runs + 1
        assert outcome.good or outcome.reason in ("fetch-cut", "fetch-failed")
        assert runs < size // 1_000
        engine.restart()
    assert runs > 3
    assert fetched < size + 1_000 * runs
    assert engine.held.digest == nation.digest()


def test_a_server_that_falls_silent_in_mid_file_is_left(
    carrier: Carrier, nation: Nation, tmp_path: Path
) -> None:
    nation.publish(some(random.Random(1)))
    engine = engine_at(tmp_path / "node", carrier)
    carrier.line.passes, carrier.line.hangs = (lambda: 2_000), True
    outcome = engine.sync()
    assert (outcome.kind, outcome.reason) == ("failed", "fetch-timeout")
    carrier.line.heal()
    assert engine.sync().reason == "first-load"


def test_a_server_that_trickles_is_left(carrier: Carrier, nation: Nation, tmp_path: Path) -> None:
    nation.publish(some(random.Random(1)))
    trickle = Patience(connect_s=10, idle_s=5, grace_s=0.05, least_bytes_per_s=1e9)
    carrier.line.delay_s = 0.3
    outcome = engine_at(tmp_path / "node", carrier, trickle).sync()
    assert (outcome.kind, outcome.reason) == ("failed", "fetch-slow")


def test_a_head_signed_anew_within_the_second_is_seen(
    carrier: Carrier, nation: Nation, tmp_path: Path
) -> None:
    """Servers of files make their ETag of a file's length and whole second."""
    nation.publish(white(1))
    engine = engine_at(tmp_path / "node", carrier)
    engine.sync()
    for _ in range(3):
        nation.now += 1
        assert nation.publish(white(1)).kind == "re-signed"
        assert engine.sync().kind == "up-to-date"
        assert engine.renewed[-1] == nation.now


def test_two_publishers_at_once_and_nodes_that_read_meanwhile(
    carrier: Carrier, nation: Nation, tmp_path: Path
) -> None:
    other = Nation(tmp_path, carrier.site, desk="other")
    said: dict[int, int] = {}
    lost: list[int] = []
    nation.publish(white(1))

    def publish(who: Nation, keys: range) -> None:
        for key in keys:
            while True:
                try:
                    done = who.publish(white(key))
                except (Conflict, Refused):  # its files are gone, or the head is another's now
                    lost.append(key)
                    continue
                said[done.head.serial] = key
                break

    pair = ((nation, range(10, 18)), (other, range(20, 28)))
    threads = [threading.Thread(target=publish, args=each) for each in pair]
    engine = engine_at(tmp_path / "node", carrier, Patience())
    read: dict[int, Generation] = {}
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        outcome = engine.sync()
        assert outcome.good or outcome.reason == "fetch-missing", outcome.line()
        if engine.held is not None:
            read[engine.held.serial] = engine.held
    for thread in threads:
        thread.join()
    assert sorted(said) == list(range(2, 18)), "each change is one serial, whoever made it"
    assert engine.sync().good
    assert engine.serial == 17
    assert engine.holds(white(said[17]))
    assert read.keys() <= said.keys() | {1}
    assert engine.held is not None
    assert engine.held.digest == nation.digest() == other.digest()


def test_a_folder_that_is_published_to_is_read_as_it_is(tmp_path: Path) -> None:
    nation = Nation(tmp_path)
    engine = Engine(tmp_path / "node", StoreReader(Address(str(tmp_path / "feed")), HASTY))
    for keys in ((1,), (1, 2), (2,)):
        nation.publish(white(*keys))
        assert engine.sync().good
        assert engine.holds(white(*keys))
