"""What a keeper and its workers say to each other, over a pair of sockets between them.

A message is one packet: a small msgpack map, and open files beside it. The keeper's orders have
numbers; a worker answers each once, in order:

    keeper ─ serve {feeds, policy, times} + files ─▶ worker   open, prefault, swap; the first also
           ◀─ answer {number, addresses, counters} ─          opens the doors
    keeper ─ reload ─▶ worker                                 certificates are read again
    either end closes: the other one is gone

Both ends are this program. What is damaged on the way is a bug, and ends the process.
"""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import msgpack

from eir.core.policy import BlackList, Policy, Status

MAX_MESSAGE_BYTES: Final = 1 << 17
_MAX_FILES = 64


@dataclass(frozen=True, slots=True)
class HandedFeed:
    """One generation: what it must be, and its files: the snapshot; in memory, what was derived of
    it (``memory_file``); and, where there were deltas, what they made of it since.

    ``files`` are descriptors: the sender's own, and where received, new ones of the receiver's.
    """

    feed: str
    session: str
    serial: int
    digest: str
    files: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServeOrder:
    """What shall serve from now on; no feeds: nothing does. Times as in holder.Serving."""

    number: int
    feeds: tuple[HandedFeed, ...]
    policy: Policy
    data_time: int = 0
    grace_lag: int = 0
    stale: bool = False


@dataclass(frozen=True, slots=True)
class ReloadOrder:
    """The doors shall read their certificates again."""

    number: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What a Refused says."""

    reason: str
    detail: str
    where: str


@dataclass(frozen=True, slots=True)
class WorkerAnswer:
    """What became of an order; number 0 only says that the worker is there.

    ``fault``: why it was refused, else None. ``counters``: the name of the file counted in from
    now on. ``seconds`` from order to answer.
    """

    number: int
    pid: int
    fault: Fault | None = None
    addresses: tuple[str, ...] = ()
    counters: str = ""
    seconds: float = 0.0


Order = ServeOrder | ReloadOrder


def pack_order(order: Order) -> tuple[bytes, list[int]]:
    """The message, and the files to send beside it."""
    if isinstance(order, ReloadOrder):
        return msgpack.packb({"reload": order.number}), []
    feeds = [[f.feed, f.session, f.serial, f.digest, len(f.files)] for f in order.feeds]
    fields = {
        "serve": order.number,
        "feeds": feeds,
        "policy": asdict(order.policy),
        "times": [order.data_time, order.grace_lag, order.stale],
    }
    return msgpack.packb(fields), [file for feed in order.feeds for file in feed.files]


def unpack_order(message: bytes, files: Sequence[int]) -> Order:
    """The order that was packed, with the descriptors as they arrived."""
    fields = msgpack.unpackb(message)
    if "reload" in fields:
        return ReloadOrder(fields["reload"])
    left = iter(files)
    feeds = tuple(
        HandedFeed(feed, session, serial, digest, tuple(next(left) for _ in range(count)))
        for feed, session, serial, digest, count in fields["feeds"]
    )
    data_time, grace_lag, stale = fields["times"]
    policy = policy_of(fields["policy"])
    return ServeOrder(fields["serve"], feeds, policy, data_time, grace_lag, stale)


def pack_answer(answer: WorkerAnswer) -> bytes:
    """The message."""
    return bytes(msgpack.packb(asdict(answer)))


def unpack_answer(message: bytes) -> WorkerAnswer:
    """The answer that was packed."""
    fields = msgpack.unpackb(message, use_list=False)
    fault = fields.pop("fault")
    return WorkerAnswer(**fields, fault=Fault(**fault) if fault else None)


def new_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep each message whole, and see when the other one closes."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: bytes, files: Sequence[int] = ()) -> None:
    """Send at once or raise OSError: the other end is gone, or does not read."""
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(message)} bytes")
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", files))] if files else []
    end.sendmsg([message], beside, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive(end: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next message and its files, which are the receiver's to close; None at the end."""
    room = socket.CMSG_SPACE(_MAX_FILES * array("i").itemsize)
    try:
        message, beside, flags, _ = end.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    files = array("i")
    for _, _, packed in beside:
        files.frombytes(packed)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise ValueError("a message was cut")
    return (message, files.tolist()) if message else None


def close_files(order: Order) -> None:
    """Close the descriptors of a received order."""
    if isinstance(order, ServeOrder):
        for feed in order.feeds:
            for file in feed.files:
                os.close(file)


def policy_of(fields: dict[str, Any]) -> Policy:
    """The policy whose ``asdict`` this is, after JSON or msgpack. Raises KeyError, TypeError or
    ValueError where it is none.
    """
    return Policy(
        mode=fields["mode"],
        status={reason: Status(number) for reason, number in fields["status"].items()},
        black={
            name: BlackList(**{**black, "status": Status(black["status"])})
            for name, black in fields["black"].items()
        },
        black_order=tuple(fields["black_order"]),
        home_plmns=tuple(fields["home_plmns"]),
        enforced_plmns=tuple(fields["enforced_plmns"]),
    )
