"""MLflow: `MLflowLoggerCallback` logs every trial from the driver, `setup_mlflow` lets a trial log for itself.

A run is found again by its tag `holdfast.run`, and its tag `holdfast.rows`, sent in one request with each row, says how
many rows it has. MLflow drops a metric that it has already with the same step, time and value, so that a row that arrived
while its driver died may be sent again.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from holdfast import settings
from holdfast.errors import ConfigError
from holdfast.logger.tensorboard import scalars
from holdfast.logger.tracker import TrackerCallback, run_key
from holdfast.session import current
from holdfast.values import flatten, plain

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["MLflowLoggerCallback", "setup_mlflow"]

_RUN, _ROWS, _PARENT = "holdfast.run", "holdfast.rows", "mlflow.parentRunId"
_RETRIES, _TOKEN = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_TRACKING_TOKEN"
_LONGEST_PARAM, _PARAMS_AT_ONCE = 6000, 100


class MLflowLoggerCallback(TrackerCallback):
    """Logs each trial as a run: its configuration as parameters, the numbers of each row as metrics.

    Args:
        tracking_uri, registry_uri: Of the server; as MLflow finds them by itself where not given.
        experiment_name: Made where it is missing. By default `MLFLOW_EXPERIMENT_NAME`, else the experiment's own name.
        tags: Tags of each run.
        tracking_token: Set as `MLFLOW_TRACKING_TOKEN`; never stored with the experiment, so set that for a restore.
        save_artifact: Whether the trial's directory, with its checkpoints, becomes the run's artifact when the trial ends.
        log_params_on_trial_end: Whether the parameters are logged at the end instead of at the start.
        nested: Whether all runs stand under one run named like the experiment.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        registry_uri: str | None = None,
        experiment_name: str | None = None,
        tags: dict[str, Any] | None = None,
        tracking_token: str | None = None,
        save_artifact: bool = False,
        log_params_on_trial_end: bool = False,
        nested: bool = False,
    ) -> None:
        self.tracking_uri, self.registry_uri = tracking_uri, registry_uri
        self.experiment_name, self.tags, self.tracking_token = experiment_name, dict(tags or {}), tracking_token
        self.should_save_artifact, self.log_params_on_trial_end, self.nested = save_artifact, log_params_on_trial_end, nested
        self._client: Any = None
        self._experiment = ""
        self._parent = ""
        self._runs: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def target(self) -> str:
        return f"{self.tracking_uri or settings.library('MLFLOW_TRACKING_URI')} {self.experiment_name}"

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Connects to the server."""
        if not settings.library(_RETRIES):
            os.environ[_RETRIES] = "1"  # what fails is tried again by us, and reported meanwhile
        if self.tracking_token:
            os.environ[_TOKEN] = self.tracking_token
        self._client = _library().MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)

    def log_trial_start(self, trial: Trial) -> None:
        """Finds the trial's run, or makes it."""
        if self._client is None:
            self.setup()
        name = str(trial.local_path).split(os.sep)[-2]
        if not self._experiment:
            self._experiment = self._experiment_named(self.experiment_name or settings.library("MLFLOW_EXPERIMENT_NAME") or name)
        tags = {**self.tags, "trial_name": str(trial)}
        if self.nested:
            self._parent = self._parent or self._run(f"{trial.experiment_id}/all", name, self.tags)[0]
            tags[_PARENT] = self._parent
        run, there = self._run(run_key(trial), str(trial), tags)
        self._runs[trial.local_path], self._rows[trial.local_path] = run, int(there.get(_ROWS, 0))
        if not self.log_params_on_trial_end:
            self._log_params(run, trial)

    def rows_sent(self, trial: Trial) -> int:
        return self._rows[trial.local_path]

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Logs a row's numbers with its own time, at the step `timesteps_total` if there is one, else `training_iteration`."""
        from mlflow.entities import Metric, RunTag

        when = int(float(result.get("timestamp") or 0) * 1000)
        step = int(result.get("timesteps_total") or result.get("training_iteration") or iteration)
        metrics = [Metric(_named(key), value, when, step) for key, value in scalars(result)]
        self._client.log_batch(self._runs[trial.local_path], metrics=metrics, tags=[RunTag(_ROWS, str(iteration))])

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Ends the run, with its artifacts where they are wanted."""
        run = self._runs[trial.local_path]
        if self.log_params_on_trial_end:
            self._log_params(run, trial)
        if self.should_save_artifact and os.path.isdir(trial.local_path):
            self._client.log_artifacts(run, trial.local_path)
        self._client.set_terminated(run, status="FAILED" if failed else "FINISHED")
        del self._runs[trial.local_path], self._rows[trial.local_path]

    def close(self) -> None:
        """Ends the run above all others, where there is one."""
        if self._parent:
            self._client.set_terminated(self._parent)

    def _run(self, key: str, name: str, tags: dict[str, Any]) -> tuple[str, dict[str, str]]:
        """The id and the tags of the run with that key; made where there is none."""
        found = self._client.search_runs([self._experiment], f"tags.`{_RUN}` = '{key}'", max_results=1)
        if found:
            run = found[0]
            if run.info.status != "RUNNING":
                self._client.update_run(run.info.run_id, status="RUNNING")
        else:
            run = self._client.create_run(self._experiment, run_name=name, tags={**tags, _RUN: key})
        return run.info.run_id, run.data.tags

    def _experiment_named(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        made: str = found.experiment_id if found else self._client.create_experiment(name)
        return made

    def _log_params(self, run: str, trial: Trial) -> None:
        """Logs the parameters that the run does not have: MLflow never changes one."""
        from mlflow.entities import Param

        there = self._client.get_run(run).data.params
        params = [Param(key, text) for key, text in _params(trial.config).items() if key not in there]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(run, params=params[first : first + _PARAMS_AT_ONCE])

    def __getstate__(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {"_client": None, "_experiment": "", "_parent": "", "_runs": {}, "_rows": {}}
        return {**self.__dict__, **fresh, "tracking_token": None}  # no secret is stored with the experiment


def setup_mlflow(
    config: dict[str, Any] | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    tracking_token: str | None = None,
    artifact_location: str | None = None,
    run_name: str | None = None,
    create_experiment_if_not_exists: bool = False,
    tags: dict[str, Any] | None = None,
    rank_zero_only: bool = True,  # noqa: ARG001 - as in Ray Tune; a trial is one process
) -> Any:
    """Starts a run of the trial that calls it, and returns the module `mlflow` to log with.

    A later attempt of the same trial goes on with the same run. What the trial logs twice, because rows are redone after a
    crash, is there twice; `MLflowLoggerCallback` is exact.

    Args:
        config: Logged as parameters.
        tracking_uri: As for `MLflowLoggerCallback`.
        registry_uri: As for `MLflowLoggerCallback`.
        experiment_id: Where the run belongs; by default what MLflow's environment says.
        experiment_name: The same by name.
        tracking_token: As for `MLflowLoggerCallback`.
        artifact_location: Of an experiment that is made.
        run_name: By default the trial's name.
        create_experiment_if_not_exists: Whether a missing experiment is made.
        tags: Of the run.
        rank_zero_only: Without effect: a trial is one process.

    Raises:
        ConfigError: There is no such experiment, or MLflow is not installed.
    """
    mlflow = _library()
    if tracking_token:
        os.environ[_TOKEN] = tracking_token
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    if registry_uri:
        mlflow.set_registry_uri(registry_uri)
    if experiment_id is None and experiment_name is not None:
        experiment_id = _experiment_id(mlflow, experiment_name, artifact_location, create=create_experiment_if_not_exists)
    if experiment_id is not None:
        mlflow.set_experiment(experiment_id=experiment_id)
    _start_run(mlflow, run_name, tags or {})
    there = mlflow.get_run(mlflow.active_run().info.run_id).data.params
    mlflow.log_params({name: text for name, text in _params(config or {}).items() if name not in there})
    return mlflow


def _start_run(mlflow: Any, run_name: str | None, tags: dict[str, Any]) -> None:
    """Starts a run, in a trial the one that an earlier attempt had."""
    session, run_id = current(), None
    if session is not None:
        key = session.context.get_trial_dir()
        tags = {**tags, _RUN: key}
        found = mlflow.search_runs(filter_string=f"tags.`{_RUN}` = '{key}'", output_format="list", max_results=1)
        run_id = found[0].info.run_id if found else None
        run_name = run_name or session.context.get_trial_name()
    mlflow.start_run(run_id=run_id, run_name=run_name, tags=tags)


def _experiment_id(mlflow: Any, name: str, artifact_location: str | None, *, create: bool) -> str:
    found = mlflow.get_experiment_by_name(name)
    if found is None and not create:
        raise ConfigError(f"setup_mlflow: there is no experiment {name!r}; make it, or create_experiment_if_not_exists=True.")
    made: str = found.experiment_id if found else mlflow.create_experiment(name, artifact_location=artifact_location)
    return made


def _params(config: dict[str, Any]) -> dict[str, str]:
    return {_named(key): str(plain(value))[:_LONGEST_PARAM] for key, value in flatten(config).items()}


def _named(key: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:250]


def _library() -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise ConfigError("MLflow is not installed: pip install 'holdfast[mlflow]'.") from error
    return mlflow
