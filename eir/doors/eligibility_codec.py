"""The messages of eir.v1.Eligibility as arrays, and answers as messages. Both gRPC doors speak
through it.

Pure: bytes in, arrays out; arrays in, bytes out. Whatever a client sends either becomes a question
that the checker can decide, or is Refused with a reason; nothing unusable is ever taken for "not
known".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from eir import limits
from eir.core.question import read_texts as read_texts
from eir.errors import Refused
from eir.serve.checker import Answer
from eir.wire.v1 import eligibility_pb2 as wire

Keys = NDArray[np.uint64]
Column = Sequence[int] | Keys
M = TypeVar("M", bound=Message)

_LENGTH_DELIMITED: Final = 2
_LAST_KEY: Final = np.uint64(limits.MAX_IMEI_KEY)
_LEAST_MSISDN: Final = np.uint64(10 ** (limits.MIN_MSISDN_DIGITS - 1))
_MSISDN_END: Final = np.uint64(10**limits.MAX_MSISDN_DIGITS)
_IMSI_END: Final = np.array(
    [10**n if n >= limits.MIN_IMSI_DIGITS else 0 for n in range(limits.MAX_IMSI_DIGITS + 1)],
    dtype=np.uint64,
)
"""By number of digits: the first value with more than so many.

0 for numbers of digits no IMSI has.
"""


@dataclass(frozen=True, slots=True)
class Questions:
    """What a message asks: uint64 arrays of one length n >= 1, as Checker.check takes them."""

    imei: Keys
    msisdn: Keys
    imsi: Keys


def parsed(into: M, message: bytes) -> M:
    """``into``, filled from a message. Raises Refused ``message-malformed``."""
    try:
        into.ParseFromString(message)
    except DecodeError as fault:
        raise Refused("message-malformed", f"not a {into.DESCRIPTOR.name}") from fault
    return into


def read_check(message: bytes) -> Questions:
    """The one question of a CheckRequest. Raises Refused; see ``read_texts``."""
    request = parsed(wire.CheckRequest(), message)
    key, number, code = read_texts(request.imei, request.msisdn, request.imsi)
    return Questions(
        np.array([key], np.uint64), np.array([number], np.uint64), np.array([code], np.uint64)
    )


def read_batch(message: bytes, *, max_checks: int) -> Questions:
    """The questions of a CheckBatchRequest.

    Raises Refused: ``message-malformed``, ``batch-empty``, ``batch-too-long``, ``batch-uneven``,
    ``msisdn-unusable``, ``imsi-unusable``.
    """
    columns = _plain_columns(message)
    if columns is None:
        request = parsed(wire.CheckBatchRequest(), message)
        columns = (request.imei14, request.msisdn, request.imsi)
    return _questions(*columns, max_checks=max_checks)


def read_stream(message: bytes, *, max_checks: int) -> tuple[int, Questions]:
    """The tag and the questions of a CheckStreamRequest. Raises Refused as ``read_batch``."""
    request = parsed(wire.CheckStreamRequest(), message)
    batch = request.batch
    asked = _questions(batch.imei14, batch.msisdn, batch.imsi, max_checks=max_checks)
    return request.tag, asked


def write_check(answer: Answer) -> bytes:
    """A CheckReply, from an answer of length 1."""
    status, decided = int(answer.status[0]), int(answer.decided[0])
    reason = int(answer.reason[0])
    return wire.CheckReply(
        status=wire.Status.Name(status),
        decided_status=None if decided == status else wire.Status.Name(decided),
        reason=reason,
        reason_name=answer.reason_names[reason],
        valid_until=int(answer.valid_until[0]),
        registry_serial=answer.registry_serial,
        operator_serial=answer.operator_serial,
        stale=answer.stale,
    ).SerializeToString()


def write_batch(answer: Answer) -> bytes:
    """A CheckBatchReply.

    The arrays' own bytes are the packed fields' content (a status is a one-byte varint, the others
    are fixed width, little-endian), which spares 512 checks nine tenths of their encoding. protobuf
    writes the rest.
    """
    status, decided = answer.status.tobytes(), answer.decided.tobytes()
    parts = [_packed(1, status)]
    if decided != status:
        parts.append(_packed(2, decided))
    parts.append(_packed(3, answer.reason.astype("<u4").tobytes()))
    until = answer.valid_until.astype("<i8", copy=False).tobytes()
    if until != bytes(len(until)):
        parts.append(_packed(4, until))
    parts.append(_origin(answer.registry_serial, answer.operator_serial, answer.stale))
    return b"".join(parts)


@lru_cache(1)
def _origin(registry_serial: int, operator_serial: int, stale: bool) -> bytes:
    """The end of every reply, until other data serve."""
    return wire.CheckBatchReply(
        registry_serial=registry_serial, operator_serial=operator_serial, stale=stale
    ).SerializeToString()


def write_stream(tag: int, answer: Answer) -> bytes:
    """A CheckStreamReply."""
    return wire.CheckStreamReply(tag=tag).SerializeToString() + _packed(2, write_batch(answer))


def _plain_columns(message: bytes) -> tuple[Column, Column, Column] | None:
    """The columns of a CheckBatchRequest as client libraries write it: packed, each once, in order.

    They are then the message's own bytes. None for any other form, which protobuf may read.
    """
    columns: list[Column] = [(), (), ()]
    at, last = 0, 0
    while at < len(message):
        field, kind = message[at] >> 3, message[at] & 7
        length, shift, at = 0, 0, at + 1
        while at < len(message) and message[at] > 0x7F and shift < 21:
            length |= (message[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
        if at == len(message) or message[at] > 0x7F:
            return None
        length, at = length | message[at] << shift, at + 1
        fits = length % 8 == 0 and length <= len(message) - at
        if not fits or kind != _LENGTH_DELIMITED or not last < field <= len(columns):
            return None
        columns[field - 1] = np.frombuffer(message, "<u8", length // 8, at)
        at, last = at + length, field
    return columns[0], columns[1], columns[2]


def _questions(imei14: Column, msisdn: Column, imsi: Column, *, max_checks: int) -> Questions:
    size = len(imei14)
    if size == 0:
        raise Refused("batch-empty", "imei14 is empty: a message holds at least one check")
    if size > max_checks:
        raise Refused("batch-too-long", f"{size} checks in one message; at most {max_checks}")
    imei = np.array(imei14, dtype=np.uint64)
    imei[imei > _LAST_KEY] = 0
    return Questions(imei, _msisdns(msisdn, size), _imsis(imsi, size))


def _msisdns(values: Column, size: int) -> Keys:
    column = _column("msisdn", values, size)
    bad = column - _LEAST_MSISDN >= _MSISDN_END - _LEAST_MSISDN  # what is below wraps
    if bad.any() and (bad := bad & (column != 0)).any():
        raise Refused("msisdn-unusable", f"msisdn[{bad.argmax()}] is neither 0 nor a number")
    return column


def _imsis(values: Column, size: int) -> Keys:
    column = _column("imsi", values, size)
    if len(values) == 0:
        return column
    bad = (column >> np.uint64(4) >= _IMSI_END[column & np.uint64(15)]) & (column != 0)
    if bad.any():
        raise Refused(
            "imsi-unusable", f"imsi[{bad.argmax()}] is neither 0 nor digits × 16 + length"
        )
    return column


def _column(name: str, values: Column, size: int) -> Keys:
    """The column; zeros where the message leaves it out."""
    if len(values) == 0:
        return np.zeros(size, np.uint64)
    if len(values) != size:
        raise Refused("batch-uneven", f"{len(values)} places in {name}, {size} in imei14")
    return np.array(values, dtype=np.uint64)


def _packed(field: int, content: bytes) -> bytes:
    """A length-delimited field: tag, length as varint, content."""
    return _head(field, len(content)) + content


@lru_cache(64)
def _head(field: int, length: int) -> bytes:
    head = bytearray((field << 3 | 2,))
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head)
