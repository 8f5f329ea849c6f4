"""Which keys may sign a head: the offline root's word, and the key files on disk.

The root signs a `keys` file and is then put away; configuration pins its public text. A feed key
signs heads day by day, and is believed only while the newest `keys` file names it. Every `keys`
file is signed by the root itself, not by the keys before it, so an engine that slept through a
rotation believes the next one it sees.

    root (offline) ──signs──> keys {version, keys, not_before, expires}
                                              └──names──> feed key ──signs──> head

Never prints or logs a secret, and never writes one that others can read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from eir import limits
from eir.errors import Refused
from eir.feed.envelope import KEY_BYTES, Envelope, PublicKey, SecretKey, pack, unpack

Role = Literal["root", "feed", "node"]

KEYS: Final = Envelope("keys", b"EIRKEYS1", limits.MAX_KEYS_BYTES)

_FORMAT: Final = "eir-keys-1"
_FIELDS: Final = ("format", "version", "keys", "not_before", "expires")
_CHECK_BYTES: Final = 3
_GROUP_CHARS: Final = 8
_TEXT_CHARS: Final = 56


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that may sign heads from ``not_before`` until before ``expires`` (Unix s, UTC).

    ``version`` starts at 1 and rises with every change; the first key is the one in use.
    """

    version: int
    keys: tuple[PublicKey, ...]
    not_before: int
    expires: int


def seal_keys(keys: Keys, root: SecretKey) -> bytes:
    """The `keys` file, signed by the root. Raises Refused ``feed-malformed`` for a wrong one."""
    _check(keys)
    return KEYS.seal(_encode(keys), root)


def open_keys(
    raw: bytes, roots: Iterable[PublicKey], *, now: int, kept: Keys | None = None
) -> Keys:
    """The keys in ``raw``, believed at ``now`` (Unix s) by an engine that last believed ``kept``.

    Raises Refused with ``feed-too-large``, ``feed-malformed``, ``root-unknown``,
    ``feed-signature``, ``feed-format``, ``keys-lower`` (an older version than ``kept``),
    ``keys-rewritten`` (the same version, another content), ``keys-early`` or ``keys-expired``.
    """
    keys = read_keys(raw, roots)
    if kept is not None and keys.version < kept.version:
        raise Refused(
            "keys-lower", f"version {keys.version}, but {kept.version} was believed before"
        )
    if kept is not None and keys.version == kept.version and keys != kept:
        raise Refused("keys-rewritten", f"version {keys.version} had other keys or dates before")
    if now < keys.not_before:
        raise Refused("keys-early", f"valid from {keys.not_before}, and it is {now} here")
    if now >= keys.expires:
        raise Refused("keys-expired", f"expired at {keys.expires}, and it is {now} here")
    return keys


def read_keys(raw: bytes, roots: Iterable[PublicKey]) -> Keys:
    """The keys in ``raw``, whatever the time is: to sign the next version after, or to show.

    Raises Refused as ``open_keys``, but for version and dates.
    """
    return _decode(KEYS.open(raw, roots))


def rotated(
    kept: Keys,
    *,
    new: PublicKey,
    retire: Collection[PublicKey] = (),
    not_before: int,
    expires: int,
) -> Keys:
    """The next version: ``new`` in use, the others kept beside it except those in ``retire``.

    Keep the old key until no head that it signed is the current one. Raises Refused
    ``feed-malformed`` if ``new`` is in ``kept`` or in ``retire``, or a date or number is wrong.
    """
    if new in kept.keys or new in retire:
        raise KEYS.malformed("a rotation needs a key that was not used before")
    rest = tuple(key for key in kept.keys if key not in retire)
    after = Keys(kept.version + 1, (new, *rest), not_before, expires)
    _check(after)
    return after


def key_text(key: PublicKey, role: Role) -> str:
    """The text that a person pins or carries: ``eir-root-1:`` and seven groups of eight.

    The groups are base32 (lower case) of the 32 bytes and a checksum over role and key.
    """
    octets = key.raw + _checksum(key.raw, role)
    text = base64.b32encode(octets).decode().lower()
    groups = (text[i : i + _GROUP_CHARS] for i in range(0, len(text), _GROUP_CHARS))
    return f"{_prefix(role)}{'-'.join(groups)}"


