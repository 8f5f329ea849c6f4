"""Every scenario has a registry and an engine of its own."""

from pathlib import Path

import pytest

from tests.scenarios.world import Engine, Registry, white


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "feed")


@pytest.fixture
def engine(tmp_path: Path, registry: Registry) -> Engine:
    return Engine(tmp_path / "depot", registry)


@pytest.fixture
def following(registry: Registry, engine: Engine) -> Engine:
    """An engine that holds serial 2, {1, 2}, of a registry that has said so."""
    registry.say(white(1))
    registry.say(white(1, 2))
    registry.announce()
    assert engine.sync().reason == "first-load"
    return engine
