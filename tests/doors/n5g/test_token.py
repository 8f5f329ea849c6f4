"""Bearer tokens: what passes, what does not and with which words, and how keys turn over."""

import asyncio
import base64
import json
import time

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from eir import limits
from eir.doors.n5g_codec import OPENAPI_PATH, RESOURCE_PATH
from eir.doors.n5g_settings import OAuth2Settings
from eir.doors.n5g_token import REREAD_S, TokenGate, public_keys
from eir.errors import Refused

NOW = 1_800_000_000
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
SETTINGS = OAuth2Settings(keys="unused", issuers=("nrf-1", "nrf-2"))
WHITE = RESOURCE_PATH + "?pei=imei-490154203237518"

EC_KEY = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})
RSA_KEY = RSAKey.generate_key(2048, {"kid": "rsa-1"})
STRANGER = ECKey.generate_key("P-256", {"kid": "ec-1"})


def jwks(*keys) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def claims(**changes) -> dict:
    given = {"iss": "nrf-1", "sub": "amf-1", "aud": "5G_EIR", "scope": "n5g-eir-eic nudm-sdm"}
    given |= {"exp": NOW + 600} | changes
    return {name: value for name, value in given.items() if value is not None}


def token(key=EC_KEY, alg="ES256", header=None, **changes) -> str:
    fields = {"alg": alg, "kid": key.kid} if header is None else header
    return jwt.encode(fields, claims(**changes), key, algorithms=[alg])


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Keys:
    """A key source whose content a test turns over."""

    def __init__(self, *keys) -> None:
        self.raw, self.reads, self.fault = jwks(*keys), 0, None

    async def __call__(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        return self.raw


def made_gate(*keys, settings=SETTINGS, clock=None) -> tuple[TokenGate, Keys, Clock]:
    source, now = Keys(*(keys or (EC_KEY, RSA_KEY))), clock or Clock()
    return TokenGate(settings, instance_id=UUID, read_keys=source, now=now), source, now


async def opened_gate(*keys) -> TokenGate:
    gate, _, _ = made_gate(*keys)
    await gate.open()
    return gate


@pytest.mark.parametrize(
    "good",
    [
        token(),
        token(RSA_KEY, "RS256"),
        token(header={"alg": "ES256"}),
        token(iss="nrf-2"),
        token(aud=[UUID, "other"]),
        token(aud=["5G_EIR"]),
        token(scope="n5g-eir-eic"),
        token(exp=NOW - 29),  # within the leeway
    ],
)
async def test_a_good_token_passes_and_is_remembered(good):
    gate = await opened_gate()
    assert await gate.refusal(f"Bearer {good}") is None
    assert gate.remembered(f"Bearer {good}")
    assert await gate.refusal(f"bearer  {good}") is None


def unsigned(alg: str) -> str:
    parts = ({"alg": alg}, claims())
    coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts]
    return ".".join([*coded, ""])


def confused(key) -> str:
    """HS256 with the public key's own PEM as the secret."""
    secret = OctKey.import_key(base64.urlsafe_b64encode(key.as_pem(private=False)).decode())
    return jwt.encode({"alg": "HS256", "kid": key.kid}, claims(), secret, algorithms=["HS256"])


