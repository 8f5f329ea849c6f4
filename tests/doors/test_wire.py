"""The committed generated code is what the .proto files say, and the enums are the engine's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from eir.core.policy import FIXED_REASONS, Status
from eir.wire.v1 import eligibility_pb2 as wire

ROOT = Path(__file__).parents[2]


def test_generated_code_is_what_the_protos_say(tmp_path):
    pytest.importorskip("grpc_tools", reason="grpcio-tools generates the code")
    spec = importlib.util.spec_from_file_location("generate", ROOT / "proto" / "generate.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    generator.generate(tmp_path)
    made = {path.name: path.read_text() for path in (tmp_path / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "eir/wire/v1").glob("*.py*")}
    assert made == committed, "run: python proto/generate.py"


def test_reasons_are_the_decision_tables():
    told = {
        name.removeprefix("REASON_").lower().replace("_", "-"): number
        for name, number in wire.Reason.items()
    }
    assert told == {"unspecified": 0, **FIXED_REASONS}


def test_statuses_are_the_four_of_3gpp():
    told = {name.removeprefix("STATUS_"): number for name, number in wire.Status.items()}
    assert told == {"UNSPECIFIED": 0, **{status.name: status.value for status in Status}}
