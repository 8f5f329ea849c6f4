"""The door on the engine itself: what the decision table says is what the core hears."""

import uuid

import httpx
import numpy as np
import pytest

from eir.core.policy import Policy, Status
from eir.core.tables import Tables
from eir.doors.n5g_codec import RESOURCE_PATH
from eir.doors.n5g_door import N5gDoor
from eir.doors.n5g_settings import N5gSettings
from eir.feed.codec import SnapshotHead, SnapshotWriter, open_snapshot
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving

WHITE, BOUND, STOLEN, STRANGE = 35332811001001, 35332811001002, 49015420323751, 86000000000001
MADE_AT = 1_800_000_000


def keys(*values: int) -> list:
    return [np.array(values, dtype=np.uint64)]


@pytest.fixture
def tables(tmp_path) -> Tables:
    head = SnapshotHead(
        feed="registry",
        registry_id="test",
        session=str(uuid.UUID(int=1)),
        serial=1,
        made_at=MADE_AT,
    )
    writer = SnapshotWriter(head)
    writer.add_list("white", keys(WHITE, BOUND))
    writer.add_list("black.stolen", keys(STOLEN), reason_id=256)
    writer.add_pairs("bindings", [(*keys(BOUND), *keys(989121234567))])
    writer.write(tmp_path / "snapshot")
    policy = Policy(status={"not-registered": Status.UNKNOWN})
    return Tables(open_snapshot(tmp_path / "snapshot"), None, policy)


async def test_the_engine_s_verdicts_and_its_readiness(tables):
    holder = Holder()
    door = N5gDoor(N5gSettings(port=0, drain_s=1), Checker(holder, lambda: MADE_AT))
    await door.start()
    async with httpx.AsyncClient(http1=False, http2=True, timeout=120) as client:

        async def said(key: int, rest: str = "") -> object:
            url = f"http://127.0.0.1:{door.port}{RESOURCE_PATH}?pei=imei-{key:014d}0{rest}"
            answer = (await client.get(url)).json()
            return answer.get("status") if answer.get("status") != 404 else answer["cause"]

        assert await said(WHITE) == 503
        holder.swap(Serving(tables, MADE_AT))
        assert await said(WHITE) == "GREYLISTED"
        assert await said(BOUND, "&gpsi=msisdn-989121234567") == "WHITELISTED"
        assert await said(BOUND, "&gpsi=msisdn-989120000000") == "GREYLISTED"
        assert await said(BOUND, "&supi=imsi-432110000000001") == "WHITELISTED"
        assert await said(STOLEN) == "BLACKLISTED"
        assert await said(STRANGE) == "ERROR_EQUIPMENT_UNKNOWN"
        assert await said(0) == "GREYLISTED"
        holder.swap(None)
        assert await said(STOLEN) == 503
    await door.stop()
