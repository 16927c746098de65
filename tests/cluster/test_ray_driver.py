"""Experiments on a Ray cluster of one node, driven by processes that are killed; begun here, gone on with there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster.raylets import ours_on_the_cluster, tasks_running, wait_until
from holdfast._core.events import EpochStarted
from holdfast._journal import read
from holdfast.testing.history import check_history
from integration.drivers import (
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    needlessly_redone,
    side_log,
    wait_until_all_gone,
)


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


SLEEPS_IN_A_GROUP = """
import sys, time
from pathlib import Path
import holdfast as tune

folder = sys.argv[1]

def trial(config):
    import ray
    ray.remote(num_cpus=1)(lambda path: (Path(path).touch(), time.sleep(600))).remote(folder + "/task")
    Path(folder, "trial").touch()
    time.sleep(600)

group = tune.PlacementGroupFactory([{"CPU": 1}, {"CPU": 1}])
tune.Tuner(tune.with_resources(trial, group), run_config=tune.RunConfig(name="exp", storage_path=folder)).fit()
"""


def test_a_killed_driver_leaves_nothing_and_the_experiment_moves_between_engines(start: Start, task: Task) -> None:
    here = replace(task, environment={})
    elsewhere = replace(  # a cluster of the driver's own
        task, environment={"HOLDFAST_ENGINE": "ray", "RAY_ADDRESS": "local", "RAY_AUTH_MODE": "disabled"}
    )
    for place in (task, task, here):
        driver, before = start(place), acknowledged_count(task.side)
        wait_until(lambda: acknowledged_count(task.side) >= before + 4, doing=driver)  # noqa: B023 - asked at once
        driver.kill()
        wait_until_all_gone(task, within_s=20)
        wait_until(lambda: not ours_on_the_cluster())
        assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []

    assert start(elsewhere).finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    assert [it.engine for it in epochs(task)] == ["ray", "ray", "local", "ray"]
    wait_until_all_gone(task, within_s=20)


def test_placement_groups_and_tasks_of_trials_end_with_a_killed_driver(one_node: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ADDRESS": one_node, "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen([sys.executable, "-c", SLEEPS_IN_A_GROUP, str(tmp_path)], env=environment) as driver:
        try:
            wait_until(lambda: (tmp_path / "trial").exists() and (tmp_path / "task").exists())
            assert len(ours_on_the_cluster()) >= 3  # the mailbox, the trial, its group
        finally:
            driver.kill()
    wait_until(lambda: not ours_on_the_cluster())
    wait_until(lambda: not tasks_running())


@pytest.mark.soak
def test_attempts_on_the_drivers_node_do_not_miss_a_mailbox_that_is_killed(start: Start, task: Task) -> None:
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 4, doing=driver)
    running = [(process, " ".join(process.info["cmdline"] or [])) for process in psutil.process_iter(["cmdline"])]
    (mailbox,) = [process for process, title in running if title.startswith("ray::Mailbox")]
    mailbox.kill()
    assert driver.finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    assert sum(line["what"] == "begin" for line in side_log(task.side)) == 3


def epochs(task: Task) -> list[EpochStarted]:
    return [record.event for record in read(task.storage) if isinstance(record.event, EpochStarted)]
