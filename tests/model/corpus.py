"""Run as a program: one fixed corpus through whatever runs the kernel, its answers as JSON.

``python -m tests.model.corpus`` builds the small generations and the golden pair, asks a fixed set
of questions under several policies and times, and prints hashes of every byte that came out. With
NUMBA_DISABLE_JIT=1 the same source runs as plain Python: both must print the same.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eir.core import golden
from eir.core.generation import OPERATOR, REGISTRY
from eir.core.jit import JIT_DISABLED
from eir.core.policy import CODES, BlackList, Policy, Status
from eir.core.subscriber import imsi_from_digits
from eir.core.tables import Tables
from eir.feed.codec import open_snapshot
from tests.feed import small

U64 = NDArray[np.uint64]
ASKED = 1500
POLICIES = [
    Policy(),
    Policy(mode="shadow", home_plmns=("43211",), enforced_plmns=("001011",)),
    Policy(
        status={"not-registered": Status.UNKNOWN, "bound": Status.GREYLISTED},
        black={
            "stolen": BlackList(Status.UNKNOWN, legacy_overrides=True, active_from=small.TIME),
            "lost": BlackList(bound_overrides=True, binding_overrides=True),
        },
        black_order=("own-words", "lost"),
    ),
]
TIMES = [(small.TIME, small.TIME - 1), (small.TIME - 1, small.TIME + 5), (small.TIME + 9, 0)]


def sha256(*arrays: NDArray[np.generic]) -> str:
    seen = hashlib.sha256()
    for array in arrays:
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()


def questions(seed: int) -> U64:
    rng = random.Random(seed)
    known = [
        *small.WHITE[::97].tolist(),
        *small.CROWD[::197].tolist(),
        *small.BINDINGS[:, 0].tolist(),
    ]
    edges = [0, 1, 7, 10**13, 10**14 - 1, 10**14, (1 << 64) - 1, small.FIRST + 999_999]
    imeis = [*known, *edges, *(key + by for key in known[:40] for by in (-1, 1, 65_536))]
    numbers = [0, 1, 12_345, *range(small.NUMBER - 1, small.NUMBER + 9), small.NUMBER + 10_000]
    imsis = [0, *small.IMSIS, imsi_from_digits("00101"), imsi_from_digits("26201123"), 1, 15]
    every = list(itertools.product(imeis, numbers, imsis))
    return np.array(rng.sample(every, ASKED), np.uint64)


def asked(tables: Tables, queries: U64, now: int, grace_time: int, rows: Counter[str]) -> str:
    imei, msisdn, imsi = queries.T.copy()
    counts = np.zeros((CODES, 5), np.uint64)
    verdicts = tables.check(imei, msisdn, imsi, now=now, grace_time=grace_time, counts=counts)
    rows.update(str(row) for row in verdicts.rows[:, 3].tolist())
    facts = [
        tables.facts(*query, now=now, grace_time=grace_time) for query in queries[:50].tolist()
    ]
    told = hashlib.sha256(repr(facts).encode()).hexdigest()
    return sha256(verdicts.rows, verdicts.valid_until, counts) + told


def main() -> None:
    rows: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        octets = {feed: small.write(feed, Path(folder, feed)) for feed in (REGISTRY, OPERATOR)}
        opened = {feed: open_snapshot(Path(folder, feed)) for feed in octets}
        verdicts = [
            asked(Tables(opened[REGISTRY], opened[OPERATOR], chosen), questions(seed), *times, rows)
            for seed, (chosen, times) in enumerate(zip(POLICIES, TIMES, strict=True))
        ]
        tables = golden.golden_tables()
        verdicts.append(asked(tables, golden.queries(), golden.NOW, golden.GRACE_TIME, rows))
        said = {
            "compiled": not JIT_DISABLED,
            "files": {feed: hashlib.sha256(body).hexdigest() for feed, body in octets.items()},
            "digests": {feed: generation.digest for feed, generation in opened.items()},
            "verdicts": verdicts,
            "rows": dict(sorted(rows.items(), key=lambda row: int(row[0]))),
        }
    golden.verify_kernel()
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
