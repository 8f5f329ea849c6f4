"""The signed envelope around `head` and `keys`: magic, key id, Ed25519 signature, body.

Promises that no byte of a body is parsed before its signature is verified, and that a body that
was parsed is the one canonical encoding of what it says. Knows no clock and no file.

    offset  length  what
    0       8       magic: which of the two this is, and its version
    8       8       key id: the first 8 bytes of SHA-256 of the public key
    16      64      Ed25519 signature (RFC 8032) over all the bytes that follow
    80      …       body: canonical msgpack, its first field the name of its format
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from eir.errors import Refused

MAGIC_BYTES: Final = 8
KEY_ID_BYTES: Final = 8
SIGNATURE_BYTES: Final = 64
KEY_BYTES: Final = 32
_BODY: Final = MAGIC_BYTES + KEY_ID_BYTES + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: ``raw`` is its 32 bytes. Raises ValueError for another length."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ValueError(f"an Ed25519 key has {KEY_BYTES} bytes; got {len(self.raw)}")

    @property
    def id(self) -> bytes:
        """What an envelope names the key by: 8 bytes."""
        return hashlib.sha256(self.raw).digest()[:KEY_ID_BYTES]

    def verifies(self, signature: bytes, body: bytes) -> bool:
        """Whether this key made ``signature`` over ``body``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, body)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SecretKey:
    """An Ed25519 secret key: its 32-byte seed, which no repr shows."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != KEY_BYTES:
            raise ValueError(f"an Ed25519 seed has {KEY_BYTES} bytes; got {len(self.seed)}")

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self._key().public_key().public_bytes_raw())

    def sign(self, body: bytes) -> bytes:
        """The 64-byte signature over ``body``."""
        return self._key().sign(body)

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One of the two signed kinds: ``name`` is the file's own, ``cap`` in bytes."""

    name: str
    magic: bytes
    cap: int

    def seal(self, body: bytes, key: SecretKey) -> bytes:
        """The signed bytes of ``body``. Raises ValueError if they would pass the cap."""
        raw = self.magic + key.public.id + key.sign(body) + body
        if len(raw) > self.cap:
            raise ValueError(f"a signed {self.name} of {len(raw)} bytes passes {self.cap}")
        return raw

    def open(self, raw: bytes, trusted: Iterable[PublicKey]) -> bytes:
        """The body, once a trusted key is found to have signed it.

        Raises Refused with ``feed-too-large``, ``feed-malformed`` (too short, or not this kind of
        file), ``head-key-unknown`` or ``root-unknown``, or ``feed-signature``.
        """
        if len(raw) > self.cap:
            detail = f"{len(raw)} bytes; the most is {self.cap}"
            raise Refused("feed-too-large", detail, where=self.name)
        if len(raw) <= _BODY or raw[:MAGIC_BYTES] != self.magic:
            raise self.malformed("it does not begin as this kind of file does")
        key_id = raw[MAGIC_BYTES : MAGIC_BYTES + KEY_ID_BYTES]
        key = next((key for key in trusted if key.id == key_id), None)
        if key is None:
            raise Refused(
                "head-key-unknown" if self.name == "head" else "root-unknown",
                f"signed by key {key_id.hex()}, which is not trusted here",
                where=self.name,
            )
        body = raw[_BODY:]
        if not key.verifies(raw[MAGIC_BYTES + KEY_ID_BYTES : _BODY], body):
            detail = f"not what key {key_id.hex()} signed"
            raise Refused("feed-signature", detail, where=self.name)
        return body

    def malformed(self, detail: str, *, where: str = "") -> Refused:
        """The refusal of a file, or of its field ``where``, that breaks the format."""
        return Refused("feed-malformed", detail, where=f"{self.name} {where}".strip())

    def unread(self, found: str, known: str) -> Refused:
        """The refusal of a later format than this engine knows."""
        detail = f"format {found[:32]!r}; this engine reads {known}: upgrade it"
        return Refused("feed-format", detail, where=self.name)


def pack(fields: object) -> bytes:
    """The one encoding of ``fields``: msgpack, shortest forms, keys in the order given."""
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def unpack(body: bytes, *, max_items: int) -> object:
    """What ``body`` holds; no array or map longer than ``max_items``, no extension types.

    Raises ValueError for anything else. The caller re-encodes what it understood and compares:
    that alone refuses duplicate keys, long forms and trailing bytes.
    """
    try:
        fields: object = msgpack.unpackb(
            body,
            max_array_len=max_items,
            max_map_len=max_items,
            max_ext_len=0,
            strict_map_key=True,
            use_list=True,
        )
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ValueError(f"not msgpack within its limits ({error})") from error
    return fields
