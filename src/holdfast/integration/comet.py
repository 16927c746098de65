"""Comet: `CometLoggerCallback` logs every trial from the driver.

Offline, an archive is complete when the trial has ended; what a killed driver left of one is removed and the archive made
anew from the journal. Online, a count beside the trial says how many rows were handed to Comet.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Any

from holdfast.errors import ConfigError
from holdfast.logger.tensorboard import scalars
from holdfast.logger.tracker import TrackerCallback, run_key
from holdfast.values import flatten, plain

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["CometLoggerCallback"]

_PLAIN = {  # only what trials report is logged, nothing of the driver's own process
    "auto_histogram_weight_logging": False,
    "auto_metric_logging": False,
    "auto_output_logging": False,
    "auto_param_logging": False,
    "display_summary_level": 0,
    "log_code": False,
    "log_env_details": False,
    "log_git_metadata": False,
    "log_git_patch": False,
    "log_graph": False,
    "parse_args": False,
}


class CometLoggerCallback(TrackerCallback):
    """Logs each trial as an experiment of Comet: its configuration as parameters, the numbers of each row as metrics.

    Args:
        online: Whether it goes to Comet's servers, for which `COMET_API_KEY` must be set; otherwise each trial's directory gets
            an archive `comet/<key>.zip`, for `comet upload`.
        tags: Of each experiment.
        save_checkpoints: Whether the files of each checkpoint become assets, if they are still there then.
        **experiment_kwargs: For `comet_ml.Experiment` or `OfflineExperiment`, such as `project_name`.
    """

    def __init__(
        self, online: bool = True, tags: list[str] | None = None, save_checkpoints: bool = False, **experiment_kwargs: Any
    ) -> None:
        self.online, self.tags, self.save_checkpoints = online, list(tags or []), save_checkpoints
        self.experiment_kwargs = experiment_kwargs
        self._experiments: dict[str, Any] = {}

    def target(self) -> str:
        return f"{self.online} {self.experiment_kwargs.get('project_name')} {self.experiment_kwargs.get('workspace')}"

    def log_trial_start(self, trial: Trial) -> None:
        """Begins the trial's experiment; online, goes on with it."""
        comet, folder = _library(), _folder(trial)
        os.makedirs(folder, exist_ok=True)
        about = {**_PLAIN, **self.experiment_kwargs}
        if self.online:
            experiment = _online(comet, run_key(trial), about)
        else:
            _sweep(folder)
            experiment = comet.OfflineExperiment(offline_directory=folder, experiment_key=run_key(trial), **about)
            with open(os.path.join(folder, ".staging"), "w", encoding="utf-8") as file:
                file.write(experiment.tmpdir)
        comet.config.set_global_experiment(None)  # else the next trial's experiment would end this one
        experiment.set_name(str(trial))
        experiment.add_tags(self.tags)
        experiment.log_parameters({key: plain(value) for key, value in flatten(trial.config).items()})
        experiment.log_other("trial_id", trial.trial_id)
        self._experiments[trial.local_path] = experiment

    def rows_sent(self, trial: Trial) -> int:
        if not self.online:
            return 0
        with contextlib.suppress(FileNotFoundError), open(os.path.join(_folder(trial), "rows"), encoding="ascii") as file:
            return int(file.read() or 0)
        return 0

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Logs a row's numbers at the step `timesteps_total` if there is one, else `training_iteration`."""
        step = int(result.get("timesteps_total") or result.get("training_iteration") or iteration)
        self._experiments[trial.local_path].log_metrics(dict(scalars(result)), step=step)
        if self.online:
            with open(os.path.join(_folder(trial), "rows"), "w", encoding="ascii") as file:
                file.write(str(iteration))

    def log_trial_save(self, trial: Trial) -> None:
        """Logs the files of the newest checkpoint, where that is wanted."""
        checkpoint = trial.checkpoint
        if self.save_checkpoints and checkpoint is not None and os.path.isdir(checkpoint.path):
            self._experiments[trial.local_path].log_asset_folder(checkpoint.path, log_file_name=True, recursive=True)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Ends the experiment: offline, its archive is complete then."""
        experiment = self._experiments[trial.local_path]
        experiment.log_other("failed", failed)
        experiment.end()
        del self._experiments[trial.local_path]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(_folder(trial), ".staging"))

    def close(self) -> None:
        """Ends what is open; the next driver goes on with it."""
        while self._experiments:
            self._experiments.popitem()[1].end()

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.experiment_kwargs.items() if key != "api_key"}
        return {**self.__dict__, "experiment_kwargs": kept, "_experiments": {}}  # no secret is stored with the experiment


def _online(comet: Any, key: str, about: dict[str, Any]) -> Any:
    """The experiment of that key, made where Comet has none."""
    known = ("api_key", "workspace", "project_name")
    config = comet.ExperimentConfig(**{name: value for name, value in about.items() if name not in known})
    where = {("project" if name == "project_name" else name): about[name] for name in known if name in about}
    return comet.start(experiment_key=key, mode="get_or_create", online=True, experiment_config=config, **where)


def _folder(trial: Trial) -> str:
    return os.path.join(trial.local_path, "comet")


def _sweep(folder: str) -> None:
    """Removes an archive that is to be made anew, and what a killed driver was filling it from."""
    staging = os.path.join(folder, ".staging")
    with contextlib.suppress(FileNotFoundError), open(staging, encoding="utf-8") as file:
        shutil.rmtree(file.read(), ignore_errors=True)
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))


def _library() -> Any:
    try:
        import comet_ml
    except ImportError as error:
        raise ConfigError("Comet is not installed: pip install 'holdfast[comet]'.") from error
    return comet_ml
