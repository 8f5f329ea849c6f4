"""The seam between the fetch and what carries it: one file by name, and how long that may take.

Holds no connection itself; the readers beside it do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a fetch may take: ``idle_s`` without a byte, ``grace_s`` plus size at least rate."""

    connect_s: float = 5.0
    idle_s: float = 30.0
    grace_s: float = 60.0
    least_bytes_per_s: float = 65_536.0

    def budget_s(self, size: int) -> float:
        """The longest that ``size`` bytes may take in all."""
        return self.grace_s + size / self.least_bytes_per_s


@dataclass(frozen=True, slots=True)
class Body:
    """A file that is coming: its whole ``size``, its ETag ("" if none), and bytes from ``start``.

    ``chunks`` raises Refused as ``Reader.get`` does. Close it.
    """

    size: int
    etag: str
    start: int
    chunks: Iterator[Piece]
    close: Callable[[], None] = lambda: None


class Reader(Protocol):
    """The seam to the outside: one file by name."""

    def get(self, name: str, *, etag: str = "", offset: int = 0) -> Body | None:
        """The file from ``offset`` (or from 0, if ranges are not served); None if still ``etag``.

        Raises Refused with ``fetch-missing``, ``fetch-denied``, ``fetch-timeout`` or
        ``fetch-failed``.
        """
