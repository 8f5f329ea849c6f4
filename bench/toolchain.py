"""What the benchmark builds and installs: the load generator, the C++ peer, Debian's tools.

What is not there and can't be installed is told, so that no missing peer passes unseen.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
PROTO: Final = HERE.parent / "proto"
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "cc": ("gcc", "libc6-dev"),
    "g++": ("g++",),
    "pkg-config": ("pkg-config",),
    "protoc": ("protobuf-compiler", "libprotobuf-dev"),
    "grpc_cpp_plugin": ("protobuf-compiler-grpc", "libgrpc++-dev"),
    "h2load": ("nghttp2-client",),
    "redis-server": ("redis-server",),
    "redis-cli": ("redis-tools",),
    "pgbench": ("postgresql", "postgresql-contrib"),
}
_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "protoc": ("/usr/include/google/protobuf/message.h",),
    "grpc_cpp_plugin": ("/usr/include/grpcpp/grpcpp.h",),
}


@dataclass(frozen=True, slots=True)
class Tools:
    """What was built. ``constant`` is None where the C++ peer can't be; ``absent`` says why."""

    load: Path
    constant: Path | None
    absent: tuple[str, ...]


def prepare(scratch: Path, *, install: bool) -> Tools:
    """Install what is missing (with ``install``, by apt-get, as root or by sudo) and build.

    Raises RuntimeError when there is no C compiler: nothing can be measured without.
    """
    missing = [name for name in NEEDS if not _is_there(name)]
    if missing and install:
        _install(sorted({package for name in missing for package in NEEDS[name]}))
        missing = [name for name in NEEDS if not _is_there(name)]
    absent = [f"{name} (Debian: {' '.join(NEEDS[name])})" for name in missing]
    if "cc" in missing:
        raise RuntimeError(f"the load generator needs a C compiler: {absent[0]}")
    load = scratch / "load"
    flags = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
    subprocess.run(["cc", *flags, "-o", load, HERE / "load" / "load.c", "-lm"], check=True)
    constant = None
    if not {"g++", "pkg-config", "protoc", "grpc_cpp_plugin"} & set(missing):
        constant = _build_constant(scratch)
    return Tools(load, constant, tuple(absent))


def command(name: str) -> str:
    """The path of a command, also where Debian keeps PostgreSQL's; raises RuntimeError."""
    found = shutil.which(name) or _postgres_command(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found


def _postgres_command(name: str) -> str | None:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(versions[-1]) if versions else None


def _is_there(name: str) -> bool:
    here = shutil.which(name) or _postgres_command(name)
    return here is not None and all(Path(header).exists() for header in _HEADERS.get(name, ()))


def _install(packages: list[str]) -> None:
    root = () if os.geteuid() == 0 else ("sudo", "-n")
    if shutil.which("apt-get") is None or (root and shutil.which("sudo") is None):
        return
    for words in (("update", "-qq"), ("install", "-y", "--no-install-recommends", *packages)):
        done = subprocess.run(
            [*root, "apt-get", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode != 0:
            print(f"NOT INSTALLED: {' '.join(packages)}: {done.stderr.strip()[-300:]}", flush=True)
            return


def _build_constant(scratch: Path) -> Path:
    made = scratch / "proto"
    made.mkdir(exist_ok=True)
    name = "eir/v1/eligibility"
    plugin = f"--plugin=protoc-gen-grpc={command('grpc_cpp_plugin')}"
    outputs = (f"--cpp_out={made}", f"--grpc_out={made}", plugin)
    subprocess.run(["protoc", "-I", PROTO, *outputs, f"{name}.proto"], check=True)
    told = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "grpc++", "protobuf"],
        check=True,
        capture_output=True,
        text=True,
    )
    sources = [HERE / "peers/constant.cc", made / f"{name}.pb.cc", made / f"{name}.grpc.pb.cc"]
    binary = scratch / "constant"
    compiler = ["g++", "-O2", "-std=c++17", f"-I{made}", "-o", binary, *sources]
    subprocess.run([*compiler, *shlex.split(told.stdout)], check=True)
    return binary
