"""Make the Python code in eir/wire/ from the .proto files: ``python proto/generate.py``.

The generated code is committed, so that a clone needs no compiler. protoc knows a file by its path
below proto/ and has Python import it by that path; ours live below eir.wire, so those imports are
rewritten.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMITTED = HERE.parent / "eir" / "wire"
SOURCES = ("eir/v1/eligibility.proto", "eir/v1/admin.proto")
BIN = str(Path(sys.executable).parent)  # where protoc finds its plugins
OUTPUTS = ("python", "pyi", "grpc_python", "mypy_grpc")


def generate(into: Path) -> list[Path]:
    """Write ``v1/*_pb2*.py[i]`` below ``into`` and give their paths.

    Needs grpcio-tools and mypy-protobuf.
    """
    with tempfile.TemporaryDirectory() as scratch:
        outputs = (f"--{kind}_out={scratch}" for kind in OUTPUTS)
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{HERE}", *outputs, *SOURCES],
            check=True,
            env={**os.environ, "PATH": os.pathsep.join((BIN, os.environ.get("PATH", "")))},
        )
        made = sorted(Path(scratch, "eir", "v1").iterdir())
        target = into / "v1"
        target.mkdir(parents=True, exist_ok=True)
        (target / "__init__.py").write_text('"""Made by proto/generate.py."""\n')
        for path in made:
            (target / path.name).write_text(_moved(path.read_text()))
    return [target / path.name for path in made]


def _moved(code: str) -> str:
    """The same code, importing its siblings from eir.wire.v1."""
    return re.sub(r"^from eir\.v1 import|^import eir\.v1\.", _place, code, flags=re.M)


def _place(match: re.Match[str]) -> str:
    return match[0].replace("eir.v1", "eir.wire.v1")


if __name__ == "__main__":
    generate(COMMITTED)
