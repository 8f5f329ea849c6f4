"""The examples of docs/grpc.md run as they stand, but for the address and the folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pool
from grpc import StatusCode

from eir.wire.v1 import admin_pb2, eligibility_pb2

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/grpc.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:50061"


def example(language: str) -> str:
    text = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)[-1]
    assert ADDRESS in text
    return text


def test_the_python_example(open_door, engine):
    engine.holder.swap(engine.first)
    code = example("python").replace(ADDRESS, open_door(engine.checker).address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == [
        "STATUS_GREYLISTED not-registered 1",
        "no verdict: INVALID_ARGUMENT msisdn-unusable:"
        " msisdn is not 5 to 15 digits, the first of them not 0",
        "[2]",
    ], done.stderr


def test_the_node_example(open_door, engine, node_packages):
    engine.holder.swap(engine.first)
    code = example("javascript").replace(ADDRESS, open_door(engine.checker).address)
    script = node_packages / "example.mjs"
    script.write_text(code.replace('"proto"', f'"{ROOT / "proto"}"'))
    done = subprocess.run(["node", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[ 'STATUS_GREYLISTED' ] [ 16 ] 1", done.stderr


def test_what_the_page_names_is_there():
    pool = descriptor_pool.Default()
    for method in re.findall(r"(eir\.v1\.\w+)/(\w+)", PAGE):
        assert method[1] in pool.FindServiceByName(method[0]).methods_by_name
    told = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", PAGE)) - {"NOT_SERVING"}
    known = {*StatusCode.__members__, *eligibility_pb2.Status.keys()}
    assert told <= known
    fields = {"status", "reason", "decided_status", "valid_until", "stale", "registry_serial"}
    assert fields <= set(eligibility_pb2.CheckReply.DESCRIPTOR.fields_by_name)
    assert admin_pb2.DESCRIPTOR.services_by_name["Admin"]
