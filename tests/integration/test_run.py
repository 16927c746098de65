"""`run` and `run_experiments` on real processes: killed, resumed, begun from a checkpoint, failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import cloudpickle
import pytest

import holdfast as tune
from holdfast._projection.history import load_state
from holdfast.errors import ExperimentExists, JobChanged, TrialsFailed, TuneError
from holdfast.schedulers import ASHAScheduler
from holdfast.storage.local import LocalStorage
from holdfast.testing import check_history
from integration.drivers import wait_until

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ROWS = 5


def train(config):
    """Five rows, each with a checkpoint of the next number; goes on from the newest."""
    newest = tune.get_checkpoint()
    start = int(Path(newest.path, "next").read_text()) if newest else 0
    for i in range(start, ROWS):
        folder = Path(tune.get_context().get_trial_dir(), f"made_{i}")
        folder.mkdir(exist_ok=True)
        (folder / "next").write_text(str(i + 1))
        if config.get("fails") and i == 2:
            raise ArithmeticError("as asked")
        tune.report({"i": i, "loss": config.get("x", 1.0) * (i + 1)}, checkpoint=tune.Checkpoint(folder))


class Model(tune.Trainable):
    """Counts its steps."""

    def setup(self, config):
        self.n = 0

    def step(self):
        self.n += 1
        return {"n": self.n}

    def save_checkpoint(self, checkpoint_dir):
        return {"n": self.n}

    def load_checkpoint(self, checkpoint):
        self.n = checkpoint["n"]

    def export_model(self, export_formats, export_dir=None):
        for name in export_formats:
            Path(export_dir or self.logdir, f"model.{name}").write_text(str(self.n))
        return {}


def quietly(path: Path, trainable=train, **arguments):
    return tune.run(trainable, storage_path=path, verbose=0, **{"name": "exp", **arguments})


def test_what_it_returns(tmp_path: Path) -> None:
    analysis = quietly(tmp_path, config={"x": tune.grid_search([2.0, 1.0])}, metric="loss", mode="min", num_samples=2)
    assert [trial.status for trial in analysis.trials] == ["TERMINATED"] * 4
    assert analysis.best_config == {"x": 1.0}
    assert analysis.experiment_path == str(tmp_path / "exp")
    assert Path(analysis.best_checkpoint.path, "next").read_text() == "1"
    assert list(analysis.dataframe("loss", "max")["loss"]) == [10.0, 5.0, 10.0, 5.0]


def test_a_name_that_exists_needs_resume(tmp_path: Path) -> None:
    first = quietly(tmp_path)
    with pytest.raises(ExperimentExists, match="resume=True"):
        quietly(tmp_path)
    for resume in (True, "AUTO", "LOCAL"):
        again = quietly(tmp_path, resume=resume)
        assert [trial.trial_id for trial in again.trials] == [trial.trial_id for trial in first.trials]
    with pytest.raises(JobChanged, match="num_samples was 1, is 3"):
        quietly(tmp_path, num_samples=3, resume=True)
    with pytest.raises(JobChanged, match="param_space on restore has other keys"):
        quietly(tmp_path, config={"y": 1}, resume=True)


SCRIPT = """
import os, sys, time
import holdfast as tune

def train(config):
    newest = tune.get_checkpoint()
    start = int(open(newest.path + "/next").read()) if newest else 0
    for i in range(start, 12):
        os.makedirs(f"made_{i}", exist_ok=True)
        with open(f"made_{i}/next", "w") as file:
            file.write(str(i + 1))
        tune.report({"loss": config["x"] * (i + 1), "i": i}, checkpoint=tune.Checkpoint(f"made_{i}"))
        with open(os.environ["SIDE"], "a") as file:
            file.write(".")
        time.sleep(0.01)

