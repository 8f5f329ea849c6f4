"""The example of docs/grpc.md for the Python client runs as it stands, address apart."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from eir.client import ClientSettings, ClientTls, Counts, Verdict

ROOT = Path(__file__).parents[2]
SECTION = (
    (ROOT / "docs/grpc.md")
    .read_text(encoding="utf-8")
    .partition("\n## The Python client\n")[2]
    .partition("\n## ")[0]
)
ADDRESS = "127.0.0.1:50061"


def run_example(address: str) -> list[str]:
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```$", SECTION)
    assert ADDRESS in code
    done = subprocess.run(
        [sys.executable, "-c", code.replace(ADDRESS, address).replace("0.25", "20.0")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example(start_node):
    first, second, third = run_example(start_node().address)
    assert re.fullmatch(r"[A-Z]+ [a-z-]+ 1 False", first)
    assert second == "not asked: msisdn-unusable"
    asked, messages = map(int, re.findall(r"\d+", third))
    assert asked == 200
    assert messages <= 3


def test_the_example_without_a_node():
    assert run_example("127.0.0.1:1")[0] == "GREYLISTED fail-open 0 True"


def test_what_the_section_names_is_there():
    kinds = (ClientSettings, ClientTls, Counts, Verdict)
    names = {each.name for kind in kinds for each in dataclasses.fields(kind)}
    told = set(re.findall(r"`(?:client\.counts\.)?([a-z_]+)`", SECTION))
    assert told - names == set()
    assert {"on_silence", "attempts", "failures", "pause", "retried", "fallbacks"} <= told
