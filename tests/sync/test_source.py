"""The fetch against a real server that hangs, trickles, cuts, lies and asks for a certificate."""

import dataclasses
import gzip
import hashlib
import http.server
import ipaddress
import resource
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from eir import limits
from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.head import FeedFile, Serial
from eir.sync.reader import Patience
from eir.sync.source import Source, open_source

PATIENCE = Patience(connect_s=10, idle_s=20, grace_s=40)
HASTY = Patience(connect_s=10, idle_s=0.5, grace_s=0.5, least_bytes_per_s=1e9)
SLOW_BUT_BUSY = Patience(connect_s=10, idle_s=20, grace_s=0.5, least_bytes_per_s=1e9)
CONTENT = bytes(range(256)) * 2_000
NAME = "snapshot-7-aa"


def promised(content: bytes, name: str = NAME) -> FeedFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return FeedFile(Serial(7), name, len(content), sha256, "dd" * 16)


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``, and misbehaves as ``fault`` says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"head": b"HEAD-1", "keys": b"KEYS-1", NAME: CONTENT}
        self.fault = ""
        self.asked: list[tuple[str, str]] = []
        self.released = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is what these tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        name, fault = self.path.rpartition("/")[2], self.server.fault
        self.server.asked.append((name, self.headers.get("Range", "")))
        self.close_connection = True
        if fault == "silent":
            self.server.released.wait(20)
            return
        if fault == "trickling headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
            while not self.server.released.wait(0.05):
                self.wfile.write(b"x")
            return
        if fault.isdigit() or name not in self.server.files:
            self.send_error(int(fault) if fault.isdigit() else 404)
            return
        self._answer(self.server.files[name], fault)

    def _answer(self, content: bytes, fault: str) -> None:
        etag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        if self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.send_header("ETag", etag)
            self.end_headers()
            return
        start = 0
        if "Range" in self.headers and fault != "no ranges":
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        declared = len(body) + {"declares more": 5, "declares less": -5}.get(fault, 0)
        if fault == "no length":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(declared))
        if fault != "no etag":
            self.send_header("ETag", etag)
        if fault == "encoded":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: str) -> None:
        half = len(body) // 2
        if fault == "cut":
            self.wfile.write(body[:half])
        elif fault == "hanging":
            self.wfile.write(body[:half])
            self.server.released.wait(20)
        elif fault == "trickling":
            for place in range(len(body)):
                if self.server.released.wait(0.02):
                    return
                self.wfile.write(body[place : place + 1])
        elif fault == "no length":
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        elif fault == "other bytes":
            self.wfile.write(b"?" * len(body))
        else:
            self.wfile.write(body)


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: an authority, and one certificate that serves both ends."""

    authority: Path
    own: Path
    key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("pki")
    authority = ec.generate_private_key(ec.SECP256R1())
    own = ec.generate_private_key(ec.SECP256R1())
    for name, key, is_authority in (("authority", authority, True), ("own", own, False)):
        pem = _certificate(name, key, authority, is_authority)
        (folder / f"{name}.pem").write_bytes(pem.public_bytes(serialization.Encoding.PEM))
    (folder / "own.key").write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Certificates(folder / "authority.pem", folder / "own.pem", folder / "own.key")


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: ec.EllipticCurvePrivateKey,
    is_authority: bool,
) -> x509.Certificate:
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(issuer, hashes.SHA256())
    )


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield served
    served.released.set()
    served.shutdown()
    served.server_close()
    thread.join()


def demand_certificates(server: Server, certificates: Certificates) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.own, certificates.key)
    tls.load_verify_locations(certificates.authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


@pytest.fixture(params=["http", "mtls"])
def address(request: pytest.FixtureRequest, server: Server, certificates: Certificates) -> Address:
    """The server's feed, in clear through the object store, and by mTLS."""
    if request.param == "http":
        return Address(f"http://127.0.0.1:{server.server_port}/nation/")
    demand_certificates(server, certificates)
    return Address(
        f"https://127.0.0.1:{server.server_port}/nation",
        root_certificate=certificates.authority,
        client_certificate=certificates.own,
        client_key=certificates.key,
    )


@pytest.fixture
def feed(address: Address) -> Source:
    return open_source(address, PATIENCE)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.part"


def refusal(feed: Source, part: Path, file: FeedFile | None = None) -> str:
    with pytest.raises(Refused) as refused:
        feed.fetch(file or promised(CONTENT), part)
    return refused.value.reason


