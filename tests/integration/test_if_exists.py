"""`RunConfig(if_exists=...)`: one script that starts, goes on, or begins another."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import holdfast as tune
from holdfast.errors import ConfigError, ExperimentExists, JobChanged
from holdfast.stopper import MaximumIterationStopper

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def train(config: dict[str, Any]) -> None:
    for i in range(3):
        tune.report({"i": i + config["x"]})
    if config["sick"] is not None and os.path.exists(config["sick"]):
        raise LookupError("not yet")


def tuner(tmp_path: Path, how: str, space: dict[str, Any] | None = None, samples: int = 2, **run: Any) -> tune.Tuner:
    return tune.Tuner(
        train,
        param_space=space or {"x": tune.uniform(0, 1), "sick": None},
        tune_config=tune.TuneConfig(num_samples=samples),
        run_config=tune.RunConfig(
            **{
                "name": "exp",
                "storage_path": str(tmp_path / "results"),
                "verbose": 0,
                "engine": "inline",
                "if_exists": how,
                **run,
            }
        ),
    )


def numbers(results: Any) -> list[float]:
    return [result.config["x"] for result in results]


def test_by_default_a_name_that_is_taken_is_refused_and_the_error_names_the_ways_on(tmp_path: Path) -> None:
    tuner(tmp_path, "error").fit()
    with pytest.raises(ExperimentExists, match=r"if_exists='resume'.*if_exists='new'"):
        tuner(tmp_path, "error").fit()


def test_one_script_starts_and_goes_on(tmp_path: Path) -> None:
    first = tuner(tmp_path, "resume").fit()
    second = tuner(tmp_path, "resume").fit()
    assert numbers(second) == numbers(first)
    assert os.listdir(tmp_path / "results") == ["exp"]


def test_what_was_submitted_and_never_run_is_gone_on_with(tmp_path: Path) -> None:
    tuner(tmp_path, "error")
    assert len(tuner(tmp_path, "resume").fit()) == 2


def test_failed_trials_are_left_as_a_restore_leaves_them(tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    sick.touch()
    space = {"x": 1, "sick": str(sick)}
    assert tuner(tmp_path, "resume", space).fit().num_errors == 2
    sick.unlink()
    assert tuner(tmp_path, "resume", space).fit().num_errors == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"samples": 3},
        {"space": {"x": tune.uniform(0, 2), "sick": None}},
        {"space": {"x": tune.uniform(0, 1), "sick": None, "more": 1}},
        {"stop": MaximumIterationStopper(2)},
        {"failure_config": tune.FailureConfig(max_oom=1)},
    ],
)
def test_another_job_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    tuner(tmp_path, "resume").fit()
    with pytest.raises(JobChanged):
        tuner(tmp_path, "resume", **changed)


def test_a_new_one_takes_the_next_free_name(tmp_path: Path) -> None:
    for number in range(3):
        results = tuner(tmp_path, "new").fit()
        assert os.path.basename(results.experiment_path) == ("exp" if number == 0 else f"exp_{number}")
    assert sorted(os.listdir(tmp_path / "results")) == ["exp", "exp_1", "exp_2"]


def test_a_new_one_does_not_take_the_place_of_one_that_was_not_run_yet(tmp_path: Path) -> None:
    first, second = tuner(tmp_path, "new"), tuner(tmp_path, "new")
    assert {os.path.basename(it.fit().experiment_path) for it in (second, first)} == {"exp", "exp_1"}


def test_resuming_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="needs name="):
        tune.RunConfig(if_exists="resume")
