"""Orders by hand in words, as lists and every status show them."""

from __future__ import annotations

import hashlib

from eir.core.generation import Generation
from eir.core.orders import Hold, Order
from eir.doors.grpc_admin import StandingOrder
from eir.feed.digest import encode_order


def hold_id(row: Hold) -> str:
    """A short name of a hold, which does not change while it stands."""
    return hashlib.sha256(encode_order(row)).hexdigest()[:6]


def hold_text(row: Hold) -> str:
    """Whom a hold covers, in words."""
    tacs = " ".join(f"{tac:08d}" for tac in row.tacs[:3])
    more = f" and {len(row.tacs) - 3:,} more" if len(row.tacs) > 3 else ""
    parts = [
        f"TAC {tacs}{more}" if row.tacs else "",
        row.reason,
        f"numbers {row.msisdn_prefix}…" if row.msisdn_prefix else "",
    ]
    return ", ".join(filter(None, parts)) or "everybody"


def standing_orders(operator: Generation | None, grace_time: int) -> list[StandingOrder]:
    """The mode, if one is ordered, and the holds in force at this grace time (Unix s)."""
    if operator is None:
        return []
    rows = operator.orders("holds")
    holds = [row for row in rows if isinstance(row, Hold) and row.until > grace_time]
    told: list[tuple[str, int, Hold | Order]] = [
        (f"hold {hold_id(row)}: {hold_text(row)}", row.until, row) for row in holds
    ]
    if operator.mode is not None:
        told.insert(0, (operator.mode.what.replace(".", " "), 0, operator.mode))
    return [
        StandingOrder(what=what, until=until, who=row.who, at=row.at, why=row.why)
        for what, until, row in told
    ]
