"""`ExperimentAnalysis`: what `run` returns, and what reads an experiment back by its path.

A face on the journal's projections, `Result` and `Trial`: it keeps no second copy of what happened. It only reads, also beside
a live driver, and shows the experiment as it was when it was made. Refuses to know drivers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast._core.trial import TrialState
from holdfast._projection.best import best_trial
from holdfast._projection.history import History, load_history, load_state
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, NotFitted
from holdfast.result import Result, ResultGrid
from holdfast.storage.definitions import Definitions
from holdfast.storage.filesystems import place_on
from holdfast.storage.opening import open_storage
from holdfast.trial import Surroundings, Trial, aggregate
from holdfast.values import flatten

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ExperimentAnalysis"]

PathLike = str | os.PathLike[str]


class ExperimentAnalysis:
    """The trials of an experiment and what they came to.

    Args:
        experiment_checkpoint_path: The experiment's directory or URI; or a list of them, whose trials are looked at together.
        storage_filesystem: As in `RunConfig`; the path then has no scheme.
        trials: The trials to look at; all by default.
        default_metric: What the `best_...` properties go by; by default the job's, where it names one.
        default_mode: "max" or "min", likewise.

    Raises:
        ExperimentNotFound: There is no experiment at the path.
        JournalError: Its journal is damaged where it was durable.
    """

    def __init__(
        self,
        experiment_checkpoint_path: PathLike | Sequence[PathLike],
        storage_filesystem: Any = None,
        trials: Sequence[Trial] | None = None,
        default_metric: str | None = None,
        default_mode: str | None = None,
    ) -> None:
        given = experiment_checkpoint_path
        paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
        if not paths:
            raise ConfigError("ExperimentAnalysis([]): give the path of an experiment.")
        if storage_filesystem is not None:
            paths = [place_on(path, storage_filesystem) for path in paths]
        wanted = None if trials is None else {trial.trial_id for trial in trials}
        self._experiments = [_Experiment(path, wanted) for path in paths]
        self._found = {trial.trial_id: (it, n) for it in self._experiments for n, trial in enumerate(it.trials)}
        first = self._experiments[0].policy
        self.default_metric = default_metric or first.metric or None
        self.default_mode = default_mode or first.mode or None

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, or its URI; of several the first one's."""
        return self._experiments[0].storage.uri

    @property
    def trials(self) -> list[Trial]:
        """All trials, in order of creation. What they show does not change any more."""
        return [trial for it in self._experiments for trial in it.trials]

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Trial id → its newest row; empty where it reported nothing."""
        return {trial.trial_id: trial.last_result for trial in self.trials}

    @property
    def results_df(self) -> pd.DataFrame:
        """One row per trial that reported, its newest, flattened; the index is the trial id."""
        return self.dataframe().set_index("trial_id")

    @property
    def trial_dataframes(self) -> dict[str, pd.DataFrame]:
        """Trial id → all its rows, one column per flattened key."""
        return {trial_id: self._result(trial_id).metrics_dataframe for trial_id in self._found}

    @property
    def best_trial(self) -> Trial:
        """The trial with the best newest value of the default metric.

        Raises:
            ConfigError: No default metric or mode is known.
            NotFitted: No trial reported the metric.
        """
        metric, mode = self._objective(None, None)
        found = self.get_best_trial(metric, mode)
        if found is None:
            raise NotFitted(f"No best trial found: no trial has a finite number as its newest {metric!r}.")
        return found

    @property
    def best_config(self) -> dict[str, Any]:
        """The configuration of `best_trial`; errors as there."""
        return self.best_trial.config

    @property
    def best_result(self) -> dict[str, Any]:
        """The newest row of `best_trial`; errors as there."""
        return self.best_trial.last_result

    @property
    def best_checkpoint(self) -> Checkpoint | None:
        """The kept checkpoint of `best_trial` whose row has the best value; errors as there."""
        return self.get_best_checkpoint(self.best_trial)

    @property
    def best_dataframe(self) -> pd.DataFrame:
        """All rows of `best_trial`; errors as there."""
        return self._result(self.best_trial.trial_id).metrics_dataframe

    @property
    def best_result_df(self) -> pd.DataFrame:
        """The newest row of `best_trial` as a frame of one row, whose index is the trial id; errors as there."""
        best = self.best_trial.trial_id
        return self.results_df.loc[[best]]

    def dataframe(self, metric: str | None = None, mode: str | None = None) -> pd.DataFrame:
        """One row per trial that reported, flattened, with `config/...` and `logdir`.

        Args:
            metric: The metric by which a trial's row is chosen.
            mode: "max" or "min"; without it a trial's newest row stands for it.

        Raises:
            ConfigError: pandas is not installed, no such mode, or a mode without a metric.
        """
        frames = [it.grid.get_dataframe(metric if mode else None, mode) for it in self._experiments]
        if len(frames) == 1:
            return frames[0]
        import pandas as pd

        return pd.concat(frames, ignore_index=True)

    def get_all_configs(self, prefix: bool = False) -> dict[str, dict[str, Any]]:
        """Trial id → its configuration; with `prefix` flattened, each key as `config/...`."""
        configs = {trial.trial_id: trial.config for trial in self.trials}
        return {trial_id: flatten({"config": config}) for trial_id, config in configs.items()} if prefix else configs

    def get_best_trial(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last", filter_nan_and_inf: bool = True
    ) -> Trial | None:
        """The best trial; None, with a warning, where no trial reported the metric.

        Args:
            metric: Its name, `a/b` for nested ones; by default the job's.
            mode: "max" or "min"; by default the job's.
            scope: What stands for a trial: its "last" value, the best of "all", or "avg", "last-5-avg", "last-10-avg".
            filter_nan_and_inf: Whether trials whose value is NaN or infinite cannot win.

        Raises:
            ConfigError: No metric or mode is known, or no such mode or scope.
        """
        metric, mode = self._objective(metric, mode)
        states = [state for it in self._experiments for state in it.states]
        found = best_trial(states, metric, mode, scope, last=self._last, rows=self._rows, finite=filter_nan_and_inf)
        if found is None:
            import warnings

            warnings.warn(f"No best trial found for the metric {metric!r}: no trial reported a number under it.", stacklevel=2)
            return None
        it, n = self._found[found[0].trial_id]
        return it.trials[n]

    def get_best_config(self, metric: str | None = None, mode: str | None = None, scope: str = "last") -> dict[str, Any] | None:
        """The configuration of the best trial; see `get_best_trial`."""
        best = self.get_best_trial(metric, mode, scope)
        return None if best is None else best.config

    def get_best_logdir(self, metric: str | None = None, mode: str | None = None, scope: str = "last") -> str | None:
        """The directory of the best trial; see `get_best_trial`."""
        best = self.get_best_trial(metric, mode, scope)
        return None if best is None else best.path

    def get_best_checkpoint(self, trial: Trial | str, metric: str | None = None, mode: str | None = None) -> Checkpoint | None:
        """The kept checkpoint of a trial whose row has the best value; None where it keeps none.

        Args:
            trial: A trial, its id or its directory.
            metric: Its name, `a/b` for nested ones; by default the job's.
            mode: "max" or "min"; by default the job's.

        Raises:
            ConfigError: No such trial, no metric or mode is known, or no such mode.
            NotFitted: No row of a kept checkpoint has the metric.
        """
        metric, mode = self._objective(metric, mode)
        return self._result(trial).get_best_checkpoint(metric, mode)

    def get_last_checkpoint(
        self, trial: Trial | str | None = None, metric: str = "training_iteration", mode: str = "max"
    ) -> Checkpoint | None:
        """The newest checkpoint of a trial; without one, of the best trial by `metric` and `mode`. None where there is none."""
        meant = trial or self.get_best_trial(metric, mode)
        return None if meant is None else self._result(meant).checkpoint

    def _objective(self, metric: str | None, mode: str | None) -> tuple[str, str]:
        metric, mode = metric or self.default_metric, mode or self.default_mode
        if not metric or not mode:
            raise ConfigError(
                "No metric or no mode is known: pass metric=... and mode='max' or 'min' here, to ExperimentAnalysis "
                "(default_metric, default_mode), or to the run."
            )
        return metric, mode

    def _result(self, trial: Trial | str) -> Result:
        trial_id = trial.trial_id if isinstance(trial, Trial) else trial
        if trial_id not in self._found:
            by_path = {known.path: known.trial_id for known in self.trials}
            trial_id = by_path.get(os.path.abspath(trial_id), "")
        if not trial_id:
            raise ConfigError(f"{trial!r} is no trial of {self.experiment_path}: give one of `.trials`, its id or its directory.")
        it, n = self._found[trial_id]
        return it.grid[n]

    def _last(self, state: TrialState) -> Iterable[Mapping[str, Any]]:
        return [self._result(state.trial_id).metrics]

    def _rows(self, state: TrialState) -> Iterator[Mapping[str, Any]]:
        return self._found[state.trial_id][0].rows(state)

    def __repr__(self) -> str:
        return f"ExperimentAnalysis({self.experiment_path!r}, {len(self._found)} trials)"


class _Experiment:
    """One experiment as it is on disk now: its trials, their results, and, when asked for, all rows."""

    def __init__(self, path: PathLike, wanted: set[str] | None) -> None:
        self.storage = open_storage(path)
        state = load_state(self.storage)
        if wanted is not None:
            state = msgspec.structs.replace(state, trials={name: it for name, it in state.trials.items() if name in wanted})
        self.policy = state.policy
        self.states = list(state.trials.values())
        self.grid = ResultGrid(self.storage, state=state)
        created = state.created
        self._experiment_id = created.experiment_id if created else ""
        self._load = Definitions(self.storage).load
        self._history: History | None = None
        name = created.trainable_name if created else ""
        places = {trial.trial_id: n for n, trial in enumerate(self.states)}

        def newest(trial: TrialState) -> dict[str, Any]:
            return self.grid[places[trial.trial_id]].metrics

        around = Surroundings(self.storage.uri, self._experiment_id, name, self.policy, self._load, newest)
        self.trials: list[Trial] = [_TrialOnRecord(trial, around, self.rows) for trial in self.states]

    def rows(self, state: TrialState) -> Iterator[dict[str, Any]]:
        """All rows of a trial, oldest first."""
        if self._history is None:
            self._history = load_history(self.storage)[1]
        return self._history.full_rows(state, self._experiment_id, self._load)


class _TrialOnRecord(Trial):
    """A trial whose `metric_analysis` is made of all its rows, when it is first asked for."""

    def __init__(self, state: TrialState, around: Surroundings, rows: Callable[[TrialState], Iterator[dict[str, Any]]]) -> None:
        super().__init__(state, around)
        self._rows = rows
        self._counted = False

    @property
    def metric_analysis(self) -> dict[str, dict[str, float]]:
        if not self._counted:
            self._counted = True
            for row in self._rows(self._state):
                aggregate(self, flatten(row))
        return super().metric_analysis
