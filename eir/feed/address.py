"""Where a feed stands, and what it takes to get in: a folder, a web server or a bucket.

Checks what configuration says before anything is opened. Secrets are in no repr.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from eir.errors import Refused

Place = Literal["folder", "web", "bucket"]


@dataclass(frozen=True, slots=True)
class Address:
    """A feed's URL with its credentials: a path or ``file://``, ``http(s)://`` or ``s3://``.

    For the web: ``root_certificate`` (PEM, trusted beside the system's) and the client's own
    ``client_certificate`` with ``client_key`` (mTLS). For a bucket: ``endpoint`` (empty = AWS),
    ``region`` and the key pair; empty keys leave it to the environment. ``plaintext_accepted``
    allows http to another machine. Raises Refused ``feed-url`` or ``feed-plaintext``.
    """

    url: str
    root_certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    plaintext_accepted: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if not self.url or parts.scheme not in ("", "file", "http", "https", "s3"):
            raise Refused(
                "feed-url", "expected a folder, file://, http(s):// or s3://", where="url"
            )
        if parts.query or parts.fragment or parts.username or parts.password:
            raise Refused("feed-url", "no password, query or fragment belongs in it", where="url")
        if parts.scheme in ("http", "https", "s3") and not parts.hostname:
            raise Refused("feed-url", "the host or bucket is missing", where="url")
        if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
            raise Refused("feed-url", "a file:// folder is on this machine", where="url")
        if (self.client_certificate is None) != (self.client_key is None):
            raise Refused("feed-url", "a client certificate and its key go together")
        if self.client_certificate and parts.scheme != "https":
            raise Refused("feed-url", "a client certificate needs https://", where="url")
        for url in (self.url, self.endpoint):
            if _is_plaintext(url) and not self.plaintext_accepted:
                detail = "the feed holds IMEI–number pairs: use https, or accept plaintext"
                raise Refused("feed-plaintext", detail, where="url")

    @property
    def place(self) -> Place:
        """Which of the three kinds this is."""
        scheme = urlsplit(self.url).scheme
        return "bucket" if scheme == "s3" else "web" if scheme.startswith("http") else "folder"

    @property
    def folder(self) -> Path:
        """The path of a folder."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path) if parts.scheme == "file" else self.url)


def _is_plaintext(url: str) -> bool:
    """Whether ``url`` is http to anywhere but this machine."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
