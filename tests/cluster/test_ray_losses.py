"""Two experiments on a Ray cluster; nodes that are cut off; what is lost with a head, or with an object's node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import holdfast as tune
from cluster.raylets import Raylets, ours_on_the_cluster, wait_until
from holdfast._core.events import AttemptEnded
from holdfast._journal import read
from holdfast.storage.local import LocalStorage
from holdfast.testing.census import processes_of
from holdfast.testing.history import check_history
from integration.drivers import (
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    needlessly_redone,
    side_log,
    token_of,
    wait_until_all_gone,
)

pytestmark = pytest.mark.soak  # clusters that lose what they stand on take their time to notice

Begin = Callable[..., Raylets]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a cluster, and ends it with the test."""
    started: list[Raylets] = []

    def one(**options: Any) -> Raylets:
        started.append(Raylets(**options))
        return started[-1]

    yield one
    for raylets in started:
        raylets.close()


def task_on(raylets: Raylets, folder: Path, **changes: Any) -> Task:
    fields = {"rows": 40, "samples": 4, "every": 2, "pace_s": 0.1, "max_failures": 1, **changes}
    folder.mkdir(exist_ok=True)
    environment = {"RAY_ADDRESS": raylets.address, "RAY_AUTH_MODE": "disabled"}
    return Task(storage_path=str(folder / "r"), side=str(folder / "side"), environment=environment, **fields)


def pids(task: Task) -> set[int]:
    """The processes in which the experiment's trials began."""
    return {line["pid"] for line in side_log(task.side) if line["what"] == "begin"}


def test_a_killed_experiment_leaves_nothing_and_another_on_its_cluster_goes_on(
    begin: Begin, start: Start, tmp_path: Path
) -> None:
    raylets = begin(nodes=2, cpus=2)
    first, second = (task_on(raylets, tmp_path / name, reuse=True, group=True) for name in ("first", "second"))
    killed = start(first)
    wait_until(lambda: len(pids(first)) == 2 and acknowledged_count(first.side) >= 4, doing=killed)
    its_own = set(ours_on_the_cluster())
    lives = start(second)
    wait_until(lambda: len(pids(second)) == 2 and acknowledged_count(second.side) >= 4, doing=lives)
    assert len([it for it in its_own if not it.startswith("ray::")]) == 2  # placement groups
    assert processes_of(token_of(first))
    killed.kill()
    wait_until_all_gone(first, within_s=20)
    wait_until(lambda: not {it for it in its_own if not it.startswith("ray::")} & set(ours_on_the_cluster()))
    assert lives.process.poll() is None
    assert lives.finish() == {"trials": 4, "errors": []}
    assert len([line for line in side_log(second.side) if line["what"] == "begin"]) == 4  # nothing was taken from it
    wait_until(lambda: not ours_on_the_cluster())
    assert start(first).finish() == {"trials": 4, "errors": []}
    for task in (first, second):
        assert check_history(task.storage, acknowledged(task.side)) == []
        assert needlessly_redone(task.side) == []
    assert not pids(first) & pids(second)


# Before and after each report a line says so: that a worker has spoken, and that it was heard.
SPEAKS = r"""
import json, os, sys, tempfile, time
from pathlib import Path
import holdfast as tune

folder = sys.argv[1]

def note(*words):
    with open(folder + "/said", "a") as file:
        file.write(json.dumps(words) + "\n")

def trial(config):
    newest = tune.get_checkpoint()
    start = int(Path(newest.path, "next").read_text()) if newest else 0
    for i in range(start, 25):
        time.sleep(1)
        with tempfile.TemporaryDirectory() as own:
            Path(own, "next").write_text(str(i + 1))
            note("says", os.getpid(), i)
            tune.report({"i": i, "pid": os.getpid()}, checkpoint=tune.Checkpoint.from_directory(own))
        note("heard", os.getpid(), i, tune.get_context().get_trial_id())

run_config = tune.RunConfig(name="exp", storage_path=folder, failure_config=tune.FailureConfig(max_failures=1), verbose=0)
results = tune.Tuner(trial, run_config=run_config).fit()
print(results.errors)
"""


