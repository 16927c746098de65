"""Experiments read back: the best, the rows, the frames, of one and of several."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest

import holdfast as tune
from holdfast.analysis import ExperimentAnalysis
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import ConfigError, ExperimentNotFound, NotFitted

ROWS = 4


def play(config, state=None):
    """Rows that fall from 3 x to 0 and rise to x at the end, each with a checkpoint."""
    for i in range(ROWS):
        yield {"loss": config["x"] * (1 if i == ROWS - 1 else ROWS - 2 - i), "deep": {"i": i}}, i


def fitted(path: Path, name: str = "exp", values=(3.0, 1.0, 2.0), trainable=play, metric="loss", mode="min") -> str:
    grid = tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search(list(values)), "n": {"fixed": 7}},
        tune_config=tune.TuneConfig(metric=metric, mode=mode, seed=1),
        run_config=tune.RunConfig(name=name, storage_path=path, verbose=0, engine=SimulatedEngine(workers=2)),
    ).fit()
    return grid.experiment_path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fitted(tmp_path_factory.mktemp("analysis"))


@pytest.fixture
def analysis(path: str) -> ExperimentAnalysis:
    return ExperimentAnalysis(path)


def test_metric_and_mode_are_the_jobs_unless_said(path: str, analysis: ExperimentAnalysis) -> None:
    assert (analysis.default_metric, analysis.default_mode) == ("loss", "min")
    other = ExperimentAnalysis(path, default_metric="deep/i", default_mode="max")
    assert (other.default_metric, other.default_mode) == ("deep/i", "max")
    assert other.best_trial.last_result["deep"]["i"] == ROWS - 1


def test_the_best(analysis: ExperimentAnalysis) -> None:
    best = analysis.best_trial
    assert best is analysis.trials[1]
    assert analysis.best_config == {"x": 1.0, "n": {"fixed": 7}}
    assert analysis.best_result["loss"] == 1.0
    assert analysis.best_result["training_iteration"] == ROWS
    assert analysis.best_checkpoint.path == f"{best.path}/checkpoint_000002"
    assert list(analysis.best_dataframe["loss"]) == [2.0, 1.0, 0.0, 1.0]
    assert list(analysis.best_result_df.index) == [best.trial_id]
    assert analysis.best_result_df["config/x"].item() == 1.0
    assert analysis.get_best_logdir() == best.path


@pytest.mark.parametrize(
    ("mode", "scope", "x"), [("max", "last", 3.0), ("min", "last", 1.0), ("max", "all", 3.0), ("min", "avg", 1.0)]
)
def test_scopes(analysis: ExperimentAnalysis, mode: str, scope: str, x: float) -> None:
    assert analysis.get_best_config("loss", mode, scope)["x"] == x
    assert analysis.get_best_trial("loss", mode, scope).config["x"] == x


def test_frames(analysis: ExperimentAnalysis) -> None:
    ids = [trial.trial_id for trial in analysis.trials]
    assert list(analysis.dataframe()["trial_id"]) == ids
    assert list(analysis.dataframe()["loss"]) == [3.0, 1.0, 2.0]
    assert list(analysis.dataframe("loss", "max")["loss"]) == [6.0, 2.0, 4.0]
    assert list(analysis.dataframe(metric="loss")["loss"]) == [3.0, 1.0, 2.0]
    assert [Path(logdir).is_dir() for logdir in analysis.dataframe()["logdir"]] == [True] * 3
    assert list(analysis.results_df.index) == ids
    assert {trial_id: len(frame) for trial_id, frame in analysis.trial_dataframes.items()} == dict.fromkeys(ids, ROWS)


def test_configs_and_results(analysis: ExperimentAnalysis) -> None:
    first = analysis.trials[0].trial_id
    assert analysis.get_all_configs()[first] == {"x": 3.0, "n": {"fixed": 7}}
    assert analysis.get_all_configs(prefix=True)[first] == {"config/x": 3.0, "config/n/fixed": 7}
    assert analysis.results[first]["loss"] == 3.0


def test_trials_are_as_callbacks_know_them(analysis: ExperimentAnalysis) -> None:
    trial = analysis.trials[0]
    assert (trial.status, trial.trainable_name) == (trial.TERMINATED, "play")
    assert trial.metric_analysis["loss"] == {
        "max": 6.0, "min": 0.0, "avg": 3.0, "last": 3.0, "last-5-avg": 3.0, "last-10-avg": 3.0
    }  # fmt: skip
    assert trial.placement_group_factory == tune.PlacementGroupFactory([{"CPU": 1}])
    assert pickle.loads(pickle.dumps(trial)) == trial


def test_checkpoints_by_trial_id_and_directory(analysis: ExperimentAnalysis) -> None:
    trial = analysis.trials[2]
    for said in (trial, trial.trial_id, trial.path):
        assert analysis.get_best_checkpoint(said, "loss", "max").path == f"{trial.path}/checkpoint_000000"
        assert analysis.get_last_checkpoint(said).path == f"{trial.path}/checkpoint_000003"
    assert analysis.get_last_checkpoint(metric="loss", mode="min").path == f"{analysis.trials[1].path}/checkpoint_000003"
    with pytest.raises(ConfigError, match="'elsewhere' is no trial"):
        analysis.get_best_checkpoint("elsewhere")


def test_some_trials_only(path: str, analysis: ExperimentAnalysis) -> None:
    some = ExperimentAnalysis(path, trials=[analysis.trials[0], analysis.trials[2]])
    assert [trial.config["x"] for trial in some.trials] == [3.0, 2.0]
    assert some.best_config["x"] == 2.0
    assert list(some.dataframe()["config/x"]) == [3.0, 2.0]
    assert list(some.best_dataframe["config/x"]) == [2.0] * ROWS


def test_several_experiments_together(tmp_path: Path) -> None:
    paths = [fitted(tmp_path, "a", (3.0, 2.0)), fitted(tmp_path, "b", (5.0, 1.0))]
    both = ExperimentAnalysis(paths)
    assert [trial.config["x"] for trial in both.trials] == [3.0, 2.0, 5.0, 1.0]
    assert both.best_config["x"] == 1.0
    assert both.get_best_config("loss", "max", "all")["x"] == 5.0
    assert list(both.dataframe()["config/x"]) == [3.0, 2.0, 5.0, 1.0]
    assert both.experiment_path == paths[0]


@pytest.mark.parametrize("form", [str, Path, lambda path: f"file://{path}"])
def test_paths_of_every_form(path: str, form) -> None:
    assert ExperimentAnalysis(form(path)).experiment_path == path


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ExperimentNotFound):
        ExperimentAnalysis(tmp_path)
    with pytest.raises(ConfigError, match="give the path"):
        ExperimentAnalysis([])
    with pytest.raises(ConfigError, match="storage_filesystem"):
        ExperimentAnalysis(tmp_path, storage_filesystem=object())


def test_no_metric_is_known(tmp_path: Path) -> None:
    plain = ExperimentAnalysis(fitted(tmp_path, metric=None, mode=None))
    with pytest.raises(ConfigError, match="No metric or no mode is known"):
        _ = plain.best_config
    with pytest.raises(ConfigError, match="No metric or no mode is known"):
        plain.get_best_trial(metric="loss")
    assert plain.get_best_config("loss", "min")["x"] == 1.0
    with pytest.warns(UserWarning, match="No best trial found for the metric 'accuracy'"):
        assert plain.get_best_trial("accuracy", "max") is None
    with pytest.warns(UserWarning, match="No best trial"):
        assert plain.get_best_config("accuracy", "max") is None


def test_nan_wins_only_where_it_may(tmp_path: Path) -> None:
    def broken(config):
        yield {"loss": math.nan}

    lost = ExperimentAnalysis(fitted(tmp_path, trainable=broken))
    with pytest.warns(UserWarning, match="No best trial"), pytest.raises(NotFitted, match="no trial has a finite number"):
        _ = lost.best_trial
    assert lost.get_best_trial(filter_nan_and_inf=False) is lost.trials[0]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    path = Path(fitted(tmp_path))
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    analysis = ExperimentAnalysis(path)
    assert (analysis.best_trial, len(analysis.trial_dataframes)) == (analysis.trials[1], 3)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before
