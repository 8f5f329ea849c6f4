"""Mutates a delta file behind hashes that fit, and decodes it: `fuzz_delta FILE TIMES`.

Writes how many were refused and how many taken; whatever else happens ends the process.
"""

from __future__ import annotations

import hashlib
import random
import struct
import sys
from pathlib import Path

import msgpack

from eir.errors import Corrupt
from eir.feed.delta_file import decode_delta


def mutated(raw: bytes, rng: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(3):
            case 0 if at < len(changed):
                changed[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
            case 1:
                del changed[at : at + rng.randrange(1, 5)]
            case _:
                changed[at:at] = rng.randbytes(rng.randrange(1, 5))
    return bytes(changed)


def sealed(header: bytes, body: bytes) -> bytes:
    prefix = struct.pack("<8sQ32s16x", b"EIRDELT1", len(header), hashlib.sha256(header).digest())
    return prefix + header + body


def main() -> None:
    raw, times = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
    length = struct.unpack_from("<Q", raw, 8)[0]
    header, body = raw[64 : 64 + length], raw[64 + length :]
    fields = msgpack.unpackb(header)
    rng = random.Random(7)
    refused = 0
    for turn in range(times):
        if turn % 2:
            other = mutated(body, rng)
            patched = fields | {"length": len(other), "sha256": hashlib.sha256(other).digest()}
            hostile = sealed(msgpack.packb(patched), other)
        else:
            hostile = sealed(mutated(header, rng), body)
        try:
            decode_delta(hostile)
        except Corrupt:
            refused += 1
    sys.stdout.write(f"{refused} {times - refused}\n")


if __name__ == "__main__":
    main()
