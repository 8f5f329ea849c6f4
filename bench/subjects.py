"""The servers that are measured, each a process on the server's cores: the node, and its peers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from bench.processes import held_to
from bench.toolchain import HERE, command
from eir.ops.demo import cast
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc

EIR: Final = (sys.executable, "-c", "from eir.ops.cli.main import main; main()")
START_SECONDS: Final = 300.0
ENGINES: Final = ("grpcio", "native")


@dataclass(frozen=True, slots=True)
class Subject:
    """A server that listens. ``protocol``: "grpc" or "resp"; ``constant``: it decides nothing."""

    name: str
    port: int
    pid: int
    protocol: str = "grpc"
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node's folder: one depot, and configurations that differ in what listens."""

    folder: Path

    @property
    def depot(self) -> Path:
        """Where its generations are."""
        return self.folder / "depot"

    def config(self, name: str, grpc_lines: Sequence[str] = (), *, workers: int = 1) -> Path:
        """A configuration over the depot, with an admin socket of its own."""
        path = self.folder / f"{name}.toml"
        plmns = ", ".join(f'"{plmn}"' for plmn in cast.HOME_PLMNS)
        path.write_text(
            f'[node]\ndepot = "depot"\n\n[admin]\nsocket = "{name}.sock"\n\n'
            f"[workers]\ncount = {workers}\n\n"
            f"[policy]\nhome_plmns = [{plmns}]\n\n[grpc]\n" + "\n".join(grpc_lines) + "\n"
        )
        return path


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(words: Sequence[object], cpus: set[int], **options: object) -> subprocess.Popen[bytes]:
    """A process in a group of its own, held to ``cpus``; ``stderr`` is a file to read back."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
    with held_to(cpus):
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
    process.stderr = errors
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force when it does not."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what is left of its group, itself or its children
    process.wait()


@contextlib.contextmanager
def running(
    words: Sequence[object], cpus: set[int], ready: Callable[[], bool], **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A process from when it is ready. Raises RuntimeError when it ends or never is."""
    process = start(words, cpus, **options)
    try:
        wait_for(ready, process)
        yield process
    finally:
        stop(process)


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> float:
    """Seconds until it was ready."""
    begun = time.monotonic()
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}: {_last_words(process)}")
        if time.monotonic() - begun > START_SECONDS:
            raise RuntimeError(f"not ready after {START_SECONDS:.0f} s: {_last_words(process)}")
        time.sleep(0.005)
    return time.monotonic() - begun


def _last_words(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    process.stderr.seek(0)
    return process.stderr.read()[-400:].decode(errors="replace").strip()


def listens(port: int) -> bool:
    """Whether something accepts connections."""
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, imei: str, msisdn: str) -> bool:
    """Whether a verdict comes."""
    if not listens(port):
        return False
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        try:
            wire_grpc.EligibilityStub(channel).Check(
                wire.CheckRequest(imei=imei, msisdn=msisdn), timeout=5
            )
        except grpc.RpcError:
            return False
    return True


@contextlib.contextmanager
def node(place: Node, engine: str, cpus: set[int]) -> Iterator[Subject]:
    """Our node with one engine of the gRPC door. Raises RuntimeError where it does not start."""
    port = free_port()
    lines = [f'listen = ["127.0.0.1:{port}"]', f'engine = "{engine}"']
    words = (*EIR, "serve", "-c", place.config(engine, lines))
    with running(words, cpus, lambda: answers(port, "350000000000000", "")) as process:
        yield Subject(f"node, {engine} door", port, process.pid)


@contextlib.contextmanager
def constant(name: str, words: Sequence[object], cpus: set[int]) -> Iterator[Subject]:
    """A peer that answers a constant; ``words`` get the address appended."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    with running((*words, address), cpus, lambda: listens(port)) as process:
        yield Subject(name, port, process.pid, constant=True)


def constant_peers(cpp: Path | None) -> dict[str, tuple[object, ...]]:
    """Name and command of each peer that answers a constant."""
    peers: dict[str, tuple[object, ...]] = {} if cpp is None else {"C++ gRPC, constant": (cpp,)}
    for name, module in (
        ("native front, constant", "bench.peers.native_constant"),
        ("stock grpcio, constant", "bench.peers.grpcio_constant"),
    ):
        peers[name] = (sys.executable, "-m", module)
    return peers


@contextlib.contextmanager
def redis(
    folder: Path, rows: Sequence[tuple[bytes, bytes]], filler: int, cpus: set[int]
) -> Iterator[Subject]:
    """Redis with the asked devices and ``filler`` others as keys, on a port of its own."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    words = [command("redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", ""]
    with running([*words, "--dir", folder], cpus, lambda: listens(port)) as process:
        pipe = [command("redis-cli"), "-p", str(port), "--pipe"]
        with subprocess.Popen(pipe, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cli:
            assert cli.stdin is not None
            for question, answer in rows:
                key, value = question.split(b"\r\n")[4], answer.split(b"\r\n")[1]
                cli.stdin.write(b"SET %b %b\r\n" % (key, value))
            for n in range(filler):
                cli.stdin.write(b"SET %014d 1:9\r\n" % (10**12 + 7 * n))
            told, _ = cli.communicate()
            if b"errors: 0" not in told:
                raise RuntimeError(f"redis-cli: {told[-200:]!r}")
        yield Subject("Redis GET", port, process.pid, protocol="resp")


@contextlib.contextmanager
def postgres(folder: Path, rows: int, cpus: set[int]) -> Iterator[tuple[Path, int]]:
    """PostgreSQL with a table of ``rows`` devices under a primary key: (socket folder, pid).

    As root it runs as the user ``postgres``, since it refuses to run as root.
    """
    user: dict[str, object] = {"cwd": "/"}
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        user["user"] = "postgres"
        shutil.chown(folder, "postgres")
    quiet = {"check": True, "capture_output": True, **user}
    cluster = folder / "cluster"
    subprocess.run([command("initdb"), "-U", "eir", "-A", "trust", "-D", cluster], **quiet)  # type: ignore[call-overload]
    settings = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}")
    words = (command("postgres"), "-D", cluster, *settings, "-c", "shared_buffers=512MB")
    psql = [command("psql"), "-h", folder, "-U", "eir", "-d", "postgres", "-qAt", "-c"]

    def ready() -> bool:
        return subprocess.run([*psql, "SELECT 1"], capture_output=True).returncode == 0

    with running(words, cpus, ready, **user) as process:
        subprocess.run([*psql, _TABLE.format(rows=rows)], check=True, capture_output=True)
        subprocess.run([*psql, "VACUUM (ANALYZE) device"], check=True, capture_output=True)
        yield folder, process.pid


_TABLE: Final = """
CREATE TABLE device (imei bigint PRIMARY KEY, msisdn bigint, status int NOT NULL);
INSERT INTO device SELECT 35000000000000 + n * 7, 989120000000 + n, (n % 4) + 1
FROM generate_series(0, {rows} - 1) AS n"""

PGBENCH_SCRIPT: Final = HERE / "peers" / "lookup.sql"
