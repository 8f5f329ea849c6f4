"""Doors to test and a checker to put behind them.

A conformance test takes ``open_door`` and speaks to an address, so it holds for every gRPC engine
in ``ENGINES``; what an engine cannot do (TLS, streams) it is not asked.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import os
import shutil
import subprocess
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from numpy.typing import NDArray

from eir import limits
from eir.core.policy import FIXED_REASONS, Policy
from eir.core.tables import Tables
from eir.doors.grpc_door import GrpcDoor, GrpcSettings
from eir.doors.native_door import NativeDoor, NativeSettings
from eir.errors import Unavailable
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.serve.checker import Answer, Checker
from eir.serve.events import Events
from eir.serve.holder import Holder, Serving
from eir.wire.v1 import eligibility_pb2 as wire
from eir.wire.v1 import eligibility_pb2_grpc as wire_grpc

T = TypeVar("T")
Keys = NDArray[np.uint64]

REASON_NAMES = {number: name for name, number in FIXED_REASONS.items()}
REASON_NAMES |= {256: "stolen", 600: "by-decree"}
REASONS = np.array(list(REASON_NAMES), dtype=np.uint16)


@dataclass(slots=True)
class FakeChecker:
    """Verdicts that follow from the identifiers and the serial, so that any mix-up shows.

    ``gate`` holds every check until it is set; ``entered`` tells that one is held.
    """

    ready: bool = True
    serial: int = 7
    stale: bool = False
    failure: Exception | None = None
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[Keys, Keys, Keys]] = field(default_factory=list)

    def check(self, imei: Keys, msisdn: Keys, imsi: Keys) -> Answer:
        serial = self.serial
        self.asked.append((imei, msisdn, imsi))
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        if not self.ready:
            raise Unavailable("nothing serves")
        if self.failure is not None:
            raise self.failure
        return self.verdicts(imei, msisdn, imsi, serial)

    def verdicts(self, imei: Keys, msisdn: Keys, imsi: Keys, serial: int) -> Answer:
        mixed = imei + msisdn + imsi + np.uint64(serial)
        status = (mixed % 4 + 1).astype(np.uint8)
        shown = np.where((mixed % 3 == 0) & (status > 2), 2, status).astype(np.uint8)
        reason = REASONS[mixed % len(REASONS)]
        return Answer(
            status=shown,
            decided=status,
            code=np.zeros(len(imei), np.uint8),
            reason=reason,
            valid_until=np.where(reason == 12, 1_900_000_000 + serial, 0).astype(np.int64),
            registry_serial=serial,
            operator_serial=serial + 1_000,
            stale=self.stale,
            reason_names=REASON_NAMES,
        )


class RunningDoor(Protocol):
    """A door that listens, whatever its engine."""

    @property
    def address(self) -> str: ...
    def readiness_changed(self) -> None: ...
    def reload(self) -> None: ...
    def stop(self, drain_seconds: float) -> Future[None]: ...


class LoopThread:
    """One event loop in a thread of its own for the whole run, as grpcio's engine wants it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[object, object, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.submit(work).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)


Checking = FakeChecker | Checker
AnyDoor = GrpcDoor | NativeDoor


class OutsideItsLoop:
    """A door, driven from another thread than its loop's."""

    def __init__(self, thread: LoopThread, door: AnyDoor) -> None:
        self._thread = thread
        self._door = door
        thread.run(self._door.start())
        self.addresses = self._door.addresses
        self.address = self.addresses[0]

    def readiness_changed(self) -> None:
        self._door.readiness_changed()

    def reload(self) -> None:
        async def on_loop() -> None:
            self._door.reload()

        self._thread.run(on_loop())

    def stop(self, drain_seconds: float) -> Future[None]:
        return self._thread.submit(self._door.stop(drain_seconds))


def native_door(
    settings: GrpcSettings, checker: Checking, events: Events | None = None
) -> NativeDoor:
    """A native door with grpcio's behind it, as a node puts them together.

    One connection may have as many calls open as can be configured.
    """
    common = {field.name for field in fields(NativeSettings)} & set(GrpcSettings.__slots__)
    return NativeDoor(
        NativeSettings(
            **{name: getattr(settings, name) for name in common},
            calls_per_connection=limits.MAX_NATIVE_CALLS_PER_CONNECTION,
        ),
        checker,
        lambda address: GrpcDoor(replace(settings, listen=(address,)), checker, events),
        events,
    )


