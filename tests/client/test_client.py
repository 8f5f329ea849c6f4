"""The asynchronous client against real doors in processes of their own."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from eir.client import Client, ClientSettings, Status, Verdict
from eir.core.question import read_texts
from eir.errors import Refused, Unavailable
from tests.client.nodes import NAMES, expected

PATIENT = ClientSettings(deadline=30.0, attempt=30.0)
"""For tests in which no deadline is to pass, however busy the machine."""


def question(n: int) -> tuple[str, str, str]:
    imsi = f"00101{n:010d}" if n % 3 == 0 else ""
    return f"{35_000_000_000_000 + n}0", "" if n % 5 == 0 else str(989_120_000_000 + n), imsi


def shown(verdict: Verdict) -> tuple[int, str, int]:
    return verdict.status, verdict.reason_name, verdict.valid_until


def right(n: int) -> tuple[int, str, int]:
    return expected(*read_texts(*question(n)))


async def ask_many(client: Client, numbers: range) -> list[Verdict]:
    return await asyncio.gather(*(client.check(*question(n)) for n in numbers))


async def until_answered_by(client: Client, number: int) -> None:
    async with asyncio.timeout(30):
        while (await client.check(*question(1))).registry_serial != number:
            pass


async def nothing_on_the_way(client: Client) -> None:
    async with asyncio.timeout(30):
        while client._messages:
            await asyncio.wait(client._messages)


async def test_each_gets_the_verdict_on_its_own_question(start_node):
    node = start_node()
    async with Client([node.address], PATIENT) as client:
        for n in range(40):
            verdict = await client.check(*question(n))
            assert shown(verdict) == right(n)
            assert (verdict.node, verdict.registry_serial) == (node.address, 1)
            assert not verdict.fallback
            assert isinstance(verdict.status, Status)


async def test_the_names_of_all_reasons_are_learned_and_asked_for_once(start_node):
    async with Client([start_node().address], PATIENT) as client:
        first = await ask_many(client, range(200))
        assert {each.reason_name for each in first} == set(NAMES.values())
        second = await ask_many(client, range(200))
        assert [each.reason_name for each in second] == [each.reason_name for each in first]
        assert second[0].operator_serial == first[0].operator_serial + 3  # two names, then these


async def test_checks_made_at_the_same_time_share_a_message(start_node):
    async with Client([start_node().address], PATIENT) as client:
        verdicts = await ask_many(client, range(100))
        assert {each.operator_serial for each in verdicts} == {1}
        assert client.counts.messages == 1


async def test_what_waits_while_one_is_in_flight_goes_in_the_next(start_node):
    node = start_node()
    async with Client([node.address], PATIENT) as client:
        await ask_many(client, range(1))
        node.hang()
        asked = []
        for n in range(50):
            asked.append(asyncio.create_task(client.check(*question(n))))
            await asyncio.sleep(0)
        node.go_on()
        verdicts = await asyncio.gather(*asked)
        assert [shown(each) for each in verdicts] == [right(n) for n in range(50)]
        assert client.counts.messages == 3


async def test_ten_thousand_at_once(start_node):
    nodes = [start_node(), start_node()]
    async with Client([node.address for node in nodes], PATIENT) as client:
        verdicts = await ask_many(client, range(10_000))
        assert [shown(each) for each in verdicts] == [right(n) for n in range(10_000)]
        assert client.counts.messages == 20
        assert client.counts.fallbacks == 0
        shares = Counter(each.node for each in verdicts)
        assert min(shares[node.address] for node in nodes) >= 512


async def test_single_checks_go_round(start_node):
    nodes = [start_node() for _ in range(3)]
    async with Client([node.address for node in nodes], PATIENT) as client:
        shares = Counter([(await client.check(*question(n))).node for n in range(30)])
        assert [shares[node.address] for node in nodes] == [10, 10, 10]


async def test_a_node_dies_in_mid_flight_and_the_other_answers(start_node):
    nodes = [start_node(), start_node()]
    async with Client([node.address for node in nodes], PATIENT) as client:
        await ask_many(client, range(2_000))
        nodes[0].hang()
        asked = asyncio.gather(*(client.check(*question(n)) for n in range(4_000)))
        async with asyncio.timeout(30):
            while client._lanes[0].in_flight == 0:
                await asyncio.sleep(0)
        nodes[0].die()
        verdicts = await asked
        assert [shown(each) for each in verdicts] == [right(n) for n in range(4_000)]
        assert {each.node for each in verdicts} == {nodes[1].address}
        assert client.counts.retried >= 512
        assert client.counts.fallbacks == 0


async def test_a_node_that_hangs_is_asked_no_more_until_it_goes_on(start_node):
    nodes = [start_node(), start_node()]
    settings = ClientSettings(deadline=30.0, attempt=0.3, failures=1, pause=0.2, longest_pause=0.4)
    async with Client([node.address for node in nodes], settings) as client:
        await until_answered_by(client, 1)
        nodes[0].hang()
        for _ in range(2):
            assert (await client.check(*question(7))).registry_serial == 2
        assert not client._lanes[0].breaker.closed
        nodes[0].go_on()
        await until_answered_by(client, 1)
        assert client._lanes[0].breaker.closed


async def test_a_node_that_is_not_ready_is_passed_over(start_node):
    nodes = [start_node(ready=False), start_node()]
    async with Client([node.address for node in nodes], PATIENT) as client:
        verdicts = await ask_many(client, range(1_200))
        assert {each.registry_serial for each in verdicts} == {2}


@pytest.mark.parametrize(
    ("silence", "status"),
    [("fail-open", Status.GREYLISTED), ("fail-closed", Status.BLACKLISTED)],
)
async def test_all_dead_gets_the_configured_answer_marked_and_then_at_once(
    start_node, silence, status
):
    nodes = [start_node(), start_node()]
    settings = ClientSettings(
        on_silence=silence, deadline=20.0, attempt=5.0, pause=60.0, longest_pause=60.0
    )
    async with Client([node.address for node in nodes], settings) as client:
        await ask_many(client, range(4))
        for node in nodes:
            node.die()
        for _ in range(3):
            verdicts = await ask_many(client, range(20))
            assert {(e.status, e.decided, e.reason_name) for e in verdicts} == {
                (status, status, silence)
            }
            assert all(e.fallback and not (e.reason or e.node) for e in verdicts)
        assert not any(lane.breaker.closed for lane in client._lanes)
        sent = client.counts.messages
        assert (await client.check(*question(1))).fallback
        assert client.counts.messages == sent
        assert client.counts.fallbacks == 61


async def test_all_dead_raises_where_so_configured(start_node):
    node = start_node()
    async with Client([node.address], ClientSettings(deadline=20.0, attempt=20.0)) as client:
        node.die()
        with pytest.raises(Unavailable, match="no node answered"):
            await client.check(*question(1))


async def test_silence_ends_at_the_deadline_and_the_node_is_taken_up_again(start_node):
    node = start_node()
    settings = ClientSettings(
        on_silence="fail-open", deadline=0.3, attempt=0.3, pause=0.05, longest_pause=0.1
    )
    async with Client([node.address], settings) as client:
        await client.check(*question(1), deadline=30.0)
        node.hang()
        clock = asyncio.get_running_loop().time
        begun = clock()
        assert (await client.check(*question(1))).fallback
        assert clock() - begun >= 0.3
        assert (await client.check(*question(1), deadline=0.01)).fallback
        node.go_on()
        await until_answered_by(client, 1)


async def test_the_haste_of_one_caller_opens_no_circuit(start_node):
    node = start_node()
    async with Client([node.address], ClientSettings(on_silence="fail-open", deadline=30.0)) as c:
        await c.check(*question(1))
        node.hang()
        for _ in range(4):
            assert (await c.check(*question(1), deadline=0.02)).fallback
            await nothing_on_the_way(c)
        assert c._lanes[0].breaker.closed
        node.go_on()
        assert shown(await c.check(*question(2))) == right(2)


async def test_cancelled_callers_leave_the_others_their_answers(start_node):
    node = start_node()
    async with Client([node.address], PATIENT) as client:
        await ask_many(client, range(1))
        node.hang()
        asked = [asyncio.create_task(client.check(*question(n))) for n in range(20)]
        while client._lanes[0].in_flight == 0:
            await asyncio.sleep(0)
        asked += [asyncio.create_task(client.check(*question(n))) for n in range(20, 40)]
        await asyncio.sleep(0)
        for task in asked[::2]:
            task.cancel()
        node.go_on()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in answers[::2])
        assert [shown(each) for each in answers[1::2]] == [right(n) for n in range(1, 40, 2)]
        assert not client._pending
        assert not client._queue


async def test_a_message_of_cancelled_callers_is_not_sent(start_node):
    node = start_node()
    async with Client([node.address], PATIENT) as client:
        await ask_many(client, range(1))
        node.hang()
        held = asyncio.create_task(client.check(*question(1)))
        while client._lanes[0].in_flight == 0:
            await asyncio.sleep(0)
        gone = [asyncio.create_task(client.check(*question(n))) for n in range(9)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        node.go_on()
        await held
        assert (await client.check(*question(2))).operator_serial == 3


async def test_closing_waits_for_what_is_on_its_way_and_takes_no_more(start_node):
    node = start_node()
    async with Client([node.address], PATIENT) as client:
        await ask_many(client, range(1))
        node.hang()
        asked = [asyncio.create_task(client.check(*question(n))) for n in range(9)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="not open"):
            await client.check(*question(1))
        node.go_on()
        assert [shown(each) for each in await asyncio.gather(*asked)] == [
            right(n) for n in range(9)
        ]
        await closing
        assert not client._messages
    with pytest.raises(Unavailable, match="not open"):
        await client.check(*question(1))


async def test_closing_does_not_outlast_the_deadlines(start_node):
    node = start_node()
    client = Client([node.address], ClientSettings(on_silence="fail-open", deadline=0.2))
    await client.__aenter__()
    node.hang()
    asked = asyncio.create_task(client.check(*question(1)))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await client.close()
    assert (await asked).fallback
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_question_that_breaks_a_rule_is_refused_here_and_spoils_no_message(start_node):
    async with Client([start_node().address], PATIENT) as client:
        bad = [("", "", ""), ("35", "+98912", ""), ("35", "", "12a45")]
        answers = await asyncio.gather(
            *(client.check(*each) for each in bad),
            client.check(*question(1)),
            return_exceptions=True,
        )
        assert [each.reason for each in answers[:3] if isinstance(each, Refused)] == [
            "imei-missing",
            "msisdn-unusable",
            "imsi-unusable",
        ]
        assert shown(answers[3]) == right(1)
        malformed = await client.check("no IMEI", "989121234567")
        assert shown(malformed) == expected(0, 989121234567, 0)


async def test_a_node_that_takes_shorter_messages_gets_them(start_node):
    async with Client([start_node(max_checks_per_message=30).address], PATIENT) as client:
        verdicts = await ask_many(client, range(500))
        assert [shown(each) for each in verdicts] == [right(n) for n in range(500)]


async def test_beyond_what_may_wait_the_fallback_comes_at_once(start_node):
    node = start_node()
    settings = ClientSettings(on_silence="fail-open", deadline=30.0, attempt=30.0, max_waiting=10)
    async with Client([node.address], settings) as client:
        verdicts = await ask_many(client, range(15))
        assert [each.fallback for each in verdicts] == [False] * 10 + [True] * 5


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"checks_per_message": 8_193}, {"attempt": 1.0}, {"pause": 0.0}],
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=r"attempt|pause|checks_per_message"):
        ClientSettings(**wrong)


@pytest.mark.parametrize("nodes", [[], "127.0.0.1:50061"])
def test_no_nodes(nodes):
    with pytest.raises(ValueError, match="nodes"):
        Client(nodes)
