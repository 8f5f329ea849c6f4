"""The HTTP/2 client that the N5g-eir door is to others: the NRF, and the server of token keys.

Speaks HTTP/2 by prior knowledge in clear and by ALPN on TLS (TS 29.500 5.2). Never reads more of
an answer than the caller's cap.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from eir.errors import Refused


def open_client(
    *,
    timeout_s: float,
    http1: bool = False,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> httpx.AsyncClient:
    """A client that verifies servers by ``ca`` (None: the system's) and shows our certificate.

    ``http1`` lets a server of token keys be a plain web server. Raises Refused ``tls-unusable``.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        if certificate and key:
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise Refused("tls-unusable", f"a TLS file cannot be loaded: {error}") from error
    return httpx.AsyncClient(
        http1=http1, http2=True, verify=context, timeout=timeout_s, trust_env=False
    )


async def capped_body(response: httpx.Response, cap_bytes: int) -> bytes:
    """The body of a streamed response. Raises Refused ``answer-too-big`` past ``cap_bytes``."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > cap_bytes:
            raise Refused("answer-too-big", f"{response.url.host} answered over {cap_bytes} bytes")
    return bytes(body)
