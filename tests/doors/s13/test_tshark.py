"""tshark decodes what the door said: no expert complaint, and the fields are what was sent."""

import json
import struct
from pathlib import Path

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import avp
from tests.doors.s13 import talk
from tests.doors.s13.peers import needs_program, run
from tests.doors.s13.talk import BLACK, MME, UNKNOWN, cer, dpr, ecr, ecr_of, opened, running

PORT = 3868


def packet(octets: bytes, *, ours: bool, sequence: int, acknowledged: int) -> bytes:
    """One TCP segment over IPv4, without checksums: tshark does not verify them."""
    ports = (PORT, 40_000) if ours else (40_000, PORT)
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 0x50, 0x18, 65_535, 0, 0)
    hosts = (b"\x7f\0\0\2", b"\x7f\0\0\1") if ours else (b"\x7f\0\0\1", b"\x7f\0\0\2")
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(octets), 0, 0, 64, 6, 0) + b"".join(hosts)
    return ip + tcp + octets


def capture(path: Path, exchanges: list[tuple[bool, bytes]]) -> None:
    """A pcap file of these messages, each in a segment of its own; True is what we said."""
    written = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101)
    at = {True: 1, False: 1}
    for second, (ours, octets) in enumerate(exchanges):
        segment = packet(octets, ours=ours, sequence=at[ours], acknowledged=at[not ours])
        at[ours] += len(octets)
        written += struct.pack("<IIII", second, 0, len(segment), len(segment)) + segment
    path.write_bytes(written)


def octets_of(message: talk.Message) -> bytes:
    body = b"".join(a.encode() for a in message.avps)
    return wire.message(message.head, body, flags=message.head.flags)


async def conversation() -> list[tuple[bool, bytes]]:
    asked = [
        ecr(),
        ecr(b"%014d0" % BLACK, number=6),
        ecr(b"%014d3" % UNKNOWN, number=7, extra=avp(284, avp(280, b"p") + avp(33, b"s"))),
        ecr_of(state=None),
        ecr_of(to=avp(283, b"elsewhere")),
        talk.base(wire.WATCHDOG, number=8),
        dpr(),
    ]
    said: list[tuple[bool, bytes]] = []
    async with running() as door:
        link = await talk.dial(door)
        for octets in (cer(), *asked):
            said.append((False, octets))
            answer = await link.ask(octets)
            said.append((True, octets_of(answer)))
    async with running(leave_seconds=0.1) as door:
        link = await opened(door)
        await door.stop()
        said.append((True, octets_of(await link.hear())))
    return said


async def test_tshark_finds_nothing_wrong_and_reads_what_was_sent(tmp_path):
    needs_program("tshark")
    said = await conversation()
    said.append((True, ecr(extra=avp(wire.RESULT_CODE, b"\0\1"))))
    capture(tmp_path / "s13.pcap", said)
    fields = (
        "diameter.cmd.code", "diameter.flags", "diameter.applicationId", "diameter.hopbyhopid",
        "diameter.Result-Code", "diameter.Equipment-Status", "diameter.Session-Id",
        "diameter.Experimental-Result-Code", "diameter.Origin-Host", "diameter.Failed-AVP",
    )  # fmt: skip
    out = await run(
        "tshark", "-r", str(tmp_path / "s13.pcap"), "-d", f"tcp.port=={PORT},diameter",
        "-T", "json", "-Y", "diameter", "--no-duplicate-keys",
        *(word for field in (*fields, "_ws.expert", "_ws.malformed") for word in ("-e", field)),
    )  # fmt: skip
    packets = [entry["_source"]["layers"] for entry in json.loads(out)]
    assert len(packets) == len(said)
    said.pop()
    assert "_ws.expert" in packets.pop(), "what is wrong is seen: the last was"
    for (ours, octets), layers in zip(said, packets, strict=True):
        (message,) = talk.messages(octets)
        assert int(layers["diameter.cmd.code"][0]) == message.head.command
        assert int(layers["diameter.flags"][0], 16) == message.head.flags
        assert int(layers["diameter.hopbyhopid"][0], 16) == message.head.hop_by_hop
        if not ours:
            continue
        assert "_ws.malformed" not in layers
        assert "_ws.expert" not in layers, layers
        assert layers["diameter.Origin-Host"][0] == talk.EIR
        told = layers.get("diameter.Result-Code", [None])[0]
        assert (told and int(told)) == message.result
        status = layers.get("diameter.Equipment-Status", [None])[0]
        assert (status and int(status)) == message.number(1445, 10415)
        session = message.value(wire.SESSION_ID)
        assert layers.get("diameter.Session-Id", [None])[0] == (session and session.decode())
    experimental = [layers.get("diameter.Experimental-Result-Code") for layers in packets]
    assert [found for found in experimental if found] == [["5422"]]
    assert MME in {layers["diameter.Origin-Host"][0] for layers in packets}
