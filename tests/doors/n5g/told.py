"""What a door has counted."""

from eir.doors.n5g_door import N5gDoor


def answers(door: N5gDoor) -> dict[str, int]:
    """Verdicts by status, faults by HTTP status, of all peers together."""
    told: dict[str, int] = {}
    for (_, _, what, _), times in door.events:
        told[what] = told.get(what, 0) + times
    return told
