"""The depot's own operator feed: made at the first start, so that the machinery is everywhere one.

operator/        0700
  root.key       signs the keys file, and nothing else
  feed.key       signs heads
  feed.toml      the publisher's settings, so that `eir feed log` reads it as any other
  feed/          keys, head, snapshots, deltas

Says nothing of its own accord: until a person orders something there is no head. Once there is, a
quiet one is signed anew, so that whoever follows it sees that its publisher lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from eir import limits
from eir.errors import Conflict, Refused
from eir.feed.envelope import PublicKey
from eir.feed.head import HEAD_NAME, KEYS_NAME
from eir.feed.keys import Keys, Role, key_text, load_secret, new_secret, seal_keys
from eir.feed.publish import Habits
from eir.feed.site import FolderSite
from eir.ops.desk import Desk, is_desk, read_desk, write_desk
from eir.ops.settings.follow import Follow

_log = logging.getLogger(__name__)


def own_desk(folder: Path) -> Desk:
    """The desk of a depot's own feed; made where it is not there, and no matter how far it came.

    Raises Refused as ``load_secret`` and ``write_desk``; OSError of the disk passes through.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder):
        root = _key(folder / "root.key", "root")
        key = _key(folder / "feed.key", "feed")
        site = FolderSite(folder / "feed")
        if site.read(KEYS_NAME) is None:
            keys = Keys(1, (key,), 0, limits.MAX_UNIX_S)
            site.swap(
                KEYS_NAME, seal_keys(keys, load_secret(folder / "root.key", "root")), was=None
            )
        desk = Desk(folder, str(folder / "feed"), folder / "feed.key", key_text(root, "root"))
        if not is_desk(folder) or read_desk(folder) != desk:
            write_desk(desk, anew=True)
    return desk


def roots_of(follow: Follow) -> tuple[PublicKey, ...]:
    """Whom to believe. Raises as ``own_desk``."""
    return (own_desk(follow.desk).root,) if follow.desk else follow.roots


def has_word(follow: Follow, clock: Callable[[], float] = time.time) -> bool:
    """Whether there is anything to follow; an own feed is made and kept alive on the way."""
    if follow.desk is None:
        return True
    head = follow.address.folder / HEAD_NAME
    try:
        desk = own_desk(follow.desk)
        if head.exists() and clock() - head.stat().st_mtime > follow.pace.stale_after_s / 3:
            with desk.at_work(Habits()) as publisher:
                publisher.re_sign([desk.root], now=int(clock()))
    except Conflict:
        _log.debug("an order was published meanwhile: its head is as good")
    except (Refused, OSError) as error:
        _log.error("the depot's own feed can't be written: %s", error)
    return head.exists()


def _key(path: Path, role: Role) -> PublicKey:
    if path.exists():
        return load_secret(path, role).public
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    public = new_secret(aside, role)
    aside.rename(path)
    return public


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes it."""
    lock = os.open(folder / ".making", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