Opener = Callable[..., RunningDoor]

ENGINES: dict[str, Callable[..., AnyDoor]] = {
    "grpcio": GrpcDoor,
    "native": native_door,
}
STREAMING_ENGINES = ("grpcio", "native")
TLS_ENGINES = ("grpcio",)


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(params=ENGINES)
def new_door(request: pytest.FixtureRequest) -> Callable[[GrpcSettings, Checking], AnyDoor]:
    """Makes a door that does not listen yet."""
    return ENGINES[request.param]


def _opener(engine: str, thread: LoopThread) -> Iterator[Opener]:
    opened: list[RunningDoor] = []

    def open_door(
        checker: FakeChecker, *, events: Events | None = None, **settings: object
    ) -> RunningDoor:
        chosen = GrpcSettings(**{"listen": ("127.0.0.1:0",), **settings})  # type: ignore[arg-type]
        opened.append(OutsideItsLoop(thread, ENGINES[engine](chosen, checker, events)))
        return opened[-1]

    open_door.opened = opened  # type: ignore[attr-defined]
    yield open_door
    for door in opened:
        door.stop(0).result(30)


@pytest.fixture(params=ENGINES)
def open_door(request: pytest.FixtureRequest, loop_thread: LoopThread) -> Iterator[Opener]:
    yield from _opener(request.param, loop_thread)


@pytest.fixture
def open_grpcio(loop_thread: LoopThread) -> Iterator[Opener]:
    yield from _opener("grpcio", loop_thread)


@pytest.fixture
def open_native(loop_thread: LoopThread) -> Iterator[Opener]:
    yield from _opener("native", loop_thread)


@pytest.fixture(params=STREAMING_ENGINES)
def open_streaming_door(
    request: pytest.FixtureRequest, loop_thread: LoopThread
) -> Iterator[Opener]:
    yield from _opener(request.param, loop_thread)


@pytest.fixture(params=TLS_ENGINES)
def open_tls_door(request: pytest.FixtureRequest, loop_thread: LoopThread) -> Iterator[Opener]:
    yield from _opener(request.param, loop_thread)


@pytest.fixture
def checker() -> FakeChecker:
    return FakeChecker()


@pytest.fixture
def connect() -> Iterator[Callable[..., grpc.Channel]]:
    """Channels that share no connection with any other, closed at the end."""
    channels: list[grpc.Channel] = []

    def to(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        options = (("grpc.use_local_subchannel_pool", 1),)
        if credentials is None:
            channels.append(grpc.insecure_channel(address, options))
        else:
            channels.append(grpc.secure_channel(address, credentials, options))
        return channels[-1]

    yield to
    for channel in channels:
        channel.close()


@pytest.fixture
def stub_of(connect: Callable[..., grpc.Channel]) -> Callable[..., wire_grpc.EligibilityStub]:
    return lambda address, credentials=None: wire_grpc.EligibilityStub(
        connect(address, credentials)
    )


@pytest.fixture
def a_check() -> wire.CheckRequest:
    return wire.CheckRequest(imei="490154203237518", msisdn="989121234567")


@pytest.fixture
def failure_of() -> Callable[..., tuple[grpc.StatusCode, str]]:
    """The status a call ends with, and the reason code that its text begins with."""

    def of(call: Callable[..., object], *args: object, **options: object) -> tuple[object, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call(*args, **{"timeout": 30, **options})
        return caught.value.code(), caught.value.details().partition(":")[0]

    return of


class Authority:
    """A certificate authority that issues PEM pairs."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = _pem(self._certificate(self._name, self._key, authority=True))

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """(key, certificate) for ``name``, good for localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
            _pem(self._certificate(subject, key, authority=False)),
        )

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="session")
def ours() -> Authority:
    return Authority("ours")


@pytest.fixture(scope="session")
def theirs() -> Authority:
    return Authority("theirs")


@pytest.fixture
def tls_files(tmp_path: Path, ours: Authority) -> Callable[..., dict[str, Path]]:
    """The three files of a door: clients of ``ours``, the server's pair issued by whom one says."""

    def write(authority: Authority = ours) -> dict[str, Path]:
        key, cert = authority.issue("eir.example")
        (tmp_path / "key.pem").write_bytes(key)
        (tmp_path / "cert.pem").write_bytes(cert)
        (tmp_path / "ca.pem").write_bytes(ours.cert)
        return {
            "tls_cert": tmp_path / "cert.pem",
            "tls_key": tmp_path / "key.pem",
            "client_ca": tmp_path / "ca.pem",
        }

    return write


