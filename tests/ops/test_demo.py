"""`make run`: a registry that publishes, a node that follows, and questions all the while."""

import re
import signal
from pathlib import Path

from eir.ops.demo.registry import DemoRegistry, demo_registry, phone_after
from tests.ops.conftest import PATIENCE_S, run, started, until, write_config

TOLD = re.compile(r"serial (\d+) +(\w+) +\S+ \w+ +→ +(\S+) (\w+) +after")
LIFE = [
    ("imported", "not-activated", "GREYLISTED"),
    ("activated", "bound", "WHITELISTED"),
    ("stolen", "stolen", "BLACKLISTED"),
    ("found", "bound", "WHITELISTED"),
]


def life_in(text: str, first: int) -> list[tuple[str, str, str]]:
    """What befell the phone, told from serial ``first`` on without a gap."""
    found = TOLD.findall(text)
    assert [int(serial) for serial, *_ in found] == list(range(first, first + len(found))), text
    return [(event, reason, status) for _, event, reason, status in found]


def test_deltas_arrive_while_checks_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    config = write_config(folder, '\n[policy]\nhome_plmns = ["43211", "43220", "43235"]\n')
    log = tmp_path / "log"
    demo = started("demo", "--devices", 60, "--folder", folder, log=log)
    try:
        until(lambda: "until Ctrl-C" in log.read_text() or demo.poll() is not None, "it serves")
        assert life_in(log.read_text(), 2) == LIFE
        assert run("sync", "status", "-c", config).code == 0
        assert run("feed", "verify", folder / "desk").code == 0
        steps = run("feed", "log", folder / "desk", "--json").document["deltas"]
        assert [step["serial"] for step in steps] == [2, 3, 4, 5]  # type: ignore[attr-defined]
        another = run("demo", "--devices", 70, "--folder", folder)
        assert (another.code, "[depot-in-use]" in another.err) == (3, True)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE_S) == 0
    finally:
        demo.kill()
    assert log.read_text().endswith("stopped\n")
    again = started("demo", "--devices", 60, "--folder", folder, "--once", log=log)
    assert again.wait(PATIENCE_S) == 0
    assert life_in(log.read_text(), 6) == LIFE
    assert "published" not in log.read_text()
    assert "compiled" not in log.read_text(), "it was, by the first run"


def test_a_registry_that_was_ended_halfway_is_made_whole(tmp_path: Path) -> None:
    made = demo_registry(tmp_path)
    (tmp_path / "desk" / "feed.toml").unlink()
    (tmp_path / "feed" / "keys").unlink()
    assert demo_registry(tmp_path) == made
    assert isinstance(made, DemoRegistry)
    assert (tmp_path / "feed" / "keys").exists()
    assert not made.published


def test_another_run_has_another_phone() -> None:
    assert phone_after(1).imei != phone_after(5).imei
