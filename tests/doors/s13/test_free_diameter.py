"""freeDiameter as relay between a client and the door, in a network namespace of the test's own.

freeDiameter does not start on loopback alone, so the namespace has a dummy interface (a veth pair
where the kernel has no dummy) with an address for each of the three.
"""

import asyncio
import contextlib
import ctypes
import os
import subprocess
import threading
import uuid
from collections.abc import Coroutine, Iterator

import pytest

from eir.doors import s13_codec as wire
from eir.doors.s13_codec import avp
from eir.doors.s13_door import S13Door
from eir.doors.s13_settings import PeerRule
from tests.doors.s13 import talk
from tests.doors.s13.peers import needs, needs_program
from tests.doors.s13.talk import BLACK, MME, UNKNOWN, Link, TableChecker, cer, ecr, until

CLONE_NEWNET = 0x40000000
MME_IP, DRA_IP, EIR_IP = "10.99.0.1", "10.99.0.2", "10.99.0.3"
DRA = "dra.epc.example.org"
CONFIGURATION = """
Identity = "{dra}";
Realm = "epc.example.org";
Port = 3868;
SecPort = 0;
No_SCTP;
No_IPv6;
ListenOn = "{ip}";
TLS_Cred = "{home}/dra.pem", "{home}/dra.key";
TLS_CA = "{home}/dra.pem";
TLS_DH_File = "{home}/dh.pem";
LoadExtension = "acl_wl.fdx" : "{home}/acl.conf";
ConnectPeer = "{eir}" {{ ConnectTo = "{eir_ip}"; No_TLS; Port = 3868; }};
"""


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with the three addresses, its name given."""
    needs_program("ip")
    name = f"eir-s13-{uuid.uuid4().hex[:8]}"
    needs("a network namespace (root)", os.geteuid() == 0 and ip("netns", "add", name))
    try:
        made = ip("-n", name, "link", "add", "d0", "type", "dummy") or ip(
            "-n", name, "link", "add", "d0", "type", "veth", "peer", "name", "d1"
        )
        needs("a dummy or veth interface", made)
        ip("-n", name, "link", "set", "d1", "up")
        for address in (MME_IP, DRA_IP, EIR_IP):
            assert ip("-n", name, "addr", "add", f"{address}/24", "dev", "d0")
        assert ip("-n", name, "link", "set", "d0", "up")
        assert ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


def run_inside(name: str, work: Coroutine[None, None, None]) -> None:
    """Run ``work`` in a thread that lives in the namespace, as do the processes it starts."""
    failed: list[BaseException] = []

    def body() -> None:
        try:
            with open(f"/var/run/netns/{name}") as handle:
                libc = ctypes.CDLL(None, use_errno=True)
                assert libc.setns(handle.fileno(), CLONE_NEWNET) == 0, ctypes.get_errno()
            asyncio.run(work)
        except BaseException as wrong:
            failed.append(wrong)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def configure(home) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=home, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={DRA}")
    openssl("req", "-x509", *new, "-keyout", "dra.key", "-out", "dra.pem")
    group = ("-algorithm", "DH", "-pkeyopt", "group:ffdhe2048")
    openssl("genpkey", "-genparam", *group, "-out", "dh.pem")
    (home / "acl.conf").write_text(f"ALLOW_IPSEC {MME}\n")
    words = {"dra": DRA, "ip": DRA_IP, "home": home, "eir": talk.EIR, "eir_ip": EIR_IP}
    (home / "dra.conf").write_text(CONFIGURATION.format(**words))


async def through_the_relay(home) -> None:
    rule = PeerRule(origin_host=DRA, addresses=("10.99.0.0/24",), msisdn_from=(MME,))
    checker = TableChecker()
    where = {"address": EIR_IP, "port": 3868, "plaintext": "accepted"}
    door = S13Door(talk.settings(peers=(rule,), leave_seconds=5, **where), checker)
    await door.start()
    with (home / "dra.log").open("wb") as log:
        relay = await asyncio.create_subprocess_exec(
            "freeDiameterd", "-c", str(home / "dra.conf"), stdout=log, stderr=log
        )
    try:
        await until(lambda: door.peers_open == 1 or relay.returncode is not None)
        assert relay.returncode is None, "freeDiameter ended"
        link = Link(*await asyncio.open_connection(DRA_IP, 3868, local_addr=(MME_IP, 0)))
        assert (await link.ask(cer())).result == 2001
        await every_answer(link, checker)
        await door.stop()
        assert door.events["s13", "closed", "left"] == 1, "the relay answered our DPR"
    except BaseException:
        print((home / "dra.log").read_text()[-4_000:])
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            relay.kill()
        await relay.wait()
        await door.stop()


async def every_answer(link: Link, checker: TableChecker) -> None:
    number = avp(701, bytes.fromhex("8919214365f7"), vendor=10415, flags=0)
    proxy = avp(284, avp(280, b"here") + avp(33, b"state"))
    for imei, status in ((b"490154203237510", 0), (b"%014d0" % BLACK, 1), (b"3511111111111107", 2)):
        answer = await link.ask(ecr(imei, extra=number + proxy))
        assert (answer.result, answer.number(1445, 10415)) == (2001, status)
        assert answer.head.hop_by_hop == 5
        assert answer.value(wire.SESSION_ID) == talk.SESSION
        assert answer.value(wire.ORIGIN_HOST) == talk.EIR.encode()
        assert answer.value(wire.PROXY_INFO) == proxy[8:]
    assert checker.batches[-1][0][1] == 98911234567, "believed through this relay, from this host"
    answer = await link.ask(ecr(b"%014d3" % UNKNOWN))
    assert answer.value(297).endswith((5422).to_bytes(4, "big"))
    assert (await link.ask(ecr(b""))).result == 5004


def test_a_relay_carries_questions_and_answers(tmp_path):
    needs_program("freeDiameterd", "openssl")
    configure(tmp_path)
    with namespace() as name:
        run_inside(name, through_the_relay(tmp_path))


def test_without_a_namespace_it_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("CI", "true")
    needs_program("ip")
    with pytest.raises(pytest.fail.Exception, match="namespace"), namespace():
        pass