def test_a_head_is_fetched_once_and_then_only_asked_after(feed: Source, server: Server) -> None:
    first = feed.head()
    assert first
    assert first.raw == b"HEAD-1"
    assert feed.head(first.etag) is None
    server.files["head"] = b"HEAD-2"
    second = feed.head(first.etag)
    assert second
    assert second.raw == b"HEAD-2"
    found = feed.keys()
    assert found
    assert found.raw == b"KEYS-1"


def test_without_an_etag_the_head_comes_each_time(feed: Source, server: Server) -> None:
    server.fault = "no etag"
    first = feed.head()
    assert first
    assert first.etag == ""
    assert feed.head(first.etag) == first


def test_a_file_comes_whole_and_is_hashed(feed: Source, part: Path) -> None:
    heard: list[int] = []
    assert feed.fetch(promised(CONTENT), part, advance=heard.append) == len(CONTENT)
    assert part.read_bytes() == CONTENT
    assert heard == sorted(heard)
    assert heard[-1] == len(CONTENT)
    assert part.stat().st_mode & 0o077 == 0


def test_a_whole_part_asks_for_nothing(feed: Source, server: Server, part: Path) -> None:
    part.write_bytes(CONTENT)
    assert feed.fetch(promised(CONTENT), part) == 0
    assert server.asked == []


def test_what_was_cut_goes_on_by_range(feed: Source, server: Server, part: Path) -> None:
    server.fault = "cut"
    assert refusal(feed, part) == "fetch-cut"
    half = len(CONTENT) // 2
    assert part.read_bytes() == CONTENT[:half]
    server.fault = ""
    heard: list[int] = []
    assert feed.fetch(promised(CONTENT), part, advance=heard.append) == len(CONTENT) - half
    assert part.read_bytes() == CONTENT
    assert server.asked[-1] == (NAME, f"bytes={half}-")
    assert heard[0] > half


def test_without_ranges_it_begins_anew(feed: Source, server: Server, part: Path) -> None:
    part.write_bytes(CONTENT[:100_000])
    server.fault = "no ranges"
    assert feed.fetch(promised(CONTENT), part) == len(CONTENT)
    assert part.read_bytes() == CONTENT


def test_a_damaged_part_is_thrown_away_and_the_next_run_heals(feed: Source, part: Path) -> None:
    for damaged in (b"?" * 1_000, b"?" * len(CONTENT)):
        part.write_bytes(damaged)
        assert refusal(feed, part) == "fetch-hash"
        assert not part.exists()
        assert feed.fetch(promised(CONTENT), part) == len(CONTENT)


def test_a_part_that_is_too_long_begins_anew(feed: Source, part: Path) -> None:
    part.write_bytes(CONTENT + b"more")
    assert feed.fetch(promised(CONTENT), part) == len(CONTENT)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["silent", "hanging"])
def test_a_server_that_hangs_is_left(
    address: Address, server: Server, part: Path, fault: str
) -> None:
    server.fault = fault
    began = time.monotonic()
    assert refusal(open_source(address, HASTY), part) == "fetch-timeout"
    assert time.monotonic() - began < 10
    server.fault = ""
    assert open_source(address, PATIENCE).fetch(promised(CONTENT), part) <= len(CONTENT)
    assert part.read_bytes() == CONTENT


def test_a_server_that_trickles_is_left(address: Address, server: Server, part: Path) -> None:
    feed = open_source(address, SLOW_BUT_BUSY)
    server.fault = "trickling"
    assert refusal(feed, part) == "fetch-slow"
    assert 0 < part.stat().st_size < 1_000
    assert CONTENT.startswith(part.read_bytes())
    server.files["head"] = b"h" * 10_000
    with pytest.raises(Refused, match="fetch-slow"):
        feed.head()


def test_headers_that_trickle_are_left(address: Address, server: Server, part: Path) -> None:
    server.fault = "trickling headers"
    began = time.monotonic()
    assert refusal(open_source(address, HASTY), part) == "fetch-timeout"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("declares more", "fetch-size"),
        ("declares less", "fetch-size"),
        ("other bytes", "fetch-hash"),
        ("no length", "fetch-failed"),
        ("403", "fetch-denied"),
        ("401", "fetch-denied"),
        ("404", "fetch-missing"),
        ("500", "fetch-failed"),
        ("503", "fetch-failed"),
    ],
)
def test_what_is_not_the_promised_file_is_refused(
    feed: Source, server: Server, part: Path, fault: str, reason: str
) -> None:
    server.fault = fault
    assert refusal(feed, part) == reason
    assert len(server.asked) == 1
    assert not part.exists() or part.stat().st_size == 0


