"""A node as its operator meets it: real processes, signals, damage, and a load that is killed."""

import fcntl
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eir.client.node import NodeClient
from eir.errors import Refused, Unavailable
from eir.ops.demo import cast
from eir.serve.counters import living
from tests.ops.conftest import PATIENCE_S, Node, run, serving, started, until, write_config

STOLEN = cast.questions()[5]


def digests(folder: Path) -> dict[str, str]:
    """What the node of this folder says it serves."""
    ran = run("status", "--config", folder / "eir.toml", "--json")
    served = json.loads(ran.out)["generations"]
    return {each["origin"]["feed"]: each["origin"]["digest"] for each in served}


def kept(folder: Path, feed: str = "registry") -> list[Path]:
    rows = json.loads((folder / "depot/manifest.json").read_text())["feeds"][feed]
    return [folder / "depot/snapshots" / row["file"] for row in rows]


def check(folder: Path, *words: str) -> dict[str, object]:
    ran = run("check", *words, "--config", folder / "eir.toml", "--json")
    return json.loads(ran.out)


def fewer_stolen(lists: Path, folder: Path) -> Path:
    """The registry's lists without the stolen ones of the cast: a manifest beside copies."""
    shutil.copytree(lists, folder)
    (folder / "black-stolen.csv").write_text("imei\n86000000000001\n")
    return folder / "registry.toml"


def test_a_node_without_data_says_so_and_takes_them_up(lists: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with serving(tmp_path) as node:
        ran = run("status", "--config", config)
        assert ran.code == 2
        assert re.search(r"(?m)^ready +NO", ran.out)
        assert "ALARM no generation serves" in ran.out
        ran = run("check", STOLEN.imei, STOLEN.msisdn, "--config", config)
        assert (ran.code, ran.out) == (2, "")
        assert re.fullmatch(r"error: no answer from unix:\S+: not-ready: .+\n", ran.err)
        ran = run("load", lists / "registry.toml", "--config", config)
        assert "the running node serves it now" in ran.out
        assert check(tmp_path, STOLEN.imei, STOLEN.msisdn)["reason_name"] == "stolen"
        assert run("status", "--config", config).code == 0
        assert node.stop() == 0


def test_a_load_is_taken_up_while_checks_go_on(folder: Path, lists: Path, tmp_path: Path) -> None:
    manifest = fewer_stolen(lists, tmp_path / "fewer")
    reasons: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with NodeClient(f"unix:{folder}/door") as client:
            while not stop.is_set():
                reasons.append(client.check(STOLEN.imei, STOLEN.msisdn, "").reason_name)

    with serving(folder):
        before = digests(folder)
        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: len(reasons) > 3, "an answer")
        document = run("load", manifest, "--config", folder / "eir.toml", "--json").document
        stop.set()
        asking.join(PATIENCE_S)
        after = digests(folder)
        last = check(folder, STOLEN.imei, STOLEN.msisdn)["reason_name"]
    assert document["serving"] is True
    assert after == {**before, "registry": document["digest"]} != before
    assert last != "stolen"
    assert set(reasons) <= {"stolen", last}, "an answer that neither the old nor the new gives"
    assert reasons == sorted(reasons, key=lambda reason: reason == last), "back to the old"


def test_sigterm_lets_what_has_begun_end(folder: Path) -> None:
    failures: list[str] = []
    answered = 0

    def ask(client: NodeClient) -> None:
        nonlocal answered
        try:
            while True:
                assert client.check(STOLEN.imei, STOLEN.msisdn, "").reason_name == "stolen"
                answered += 1
        except Unavailable:
            return
        except Refused as error:
            failures.append(str(error))

    with serving(folder) as node, NodeClient(f"unix:{folder}/door") as client:
        asking = [threading.Thread(target=ask, args=(client,)) for _ in range(4)]
        for each in asking:
            each.start()
        until(lambda: answered > 20, "answers")
        assert node.stop(signal.SIGTERM) == 0
        for each in asking:
            each.join(PATIENCE_S)
    assert failures == []
    assert "draining" in node.log
    assert not (folder / "depot/admin.sock").exists()


def test_ctrl_c_ends_it_cleanly_too(folder: Path) -> None:
    with serving(folder) as node:
        assert node.stop(signal.SIGINT) == 0
    assert "Traceback" not in node.log


