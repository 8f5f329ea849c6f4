"""Reads a web server that asks for a client certificate (mTLS), which obstore cannot show.

Speaks HTTP/1.1 with the standard library, one connection a file; follows no redirect.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from socket import SHUT_RDWR, socket
from typing import Final
from urllib.parse import urlsplit

from eir.errors import Refused
from eir.feed.address import Address
from eir.sync.reader import Body, Patience, Piece

_PIECE_BYTES: Final = 1 << 18
_SIZE_DIGITS: Final = 20


class MutualTlsReader:
    """A Reader that shows the address's client certificate; see there for what it raises."""

    __slots__ = ("_host", "_path", "_patience", "_port", "_tls")

    def __init__(self, address: Address, patience: Patience) -> None:
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._patience = patience
        try:
            self._tls = ssl.create_default_context()
            if address.root_certificate is not None:
                self._tls.load_verify_locations(address.root_certificate)
            if address.client_certificate is not None:
                certificate, key = address.client_certificate, address.client_key
                self._tls.load_cert_chain(certificate, key, password="")
        except OSError as error:
            raise Refused("fetch-failed", f"a certificate or key file: {error}") from error

    def get(self, name: str, *, etag: str = "", offset: int = 0) -> Body | None:
        """See Reader."""
        headers = {"Connection": "close"}
        if etag:
            headers["If-None-Match"] = etag
        if offset:
            headers["Range"] = f"bytes={offset}-"
        wire = HTTPSConnection(
            self._host, self._port, timeout=self._patience.connect_s, context=self._tls
        )
        try:
            response = self._ask(wire, name, headers)
            size, start = _extent(response, name)
        except BaseException:
            wire.close()
            raise
        if response.status == 304:
            wire.close()
            return None
        etag = response.getheader("ETag") or ""
        return Body(size, etag, start, _pieces(response, name), lambda: _close(wire, response))

    def _ask(self, wire: HTTPSConnection, name: str, headers: dict[str, str]) -> HTTPResponse:
        """The response once its headers are in; whoever trickles them is cut off."""
        late = threading.Event()

        def cut() -> None:
            late.set()
            socket.shutdown(wire.sock, SHUT_RDWR)  # an SSLSocket's own would go on in clear

        watch = threading.Timer(self._patience.grace_s, cut)
        try:
            wire.connect()
            wire.sock.settimeout(self._patience.idle_s)
            watch.start()
            wire.request("GET", f"{self._path}/{name}", headers=headers)
            response = wire.getresponse()
            if late.is_set():
                raise TimeoutError("the headers trickled")
        except (OSError, HTTPException) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)
            raise Refused(
                "fetch-timeout" if slow else "fetch-failed",
                str(error)[:200] or "no answer",
                where=name,
            ) from error
        finally:
            watch.cancel()
        return response


def _extent(response: HTTPResponse, name: str) -> tuple[int, int]:
    """Size of the whole file and where this body starts in it. (RFC 9110 14.4)"""
    status, length = response.status, _number(response.getheader("Content-Length") or "")
    if status == 304:
        return 0, 0
    if status in (404, 410):
        raise Refused("fetch-missing", "not there", where=name)
    if status in (401, 403):
        raise Refused("fetch-denied", f"HTTP {status}", where=name)
    if status == 200 and length is not None:
        return length, 0
    extent = (response.getheader("Content-Range") or "").removeprefix("bytes ")
    span, _, whole = extent.partition("/")
    size, start = _number(whole), _number(span.partition("-")[0])
    if status == 206 and size is not None and start is not None:
        return size, start
    raise Refused("fetch-failed", f"HTTP {status} without a usable length", where=name)


def _number(text: str) -> int | None:
    return int(text) if len(text) <= _SIZE_DIGITS and text.isascii() and text.isdigit() else None


def _close(wire: HTTPSConnection, response: HTTPResponse) -> None:
    response.close()
    wire.close()


def _pieces(response: HTTPResponse, name: str) -> Iterator[Piece]:
    try:
        while piece := response.read1(_PIECE_BYTES):
            yield piece
    except TimeoutError as error:
        raise Refused("fetch-timeout", "nothing came for too long", where=name) from error
    except (OSError, HTTPException) as error:
        raise Refused("fetch-cut", str(error)[:200], where=name) from error
