"""The door over real sockets: one check a read, readiness, the bad neighbours, TLS."""

import asyncio
import logging
import socket
import ssl
import subprocess

import pytest

from eir.core.subscriber import imsi_from_digits
from eir.doors import s13_codec as wire
from eir.doors.s13_codec import avp
from eir.doors.s13_door import S13Door, run_loop
from eir.doors.s13_settings import PeerRule, S13Settings, TlsSettings
from eir.errors import Refused
from tests.doors.s13 import talk
from tests.doors.s13.talk import (
    BLACK,
    MME,
    UNKNOWN,
    WHITE,
    TableChecker,
    cer,
    dial,
    dpr,
    ecr,
    ecr_of,
    opened,
    running,
    until,
)

G = 10415


@pytest.mark.parametrize(
    ("key", "result", "status"),
    [(WHITE, 2001, 0), (BLACK, 2001, 1), (35111111111111, 2001, 2), (UNKNOWN, None, None)],
)
async def test_each_verdict_reaches_the_wire(key, result, status):
    async with running() as door:
        link = await opened(door)
        answer = await link.ask(ecr(b"%014d0" % key))
        assert (answer.result, answer.number(1445, G)) == (result, status)
        if result is None:
            assert answer.value(297).endswith((5422).to_bytes(4, "big"))


async def test_the_answer_for_unknown_is_a_setting():
    async with running(unknown_answer="greylisted") as door:
        answer = await (await opened(door)).ask(ecr(b"%014d0" % UNKNOWN))
        assert (answer.result, answer.number(1445, G)) == (2001, 2)


async def test_what_one_read_brings_is_decided_in_one_check():
    checker = TableChecker()
    async with running(checker) as door:
        link = await opened(door)
        number = avp(701, bytes.fromhex("8919214365f7"), vendor=G, flags=0)
        link.say(ecr() + ecr(b"12345", extra=number, number=6) + ecr(imsi=b"", number=7))
        answers = [await link.hear() for _ in range(3)]
        assert [a.head.hop_by_hop for a in answers] == [5, 6, 7]
    imsi = imsi_from_digits("432110123456789")
    assert checker.batches == [[(WHITE, 0, imsi), (0, 98911234567, imsi), (WHITE, 0, 0)]]


async def test_an_error_among_good_ones_costs_only_itself():
    async with running() as door:
        link = await opened(door)
        link.say(ecr(number=1) + ecr_of(state=None) + ecr(number=2))
        answers = [await link.hear() for _ in range(3)]
        assert sorted(a.result for a in answers) == [2001, 2001, 5005]
        assert door.events["s13", "fault", "5005"] == 1
        assert door.events["s13", "answer", "whitelisted"] == 2
        assert talk.asked_by(door, MME) == 2


async def test_more_questions_than_one_check_takes(monkeypatch):
    monkeypatch.setattr("eir.limits.MAX_S13_QUESTIONS_PER_CHECK", 4)
    checker = TableChecker()
    async with running(checker) as door:
        link = await opened(door)
        link.say(b"".join(ecr(number=n) for n in range(10)))
        assert [(await link.hear()).head.hop_by_hop for _ in range(10)] == list(range(10))
    assert max(map(len, checker.batches)) <= 4


async def test_not_ready_the_listener_stays_closed_until_ready():
    checker = TableChecker(ready=False)
    async with running(checker) as door:
        assert not door.is_listening
        checker.ready = True
        await door.set_ready(ready=True)
        await opened(door)


async def test_readiness_lost_sends_peers_away_busy_and_answers_3004_meanwhile():
    checker = TableChecker()
    async with running(checker, leave_seconds=5) as door:
        link, port = await opened(door), door.port
        checker.ready = False
        await door.set_ready(ready=False)
        request = await link.hear()
        assert (request.head.command, request.number(wire.DISCONNECT_CAUSE)) == (282, 1)
        answer = await link.ask(ecr())
        assert (answer.result, answer.head.flags) == (3004, 0x60)
        link.say(wire.message(request.head, talk.ORIGIN, flags=0))
        await link.hangs_up()
        with pytest.raises(ConnectionError):
            await dial(door)
        checker.ready = True
        await door.set_ready(ready=True)
        assert door.port == port
        await opened(door)


async def test_another_answer_while_not_ready_keeps_the_door_open():
    checker = TableChecker(ready=False)
    async with running(checker, not_ready_answer="greylisted") as door:
        link = await opened(door)
        assert (await link.ask(ecr())).number(1445, G) == 2
        await door.set_ready(ready=False)
        assert (await link.ask(ecr())).number(1445, G) == 2


async def test_a_bug_in_the_check_is_answered_and_logged(caplog):
    checker = TableChecker(wrong=ZeroDivisionError("a bug"))
    async with running(checker) as door:
        link = await opened(door)
        with caplog.at_level(logging.ERROR):
            assert (await link.ask(ecr())).result == 5012
        assert "a bug" in caplog.text
        checker.wrong = None
        assert (await link.ask(ecr())).result == 2001


