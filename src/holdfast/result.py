"""What an experiment came to: `Result` per trial, `ResultGrid` for all of them.

Knows the journal's projections and, because the user asked for values, opens the user's own pickles (configs,
exceptions). Refuses to know drivers: a grid reads a finished, a broken and a running experiment alike, and writes nothing.
Rows are read when they are first asked for: a grid over many trials holds their newest rows only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from holdfast._aliases import RESULT_KEYS
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import checkpoint_name
from holdfast._core.trial import ERROR, TERMINATED, TrialState
from holdfast._projection.best import best_trial, check_mode, number
from holdfast._projection.failures import revived
from holdfast._projection.files import read_trial
from holdfast._projection.frames import frame, has_pandas
from holdfast._projection.history import History, load_history, load_state, shown
from holdfast._projection.rows import own_metrics
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ConfigError, NotFitted
from holdfast.plots import Plotted, PlottedAttempt, PlottedTrial
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.storage.filesystems import place_on
from holdfast.storage.opening import inside
from holdfast.storage.uri import arrow_filesystem, bare, is_uri, parse
from holdfast.values import Reference, decode, flatten, plain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Result", "ResultGrid"]


class Result:
    """What one trial came to.

    Attributes:
        path: Its directory; in a cloud bucket and path, without scheme: what `filesystem` takes.

    Args:
        metrics: Its newest row with the auto-filled keys.
        checkpoint: Its newest checkpoint, or None.
        error: The exception that it failed with for good, or None.
        path: Its directory, or that one's URI.
        metrics_dataframe: All its rows; or a function that gives them when asked.
        best_checkpoints: The checkpoints that are kept with the rows that they came with, oldest first; or a function likewise.
    """

    def __init__(
        self,
        metrics: dict[str, Any] | None,
        checkpoint: Checkpoint | None,
        error: Exception | Callable[[], Exception | None] | None,
        path: str,
        metrics_dataframe: Any = None,
        best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]]
        | Callable[[], list[tuple[Checkpoint, dict[str, Any]]]]
        | None = None,
    ) -> None:
        self.metrics: dict[str, Any] = {} if metrics is None else metrics
        self.checkpoint = checkpoint
        self.path = bare(path)
        self._place = path
        self._error = error
        self._dataframe = metrics_dataframe
        self._best_checkpoints = best_checkpoints

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], storage_filesystem: Any = None) -> Result:
        """Reads a trial's directory, or its URI: `result.json` (else `progress.csv`), `params.pkl` or `params.json`, `error.pkl`.

        Raises:
            ExperimentNotFound: There is no such directory, or none of a trial.
            ConfigError: A file system that holdfast cannot use.
        """
        trial = read_trial(path if storage_filesystem is None else place_on(path, storage_filesystem))
        saved = [
            (
                Checkpoint(inside(trial.path, name)),
                next((r for r in trial.rows if r.get("checkpoint_dir_name") == name), {}),
            )
            for name in trial.checkpoints
        ]
        newest = {**trial.rows[-1], "config": trial.config} if trial.rows else {"config": trial.config}
        return cls(newest, saved[-1][0] if saved else None, trial.error, trial.path, lambda: _frame(trial.rows), saved)

    @property
    def config(self) -> dict[str, Any]:
        """The trial's configuration, every value of the type that it was given with."""
        config: dict[str, Any] = self.metrics.get("config", {})
        return config

    @property
    def error(self) -> Exception | None:
        """The trial's own exception where it failed for good. None once a resumed trial succeeded."""
        if callable(self._error):
            self._error = self._error()
        return self._error

    @property
    def metrics_dataframe(self) -> pd.DataFrame | None:
        """All rows of the trial, one column per flattened key (`config/lr`).

        Raises:
            ConfigError: pandas is not installed.
        """
        if callable(self._dataframe):
            self._dataframe = self._dataframe()
        return self._dataframe

    @property
    def best_checkpoints(self) -> list[tuple[Checkpoint, dict[str, Any]]]:
        """The checkpoints that are kept, with the rows that they came with, oldest first."""
        if callable(self._best_checkpoints):
            self._best_checkpoints = self._best_checkpoints()
        return self._best_checkpoints or []

    @property
    def filesystem(self) -> Any:
        """A `pyarrow.fs.LocalFileSystem`, or an `S3FileSystem` or `AzureFileSystem`; pyarrow is loaded when this is asked for."""
        return _pyarrow_filesystem("Result.filesystem", self._place)

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """The kept checkpoint whose row has the best value of a metric; None where none is kept.

        Raises:
            ConfigError: No such mode.
            NotFitted: No row of a kept checkpoint has the metric.
        """
        check_mode(mode)
        if not self.best_checkpoints:
            return None
        scored = [(value, kept) for kept, row in self.best_checkpoints if (value := number(row, metric)) is not None]
        comparable = [pair for pair in scored if pair[0] == pair[0]] or scored
        if not comparable:
            names = sorted(set().union(*(flatten(own_metrics(row)) for _, row in self.best_checkpoints)))
            raise NotFitted(
                f"No row that came with a kept checkpoint of {self.path} has the metric {metric!r}; they have {names}."
            )
        return (max if mode == "max" else min)(comparable, key=lambda pair: pair[0])[1]

    def __repr__(self) -> str:
        parts = [f"metrics={own_metrics(self.metrics)!r}", f"path={self.path!r}", f"checkpoint={self.checkpoint!r}"]
        if self._error is not None:
            error = self.error
            parts.insert(0, f"error={type(error).__name__ if error is not None else None}")
        return "Result(\n  " + ",\n  ".join(parts) + "\n)"

    def __reduce__(self) -> tuple[Any, ...]:
        frame = None if callable(self._dataframe) and not has_pandas() else self.metrics_dataframe
        return Result, (self.metrics, self.checkpoint, self.error, self._place, frame, self.best_checkpoints)