def test_sighup_takes_up_the_policy_and_refuses_a_wrong_one(folder: Path) -> None:
    text = (folder / "eir.toml").read_text()
    with serving(folder) as node:
        assert check(folder, STOLEN.imei, STOLEN.msisdn)["status"] == "STATUS_BLACKLISTED"
        node.config.write_text(text + 'mode = "shadow"\n')
        node.process.send_signal(signal.SIGHUP)
        node.wait_for("policy: mode changed")
        verdict = check(folder, STOLEN.imei, STOLEN.msisdn)
        assert verdict["status"] == "STATUS_GREYLISTED"
        assert verdict["decided_status"] == "STATUS_BLACKLISTED"
        ran = run("status", "--config", node.config)
        assert "ALARM shadow mode" in ran.out
        node.config.write_text(text + 'mode = "shade"\n')
        node.process.send_signal(signal.SIGHUP)
        node.wait_for("did you mean")
        node.config.write_text(text)
        assert check(folder, STOLEN.imei, STOLEN.msisdn)["status"] == "STATUS_GREYLISTED"
        assert run("reload", "--config", node.config).out == "policy: mode changed\n"
        assert check(folder, STOLEN.imei, STOLEN.msisdn)["status"] == "STATUS_BLACKLISTED"


def test_a_damaged_newest_snapshot_leaves_the_older_serving(
    folder: Path, lists: Path, tmp_path: Path
) -> None:
    manifest = fewer_stolen(lists, tmp_path / "fewer")
    assert run("load", manifest, "--config", folder / "eir.toml").code == 0
    newest, older = kept(folder)
    newest.chmod(0o600)
    with newest.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with serving(folder):
        assert check(folder, STOLEN.imei, STOLEN.msisdn)["reason_name"] == "stolen"
        told = run("snapshot", "info", older, "--json").document
        assert digests(folder)["registry"] == told["digest"]
        ran = run("status", "--config", folder / "eir.toml")
        assert re.search(rf"(?m)^ALARM damaged and passed over: .*{newest.name}.*section ", ran.out)


def test_two_nodes_do_not_share_a_depot(folder: Path) -> None:
    with serving(folder) as node:
        second = Node(folder)
        assert second.process.wait(PATIENCE_S) == 3
        assert re.search(rf"error: .*process {node.process.pid}\b.*\[depot-in-use\]", second.log)
        assert "Traceback" not in second.log


def building(folder: Path) -> bool:
    return any((folder / "depot/scratch").glob("*/.load-*"))


def written(folder: Path) -> bool:
    return any(path.is_file() for path in (folder / "depot/scratch").glob("*/*"))


@pytest.mark.parametrize("moment", [building, written], ids=lambda moment: moment.__name__)
def test_killed_in_mid_load_the_old_serves(
    moment: Callable[[Path], bool], folder: Path, lists: Path, tmp_path: Path
) -> None:
    """`kill -9`, at two moments; what it left is swept by the next node.

    The depot is kept from changing meanwhile, so that neither moment slips by.
    """
    before = run("snapshot", "info", kept(folder)[0], "--json").document["digest"]
    manifest = fewer_stolen(lists, tmp_path / "fewer")
    said = tmp_path / "load.log"
    with (folder / "depot/write.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        loading = started("load", manifest, "--config", folder / "eir.toml", log=said)
        until(lambda: moment(folder) or loading.poll() is not None, "a load under way")
        loading.kill()
        assert loading.wait(PATIENCE_S) == -signal.SIGKILL, said.read_text()
    assert any((folder / "depot/scratch").iterdir())
    with serving(folder):
        assert digests(folder)["registry"] == before
        assert check(folder, STOLEN.imei, STOLEN.msisdn)["reason_name"] == "stolen"
        assert list((folder / "depot/scratch").iterdir()) == []
        assert run("load", manifest, "--config", folder / "eir.toml").code == 0
        assert check(folder, STOLEN.imei, STOLEN.msisdn)["reason_name"] != "stolen"
    assert len(kept(folder)) == 2


def test_a_node_that_is_told_to_stop_while_it_starts_leaves_nobody(folder: Path) -> None:
    node = Node(folder)
    try:
        node.wait_for("proving the kernel")
        assert node.stop() == 0
        assert list(living(folder / "depot/workers")) == []
        assert "answering on" not in node.log
    finally:
        node.end()


def test_a_node_that_compiles_waits_for_no_compiler_when_it_is_told_to_stop(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    node = Node(folder)
    try:
        node.wait_for("proving the kernel: it is compiled first")
        assert node.stop() == 0
        assert list(cache.rglob("proven-*")) == [], "it was compiled to the end"
        assert list(living(folder / "depot/workers")) == []
    finally:
        node.end()
