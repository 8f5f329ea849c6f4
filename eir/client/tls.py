"""The certificates of a client, as gRPC takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from eir.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTls:
    """PEM files. ``ca``: who signs the node's certificate; ``cert``, ``key``: our own, for mTLS."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


def credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Read the files. Raises Refused ``client-tls`` where one can't be read."""
    try:
        cert = tls.cert.read_bytes() if tls.cert else None
        key = tls.key.read_bytes() if tls.key else None
        return grpc.ssl_channel_credentials(tls.ca.read_bytes(), key, cert)
    except OSError as error:
        raise Refused(
            "client-tls", error.strerror or str(error), where=str(error.filename)
        ) from error
