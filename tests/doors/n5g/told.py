"""What a door says of itself."""

from eir.doors.n5g_door import N5gDoor


def answers(door: N5gDoor) -> dict[int, int]:
    """Responses by HTTP status."""
    return {int(what): times for (_, _, what, _), times in door.events}
