"""What the columns of a file become: for each (format, list, header) the one row that goes on.

Every file becomes rows of the same few numbers (``a``, ``b``, ``c``, ``d``) and a mask of the lists
they belong to. Pure: text in, SQL text out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eir import limits
from eir.core import generation
from eir.core.generation import BLACK, spec_of
from eir.errors import Refused
from eir.store.importers import catalogue
from eir.store.importers.catalogue import FileFormat
from eir.store.importers.manifest import ListFile, Manifest, nearest
from eir.store.importers.plain import Piece

_DELTA_COLUMNS = {"change_type", "operation"}
"""What a DIRBS delta and another CEIR's incremental file have, and no full list."""


@dataclass(frozen=True, slots=True)
class Check:
    """A condition on a whole row, over ``{column}`` values; false rejects it for ``reason``."""

    holds: str
    reason: str
    column: str


@dataclass(frozen=True, slots=True)
class Layout:
    """``kinds``: column → kind of field, in the file's order. ``row``: a, b, … → SQL over values.

    ``lists``: the bits of ``mask``, by list. ``ranges``: a row is (lo, hi), not a key.
    """

    kinds: Mapping[str, str]
    row: Mapping[str, str]
    lists: Mapping[str, int]
    mask: str = "1"
    checks: tuple[Check, ...] = ()
    ranges: bool = False
    reasons: Mapping[str, int] = field(default_factory=dict)


def layout_of(file: ListFile, manifest: Manifest, piece: Piece, *, now: int) -> Layout:
    """The layout of a piece by its header. Raises Refused ``file-header``: what was expected."""
    header = _header(file, piece)
    if file.format is FileFormat.DIRBS_BLACKLIST:
        return _dirbs_blacklist(manifest, header, now)
    if file.format is FileFormat.DIRBS_NOTIFICATIONS:
        return _dirbs_notifications(header)
    if file.format is FileFormat.DIRBS_EXCEPTIONS:
        return _dirbs_exceptions(header)
    lists = {file.list_name: 1}
    if file.format is FileFormat.CEIR:
        return Layout({"device id": "imei"}, {"a": "{device id}"}, lists)
    spec = spec_of(file.list_name)
    if spec.kind in _ORDERS:
        return _ORDERS[spec.kind](header, lists)
    if spec.kind == generation.DEADLINES:
        kinds = {"imei": "imei", "msisdn": "msisdn?", "deadline": "deadline"}
        row = {"a": "{imei}", "b": "{msisdn}", "c": "{deadline}"}
        return Layout(_ordered(kinds, header), row, lists)
    if spec.kind == generation.PAIRS:
        key, value = catalogue.headers_of(file.format, file.list_name)[0]
        row = {"a": f"{{{key}}}", "b": f"{{{value}}}"}
        return Layout({name: name for name in header}, row, lists)
    return _members(header, spec.keys, lists)


def _header(file: ListFile, piece: Piece) -> tuple[str, ...]:
    accepted = catalogue.headers_of(file.format, file.list_name)
    if any(sorted(piece.header) == sorted(header) for header in accepted):
        return piece.header
    where = f"{piece.name}: line 1"
    wanted = " or ".join(f"`{','.join(header)}`" for header in accepted)
    found = piece.first_line[:100]
    if file.format is not FileFormat.CSV and _DELTA_COLUMNS & set(piece.header):
        hint = "this is a delta, and a bulk load takes full lists"
    elif any(mark in piece.first_line for mark in ";\t|") and len(piece.header) == 1:
        hint = "separate the columns with commas"
    else:
        known = sorted({name for header in accepted for name in header})
        odd = next((name for name in piece.header if name not in known), "")
        hint = nearest(odd, known) if odd else "a column is missing or stands twice"
    raise Refused("file-header", f"the header is {found!r}, expected {wanted}: {hint}", where=where)


def _ordered(kinds: Mapping[str, str], header: tuple[str, ...]) -> dict[str, str]:
    return {name: kinds[name] for name in header}


def _members(header: tuple[str, ...], keys: str, lists: Mapping[str, int]) -> Layout:
    if header == ("tac",):
        span = limits.SERIAL_SPAN_KEYS
        row = {"a": f"{{tac}} * {span}", "b": f"{{tac}} * {span} + {span - 1}"}
        return Layout({"tac": "tac"}, row, lists, ranges=True)
    if len(header) == 1:
        return Layout({keys: keys}, {"a": f"{{{keys}}}"}, lists)
    checks = [Check("{from} <= {to}", "range-reversed", "to")]
    if keys == "msisdn":
        same = "strlen({from}::VARCHAR) = strlen({to}::VARCHAR)"
        checks.append(Check(same, "range-lengths", "to"))
    row = {"a": "{from}", "b": "{to}"}
    return Layout(dict.fromkeys(header, keys), row, lists, checks=tuple(checks), ranges=True)