def tampered() -> str:
    head, _, signature = token().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(aud="x")).encode()).rstrip(b"=").decode()
    return f"{head}.{body}.{signature}"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (token(exp=NOW - 31), "it has expired"),
        (token(exp=None), "claim exp is missing"),
        (token(exp="soon"), "claim exp is wrong"),
        (token(nbf=NOW + 60), "claim nbf is wrong"),
        (token(iss="someone"), "claim iss is wrong"),
        (token(iss=None), "claim iss is missing"),
        (token(aud="5G_AMF"), "claim aud is wrong"),
        (token(aud=["x", "y"]), "claim aud is wrong"),
        (token(aud={"5G_EIR": 1}), "claim aud is wrong"),
        (token(aud=None), "claim aud is missing"),
        (token(scope=None, aud=None), "a claim is missing"),
        (token(scope=None), "claim scope is missing"),
        (token(STRANGER), "the signature is by no key of ours"),
        (tampered(), "the signature is by no key of ours"),
        (token(header={"alg": "ES256", "kid": "none-such"}), "the signature is by no key of ours"),
        (unsigned("none"), "its algorithm is not RS256 or ES256"),
        (confused(EC_KEY), "its algorithm is not RS256 or ES256"),
        (confused(RSA_KEY), "its algorithm is not RS256 or ES256"),
        (token(RSA_KEY, "RS512"), "its algorithm is not RS256 or ES256"),
        (token(RSA_KEY, "PS256"), "its algorithm is not RS256 or ES256"),
        (unsigned("ES256"), "the signature is by no key of ours"),
        ("not.a.token", "it is malformed"),
        ("a.b", "it is malformed"),
        ("....", "it is malformed"),
    ],
)
async def test_a_bad_token_is_401_invalid_token(bad, why):
    gate = await opened_gate()
    problem = await gate.refusal(f"Bearer {bad}")
    assert problem is not None
    assert problem.status == 401
    [(name, challenge)] = problem.headers
    assert name == "www-authenticate"
    assert challenge.startswith('Bearer realm="n5g-eir-eic", error="invalid_token"')
    assert why in challenge
    assert not gate.remembered(f"Bearer {bad}")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic dTpw", token(), "Bearer " + "a" * 8_193, "Bearer é.b.c"],
)
async def test_no_token_is_401_without_an_error_code(header):
    problem = await (await opened_gate()).refusal(header)
    assert problem is not None
    assert problem.status == 401
    assert problem.headers == (("www-authenticate", 'Bearer realm="n5g-eir-eic"'),)


@pytest.mark.parametrize("scope", ["nudm-sdm", "n5g-eir-eic2", "N5G-EIR-EIC", "", 7])
async def test_another_scope_is_403(scope):
    problem = await (await opened_gate()).refusal(f"Bearer {token(scope=scope)}")
    assert problem is not None
    if scope == "":
        assert problem.status in (401, 403)
        return
    assert problem.status == 403
    assert 'error="insufficient_scope", scope="n5g-eir-eic"' in problem.headers[0][1]


async def test_a_remembered_token_ends_with_its_own_time():
    gate, _, clock = made_gate()
    await gate.open()
    header = f"Bearer {token()}"
    assert await gate.refusal(header) is None
    clock.now = NOW + 629
    assert gate.remembered(header)
    clock.now = NOW + 630
    assert not gate.remembered(header)
    assert (await gate.refusal(header)).status == 401


async def test_memory_of_tokens_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CACHED_TOKENS", 3)
    gate = await opened_gate()
    headers = [f"Bearer {token(jti=str(i))}" for i in range(5)]
    for header in headers:
        assert await gate.refusal(header) is None
    assert [gate.remembered(header) for header in headers] == [False, False, True, True, True]


async def test_a_new_key_is_fetched_when_a_token_needs_it_and_not_more_often():
    fresh = ECKey.generate_key("P-256", {"kid": "ec-2"})
    gate, source, clock = made_gate(EC_KEY)
    await gate.open()
    old, new = f"Bearer {token()}", f"Bearer {token(fresh)}"
    assert await gate.refusal(old) is None
    source.raw = jwks(fresh)
    clock.now += REREAD_S
    answers = await asyncio.gather(*(gate.refusal(new) for _ in range(20)))
    assert answers == [None] * 20
    assert source.reads == 2
    assert not gate.remembered(old)
    assert (await gate.refusal(old)).status == 401
    assert source.reads == 2  # just read: not again for a token that no key signed
    clock.now += REREAD_S
    assert (await gate.refusal(old)).status == 401
    assert source.reads == 3


async def test_a_key_taken_away_stops_even_remembered_tokens_after_the_refresh():
    gate, source, clock = made_gate(EC_KEY)
    await gate.open()
    header = f"Bearer {token(exp=NOW + 10**6)}"
    assert await gate.refusal(header) is None
    source.raw = jwks(RSA_KEY)
    clock.now += SETTINGS.refresh_s
    assert not gate.remembered(header)
    await gate.refusal(header)
    await gate.reread()
    assert (await gate.refusal(header)).status == 401


async def test_a_failed_reading_keeps_the_old_keys():
    gate, source, clock = made_gate(EC_KEY)
    await gate.open()
    source.fault = httpx.ConnectError("down")
    clock.now += SETTINGS.refresh_s
    assert await gate.refusal(f"Bearer {token(exp=NOW + 10**6)}") is None


