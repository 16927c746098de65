"""The inline engine as a user has it: breakpoints, Ctrl+C, `kill -9` and a restore on either engine."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import holdfast as tune
from holdfast._core.events import EpochEnded
from holdfast._journal import last_of_ended
from holdfast.engines.inline import InlineEngine
from holdfast.errors import ConfigError
from holdfast.storage.local import LocalStorage
from holdfast.testing.engine_stage import alive
from holdfast.testing.history import check_history
from holdfast.testing.simulation import digest
from integration.drivers import Start, Task, acknowledged, acknowledged_count, needlessly_redone, wait_until, wait_until_all_gone

INLINE = {"HOLDFAST_ENGINE": "inline"}


@pytest.mark.parametrize("last", ["inline", "local"])
@pytest.mark.parametrize("every", [1, 5])
def test_killed_and_restored_it_ends_as_one_that_was_not(tmp_path: Path, start: Start, every: int, last: str) -> None:
    task = Task(
        str(tmp_path / "a"), str(tmp_path / "side-a"), rows=10, samples=5, workers=1, every=every, asha=True, unique=False,
        environment=INLINE,
    )  # fmt: skip
    start(task).finish()
    whole = acknowledged_count(task.side)
    lots = random.Random(f"{every}{last}")
    moments = [lots.randint(2, whole // 2), lots.randint(whole // 2 + 1, whole - 2)]
    print("seed", f"{every}{last}", "rows", moments, "of", whole)
    killed = replace(task, storage_path=str(tmp_path / "b"), side=str(tmp_path / "side-b"))
    for rows in moments:
        driver = start(killed)
        wait_until(lambda rows=rows: acknowledged_count(killed.side) >= rows, doing=driver)
        driver.kill()
        wait_until_all_gone(killed)
    start(replace(killed, environment={"HOLDFAST_ENGINE": last})).finish()
    assert digest(killed.storage) == digest(task.storage)
    for one in (task, killed):
        assert check_history(one.storage, acknowledged(one.side)) == []
    assert needlessly_redone(killed.side) == []


def test_an_interrupt_reaches_a_trial_that_does_not_report(tmp_path: Path, start: Start) -> None:
    task = Task(str(tmp_path / "a"), str(tmp_path / "side"), rows=3, samples=2, pace_s=600.0, environment=INLINE)
    driver = start(task)
    wait_until(lambda: Path(task.side).exists(), doing=driver)
    driver.process.send_signal(signal.SIGINT)
    driver.process.communicate(timeout=30)
    assert driver.process.returncode != 0
    last = last_of_ended(task.storage)
    assert last is not None
    assert last.event == EpochEnded("interrupted", f"signal {signal.SIGINT.value}")


def run_script(tmp_path: Path, script: str, text: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "script.py").write_text(script)
    environment = {**os.environ, "HOLDFAST_RESULTS_DIR": str(tmp_path / "results")}
    command = [sys.executable, str(tmp_path / "script.py")]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_a_breakpoint_works(tmp_path: Path) -> None:
    script = """
import holdfast as tune

def train(config):
    doubled = config["x"] * 2
    breakpoint()
    tune.report({"doubled": doubled})

run = tune.RunConfig(name="exp", engine="inline", verbose=0)
grid = tune.Tuner(train, param_space={"x": tune.grid_search([3, 4])}, run_config=run).fit()
print([result.metrics["doubled"] for result in grid])
"""
    done = run_script(tmp_path, script, "p doubled\ndoubled = 100\nc\np doubled\nc\n")
    assert done.returncode == 0, done.stderr
    assert "(Pdb) 6" in done.stdout
    assert "(Pdb) 8" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("[100, 8]")


def test_what_a_trial_prints_goes_to_the_terminal_and_its_exit_to_the_driver(tmp_path: Path) -> None:
    script = """
import os
import holdfast as tune

def train(config):
    print("a trial speaks", flush=True)
    tune.report({"x": 1})
    os._exit(7)

tune.Tuner(train, run_config=tune.RunConfig(name="exp", engine="inline", verbose=0)).fit()
"""
    done = run_script(tmp_path, script)
    assert (done.returncode, done.stdout) == (7, "a trial speaks\n")

    def train(config: dict[str, Any]) -> None:
        raise AssertionError("the trial was to be ended with what it has")

    (result,) = tune.Tuner.restore(str(tmp_path / "results" / "exp"), train, resume_unfinished=False).fit()
    assert (result.metrics["x"], result.error) == (1, None)


def test_a_program_that_a_killed_trial_had_started_ends_with_the_next_restore(tmp_path: Path) -> None:
    script = """
import os, subprocess, sys
import holdfast as tune

def train(config):
    if not os.path.exists("started"):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        open("started", "w").write(str(child.pid))
        os.kill(os.getpid(), 9)
    return {"x": 1}

path = os.path.join(os.environ["HOLDFAST_RESULTS_DIR"], "exp")
if tune.Tuner.can_restore(path):
    tune.Tuner.restore(path, train).fit()
else:
    tune.Tuner(train, run_config=tune.RunConfig(name="exp", engine="inline", verbose=0)).fit()
