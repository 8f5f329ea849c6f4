"""A checker that answers from a table, doors on free loopback ports, certificates, and tools."""

import asyncio
import datetime
import ipaddress
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from eir.core.policy import Status
from eir.doors.n5g_door import N5gDoor
from eir.doors.n5g_settings import N5gSettings
from eir.errors import Unavailable


@dataclass
class TableChecker:
    """Statuses by IMEI key, GREYLISTED for the rest; remembers every batch it was asked."""

    table: dict[int, Status] = field(default_factory=dict)
    ready: bool = True
    fault: Exception | None = None
    batches: list[list[tuple[int, int, int]]] = field(default_factory=list)

    def check(self, imei, msisdn, imsi):
        assert imei.dtype == msisdn.dtype == imsi.dtype == np.uint64
        self.batches.append(list(zip(imei.tolist(), msisdn.tolist(), imsi.tolist(), strict=True)))
        if self.fault is not None:
            raise self.fault
        if not self.ready:
            raise Unavailable("nothing serves")
        found = [self.table.get(key, Status.GREYLISTED) for key in imei.tolist()]
        return SimpleNamespace(status=np.array(found, dtype=np.uint8))


KNOWN = {
    49015420323751: Status.WHITELISTED,
    35332811001001: Status.BLACKLISTED,
    86000000000001: Status.UNKNOWN,
}


@pytest.fixture
def checker() -> TableChecker:
    return TableChecker(dict(KNOWN))


@pytest.fixture
def open_door(checker) -> Callable[..., object]:
    """``async with open_door(settings…) as (door, base_url)``."""

    @asynccontextmanager
    async def opened(*, gate=None, **settings) -> AsyncIterator[tuple[N5gDoor, str]]:
        door = N5gDoor(N5gSettings(port=0, drain_s=1, **settings), checker, gate=gate)
        await door.start()
        scheme = "https" if settings.get("tls") else "http"
        try:
            yield door, f"{scheme}://127.0.0.1:{door.port}"
        finally:
            await door.stop()

    return opened


@pytest.fixture(scope="session")
def threaded_door():
    """A door in a thread of its own, for clients that block: ``with threaded_door(…) as url``."""

    @contextmanager
    def opened(checker, **settings):
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        door = N5gDoor(N5gSettings(port=0, drain_s=1, **settings), checker)
        try:
            asyncio.run_coroutine_threadsafe(door.start(), loop).result(10)
            yield f"http://127.0.0.1:{door.port}"
        finally:
            asyncio.run_coroutine_threadsafe(door.stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    return opened


@pytest.fixture(scope="session")
def table_checker():
    return lambda: TableChecker(dict(KNOWN))


@pytest.fixture
def run() -> Callable[..., Awaitable[str]]:
    """Run a peer's tool while our loop lives. Absent: skipped, loudly; in CI: failed."""

    async def ran(tool: str, *arguments: str, code: int = 0) -> str:
        if shutil.which(tool) is None:
            message = f"{tool} is not installed: run tests/peers/install.sh"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(f"SKIPPED FOR WANT OF A PEER: {message}")
        made = await asyncio.create_subprocess_exec(
            tool,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(made.communicate(), 30)
        assert made.returncode == code, out.decode()
        return out.decode()

    return ran


@dataclass(frozen=True, slots=True)
class Party:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


class Authority:
    """A CA of this test run."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = self._signed(name, self._key.public_key(), is_ca=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Party:
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._signed(name, key.public_key(), is_ca=False)
        party = Party(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        party.certificate.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        party.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return party

    def _signed(self, name: str, public_key, *, is_ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture
def authority(tmp_path) -> Callable[[str], Authority]:
    return lambda name: Authority(tmp_path, name)