async def test_without_any_key_yet_the_answer_is_503_and_then_the_keys_come():
    settings = OAuth2Settings(keys="https://nrf.invalid/jwks", issuers=("nrf-1",))
    gate, source, clock = made_gate(settings=settings)
    source.fault = httpx.ConnectError("not up yet")
    await gate.open()
    header = f"Bearer {token()}"
    problem = await gate.refusal(header)
    assert problem.status == 503
    assert problem.headers == (("retry-after", "10"),)
    source.fault = None
    assert (await gate.refusal(header)).status == 503
    clock.now += REREAD_S
    assert await gate.refusal(header) is None


def pem(key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_keys_from_pem_and_jwks():
    assert len(public_keys(pem(ec.generate_private_key(ec.SECP256R1())))) == 1
    assert len(public_keys(pem(rsa.generate_private_key(65_537, 2048)))) == 1
    mixed = [
        EC_KEY,
        RSA_KEY,
        ECKey.generate_key("P-384"),
        ECKey.generate_key("P-256", {"use": "enc"}),
        RSAKey.generate_key(2048, {"alg": "RS512"}),
    ]
    assert [key.kid for key in public_keys(jwks(*mixed))] == ["ec-1", "rsa-1"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b'{"keys": 3}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256"}]}',
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        EC_KEY.as_pem(private=True),
        json.dumps({"keys": [EC_KEY.as_dict(private=True)]}).encode(),
        jwks(ECKey.generate_key("P-384")),
        b"[" * 100_000,
        b" " * ((1 << 20) + 1),
    ],
)
def test_what_is_no_public_key_is_refused(raw):
    with pytest.raises(Refused) as refused:
        public_keys(raw)
    assert refused.value.reason == "oauth2-keys"


async def test_keys_from_a_file_at_the_door(open_door, tmp_path, checker):
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(EC_KEY))
    oauth2 = OAuth2Settings(keys=str(path), issuers=("nrf-1",))
    good = token(exp=int(time.time()) + 60)
    client = httpx.AsyncClient(http1=False, http2=True)
    async with client, open_door(oauth2=oauth2, instance_id=UUID) as (door, url):

        async def status(*headers: str) -> httpx.Response:
            lines = [("authorization", header) for header in headers]
            return await client.get(url + WHITE, headers=lines)

        none = await status()
        assert (none.status_code, none.json()["title"]) == (401, "Unauthorized")
        assert none.headers["www-authenticate"] == 'Bearer realm="n5g-eir-eic"'
        for _ in range(2):
            answer = await status(f"Bearer {good}")
            assert (answer.status_code, answer.json()) == (200, {"status": "WHITELISTED"})
        twice = await status(f"Bearer {good}", f"Bearer {good}x")
        assert twice.status_code == 401
        narrow = await status(f"Bearer {token(scope='x', exp=int(time.time()) + 60)}")
        assert narrow.status_code == 403
        assert "insufficient_scope" in narrow.headers["www-authenticate"]
        assert (await client.get(url + OPENAPI_PATH)).status_code == 200
        assert (await client.get(url + "/else")).status_code == 404
    assert sum(map(len, checker.batches)) == 2
    assert door.events["n5g", "answer", "whitelisted", "amf-1"] == 2, "by whose token it is"
    assert door.events["n5g", "fault", "401", "127.0.0.1"] == 2
    assert door.events["n5g", "fault", "403", "127.0.0.1"] == 1


async def test_keys_from_a_url(open_door, tmp_path):
    raw, asked = jwks(EC_KEY), []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    oauth2 = OAuth2Settings(keys=f"http://127.0.0.1:{port}/jwks", issuers=("nrf-1",))
    client = httpx.AsyncClient(http1=False, http2=True)
    async with server, client, open_door(oauth2=oauth2) as (_, url):
        good = {"authorization": f"Bearer {token(exp=int(time.time()) + 60)}"}
        assert (await client.get(url + WHITE, headers=good)).status_code == 200
    assert asked == [b"/jwks"]


async def test_a_key_file_that_is_none_keeps_the_door_shut(open_door, tmp_path):
    path = tmp_path / "keys"
    path.write_text("nothing")
    with pytest.raises(Refused):
        async with open_door(oauth2=OAuth2Settings(keys=str(path), issuers=("nrf-1",))):
            pass
