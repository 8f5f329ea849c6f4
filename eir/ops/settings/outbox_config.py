"""What the settings of sightings come to: where files go, and when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eir.errors import Refused
from eir.feed.address import Address
from eir.ops.settings.setting import Spot
from eir.ops.settings.watch_sections import SightingsSection

FOLDER: Final = "sightings"
RINGS: Final = "rings"
"""The spool's folder in the depot, and that of the workers' rings in it."""


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Where files go and when: at ``rows``, or when the first of them has waited ``every_s``.

    ``remember``: how many pairs at least are known again.
    """

    address: Address
    census: bool
    every_s: int
    rows: int
    remember: int


def outbox_of(section: SightingsSection, folder: Path, spot: Spot) -> OutboxSettings | None:
    """None where nothing is noted, or where a fault was told to the spot."""
    if not section.outbox:
        return None
    certificate = section.root_certificate
    try:
        address = Address(
            section.outbox if "://" in section.outbox else str(folder / section.outbox),
            root_certificate=folder / certificate if certificate else None,
            endpoint=section.endpoint,
            region=section.region,
            plaintext_accepted=section.plaintext == "accepted",
        )
        if address.place == "web":
            raise Refused("feed-read-only", "files are put into a folder or a bucket")
    except Refused as fault:
        spot.at("outbox").refuse(fault)
        return None
    return OutboxSettings(
        address=address,
        census=section.census,
        every_s=section.every,
        rows=section.rows,
        remember=section.remember,
    )
