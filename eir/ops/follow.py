"""What the settings of a feed and of the guard come to, in the rooms' own values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eir.errors import Refused
from eir.feed.address import Address
from eir.feed.envelope import PublicKey
from eir.feed.keys import key_from_text
from eir.ops.sections import FeedSection, GuardSection
from eir.ops.setting import Spot
from eir.serve.guard import GuardLimits
from eir.sync.pace import Pace
from eir.sync.plan import PlanLimits


@dataclass(frozen=True, slots=True)
class Follow:
    """A feed to be followed. ``keep``: snapshots in the depot."""

    address: Address
    root: PublicKey
    registry_id: str
    pace: Pace
    bounds: PlanLimits
    keep: int


def follow_of(section: FeedSection, folder: Path, spot: Spot) -> Follow | None:
    """None where no feed is named, or where faults were told to the spot."""
    if not section.url:
        return None
    if not section.registry:
        spot.at("registry").refuse(Refused("config-conflict", "`url` needs the registry's id too"))
    try:
        address = _address(section, folder)
        return Follow(
            address=address,
            root=key_from_text(section.root_key, "root"),
            registry_id=section.registry,
            pace=Pace(every_s=section.every, stale_after_s=section.stale_after),
            bounds=PlanLimits(max_head_age_s=section.max_head_age),
            keep=section.keep_generations,
        )
    except Refused as fault:
        names = {"key-text": "root_key", "config-pace": "stale_after"}
        spot.at(names.get(fault.reason, "url")).refuse(fault)
    return None


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
