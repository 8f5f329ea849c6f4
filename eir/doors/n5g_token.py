"""Who may ask at the N5g-eir door: bearer tokens checked against the issuers' public keys.

Signature (RS256 or ES256 and nothing else), issuer, audience, expiry and scope are checked
(RFC 6750, TS 33.501 13.4.1, TS 29.510 6.3.5.2.4). A token that passed is remembered until it
expires or the keys change. A token that no key signed makes the keys be read again, at most once
in REREAD_S. Never decides a verdict, and never logs a token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from eir import limits
from eir.doors.n5g_client import capped_body, open_client
from eir.doors.n5g_codec import SERVICE, Problem
from eir.doors.n5g_settings import OAuth2Settings
from eir.errors import Refused

logger = logging.getLogger(__name__)

REREAD_S: Final = 10.0
_KEYS_TIMEOUT_S: Final = 5.0
_MIN_RSA_BITS: Final = 2_048
_KEY_OF: Final[Mapping[str, type[RSAKey] | type[ECKey]]] = {"RS256": RSAKey, "ES256": ECKey}

_CLAIMS: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "scope"})

PublicKey = RSAKey | ECKey
KeyReader = Callable[[], Awaitable[bytes]]


class TokenGate:
    """The door's bearer check. ``refusal`` answers None for a request that may pass."""

    def __init__(
        self,
        settings: OAuth2Settings,
        *,
        instance_id: str = "",
        read_keys: KeyReader | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._read_keys = read_keys or _reader(settings)
        self._now = now
        self._keys: tuple[PublicKey, ...] = ()
        self._tried_at = self._good_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._passed: dict[str, tuple[float, str]] = {}
        audiences = [*settings.audiences, *([instance_id] if instance_id else [])]
        self._claims = JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=settings.leeway_s,
            iss={"essential": True, "values": list(settings.issuers)},
            aud={"essential": True, "values": audiences},
            exp={"essential": True},
            scope={"essential": True},
        )

    async def open(self) -> None:
        """Read the keys once. A file that is no key is Refused; a URL may come up later."""
        if self._settings.is_url:
            await self.reread()
        else:
            self._take(await self._read_keys())

    async def reread(self) -> None:
        """Read the keys again, sharing a read that is under way; a failure keeps the old ones."""
        await asyncio.shield(self._start_reading())

    def reread_soon(self) -> None:
        """As ``reread``, without waiting for it."""
        self._start_reading()

    def _start_reading(self) -> asyncio.Task[None]:
        if self._reading is None or self._reading.done():
            self._tried_at = self._now()
            self._reading = asyncio.create_task(self._reread())
        return self._reading

    async def _reread(self) -> None:
        try:
            self._take(await self._read_keys())
        except (Refused, OSError, httpx.HTTPError) as error:
            logger.error("token keys not read, %d old ones stay: %s", len(self._keys), error)

    def _take(self, raw: bytes) -> None:
        self._keys = public_keys(raw)
        self._good_at = self._now()
        self._passed.clear()

    def _rested(self) -> bool:
        return self._now() >= self._tried_at + REREAD_S

    def _due(self) -> bool:
        return self._rested() and self._now() >= self._good_at + self._settings.refresh_s

    def remembered(self, authorization: str | None) -> bool:
        """Whether this very header passed before and still would."""
        passed = self._passed.get(authorization) if authorization else None
        return passed is not None and self._now() < passed[0] and not self._due()

    def subject(self, authorization: str) -> str:
        """Whose token this is that passed: ``sub``, a consumer's instance id; empty if unsaid."""
        _, subject = self._passed.get(authorization, (0.0, ""))
        return subject

    async def refusal(self, authorization: str | None) -> Problem | None:
        """Why this Authorization header may not pass; None if it may.

        Waits only where the keys must be read first: none yet, or none that signed this token.
        """
        if self.remembered(authorization):
            return None
        token = _bearer(authorization)
        if token is None:
            return _NO_TOKEN
        if self._due():
            self._start_reading()
        if not self._keys:
            await self._await_keys()
        if not self._keys:
            return _NO_KEYS
        return await self._verdict(token, authorization or "")

    async def _verdict(self, token: str, authorization: str) -> Problem | None:
        try:
            signed = jws.extract_compact(token.encode("ascii"))
            if not self._signed_by_one_of_ours(signed):
                await self._await_keys()
                if not self._signed_by_one_of_ours(signed):
                    return invalid_token("the signature is by no key of ours")
            claims = json.loads(signed.payload, parse_constant=_no_number)
            if not isinstance(claims, dict):
                return invalid_token("the claims are no object")
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            return invalid_token(_said(error))
        if SERVICE not in str(claims["scope"]).split():
            return _WRONG_SCOPE
        until = float(claims["exp"]) + self._settings.leeway_s
        self._remember(authorization, until, str(claims.get("sub", "")))
        return None

    async def _await_keys(self) -> None:
        under_way = self._reading is not None and not self._reading.done()
        if under_way or self._rested():
            await self.reread()

    def _signed_by_one_of_ours(self, signed: jws.CompactSignature) -> bool:
        """By a key of the algorithm's own type, and of the key id if both name one."""
        header = signed.headers()
        algorithm, kid = str(header.get("alg")), header.get("kid")
        wanted = _KEY_OF.get(algorithm)
        if wanted is None:
            raise ValueError("the algorithm is not RS256 or ES256")
        return any(
            jws.validate_compact(signed, key, algorithms=[algorithm])
            for key in self._keys
            if isinstance(key, wanted) and (kid is None or key.kid is None or key.kid == kid)
        )

    def _remember(self, authorization: str, until: float, subject: str) -> None:
        while len(self._passed) >= limits.MAX_CACHED_TOKENS:
            del self._passed[next(iter(self._passed))]
        self._passed[authorization] = until, subject


