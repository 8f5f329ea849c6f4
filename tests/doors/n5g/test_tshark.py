"""tshark decodes a conversation with the door: no expert complaint, and the fields are as sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from eir.doors import n5g_codec as codec
from tests.doors.captures import write_capture

PORT = 29_511
QUESTIONS = (
    ("pei=imei-490154203237518&gpsi=msisdn-989121234567", 200, "WHITELISTED"),
    ("pei=imeisv-3533281100100112&supi=imsi-432110123456789", 200, "BLACKLISTED"),
    ("pei=imei-356938035643803", 200, "GREYLISTED"),
    ("pei=imei-860000000000010", 404, "ERROR_EQUIPMENT_UNKNOWN"),
    ("pei=mac-00-00-5E-00-53-00", 404, "ERROR_EQUIPMENT_UNKNOWN"),
    ("supi=imsi-432110123456789", 400, "MANDATORY_QUERY_PARAM_MISSING"),
    ("pei=imei-490154203237518&gpsi=msisdn-x", 400, "OPTIONAL_QUERY_PARAM_INCORRECT"),
)

Said = list[tuple[bool, bytes]]


@asynccontextmanager
async def overheard(port: int) -> AsyncIterator[tuple[int, Said]]:
    """A port that passes everything on to the door, and keeps what was said in its order."""
    said: Said = []
    pipes: list[asyncio.Task[None]] = []

    async def carry(ours: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(16_384):
            said.append((ours, octets))
            writer.write(octets)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, towards = await asyncio.open_connection("127.0.0.1", port)
        pipes.append(asyncio.create_task(carry(False, reader, towards)))
        pipes.append(asyncio.create_task(carry(True, theirs, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], said
        await asyncio.gather(*pipes)


async def conversation(port: int) -> Said:
    async with (
        overheard(port) as (between, said),
        httpx.AsyncClient(http1=False, http2=True) as client,
    ):
        for query, status, word in QUESTIONS:
            answer = await client.get(f"http://127.0.0.1:{between}{codec.RESOURCE_PATH}?{query}")
            assert answer.status_code == status
            assert word in answer.text
    return said


async def test_tshark_finds_nothing_wrong_and_reads_what_was_sent(
    open_door, checker, run, tmp_path
):
    async with open_door() as (door, _):
        said = await conversation(door.port)
    path = tmp_path / "n5g.pcap"
    write_capture(path, said, port=PORT)
    fields = ("http2.headers.method", "http2.headers.path", "http2.headers.status",
              "http2.headers.content_type", "json.value.string")  # fmt: skip
    out = await run(
        "tshark", "-r", str(path), "-d", f"tcp.port=={PORT},http2", "-T", "json",
        *(word for field in (*fields, "_ws.expert", "_ws.malformed") for word in ("-e", field)),
    )  # fmt: skip
    packets = [entry["_source"]["layers"] for entry in json.loads(out[out.index("[") :])]
    assert len(packets) == len(said)
    assert not [layers for layers in packets if "_ws.expert" in layers or "_ws.malformed" in layers]

    def heard(field: str) -> list[str]:
        return [value for layers in packets for value in layers.get(field, [])]

    assert heard("http2.headers.method") == ["GET"] * len(QUESTIONS)
    assert heard("http2.headers.path") == [
        f"{codec.RESOURCE_PATH}?{query}" for query, _, _ in QUESTIONS
    ]
    assert heard("http2.headers.status") == [str(status) for _, status, _ in QUESTIONS]
    kinds = [codec.JSON if status == 200 else codec.PROBLEM_JSON for _, status, _ in QUESTIONS]
    assert heard("http2.headers.content_type") == kinds
    words = heard("json.value.string")
    assert [word for word in words if word in {w for _, _, w in QUESTIONS}] == [
        word for _, _, word in QUESTIONS
    ]


async def test_tshark_sees_what_is_wrong(open_door, run, tmp_path):
    """The same conversation with one frame damaged: silence above is no deafness."""
    async with open_door() as (door, _):
        said = await conversation(door.port)
    at = next(n for n, (ours, octets) in enumerate(said) if ours and b"WHITELISTED" in octets)
    said[at] = (True, said[at][1].replace(b'{"status"', b'\xff\xff"status'))
    write_capture(tmp_path / "bad.pcap", said, port=PORT)
    out = await run(
        "tshark", "-r", str(tmp_path / "bad.pcap"), "-d", f"tcp.port=={PORT},http2", "-T", "fields",
        "-e", "_ws.expert", "-e", "_ws.malformed",
    )  # fmt: skip
    assert out.strip()
