"""The manifest of a bulk load: which file is which list. Checked as a whole, then a value.

Reads the manifest only; the files that it names are looked at when they are read. Unknown names are
refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eir import limits
from eir.core.generation import BLACK, FEEDS, LIST, WELL_KNOWN_REASONS, reason_ids, spec_of
from eir.errors import Refused
from eir.store.importers import catalogue
from eir.store.importers.catalogue import FileFormat

_TOP = (
    "feed",
    "registry",
    "timezone",
    "max_reject_share",
    "reasons",
    "reason_ids",
    "file",
)
_BLACK_LIST = re.compile(rf"black\.[a-z0-9-]{{1,{limits.MAX_REASON_NAME_CHARS}}}")
_FILE = ("path", "list", "format", "typed", "allow_empty")


@dataclass(frozen=True, slots=True)
class ListFile:
    """One ``[[file]]``. ``name``: the path as written; ``path``: the same from the manifest on."""

    path: Path
    name: str
    list_name: str
    format: FileFormat
    typed: bool
    allow_empty: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest. ``reasons``: DIRBS text → reason name; ``reason_ids``: ids given before.

    ``max_reject_share`` is None where the manifest leaves it to the settings.
    """

    path: Path
    feed: str
    registry: str
    timezone: ZoneInfo
    max_reject_share: float | None
    reasons: Mapping[str, str]
    reason_ids: Mapping[str, int]
    files: tuple[ListFile, ...]

    def black_reasons(self) -> tuple[str, ...]:
        """Every black reason that this load can fill, sorted."""
        lists = [file.list_name for file in self.files]
        named = {name.removeprefix(BLACK) for name in lists if _is_black(name)}
        mapped = any(file.format is FileFormat.DIRBS_BLACKLIST for file in self.files)
        return tuple(sorted(named | (set(self.reasons.values()) if mapped else set())))

    def black_ids(self) -> dict[str, int]:
        """The id of each black reason: well known, from ``[reason_ids]``, or the next free."""
        return reason_ids(self.feed, list(self.black_reasons()), self.reason_ids)


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``. Raises Refused: ``manifest-*``, always naming the place in it."""
    tree = _parsed(path)
    where = str(path)
    _known_only(tree, _TOP, where)
    feed = _text(tree, "feed", where)
    if feed not in FEEDS:
        raise _unknown("feed", feed, FEEDS, where)
    manifest = Manifest(
        path=path,
        feed=feed,
        registry=_text(tree, "registry", where, default="local"),
        timezone=_timezone(_text(tree, "timezone", where, default="Asia/Tehran"), where),
        max_reject_share=_share(tree, where),
        reasons=_reasons(tree, where),
        reason_ids=_reason_ids(tree, feed, where),
        files=_files(tree, feed, path),
    )
    _check_reasons(manifest, where)
    return manifest


def nearest(text: str, known: Iterable[str]) -> str:
    """A hint: the known name that ``text`` most resembles, else all of them."""
    names = list(known)
    close = difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known are: " + ", ".join(names)


def _parsed(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(limits.MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise Refused("manifest-unreadable", f"{error.strerror}", where=str(path)) from error
    if len(raw) > limits.MAX_MANIFEST_BYTES:
        detail = f"a manifest has at most {limits.MAX_MANIFEST_BYTES:,} bytes"
        raise Refused("manifest-unreadable", detail, where=str(path))
    try:
        return tomllib.loads(raw.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        detail = f"not UTF-8 at byte {error.start}"
        raise Refused("manifest-unreadable", detail, where=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise Refused("manifest-syntax", f"not TOML: {error}", where=str(path)) from error


def _files(tree: Mapping[str, object], feed: str, manifest_path: Path) -> tuple[ListFile, ...]:
    entries = tree.get("file")
    if not isinstance(entries, list) or not entries:
        detail = "no [[file]] in it: name at least one list file"
        raise Refused("manifest-no-files", detail, where=str(manifest_path))
    if len(entries) > limits.MAX_LIST_FILES:
        detail = f"at most {limits.MAX_LIST_FILES} files; this has {len(entries)}"
        raise Refused("manifest-value", detail, where=str(manifest_path))
    return tuple(
        _file(entry, feed, manifest_path.parent, f"{manifest_path}: [[file]] {number}")
        for number, entry in enumerate(entries, 1)
    )


def _file(entry: object, feed: str, folder: Path, where: str) -> ListFile:
    if not isinstance(entry, dict):
        raise Refused("manifest-value", "write each file as a [[file]] table", where=where)
    _known_only(entry, _FILE, where)
    name = _text(entry, "path", where)
    where = f"{where} ({name})"
    if "\0" in name:
        raise Refused("manifest-value", "a path holds no NUL", where=where)
    written = _text(entry, "format", where, default="csv")
    formats = {known.value: known for known in FileFormat}
    if written not in formats:
        raise _unknown("format", written, formats, where)
    return ListFile(
        path=folder / name,
        name=name,
        list_name=_list_name(entry, formats[written], feed, where),
        format=formats[written],
        typed=_flag(entry, "typed", where),
        allow_empty=_flag(entry, "allow_empty", where),
    )


def _list_name(entry: Mapping[str, object], file_format: FileFormat, feed: str, where: str) -> str:
    fixed = catalogue.DIRBS_LIST.get(file_format)
    name = _text(entry, "list", where, default=fixed)
    if fixed is not None and name != fixed:
        detail = f"a {file_format.value} file fills {fixed!r}: leave `list` out"
        raise Refused("manifest-value", detail, where=where)
    if name == "black" and fixed == "black":
        return name
    if name not in catalogue.LOADABLE and not _is_black(name):
        raise _unknown("list", name, catalogue.KNOWN_LISTS, where)
    spec = spec_of(name)
    if feed not in spec.feeds:
        detail = f"{name!r} stands in the {spec.feeds[0]} feed: load it with a manifest of its own"
        raise Refused("manifest-feed", detail, where=where)
    if file_format is FileFormat.CEIR and (spec.kind, spec.keys) != (LIST, "imei"):
        detail = f"a ceir file is a list of IMEIs, and {name!r} is none"
        raise Refused("manifest-value", detail, where=where)
    return name


def _reasons(tree: Mapping[str, object], where: str) -> dict[str, str]:
    table = _table(tree, "reasons", where)
    for text, name in table.items():
        if not isinstance(name, str) or not _is_black(BLACK + name):
            detail = f"{name!r} is no reason name: 1 to 32 of a-z, 0-9 and -"
            raise Refused("manifest-value", detail, where=f"{where}: [reasons] {text!r}")
    return {text.strip(): str(name) for text, name in table.items()}


def _reason_ids(tree: Mapping[str, object], feed: str, where: str) -> dict[str, int]:
    first = 512 if feed == "registry" else 32_768
    last = 32_767 if feed == "registry" else limits.MAX_REASON_ID
    ids: dict[str, int] = {}
    for name, number in _table(tree, "reason_ids", where).items():
        place = f"{where}: [reason_ids] {name}"
        if not _is_black(BLACK + name) or name in WELL_KNOWN_REASONS:
            raise Refused("manifest-value", "no reason name, or one with a known id", where=place)
        if type(number) is not int or not first <= number <= last or number in ids.values():
            detail = f"ids of the {feed} feed are {first} to {last}, each once; got {number!r}"
            raise Refused("manifest-value", detail, where=place)
        ids[name] = number
    return ids


def _check_reasons(manifest: Manifest, where: str) -> None:
    blacklists = any(file.format is FileFormat.DIRBS_BLACKLIST for file in manifest.files)
    if blacklists and not manifest.reasons:
        detail = "a DIRBS blacklist needs [reasons]: its reason texts = our reason names"
        raise Refused("manifest-reasons", detail, where=where)
    reasons = manifest.black_reasons()
    if len(reasons) > limits.MAX_BLACK_REASONS:
        detail = f"at most {limits.MAX_BLACK_REASONS} black reasons; this has {len(reasons)}"
        raise Refused("manifest-reasons", detail, where=where)


def _is_black(list_name: str) -> bool:
    return _BLACK_LIST.fullmatch(list_name) is not None


def _share(tree: Mapping[str, object], where: str) -> float | None:
    share = tree.get("max_reject_share")
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        detail = f"a share from 0 to 1; got {share!r}"
        raise Refused("manifest-value", detail, where=f"{where}: max_reject_share")
    return float(share)


def _timezone(name: str, where: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        detail = f"{name!r} is no IANA time zone known here (such as Asia/Tehran or UTC)"
        raise Refused("manifest-value", detail, where=f"{where}: timezone") from error


def _text(tree: Mapping[str, object], key: str, where: str, *, default: str | None = None) -> str:
    value = tree.get(key, default)
    if value is None:
        raise Refused("manifest-value", f"`{key}` is missing", where=where)
    if not isinstance(value, str) or not 0 < len(value) <= limits.MAX_TEXT_FIELD_CHARS:
        detail = f"a text of 1 to {limits.MAX_TEXT_FIELD_CHARS} characters; got {value!r}"
        raise Refused("manifest-value", detail, where=f"{where}: {key}")
    return value


def _flag(tree: Mapping[str, object], key: str, where: str) -> bool:
    value = tree.get(key, False)
    if not isinstance(value, bool):
        raise Refused("manifest-value", f"true or false; got {value!r}", where=f"{where}: {key}")
    return value


def _table(tree: Mapping[str, object], key: str, where: str) -> dict[str, object]:
    value = tree.get(key, {})
    if not isinstance(value, dict):
        raise Refused("manifest-value", f"write it as a [{key}] table", where=f"{where}: {key}")
    return value


def _known_only(tree: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in tree:
        if key not in known:
            raise _unknown("setting", key, known, where)


def _unknown(what: str, text: str, known: Iterable[str], where: str) -> Refused:
    return Refused("manifest-unknown", f"no {what} {text!r}: {nearest(text, known)}", where=where)
