"""The door on the engine itself: what the decision table says is what the core hears."""

import asyncio
import uuid

import numpy as np
import pytest

from eir.core.policy import Policy, Status
from eir.core.tables import Tables
from eir.doors.s13_codec import avp
from eir.doors.s13_door import S13Door
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving
from tests.doors.s13 import talk
from tests.doors.s13.talk import ecr, opened, until

WHITE, BOUND, STOLEN, STRANGE = 35332811001001, 35332811001002, 49015420323751, 86000000000001
MADE_AT = 1_800_000_000
G = 10415


def keys(*values: int) -> list:
    return [np.array(values, dtype=np.uint64)]


@pytest.fixture
def tables(tmp_path) -> Tables:
    session = str(uuid.UUID(int=1))
    writer = SnapshotWriter(
        SnapshotHead(
            feed="registry", registry_id="test", session=session, serial=1, made_at=MADE_AT
        )
    )
    writer.add_list("white", keys(WHITE, BOUND))
    writer.add_list("black.stolen", keys(STOLEN), reason_id=256)
    writer.add_pairs("bindings", [(*keys(BOUND), *keys(98911234567))])
    writer.write(tmp_path / "snapshot")
    policy = Policy(status={"not-registered": Status.UNKNOWN})
    return Tables(open_snapshot(tmp_path / "snapshot"), None, policy)


async def test_the_engine_s_verdicts_and_its_readiness(tables):
    holder, loop, turns = Holder(), asyncio.get_running_loop(), []
    door = S13Door(talk.settings(leave_seconds=0.2), Checker(holder, lambda: MADE_AT))

    def readiness(serving: Serving | None) -> None:
        turns.append(loop.create_task(door.set_ready(ready=serving is not None)))

    holder.listen(readiness)
    await door.start()
    assert not door.is_listening
    holder.swap(Serving(tables, MADE_AT))
    await until(lambda: door.is_listening)
    link = await opened(door)
    owner = avp(701, bytes.fromhex("8919214365f7"), vendor=G, flags=0)
    other = avp(701, bytes.fromhex("8919214365f8"), vendor=G, flags=0)
    for key, extra, status in (
        (WHITE, b"", 2),
        (BOUND, owner, 0),
        (BOUND, other, 2),
        (BOUND, b"", 0),
        (STOLEN, owner, 1),
        (STRANGE, b"", None),
        (0, b"", 2),
    ):
        answer = await link.ask(ecr(b"%014d0" % key, extra=extra))
        assert answer.number(1445, G) == status, (key, extra)
    holder.swap(None)
    assert (await link.hear()).head.command == 282
    assert (await link.ask(ecr())).result == 3004
    await door.stop()
    await asyncio.gather(*turns)
