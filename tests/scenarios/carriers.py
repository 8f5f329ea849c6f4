"""What carries a feed to its nodes: a folder, nginx, a bucket's emulator; and a line that fails."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from eir.feed.address import Address
from eir.feed.open_site import open_site
from eir.feed.site import Site

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class Line:
    """A TCP line to ``upstream`` port: lets ``passes()`` bytes of each answer through (None: all),
    ``delay_s`` late at each piece, and then hangs up; ``hangs``: falls silent instead.
    """

    def __init__(self, upstream: int) -> None:
        self.passes: Callable[[], int | None] = lambda: None
        self.delay_s = 0.0
        self.hangs = False
        self.cuts = 0
        self._upstream = upstream
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def heal(self) -> None:
        self.passes, self.delay_s, self.hangs = (lambda: None), 0.0, False

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        upstream = ("127.0.0.1", self._upstream)
        with suppress(OSError), client, socket.create_connection(upstream) as server:
            asking = threading.Thread(target=_pump, args=(client, server), daemon=True)
            asking.start()
            self._answer(server, client)
            for each in (server, client):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            asking.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        left = self.passes()
        while piece := server.recv(1 << 14):
            if self.delay_s:
                self._over.wait(self.delay_s)
            if left is not None and len(piece) >= left:
                client.sendall(piece[:left])
                self.cuts += 1
                if self.hangs:
                    self._over.wait(60)
                return
            client.sendall(piece)
            left = None if left is None else left - len(piece)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 14):
            target.sendall(piece)


@dataclass(frozen=True)
class Carrier:
    """A feed's place: where it is published, where nodes read it, and the line between."""

    site: Site
    address: Address
    line: Line


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def by_nginx(folder: Path, program: str) -> Iterator[Carrier]:
    """A folder that nginx serves."""
    root, port = folder / "feed", free_port()
    site = open_site(Address(str(root)))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, root=root))
    words = [program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    nginx = subprocess.Popen(words)
    line = Line(port)
    try:
        _until_listening(port, nginx, folder / "error.log")
        yield Carrier(site, Address(f"http://127.0.0.1:{line.port}"), line)
    finally:
        line.close()
        nginx.terminate()
        nginx.wait(30)


@contextmanager
def by_bucket(endpoint: str, name: str) -> Iterator[Carrier]:
    """A bucket of an emulator that listens at ``endpoint``."""
    import boto3

    bucket = f"b{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    client.create_bucket(Bucket=bucket)
    line = Line(int(endpoint.rpartition(":")[2]))

    def at(place: str) -> Address:
        words = {"access_key_id": "id", "secret_access_key": "secret"}
        return Address(f"s3://{bucket}/nation", endpoint=place, **words)

    try:
        yield Carrier(open_site(at(endpoint)), at(f"http://127.0.0.1:{line.port}"), line)
    finally:
        line.close()


def nginx_program() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def _until_listening(port: int, nginx: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        assert nginx.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError(log.read_text())
