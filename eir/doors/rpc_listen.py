"""Where a gRPC server listens, and with which certificates.

Promises: what is not encrypted stays on this machine unless the operator accepts otherwise; a Unix
socket has its mode from its first moment; certificates are read again without a connection lost.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from eir import limits
from eir.errors import Refused

_UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With ``client_ca``, a client must show a certificate that leads to it (mTLS)."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class TlsCredentials:
    """The certificates of one listener.

    ``reload`` takes up new files for the handshakes from then on.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Read the files. Raises Refused as ``reload``."""
        self._files = files
        self._current = _certificates(files)

    def reload(self) -> None:
        """Read the files again; open connections go on with what they have.

        Raises Refused ``tls-unreadable`` or ``tls-unusable`` (key and certificate are no pair, or
        no PEM); the certificates in use then stay.
        """
        self._current = _certificates(self._files)

    def for_server(self) -> grpc.ServerCredentials:
        """Credentials that ask for the current certificates at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._current, lambda: self._current, self._files.client_ca is not None
        )


@dataclass(frozen=True, slots=True)
class Listener:
    """One bound address, its port resolved; for a Unix socket, the file it made."""

    address: str
    inode: tuple[int, int] | None = None

    def release(self) -> None:
        """Take a Unix socket's name away, unless a successor has taken it over."""
        if self.inode is None:
            return
        path = Path(self.address.removeprefix(_UNIX))
        try:
            found = path.lstat()
            if (found.st_dev, found.st_ino) == self.inode:
                path.unlink()
        except FileNotFoundError:
            return


def tls_of(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsCredentials | None:
    """Credentials of these files.

    None when none is named. Raises Refused (``tls-incomplete``, or of ``reload``).
    """
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise Refused("tls-incomplete", "TLS needs both a certificate and its key")
    return TlsCredentials(TlsFiles(cert, key, client_ca))


def new_server(*, max_message_bytes: int, max_calls: int, share_port: bool) -> grpc.aio.Server:
    """A server that does not listen yet.

    Keepalive frees within two minutes what a vanished client holds. Calls that wait to be taken up
    are bounded: from half the bound on some are shed, beyond it all, with CANCELLED.
    """
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.so_reuseport", int(share_port)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.server.max_pending_requests", limits.MAX_GRPC_WAITING_CALLS // 2),
        ("grpc.server.max_pending_requests_hard_limit", limits.MAX_GRPC_WAITING_CALLS),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=max_calls)


async def serve(
    server: grpc.aio.Server,
    addresses: Sequence[str],
    *,
    tls: TlsCredentials | None,
    plaintext_accepted: bool = False,
    take_over: bool = False,
    socket_mode: int = 0o660,
) -> tuple[Listener, ...]:
    """Bind every address and start; all or none. TLS is spoken on every address but Unix sockets.

    An address is ``host:port``, ``[v6]:port`` or ``unix:/path``. Raises Refused:
    ``listen-malformed``; ``listen-plaintext`` for an address that other machines reach, without TLS
    and not accepted; ``listen-failed`` when the system does not let us.
    """

    def add(address: str) -> int:
        if tls is None or address.startswith(_UNIX):
            return server.add_insecure_port(address)
        return server.add_secure_port(address, tls.for_server())

    try:
        bound = bind(
            addresses,
            add,
            clear=tls is None,
            plaintext_accepted=plaintext_accepted,
            take_over=take_over,
            socket_mode=socket_mode,
        )
    except Refused:
        await server.start()  # grpcio lets go of bound ports only by way of a started server
        await server.stop(None)
        raise
    await server.start()
    return bound


def bind(
    addresses: Sequence[str],
    add: Callable[[str], int],
    *,
    clear: bool,
    plaintext_accepted: bool,
    take_over: bool = False,
    socket_mode: int = 0o660,
) -> tuple[Listener, ...]:
    """Bind every address by ``add``, an engine's own function, which gives back the port.

    Where an address may be is the same for every engine; see ``serve``, also for what it raises.
    ``clear``: no TLS is spoken. ``take_over``: a Unix socket's name is taken from who answers
    there, who keeps its connections. After Refused the engine may have ports bound, but no socket's
    name is left.
    """
    bound: list[Listener] = []
    try:
        for address in addresses:
            if address.startswith(_UNIX):
                path = Path(address.removeprefix(_UNIX))
                _refuse_unless_free(path, take_over=take_over)
                bound.append(_bind_unix(add, path, socket_mode))
            else:
                bound.append(_bind_tcp(add, address, clear=clear and not plaintext_accepted))
    except Refused:
        for listener in bound:
            listener.release()
        raise
    return tuple(bound)


