"""Ray Tune's guide to fault tolerance with Ray initialised: the tests of `tests/integration/test_guide.py`, on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.raylets import one_node_cluster
from integration.test_guide import (  # noqa: F401 - tests and their fixture
    script,
    test_stopped_and_restored,
    test_three_failures_are_four_attempts_each_from_the_newest_checkpoint,
)

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def three_cpus() -> Iterator[str]:
    with one_node_cluster(cpus=3) as address:
        yield address


@pytest.fixture(autouse=True)
def on_ray(three_cpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is connected to the cluster, and the scripts that it starts are told of it."""
    monkeypatch.setenv("RAY_ADDRESS", three_cpus)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
