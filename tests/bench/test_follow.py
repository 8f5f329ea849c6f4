"""The benchmark of following: what it says is of a node that got there, and reaches the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from bench import others
from bench.delta import base_generation
from bench.lines import Lines, read
from bench.report import page
from bench.run import PARTS

ROOT = Path(__file__).parents[2]
ABOUT = {
    "machine": {"cpu": "A model", "cores": 4, "memory_gib": 16.0, "system": "Linux 6.1"},
    "versions": {"eir": "0.1.0"},
    "date": "2026-01-31",
}


def test_steps_and_a_crowd_reach_the_page(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(others, "CROWD", 3)
    monkeypatch.setattr(others, "DELTA_CHANGES", (100,))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lines = Lines(tmp_path / "lines.jsonl", ABOUT)
    made = tmp_path / "registry.eirsnap"
    base_generation(made, 4_000, np.random.default_rng(1))
    others.follow(lines, made, tmp_path, devices=4_000, rounds=1)
    others.crowd(lines, tmp_path, devices=4_000)
    assert not lines.absent
    assert not lines.faults
    found = {str(line["subject"]): line["values"] for line in read(lines.path)}
    assert found["delta"]["changes"]["median"] == 100
    assert 0 < found["delta"]["seconds"]["low"] <= found["delta"]["answered_s"]["high"]
    assert found["first load"]["bytes_a_device"]["median"] > 1
    assert found["crowd, snapshot"]["nodes"]["median"] == 3
    assert found["crowd, delta of 1,000"]["bytes_a_node"]["median"] < 20_000
    assert found["crowd, nothing new"]["bytes"]["median"] == 0
    text = page(read(lines.path), ())
    assert "## Following a feed" in text
    assert "| nothing new | " in text


def test_it_is_a_part_of_the_run():
    assert "follow" in PARTS
    told = subprocess.run(
        [sys.executable, "-m", "bench.run", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert "follow" in told.stdout
