"""deploy/nginx/eir.conf before the native door: TLS ends there, and what must not pass does not."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc
from tests.doors.conftest import absent

CONF = Path(__file__).parents[2] / "deploy/nginx/eir.conf"
MAIN = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/eir.conf;
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int, nginx: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert nginx.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(log.read_text())


@pytest.fixture
def proxy(open_native, checker, tls_files, tmp_path):
    """The port of an nginx that runs the configuration as it stands, but for names of places."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        absent("nginx is not installed")
    node, files, port = open_native(checker).address, tls_files(), free_port()
    text = CONF.read_text(encoding="utf-8")
    for old, new in (
        ("127.0.0.1:50061", node),
        ("50443", f"127.0.0.1:{port}"),
        ("/etc/eir/tls/cert.pem", str(files["tls_cert"])),
        ("/etc/eir/tls/key.pem", str(files["tls_key"])),
        ("/etc/eir/tls/clients.pem", str(files["client_ca"])),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "eir.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(MAIN.format(folder=tmp_path))
    nginx = subprocess.Popen(
        [program, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"]
    )
    try:
        listening(port, nginx, tmp_path / "error.log")
        yield f"localhost:{port}"
    finally:
        nginx.terminate()
        nginx.wait(30)


@pytest.fixture
def channel(proxy, ours, trusting, connect):
    return connect(proxy, trusting(ours, ours.issue("core.example")))


def test_the_questions_pass(channel, checker, a_check):
    stub = wire_grpc.EligibilityStub(channel)
    assert stub.Check(a_check, timeout=30).registry_serial == 7
    keys = list(range(1, 8_193))
    assert len(stub.CheckBatch(wire.CheckBatchRequest(imei14=keys), timeout=30).status) == 8_192
    asked = [wire.CheckStreamRequest(tag=t, batch={"imei14": [t]}) for t in range(20)]
    assert [reply.tag for reply in stub.CheckStream(iter(asked), timeout=30)] == list(range(20))
    health = health_pb2_grpc.HealthStub(channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == 1
    checker.ready = False
    with pytest.raises(grpc.RpcError) as ended:
        stub.Check(a_check, timeout=30)
    assert ended.value.details().startswith("not-ready:")


def test_a_client_without_a_certificate_does_not(proxy, ours, trusting, connect, a_check, checker):
    stub = wire_grpc.EligibilityStub(connect(proxy, trusting(ours)))
    with pytest.raises(grpc.RpcError):
        stub.Check(a_check, timeout=10)
    assert not checker.asked


def test_what_the_node_should_not_see_does_not(channel, checker):
    gzip = grpc.Compression.Gzip
    refused = []
    for path, message, packed in (
        ("/eir.v1.Eligibility/Check", bytes(2 << 20), None),
        ("/eir.v1.Eligibility/Check", bytes(100_000), gzip),
        ("/eir.v1.Admin/Reload", b"", None),
    ):
        call = channel.unary_unary(path)
        with pytest.raises(grpc.RpcError) as ended:
            call(message, timeout=30, compression=packed)
        refused.append(ended.value.code())
    assert refused == [StatusCode.INVALID_ARGUMENT] * 3
    assert not checker.asked


def test_without_a_node_it_is_unavailable(channel, a_check, open_native):
    stub = wire_grpc.EligibilityStub(channel)
    assert stub.Check(a_check, timeout=30).status
    for door in open_native.opened:
        door.stop(0).result(30)
    with pytest.raises(grpc.RpcError) as ended:
        stub.Check(a_check, timeout=30)
    assert ended.value.code() is StatusCode.UNAVAILABLE
