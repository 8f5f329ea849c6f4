"""docs/decision.md: the table is the engine's, and its worked examples are what a node answers."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eir.core.policy import DEFAULT_STATUS
from tests.ops.conftest import ROOT, Node, run, serving

PAGE = (ROOT / "docs/decision.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"(?ms)^```console\n\$ eir (explain [^\n]+)\n(.+?)^```$", PAGE)
CHANGING = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def told(text: str) -> list[str]:
    """The lines, without blanks between columns, times and sessions."""
    return [" ".join(CHANGING.sub("…", line).split()) for line in text.strip().splitlines()]


def test_the_table_has_every_reason_with_its_default() -> None:
    part = PAGE.partition("\n## The table\n")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (?:\d+ )?\| .*\| `([a-z-]+)` \| ([A-Z]+) \|$", part)
    assert {(reason, status.name) for reason, status in DEFAULT_STATUS.items()} == set(rows)


@pytest.fixture(scope="module")
def node(loaded: Path) -> Iterator[Node]:
    with serving(loaded) as node:
        yield node


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[words for words, _ in EXAMPLES])
def test_an_example_is_what_a_node_answers(command: str, shown: str, node: Node) -> None:
    ran = run(*command.split(), "--config", node.config)
    assert told(ran.out) == told(shown)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
