"""A verdict as the asking side holds it, and what stands in for one when no node answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from eir.core.status import Status
from eir.wire.v1 import eligibility_pb2 as wire

KNOWN_REASONS: Final[Mapping[int, str]] = {
    **{
        number: name.removeprefix("REASON_").lower().replace("_", "-")
        for name, number in wire.Reason.items()
        if number
    },
    256: "stolen",
    257: "lost",
    258: "cloned",
    259: "smuggled",
    260: "non-homologated",
    261: "withdrawn",
}
"""Names of the reason numbers that are fixed; a node tells those of other black lists."""

_STATUSES: Final = {int(status): status for status in Status}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a device, and why.

    ``status``: act on this. ``decided``: before shadow mode, a hold or the breaker. ``reason`` and
    ``reason_name``: which rule. ``valid_until``: Unix seconds UTC, 0 = no such date. The serials
    name the data. ``stale``: the node has not heard from the registry for too long. ``node``: who
    answered. ``fallback``: nobody did, and this is the configured answer, which no rule gave:
    reason and serials are 0, ``reason_name`` is "fail-open" or "fail-closed", ``node`` is empty.
    """

    status: Status
    decided: Status
    reason: int
    reason_name: str
    valid_until: int = 0
    registry_serial: int = 0
    operator_serial: int = 0
    stale: bool = False
    node: str = ""
    fallback: bool = False


FALLBACKS: Final[Mapping[str, Verdict]] = {
    "fail-open": Verdict(Status.GREYLISTED, Status.GREYLISTED, 0, "fail-open", fallback=True),
    "fail-closed": Verdict(Status.BLACKLISTED, Status.BLACKLISTED, 0, "fail-closed", fallback=True),
}


def verdicts_of(
    reply: wire.CheckBatchReply, size: int, names: Mapping[int, str], node: str
) -> list[Verdict] | None:
    """The verdicts of a reply to ``size`` checks, in order; None where its arrays don't fit that.

    A status that this version does not know is UNKNOWN; a reason without a name has an empty one.
    """
    statuses, reasons = list(reply.status), list(reply.reason)
    decided = list(reply.decided_status) or statuses
    until = list(reply.valid_until) or [0] * size
    if any(len(column) != size for column in (statuses, reasons, decided, until)):
        return None
    registry, operator, stale = reply.registry_serial, reply.operator_serial, reply.stale
    return [
        Verdict(
            status=_STATUSES.get(statuses[i], Status.UNKNOWN),
            decided=_STATUSES.get(decided[i], Status.UNKNOWN),
            reason=reasons[i],
            reason_name=names.get(reasons[i], ""),
            valid_until=until[i],
            registry_serial=registry,
            operator_serial=operator,
            stale=stale,
            node=node,
        )
        for i in range(size)
    ]
