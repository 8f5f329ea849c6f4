"""Micro benchmarks, compared against a saved baseline: `make bench-micro`.

One call each: what a check costs in the checker, in the codec of the gRPC doors, and in the client
(the kernel's own are in bench/test_kernel.py). Whether they are right is tested elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest

from eir.client.verdict import KNOWN_REASONS, verdicts_of
from eir.core.imei import key_from_digits
from eir.core.question import read_texts
from eir.doors import eligibility_codec as codec
from eir.serve.checker import Checker
from eir.serve.holder import Holder, Serving
from eir.wire.v1 import eligibility_pb2 as wire

NOW = 1_750_000_000
IMEI, MSISDN = "490154203237518", "989121234567"


@pytest.fixture
def checker(tables):
    holder = Holder()
    holder.swap(Serving(tables, data_time=NOW))
    return Checker(holder, clock=lambda: NOW)


def columns(pairs, size):
    keys, numbers = pairs
    return keys[:size].copy(), numbers[:size].copy(), np.zeros(size, np.uint64)


@pytest.mark.parametrize("size", [1, 512])
def test_checker(benchmark, checker, pairs, size):
    benchmark(checker.check, *columns(pairs, size))


def test_key_from_digits(benchmark):
    benchmark(key_from_digits, IMEI)


def test_read_texts(benchmark):
    benchmark(read_texts, IMEI, MSISDN, "432110123456789")


def test_read_check(benchmark):
    message = wire.CheckRequest(imei=IMEI, msisdn=MSISDN).SerializeToString()
    benchmark(codec.read_check, message)


def test_write_check(benchmark, checker, pairs):
    benchmark(codec.write_check, checker.check(*columns(pairs, 1)))


def test_read_batch(benchmark, pairs):
    keys, numbers, _ = columns(pairs, 512)
    asked = wire.CheckBatchRequest(imei14=keys.tolist(), msisdn=numbers.tolist())
    message = asked.SerializeToString()
    benchmark(lambda: codec.read_batch(message, max_checks=8_192))


def test_write_batch(benchmark, checker, pairs):
    benchmark(codec.write_batch, checker.check(*columns(pairs, 512)))


def test_client_verdicts(benchmark, checker, pairs):
    reply = wire.CheckBatchReply.FromString(codec.write_batch(checker.check(*columns(pairs, 512))))
    benchmark(verdicts_of, reply, 512, KNOWN_REASONS, "127.0.0.1:50061")
