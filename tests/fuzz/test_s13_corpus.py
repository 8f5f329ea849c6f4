"""Every saved input of the S13 fuzzer satisfies the target, with or without atheris."""

from pathlib import Path

import pytest

from tests.fuzz.s13_target import one_input

SAVED = sorted((Path(__file__).parent / "corpus/s13").iterdir())


@pytest.mark.parametrize("saved", SAVED, ids=lambda path: path.name)
def test_saved_input(saved):
    one_input(saved.read_bytes())


def test_there_is_a_corpus():
    assert len(SAVED) >= 20
