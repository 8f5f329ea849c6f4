"""CheckReplies ready to send: one encoding for each verdict that a generation gives.

A verdict without a date is one of a few dozen for as long as the same data serve, so its reply is
encoded once. A date is put in at its place, before the serials, so that each verdict has the one
encoding that any protobuf library writes. Belongs to one thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from eir.doors import eligibility_codec as codec
from eir.serve.checker import Answer
from eir.wire.v1 import eligibility_pb2 as wire

_UNDATED: Final = np.zeros(1, np.int64)


class CheckReplies:
    """Writes as ``write_check`` does; keeps what it wrote while the data stay the same."""

    def __init__(self) -> None:
        self._origin: tuple[int, int, bool] | None = None
        self._names: object = None
        self._written: dict[tuple[int, int, int], bytes] = {}
        self._behind_date = b""

    def write(self, answer: Answer) -> list[bytes]:
        """A CheckReply for each place of an answer."""
        origin = (answer.registry_serial, answer.operator_serial, answer.stale)
        if origin != self._origin or answer.reason_names is not self._names:
            self._origin, self._names, self._written = origin, answer.reason_names, {}
            registry, operator, stale = origin
            serials = wire.CheckReply(
                registry_serial=registry, operator_serial=operator, stale=stale
            )
            self._behind_date = serials.SerializeToString()
        verdicts = zip(
            answer.status.tolist(), answer.decided.tolist(), answer.reason.tolist(), strict=True
        )
        written, replies = self._written, []
        for place, verdict in enumerate(verdicts):
            reply = written.get(verdict)
            if reply is None:
                reply = written[verdict] = _undated(answer, place)
            replies.append(reply)
        for place in answer.valid_until.nonzero()[0].tolist():
            date = wire.CheckReply(valid_until=int(answer.valid_until[place]))
            reply, behind = replies[place], self._behind_date
            before = reply[: len(reply) - len(behind)]
            replies[place] = before + date.SerializeToString() + behind
        return replies


def _undated(answer: Answer, place: int) -> bytes:
    one = slice(place, place + 1)
    return codec.write_check(
        replace(
            answer,
            status=answer.status[one],
            decided=answer.decided[one],
            reason=answer.reason[one],
            valid_until=_UNDATED,
        )
    )
