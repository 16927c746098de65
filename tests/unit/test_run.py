"""What `run` refuses, and how its arguments become a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import holdfast as tune
from holdfast._assembly.submission import JobSpec
from holdfast._projection.history import birth_of
from holdfast.errors import ConfigError, Deprecated, ExperimentNotFound, SearchSpaceError
from holdfast.schedulers import AsyncHyperBandScheduler
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage


def train(config):
    yield {"score": 1}


class Model(tune.Trainable):
    """A class that says what it needs."""

    @classmethod
    def default_resource_request(cls, config):
        return {"cpu": 1}


def job_of(path: Path) -> JobSpec:
    """The job that was submitted, and could not run."""
    storage = LocalStorage(str(path))
    return Definitions(storage).fresh(birth_of(storage).definitions["job"])


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"resume": "PROMPT"}, ConfigError, r"resume='PROMPT': True, 'LOCAL' or 'AUTO'"),
        ({"resume": "AUTO+ERRORED+ERRORED_ONLY"}, ConfigError, r"resume=.*alone or followed by one of \+ERRORED,"),
        ({"resume": "AUTO+ALL"}, ConfigError, "resume='AUTO.ALL'"),
        ({"resume": True}, ConfigError, "needs name="),
        ({"resume": True, "name": "missing"}, ExperimentNotFound, "holds no experiment"),
        ({"resume_config": tune.ResumeConfig()}, ConfigError, "give resume=True or resume='AUTO' as well"),
        ({"resume": "AUTO+ERRORED", "resume_config": tune.ResumeConfig(), "name": "x"}, ConfigError, "give one of them"),
        ({"restore": "/no/such/checkpoint"}, ConfigError, "no such checkpoint"),
        ({"export_formats": ["onnx"]}, ConfigError, "for class trainables"),
        ({"scheduler": "sha"}, ConfigError, "no scheduler 'sha'"),
        ({"search_alg": "magic"}, ConfigError, "no searcher 'magic'"),
        ({"progress_reporter": object()}, ConfigError, "progress_reporter"),
        ({"sync_config": object()}, ConfigError, "sync_config"),
        ({"storage_filesystem": object()}, ConfigError, "storage_filesystem"),
        ({"fail_fast": True, "max_failures": 2}, ConfigError, "exclude each other"),
        ({"chdir_to_trial_dir": False}, Deprecated, "RAY_CHDIR_TO_TRIAL_DIR"),
        ({"local_dir": "x"}, Deprecated, "storage_path"),
        ({"config": [1]}, ConfigError, "must be a dictionary"),
        ({"config": {"x": {"grid_search": []}}}, SearchSpaceError, "grid"),
        ({"resources_per_trial": {"cpu": 0}}, ConfigError, "ask for nothing"),
        (
            {"keep_checkpoints_num": 2, "checkpoint_config": tune.CheckpointConfig()},
            ConfigError,
            "say it all in checkpoint_config",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_nothing_written(tmp_path: Path, arguments, kind, words: str) -> None:
    with pytest.raises(kind, match=words):
        tune.run(train, storage_path=tmp_path / "results", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_resources_are_said_once(tmp_path: Path) -> None:
    for trainable in (Model, tune.with_resources(train, {"cpu": 1})):
        with pytest.raises(ConfigError, match=r"the trainable says itself.*Leave one"):
            tune.run(trainable, resources_per_trial={"cpu": 2}, storage_path=tmp_path)


def test_an_experiment_says_its_own_things_itself(tmp_path: Path) -> None:
    experiment = tune.Experiment("exp", train, storage_path=tmp_path)
    with pytest.raises(ConfigError, match=r"run\(experiment, config, num_samples\): say that in the Experiment"):
        tune.run(experiment, num_samples=2, config={"x": 1})
    with pytest.raises(ConfigError, match="give an Experiment, a list"):
        tune.run([])


def test_arguments_become_a_job(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could never run"):
        tune.run(
            train,
            name="exp",
            storage_path=tmp_path,
            metric="score",
            mode="max",
            stop={"training_iteration": 3},
            time_budget_s=60,
            config={"x": tune.uniform(0, 1)},
            resources_per_trial={"cpu": 1, "quantum": 1},
            num_samples=4,
            scheduler="asha",
            search_alg="random",
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            verbose=0,
            log_to_file=True,
            max_failures=3,
            reuse_actors=True,
            max_concurrent_trials=2,
        )
    policy = birth_of(LocalStorage(str(tmp_path / "exp"))).policy
    assert policy.request == {"cpu": 1.0, "quantum": 1.0}
    assert (policy.num_samples, policy.max_concurrent, policy.max_failures, policy.num_to_keep) == (4, 2, 3, 2)
    assert (policy.metric, policy.mode, policy.time_budget_s, policy.reuse_workers) == ("score", "max", 60.0, True)
    job = job_of(tmp_path / "exp")
    assert isinstance(job.tune_config.scheduler, AsyncHyperBandScheduler)
    assert (job.run_config.stop, job.run_config.log_to_file) == ({"training_iteration": 3}, True)


def test_the_old_words_for_checkpoints_are_understood(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="checkpoint_config"), pytest.raises(ConfigError, match="could never run"):
        tune.run(
            tune.with_resources(train, {"quantum": 1}),
            name="exp",
            storage_path=tmp_path,
            keep_checkpoints_num=2,
            checkpoint_score_attr="min-loss",
        )
    kept = job_of(tmp_path / "exp").run_config.checkpoint_config
    assert kept == tune.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute="loss", checkpoint_score_order="min")


def test_run_is_a_function_even_where_its_module_was_imported_before() -> None:
    code = "import holdfast.run, holdfast\nprint(callable(holdfast.run))\nfrom holdfast import run\nrun(7)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n"
    assert "a function, a class trainable or a registered name" in done.stderr