def key_from_text(text: str, role: Role) -> PublicKey:
    """The key of ``key_text``; upper case, spaces and other grouping are taken too.

    Raises Refused ``key-text``, saying what is wrong.
    """
    if len(text) > limits.MAX_KEY_TEXT_CHARS:
        raise Refused("key-text", f"{len(text)} characters are too many for a key")
    typed = text.strip().lower()
    if not typed.startswith(_prefix(role)):
        raise Refused("key-text", f"a {role} key's text begins with {_prefix(role)}")
    letters = typed.removeprefix(_prefix(role)).replace("-", "").replace(" ", "")
    if len(letters) != _TEXT_CHARS:
        raise Refused("key-text", f"{_TEXT_CHARS} characters after the colon; got {len(letters)}")
    try:
        octets = base64.b32decode(letters.encode(), casefold=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("key-text", "only the letters a–z and the digits 2–7 occur") from error
    raw = octets[:KEY_BYTES]
    if octets[KEY_BYTES:] != _checksum(raw, role):
        raise Refused("key-text", "a character is mistyped: the checksum differs")
    return PublicKey(raw)


def new_secret(path: Path, role: Role) -> PublicKey:
    """Make a secret key in a new file at ``path`` (mode 0600, durable); the public half.

    Pin ``key_text`` of a root in configuration; carry that of a feed key to where the root is.
    Raises Refused ``key-file-exists``: a key is never overwritten.
    """
    secret = SecretKey(secrets.token_bytes(KEY_BYTES))
    line = f"{_secret_prefix(role)}{base64.b64encode(secret.seed).decode()}\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Refused("key-file-exists", "a key is never overwritten", where=str(path)) from None
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return secret.public


def load_secret(path: Path, role: Role) -> SecretKey:
    """The secret key in ``path``.

    Raises Refused with ``key-file-unreadable``, ``key-file-mode`` (group or others can reach it, or
    it is no plain file) or ``key-file-malformed`` (among these: a key of the other role).
    """
    where = str(path)
    try:
        if not _is_private(path):
            raise Refused("key-file-mode", f"keep it to its owner: chmod 600 {path}", where=where)
        with path.open("rb") as file:
            raw = file.read(limits.MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise Refused("key-file-unreadable", str(error.strerror), where=where) from error
    prefix = _secret_prefix(role).encode()
    if not raw.startswith(prefix):
        raise Refused("key-file-malformed", f"this is no {role} key file", where=where)
    try:
        return SecretKey(base64.b64decode(raw.removeprefix(prefix).rstrip(b"\n"), validate=True))
    except ValueError as error:
        raise Refused("key-file-malformed", "the key is damaged", where=where) from error


def _is_private(path: Path) -> bool:
    found = path.stat()
    return stat.S_ISREG(found.st_mode) and found.st_mode & 0o077 == 0


def _encode(keys: Keys) -> bytes:
    fields = {
        "format": _FORMAT,
        "version": keys.version,
        "keys": [key.raw for key in keys.keys],
        "not_before": keys.not_before,
        "expires": keys.expires,
    }
    return pack(fields)


def _decode(body: bytes) -> Keys:
    try:
        fields = unpack(body, max_items=limits.MAX_FEED_KEYS)
    except ValueError as error:
        raise KEYS.malformed(str(error)) from error
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, str) and found != _FORMAT:
        raise KEYS.unread(found, _FORMAT)
    if not isinstance(fields, dict) or tuple(fields) != _FIELDS:
        raise KEYS.malformed(f"expected the fields {', '.join(_FIELDS)}")
    raws = fields["keys"]
    if not isinstance(raws, list) or not all(
        isinstance(raw, bytes) and len(raw) == KEY_BYTES for raw in raws
    ):
        raise KEYS.malformed(f"expected {KEY_BYTES} bytes each", where="keys")
    numbers = [fields[name] for name in ("version", "not_before", "expires")]
    if not all(type(number) is int for number in numbers):
        raise KEYS.malformed("version and dates are integers")
    version, not_before, expires = numbers
    keys = Keys(version, tuple(PublicKey(raw) for raw in raws), not_before, expires)
    _check(keys)
    if _encode(keys) != body:
        raise KEYS.malformed("not in its canonical form")
    return keys


def _check(keys: Keys) -> None:
    if not 1 <= keys.version <= limits.MAX_SERIAL:
        raise KEYS.malformed("a version is 1 or more", where="version")
    if not 1 <= len(keys.keys) <= limits.MAX_FEED_KEYS:
        raise KEYS.malformed(f"1 to {limits.MAX_FEED_KEYS} keys", where="keys")
    if len({key.id for key in keys.keys}) != len(keys.keys):
        raise KEYS.malformed("a key stands there twice", where="keys")
    if not 0 <= keys.not_before < keys.expires <= limits.MAX_UNIX_S:
        raise KEYS.malformed("not_before must lie before expires", where="expires")


def _prefix(role: Role) -> str:
    return f"eir-{role}-1:"


def _secret_prefix(role: Role) -> str:
    return f"eir-{role}-secret-1:"


def _checksum(raw: bytes, role: Role) -> bytes:
    return hashlib.sha256(_prefix(role).encode() + raw).digest()[:_CHECK_BYTES]
