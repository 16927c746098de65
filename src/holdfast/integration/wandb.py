"""Weights & Biases: `WandbLoggerCallback` logs every trial from the driver, `setup_wandb` lets a trial log for itself.

Offline, what a killed driver left of a run is removed and the run written anew from the journal: nothing outside has it
yet. Online, W&B says at which step a resumed run goes on, and that is where we go on.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast import settings
from holdfast.errors import ConfigError
from holdfast.logger.tensorboard import scalars
from holdfast.logger.tracker import TrackerCallback
from holdfast.session import current
from holdfast.values import plain

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["WandbLoggerCallback", "setup_wandb"]

_KEY = "WANDB_API_KEY"
_QUIET = {"console": "off", "silent": True, "x_disable_stats": True}


class WandbLoggerCallback(TrackerCallback):
    """Logs each trial as a run, whose id is the trial's: the numbers of row `n` at step `n - 1`, with the row's own time.

    Args:
        project: By default `WANDB_PROJECT`, else the experiment's name.
        group: By default the experiment's name.
        api_key, api_key_file: The key, or a file with it, where `WANDB_API_KEY` is not set. Never stored with the experiment.
        excludes: Keys of rows that are not logged.
        log_config: Whether numbers of the configuration are logged with each row; it is the run's config anyway.
        upload_checkpoints: Whether each checkpoint becomes an artifact, if it is still there then.
        save_checkpoints: The older name of `upload_checkpoints`.
        upload_timeout, video_kwargs, image_kwargs: Without effect: only numbers are logged.
        **kwargs: For `wandb.init`, such as `mode="offline"`, `entity`, `tags`, `dir`.
    """

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        api_key_file: str | None = None,
        api_key: str | None = None,
        excludes: Sequence[str] | None = None,
        log_config: bool = False,
        upload_checkpoints: bool = False,
        save_checkpoints: bool = False,
        upload_timeout: int = 1800,
        video_kwargs: dict[str, Any] | None = None,
        image_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.project, self.group, self.api_key_path, self.api_key = project, group, api_key_file, api_key
        self.excludes, self.log_config = list(excludes or []), log_config
        self.upload_checkpoints, self.upload_timeout = upload_checkpoints or save_checkpoints, upload_timeout
        self.video_kwargs, self.image_kwargs, self.kwargs = video_kwargs, image_kwargs, kwargs
        self._runs: dict[str, Any] = {}
        self._offline = False

    def target(self) -> str:
        return f"{self.kwargs.get('mode')} {self.kwargs.get('entity')} {self.project}"

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Takes the key."""
        self._offline = (self.kwargs.get("mode") or settings.library("WANDB_MODE")) in ("offline", "dryrun")
        _take_key(self.api_key, self.api_key_path)
        _library()

    def log_trial_start(self, trial: Trial) -> None:
        """Begins the trial's run; online, goes on with it."""
        wandb = _library()
        os.makedirs(trial.local_path, exist_ok=True)
        name, run_id = trial.local_path.split(os.sep)[-2], _run_id(trial.local_path, trial.trial_id)
        about: dict[str, Any] = {
            "project": self.project or settings.library("WANDB_PROJECT") or name,
            "group": self.group or name,
            "dir": trial.local_path,
            **self.kwargs,
        }
        if self._offline:
            for left in glob.glob(os.path.join(glob.escape(about["dir"]), "wandb", f"offline-run-*-{run_id}")):
                shutil.rmtree(left)
        else:
            about["resume"] = "allow"
        about["settings"] = wandb.Settings(**_QUIET)
        self._runs[trial.local_path] = wandb.init(
            id=run_id, name=str(trial), config=_shown(trial.config), reinit="create_new", **about
        )

    def rows_sent(self, trial: Trial) -> int:
        return 0 if self._offline else int(self._runs[trial.local_path].starting_step)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Logs a row's numbers."""
        numbers = {key: value for key, value in scalars(result) if key.split("/")[0] not in self.excludes}
        if self.log_config:
            numbers.update({f"config/{key}": value for key, value in scalars(result.get("config") or {})})
        if "timestamp" in result:
            numbers["_timestamp"] = float(result["timestamp"])
        self._runs[trial.local_path].log(numbers, step=max(0, iteration - 1))

    def log_trial_save(self, trial: Trial) -> None:
        """Logs the newest checkpoint as an artifact, where that is wanted."""
        checkpoint = trial.checkpoint
        if self.upload_checkpoints and checkpoint is not None and os.path.isdir(checkpoint.path):
            artifact = _library().Artifact(name=f"checkpoint_{trial.trial_id}", type="model")
            artifact.add_dir(checkpoint.path)
            self._runs[trial.local_path].log_artifact(artifact)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Ends the run."""
        self._runs[trial.local_path].finish(exit_code=int(failed))
        del self._runs[trial.local_path]

    def close(self) -> None:
        """Ends what is open; the next driver goes on with it."""
        while self._runs:
            self._runs.popitem()[1].finish()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runs": {}, "api_key": None}  # no secret is stored with the experiment


def setup_wandb(
    config: dict[str, Any] | None = None,
    api_key: str | None = None,
    api_key_file: str | None = None,
    rank_zero_only: bool = True,  # noqa: ARG001 - as in Ray Tune; a trial is one process
    **kwargs: Any,
) -> Any:
    """Starts a run of the trial that calls it, and returns it; call its `finish()` at the end.

    A later attempt of the same trial goes on with the same run online; offline it writes a further part of it. What the trial
    logs twice, because rows are redone after a crash, W&B gets twice; `WandbLoggerCallback` is exact.

    Args:
        config: The run's config.
        api_key: As for `WandbLoggerCallback`.
        api_key_file: As for `WandbLoggerCallback`.
        rank_zero_only: Without effect: a trial is one process.
        **kwargs: For `wandb.init`. By default `project`, `group`, `name`, `id` and `dir` are the experiment's and the trial's.

    Raises:
        ConfigError: wandb is not installed.
    """
    _take_key(api_key, api_key_file)
    session = current()
    about: dict[str, Any] = {"resume": "allow"}
    if session is not None:
        context = session.context
        about |= {"project": settings.library("WANDB_PROJECT") or context.get_experiment_name()}
        about |= {"group": context.get_experiment_name(), "name": context.get_trial_name(), "dir": context.get_trial_dir()}
        about |= {"id": _run_id(context.get_trial_dir(), context.get_trial_id())}
    about |= kwargs
    if (about.get("mode") or settings.library("WANDB_MODE")) in ("offline", "dryrun", "disabled"):
        del about["resume"]
    return _library().init(config=_shown(config or {}), **about)


def _run_id(directory: str, trial_id: str) -> str:
    """The trial's id; of a trial that began anew (`restart_errored`) another one."""
    _, restarted, branch = directory.rpartition("_restart")
    return f"{trial_id}-{branch}" if restarted else trial_id


def _shown(config: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = plain(config)
    return made


def _take_key(key: str | None, file: str | None) -> None:
    if key is None and file is not None:
        try:
            with open(os.path.expanduser(file), encoding="utf-8") as text:
                key = text.readline().strip()
        except OSError as error:
            raise ConfigError(f"the W&B key cannot be read from api_key_file={file!r}: {error}") from error
    if key:
        os.environ[_KEY] = key


def _library() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("Weights & Biases is not installed: pip install 'holdfast[wandb]'.") from error
    return wandb