@pytest.fixture
def trusting() -> Callable[..., grpc.ChannelCredentials]:
    """Credentials of a client that trusts an authority, and shows a pair if it has one."""

    def credentials(
        authority: Authority, pair: tuple[bytes, bytes] | None = None
    ) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(authority.cert, *(pair or (None, None)))

    return credentials


@dataclass(frozen=True, slots=True)
class Engine:
    """The real engine with two generations in which no device has the same verdict.

    ``batch`` asks for every device; ``reasons`` are the ids it must get, by serial.
    """

    holder: Holder
    checker: Checker
    first: Serving
    second: Serving
    keys: Keys
    batch: wire.CheckBatchRequest
    reasons: dict[int, list[int]]
    reason_names: dict[int, str]


@pytest.fixture(scope="session")
def generations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Serving, Serving]:
    folder = tmp_path_factory.mktemp("generations")
    return _serving(folder, serial=1), _serving(folder, serial=2)


@pytest.fixture
def engine(generations: tuple[Serving, Serving]) -> Engine:
    holder = Holder()
    numbers = DEVICES % np.uint64(1_000) + np.uint64(989_120_000_000)
    expected = {serial: _groups(serial) for serial in (1, 2)}
    reason_of = {
        "white": "not-activated",
        "legacy": "legacy",
        "black.stolen": "stolen",
        "bindings": "bound",
        "grey": "grace",
        "": "not-registered",
    }
    ids = {**FIXED_REASONS, "stolen": 256}
    return Engine(
        holder=holder,
        checker=Checker(holder),
        first=generations[0],
        second=generations[1],
        keys=DEVICES,
        batch=wire.CheckBatchRequest(
            imei14=DEVICES.tolist(), msisdn=numbers.tolist(), imsi=[0] * len(DEVICES)
        ),
        reasons={
            serial: [ids[reason_of[name]] for name in groups for _ in range(100)]
            for serial, groups in expected.items()
        },
        reason_names=dict(generations[0].tables.reason_names),
    )


DEVICES: Keys = np.arange(35_000_000_000_000, 35_000_000_000_600, dtype=np.uint64)
GROUPS = ("white", "legacy", "black.stolen", "bindings", "grey", "")


def _groups(serial: int) -> tuple[str, ...]:
    """The section that each hundred devices stands in; in the next serial, another one."""
    return GROUPS[serial:] + GROUPS[:serial]


def _serving(folder: Path, *, serial: int) -> Serving:
    head = SnapshotHead(
        "registry", "local", "8f9a2c1e-0000-4000-8000-000000000001", serial, 1_700_000_000
    )
    writer = SnapshotWriter(head)
    for place, name in enumerate(_groups(serial)):
        keys = DEVICES[place * 100 : place * 100 + 100]
        if name == "bindings":
            numbers = keys % np.uint64(1_000) + np.uint64(989_120_000_000)
            writer.add_pairs(name, [(keys, numbers)])
        elif name == "grey":
            never = np.full(len(keys), 4_000_000_000, np.int64)
            writer.add_deadlines(name, [(keys, np.zeros_like(keys), never)])
        elif name:
            writer.add_list(name, [keys], reason_id=256 if name == "black.stolen" else 0)
    writer.write(folder / f"{serial}.snapshot")
    generation = open_snapshot(folder / f"{serial}.snapshot")
    return Serving(Tables(generation, None, Policy()), data_time=1_700_000_000)


NODE_CLIENT = Path(__file__).parent / "node_client"


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """A folder outside the tree in which the Node client's packages are installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        absent("node and npm are not installed")
    pinned = (NODE_CLIENT / "package-lock.json").read_bytes() + (
        NODE_CLIENT / "package.json"
    ).read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "eir-tests"
    folder = cache / f"node-client-{hashlib.sha256(pinned).hexdigest()[:16]}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE_CLIENT / name, folder)
        installed = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if installed.returncode != 0:
            absent(f"npm could not install the client: {installed.stderr[-400:]}")
        (folder / "installed").touch()
    return folder


def absent(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    warnings.warn(f"NOT TESTED: {why}", stacklevel=2)
    pytest.skip(why)
