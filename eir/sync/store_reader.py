"""Reads a web server or a bucket through obstore (the ``feed`` extra)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import NotModifiedError, NotSupportedError

from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.remote import connect, translated
from eir.sync.reader import Body, Patience, Piece

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore


class StoreReader:
    """A Reader over obstore; see there for what it raises."""

    __slots__ = ("_store",)

    def __init__(self, address: Address, patience: Patience) -> None:
        self._store: ObjectStore = connect(
            address, connect_s=patience.connect_s, idle_s=patience.idle_s
        )

    def get(self, name: str, *, etag: str = "", offset: int = 0) -> Body | None:
        """See Reader."""
        options: GetOptions = {}
        if etag:
            options["if_none_match"] = etag
        if offset:
            options["range"] = {"offset": offset}
        with translated(name):
            try:
                result = obstore.get(self._store, name, options=options)
            except NotModifiedError:
                return None
            except NotSupportedError:
                if not offset:
                    raise
                return self.get(name, etag=etag)
        meta = result.meta
        return Body(meta["size"], meta["e_tag"] or "", result.range[0], _pieces(result, name))


def _pieces(result: GetResult, name: str) -> Iterator[Piece]:
    """Every piece as it comes off the wire, so that whoever trickles is seen."""
    stream = result.stream(min_chunk_size=1)
    while True:
        try:
            with translated(name):
                piece = next(stream)
        except StopIteration:
            return
        except Refused as refused:
            if refused.reason == "fetch-failed":
                raise Refused("fetch-cut", refused.detail, where=name) from refused
            raise
        yield memoryview(piece)
