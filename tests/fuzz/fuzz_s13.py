"""Coverage-guided fuzz of the S13 codec and peer (atheris, extra ``fuzz``).

Usage: python -m tests.fuzz.fuzz_s13 -max_total_time=60 [libFuzzer options]
New inputs are kept in a scratch folder; tests/fuzz/corpus/s13 is read, and grows only by hand.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["eir.doors", "eir.core"]):
    from tests.fuzz.s13_target import one_input

CORPUS = Path(__file__).parent / "corpus/s13"


def main() -> None:
    """Hand the saved corpus and the options to libFuzzer; it ends the process."""
    scratch = tempfile.mkdtemp(prefix="fuzz-s13-")
    options = ["-max_len=2048", f"-artifact_prefix={scratch}/", *sys.argv[1:], scratch, str(CORPUS)]
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
