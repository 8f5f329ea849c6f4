"""What becomes of answers when processes die, data is handed over, and nodes stop and start."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
import threading
import urllib.request

import grpc
import pytest

from eir.client import Client
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc

each_engine = pytest.mark.parametrize("engine", ["grpcio", "native"])


@each_engine
def test_a_killed_worker_takes_only_its_own_connections_along(new_node, press):
    node = new_node()
    with press(node) as load:
        victim = node.until(lambda s: all(w.checks for w in s.workers)).workers[0]
        os.kill(victim.pid, signal.SIGKILL)
        status = node.until(
            lambda s: s.workers[0].restarts == 1 and s.workers[0].state == "answering"
        )
        load.answered(20)
    assert status.workers[0].pid != victim.pid
    assert status.workers[1].restarts == 0
    assert not any(load.cut)
    assert 0 in load.lost, "the other worker's clients were disturbed"
    assert any(load.lost), "the victim had no clients: nothing was tried"
    counted, answered = node.status().checks["BLACKLISTED"], sum(g.total() for g in load.good)
    # What the victim had decided, and died before it could say, is counted too.
    assert 200 * answered <= counted <= 200 * (answered + sum(load.lost))


@each_engine
def test_a_hand_over_under_load_costs_no_answer(new_node, press, publish_serial):
    node = new_node()
    with press(node) as load:
        for serial in range(2, 8):
            publish_serial(node.depot, serial)
            assert any(f"serial {serial} serves" in change for change in node.reload())
            before = [good.total() for good in load.good]
            load.answered(3, serial)
            old = [sum(n for s, n in good.items() if s < serial) for good in load.good]
            assert all(o <= b + 1 for o, b in zip(old, before, strict=True)), (
                "the old was served after the node said that the new one is"
            )
    assert not any(load.lost + load.cut)
    status = node.status()
    assert [w.serials["registry"] for w in status.workers] == [7, 7]
    assert status.checks["BLACKLISTED"] == 200 * sum(g.total() for g in load.good)


@each_engine
def test_a_client_that_names_a_node_often_is_answered_by_all_its_workers(new_node):
    node = new_node()

    async def ask() -> None:
        async with Client([node.address] * 16) as client:
            for _ in range(64):
                assert (await client.check("350000000000000")).reason_name

    asyncio.run(ask())
    answered = [worker.checks for worker in node.status().workers]
    assert min(answered) >= 4, "by chance once in 2^15"
    assert sum(answered) == 64


@pytest.mark.parametrize("engine", ["native"])
def test_checks_that_were_gathered_are_each_of_one_generation(new_node, publish_serial, reasons_of):
    """A hundred outstanding, so that the door decides many together, through four hand-overs."""
    node = new_node()
    devices = [f"{key:014d}0" for key in range(35_000_000_000_000, 35_000_000_000_400, 4)]
    seen, over, wrong = set(), threading.Event(), []

    def ask() -> None:
        with grpc.insecure_channel(node.address) as channel:
            stub = wire_grpc.EligibilityStub(channel)
            while not over.is_set():
                calls = [stub.Check.future(wire.CheckRequest(imei=each)) for each in devices]
                for place, call in enumerate(calls):
                    reply = call.result(60)
                    seen.add(reply.registry_serial)
                    if reply.reason != reasons_of(reply.registry_serial)[4 * place]:
                        wrong.append((place, reply))

    asking = threading.Thread(target=ask)
    asking.start()
    for serial in range(2, 6):
        publish_serial(node.depot, serial)
        node.reload()
        node.until(lambda _, serial=serial: serial in seen)
    over.set()
    asking.join()
    assert not wrong, wrong[:3]
    assert seen == {1, 2, 3, 4, 5}


@each_engine
def test_answers_go_on_without_a_keeper_and_the_next_one_takes_over(new_node, press, one_port):
    node = new_node(settings=one_port)
    orphans = node.workers()
    with press(node) as load:
        node.keeper.kill()
        node.keeper.wait()
        load.answered(20)
        load.until(lambda: load.stale)
        assert not any(load.lost)
        assert node.workers() == orphans
        successor = new_node(settings=one_port)
        status = successor.until(lambda s: all(w.state == "answering" for w in s.workers))
        assert not orphans & {w.pid for w in status.workers}
        assert [w.serials["registry"] for w in status.workers] == [1, 1]
        load.answered(20)
    assert not orphans & successor.workers()


@each_engine
def test_the_unix_socket_goes_over_to_the_next_keepers_worker(new_node, press, one_port):
    node = new_node(settings=one_port)
    node.keeper.kill()
    node.keeper.wait()
    successor = new_node(settings=one_port)
    node.address = f"unix:{node.folder}/grpc.sock"
    successor.until(lambda s: len(s.workers) == 2)
    with press(node, clients=2) as load:
        load.answered(3)
    assert not any(load.lost)


def test_a_second_keeper_is_refused_and_harms_nobody(new_node, press):
    node = new_node()
    with press(node) as load:
        program = "from eir.ops.cli.main import main; main()"
        second = subprocess.run(
            [sys.executable, "-c", program, "serve", "-c", str(node.config)],
            capture_output=True,
            text=True,
        )
        load.answered(3)
    assert second.returncode == 3
    assert "[depot-in-use]" in second.stderr
    assert not any(load.lost)
    assert len(node.workers()) == 2


def test_another_nodes_port_is_not_joined(new_node, tmp_path, publish_serial):
    node = new_node()
    other = tmp_path / "other.toml"
    other.write_text(f'[node]\ndepot = "other"\n[grpc]\nlisten = ["{node.address}"]\n')
    program = "from eir.ops.cli.main import main; main()"
    second = subprocess.run(
        [sys.executable, "-c", program, "serve", "-c", str(other)], capture_output=True, text=True
    )
    assert second.returncode == 3
    assert "[listen-failed]" in second.stderr


@each_engine
def test_a_drain_finishes_what_has_begun_and_leaves_nothing_behind(new_node, press):
    node = new_node()
    handles = [os.pidfd_open(worker.pid) for worker in node.status().workers]
    with press(node) as load:
        node.keeper.send_signal(signal.SIGTERM)
        assert node.keeper.wait(60) == 0
        load.until(lambda: all(load.lost))
    assert not node.workers()
    for handle in handles:
        assert select.select([handle], [], [], 60)[0], "it has not ended"
        os.close(handle)
    assert not (node.depot.folder / "admin.sock").exists()
    assert not (node.folder / "grpc.sock").exists()
    assert list(node.depot.workers.iterdir()) == []


def test_workers_share_one_copy_of_the_data(new_node):
    node = new_node()
    pids = [w.pid for w in node.status().workers]
    (snapshot,) = (node.depot.folder / "snapshots").iterdir()
    pages = -(-snapshot.stat().st_size // 4096) * 4
    for pid in pids:
        mapped = _kilobytes_of(pid, snapshot.name)
        assert mapped["Rss"] == pages, "it was not prefaulted"
        assert mapped["Private_Clean"] == mapped["Private_Dirty"] == 0
        assert mapped["Pss"] <= pages // len(pids)


def test_a_node_without_data_says_so_until_it_has_some(new_node, press, publish_serial):
    node = new_node(serial=0)
    status = node.status()
    assert not status.ready
    assert [w.state for w in status.workers] == ["answering", "answering"]
    publish_serial(node.depot, 1)
    node.reload()
    with press(node) as load:
        load.answered(3)
    assert node.status().ready
    assert not any(load.lost)


def test_a_hang_up_reaches_every_worker(new_node, publish_serial):
    node = new_node()
    publish_serial(node.depot, 2)
    node.keeper.send_signal(signal.SIGHUP)
    node.until(lambda s: [w.serials["registry"] for w in s.workers] == [2, 2])


def test_a_dead_nursery_is_replaced_when_it_is_needed(new_node, press):
    node = new_node()
    nursery = _parent_of(node.status().workers[0].pid)
    os.kill(nursery, signal.SIGKILL)
    victim = node.status().workers[0].pid
    with press(node) as load:
        os.kill(victim, signal.SIGKILL)
        status = node.until(
            lambda s: s.workers[0].restarts == 1 and s.workers[0].state == "answering"
        )
        load.answered(3)
    assert _parent_of(status.workers[0].pid) not in (nursery, 1)


def test_what_a_dead_worker_counted_is_not_forgotten(new_node, press):
    node = new_node()
    (metrics,) = re.findall(r"metrics on (\S+)", "\n".join(node.lines))
    with press(node) as load:
        os.kill(node.status().workers[1].pid, signal.SIGKILL)
        node.until(lambda s: s.workers[1].restarts == 1 and s.workers[1].state == "answering")
        load.answered(3)
    with urllib.request.urlopen(f"http://{metrics}/metrics") as page:
        text = page.read().decode()
    answered = sum(good.total() for good in load.good)
    counted = [float(n) for n in re.findall(r"(?m)^eir_checks_total\{.*\} (\S+)$", text)]
    assert sum(counted) == 400 * answered
    assert f"eir_decide_seconds_count {float(answered)}" in text
    assert 'eir_worker_restarts_total{worker="1"} 1.0' in text


def _kilobytes_of(pid: int, name: str) -> dict[str, int]:
    """smaps of a process, summed over the mappings of one file."""
    found: dict[str, int] = {}
    inside = False
    with open(f"/proc/{pid}/smaps") as lines:
        for line in lines:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                inside = line.rstrip().endswith(name)
            elif inside and (match := re.match(r"(\w+): +(\d+) kB", line)):
                found[match[1]] = found.get(match[1], 0) + int(match[2])
    return found


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