"""
    assert run_script(tmp_path, script).returncode == -signal.SIGKILL
    (started,) = (tmp_path / "results" / "exp").glob("*/started")
    assert alive(int(started.read_text()))
    assert run_script(tmp_path, script).returncode == 0
    assert not alive(int(started.read_text()))


class Stepping(tune.Trainable):
    """Cleans up, saves at its end, and is in this process."""

    def setup(self, config: dict[str, Any]) -> None:
        self.n = 0

    def step(self) -> dict[str, Any]:
        self.n += 1
        return {"n": self.n, "pid": os.getpid(), "done": self.n == 3}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
        return {"n": self.n}

    def load_checkpoint(self, checkpoint: dict[str, int]) -> None:
        self.n = checkpoint["n"]

    def cleanup(self) -> None:
        Path("cleaned").write_text(str(self.n))


def tuner(trainable: Any, tmp_path: Path, **changes: Any) -> tune.Tuner:
    space = changes.pop("space", None)
    run = {"name": "exp", "storage_path": str(tmp_path), "verbose": 0, "engine": "inline", **changes}
    return tune.Tuner(trainable, param_space=space, run_config=tune.RunConfig(**run))


def test_a_class_trainable_runs_inline(tmp_path: Path) -> None:
    (result,) = tuner(Stepping, tmp_path).fit()
    assert (result.metrics["n"], result.metrics["pid"], result.error) == (3, os.getpid(), None)
    assert result.checkpoint is not None
    assert Path(result.path, "cleaned").read_text() == "3"
    assert check_history(LocalStorage(str(tmp_path / "exp")), []) == []


def test_a_class_trainable_that_is_interrupted_cleans_up_and_goes_on(tmp_path: Path) -> None:
    class Interrupt(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            if result["n"] == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    checkpoints = tune.CheckpointConfig(checkpoint_frequency=1)
    with pytest.raises(tune.ExperimentInterrupted) as interrupted:
        tuner(Stepping, tmp_path, callbacks=[Interrupt()], checkpoint_config=checkpoints).fit()
    assert Path(interrupted.value.results[0].path, "cleaned").read_text() == "1"
    (result,) = tune.Tuner.restore(str(tmp_path / "exp"), Stepping, engine="inline").fit()
    assert [row["n"] for row in result.metrics_dataframe.to_dict("records")] == [1, 2, 3]


def test_failed_trials_do_not_end_fit_and_each_attempt_counts(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        tune.report({"x": 1})
        raise ValueError("on purpose")

    grid = tuner(train, tmp_path, space={"x": tune.grid_search([1, 2])}, failure_config=tune.FailureConfig(max_failures=2)).fit()
    assert [type(error) for error in grid.errors] == [ValueError, ValueError]
    assert check_history(LocalStorage(str(tmp_path / "exp")), []) == []


def test_a_schedulers_stop_unwinds_the_trial(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        try:
            for step in range(100):
                tune.report({"step": step})
        finally:
            Path("unwound").touch()

    (result,) = tuner(train, tmp_path, stop={"training_iteration": 4}).fit()
    assert result.metrics["training_iteration"] == 4
    assert Path(result.path, "unwound").exists()


def test_an_error_in_a_callback_leaves_fit_as_itself(tmp_path: Path) -> None:
    class Broken(tune.Callback):
        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
            raise ZeroDivisionError("the callback's own")

    def train(config: dict[str, Any]) -> None:
        try:
            tune.report({"x": 1})
        except Exception as error:
            raise AssertionError("the driver's error reached the trial") from error

    with pytest.raises(ZeroDivisionError, match="the callback's own"):
        tuner(train, tmp_path, callbacks=[Broken()]).fit()
    assert tune.Tuner.can_restore(str(tmp_path / "exp"))


def test_it_may_be_named_by_the_environment_and_in_any_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_ENGINE", "inline")
    found: list[Any] = []

    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"thread": threading.get_ident(), "pid": os.getpid()}

    thread = threading.Thread(target=lambda: found.extend(tuner(train, tmp_path, engine=None).fit()))
    thread.start()
    ident = thread.ident
    thread.join()
    assert (found[0].metrics["thread"], found[0].metrics["pid"]) == (ident, os.getpid())


def test_a_trial_may_ask_for_more_than_the_machine_has(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> dict[str, Any]:
        return {"cpus": tune.get_context().get_trial_resources().required_resources["CPU"]}

    (result,) = tuner(tune.with_resources(train, {"cpu": 1000}), tmp_path).fit()
    assert result.metrics["cpus"] == 1000


def test_trials_that_ask_for_different_amounts_run_one_by_one(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        for step in range(2):
            tune.report({"step": step})

    asked = tune.with_resources(train, lambda config: {"cpu": config["x"]})
    space = {"x": tune.grid_search([1, 2, 3])}
    grid = tuner(asked, tmp_path / "a", space=space, engine=InlineEngine({"cpu": 4})).fit()
    assert (len(grid), grid.num_errors) == (3, 0)
    assert check_history(LocalStorage(str(tmp_path / "a" / "exp")), []) == []


def test_an_unknown_engine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'inline' one by one"):
        tuner(lambda _: None, tmp_path, engine="in-line").fit()
