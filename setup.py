"""Packaging: what a node needs, and the extras for the rest."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "eir/__init__.py").read_text()).group(1)

EXTRAS = {
    "feed": ["obstore>=0.8"],
    "n5g": ["granian>=2.7", "httpx[http2]>=0.28", "joserfc>=1.4"],
    "fuzz": ["atheris>=3.0; sys_platform == 'linux' and python_version < '3.14'"],
    "peers": ["python-diameter>=0.9,<0.10"],
    "native": ["pygrpc-native>=0.5,<0.6"],
    "load": ["duckdb>=2.0", "pyarrow>=17", "tzdata>=2024.1"],
    "dev": [
        "coverage>=7.6",
        "grpcio-tools==1.85.1",
        "h2>=4.1",
        "hypothesis>=6.100",
        "matplotlib>=3.9",
        "moto[server]>=5.1",
        "mypy>=1.14",
        "mypy-protobuf==5.1.0",
        "pytest>=8.3",
        "pytest-asyncio>=0.24",
        "pytest-benchmark>=5.1",
        "openapi-spec-validator>=0.7",
        "pyyaml>=6.0",
        "ruff>=0.9",
        "schemathesis>=4.0",
        "types-protobuf>=5.29",
        "types-PyYAML>=6.0",
        "grpc-stubs>=1.53",
    ],
}
EXTRAS["all"] = sorted({need for needs in EXTRAS.values() for need in needs})

setup(
    name="eir",
    version=VERSION,
    description="A device-eligibility engine: may this device be used with this SIM?",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["eir", "eir.*"]),
    package_data={"eir": ["py.typed", "doors/*.yaml"], "eir.wire.v1": ["*.pyi"]},
    install_requires=[
        "cryptography>=44",
        "grpcio>=1.85.1",
        "grpcio-health-checking>=1.85.1",
        "grpcio-reflection>=1.85.1",
        "msgpack>=1.1",
        "numba>=0.61",
        "numpy>=2.0",
        "prometheus-client>=0.21",
        "protobuf>=7.35.1",
        "pyroaring>=1.0",
        "rich>=13.9",
        "typer>=0.15",
        "uvloop>=0.21; sys_platform != 'win32'",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["eir = eir.ops.cli.main:main"]},
)
