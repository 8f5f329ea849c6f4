"""The door as its peers meet it: HTTP/2 by prior knowledge, and every answer of the interface."""

import asyncio
import json
import logging
import re
import socket
from contextlib import suppress

import httpx
import pytest

from eir.core.policy import Status
from eir.doors import n5g_codec as codec
from eir.doors.n5g_door import N5gDoor
from eir.doors.n5g_settings import N5gSettings
from eir.limits import MAX_COUNTED_PEERS
from eir.serve.events import OTHERS
from tests.doors.n5g.told import answers

WHITE = "?pei=imei-490154203237518"
BLACK = "?pei=imei-353328110010012"
UNKNOWN = "?pei=imei-860000000000010"


def h2_client(**options) -> httpx.AsyncClient:
    return httpx.AsyncClient(http1=False, http2=True, timeout=10, **options)


async def get(url: str, path: str = codec.RESOURCE_PATH, **options) -> httpx.Response:
    async with h2_client() as client:
        return await client.request(options.pop("method", "GET"), url + path, **options)


def problem_of(answer: httpx.Response) -> dict:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.json()


async def test_verdicts_over_http2(open_door, checker):
    async with open_door() as (door, url), h2_client() as client:
        for query, status in ((WHITE, "WHITELISTED"), (BLACK, "BLACKLISTED"),
                              ("?pei=imei-1", "GREYLISTED")):  # fmt: skip
            answer = await client.get(url + codec.RESOURCE_PATH + query)
            assert answer.http_version == "HTTP/2"
            assert (answer.status_code, answer.json()) == (200, {"status": status})
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["cache-control"] == "no-store"
        assert answers(door) == dict.fromkeys(["whitelisted", "blacklisted", "greylisted"], 1)


async def test_the_checker_hears_device_and_subscriber(open_door, checker):
    async with open_door() as (_, url):
        query = WHITE + "&supi=imsi-001010000000001&gpsi=msisdn-989121234567&requester-nf-type=AMF"
        answer = await get(url, codec.RESOURCE_PATH + query, headers={"3gpp-sbi-max-rsp-time": "9"})
    assert answer.status_code == 200
    assert checker.batches == [[(49015420323751, 989121234567, 1010000000001 << 4 | 15)]]


@pytest.mark.parametrize(
    ("unknown", "status", "body"),
    [("not-found", 404, None), ("GREYLISTED", 200, {"status": "GREYLISTED"})],
)
async def test_unknown_equipment_is_answered_as_set(open_door, unknown, status, body):
    async with open_door(unknown=unknown) as (_, url):
        answer = await get(url, codec.RESOURCE_PATH + UNKNOWN)
    assert answer.status_code == status
    if body is None:
        assert problem_of(answer)["cause"] == "ERROR_EQUIPMENT_UNKNOWN"
    else:
        assert answer.json() == body


async def test_the_standard_errors(open_door, checker):
    async with open_door() as (door, url):
        missing = problem_of(await get(url))
        assert missing["cause"] == "MANDATORY_QUERY_PARAM_MISSING"
        assert missing["invalidParams"] == [{"param": "query pei", "reason": "is missing"}]
        elsewhere = problem_of(await get(url, "/n5g-eir-eic/v2/equipment-status" + WHITE))
        assert elsewhere["cause"] == "RESOURCE_URI_STRUCTURE_NOT_FOUND"
        await get(url, codec.RESOURCE_PATH + "/" + WHITE)
        html = await get(url, codec.RESOURCE_PATH + WHITE, headers={"accept": "text/html"})
        assert problem_of(html)["status"] == 406
        assert answers(door) == {"400": 1, "404": 2, "406": 1}
    assert checker.batches == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
async def test_other_methods_are_405_with_allow(open_door, method):
    async with open_door() as (_, url):
        answer = await get(url, codec.RESOURCE_PATH + WHITE, method=method)
    assert (problem_of(answer)["status"], answer.headers["allow"]) == (405, "GET")


async def test_head_has_the_status_and_no_body(open_door):
    async with open_door() as (_, url), h2_client() as client:
        for _ in range(2):  # the same connection lives on
            answer = await client.head(url + codec.RESOURCE_PATH + WHITE)
            assert (answer.status_code, answer.content) == (405, b"")