def public_keys(raw: bytes) -> tuple[PublicKey, ...]:
    """The keys of a PEM public key or a JWKS that can verify RS256 or ES256; others are left out.

    Raises Refused ``oauth2-keys`` for what holds none, or holds a private key.
    """
    if len(raw) > limits.MAX_TOKEN_KEYS_BYTES:
        raise Refused("oauth2-keys", "the key file is too big")
    try:
        found = list(_from_pem(raw) if raw.lstrip().startswith(b"-----") else _from_jwks(raw))
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Refused("oauth2-keys", f"no PEM public key and no JWKS: {error}") from error
    if any(key.is_private for key in found):
        raise Refused("oauth2-keys", "a private key has no place here: give the public one")
    keys = tuple(key for key in found if _usable(key))
    if not keys or len(keys) > limits.MAX_TOKEN_KEYS:
        raise Refused("oauth2-keys", f"{len(keys)} RSA (2048 bits up) or P-256 keys found")
    return keys


def _from_pem(raw: bytes) -> list[PublicKey]:
    try:
        return [RSAKey.import_key(raw)]
    except (JoseError, ValueError, TypeError):
        return [ECKey.import_key(raw)]


def _from_jwks(raw: bytes) -> list[PublicKey]:
    jwks = json.loads(raw)
    wanted = [k for k in jwks["keys"] if isinstance(k, dict) and k.get("kty") in ("RSA", "EC")]
    if not wanted:
        return []
    found = KeySet.import_key_set({"keys": wanted[: limits.MAX_TOKEN_KEYS + 1]}).keys
    return [key for key in found if isinstance(key, RSAKey | ECKey)]


def _usable(key: PublicKey) -> bool:
    if key.get("use", "sig") != "sig" or "verify" not in (key.get("key_ops") or "verify"):
        return False
    if key.get("alg") not in (None, "ES256" if isinstance(key, ECKey) else "RS256"):
        return False
    if isinstance(key, ECKey):
        return key.curve_name == "P-256"
    return key.public_key.key_size >= _MIN_RSA_BITS


def _reader(settings: OAuth2Settings) -> KeyReader:
    async def from_file() -> bytes:
        path = Path(settings.keys)
        if path.stat().st_size > limits.MAX_TOKEN_KEYS_BYTES:
            raise Refused("oauth2-keys", "the key file is too big", where=settings.keys)
        return path.read_bytes()

    async def from_url() -> bytes:
        async with (
            open_client(timeout_s=_KEYS_TIMEOUT_S, http1=True, ca=settings.ca) as client,
            client.stream("GET", settings.keys) as response,
        ):
            response.raise_for_status()
            return await capped_body(response, limits.MAX_TOKEN_KEYS_BYTES)

    return from_url if settings.is_url else from_file


def _bearer(authorization: str | None) -> str | None:
    """The token of ``Bearer <token>`` (RFC 6750 2.1), if it can be one."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token.isascii() or len(token) > limits.MAX_TOKEN_CHARS:
        return None
    return token or None


def invalid_token(why: str) -> Problem:
    """401 ``invalid_token`` (RFC 6750 3.1)."""
    challenge = f'Bearer realm="{SERVICE}", error="invalid_token", error_description="{why}"'
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        detail=f"the token is not accepted: {why}",
        headers=(("www-authenticate", challenge),),
    )


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number (RFC 8259 6)")


def _said(error: Exception) -> str:
    """A reason fit for a header: our words for each kind of failure, none of the token's own."""
    name = getattr(error, "error", "") if isinstance(error, JoseError) else ""
    claim = getattr(error, "claim", "")
    if name == "expired_token":
        return "it has expired"
    if name in ("missing_claim", "invalid_claim") and claim in _CLAIMS:
        return f"claim {claim} is missing" if name == "missing_claim" else f"claim {claim} is wrong"
    if name == "missing_claim":
        return "a claim is missing"
    if type(error) is ValueError and "algorithm" in str(error):
        return "its algorithm is not RS256 or ES256"
    return "it is malformed"


_NO_TOKEN: Final = Problem(
    HTTPStatus.UNAUTHORIZED,
    detail="a bearer token is required",
    headers=(("www-authenticate", f'Bearer realm="{SERVICE}"'),),
)
_WRONG_SCOPE: Final = Problem(
    HTTPStatus.FORBIDDEN,
    detail=f"the token's scope lacks {SERVICE}",
    headers=(
        (
            "www-authenticate",
            f'Bearer realm="{SERVICE}", error="insufficient_scope", scope="{SERVICE}"',
        ),
    ),
)
_NO_KEYS: Final = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    detail="the keys that verify tokens are not known yet",
    headers=(("retry-after", str(int(REREAD_S))),),
)
