"""`setup_wandb` and `setup_mlflow` in trials, without a server."""

from __future__ import annotations

import pytest

import holdfast as tune
from holdfast.errors import ConfigError
from holdfast.integration.mlflow import setup_mlflow
from holdfast.integration.wandb import WandbLoggerCallback, setup_wandb


def with_wandb(config):
    run = setup_wandb(config, mode="offline", settings={"console": "off", "silent": True})
    for n in range(2):
        run.log({"loss": n})
        tune.report({"loss": n, "id": run.id, "name": run.name, "group": run.group, "project": run.project})
    run.finish()


def test_setup_wandb_names_the_run_after_the_trial(tmp_path):
    run_config = tune.RunConfig(name="exp", storage_path=str(tmp_path), verbose=0)
    (result,) = tune.Tuner(with_wandb, param_space={"lr": 0.1}, run_config=run_config).fit()
    row = result.metrics
    assert (row["id"], row["group"], row["project"]) == (row["trial_id"], "exp", "exp")
    assert row["name"] == f"with_wandb_{row['trial_id']}"
    assert len(list((tmp_path / "exp").glob("with_wandb_*/wandb/offline-run-*/*.wandb"))) == 1


def with_mlflow(config):
    mlflow = setup_mlflow(
        config, tracking_uri=config["uri"], experiment_name="here", create_experiment_if_not_exists=True, tags={"team": "a"}
    )
    tune.report({"run": mlflow.active_run().info.run_id})
    if tune.get_context().get_trial_id().endswith("0") and not mlflow.get_run(mlflow.active_run().info.run_id).data.metrics:
        mlflow.log_metric("first", 1.0)
        raise ValueError("once")


def test_setup_mlflow_goes_on_with_the_run_of_an_earlier_attempt(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run_config = tune.RunConfig(
        name="exp", storage_path=str(tmp_path), verbose=0, failure_config=tune.FailureConfig(max_failures=1)
    )
    (result,) = tune.Tuner(with_mlflow, param_space={"lr": 0.1, "uri": f"file://{tmp_path}/ml"}, run_config=run_config).fit()
    assert result.error is None
    runs = [path.parent.name for path in (tmp_path / "ml").glob("*/*/meta.yaml") if path.parent.name != "models"]
    assert runs == [result.metrics["run"]]
    (params,) = (tmp_path / "ml").glob("*/*/params/lr")
    assert params.read_text() == "0.1"


def test_a_missing_experiment_and_an_unreadable_key_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with pytest.raises(ConfigError, match="create_experiment_if_not_exists"):
        setup_mlflow(tracking_uri=f"file://{tmp_path}/ml", experiment_name="nowhere")
    with pytest.raises(ConfigError, match="api_key_file"):
        WandbLoggerCallback(api_key_file=str(tmp_path / "none")).setup()