class ResultGrid(Plotted):
    """The results of all trials of an experiment, in the order in which the trials were created; each status included.

    Args:
        experiment_analysis: The storage of the experiment, whose journal is read.
        metric: What `get_best_result` goes by unless told otherwise.
        mode: "max" or "min", likewise.
        state: The fold of that journal where the caller has it.
        references: By place, what `put` keeps for configurations, as long as it does.
    """

    def __init__(
        self,
        experiment_analysis: Storage,
        metric: str | None = None,
        mode: str | None = None,
        *,
        state: ExperimentState | None = None,
        references: Mapping[str, Reference] | None = None,
    ) -> None:
        state = load_state(experiment_analysis) if state is None else state
        self._source = _Source(experiment_analysis, state, references)
        self._metric = metric
        self._mode = mode
        self._trials = list(state.trials.values())
        self._results: dict[int, Result] = {}

    @property
    def experiment_path(self) -> str:
        """The experiment's directory, or in a cloud its URI: what `Tuner.restore` takes."""
        return self._source.uri

    @property
    def filesystem(self) -> Any:
        """A `pyarrow.fs.LocalFileSystem`, or an `S3FileSystem` or `AzureFileSystem`; pyarrow is loaded when this is asked for."""
        return _pyarrow_filesystem("ResultGrid.filesystem", self._source.uri)

    @property
    def errors(self) -> list[Exception]:
        """The exceptions of the trials that failed for good."""
        return [error for result in self if (error := result.error) is not None]

    @property
    def num_errors(self) -> int:
        """How many trials failed for good."""
        return sum(trial.state == ERROR for trial in self._trials)

    @property
    def num_terminated(self) -> int:
        """How many trials are TERMINATED: done without failing for good."""
        return sum(trial.state == TERMINATED for trial in self._trials)

    def get_best_result(
        self, metric: str | None = None, mode: str | None = None, scope: str = "last", filter_nan_and_inf: bool = True
    ) -> Result:
        """The result of the best trial. The only trial of an experiment is its best one, whatever the metric.

        Args:
            metric: Its name, `a/b` for nested ones; by default the job's.
            mode: "max" or "min"; by default the job's.
            scope: What stands for a trial: its "last" value, the best of "all", or "avg", "last-5-avg", "last-10-avg".
            filter_nan_and_inf: Whether trials whose value is NaN or infinite cannot win.

        Raises:
            ConfigError: No metric or mode is known, or no such mode or scope.
            NotFitted: No trial has a value to compare.
        """
        if len(self._trials) == 1:
            return self[0]
        metric, mode = self._objective(metric, mode)
        source = self._source
        found = best_trial(self._trials, metric, mode, scope, last=source.last, rows=source.rows, finite=filter_nan_and_inf)
        if found is None:
            tail = " All values may be NaN or infinite: filter_nan_and_inf=False lets those win." if filter_nan_and_inf else ""
            raise NotFitted(f"No best trial found for the metric {metric!r}: no trial reported a number under that name.{tail}")
        return self[found[0].index]

    def get_dataframe(
        self, filter_metric: str | None = None, filter_mode: str | None = None, *, library: str = "pandas"
    ) -> pd.DataFrame:
        """One row per trial that reported: its newest, or with `filter_metric` its best, flattened.

        Columns `config/...` hold the configuration and `logdir` the trial's directory.

        Args:
            filter_metric: The metric by which a trial's best row is taken.
            filter_mode: "max" or "min"; by default the job's.
            library: "pandas", or "polars" for a `polars.DataFrame`.

        Raises:
            ConfigError: The library is not installed, no such mode, or a mode without a metric.
        """
        if filter_mode is not None:
            check_mode(filter_mode)
            if not filter_metric:
                raise ConfigError("filter_mode needs filter_metric: name the metric whose best row is to be taken.")
        mode = filter_mode or self._mode
        if filter_metric and not mode:
            raise ConfigError("filter_metric needs filter_mode='max' or 'min': the job names no mode.")
        lines = []
        for trial in self._trials:
            if trial.last is None:
                continue
            [row] = self._source.last(trial)
            if filter_metric and mode:
                row = _best_row(self._source.configured(trial), filter_metric, mode, row)
            row.setdefault("config", self._source.config(trial))
            lines.append({**flatten(row), "logdir": bare(inside(self._source.uri, trial.dirname))})
        made: pd.DataFrame = frame(lines, library)
        return made

    def _objective(self, metric: str | None, mode: str | None) -> tuple[str, str]:
        metric, mode = metric or self._metric, mode or self._mode
        if not metric:
            raise ConfigError("No metric is given: pass metric=..., or set it in TuneConfig(metric=...).")
        if not mode:
            raise ConfigError("No mode is given: pass mode='max' or mode='min', or set it in TuneConfig(mode=...).")
        return metric, mode

    def _to_plot(self) -> list[PlottedTrial]:
        return [self._source.plotted(trial) for trial in self._trials]

    def __len__(self) -> int:
        return len(self._trials)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, i: int) -> Result:
        at = range(len(self._trials))[i]
        if at not in self._results:
            self._results[at] = self._source.result(self._trials[at])
        return self._results[at]

    def __iter__(self) -> Iterator[Result]:
        return (self[at] for at in range(len(self._trials)))

    def __repr__(self) -> str:
        inside = ",\n".join("  " + repr(result).replace("\n", "\n  ") for result in self)
        return f"ResultGrid<[\n{inside}\n]>" if self._trials else "ResultGrid<[]>"


