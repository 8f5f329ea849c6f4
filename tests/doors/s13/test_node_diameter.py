"""npm's `diameter` as client: a second codec reads our answers and writes its own requests."""

import json

from tests.doors.s13.peers import PEERS, needs, needs_program, run
from tests.doors.s13.talk import BLACK, UNKNOWN, WHITE, running


async def test_npm_diameter_hears_every_answer():
    needs_program("node")
    needs("npm diameter", (PEERS / "node_modules/diameter").is_dir())
    imeis = [f"{WHITE:014d}0", f"{BLACK:014d}07", "35111111111111", f"{UNKNOWN:014d}3"]
    async with running() as door:
        said = await run("node", str(PEERS / "node_client.js"), str(door.port), *imeis)
        assert door.events["s13", "closed", "left"] + door.events["s13", "closed", "peer-gone"] <= 1
    said = json.loads(said)
    assert ["Result-Code", "DIAMETER_SUCCESS"] in said["cea"]["body"]
    statuses = [dict(eca["body"]).get("Equipment-Status") for eca in said["ecas"]]
    assert statuses == ["WHITELISTED", "BLACKLISTED", "GREYLISTED", None]
    assert [eca["flags"]["error"] for eca in said["ecas"]] == [False] * 4
    unknown = dict(said["ecas"][3]["body"])
    assert "Result-Code" not in unknown
    assert (
        dict(unknown["Experimental-Result"])["Experimental-Result-Code"]
        == "DIAMETER_ERROR_EQUIPMENT_UNKNOWN"
    )
    assert unknown["Session-Id"] == f"mme;1;{imeis[3]}"
    for name in ("dwa", "dpa"):
        assert ["Result-Code", "DIAMETER_SUCCESS"] in said[name]["body"]
