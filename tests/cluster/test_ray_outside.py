"""A driver outside the cluster, which speaks to it through Ray's own server for such (`ray://`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.raylets import Raylets, ours_on_the_cluster, wait_until
from holdfast.testing.history import check_history
from integration.drivers import Start, Task, acknowledged, acknowledged_count, needlessly_redone, wait_until_all_gone
from object_servers import free_port

pytestmark = [
    pytest.mark.soak,
    # Ray leaves open what it has opened for its server.
    pytest.mark.filterwarnings("ignore:.*ray_client_server:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """A cluster of one node; its address for drivers from outside."""
    port = free_port()
    raylets = Raylets(nodes=0, head_cpus=2, client_port=port)
    yield f"ray://127.0.0.1:{port}"
    raylets.close()


def test_a_killed_driver_from_outside_leaves_nothing_when_ray_has_given_it_up(outside: str, start: Start, tmp_path: Path) -> None:
    environment = {"RAY_ADDRESS": outside, "RAY_AUTH_MODE": "disabled", "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "5"}
    task = Task(
        storage_path=str(tmp_path / "r"), side=str(tmp_path / "side"), rows=12, samples=3, pace_s=0.02, environment=environment
    )
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 4, doing=driver)
    driver.kill()
    wait_until_all_gone(task, within_s=60)
    wait_until(lambda: not ours_on_the_cluster())
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    assert start(task).finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []


SCRIPT = """
import sys
import numpy as np
import ray
import holdfast as tune

def read(config):
    return {"sum": float(np.sum(tune.get(config["data"])))}

def iterated(config):
    return {"sum": sum(row["id"] for row in config["data"].iter_rows())}

def main(what, trainable, data):
    run_config = tune.RunConfig(name=what, storage_path=sys.argv[1], engine="ray", verbose=0)
    results = tune.Tuner(trainable, param_space={"data": data}, run_config=run_config).fit()
    print(what, results.errors, [result.metrics["sum"] for result in results])

ray.init(sys.argv[2], log_to_driver=False)
main("put", read, tune.put(np.ones(7)))
main("dataset", iterated, ray.data.range(10))
try:
    main("reference", read, ray.put(np.ones(7)))
except tune.TuneError as error:
    print("reference", type(error).__name__, error)
"""


def test_objects_and_plans_of_datasets_reach_trials_and_references_are_refused(outside: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), outside]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    lines = [line for line in done.stdout.splitlines() if line.split(" ")[0] in ("put", "dataset", "reference")]
    assert lines[:2] == ["put [] [7.0]", "dataset [] [45]"], done.stderr
    assert lines[2].startswith("reference ConfigError")
    assert "holdfast.put" in lines[2]


def test_storage_that_the_cluster_does_not_see_is_refused(
    outside: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"RAY_ADDRESS": outside, "RAY_AUTH_MODE": "disabled"}
    elsewhere = "/proc/self/cwd/results"  # each process has another directory there
    driver = start(Task(storage_path=elsewhere, side=str(tmp_path / "side"), environment=environment))
    said = driver.result()
    assert said["error"] == "ConfigError"
    assert "not seen by every node" in said["text"]
