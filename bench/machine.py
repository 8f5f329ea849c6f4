"""What a figure must be read with: the machine, the versions, what a server costs it.

Names the kind of machine (CPU model, cores), never the machine itself.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

PACKAGES: Final = ("numpy", "numba", "grpcio", "protobuf", "pygrpc-native", "duckdb")
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "gRPC C++": ("pkg-config", "--modversion", "grpc++"),
    "redis": ("redis-server", "--version"),
    "postgresql": ("psql", "--version"),
    "nghttp2": ("h2load", "--version"),
}
_PROC: Final = Path("/proc")


def about() -> dict[str, object]:
    """Machine, versions and date of a run."""
    return {
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": round(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
            ),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
        },
        "versions": {"eir": _package("eir"), "python": platform.python_version(), **_versions()},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _cpu_model() -> str:
    text = (_PROC / "cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"(?m)^model name\s*: (.+)$", text)
    family = re.search(r"(?m)^cpu family\s*: (.+)$", text)
    name = model[1].strip() if model else platform.machine()
    return f"{name}, family {family[1]}" if family else name


def _package(name: str) -> str:
    if name == "eir":
        import eir

        return eir.__version__
    return importlib.metadata.version(name)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = _package(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for name, command in COMMANDS.items():
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            continue
        version = re.search(r"\d+(\.\d+)+", told)
        if version:
            found[name] = version[0]
    return found


def process_tree(root: int) -> list[int]:
    """``root`` and all its descendants that live."""
    parents = {pid: int(fields[1]) for pid, fields in _stats()}
    tree, front = [root], [root]
    while front:
        front = [pid for pid, parent in parents.items() if parent in front]
        tree += front
    return [pid for pid in tree if pid in parents]


def cpu_seconds(root: int) -> float:
    """CPU time of a process and its descendants, those it waited for included."""
    tree = set(process_tree(root))
    ticks = sum(sum(map(int, fields[11:15])) for pid, fields in _stats() if pid in tree)
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_bytes(root: int) -> int:
    """Proportional set size of a process and its descendants: shared pages count once."""
    total = 0
    for pid in process_tree(root):
        try:
            text = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        found = re.search(r"(?m)^Pss: +(\d+) kB", text)
        total += int(found[1]) * 1024 if found else 0
    return total


def _stats() -> Iterable[tuple[int, list[str]]]:
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        yield int(folder.name), text.rpartition(")")[2].split()