def test_a_worker_that_was_cut_off_and_comes_back_changes_nothing(begin: Begin, tmp_path: Path) -> None:
    patience = {
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "6",
    }
    raylets = begin(nodes=2, cpus=1, settings=patience)
    environment = {**os.environ, "RAY_ADDRESS": raylets.address}
    said = tmp_path / "said"

    def lines(word: str) -> list[list[Any]]:
        return [it for it in map(json.loads, said.read_text().splitlines()) if it[0] == word] if said.exists() else []

    command = [sys.executable, "-c", SPEAKS, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        try:
            wait_until(lambda: len(lines("heard")) >= 3)
            late = lines("says")[0][1]
            stopped = raylets.cut_off(raylets.node_of(late))
            before = len([it for it in lines("says") if it[1] == late])
            wait_until(lambda: any(it[1] != late for it in lines("heard")))
            os.kill(late, signal.SIGCONT)  # it alone: its raylet would have it ended
            wait_until(lambda: len([it for it in lines("says") if it[1] == late]) > before or not psutil.pid_exists(late))
            count = len(lines("heard"))
            wait_until(lambda: len(lines("heard")) >= count + 3)
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            wait_until(lambda: not psutil.pid_exists(late))
            out, _ = driver.communicate(timeout=120)
        finally:
            driver.kill()
    assert out.splitlines()[-1] == "[]"
    assert len([it for it in lines("says") if it[1] == late]) == before + 1  # it spoke, and nobody answered
    assert len([it for it in lines("heard") if it[1] == late]) == before
    storage = LocalStorage(str(tmp_path / "exp"))
    heard = [(trial, {"i": i, "pid": pid}) for _, pid, i, trial in lines("heard")]
    assert [end.failure.kind for end in ends(storage) if end.failure is not None] == ["node"]
    (left,) = check_history(storage, heard)  # what it wrote under the name that it alone was granted
    assert left.endswith(f"checkpoint_{before:06}: no record names it")
    subprocess.run([sys.executable, "-c", "from holdfast.cli import main; main()", "repair", storage.root], check=True)
    assert check_history(storage, heard) == []


def ends(storage: Any) -> list[AttemptEnded]:
    return [record.event for record in read(storage) if isinstance(record.event, AttemptEnded)]


def test_a_lost_head_ends_the_driver_with_a_word_and_a_new_cluster_goes_on(begin: Begin, start: Start, tmp_path: Path) -> None:
    patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    raylets = begin(nodes=1, cpus=2, settings=patience)
    task = task_on(raylets, tmp_path, samples=2)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 8, doing=driver)
    raylets.kill_head()
    _, said = driver.process.communicate(timeout=60)
    assert driver.process.returncode == 1
    assert "has not answered for 3 s: all trials wait for it" in said
    assert "Failed to connect to GCS within 5 seconds" in said
    wait_until_all_gone(task, within_s=30)
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    raylets.close()
    again = replace(task, environment={**task.environment, "RAY_ADDRESS": begin(nodes=1, cpus=2).address})
    assert start(again).finish() == {"trials": 2, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []


at_the_first_end: list[Callable[[], None]] = []
"""What `Loses` does; callbacks are pickled with the job, clusters are not."""


class Loses(tune.Callback):
    """Loses a node when the first trial has ended."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        while at_the_first_end:
            at_the_first_end.pop()()


def summed(config: dict[str, Any]) -> dict[str, float]:
    """The first trial reads nothing: a node that had read the object has a copy."""
    import ray

    if config["n"] == 1:
        return {"sum": 300_000.0}
    return {"sum": float(np.sum(ray.get(config["data"])))}


def made_there(node: Any) -> Any:
    """A reference to what a task has made on a node; Ray may run the task again, elsewhere."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where = NodeAffinitySchedulingStrategy(node.node_id, soft=True)
    made = ray.remote(num_cpus=0, scheduling_strategy=where)(lambda: np.ones(300_000)).remote()
    ray.wait([made], fetch_local=False)
    return made


def put_there() -> tuple[Any, Any]:
    """An actor on a node, and a reference to what it has put there: that is gone with the actor."""
    import ray

    class Holder:
        def put(self) -> list[Any]:
            return [ray.put(np.ones(300_000))]

    actor = ray.remote(num_cpus=0, resources={"holder": 1})(Holder).remote()
    return actor, ray.get(actor.put.remote())[0]


@pytest.mark.parametrize("kept", ["by a task", "by an actor"])
def test_an_object_whose_node_is_lost_is_made_again_or_an_error_that_a_restore_mends(
    begin: Begin, tmp_path: Path, kept: str
) -> None:
    import ray

    raylets = begin(nodes=1, cpus=1)
    holder = raylets.add(num_cpus=0, resources={"holder": 1})
    actor, data = (None, made_there(holder)) if kept == "by a task" else put_there()
    at_the_first_end.append(lambda: raylets.kill(holder))
    job = tune.Tuner(
        summed,
        param_space={"data": data, "n": tune.grid_search([1, 2])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name="exp",
            storage_path=str(tmp_path),
            verbose=0,
            engine="ray",
            callbacks=[Loses()],
            failure_config=tune.FailureConfig(max_failures=1),
        ),
    )
    results = job.fit()
    assert not at_the_first_end
    del actor
    if kept == "by a task":
        assert results.errors == []
    else:
        (error,) = results.errors
        assert type(error).__name__ == "OwnerDiedError"
        assert [end.outcome for end in ends(LocalStorage(str(tmp_path / "exp")))] == ["completed", "failed", "failed"]
        space = {"data": ray.put(np.ones(300_000)), "n": tune.grid_search([1, 2])}
        results = tune.Tuner.restore(str(tmp_path / "exp"), summed, param_space=space, resume_errored=True).fit()
    assert [result.metrics["sum"] for result in results] == [300_000.0] * 2
    assert check_history(LocalStorage(str(tmp_path / "exp"))) == []


def test_a_store_that_is_full_fails_the_trial_which_is_tried_again(begin: Begin, tmp_path: Path) -> None:
    begin(nodes=1, cpus=1, settings={"RAY_local_fs_capacity_threshold": "0.0001"})  # nor is there room on its disk

    def greedy(config: dict[str, Any]) -> dict[str, int]:
        import ray

        tried = Path(tune.get_context().get_trial_dir(), "tried")
        if not tried.exists():
            tried.touch()
            ray.put(np.ones(20_000_000))
        return {"done_well": 1}

    run_config = tune.RunConfig(
        name="exp", storage_path=str(tmp_path), verbose=0, engine="ray", failure_config=tune.FailureConfig(max_failures=1)
    )
    results = tune.Tuner(greedy, run_config=run_config).fit()
    assert results.errors == []
    storage = LocalStorage(str(tmp_path / "exp"))
    (failure,) = [end.failure for end in ends(storage) if end.failure is not None]
    assert "OutOfDiskError" in failure.traceback or "ObjectStoreFullError" in failure.traceback
    assert check_history(storage) == []


when_it_reports: list[Callable[[int], None]] = []
"""What `Kills` does, from the last on, with the pid of a trial that has reported."""


class Kills(tune.Callback):
    """Kills the node of each attempt with its first row, as often as it is told to."""

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        if result["first"] and when_it_reports:
            when_it_reports.pop()(result["pid"])


@pytest.mark.parametrize("ballast", [0, 300_000])
def test_no_attempt_waits_for_what_lay_on_a_lost_node(begin: Begin, tmp_path: Path, ballast: int) -> None:
    """Ray asks a node that has a copy of something for it, lost or not: here it asks one, and waits for ten minutes."""
    raylets = begin(nodes=4, cpus=1, settings={"RAY_object_manager_pull_timeout_ms": "600000"})
    carried = os.urandom(ballast)

    def trial(config: dict[str, Any]) -> None:
        assert len(carried) == ballast
        newest = tune.get_checkpoint()
        start = int(Path(newest.path, "next").read_text()) if newest else 0
        for i in range(start, 20):
            time.sleep(0.1)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "next").write_text(str(i + 1))
                row = {"i": i, "pid": os.getpid(), "first": i == start}
                tune.report(row, checkpoint=tune.Checkpoint.from_directory(folder))

    def lose(pid: int) -> None:
        node = raylets.node_of(pid)
        raylets.nodes.remove(node)
        raylets.kill(node)

    when_it_reports.extend([lose] * 3)
    failures = tune.FailureConfig(max_failures=3)
    run_config = tune.RunConfig(
        name="exp", storage_path=str(tmp_path), verbose=0, engine="ray", callbacks=[Kills()], failure_config=failures
    )
    assert tune.Tuner(trial, run_config=run_config).fit().errors == []
    assert not when_it_reports
    storage = LocalStorage(str(tmp_path / "exp"))
    assert [end.failure.kind for end in ends(storage) if end.failure is not None] == ["node"] * 3
    assert check_history(storage) == []


