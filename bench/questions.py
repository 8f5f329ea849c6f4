"""What is asked, and the answer that each question must get.

Questions are drawn from the sample registry that the node serves: most of them its bound pairs, the
rest others' devices, lists and devices that nobody knows. The right answers come from the tables,
opened here from the node's own depot, by a road that no server touches.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eir.core.generation import OPERATOR, REGISTRY
from eir.core.policy import Policy
from eir.core.tables import Tables
from eir.ops.demo.population import LISTS, plan_population
from eir.serve.checker import Answer, Checker
from eir.serve.holder import Holder, Serving
from eir.store.depot import Depot
from eir.wire.v1 import eligibility_pb2 as wire

Keys = NDArray[np.uint64]
BATCH: Final = 512
_CHUNKS: Final = 8
_SOON_SECONDS: Final = 86_400
_CHECK_SERIAL_TAG: Final = b"\x30"
_BATCH_SERIAL_TAG: Final = b"\x28"


@dataclass(frozen=True, slots=True)
class Asked:
    """n questions, uint64[n] each (number 0 = none), and their answers by the tables."""

    imei: Keys
    msisdn: Keys
    answer: Answer


def draw(devices: int, seed: int, wanted: int) -> tuple[Keys, Keys]:
    """(IMEI keys, numbers): 70 % bound pairs, 10 % others' devices, 15 % of lists, 5 % unknown."""
    population = plan_population(devices, seed=seed, now=int(time.time()))
    rng = np.random.default_rng(seed)
    picked = rng.permutation(population.chunks)[:_CHUNKS]
    chunks = [population.rows(int(index)) for index in picked]
    keys = np.concatenate([chunk["bindings"][0] for chunk in chunks])
    numbers = np.concatenate([chunk["bindings"][1] for chunk in chunks])
    listed = np.concatenate([chunk[name][0] for chunk in chunks for name in LISTS])
    parts = (wanted * 7 // 10, wanted // 10, wanted * 3 // 20)
    bound = rng.integers(0, len(keys), parts[0])
    others = rng.integers(0, len(keys), parts[1])
    listed = listed[rng.integers(0, len(listed), parts[2])]
    unknown = rng.integers(10**13, 10**14, wanted - sum(parts), dtype=np.uint64)
    imei = np.concatenate([keys[bound], keys[others], listed, unknown])
    strangers = rng.integers(0, len(numbers), wanted - parts[0])
    msisdn = np.concatenate([numbers[bound], numbers[strangers]])
    order = rng.permutation(wanted)
    return imei[order], msisdn[order]


def answered(depot: Path, policy: Policy, imei: Keys, msisdn: Keys) -> Asked:
    """The questions whose verdict can't change within a day, with their answers."""
    kept = Depot(depot)
    registry = kept.open_newest(REGISTRY).generation
    operator = kept.open_newest(OPERATOR).generation
    holder = Holder()
    holder.swap(Serving(Tables(registry, operator, policy), data_time=registry.made_at))
    checker = Checker(holder)
    none = np.zeros(len(imei), np.uint64)
    until = checker.check(imei, msisdn, none).valid_until
    stays = (until == 0) | (until > int(time.time()) + _SOON_SECONDS)
    imei, msisdn = imei[stays], msisdn[stays]
    return Asked(imei, msisdn, checker.check(imei, msisdn, none[stays]))


def write(path: Path, rows: Iterable[tuple[bytes, bytes]]) -> Path:
    """The file that the load generator reads: question and answer of each row."""
    parts = [
        part
        for question, answer in rows
        for part in (struct.pack("<II", len(question), len(answer)), question, answer)
    ]
    path.write_bytes(struct.pack("<I", len(parts) // 3) + b"".join(parts))
    return path


def checks(asked: Asked) -> list[tuple[bytes, bytes]]:
    """Check: question, and the answer up to the serials of the data."""
    answer = asked.answer
    rows = []
    for i, (key, number) in enumerate(zip(asked.imei.tolist(), asked.msisdn.tolist(), strict=True)):
        status, decided = int(answer.status[i]), int(answer.decided[i])
        reply = wire.CheckReply(
            status=wire.Status.Name(status),
            decided_status=None if status == decided else wire.Status.Name(decided),
            reason=int(answer.reason[i]),
            reason_name=answer.reason_names[int(answer.reason[i])],
            valid_until=int(answer.valid_until[i]),
        )
        rows.append((_one(key, number), reply.SerializeToString() + _CHECK_SERIAL_TAG))
    return rows


def batches(asked: Asked, size: int = BATCH) -> list[tuple[bytes, bytes]]:
    """CheckBatch: questions of ``size`` checks, and the answers up to the serials of the data."""
    rows = []
    for begin in range(0, len(asked.imei) - size + 1, size):
        part = slice(begin, begin + size)
        answer = asked.answer
        status, decided = answer.status[part].tolist(), answer.decided[part].tolist()
        until = answer.valid_until[part].tolist()
        reply = wire.CheckBatchReply(
            status=status,
            decided_status=[] if decided == status else decided,
            reason=answer.reason[part].tolist(),
            valid_until=until if any(until) else [],
        )
        question = _many(asked.imei[part].tolist(), asked.msisdn[part].tolist())
        rows.append((question, reply.SerializeToString() + _BATCH_SERIAL_TAG))
    return rows


def constants(rows: Sequence[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
    """The same questions for a server that answers a constant; ``size`` 0: Check."""
    if size:
        reply = wire.CheckBatchReply(status=[1] * size, reason=[9] * size).SerializeToString()
        return [(question, reply + _BATCH_SERIAL_TAG) for question, _ in rows]
    one = wire.CheckReply(status=1, reason=9, reason_name="bound").SerializeToString()
    return [(question, one + _CHECK_SERIAL_TAG) for question, _ in rows]


def gets(asked: Asked) -> list[tuple[bytes, bytes]]:
    """Redis: GET of each device, whose value is its status and reason, as a usual EIR keeps it."""
    columns = (asked.imei, asked.answer.status, asked.answer.reason)
    rows, kept = [], {}
    for key, status, reason in zip(*(column.tolist() for column in columns), strict=True):
        name, value = f"{key:014d}", kept.setdefault(key, f"{status}:{reason}")
        question = f"*2\r\n$3\r\nGET\r\n${len(name)}\r\n{name}\r\n"
        rows.append((question.encode(), f"${len(value)}\r\n{value}\r\n".encode()))
    return rows


def _one(key: int, number: int) -> bytes:
    request = wire.CheckRequest(imei=f"{key:014d}0", msisdn=str(number) if number else "")
    return _framed(request.SerializeToString())


def _many(keys: list[int], numbers: list[int]) -> bytes:
    return _framed(wire.CheckBatchRequest(imei14=keys, msisdn=numbers).SerializeToString())


def _framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message
