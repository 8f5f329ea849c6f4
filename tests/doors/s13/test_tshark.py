"""tshark decodes what the door said: no expert complaint, and the fields are what was sent."""

import json

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import avp
from tests.doors.captures import write_capture
from tests.doors.s13 import talk
from tests.doors.s13.peers import needs_program, run
from tests.doors.s13.talk import BLACK, MME, UNKNOWN, cer, dpr, ecr, ecr_of, opened, running

PORT = 3868


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
    write_capture(tmp_path / "s13.pcap", said, port=PORT)
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
