"""The demo's registry: a root, a feed key, a feed in a folder, and what befalls one phone.

    keys/  root.key, feed.key      desk/  the publisher's      feed/  what nodes read

The publisher is the one of `eir feed publish`; only the lists are made up. Never knows of a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import Progress as Bar
from rich.progress import TaskID

from eir.core.delta import Change, Delta, Items, apply
from eir.core.generation import WELL_KNOWN_REASONS
from eir.core.imei import ImeiKey, digits15
from eir.errors import Conflict, EirError, Refused
from eir.feed.codec import open_snapshot
from eir.feed.digest import Digest, of_delta
from eir.feed.head import HEAD_NAME, KEYS_NAME
from eir.feed.keys import Keys, key_text, load_secret, new_secret, seal_keys
from eir.feed.publish import Habits, Published
from eir.ops.cli.feed import lists_in
from eir.ops.demo import cast
from eir.ops.desk import Desk, is_desk, read_desk, write_desk
from eir.ops.settings.config import Config

_log = logging.getLogger(__name__)

_BUYER: Final = 989_990_000_050
_KEYS_HOLD_S: Final = 10 * 365 * 86_400
_SIGN_EVERY_S: Final = 60.0
_STOLEN: Final = "black.stolen"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that befalls a phone: the delta it comes to, and the reason decided since."""

    name: str
    delta: Delta
    reason: str


@dataclass(frozen=True, slots=True)
class Phone:
    """A device that no list knows yet, and its buyer's number."""

    key: ImeiKey

    @property
    def imei(self) -> str:
        """15 digits."""
        return digits15(self.key)

    @property
    def msisdn(self) -> str:
        """The buyer's number, digits."""
        return str(_BUYER)

    def life(self) -> tuple[Event, ...]:
        """What befalls it, in order."""
        alone, pair = Items(_row(self.key)), Items(_row(self.key, _BUYER))
        none = Items(np.empty((0, 1), np.uint64))
        imported = Change(none, alone)
        bound = Change(Items(np.empty((0, 2), np.uint64)), pair)
        stolen, ids = Change(none, alone), {_STOLEN: WELL_KNOWN_REASONS["stolen"]}
        return (
            Event("imported", Delta({"white": imported}, {}), "not-activated"),
            Event("activated", Delta({"bindings": bound}, {}), "bound"),
            Event("stolen", Delta({_STOLEN: stolen}, ids), "stolen"),
            Event("found", Delta({_STOLEN: Change(alone, none)}, ids), "bound"),
        )


@dataclass(frozen=True, slots=True)
class DemoRegistry:
    """A registry that publishes from ``desk``."""

    desk: Desk

    @property
    def published(self) -> bool:
        """Whether a head stands."""
        return self.desk.site().read(HEAD_NAME) is not None

    def publish_lists(self, manifest: Path, settings: Config, bar: Bar, task: TaskID) -> Published:
        """Publish list files, as `eir feed publish --from` does."""
        now = int(time.time())
        with self.desk.at_work(Habits()) as publisher, self.desk.loading() as folder:
            edition = publisher.look([self.desk.root], now=now)
            content = open_snapshot(lists_in(manifest, folder, settings, bar, task).facts.path)
            return publisher.publish(content, edition, now=now)

    def tell(self, event: Event) -> Published:
        """Publish what befell a phone: one delta."""
        now = int(time.time())
        with self.desk.at_work(Habits()) as publisher:
            edition = publisher.look([self.desk.root], now=now)
            before = edition.content
            if before is None:
                raise Refused("publish-nothing", f"nothing to go on from: {edition.lost}")
            digest = str(Digest.parse(before.digest) + of_delta(event.delta))
            after = apply(before, event.delta, serial=before.serial + 1, made_at=now, digest=digest)
            return publisher.publish(after, edition, now=now)

    def sign_anew(self) -> Published:
        """The same content, as of now."""
        with self.desk.at_work(Habits()) as publisher:
            return publisher.re_sign([self.desk.root], now=int(time.time()))

    async def keep_signing(self) -> None:
        """Sign the head anew once a minute, so that no node takes silence for age."""
        while True:
            await asyncio.sleep(_SIGN_EVERY_S)
            try:
                with contextlib.suppress(Conflict):  # somebody published: that is signed as well
                    await asyncio.to_thread(self.sign_anew)
            except (EirError, OSError) as error:
                _log.warning("the demo's registry is silent: %s", error)


def demo_registry(folder: Path) -> DemoRegistry:
    """The registry in ``folder``: its keys and desk, made where they are not there yet."""
    desk = folder / "desk"
    if is_desk(desk):
        return DemoRegistry(read_desk(desk))
    keys = folder / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role in ("root", "feed"):
        with contextlib.suppress(Refused):  # made before, by a run that was ended
            new_secret(keys / f"{role}.key", role)
    root = load_secret(keys / "root.key", "root")
    made = Desk(
        desk, str(folder / "feed"), keys / "feed.key", root_key=key_text(root.public, "root")
    )
    now, site = int(time.time()), made.site()
    signing = (load_secret(made.key, "feed").public,)
    raw = seal_keys(Keys(1, signing, now - 3_600, now + _KEYS_HOLD_S), root)
    if site.read(KEYS_NAME) is None:
        site.swap(KEYS_NAME, raw, was=None)
    write_desk(made)
    return DemoRegistry(made)


def phone_after(serial: int) -> Phone:
    """A phone that was in no run before this serial."""
    return Phone(ImeiKey(cast.CAST_TAC * 1_000_000 + 1_000 + serial % 900_000))


def _row(*words: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.array([words], np.uint64)
