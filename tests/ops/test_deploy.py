"""The unit for systemd starts what exists, and leaves time and workers to the keeper."""

from __future__ import annotations

import shlex
from configparser import ConfigParser
from pathlib import Path

from eir.ops.pages import eir_command
from eir.ops.settings.config import read_config

ROOT = Path(__file__).resolve().parents[2]


def unit() -> ConfigParser:
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read(ROOT / "deploy/systemd/eir.service")
    return parsed


def test_the_commands_are_those_of_the_command_line():
    commands = eir_command().commands
    for key in ("ExecStart", "ExecReload"):
        program, name, option, path = shlex.split(unit()["Service"][key])
        assert Path(program).name == "eir"
        assert path.endswith(".toml")
        assert any(option in param.opts for param in commands[name].params)


def test_only_the_keeper_is_killed_and_has_time_to_drain():
    service = unit()["Service"]
    assert service["KillMode"] == "process"
    drain = read_config("", name="defaults", folder=ROOT).grpc.drain_seconds
    assert int(service["TimeoutStopSec"]) > 2 * drain
    assert service["Restart"] == "on-failure"
