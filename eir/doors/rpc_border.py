"""The border of a gRPC request: a failure inside becomes a status, and nothing else gets out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import NoReturn

import grpc
import grpc.aio

from eir.errors import Refused, Unavailable

Context = grpc.aio.ServicerContext[bytes, bytes]

_log = logging.getLogger(__name__)


def end_loudly(door: str, failure: BaseException | None) -> NoReturn:
    """End this worker: its door accepts what nobody answers any more, and a new one would."""
    _log.critical("the %s door has ended: so does its worker", door, exc_info=failure)
    logging.shutdown()
    os._exit(1)


async def answered(
    context: Context,
    answer: Callable[[], bytes],
    failed: Callable[[grpc.StatusCode], None] = lambda _: None,
) -> bytes:
    """The answer.

    Or the call ends, with DEADLINE_EXCEEDED undecided, else with ``status_of`` what failed;
    ``failed`` is told.
    """
    if context.time_remaining() == 0:
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        words = "the deadline passed while waiting"
    else:
        try:
            return answer()
        except Exception as failure:
            code, words = status_of(failure)
    failed(code)
    return await context.abort(code, words)


def status_of(failure: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and its text, "reason: detail". What is our bug is logged, and told to nobody."""
    if isinstance(failure, Refused):
        return grpc.StatusCode.INVALID_ARGUMENT, f"{failure.reason}: {failure.detail}"
    if isinstance(failure, Unavailable):
        return grpc.StatusCode.UNAVAILABLE, "not-ready: no generation serves here; ask another node"
    _log.error("a call failed by our own fault", exc_info=failure)
    return grpc.StatusCode.INTERNAL, "internal: the log of the node has the cause"