async def test_stopping_says_dpr_and_waits_for_the_dpa():
    checker = TableChecker()
    door = S13Door(talk.settings(), checker)
    await door.start()
    link = await opened(door)
    stopping = asyncio.create_task(door.stop())
    request = await link.hear()
    assert (request.head.command, request.number(wire.DISCONNECT_CAUSE)) == (282, 0)
    assert (await link.ask(ecr())).result == 2001
    assert not stopping.done()
    link.say(wire.message(request.head, talk.ORIGIN, flags=0))
    await link.hangs_up()
    await stopping
    assert door.events["s13", "closed", "left"] == 1


async def test_stopping_does_not_wait_for_ever():
    door = S13Door(talk.settings(leave_seconds=0.2), TableChecker())
    await door.start()
    link = await opened(door)
    await door.stop()
    assert (await link.hear()).head.command == 282
    await link.hangs_up()


async def test_a_peers_dpr_is_answered_and_the_connection_ended():
    async with running(leave_seconds=0.2) as door:
        link = await opened(door)
        assert (await link.ask(dpr())).head.command == 282
        await link.hangs_up()
        assert door.events["s13", "closed", "left"] == 1


async def test_several_peers_each_with_several_connections():
    hosts = ("a.example.org", "b.example.org")
    rules = tuple(PeerRule(origin_host=host) for host in hosts)
    async with running(peers=rules, max_connections_per_peer=2) as door:
        links = [await opened(door, host) for host in hosts for _ in range(2)]
        assert door.peers_open == 4
        refused = await (await dial(door)).ask(cer(host="a.example.org"))
        assert refused.result == 3004
        links[0].hang_up()
        await until(lambda: door.peers_open == 3)
        links.append(await opened(door, "a.example.org"))
        for link in links[1:]:
            assert (await link.ask(ecr())).result == 2001
        assert talk.asked_by(door, "b.example.org") == 2


async def test_a_stranger_is_not_heard():
    rule = PeerRule(origin_host=MME, addresses=("10.0.0.0/8",))
    async with running(peers=(rule,)) as door:
        link = await dial(door)
        link.say(cer())
        await link.hangs_up()
        assert door.events["s13", "closed", "stranger"] == 1


async def test_who_may_connect_is_looked_up_once_an_address(monkeypatch):
    """A storm of connections must not cost a walk over a thousand peers' networks for each."""
    asked = []
    allows = PeerRule.allows
    monkeypatch.setattr(PeerRule, "allows", lambda rule, a: asked.append(a) or allows(rule, a))
    rules = tuple(
        PeerRule(origin_host=f"mme{n}.example.org", addresses=(f"10.0.{n // 256}.{n % 256}",))
        for n in range(1_000)
    )
    async with running(peers=rules) as door:
        for _ in range(50):
            link = await dial(door)
            await link.hangs_up()
            link.hang_up()
        assert door.events["s13", "closed", "stranger"] == 50
    assert asked == ["127.0.0.1"] * 1_000