analysis = tune.run(
    train, name="exp", storage_path=sys.argv[1], config={"x": tune.uniform(0, 1)}, num_samples=4, metric="loss", mode="min",
    resources_per_trial=lambda spec: {"cpu": 1 if spec.config.x > 0.5 else 2}, resume="AUTO", verbose=0,
)
import json
print(json.dumps({"best": analysis.best_config["x"], "rows": [len(f) for f in analysis.trial_dataframes.values()]}))
"""


def test_a_script_that_is_killed_and_started_again_goes_on(tmp_path: Path) -> None:
    script, side = tmp_path / "script.py", tmp_path / "side"
    script.write_text(SCRIPT)
    environment = {**os.environ, "HOLDFAST_CPUS": "2", "SIDE": str(side)}
    command = [sys.executable, str(script), str(tmp_path / "r")]
    for kills in (3, 17, 30):
        driver = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            wait_until(lambda kills=kills: side.exists() and len(side.read_bytes()) >= kills)
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    state = load_state(LocalStorage(str(tmp_path / "r" / "exp")))
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rows"] == [12] * 4
    assert state.epoch.epoch >= 2
    assert {trial.resources["cpu"] for trial in state.trials.values()} <= {1.0, 2.0}
    assert check_history(LocalStorage(str(tmp_path / "r" / "exp"))) == []


class TestFailures:
    def test_failed_trials_raise_at_the_end(self, tmp_path: Path) -> None:
        with pytest.raises(TrialsFailed, match="1 of 2 trials failed") as caught:
            quietly(tmp_path, config={"fails": tune.grid_search([True, False])})
        assert isinstance(caught.value, TuneError)
        assert [trial.status for trial in caught.value.analysis.trials] == ["ERROR", "TERMINATED"]
        assert caught.value.trials == [caught.value.analysis.trials[0].trial_id]

    def test_or_not(self, tmp_path: Path) -> None:
        analysis = quietly(tmp_path, config={"fails": True}, raise_on_failed_trial=False)
        assert [trial.status for trial in analysis.trials] == ["ERROR"]

    def test_fail_fast_raise_raises_the_trials_own(self, tmp_path: Path) -> None:
        with pytest.raises(ArithmeticError, match="as asked"):
            quietly(tmp_path, config={"fails": True}, fail_fast="raise")

    @pytest.mark.parametrize(("suffix", "rows", "directory"), [("ERRORED", 5, ""), ("RESTART_ERRORED", 5, "_restart1")])
    def test_failed_ones_go_on_or_begin_anew(self, tmp_path: Path, suffix: str, rows: int, directory: str) -> None:
        def sick(config):
            train({"fails": not (Path(config["marker"]).exists())})

        sick._name = "patient"
        marker = str(tmp_path / "well")
        with pytest.raises(TrialsFailed):
            quietly(tmp_path, sick, config={"marker": marker})
        Path(marker).touch()
        analysis = quietly(tmp_path, sick, resume=f"LOCAL+{suffix}")
        (trial,) = analysis.trials
        assert (trial.status, len(analysis.trial_dataframes[trial.trial_id])) == ("TERMINATED", rows)
        assert trial.path.endswith(directory)


class TestFromACheckpoint:
    def test_functions_get_it(self, tmp_path: Path) -> None:
        first = quietly(tmp_path, name="first")
        begun = first.get_best_checkpoint(first.trials[0], "i", "min")
        second = quietly(tmp_path, name="second", restore=begun.path)
        (frame,) = second.trial_dataframes.values()
        assert list(frame["i"]) == [1, 2, 3, 4]
        assert list(frame["training_iteration"]) == [2, 3, 4, 5]

    def test_classes_load_it_and_export_at_the_end(self, tmp_path: Path) -> None:
        first = quietly(tmp_path, Model, name="first", stop={"training_iteration": 3}, export_formats=["txt", "onnx"])
        trial = first.trials[0]
        assert Path(trial.path, "model.txt").read_text() == "3"
        assert Path(trial.path, "model.onnx").read_text() == "3"
        second = quietly(tmp_path, Model, name="second", stop={"n": 5}, restore=first.get_last_checkpoint(trial))
        (frame,) = second.trial_dataframes.values()
        assert list(frame["n"]) == [4, 5]
        assert list(frame["training_iteration"]) == [4, 5]
        assert not Path(second.trials[0].path, "model.txt").exists()

    def test_one_that_is_gone_is_a_failure_that_says_so(self, tmp_path: Path) -> None:
        gone = tmp_path / "saved"
        gone.mkdir()
        (gone / "next").write_text("1")

        class Removes(tune.Callback):
            def setup(self, **info):
                (gone / "next").unlink()
                gone.rmdir()

        with pytest.raises(TrialsFailed) as caught:
            quietly(tmp_path, restore=gone, callbacks=[Removes()])
        state = load_state(LocalStorage(str(tmp_path / "exp")))
        (trial,) = state.trials.values()
        assert "The checkpoint that trials begin from is gone" in trial.failure.message
        assert len(caught.value.trials) == 1


class TestExperiments:
    def test_a_dictionary_of_them(self, tmp_path: Path) -> None:
        trials = tune.run_experiments(
            {
                "a": {"run": train, "config": {"x": 2.0}, "storage_path": tmp_path},
                "b": {"run": train, "num_samples": 2, "storage_path": tmp_path},
            },
            verbose=0,
            scheduler=ASHAScheduler(metric="loss", mode="min"),
        )
        assert [Path(trial.path).parent.name for trial in trials] == ["a", "b", "b"]
        assert trials[0].last_result["loss"] == 10.0

    def test_a_list_of_them_and_resume(self, tmp_path: Path) -> None:
        listed = [tune.Experiment(name, train, storage_path=tmp_path, config={"x": x}) for name, x in (("a", 3.0), ("b", 1.0))]
        analysis = tune.run(listed, metric="loss", mode="min", verbose=0)
        assert analysis.best_config == {"x": 1.0}
        again = tune.run(listed, metric="loss", mode="min", verbose=0, resume=True)
        assert [trial.trial_id for trial in again.trials] == [trial.trial_id for trial in analysis.trials]

    def test_a_registered_name_with_resources(self, tmp_path: Path) -> None:
        tune.register_trainable("by_name", train, warn=False)
        analysis = quietly(tmp_path, "by_name", resources_per_trial={"cpu": 2})
        assert analysis.trials[0].trainable_name == "by_name"
        assert analysis.trials[0].placement_group_factory.required_resources == {"CPU": 2.0}
        assert len(quietly(tmp_path, "by_name", resume=True, resources_per_trial={"cpu": 2}).trials) == 1


class Ends(tune.Callback):
    """Ends the first driver at the third row; notes what completes."""

    def __init__(self, marker: Path) -> None:
        self.marker, self.completed = marker, []

    def on_trial_result(self, iteration, trials, trial, result, **info):
        if result["i"] == 2 and not self.marker.exists():
            self.marker.touch()
            raise ZeroDivisionError

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.completed.append(trial.trial_id)


def test_callbacks_of_a_resumed_run_are_the_users_own(tmp_path: Path) -> None:
    first, second = Ends(tmp_path / "ended"), Ends(tmp_path / "ended")
    with pytest.raises(ZeroDivisionError):
        quietly(tmp_path, callbacks=[first])
    analysis = quietly(tmp_path, callbacks=[second], resume=True)
    assert (first.completed, second.completed) == ([], [analysis.trials[0].trial_id])


def test_it_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quietly(tmp_path)
