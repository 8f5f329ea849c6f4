"""Nodes to load: those of the client's tests."""

from tests.client.conftest import start_node as start_node
