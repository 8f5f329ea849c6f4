"""Which headers a list's file may have, by format. Holds tables only; reads nothing."""

from __future__ import annotations

from enum import Enum
from typing import Final

from eir.core import generation
from eir.core.generation import BLACK, BLACK_UNION, SECTIONS, WELL_KNOWN_REASONS, spec_of

Header = tuple[str, ...]


class FileFormat(Enum):
    """Who wrote the file."""

    CSV = "csv"
    DIRBS_BLACKLIST = "dirbs-blacklist"
    DIRBS_NOTIFICATIONS = "dirbs-notifications"
    DIRBS_EXCEPTIONS = "dirbs-exceptions"
    CEIR = "ceir"


LOADABLE: Final = tuple(sorted(SECTIONS.keys() - {BLACK_UNION}))
"""Lists that files can fill, beside the black ones. The union is derived."""

KNOWN_LISTS: Final = (*LOADABLE, *(BLACK + reason for reason in WELL_KNOWN_REASONS))

_PAIR_HEADERS: Final[dict[str, Header]] = {
    "bindings": ("imei", "msisdn"),
    "bindings.imsi": ("imei", "imsi"),
    "imsi-msisdn": ("imsi", "msisdn"),
}

TOLD: Final = ("who", "at", "why")
"""Columns that a file of orders may have, all three or none."""

_ORDER_HEADERS: Final[dict[str, Header]] = {
    generation.OVERRIDES: ("imei", "msisdn", "action", "until", "forced"),
    generation.HOLDS: ("hold", "tac", "until", "reason", "msisdn_prefix"),
    generation.ORDERS: ("what", "from", "to"),
}

DIRBS_LIST: Final[dict[FileFormat, str]] = {
    FileFormat.DIRBS_BLACKLIST: "black",
    FileFormat.DIRBS_NOTIFICATIONS: "grey",
    FileFormat.DIRBS_EXCEPTIONS: "bindings",
}
"""What a DIRBS file fills by its nature; its rows choose which ``black.*`` or bindings."""

_DIRBS_HEADERS: Final[dict[FileFormat, tuple[Header, ...]]] = {
    FileFormat.DIRBS_BLACKLIST: (("imei", "block_date", "reasons"),),
    FileFormat.DIRBS_NOTIFICATIONS: (
        ("imei", "imsi", "msisdn", "block_date", "reasons"),
        ("imei", "imsi", "msisdn", "block_date", "reasons", "amnesty_granted"),
    ),
    FileFormat.DIRBS_EXCEPTIONS: (("imei", "imsi"), ("imei", "imsi", "msisdn")),
}

CEIR_HEADER: Final = ("device id",)
CEIR_MESSAGE: Final = "message"


def headers_of(file_format: FileFormat, list_name: str) -> tuple[Header, ...]:
    """The headers that a file of this format may have for this list, columns in any order."""
    if file_format is FileFormat.CEIR:
        return (CEIR_HEADER,)
    if file_format in _DIRBS_HEADERS:
        return _DIRBS_HEADERS[file_format]
    spec = spec_of(list_name)
    if spec.kind == generation.PAIRS:
        return (_PAIR_HEADERS[list_name],)
    if spec.kind == generation.DEADLINES:
        return (("imei", "msisdn", "deadline"),)
    if spec.kind in _ORDER_HEADERS:
        header = _ORDER_HEADERS[spec.kind]
        return header, (*header, *TOLD)
    ranges = ("from", "to")
    return (("imei",), ranges, ("tac",)) if spec.keys == "imei" else (("msisdn",), ranges)
