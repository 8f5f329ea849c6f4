"""What was exported loads back to the same content."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eir.core.generation import OPERATOR, REGISTRY
from eir.core.subscriber import Numbering
from eir.feed.codec import open_snapshot
from eir.store.export import export
from eir.store.load import load
from tests.core.contents import (
    OPERATOR_CONTENTS,
    REGISTRY_CONTENTS,
    Content,
    Listed,
    content_of,
    generation_of,
    without_empty,
)

_FIRST, _LAST = 946_684_800, 4_291_747_199  # 2000 … 2105: deadlines that a file may hold


def _loadable(content: Content) -> Content:
    """The content without what a list file can't say."""
    kept = dict(content)
    if "grey" in kept:
        rows = frozenset(row for row in kept["grey"].rows if _FIRST <= row[2] <= _LAST)
        kept["grey"] = Listed(rows)
    return kept


@settings(max_examples=10, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just(REGISTRY), REGISTRY_CONTENTS.map(_loadable)),
        st.tuples(st.just(OPERATOR), OPERATOR_CONTENTS.map(_loadable)),
    ).filter(lambda made: made[1])
)
def test_an_export_loads_back_to_the_same_digest(made: tuple[str, Content]) -> None:
    feed, content = made
    generation = generation_of(content, feed=feed)
    with tempfile.TemporaryDirectory() as folder:
        manifest = export(generation, Path(folder) / "lists")
        outcome = load(manifest, Path(folder) / "back.snap", Numbering())
        back = open_snapshot(Path(folder) / "back.snap")
    assert outcome.facts.digest == generation.digest
    assert content_of(back) == without_empty(content)
    ids = {name: section.reason_id for name, section in generation.black().items()}
    assert {name: section.reason_id for name, section in back.black().items()} == ids