async def test_a_body_is_not_read_and_harms_nobody(open_door, checker):
    async with open_door() as (_, url):
        for _ in range(3):
            # the stream may be reset once it is answered (RFC 9113 8.1): some clients take it ill
            with suppress(httpx.ProtocolError):
                answer = await get(url, codec.RESOURCE_PATH + WHITE, content=b"x" * 200_000)
                assert answer.status_code == 200
        assert (await get(url, codec.RESOURCE_PATH + WHITE)).status_code == 200
    assert sum(map(len, checker.batches)) == 4


async def test_long_uris_are_414_and_long_headers_431(open_door, checker):
    room = 2_048 - len(codec.RESOURCE_PATH + WHITE) - len("&x=") + 1
    async with open_door() as (_, url):
        fits = await get(url, codec.RESOURCE_PATH + WHITE + "&x=" + "a" * room)
        over = await get(url, codec.RESOURCE_PATH + WHITE + "&x=" + "a" * (room + 1))
        far = await get(url, codec.RESOURCE_PATH + WHITE, headers={"x": "a" * 20_000})
    assert fits.status_code == 200
    assert problem_of(over)["status"] == 414
    assert far.status_code == 431
    assert len(checker.batches) == 1


async def test_not_ready_is_503_until_it_is_ready(open_door, checker):
    checker.ready = False
    async with open_door(retry_after_s=7) as (_, url):
        early = await get(url, codec.RESOURCE_PATH + WHITE)
        assert (problem_of(early)["status"], early.headers["retry-after"]) == (503, "7")
        assert (await get(url, codec.RESOURCE_PATH)).status_code == 400
        checker.ready = True
        assert (await get(url, codec.RESOURCE_PATH + WHITE)).status_code == 200


async def test_readiness_lost_within_the_check_is_503_too(open_door, checker):
    from eir.errors import Unavailable

    checker.fault = Unavailable("gone in between")
    async with open_door() as (_, url):
        assert (await get(url, codec.RESOURCE_PATH + WHITE)).status_code == 503


async def test_a_fault_of_ours_is_500_said_once_and_the_door_lives(open_door, checker, caplog):
    checker.fault = ZeroDivisionError("a bug")
    async with open_door() as (_, url), h2_client() as client:
        gets = [client.get(url + codec.RESOURCE_PATH + WHITE) for _ in range(5)]
        with caplog.at_level(logging.ERROR):
            answers = await asyncio.gather(*gets)
        assert {problem_of(answer)["cause"] for answer in answers} == {"SYSTEM_FAILURE"}
        assert "490154" not in caplog.text
        checker.fault = None
        assert (await client.get(url + codec.RESOURCE_PATH + WHITE)).status_code == 200


class Scope:
    """A request as RSGI hands it over."""

    method, path, headers = "GET", codec.RESOURCE_PATH, None

    def __init__(self, query: str, client: str = "192.0.2.9:40000") -> None:
        self.query_string = query
        self.client = client
        self.headers = self

    def get_all(self, _name: str) -> list[str]:
        return []


class Sent:
    """The response to one request."""

    def response_bytes(self, status, headers, body):
        self.status, self.headers, self.body = status, dict(headers), body


async def test_one_turn_of_the_loop_is_one_check_and_each_gets_its_own(checker):
    door = N5gDoor(N5gSettings(), checker)
    keys = [49015420323751, 35332811001001, 86000000000001, 7] * 50
    sent = [Sent() for _ in keys]
    asks = zip(keys, sent, strict=True)
    await asyncio.gather(*(door.__rsgi__(Scope(f"pei=imei-{k:014d}"), s) for k, s in asks))
    assert [[key for key, _, _ in batch] for batch in checker.batches] == [keys]
    wanted = {Status.WHITELISTED: 200, Status.BLACKLISTED: 200, Status.UNKNOWN: 404}
    for key, one in zip(keys, sent, strict=True):
        status = checker.table.get(key, Status.GREYLISTED)
        assert one.status == wanted.get(status, 200)
        assert one.status == 404 or json.loads(one.body) == {"status": status.name}


async def test_peers_are_counted_by_host_up_to_so_many(checker):
    door = N5gDoor(N5gSettings(max_gathered=200), checker)
    hosts = [f"192.0.2.{number}" for number in range(MAX_COUNTED_PEERS + 10)]
    query = f"pei=imei-{49015420323751:014d}"
    asking = [door.__rsgi__(Scope(query, f"{host}:{at}"), Sent()) for at, host in enumerate(hosts)]
    await asyncio.gather(*asking)
    await door.__rsgi__(Scope("", "[2001:db8::1]:7"), Sent())
    named = {key[3] for key, _ in door.events}
    assert named == {*hosts[:MAX_COUNTED_PEERS], OTHERS}
    assert door.events["n5g", "answer", "whitelisted", hosts[0]] == 1
    assert door.events["n5g", "answer", "whitelisted", OTHERS] == 10
    assert door.events["n5g", "fault", "400", OTHERS] == 1