def test_never_more_than_promised_is_kept(feed: Source, server: Server, part: Path) -> None:
    server.files[NAME] = CONTENT * 4
    assert refusal(feed, part) == "fetch-size"
    assert not part.exists()


def test_nothing_is_unpacked(feed: Source, server: Server, part: Path) -> None:
    """A small body that says it unpacks to much is taken as the bytes it is."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    server.files[NAME], server.fault = bomb, "encoded"
    assert refusal(feed, part, promised(b"\0" * 10_000_000)) == "fetch-size"
    assert feed.fetch(promised(bomb), part) == len(bomb)
    assert part.read_bytes() == bomb


def test_a_head_above_its_cap_is_not_read(feed: Source, server: Server) -> None:
    server.files["head"] = b"x" * (limits.MAX_HEAD_BYTES + 1)
    server.files["keys"] = b"x" * (limits.MAX_KEYS_BYTES + 1)
    with pytest.raises(Refused, match="feed-too-large"):
        feed.head()
    with pytest.raises(Refused, match="feed-too-large"):
        feed.keys()


def test_files_gone_since_the_head_changed_are_missing(
    feed: Source, server: Server, part: Path
) -> None:
    server.fault = "cut"
    assert refusal(feed, part) == "fetch-cut"
    server.fault, server.files["head"] = "", b"HEAD-2"
    del server.files[NAME]
    assert refusal(feed, part) == "fetch-missing"
    found = feed.head()
    assert found
    assert found.raw == b"HEAD-2"


@pytest.mark.parametrize("name", ["../keys", "a/b", "%2e%2e", "head"])
def test_a_name_that_leaves_the_folder_is_never_asked_for(
    feed: Source, server: Server, part: Path, name: str
) -> None:
    assert refusal(feed, part, promised(CONTENT, name)) == "fetch-name"
    assert server.asked == []
    assert not part.exists()


def test_nobody_there_is_a_failure(feed: Source, server: Server, part: Path) -> None:
    server.shutdown()
    server.server_close()
    assert refusal(feed, part) == "fetch-failed"


def test_without_a_certificate_nothing_is_served(
    server: Server, certificates: Certificates, part: Path
) -> None:
    demand_certificates(server, certificates)
    url = f"https://127.0.0.1:{server.server_port}/nation"
    bare = Address(url, root_certificate=certificates.authority)
    stranger = Address(url, client_certificate=certificates.own, client_key=certificates.key)
    for address in (bare, stranger):
        assert refusal(open_source(address, PATIENCE), part) == "fetch-failed"
    assert server.asked == []


def test_certificate_files_that_are_none_are_refused(tmp_path: Path) -> None:
    lost = tmp_path / "lost.pem"
    url = "https://127.0.0.1:1/"
    with pytest.raises(Refused, match=r"fetch-(failed|missing)"):
        open_source(Address(url, client_certificate=lost, client_key=lost), PATIENCE)
    with pytest.raises(Refused, match=r"fetch-(failed|missing)"):
        open_source(Address(url, root_certificate=lost), PATIENCE)


def test_a_folder_is_a_feed(tmp_path: Path, part: Path) -> None:
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "head").write_bytes(b"HEAD-1")
    (folder / NAME).write_bytes(CONTENT)
    feed = open_source(Address(folder.as_uri()), PATIENCE)
    first = feed.head()
    assert first
    assert first.raw == b"HEAD-1"
    assert feed.head(first.etag) is None
    part.write_bytes(CONTENT[:1_000])
    assert feed.fetch(promised(CONTENT), part) == len(CONTENT) - 1_000
    assert part.read_bytes() == CONTENT
    with pytest.raises(Refused, match="fetch-missing"):
        feed.keys()
    (folder / "head").write_bytes(b"x" * (limits.MAX_HEAD_BYTES + 1))
    with pytest.raises(Refused, match="feed-too-large"):
        feed.head()


def test_a_folder_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="fetch-missing"):
        open_source(Address(str(tmp_path / "nowhere")), PATIENCE).head()


def test_a_full_disk_is_the_disks_own_error(feed: Source, part: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            feed.fetch(promised(CONTENT), part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert feed.fetch(promised(CONTENT), part) < len(CONTENT)
    assert part.read_bytes() == CONTENT