class _Source:
    """How a trial's record becomes a `Result`: reads rows when they are first asked for, and keeps them encoded."""

    def __init__(self, storage: Storage, state: ExperimentState, references: Mapping[str, Reference] | None) -> None:
        self.uri = storage.uri
        self._references = references
        self._storage = storage
        self._load = Definitions(storage).load
        self._experiment_id = state.created.experiment_id if state.created else ""
        self._history: History | None = None

    def result(self, trial: TrialState) -> Result:
        place = inside(self.uri, trial.dirname)
        saved = [Checkpoint(inside(place, checkpoint_name(kept.saved.index))) for kept in trial.kept]
        config = self.config(trial)
        newest = self.last(trial)
        metrics: dict[str, Any] = newest[0] if newest else {"trial_id": trial.trial_id, "experiment_tag": trial.tag}
        metrics["config"] = config
        failure = trial.failure if trial.state == ERROR else None

        def rows_of_checkpoints() -> list[tuple[Checkpoint, dict[str, Any]]]:
            rows = self.configured(trial) if saved else []
            pairs = zip(saved, trial.kept, strict=True)
            return [(it, rows[kept.number - 1]) for it, kept in pairs if kept.number <= len(rows)]

        return Result(
            metrics,
            saved[-1] if saved else None,
            None if failure is None else lambda: revived(failure),
            place,
            lambda: _frame(self.configured(trial)),
            rows_of_checkpoints,
        )

    def config(self, trial: TrialState) -> dict[str, Any]:
        config: dict[str, Any] = decode(trial.config, self._load, self._references)
        return config

    def last(self, trial: TrialState) -> list[dict[str, Any]]:
        """The newest row, or nothing."""
        if trial.last is None:
            return []
        return [shown(trial.last, trial.changes, trial, self._experiment_id, self._load, None)]

    def rows(self, trial: TrialState) -> Iterator[dict[str, Any]]:
        if self._history is None:
            self._history = load_history(self._storage)[1]
        return self._history.full_rows(trial, self._experiment_id, self._load)

    def plotted(self, trial: TrialState) -> PlottedTrial:
        """The trial as plots see it: objects in its configuration by the names of their types."""
        rows = list(self.rows(trial))
        assert self._history is not None
        told = self._history.trial(trial.trial_id)
        heard = {row.attempt: row.timestamp for row in [*(old.row for old in told.superseded), *told.rows]}
        attempts = []
        for it in told.attempts.values():
            # When one was lost nobody saw its end: it was alive when it reported last.
            ended = heard.get(it.number, it.began) if it.outcome == "lost" else it.ended
            why = (it.failure.kind, it.failure.message) if it.failure else ("", "")
            attempts.append(PlottedAttempt(it.number, it.began, ended, it.outcome, *why))
        return PlottedTrial(trial.trial_id, flatten(plain(decode(trial.config))), rows, attempts)

    def configured(self, trial: TrialState) -> list[dict[str, Any]]:
        """All rows, each with the configuration that it ran with: a scheduler may have changed it since."""
        rows = list(self.rows(trial))
        known: dict[bytes, dict[str, Any]] = {}
        for row, encoded in zip(rows, self._history.configs(trial) if self._history else (), strict=True):
            if encoded not in known:
                known[encoded] = decode(encoded, self._load, self._references)
            row["config"] = known[encoded]
        return rows


def _best_row(rows: list[dict[str, Any]], metric: str, mode: str, otherwise: dict[str, Any]) -> dict[str, Any]:
    scored = [(value, row) for row in rows if (value := number(row, metric)) is not None and value == value]
    return (max if mode == "max" else min)(scored, key=lambda pair: pair[0])[1] if scored else otherwise


def _frame(rows: list[dict[str, Any]]) -> Any:
    return frame([flatten(row) for row in rows])


def _pyarrow_filesystem(what: str, place: str) -> Any:
    try:
        from pyarrow import fs
    except ImportError:
        raise ConfigError(f"{what} needs pyarrow, which is not installed: pip install pyarrow.") from None
    return arrow_filesystem(parse(place)) if is_uri(place) else fs.LocalFileSystem()


def __getattr__(name: str) -> Any:
    """The names that Ray Tune's module of this name has for the keys of rows."""
    if name in RESULT_KEYS:
        return RESULT_KEYS[name]
    raise AttributeError(f"module 'holdfast.result' has no attribute {name!r}")
