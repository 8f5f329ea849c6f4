"""A registry that publishes as registries do: with the real publisher, to a real site."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from eir.core.generation import Generation
from eir.errors import Refused
from eir.feed.envelope import SecretKey
from eir.feed.head import KEYS_NAME
from eir.feed.keys import Keys, seal_keys
from eir.feed.publish import Edition, Habits, Published, Publisher
from eir.feed.site import FolderSite, Site
from tests.core.contents import Content, generation_of
from tests.scenarios.world import KEY, NOW, ROOT


class Nation:
    """One publisher at its desk in ``folder``; the feed stands in ``folder``/feed, or elsewhere."""

    def __init__(
        self,
        folder: Path,
        site: Site | None = None,
        *,
        habits: Habits | None = None,
        desk: str = "desk",
        key: SecretKey = KEY,
        now: int = NOW,
    ) -> None:
        self.folder = folder
        self.site = site or FolderSite(folder / "feed")
        self.now = now
        (folder / desk).mkdir()
        self.publisher = Publisher(self.site, key, folder / desk, habits or Habits())
        if self.site.read(KEYS_NAME) is None:
            keys = Keys(1, (KEY.public,), NOW - 100, NOW + 10**8)
            self.site.swap(KEYS_NAME, seal_keys(keys, ROOT), was=None)

    def look(self) -> Edition:
        return self.publisher.look([ROOT.public], now=self.now)

    def publish(self, content: Content, *, new_session: bool = False) -> Published:
        """Raises Conflict where another one was first."""
        edition = self.look()
        made: Generation = dataclasses.replace(generation_of(content), registry_id="nation")
        how = {"allow_missing": True, "new_session": new_session}
        done = self.publisher.publish(made, edition, now=self.now, **how)
        self.publisher.sweep(done.head, now=self.now)
        return done

    def digest(self) -> str:
        """Of what is published."""
        content = self.look().content
        if content is None:
            raise Refused("publish-nothing", "nothing stands there")
        return content.digest
