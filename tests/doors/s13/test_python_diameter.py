"""python-diameter (PyPI) as client: the whole peer life, and every kind of answer."""

import asyncio

from eir.doors.s13_door import S13Door
from tests.doors.s13 import talk
from tests.doors.s13.peers import Mme, needs_module
from tests.doors.s13.talk import BLACK, UNKNOWN, WHITE, TableChecker, running, until


async def test_a_whole_life():
    needs_module("diameter")
    checker = TableChecker()
    async with running(checker, leave_seconds=5) as door:
        mme = Mme(door.port)
        await asyncio.to_thread(mme.start)
        await every_verdict(mme)
        await error_rows(mme)
        await both_watchdogs(mme, door)
        checker.ready = False
        answer = await asyncio.to_thread(mme.ask, "490154203237510")
        assert (answer.result_code, answer.header.is_error) == (3004, True)
        await asyncio.to_thread(mme.stop)
        assert mme.peer.disconnect_reason is not None
        await until(lambda: door.peers_open == 0)
        ends = {key[2] for key, _ in door.events if key[1] == "closed"}
        assert ends <= {"left", "peer-gone"}, "its DPR was answered, then somebody hung up"


async def every_verdict(mme: Mme) -> None:
    for key, status in ((WHITE, 0), (BLACK, 1), (35111111111111, 2)):
        answer = await asyncio.to_thread(mme.ask, f"{key:014d}0")
        assert (answer.result_code, answer.equipment_status) == (2001, status)
        assert answer.auth_session_state == 1
        assert answer.origin_host == talk.EIR.encode()
    answer = await asyncio.to_thread(mme.ask, f"{UNKNOWN:014d}3")
    assert getattr(answer, "result_code", None) is None
    assert answer.experimental_result.experimental_result_code == 5422
    assert answer.experimental_result.vendor_id == 10415


async def error_rows(mme: Mme) -> None:
    for changes, result, failed in (
        ({"destination_host": b"hss.epc.example.org"}, 3002, []),
        ({"auth_session_state": 9}, 5004, [277]),
    ):
        answer = await asyncio.to_thread(mme.ask, "490154203237510", **changes)
        assert answer.result_code == result
        assert answer.header.is_error == (result < 4000)
        codes = [group.value[0].code for group in answer.find_avps((279, 0))]
        assert codes == failed


async def both_watchdogs(mme: Mme, door: S13Door) -> None:
    theirs = mme.peer.connection
    mme.node.send_dwr(theirs)
    await until(lambda: not theirs.is_waiting_for_dwa)
    (ours,) = door._connections
    ours.peer._deadline = 0.0  # as if nothing had been heard for Tw
    await until(lambda: mme.peer.counters.dwr == 1)
    await until(lambda: ours.peer._unanswered == 0)


async def test_our_dpr_is_answered():
    needs_module("diameter")
    door = S13Door(talk.settings(), TableChecker())
    await door.start()
    mme = Mme(door.port)
    await asyncio.to_thread(mme.start)
    mme.peer.persistent = False
    await door.stop()
    assert mme.peer.counters.dpr == 1
    assert "dpa-timeout" not in {key[2] for key, _ in door.events if key[1] == "closed"}
    await asyncio.to_thread(mme.stop)
