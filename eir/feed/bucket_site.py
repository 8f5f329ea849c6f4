"""A Site in an S3-compatible bucket: atomic puts, the head by a conditional one.

Needs the ``feed`` extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from eir.errors import Conflict, Refused
from eir.feed.address import Address
from eir.feed.head import FeedFile, is_file_name
from eir.feed.remote import connect, translated
from eir.feed.site import Standing, Tagged, check_changing, check_hash, check_immutable

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ObjectStore

_CONNECT_S: Final = 10.0
_IDLE_S: Final = 60.0


class BucketSite:
    """A Site over obstore."""

    __slots__ = ("_store",)

    def __init__(self, address: Address) -> None:
        self._store: ObjectStore = connect(address, connect_s=_CONNECT_S, idle_s=_IDLE_S)

    @property
    def near(self) -> bool:
        """See Site."""
        return False

    def read(self, name: str) -> Tagged | None:
        """See Site. Raises Refused ``feed-no-etag`` where the bucket gives none to compare."""
        check_changing(name)
        try:
            with translated(name):
                result = obstore.get(self._store, name)
                tag = result.meta["e_tag"]
                raw = bytes(result.bytes())
        except Refused as refused:
            if refused.reason == "fetch-missing":
                return None
            raise
        if not tag:
            raise Refused("feed-no-etag", "two publishers could not be told apart", where=name)
        return Tagged(raw, tag)

    def add(self, name: str, path: Path) -> None:
        """See Site. Whether a name is taken is seen before the upload: names are unpredictable."""
        check_immutable(name)
        try:
            with translated(name):
                obstore.head(self._store, name)
        except Refused as refused:
            if refused.reason != "fetch-missing":
                raise
        else:
            raise Conflict(f"{name} stands there already")
        with translated(name):
            obstore.put(self._store, name, path)

    def swap(self, name: str, raw: bytes, *, was: str | None) -> str:
        """See Site. (RFC 9110 13.1.1, 13.1.2)"""
        check_changing(name, raw)
        mode: PutMode = "create" if was is None else {"e_tag": was}
        with translated(name):
            try:
                result = obstore.put(self._store, name, raw, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError) as error:
                raise Conflict(f"another publisher changed {name}") from error
        return result["e_tag"] or ""

    def bring(self, file: FeedFile, aside: Path) -> Path:
        """See Site. What an earlier run brought is taken again where its hash is right."""
        check_immutable(file.name)
        path = aside / file.name
        try:
            if path.is_file():
                check_hash(path, file)
                return path
        except Refused:
            path.unlink()
        part = path.with_name(f".{file.name}.part")
        with translated(file.name), part.open("wb") as out:
            for piece in obstore.get(self._store, file.name).stream():
                out.write(piece)
        check_hash(part, file)
        return part.replace(path)

    def fetch(self, name: str, cap: int) -> bytes:
        """See Site."""
        check_immutable(name)
        raw = bytearray()
        with translated(name):
            for piece in obstore.get(self._store, name).stream():
                raw += piece
                if len(raw) > cap:
                    break
        return bytes(raw[: cap + 1])

    def standing(self) -> list[Standing]:
        """See Site."""
        with translated("list"):
            found = [
                Standing(each["path"], each["size"], int(each["last_modified"].timestamp()))
                for batch in obstore.list(self._store)
                for each in batch
                if is_file_name(each["path"])
            ]
        return sorted(found, key=lambda each: each.name)

    def remove(self, name: str) -> None:
        """See Site."""
        check_immutable(name)
        with translated(name):
            obstore.delete(self._store, name)

    def clear(self, *, before: int) -> None:
        """See Site. Nothing half-written stands in a bucket; uploads that were begun in parts and
        never ended are the bucket's own to expire.
        """
