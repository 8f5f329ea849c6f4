"""A publisher's desk: the folder that says where a feed goes, by which key, under which root.

desk/  0700
  feed.toml        where it publishes, with which key
  retired.json     when files left the head
  runs.json        which runs of others' deltas are published
  snapshot-…       files in the making, and copies of what stands in a bucket
  load-…/          lists in the making

One run at a time works at a desk; what a killed one left in the making, the next one clears away.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eir.errors import Conflict, Refused
from eir.feed.address import Address
from eir.feed.envelope import PublicKey
from eir.feed.keys import key_from_text, load_secret
from eir.feed.open_site import open_site
from eir.feed.publish import Habits, Publisher
from eir.feed.site import Site

_SETTINGS: Final = "feed.toml"
_LOCK: Final = ".lock"
_LOADING: Final = "load-"
_TEXTS: Final = ("url", "key", "root_key", "endpoint", "region", "root_certificate")


@dataclass(frozen=True, slots=True)
class Desk:
    """What ``feed.toml`` says. ``key``: the secret feed key's file; ``root_key``: its text.

    Credentials of a bucket come from the environment, never from here.
    """

    folder: Path
    url: str
    key: Path
    root_key: str
    endpoint: str = ""
    region: str = "us-east-1"
    root_certificate: str = ""
    plaintext_accepted: bool = False

    @property
    def address(self) -> Address:
        """Where the feed stands. Raises Refused ``feed-url`` or ``feed-plaintext``."""
        return Address(
            self.url,
            root_certificate=Path(self.root_certificate) if self.root_certificate else None,
            endpoint=self.endpoint,
            region=self.region,
            plaintext_accepted=self.plaintext_accepted,
        )

    @property
    def root(self) -> PublicKey:
        """Raises Refused ``key-text``."""
        return key_from_text(self.root_key, "root")

    def site(self) -> Site:
        """Raises Refused as ``open_site``."""
        return open_site(self.address)

    @contextmanager
    def at_work(self, habits: Habits) -> Iterator[Publisher]:
        """Publish from here, alone.

        Raises Conflict where another run does, Refused as ``load_secret`` and ``open_site``.
        """
        fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"another run publishes from {self.folder}") from None
            self._clear()
            yield Publisher(self.site(), load_secret(self.key, "feed"), self.folder, habits)
        finally:
            os.close(fd)

    @contextmanager
    def loading(self) -> Iterator[Path]:
        """A folder for lists in the making, gone at the end."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=_LOADING) as folder:
            yield Path(folder)

    def _clear(self) -> None:
        for orphan in self.folder.glob(f"{_LOADING}*"):
            shutil.rmtree(orphan, ignore_errors=True)
        for orphan in self.folder.glob(".*.part"):
            orphan.unlink(missing_ok=True)


def write_desk(desk: Desk, *, anew: bool = False) -> None:
    """Make the folder with its settings; ``anew``: change those that are there.

    Raises Refused ``publish-desk-taken`` or ``publish-desk``.
    """
    fields = {name: str(getattr(desk, name)) for name in _TEXTS}
    lines = [f"{name} = {json.dumps(text, ensure_ascii=False)}" for name, text in fields.items()]
    lines.append(f"plaintext_accepted = {'true' if desk.plaintext_accepted else 'false'}")
    path = desk.folder / _SETTINGS
    if path.exists() and not anew:
        raise Refused("publish-desk-taken", "a feed is published from here", where=str(path))
    try:
        desk.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f"{_SETTINGS}.new")
        with aside.open("w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise Refused("publish-desk", str(error.strerror), where=str(desk.folder)) from error


def is_desk(folder: Path) -> bool:
    """Whether the folder has a publisher's settings."""
    return (folder / _SETTINGS).is_file()


def read_desk(folder: Path) -> Desk:
    """The desk in ``folder``. Raises Refused ``publish-desk``."""
    path = folder / _SETTINGS
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused("publish-desk", str(error.strerror), where=str(path)) from error
    except ValueError as error:
        raise Refused("publish-desk", str(error), where=str(path)) from error
    plaintext = fields.pop("plaintext_accepted", False)
    good = all(isinstance(text, str) for text in fields.values()) and type(plaintext) is bool
    if not good or fields.keys() != set(_TEXTS):
        detail = f"expected {', '.join(_TEXTS)} and plaintext_accepted"
        raise Refused("publish-desk", detail, where=str(path))
    key = Path(str(fields.pop("key")))
    texts = {str(name): str(text) for name, text in fields.items()}
    return Desk(folder, key=key, plaintext_accepted=plaintext, **texts)
