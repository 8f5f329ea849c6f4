"""Many HTTP/2 connections to one port at once: python -m bench.storm PORT [1000].

Each says its preface and waits for the server's SETTINGS; all stay open until the last has them.
Prints one JSON line: how many were answered, and how long the last took. Exit code 1 when one was
refused or not answered within ten seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
FRAME_HEAD, SETTINGS = 9, 4
PATIENCE_S = 10.0


async def one(port: int) -> asyncio.StreamWriter:
    """A connection that was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE)
    head = await reader.readexactly(FRAME_HEAD)
    if head[3] != SETTINGS:
        raise ConnectionError(f"a frame of type {head[3]} came first")
    return writer


async def storm(port: int, count: int) -> int:
    """How many were not answered."""
    begun = time.perf_counter()
    tried = (asyncio.wait_for(one(port), PATIENCE_S) for _ in range(count))
    found = await asyncio.gather(*tried, return_exceptions=True)
    seconds = time.perf_counter() - begun
    failed = [each for each in found if isinstance(each, BaseException)]
    line = {"connections": count, "seconds": round(seconds, 3), "missing": len(failed)}
    print(json.dumps(line | ({"first": repr(failed[0])} if failed else {})))
    for each in found:
        if isinstance(each, asyncio.StreamWriter):
            each.close()
    return len(failed)


if __name__ == "__main__":
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    sys.exit(1 if asyncio.run(storm(int(sys.argv[1]), wanted)) else 0)