async def test_past_the_limit_of_a_turn_is_429(checker):
    door = N5gDoor(N5gSettings(max_gathered=3, retry_after_s=2), checker)
    sent = [Sent() for _ in range(5)]
    await asyncio.gather(*(door.__rsgi__(Scope("pei=imei-49015420323751"), s) for s in sent))
    assert [s.status for s in sent] == [200, 200, 200, 429, 429]
    assert json.loads(sent[4].body)["cause"] == "NF_CONGESTION_RISK"
    assert sent[4].headers["retry-after"] == "2"
    again = Sent()
    await door.__rsgi__(Scope("pei=imei-49015420323751"), again)
    assert again.status == 200
    assert [len(batch) for batch in checker.batches] == [3, 1]


async def test_curl_by_prior_knowledge(open_door, run):
    async with open_door() as (_, url):
        said = await run("curl", "-si", "--http2-prior-knowledge",
                         url + codec.RESOURCE_PATH + WHITE)  # fmt: skip
    assert said.startswith("HTTP/2 200")
    assert said.rstrip().endswith('{"status":"WHITELISTED"}')


async def test_http1_only_on_request(open_door, run):
    async with open_door(http1=True) as (_, url):
        said = await run("curl", "-si", "--http1.1", url + codec.RESOURCE_PATH + BLACK)
        assert said.startswith("HTTP/1.1 200")
        said = await run("curl", "-si", "--http2-prior-knowledge", url + codec.RESOURCE_PATH)
        assert said.startswith("HTTP/2 400")
    async with open_door() as (_, url), httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(url + codec.RESOURCE_PATH + BLACK)


async def test_nghttp_sees_whole_frames(open_door, run):
    async with open_door() as (_, url):
        said = await run("nghttp", "-nv", url + codec.RESOURCE_PATH + UNKNOWN)
    assert ":status: 404" in said
    assert "content-type: application/problem+json" in said
    assert "END_STREAM" in said


async def test_h2load_gets_an_answer_to_everything(open_door, checker, run):
    async with open_door() as (door, url):
        said = await run("h2load", "-n", "4000", "-c", "8", "-m", "50",
                         url + codec.RESOURCE_PATH + WHITE)  # fmt: skip
        assert re.search(r"status codes: 4000 2xx, 0 3xx, 0 4xx, 0 5xx", said), said
        assert answers(door) == {"whitelisted": 4000}
    assert sum(map(len, checker.batches)) == 4000


async def test_idle_and_babbling_connections_do_not_hold_others_up(open_door):
    async with open_door() as (door, url):
        peers = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(200)]
        for at, (_, writer) in enumerate(peers):
            writer.write((b"", b"PRI * HTTP/2.0\r\n", b"\xff" * 64, b"GET / HTTP/1.1\r\n")[at % 4])
        answers = await asyncio.gather(*(get(url, codec.RESOURCE_PATH + WHITE) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        for _, writer in peers:
            writer.close()


async def test_two_doors_share_a_port_and_a_stranger_s_port_is_refused(open_door, checker):
    async with open_door() as (door, url):
        second = N5gDoor(N5gSettings(port=door.port, drain_s=1), checker)
        await second.start()
        await second.stop()
        assert (await get(url, codec.RESOURCE_PATH + WHITE)).status_code == 200
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            await N5gDoor(N5gSettings(port=stranger.getsockname()[1]), checker).start()


async def test_stop_ends_listening_even_with_a_connection_open(open_door):
    async with h2_client() as client, open_door() as (door, url):
        assert (await client.get(url + codec.RESOURCE_PATH + WHITE)).status_code == 200
        await door.stop()
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("127.0.0.1", door.port)


async def test_the_host_s_logging_is_left_alone(open_door):
    mine = logging.StreamHandler()
    logging.getLogger("host").addHandler(mine)
    before = list(logging.getLogger().handlers)
    async with open_door():
        assert logging.getLogger("host").handlers == [mine]
        assert logging.getLogger().handlers == before
        assert logging.getLogger("_granian").handlers == []
    logging.getLogger("host").removeHandler(mine)


async def test_no_token_asked_is_said_at_start(open_door, caplog):
    with caplog.at_level(logging.WARNING):
        async with open_door():
            pass
    assert "asks for no token" in caplog.text
