"""Tests that need Ray: on one worker of pytest-xdist, one after another, each file with a cluster of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.raylets import one_node_cluster
from integration.conftest import start  # noqa: F401 - a fixture

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("ray"))
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="module")
def one_node() -> Iterator[str]:
    """The address of a cluster of one node, which this process is connected to."""
    with one_node_cluster() as address:
        yield address
