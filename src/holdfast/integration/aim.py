"""Aim: `AimLoggerCallback` logs every trial from the driver into a local or remote repository of Aim's.

A run of Aim's keeps one value for each step of a metric, and a killed driver leaves what it has tracked. So a trial that goes on
goes on with its run, whose hash is made from what names the trial, and all its rows are tracked again: they take the place of
themselves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from holdfast.errors import ConfigError
from holdfast.logger.tensorboard import scalars
from holdfast.logger.tracker import TrackerCallback, run_key
from holdfast.values import flatten, plain

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["AimLoggerCallback"]

_QUIET = {"system_tracking_interval": None, "capture_terminal_logs": False}  # of the driver, which is not what is looked at


class AimLoggerCallback(TrackerCallback):
    """Logs each trial as a run of Aim's: its configuration as `hparams`, the numbers of each row as metrics.

    Args:
        repo: The directory of the repository, made where there is none, or `aim://host:port`; by default the experiment's own
            directory. Where results are in a cloud, give one.
        experiment_name: What Aim groups the runs by; by default the experiment's name.
        metrics: The metrics that are logged, by their flattened keys; by default all numbers.
        **aim_run_kwargs: For `aim.Run`, such as `log_system_params=True`.

    Raises:
        ConfigError: `repo` is an `aim.Repo`, which cannot be kept with the experiment.
    """

    def __init__(
        self,
        repo: str | os.PathLike[str] | None = None,
        experiment_name: str | None = None,
        metrics: list[str] | None = None,
        **aim_run_kwargs: Any,
    ) -> None:
        if repo is not None and not isinstance(repo, (str, os.PathLike)):
            raise ConfigError(f"repo is a {type(repo).__name__}: give the path of the repository, such as repo.root_path.")
        where = None if repo is None else os.fspath(repo)
        self.repo = where if where is None or "://" in where else os.path.abspath(os.path.expanduser(where))
        self.experiment_name, self.metrics, self.aim_run_kwargs = experiment_name, metrics, aim_run_kwargs
        self._repo: Any = None
        self._runs: dict[str, Any] = {}

    def target(self) -> str:
        return f"{self.repo} {self.experiment_name}"

    def log_trial_start(self, trial: Trial) -> None:
        """Begins the trial's run, or goes on with it."""
        home = os.path.dirname(trial.local_path)
        run = self._opened(trial, self.repo or home)
        run.name = str(trial)
        run.experiment = self.experiment_name or os.path.basename(home)
        run["trial_id"] = trial.trial_id
        run["hparams"] = {key: _told(plain(value)) for key, value in flatten(trial.config).items()}
        self._runs[trial.local_path] = run

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Logs a row's numbers at the step `timesteps_total` if there is one, else `training_iteration`."""
        step = int(result.get("timesteps_total") or result.get("training_iteration") or iteration)
        for name, value in scalars(result):
            if self.metrics is None or name in self.metrics:
                self._runs[trial.local_path].track(value, name=name, step=step)

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Ends the run."""
        run = self._runs[trial.local_path]
        run["failed"] = failed
        run.close()
        del self._runs[trial.local_path]

    def close(self) -> None:
        """Ends what is open; the next driver goes on with it."""
        while self._runs:
            self._runs.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_repo": None, "_runs": {}}

    def _opened(self, trial: Trial, where: str) -> Any:
        aim = _library()
        if self._repo is None:

            class Repository(aim.Repo):  # type: ignore[misc, name-defined] # the library has no types
                """One in which a run that is asked for by its hash is made where there is none: so the hash can be ours."""

                def run_exists(self, run_hash: str) -> bool:
                    return True

            self._repo = Repository(where, init=True)
        about = {"repo": self._repo, **_QUIET, **self.aim_run_kwargs}
        try:
            return aim.Run(run_key(trial)[:24], **about)
        except aim.sdk.errors.RunLockingError:  # by a killed driver: no other is in charge of this experiment
            return aim.Run(run_key(trial)[:24], force_resume=True, **about)


def _told(value: Any) -> Any:
    """What Aim keeps of a value."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _library() -> Any:
    try:
        import aim
        import aim.sdk.errors
    except ImportError as error:
        raise ConfigError("Aim is not installed: pip install 'holdfast[aim]' (Python 3.10 to 3.12).") from error
    return aim
