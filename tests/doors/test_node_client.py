"""A client in another language, on another gRPC implementation, gets the same verdicts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from grpc import StatusCode

from eir.wire.v1 import eligibility_pb2 as wire

SCRIPT = Path(__file__).parent / "node_client" / "ask.mjs"
PROTO = Path(__file__).parents[2] / "proto"


def ask(node_packages: Path, address: str, asked: dict) -> dict:
    script = shutil.copy(SCRIPT, node_packages)
    done = subprocess.run(
        ["node", script, address, PROTO],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_node_gets_the_same_verdicts(node_packages, open_streaming_door, engine, stub_of):
    engine.holder.swap(engine.first)
    address = open_streaming_door(engine.checker).address
    stub = stub_of(address)
    checks = [
        {"imei": f"{key:014d}5", "msisdn": str(number)}
        for key, number in list(zip(engine.batch.imei14, engine.batch.msisdn, strict=True))[::37]
    ]
    checks += [{"imei": "not an IMEI"}, {"imei": "490154203237518", "imsi": "001010123456789"}]
    refused = {"imei": "490154203237518", "msisdn": "+989121234567"}
    columns = {
        "imei14": [str(key) for key in engine.batch.imei14],
        "msisdn": [str(number) for number in engine.batch.msisdn],
        "imsi": [str(code) for code in engine.batch.imsi],
    }
    tags = ["0", "77", str(2**64 - 1)]
    answers = ask(
        node_packages,
        address,
        {
            "checks": [*checks, refused],
            "batch": columns,
            "stream": [{"tag": tag, "batch": columns} for tag in tags],
        },
    )
    for request, answer in zip(checks, answers["checks"], strict=False):
        reply = stub.Check(wire.CheckRequest(**request), timeout=60)
        assert answer == {
            "status": reply.status,
            "decided_status": reply.decided_status,
            "reason": reply.reason,
            "reason_name": reply.reason_name,
            "valid_until": str(reply.valid_until),
            "registry_serial": str(reply.registry_serial),
            "operator_serial": str(reply.operator_serial),
            "stale": reply.stale,
        }
    assert answers["checks"][-1]["code"] == StatusCode.INVALID_ARGUMENT.value[0]
    assert answers["checks"][-1]["details"].startswith("msisdn-unusable:")
    batch = stub.CheckBatch(engine.batch, timeout=60)
    assert len(set(batch.reason)) > 5
    expected = {
        "status": list(batch.status),
        "decided_status": list(batch.decided_status),
        "reason": list(batch.reason),
        "valid_until": [str(until) for until in batch.valid_until],
        "registry_serial": str(batch.registry_serial),
        "operator_serial": str(batch.operator_serial),
        "stale": batch.stale,
    }
    assert answers["batch"] == expected
    assert answers["stream"] == [{"tag": tag, "batch": expected} for tag in tags]
