"""Experiments on a Ray cluster of one node, driven by processes that are killed; begun here, gone on with there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.raylets import ours_on_the_cluster
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, acknowledged_count, wait_until, wait_until_all_gone


@pytest.fixture
def task(tmp_path: Path, one_node: str) -> Task:
    """A short experiment on the cluster, whose trials have children that leave their session."""
    return Task(
        storage_path=str(tmp_path / "results"),
        side=str(tmp_path / "side"),
        rows=12,
        samples=3,
        family=True,
        max_failures=10,
        pace_s=0.02,
        environment={"RAY_ADDRESS": one_node, "RAY_AUTH_MODE": "disabled"},
    )


def locally(task: Task) -> Task:
    return replace(task, environment={})


def test_a_killed_driver_leaves_nothing_and_the_experiment_moves_between_engines(start: Start, task: Task) -> None:
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 6, doing=driver)
    driver.kill()
    wait_until_all_gone(task, within_s=20)
    wait_until(lambda: not ours_on_the_cluster())
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []

    driver = start(locally(task))
    before = acknowledged_count(task.side)
    wait_until(lambda: acknowledged_count(task.side) >= before + 6, doing=driver)
    driver.kill()
    wait_until_all_gone(task, within_s=20)

    result = start(task).finish()
    assert result == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    wait_until_all_gone(task, within_s=20)
    assert ours_on_the_cluster() == []