when_saved: list[Callable[[int], None]] = []
"""What `TakesAway` does with the pid of a trial that has saved."""


class TakesAway(tune.Callback):
    """Leaves word in a file that the trial's node is about to go, and has it go when the trial has saved."""

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        if result["i"] == 3 and when_saved:
            Path(os.environ["HOLDFAST_PREEMPTION_FILE"]).touch()
        if result["saves"]:
            when_saved.pop()(result["pid"])


def test_a_trial_is_told_in_time_to_save_that_its_node_will_be_taken_away(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raylets, notice = begin(nodes=2, cpus=1), tmp_path / "notice"
    monkeypatch.setenv("HOLDFAST_PREEMPTION_FILE", str(notice))

    def trial(config: dict[str, Any]) -> None:
        newest = tune.get_checkpoint()
        start = int(Path(newest.path, "next").read_text()) if newest else 0
        for i in range(start, 30):
            time.sleep(0.2)
            row = {"i": i, "start": start, "saves": False}
            if tune.get_context().preemption_notice() and start == 0:
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "next").write_text(str(i + 1))
                    tune.report({**row, "saves": True}, checkpoint=tune.Checkpoint.from_directory(folder))
            else:
                tune.report(row)

    def take_away(pid: int) -> None:
        notice.unlink()
        raylets.take_away(raylets.node_of(pid))

    when_saved.append(take_away)
    failures = tune.FailureConfig(max_failures=0, max_preemptions=1)
    run_config = tune.RunConfig(
        name="exp", storage_path=str(tmp_path / "r"), verbose=0, engine="ray", callbacks=[TakesAway()], failure_config=failures
    )
    (result,) = tune.Tuner(trial, run_config=run_config).fit()
    assert result.error is None
    assert not when_saved
    storage = LocalStorage(str(tmp_path / "r" / "exp"))
    assert [end.failure.kind for end in ends(storage) if end.failure is not None] == ["preempted"]
    rows = result.metrics_dataframe
    assert list(rows["i"]) == list(range(30))
    saved_at = int(rows["i"][rows["saves"]].iloc[0])
    assert rows["start"].iloc[-1] == saved_at + 1 >= 4
    assert check_history(storage) == []
