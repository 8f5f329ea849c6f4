"""The one door to object stores: opens an address through obstore, and names what goes wrong.

Needs the ``feed`` extra. Never retries: pace decides that, and downloads resume by range.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import (
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import HTTPStore, LocalStore, S3Store

from eir.errors import Refused
from eir.feed.address import Address

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_LONGEST_REQUEST = timedelta(days=2)
_TIMEOUT_WORDS = ("timed out", "TimedOut")


def connect(address: Address, *, connect_s: float, idle_s: float) -> ObjectStore:
    """The store at ``address``; a read that gets nothing for ``idle_s`` ends in an error.

    No connection is kept between requests: a server may close one just as the next poll is due.
    Raises Refused with the codes of ``translated``.
    """
    client: ClientConfig = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=connect_s),
        "read_timeout": timedelta(seconds=idle_s),
        "timeout": _LONGEST_REQUEST,
        "pool_max_idle_per_host": "0",
    }
    retry: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(seconds=idle_s)}
    with translated(address.url):
        if address.place == "folder":
            if not address.folder.is_dir():
                raise FileNotFoundError
            return LocalStore(address.folder)
        if address.root_certificate is not None:
            client["root_certificate"] = address.root_certificate.read_bytes()
        if address.place == "web":
            return HTTPStore(address.url.rstrip("/"), client_options=client, retry_config=retry)
        return S3Store(
            config=_bucket(address),
            prefix=urlsplit(address.url).path.strip("/") or None,
            client_options=client,
            retry_config=retry,
        )


def _bucket(address: Address) -> S3Config:
    config: S3Config = {"bucket": urlsplit(address.url).netloc, "region": address.region}
    if address.endpoint:
        config["endpoint"] = address.endpoint
    if address.access_key_id:
        config["access_key_id"] = address.access_key_id
        config["secret_access_key"] = address.secret_access_key
    return config


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what obstore raises about ``name`` into Refused.

    Codes: ``fetch-missing``, ``fetch-denied``, ``fetch-timeout``, ``fetch-failed``. NotModified,
    AlreadyExists, Precondition and NotSupported are answers: they are for the caller to catch.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise Refused("fetch-missing", "not there", where=name) from error
    except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
        raise Refused("fetch-denied", _first_line(error), where=name) from error
    except (BaseError, OSError, ValueError) as error:
        slow = any(word in str(error) for word in _TIMEOUT_WORDS)
        raise Refused(
            "fetch-timeout" if slow else "fetch-failed", _first_line(error), where=name
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