def _bind_tcp(add: Callable[[str], int], address: str, *, clear: bool) -> Listener:
    host, separator, port = address.rpartition(":")
    if not host or not separator or not port.isascii() or not port.isdigit():
        raise Refused("listen-malformed", "write host:port, [v6]:port or unix:/path", where=address)
    if clear and not _is_loopback(host):
        raise Refused(
            "listen-plaintext",
            "other machines reach this address in clear: give a certificate, listen on loopback or"
            ' a Unix socket, or say plaintext = "accepted"',
            where=address,
        )
    return Listener(f"{host}:{_added(add, address, named=address)}")


def listening() -> frozenset[int]:
    """The sockets of this process that connections come to, by inode."""
    inodes = set()
    for _, inode, found in _listeners():
        inodes.add(inode)
        found.close()
    return frozenset(inodes)


def accept_no_more(inodes: frozenset[int]) -> None:
    """Have these sockets refuse who comes from now on; connections that stand go on.

    Both engines accept until they send everybody off. Who is sent off by one process and comes to
    another one in that moment is sent off at once, and his grpcio may lose the call: it gets
    neither an answer nor an error before its deadline. No engine has a word for it, so what it
    listens on is closed under its descriptor, where it finds a socket that nobody comes to: an
    accept on a descriptor that is shut down fails at once, and would be tried again and again.
    """
    for number, inode, found in _listeners():
        with found, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as nobody:
            if inode in inodes:
                nobody.setblocking(False)
                nobody.bind("")
                nobody.listen(0)
                os.dup2(nobody.fileno(), number, inheritable=False)


def _listeners() -> Iterator[tuple[int, int, socket.socket]]:
    """Each listening socket: descriptor, inode, and a descriptor of ours: to be closed."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed meanwhile
            continue
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield int(name), os.fstat(found.fileno()).st_ino, found
        else:
            found.close()


def _bind_unix(add: Callable[[str], int], path: Path, mode: int) -> Listener:
    """Bind under another name in a directory of our own, set the mode, then move to the name.

    So there is no moment in which others could connect, and a dead node's socket is replaced.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as private:
            scratch = Path(private, "s")
            _added(add, f"{_UNIX}{scratch}", named=str(path))
            scratch.chmod(mode)
            made = scratch.lstat()
            scratch.rename(path)
    except OSError as fault:
        raise Refused("listen-failed", fault.strerror or str(fault), where=str(path)) from fault
    return Listener(f"{_UNIX}{path}", (made.st_dev, made.st_ino))


def _refuse_unless_free(path: Path, *, take_over: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise Refused("listen-failed", "the name is taken by something else", where=str(path))
    if take_over:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise Refused("listen-failed", "another server answers there", where=str(path))


def _added(add: Callable[[str], int], address: str, *, named: str) -> int:
    try:
        return add(address)
    except (RuntimeError, OSError) as fault:
        raise Refused("listen-failed", str(fault), where=named) from fault


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _certificates(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    try:
        certificate, key = files.cert.read_bytes(), files.key.read_bytes()
        authority = files.client_ca.read_bytes() if files.client_ca else None
    except OSError as fault:
        raise Refused("tls-unreadable", fault.strerror or "", where=str(fault.filename)) from fault
    try:
        trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trial.load_cert_chain(files.cert, files.key, password="")
        if authority is not None:
            trial.load_verify_locations(cadata=authority.decode("ascii", "replace"))
    except (ssl.SSLError, OSError) as fault:
        detail = f"no PEM, an encrypted key, or not this certificate's: {fault}"
        where = ", ".join(str(path) for path in (files.cert, files.key, files.client_ca) if path)
        raise Refused("tls-unusable", detail, where=where) from fault
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)