def _overrides(header: tuple[str, ...], lists: Mapping[str, int]) -> Layout:
    kinds = {
        "imei": "imei?",
        "msisdn": "msisdn?",
        "action": "action",
        "until": "until",
        "forced": "forced",
    }
    row = {"a": "{imei}", "b": "{msisdn}", "c": "{until}", "d": "{action} + 2 * {forced}"}
    checks = (
        Check("{imei} <> 0 OR {msisdn} <> 0", "identity-missing", "imei"),
        Check("{action} = 1 OR {forced} = 0", "forced-deny", "forced"),
    )
    return _told(kinds, row, header, lists, checks)


def _holds(header: tuple[str, ...], lists: Mapping[str, int]) -> Layout:
    """A row a TAC; rows of one hold agree in all else."""
    kinds = {
        "hold": "text",
        "tac": "tac?",
        "until": "deadline",
        "reason": "hold-reason",
        "msisdn_prefix": "prefix",
    }
    row = {"a": "{tac}", "c": "{until}", "name": "{hold}", "reason": "{reason}"}
    return _told(kinds, {**row, "prefix": "{msisdn_prefix}"}, header, lists)


def _orders(header: tuple[str, ...], lists: Mapping[str, int]) -> Layout:
    kinds = {"what": "text", "from": "whole", "to": "whole"}
    return _told(kinds, {"a": "{from}", "b": "{to}", "name": "{what}"}, header, lists)


_ORDERS = {
    generation.OVERRIDES: _overrides,
    generation.HOLDS: _holds,
    generation.ORDERS: _orders,
}


def _told(
    kinds: Mapping[str, str],
    row: Mapping[str, str],
    header: tuple[str, ...],
    lists: Mapping[str, int],
    checks: tuple[Check, ...] = (),
) -> Layout:
    """With who, when and why, which a file may leave out."""
    told = "who" in header
    said = {name: f"{{{name}}}" if told else "''" for name in ("who", "why")}
    kinds = {**kinds, "who": "text", "at": "until", "why": "text"}
    row = {**row, **said, "said_at": "{at}" if told else "0"}
    return Layout(_ordered(kinds, header), row, lists, checks=checks)


def _dirbs_blacklist(manifest: Manifest, header: tuple[str, ...], now: int) -> Layout:
    names = sorted(set(manifest.reasons.values()))
    bits = {name: 1 << place for place, name in enumerate(names)}
    kinds = {"imei": "imei", "block_date": "block-date", "reasons": "reasons"}
    return Layout(
        kinds=_ordered(kinds, header),
        row={"a": "{imei}"},
        lists={BLACK + name: bit for name, bit in bits.items()},
        mask="{reasons}",
        checks=(Check(f"{{block_date}} <= {now}", "block-date-future", "block_date"),),
        reasons={text: bits[name] for text, name in manifest.reasons.items()},
    )


def _dirbs_notifications(header: tuple[str, ...]) -> Layout:
    kinds = dict.fromkeys(header, "any")
    kinds |= {"imei": "imei", "msisdn": "msisdn", "block_date": "block-date"}
    row = {"a": "{imei}", "b": "{msisdn}", "c": "{block_date}"}
    return Layout(kinds, row, {"grey": 1})


def _dirbs_exceptions(header: tuple[str, ...]) -> Layout:
    if "msisdn" not in header:
        kinds = {name: name for name in header}
        return Layout(kinds, {"a": "{imei}", "b": "{imsi}"}, {"bindings.imsi": 1})
    kinds = _ordered({"imei": "imei", "imsi": "imsi?", "msisdn": "msisdn?"}, header)
    return Layout(
        kinds=kinds,
        row={"a": "{imei}", "b": "CASE WHEN {msisdn} <> 0 THEN {msisdn} ELSE {imsi} END"},
        lists={"bindings": 1, "bindings.imsi": 2},
        mask="CASE WHEN {msisdn} <> 0 THEN 1 ELSE 2 END",
        checks=(Check("{msisdn} <> 0 OR {imsi} <> 0", "identity-missing", "msisdn"),),
    )
