"""Which lists exist, what each holds, and which headers a file of it may have.

Holds tables only; reads nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from eir import limits


class Kind(Enum):
    """What one item of a list is made of."""

    IMEIS = "imeis"
    NUMBERS = "numbers"
    PAIRS = "pairs"
    DEADLINES = "deadlines"
    OVERRIDES = "overrides"


class FileFormat(Enum):
    """Who wrote the file."""

    CSV = "csv"
    DIRBS_BLACKLIST = "dirbs-blacklist"
    DIRBS_NOTIFICATIONS = "dirbs-notifications"
    DIRBS_EXCEPTIONS = "dirbs-exceptions"
    CEIR = "ceir"


@dataclass(frozen=True, slots=True)
class ListKind:
    """A list's kind, the feeds it may stand in, and the headers our own CSV may have for it."""

    kind: Kind
    feeds: tuple[str, ...]
    headers: tuple[tuple[str, ...], ...]


_IMEI_HEADERS: Final = (("imei",), ("from", "to"), ("tac",))
_NUMBER_HEADERS: Final = (("msisdn",), ("from", "to"))
_REGISTRY: Final = ("registry",)
_OPERATOR: Final = ("operator",)

LISTS: Final[dict[str, ListKind]] = {
    "white": ListKind(Kind.IMEIS, _REGISTRY, _IMEI_HEADERS),
    "legacy": ListKind(Kind.IMEIS, _REGISTRY, _IMEI_HEADERS),
    "bound-elsewhere": ListKind(Kind.IMEIS, _REGISTRY, _IMEI_HEADERS),
    "grey": ListKind(Kind.DEADLINES, _REGISTRY, (("imei", "msisdn", "deadline"),)),
    "bindings": ListKind(Kind.PAIRS, _REGISTRY, (("imei", "msisdn"),)),
    "bindings.imsi": ListKind(Kind.PAIRS, _REGISTRY, (("imei", "imsi"),)),
    "imsi-msisdn": ListKind(Kind.PAIRS, _OPERATOR, (("imsi", "msisdn"),)),
    "exempt.subscriber.all": ListKind(Kind.NUMBERS, _OPERATOR, _NUMBER_HEADERS),
    "exempt.subscriber.registration": ListKind(Kind.NUMBERS, _OPERATOR, _NUMBER_HEADERS),
    "released": ListKind(Kind.NUMBERS, _OPERATOR, _NUMBER_HEADERS),
    "exempt.equipment": ListKind(Kind.IMEIS, _OPERATOR, _IMEI_HEADERS),
    "overrides": ListKind(
        Kind.OVERRIDES, _OPERATOR, (("imei", "msisdn", "action", "until", "forced"),)
    ),
}
"""Every list but the black ones, which are named ``black.<reason>``."""

BLACK: Final = ListKind(Kind.IMEIS, ("registry", "operator"), _IMEI_HEADERS)

WELL_KNOWN_REASONS: Final[dict[str, int]] = {
    "stolen": 256,
    "lost": 257,
    "cloned": 258,
    "smuggled": 259,
    "non-homologated": 260,
    "withdrawn": 261,
}

FIRST_OWN_REASON_ID: Final[dict[str, int]] = {"registry": 512, "operator": 32_768}
"""Reasons that are not well known get ids from here up, apart for the two feeds."""

DIRBS_LIST: Final[dict[FileFormat, str]] = {
    FileFormat.DIRBS_BLACKLIST: "black",
    FileFormat.DIRBS_NOTIFICATIONS: "grey",
    FileFormat.DIRBS_EXCEPTIONS: "bindings",
}
"""The list that a DIRBS file fills by its nature; its rows choose among ``black.*`` or bindings."""

DIRBS_HEADERS: Final[dict[FileFormat, tuple[tuple[str, ...], ...]]] = {
    FileFormat.DIRBS_BLACKLIST: (("imei", "block_date", "reasons"),),
    FileFormat.DIRBS_NOTIFICATIONS: (
        ("imei", "imsi", "msisdn", "block_date", "reasons"),
        ("imei", "imsi", "msisdn", "block_date", "reasons", "amnesty_granted"),
    ),
    FileFormat.DIRBS_EXCEPTIONS: (("imei", "imsi"), ("imei", "imsi", "msisdn")),
}

CEIR_HEADER: Final = "device id"
CEIR_MESSAGE_HEADER: Final = "message"

_REASON_NAME: Final = re.compile(rf"[a-z0-9-]{{1,{limits.MAX_REASON_NAME_CHARS}}}")


def is_reason_name(text: str) -> bool:
    """Whether ``text`` may follow ``black.`` in a list's name."""
    return _REASON_NAME.fullmatch(text) is not None


def list_kind(name: str) -> ListKind | None:
    """What the list of this name holds; None if there is no such list."""
    if name.startswith("black.") and is_reason_name(name.removeprefix("black.")):
        return BLACK
    return LISTS.get(name)