async def test_a_peer_that_never_reads_is_dropped_and_the_others_are_served():
    changes = {"max_unsent_bytes": 4_096, "slow_reader_seconds": 0.2}
    async with running(**changes) as door:
        good = await opened(door)
        deaf = socket.create_connection(("127.0.0.1", door.port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)
        octets, loop = cer() + b"".join(ecr(number=n) for n in range(200)), asyncio.get_event_loop()

        async def shout() -> None:
            while True:
                await loop.sock_sendall(deaf, octets[len(cer()) :])

        await loop.sock_sendall(deaf, octets)
        shouting = asyncio.create_task(shout())
        asked = 0
        while not door.events["s13", "closed", "slow-reader"]:
            assert (await good.ask(ecr())).result == 2001
            asked += 1
        assert asked > 5, "the others waited for it"
        assert (await good.ask(ecr())).result == 2001
        with pytest.raises(ConnectionError):
            await shouting
        deaf.close()
        assert door.peers_open == 1


async def test_a_slow_loris_is_cut_off_and_the_others_are_served():
    async with running(cer_seconds=0.3, message_seconds=0.3) as door:
        good, slow = await opened(door), await opened(door)
        silent, half = await dial(door), await dial(door)
        half.say(cer()[:30])
        slow.say(ecr()[:100])
        cut = asyncio.gather(*(link.hangs_up() for link in (silent, half, slow)))
        asked = 0
        while not cut.done():
            assert (await good.ask(ecr())).result == 2001
            asked += 1
        await cut
        assert asked > 5, "the others waited for them"
        assert door.events["s13", "closed", "message-timeout"] == 2
        assert door.events["s13", "closed", "cer-timeout"] == 1


async def test_a_thousand_connections_are_all_answered():
    rule = PeerRule(origin_host=MME)
    changes = {"peers": (rule,), "max_connections": 1_001, "max_connections_per_peer": 1_001}
    async with running(leave_seconds=0.5, **changes) as door:
        links = []
        for _ in range(10):
            links += await asyncio.gather(*(opened(door) for _ in range(100)))
        assert door.peers_open == 1_000
        answers = await asyncio.gather(*(link.ask(ecr(number=n)) for n, link in enumerate(links)))
        assert [a.head.hop_by_hop for a in answers] == list(range(1_000))
        await opened(door)
        over = await dial(door)
        await over.hangs_up()
        assert door.events["s13", "closed", "too-many"] == 1
        for link in links:
            link.hang_up()


async def test_a_storm_of_cers_leaves_the_others_answered():
    async with running(max_connections=200) as door:
        good = await opened(door)

        async def storm() -> None:
            for _ in range(30):
                link = await dial(door)
                assert (await link.ask(cer(host="stranger.example.org"))).result == 3010
                await link.hangs_up()
                link.hang_up()

        async def ask() -> None:
            for number in range(200):
                assert (await good.ask(ecr(number=number))).result == 2001

        await asyncio.gather(ask(), *(storm() for _ in range(10)))
        assert door.events["s13", "fault", "3010"] == 300


async def test_ten_thousand_pipelined_are_all_answered_once():
    async with running() as door:
        link = await opened(door)
        link.say(b"".join(ecr(number=n) for n in range(10_000)))
        seen = [(await link.hear()).head.hop_by_hop for _ in range(10_000)]
        assert seen == list(range(10_000))


def test_the_door_runs_on_uvloop():
    pytest.importorskip("uvloop")

    async def run() -> str:
        async with running() as door:
            assert (await (await opened(door)).ask(ecr())).result == 2001
        return type(asyncio.get_running_loop()).__module__

    with asyncio.Runner(loop_factory=run_loop()) as runner:
        assert runner.run(run()).startswith("uvloop")


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, a server's certificate, and one for the MME, made by openssl."""
    home = tmp_path_factory.mktemp("pki")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=home, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name, subject in (("eir", talk.EIR), ("mme", MME)):
        openssl(
            "req", "-x509", *new, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", f"{name}.key",
            "-out", f"{name}.pem", "-subj", f"/CN={subject}",
            "-addext", f"subjectAltName=DNS:{subject}", "-addext", "basicConstraints=CA:FALSE",
        )  # fmt: skip
    return home


async def test_tls_names_the_peer_by_its_certificate(pki):
    tls = TlsSettings(certificate=pki / "eir.pem", key=pki / "eir.key", client_ca=pki / "ca.pem")
    rules = (PeerRule(origin_host=MME), PeerRule(origin_host="other.example.org"))
    async with running(tls=tls, peers=rules) as door:
        context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        context.load_cert_chain(pki / "mme.pem", pki / "mme.key")
        how = {"ssl": context, "server_hostname": talk.EIR}
        link = await opened(door, **how)
        assert (await link.ask(ecr())).result == 2001
        other = await (await dial(door, **how)).ask(cer(host="other.example.org"))
        assert other.result == 3010
        nobody = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await (await dial(door, ssl=nobody, server_hostname=talk.EIR)).ask(cer())


def test_a_certificate_that_cannot_be_loaded_is_refused(tmp_path):
    tls = TlsSettings(certificate=tmp_path / "none.pem", key=tmp_path / "none.key")
    with pytest.raises(Refused, match="tls-unusable"):
        S13Door(talk.settings(tls=tls), TableChecker())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"address": "0.0.0.0"}, "listen-plaintext"),
        ({"address": "localhost"}, "s13-address"),
        ({"origin_host": "a b"}, "s13-identity"),
        ({"realms": ("",)}, "s13-identity"),
        ({"peers": (PeerRule(origin_host="a"), PeerRule(origin_host="A"))}, "s13-peer-twice"),
        ({"unknown_answer": "busy"}, "s13-answer"),
        ({"not_ready_answer": "white"}, "s13-answer"),
        ({"max_message_bytes": 1 << 24}, "s13-limit"),
        ({"max_connections": 0}, "s13-limit"),
        ({"max_unsent_bytes": 1}, "s13-limit"),
        ({"watchdog_seconds": 5}, "s13-limit"),
        ({"cer_seconds": 0}, "s13-limit"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(changes, reason):
    with pytest.raises(Refused) as refused:
        talk.settings(**changes)
    assert refused.value.reason == reason


def test_an_open_address_needs_tls_or_a_word():
    assert talk.settings(address="0.0.0.0", plaintext="accepted").address == "0.0.0.0"
    with pytest.raises(Refused, match="s13-address"):
        PeerRule(origin_host=MME, addresses=("10.0.0.1/8",))


def test_no_peer_is_allowed_by_default():
    with pytest.raises(TypeError):
        S13Settings(origin_host="a", origin_realm="b")
