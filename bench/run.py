"""The benchmark: this engine and its peers, measured side by side in one run.

    python -m bench.run [--quick] [--devices N] [--growth N,N] [--scratch DIR] [--only kernel,…]
                        [--add] [--out FILE]

from the root of the source tree. Peers are set up here (Debian packages, our own few lines of
C++); one that can't be is named, never left out in silence. Every answer is verified; a run with a
wrong or a missing one ends with exit code 1. A part that fails is told, and the others go on. Lines
are written as they come; the page and its plots are made at the end, from the lines alone.

With a ``--scratch`` of one's own what was built stays there, and ``--only … --add`` measures some
parts anew, in a file whose other lines stay.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import report
from bench.lines import Lines, faults_of, read, without
from bench.machine import about
from bench.parts import PARTS, Run
from bench.processes import TooLong, ends_on_request, limited, sweep, swept
from bench.toolchain import prepare

ROOT: Final = Path(__file__).resolve().parent.parent


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="10^5 devices, one short round; not into docs/"
    )
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--growth", help="smaller sizes, for what grows: 100000,1000000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one run of a generator")
    parser.add_argument("--only", help=f"parts, by comma: {','.join(PARTS)}")
    parser.add_argument("--add", action="store_true", help="keep the lines of all other parts")
    parser.add_argument("--server-cpus", default="0", help="cores of the servers, by comma")
    parser.add_argument("--scratch", type=Path, help="folder for files; default: a temporary one")
    parser.add_argument("--out", type=Path, help="lines; page and plots beside; default: docs/")
    parser.add_argument("--no-install", action="store_true", help="install no Debian package")
    chosen = parser.parse_args(words)
    if chosen.quick:
        chosen.devices, chosen.rounds, chosen.seconds = 100_000, 1, 1.0
    folder = ROOT / ".eir" / "bench" if chosen.quick else ROOT / "docs"
    chosen.out = (chosen.out or folder / "benchmarks.jsonl").absolute()
    return chosen


def main(words: Sequence[str]) -> int:
    """Exit code 1 when an answer was wrong or missing, or a part failed."""
    chosen = parsed(words)
    parts = tuple(chosen.only.split(",")) if chosen.only else tuple(PARTS)
    if unknown := set(parts) - set(PARTS):
        print(f"no such part: {', '.join(unknown)}", file=sys.stderr)
        return 2
    ends_on_request()
    os.environ["PYTHONPATH"] = str(ROOT)  # of the processes started here, installed or not
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    if chosen.add:
        without(chosen.out, parts)
    else:
        chosen.out.unlink(missing_ok=True)
    lines = Lines(chosen.out, about())
    try:
        with swept(), contextlib.ExitStack() as stack:
            _measure(_run_of(chosen, lines, stack), parts)
    finally:
        if chosen.out.exists():
            report.write(read(chosen.out), chosen.out.parent)
    return _told(read(chosen.out))


def _run_of(chosen: argparse.Namespace, lines: Lines, stack: contextlib.ExitStack) -> Run:
    scratch = chosen.scratch
    if scratch is None:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eir-bench-")))
        scratch.chmod(0o755)  # PostgreSQL's user must come through
    scratch.mkdir(parents=True, exist_ok=True)
    tools = prepare(scratch, install=not chosen.no_install)
    lines.part = "tools"
    for absent in tools.absent:
        lines.miss(absent, "not installed, and could not be")
    return Run(
        lines=lines,
        scratch=scratch.absolute(),
        tools=tools,
        devices=chosen.devices,
        smaller=tuple(int(size) for size in chosen.growth.split(",")) if chosen.growth else (),
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        servers=frozenset(int(cpu) for cpu in chosen.server_cpus.split(",")),
    )


def _measure(run: Run, parts: Sequence[str]) -> None:
    """Part by part. One that fails fails the run at its end, and keeps no other from going on."""
    for name in parts:
        run.lines.part, part = name, PARTS[name]
        print(f"{time.strftime('%H:%M:%S')} {name} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            with limited(part.seconds):
                part.measure(run)
        except (Exception, TooLong) as error:
            run.lines.fail(name, f"{type(error).__name__}: {error}")
        sweep()
        run.lines.add("part", name, [{"seconds": time.monotonic() - begun}], devices=run.devices)


def _told(found: Sequence[dict[str, object]]) -> int:
    faults = faults_of(found)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    for line in found:
        if line["measure"] == "absent":
            print(f"NOT MEASURED: {line['subject']}: {line['why']}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
