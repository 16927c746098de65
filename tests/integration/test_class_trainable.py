"""Class trainables in real processes: killed anywhere, restored, ended; what a class adds to a trial's life."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import holdfast as tune
from holdfast import values
from holdfast._core.events import AttemptEnded, AttemptStarted, DecisionMade
from holdfast._core.ids import checkpoint_name
from holdfast._journal import read
from holdfast._projection.history import load_history
from holdfast.engines.local import LocalEngine
from holdfast.errors import ExperimentNotFound
from holdfast.schedulers.base import TrialScheduler
from holdfast.storage.local import LocalStorage
from holdfast.testing.census import Census
from holdfast.testing.history import check_history
from integration.drivers import (
    DriverEnded,
    DriverProcess,
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    needlessly_redone,
    side_log,
    token_of,
    wait_until,
    wait_until_all_gone,
)

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "tmp").mkdir()
    return Task(
        storage_path=str(tmp_path / "results"),
        side=str(tmp_path / "side"),
        rows=11,
        samples=3,
        every=3,
        family=True,
        max_failures=10,
        by_class=True,
        environment={"TMPDIR": str(tmp_path / "tmp")},
    )


def census(task: Task) -> Census:
    return Census.take("none", task.environment["TMPDIR"])


def assert_ended_well(task: Task, before: Census) -> None:
    """Nothing acknowledged is lost or done again from too early, all rows are there once, and the last one has its checkpoint."""
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    state, history = load_history(task.storage)
    assert [trial.state for trial in state.trials.values()] == ["TERMINATED"] * task.samples
    for trial in state.trials.values():
        rows = [values.decode(row.metrics) for row in history.rows(trial.trial_id)]
        assert [(row["i"], row["total"]) for row in rows] == [(i, i * (i + 1) // 2) for i in range(task.rows)]
        assert [row.iteration for row in history.rows(trial.trial_id)] == list(range(1, task.rows + 1))
        assert (trial.kept[-1].number, trial.owes) == (task.rows, False)
        saved = Path(task.path, trial.dirname, checkpoint_name(trial.kept[-1].saved.index), "state.json")
        assert json.loads(saved.read_text()) == {"next": task.rows, "total": task.rows * (task.rows - 1) // 2}
    wait_until_all_gone(task)
    assert Census.take(token_of(task), task.environment["TMPDIR"]).since(before) == []


def kill_when_it_works(driver: DriverProcess, victim: str, rows: int, lots: random.Random) -> None:
    """SIGKILL of the driver or of one worker, when so many rows are acknowledged."""
    wait_until(lambda: acknowledged_count(driver.task.side) >= rows and all(driver.roles().values()), doing=driver)
    if victim == "driver":
        driver.kill()
        return
    with suppress(ProcessLookupError, IndexError):  # a worker may have ended meanwhile
        os.kill(lots.choice(driver.roles()["worker"]), signal.SIGKILL)


@pytest.mark.parametrize("every", [3, 0])
@pytest.mark.parametrize("victim", ["driver", "worker"])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(
    task: Task, start: Start, victim: str, every: int, seed: int
) -> None:
    lots, task = random.Random(f"{victim} {every} {seed}"), replace(task, every=every, reuse=seed == 2)
    moments = sorted(lots.sample(range(1, 24), 2))
    print("seed", f"{victim} {every} {seed}", "rows", moments)
    before = census(task)
    driver = start(task)
    for rows in moments:
        kill_when_it_works(driver, victim, rows, lots)
        if victim == "driver":
            wait_until_all_gone(task)
            driver = start(task)
    assert driver.finish()["errors"] == []
    assert_ended_well(task, before)


WHILE_IT_SAVES = ["mid_checkpoint_stage:3", "before_checkpoint_rename:2", "after_checkpoint_rename:2"]
AT_THE_END = ["before_end_checkpoint:1", "after_end_checkpoint:1"]


@pytest.mark.parametrize("point", WHILE_IT_SAVES)
def test_attempts_that_die_while_they_save_come_through_one_after_another(task: Task, start: Start, point: str) -> None:
    """Each attempt keeps one checkpoint and dies with the next, the owed one at the end included."""
    task = replace(task, family=False)
    before = census(task)
    assert start(task, f"{point}=kill").finish()["errors"] == []
    assert_ended_well(task, before)


@pytest.mark.parametrize("point", [*WHILE_IT_SAVES, *AT_THE_END])
def test_a_worker_and_then_its_driver_are_killed_while_it_saves(task: Task, start: Start, point: str) -> None:
    task = replace(task, family=False, max_failures=-1)
    before = census(task)
    driver = start(task, f"{point}=kill")
    wait_until(lambda: failures(task), doing=driver)
    driver.kill()
    wait_until_all_gone(task)
    start(task).finish()
    assert_ended_well(task, before)


def failures(task: Task) -> list[AttemptEnded]:
    with suppress(ExperimentNotFound):
        events = [record.event for record in read(task.storage)]
        return [event for event in events if isinstance(event, AttemptEnded) and event.failure]
    return []


@pytest.mark.parametrize("n", range(10, 21))
def test_a_driver_killed_around_the_stop_still_gets_the_checkpoint_at_the_end(task: Task, start: Start, n: int) -> None:
    """One trial of four rows, a checkpoint with the third: the stop is decided on the fourth, and its checkpoint owed."""
    task = replace(task, rows=4, samples=1, workers=1, family=False, pace_s=0.0)
    before = census(task)
    driver = start(task, f"after_append:{n}=kill")
    driver.process.communicate()
    wait_until_all_gone(task)
    start(task).finish()
    assert_ended_well(task, before)


def test_the_moments_around_the_stop_are_among_those(task: Task, start: Start) -> None:
    """The sweep above crosses the decision to stop and the end of the attempt."""
    task = replace(task, rows=4, samples=1, workers=1, family=False, pace_s=0.0)
    start(task).finish()
    names = [type(record.event).__name__ for record in read(task.storage)]
    assert names[-2:] == ["AttemptEnded", "EpochEnded"]
    stop = max(i for i, name in enumerate(names) if name == "DecisionMade")
    assert names[stop + 1] == "CheckpointCommitted"
    assert 10 < len(names) < 21


def test_interrupted_it_finishes_its_step_and_cleans_up(task: Task, start: Start) -> None:
    task = replace(task, rows=1000, pace_s=0.05, family=False)
    driver = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 4, doing=driver)
    os.kill(driver.pid, signal.SIGINT)
    driver.process.communicate(timeout=30)
    began = [line["pid"] for line in side_log(task.side) if line["what"] == "begin"]
    cleaned = [line["pid"] for line in side_log(task.side) if line["what"] == "cleanup"]
    assert len(began) == 2
    assert sorted(cleaned) == sorted(began)
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []


def test_every_attempt_that_is_not_killed_cleans_up_once(task: Task, start: Start) -> None:
    for reuse in (False, True):
        where = replace(task, reuse=reuse, storage_path=f"{task.storage_path}{reuse}", side=f"{task.side}{reuse}", family=False)
        start(where).finish()
        pids = [line["pid"] for line in side_log(where.side) if line["what"] == "begin"]
        cleaned = [line["pid"] for line in side_log(where.side) if line["what"] == "cleanup"]
        assert sorted(cleaned) == sorted(set(pids))
        assert len(set(pids)) == (3 if not reuse else 2), "one process runs two trials where processes are reused"


# ---------------------------------------------------------------- in this process


class Counter(tune.Trainable):
    """Counts."""

    def setup(self, config):
        self.value = 0
        print("set up as", self.trial_id)

    def step(self):
        self.value += 1
        if self.config.get("fails_at") == self.value:
            raise ValueError(f"at {self.value}")
        return {"value": self.value, "timesteps_this_iter": 10, "cwd": os.getcwd()}

    def save_checkpoint(self, checkpoint_dir):
        return {"value": self.value}

    def load_checkpoint(self, checkpoint):
        self.value = checkpoint["value"]

    def cleanup(self):
        Path("cleaned").write_text(f"{self.trial_id} {self.iteration}")


class Reusable(Counter):
    def reset_config(self, new_config):
        self.value = 0
        return True


def tuner(path: Path, trainable: type, space: dict[str, Any] | None = None, **run: Any) -> tune.Tuner:
    tune_config = run.pop("tune_config", None)
    run_config = tune.RunConfig(name="exp", storage_path=path, verbose=0, **{"stop": {"training_iteration": 5}, **run})
    return tune.Tuner(trainable, param_space=space or {}, tune_config=tune_config, run_config=run_config)


def problems(path: Path) -> list[str]:
    return check_history(LocalStorage(str(path / "exp")))


def test_a_result_has_the_checkpoint_of_its_last_row_and_all_counters(tmp_path: Path) -> None:
    (result,) = tuner(tmp_path, Counter).fit()
    assert (result.metrics["value"], result.metrics["timesteps_total"]) == (5, 50)
    assert result.metrics["checkpoint_dir_name"] == "checkpoint_000000"
    again = Counter()
    again.restore(result.checkpoint)
    assert (again.iteration, again.value) == (5, 5)
    assert again.train()["timesteps_total"] == 60
    assert Path(result.path, "cleaned").read_text().endswith(" 5")
    assert problems(tmp_path) == []


def test_checkpoints_that_a_callback_asks_for(tmp_path: Path) -> None:
    class Asking(tune.Callback):
        saves = 0

        def on_trial_result(self, iteration, trials, trial, result, **info):
            result["should_checkpoint"] = result["training_iteration"] == 2

        def on_trial_save(self, iteration, trials, trial, **info):
            self.saves += 1

    callback = Asking()
    keep = tune.CheckpointConfig(checkpoint_at_end=False)
    (result,) = tuner(tmp_path, Counter, callbacks=[callback], checkpoint_config=keep).fit()
    frame = result.metrics_dataframe
    assert list(frame["checkpoint_dir_name"].fillna("")) == ["", "checkpoint_000000", "", "", ""]
    assert callback.saves == 1
    assert problems(tmp_path) == []


class PauseOnce(TrialScheduler):
    """Pauses each trial behind its second row."""

    def on_trial_result(self, trial_runner, trial, result):
        return self.PAUSE if result["training_iteration"] == 2 else self.CONTINUE


def test_a_paused_trial_goes_on_from_the_row_that_it_was_paused_at(tmp_path: Path) -> None:
    results = tuner(
        tmp_path,
        Counter,
        {"x": tune.grid_search([1, 2])},
        tune_config=tune.TuneConfig(metric="value", mode="max", scheduler=PauseOnce()),
    ).fit()
    assert [result.metrics["value"] for result in results] == [5, 5]
    assert [list(result.metrics_dataframe["value"]) for result in results] == [[1, 2, 3, 4, 5]] * 2
    events = [record.event for record in read(LocalStorage(str(tmp_path / "exp")))]
    assert sum(isinstance(event, AttemptStarted) for event in events) == 4
    assert sum(isinstance(event, DecisionMade) for event in events) == 10, "no row was done again"
    assert problems(tmp_path) == []


def test_a_failed_trial_goes_on_from_its_newest_checkpoint_and_then_fails(tmp_path: Path) -> None:
    (result,) = tuner(
        tmp_path,
        Counter,
        {"fails_at": 4},
        failure_config=tune.FailureConfig(max_failures=1),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=2),
    ).fit()
    assert isinstance(result.error, ValueError)
    assert list(result.metrics_dataframe["value"]) == [1, 2, 3]
    assert Path(result.path, "cleaned").exists()
    assert problems(tmp_path) == []


def test_an_instance_moves_from_trial_to_trial(tmp_path: Path) -> None:
    config = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1)
    results = tuner(tmp_path, Reusable, {"x": tune.grid_search([1, 2, 3])}, tune_config=config, log_to_file=True).fit()
    assert len({result.metrics["pid"] for result in results}) == 1
    for result in results:
        assert list(result.metrics_dataframe["value"]) == [1, 2, 3, 4, 5]
        assert result.metrics["cwd"] == result.path
        assert result.checkpoint is not None
        assert Path(result.checkpoint.path).parent == Path(result.path)
    assert [Path(result.path, "cleaned").exists() for result in results] == [False, False, True]
    assert ["set up as" in Path(result.path, "stdout").read_text() for result in results] == [True, False, False]
    assert problems(tmp_path) == []


def test_a_class_without_reset_config_cannot_be_reused(tmp_path: Path) -> None:
    config = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1)
    first, second = tuner(tmp_path, Counter, {"x": tune.grid_search([1, 2])}, tune_config=config).fit()
    assert first.error is None
    assert "reset_config" in str(second.error)


def test_a_cleanup_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_FORCE_TRIAL_CLEANUP_S", "0.2")

    class Hanging(Counter):
        def cleanup(self):
            signal.pause()

    for reuse in (False, True):
        path = tmp_path / str(reuse)
        config = tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=1)
        (result,) = tuner(path, Hanging, tune_config=config).fit()
        assert (result.error, result.metrics["value"]) == (None, 5)
        assert problems(path) == []


def test_in_a_fresh_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_START_METHOD", "spawn")
    (result,) = tuner(tmp_path, Counter).fit()
    assert (result.error, result.metrics["value"]) == (None, 5)


def test_staged_checkpoints_are_there_at_the_end(tmp_path: Path) -> None:
    keep = tune.CheckpointConfig(checkpoint_frequency=2, upload="async")
    (result,) = tuner(tmp_path, Counter, checkpoint_config=keep).fit()
    assert [name for name in sorted(os.listdir(result.path)) if name.startswith(("checkpoint_", "."))] == [
        "checkpoint_000000",
        "checkpoint_000001",
        "checkpoint_000002",
    ]
    assert problems(tmp_path) == []


def test_objects_and_resources_reach_a_class(tmp_path: Path) -> None:
    class Large(Counter):
        def setup(self, config, data=None):
            super().setup(config)
            self.data = data

        @classmethod
        def default_resource_request(cls, config):
            return {"cpu": 2 if cls is Large else 1}

        def step(self):
            return {**super().step(), "length": len(self.data), "cpu": self.trial_resources.required_resources["CPU"]}

    trainable = tune.with_parameters(Large, data=list(range(1000)))
    (result,) = tuner(tmp_path / "a", trainable, engine=LocalEngine(cpus=2)).fit()
    assert (result.error, result.metrics["length"], result.metrics["cpu"]) == (None, 1000, 2.0)
    trainable = tune.with_resources(trainable, {"cpu": 1})
    (result,) = tuner(tmp_path / "b", trainable, engine=LocalEngine(cpus=2)).fit()
    assert (result.error, result.metrics["length"], result.metrics["cpu"]) == (None, 1000, 1.0)


def test_what_cannot_be_is_refused_when_it_is_submitted(tmp_path: Path) -> None:
    class Light(tune.Trainable):
        def step(self):
            return {"done": self.iteration == 1}

    with pytest.raises(ValueError, match="has no save_checkpoint"):
        tuner(tmp_path, Light, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True))
    with pytest.raises(ValueError, match="which does not derive from holdfast"):
        tuner(tmp_path, dict)
    (result,) = tuner(tmp_path, Light).fit()
    assert (result.error, result.checkpoint, result.metrics["training_iteration"]) == (None, None, 2)


def test_a_restore_brings_the_same_kind_of_trainable(tmp_path: Path) -> None:
    tuner(tmp_path, Counter).fit()

    def counter(config):
        return 1

    counter._name = "Counter"
    with pytest.raises(ValueError, match="submitted with a class"):
        tune.Tuner.restore(tmp_path / "exp", counter)


def test_functions_count_timesteps_too_and_go_on_from_their_checkpoint(tmp_path: Path) -> None:
    def train(config):
        import tempfile

        start = 3 if tune.get_checkpoint() else 0
        for i in range(start, 5):
            with tempfile.TemporaryDirectory() as folder:
                saved = tune.Checkpoint(folder) if i == 2 else None
                tune.report({"timesteps_this_iter": 2, "episodes_this_iter": 1}, checkpoint=saved)
            if i == 3 and not start:
                raise RuntimeError

    run = tune.RunConfig(name="exp", storage_path=tmp_path, verbose=0, failure_config=tune.FailureConfig(max_failures=1))
    (result,) = tune.Tuner(train, run_config=run).fit()
    frame = result.metrics_dataframe
    assert list(frame["timesteps_total"]) == [2, 4, 6, 8, 10]
    assert list(frame["episodes_total"]) == [1, 2, 3, 4, 5]
    assert list(frame["timesteps_since_restore"]) == [2, 4, 6, 2, 4]


def test_the_example_runs_and_runs_again(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "class_trainable.py"
    told = []
    for _ in range(2):
        command = [sys.executable, str(example), str(tmp_path)]
        told.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-3:])
    assert told[0] == told[1]
    best = re.search(r"accuracy (0\.\d+) after 20 epochs", told[0][1])
    assert best is not None
    assert told[0][2] == f"its checkpoint, on its own: {best[1]}, at epoch 20"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_kills_at_any_moment(tmp_path: Path, start: Start) -> None:
    """Sizes and moments drawn anew each time; the seed that fails is printed."""
    for seed in (random.SystemRandom().getrandbits(32) for _ in range(30)):
        lots = random.Random(seed)
        print("seed", seed, flush=True)
        folder = tmp_path / str(seed)
        (folder / "tmp").mkdir(parents=True)
        task = Task(
            storage_path=str(folder / "results"),
            side=str(folder / "side"),
            rows=lots.choice([4, 9]),
            samples=lots.choice([1, 4]),
            every=lots.choice([0, 1, 3]),
            family=lots.random() < 0.3,
            reuse=lots.random() < 0.3,
            num_to_keep=lots.choice([None, 1, 2]),
            max_failures=20,
            by_class=True,
            environment={"TMPDIR": str(folder / "tmp")},
        )
        before = census(task)
        for _ in range(lots.randint(1, 3)):
            point = lots.choice(["after_append", "after_reply", "before_dispatch", "after_write"])
            driver = start(task, f"{point}:{lots.randint(1, 40)}=kill")
            with suppress(DriverEnded):  # it came to the named point first, or to its end
                kill_when_it_works(
                    driver, lots.choice(["driver", "worker"]), acknowledged_count(task.side) + lots.randint(1, 15), lots
                )
                driver.kill()
            driver.process.communicate()
            wait_until_all_gone(task)
        assert start(task).finish()["errors"] == []
        assert_ended_well(task, before)
