"""The forms of texts that settings have: addresses, PLMNs, identities of peers and of ourselves.

Each function returns the text as it shall stand, or raises Refused (``config-range``) saying what
was expected. Knows no setting by name.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eir import limits
from eir.errors import Refused

ADDRESS_FORM: Final = '"host:port", "[v6]:port" or "unix:path"'
TCP_FORM: Final = '"address:port", "[v6]:port" or empty'


def address(value: str) -> str:
    """Where a door listens: ``ADDRESS_FORM``."""
    host, _, port = value.rpartition(":")
    if value.startswith("unix:") and port.strip("/"):
        return value
    if host == "unix" or not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", host):
        raise Refused("config-range", f"expected {ADDRESS_FORM}, got {value!r}")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise Refused("config-range", f"expected a port from 0 to 65535 at the end of {value!r}")
    return value


def address_or_none(value: str) -> str:
    """As ``address``; empty is none."""
    return address(value) if value else value


def tcp_address_or_none(value: str) -> str:
    """An IP address, not a name, and a port; empty is none."""
    if value:
        host = address(value).rpartition(":")[0].strip("[]")
        _expect(_is_network(host) and "/" not in host, TCP_FORM, value)
    return value


def split_address(value: str) -> tuple[str, int]:
    """Host, without brackets, and port of a checked address that is no Unix socket."""
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def network(value: str) -> str:
    """An IP network without host bits, or one IP address."""
    _expect(_is_network(value), "an IP address, or a network such as 10.20.0.0/16", value)
    return value


def plmn(value: str) -> str:
    """MCC and MNC."""
    _expect(
        re.fullmatch(r"[0-9]{5,6}", value) is not None, "a PLMN of 5 or 6 digits (MCC, MNC)", value
    )
    return value


def identity(value: str) -> str:
    """A DiameterIdentity (RFC 6733 4.3.1): a host or realm name."""
    plain = value.isascii() and value.isprintable() and " " not in value
    fits = 0 < len(value) <= limits.MAX_S13_IDENTITY_BYTES
    _expect(plain and fits, "a Diameter identity, such as eir.epc.example.org", value)
    return value


def identity_or_none(value: str) -> str:
    """As ``identity``; empty is none."""
    return identity(value) if value else value


def name(value: str) -> str:
    """A short text of printable ASCII."""
    _expect(
        value.isascii() and value.isprintable() and 0 < len(value) <= limits.MAX_TYPED_CHARS,
        f"1 to {limits.MAX_TYPED_CHARS} printable ASCII characters",
        value,
    )
    return value


def file_path(value: str) -> str:
    """A path, relative to the folder of the configuration file."""
    _expect(bool(value) and not value.startswith("~"), "the path of a file", value)
    return value


def instance_id_or_none(value: str) -> str:
    """An NF instance id (TS 29.571 5.3.2): a UUID with its dashes; empty is none."""
    try:
        good = not value or str(uuid.UUID(value)) == value.lower()
    except ValueError:
        good = False
    _expect(good, "a UUID, such as `uuidgen` makes", value)
    return value


def http_url(value: str) -> str:
    """An http or https URL with a host."""
    _expect(_is_url(value, ("http", "https")), "an http or https URL", value)
    return value


def keys_or_none(value: str) -> str:
    """A path, an https URL, or an http URL of this very machine; empty is none."""
    if "://" in value:
        near = _is_url(value, ("http",)) and is_local(urlsplit(value).hostname or "")
        _expect(near or _is_url(value, ("https",)), "a path, or an https URL", value)
    return value


def is_local(host: str) -> bool:
    """Whether a host name or IP address, without brackets, is this machine alone."""
    return host == "localhost" or (_is_network(host) and ipaddress.ip_network(host).is_loopback)


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def _is_url(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        return False


def _expect(good: bool, form: str, value: str) -> None:
    if not good:
        raise Refused("config-range", f"expected {form}, got {value!r}")


def timezone(value: str) -> str:
    """The IANA name of a time zone that this machine knows."""
    try:
        return ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Refused("config-range", f"expected a zone such as UTC, got {value!r}") from error
