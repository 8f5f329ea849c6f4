"""Nodes that are ended after the test that started them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.client import nodes


@pytest.fixture
def start_node() -> Iterator[Callable[..., nodes.Node]]:
    started: list[nodes.Node] = []

    def start(**settings: object) -> nodes.Node:
        started.append(nodes.start(len(started) + 1, **settings))
        return started[-1]

    yield start
    for node in started:
        node.die()
