"""What the settings of a feed and of the guard come to, in the rooms' own values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from eir.core.generation import OPERATOR
from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.envelope import PublicKey
from eir.feed.keys import key_from_text
from eir.ops.settings.sections import FeedSection, GuardSection
from eir.ops.settings.setting import Spot
from eir.serve.guard import GuardLimits
from eir.sync.pace import Pace
from eir.sync.plan import PlanLimits

OWN: Final = "operator"
"""The folder of the depot's own feed, and the registry's id in it is LOCAL."""
LOCAL: Final = "local"


@dataclass(frozen=True, slots=True)
class Follow:
    """A feed to be followed. ``keep``: snapshots in the depot.

    ``desk``: of the depot's own feed, the publisher's folder; its root is known there, and
    ``roots`` is empty. None where somebody else publishes.
    """

    feed: str
    address: Address
    roots: tuple[PublicKey, ...]
    registry_id: str
    pace: Pace
    bounds: PlanLimits
    keep: int
    desk: Path | None = None


def follow_of(section: FeedSection, feed: str, folder: Path, spot: Spot) -> Follow | None:
    """None where no feed is named, or where faults were told to the spot."""
    if not section.url:
        return None
    if not section.registry:
        spot.at("registry").refuse(Refused("config-conflict", "`url` needs the registry's id too"))
    try:
        address = _address(section, folder)
        roots = (key_from_text(section.root_key, "root"),)
        return _follow(section, feed, address, roots, section.registry)
    except Refused as fault:
        names = {"key-text": "root_key", "config-pace": "stale_after"}
        spot.at(names.get(fault.reason, "url")).refuse(fault)
    return None


def operator_follow_of(section: FeedSection, folder: Path, depot: Path, spot: Spot) -> Follow:
    """The operator's feed: the one that is named, else the depot's own. ``spot``: of the file."""
    spot = spot.at("operator_feed")
    named = follow_of(section, OPERATOR, folder, spot)
    if named is not None:
        return named
    desk = depot / OWN
    own = Address(str(desk / "feed"))
    try:
        return replace(_follow(section, OPERATOR, own, (), section.registry or LOCAL), desk=desk)
    except Refused as fault:
        spot.at("stale_after").refuse(fault)
    return replace(_follow(FeedSection(), OPERATOR, own, (), LOCAL), desk=desk)


def _follow(
    section: FeedSection, feed: str, address: Address, roots: tuple[PublicKey, ...], registry: str
) -> Follow:
    return Follow(
        feed=feed,
        address=address,
        roots=roots,
        registry_id=registry,
        pace=Pace(every_s=section.every, stale_after_s=section.stale_after),
        bounds=PlanLimits(max_head_age_s=section.max_head_age),
        keep=section.keep_generations,
    )


def guard_of(section: GuardSection) -> GuardLimits:
    """The guard's limits."""
    return GuardLimits(
        max_newly_refused=section.max_newly_refused,
        max_shrink=section.max_shrink,
        max_growth=section.max_growth_percent / 100,
        least_items={"white": section.least_white, "bindings": section.least_bindings},
    )


def _address(section: FeedSection, folder: Path) -> Address:
    local = "://" not in section.url
    return Address(
        str(folder / section.url) if local else section.url,
        root_certificate=_absolute(section.root_certificate, folder),
        client_certificate=_absolute(section.client_certificate, folder),
        client_key=_absolute(section.client_key, folder),
        endpoint=section.endpoint,
        region=section.region,
        plaintext_accepted=section.plaintext == "accepted",
    )


def _absolute(path: Path | None, folder: Path) -> Path | None:
    return folder / path if path else None
