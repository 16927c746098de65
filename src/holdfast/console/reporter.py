"""Progress reporters: screens of a user's own, and tables with columns of the user's choice, as Ray Tune has them.

Given in `RunConfig(progress_reporter=...)` a reporter takes the place of the console. It is asked at each turn of the driver
whether to report, and then told of all trials; it reads them and can change nothing. What it raises leaves `fit()`, and the
experiment can be restored. Knows `Trial`; refuses to know records and drivers.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from holdfast._projection.best import check_mode, number
from holdfast._projection.rows import AUTO_KEYS
from holdfast.errors import ConfigError
from holdfast.trial import Trial
from holdfast.values import flatten

if TYPE_CHECKING:
    import datetime

__all__ = ["CLIReporter", "JupyterNotebookReporter", "ProgressReporter", "TableReporter"]

Columns = Mapping[str, str] | Sequence[str] | None

_ORDER = (Trial.RUNNING, Trial.PAUSED, Trial.PENDING, Trial.ERROR, Trial.TERMINATED)


class ProgressReporter:
    """Base of all reporters: decides when to report, and reports."""

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Called once per run of the driver, before anything else.

        Args:
            start_time: Seconds since 1970 at which the experiment would have begun, had it run without a break.
            total_samples: How many trials there will be; None where nobody knows.
            metric: The job's.
            mode: The job's.
            **kwargs: For what may come.
        """

    def should_report(self, trials: Sequence[Trial], done: bool = False) -> bool:
        """Whether to report now; `done`: the last time."""
        raise NotImplementedError

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        """Reports.

        Args:
            trials: All of them, pending ones too.
            done: Whether this is the last time.
            *sys_info: Lines about the run: what the scheduler says of itself, the resources in use.
        """
        raise NotImplementedError


class TableReporter(ProgressReporter):
    """Base of the reporters that show a table.

    Args:
        metric_columns: The metrics that are columns, `a/b` for nested ones: a list, or a dictionary with what each column is
            called. By default iteration, time, the job's metric and up to `infer_limit` more that rows have.
        parameter_columns: The parameters that are columns, likewise; by default all that the search space leaves open.
        total_samples: How many trials there will be; by default the job's number.
        max_progress_rows: The most trials that the table shows, running ones first.
        max_error_rows: The most failed trials that the table of failures shows.
        max_column_length: The longest text of a cell.
        max_report_frequency: Seconds between two reports, at least.
        infer_limit: See `metric_columns`.
        print_intermediate_tables: Whether reports before the last have a table; they do by default.
        metric: What the best trial is chosen by; by default the job's.
        mode: "max" or "min", likewise.
        sort_by_metric: Whether trials of one status stand in the order of the metric, best first.
    """

    DEFAULT_COLUMNS = {"training_iteration": "iter", "time_total_s": "total time (s)"}  # noqa: RUF012 - read by users' subclasses

    def __init__(
        self,
        metric_columns: Columns = None,
        parameter_columns: Columns = None,
        total_samples: int | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        infer_limit: int = 3,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
    ) -> None:
        if mode is not None:
            check_mode(mode)
        self._infers = metric_columns is None
        self._metric_columns = _copied(self.DEFAULT_COLUMNS if metric_columns is None else metric_columns)
        self._parameter_columns = _copied(parameter_columns or {})
        self._total_samples = total_samples
        self._max_progress_rows = max_progress_rows
        self._max_error_rows = max_error_rows
        self._max_column_length = max_column_length
        self._max_report_frequency = max_report_frequency
        self._infer_limit = infer_limit
        self._print_intermediate_tables = print_intermediate_tables is not False
        self._metric = metric
        self._mode = mode
        self._sort_by_metric = sort_by_metric
        self._start_time = time.time()
        self._last_report = float("-inf")

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.set_start_time(start_time)
        self.set_total_samples(total_samples)
        self.set_search_properties(metric, mode)

    def set_search_properties(self, metric: str | None, mode: str | None) -> bool:
        """Takes the job's metric and mode, unless the reporter has its own; returns whether it took them."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        return True

    def set_total_samples(self, total_samples: int | None) -> None:
        """Takes the number of trials, unless the reporter was given one."""
        self._total_samples = self._total_samples or total_samples

    def set_start_time(self, timestamp: float | datetime.datetime | None = None) -> None:
        """Takes the time from which it counts how long the experiment runs; now where None is given."""
        if timestamp is None:
            self._start_time = time.time()
        else:
            self._start_time = float(timestamp) if isinstance(timestamp, (int, float)) else timestamp.timestamp()

    def should_report(self, trials: Sequence[Trial], done: bool = False) -> bool:
        if done or time.monotonic() - self._last_report >= self._max_report_frequency:
            self._last_report = time.monotonic()
            return True
        return False

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Adds a column; from then on no metric becomes a column by itself.

        Raises:
            ConfigError: There is such a column, or the columns were given as a list and this one a name beside.
        """
        self._infers = False
        _add(self._metric_columns, metric, representation)

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Adds a column; where none was given before, it is the only one. Errors as in `add_metric_column`."""
        _add(self._parameter_columns, parameter, representation)

    def _progress_str(self, trials: Sequence[Trial], done: bool, *sys_info: str, delim: str = "\n") -> str:
        """The whole report as text."""
        parts = [f"== {self._headline(trials)} ==", *filter(None, sys_info)]
        best = self._best(trials)
        if best is not None:
            parts.append(best)
        if trials and (done or self._print_intermediate_tables):
            parts += [f"results in {trials[0].path.rpartition('/')[0]}", self._table(trials)]
            failed = [trial for trial in trials if trial.num_failures or trial.status == Trial.ERROR]
            if failed:
                lines = [[str(trial), trial.num_failures, f"{trial.path}/error.txt"] for trial in failed[: self._max_error_rows]]
                parts += [f"trials that have failed: {len(failed)}", _bordered(["trial", "failures", "error file"], lines, None)]
        return delim.join(parts) + delim

    def _headline(self, trials: Sequence[Trial]) -> str:
        counts = {status: sum(trial.status == status for trial in trials) for status in _ORDER}
        counted = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
        total = f"/{self._total_samples}" if self._total_samples and self._total_samples > 0 else ""
        hours, rest = divmod(max(0, int(time.time() - self._start_time)), 3600)
        ran = f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"
        return f"{time.strftime('%Y-%m-%d %H:%M:%S')} after {ran}: {len(trials)}{total} trials ({counted})"

    def _best(self, trials: Sequence[Trial]) -> str | None:
        known = [(value, trial) for trial in trials if (value := self._value(trial)) is not None and value == value]
        if not known or not self._metric or not self._mode:
            return None
        value, trial = (max if self._mode == "max" else min)(known, key=lambda pair: pair[0])
        return f"best: {trial.trial_id} with {self._metric}={value:.6g} and {trial.evaluated_params}"

    def _value(self, trial: Trial) -> float | None:
        return number(trial.last_result, self._metric) if self._metric else None

    def _table(self, trials: Sequence[Trial]) -> str:
        metrics, parameters = self._metrics_of(trials), self._parameters_of(trials)

        def rank(trial: Trial) -> tuple[int, float]:
            value = self._value(trial) if self._sort_by_metric else 0.0
            if value is None or value != value:
                value = float("inf")  # behind all others
            elif self._mode == "max":
                value = -value
            return _ORDER.index(trial.status), value

        lines = []
        for trial in sorted(trials, key=rank)[: self._max_progress_rows]:
            row, config = flatten(trial.last_result), flatten(trial.config)
            lines.append([str(trial), trial.status, *map(config.get, parameters), *map(row.get, metrics)])
        heads = ["trial", "status", *parameters.values(), *metrics.values()]
        left = len(trials) - len(lines)
        return _bordered(heads, lines, self._max_column_length) + (f"\n... {left} more trials" if left else "")

    def _metrics_of(self, trials: Sequence[Trial]) -> dict[str, str]:
        found = _named(self._metric_columns)
        if not self._infers:
            return found
        wanted = [self._metric] if self._metric else []
        seen = dict.fromkeys(name for trial in trials[:50] for name, value in flatten(trial.last_result).items() if _plain(value))
        more = [name for name in seen if name not in AUTO_KEYS and not name.startswith("config/") and name not in wanted]
        return {**found, **{name: name for name in [*wanted, *more[: self._infer_limit]]}}

    def _parameters_of(self, trials: Sequence[Trial]) -> dict[str, str]:
        if self._parameter_columns:
            return _named(self._parameter_columns)
        return {name: name for trial in trials[:50] for name in flatten(trial.evaluated_params)}


class CLIReporter(TableReporter):
    """Prints a table now and then; its parameters are those of `TableReporter`."""

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        print(self._progress_str(trials, done, *sys_info), flush=True)


class JupyterNotebookReporter(TableReporter):
    """Shows a table in a notebook.

    Args:
        overwrite: Whether each report takes the place of the last; else it goes below.
        *columns: The parameters of `TableReporter`, in their order.
        **options: The same by name.

    Raises:
        ConfigError: IPython is not installed.
    """

    def __init__(self, overwrite: bool = True, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        if find_spec("IPython") is None:
            raise ConfigError(
                "JupyterNotebookReporter needs IPython, which is not installed: pip install ipython, or CLIReporter."
            )
        from holdfast.console.notebook import Output

        self._output = Output(overwrite=overwrite)

    def setup(self, *told: Any, **more: Any) -> None:
        super().setup(*told, **more)
        self._output.begin()

    def report(self, trials: Sequence[Trial], done: bool, *sys_info: str) -> None:
        text = self._progress_str(trials, done, *sys_info)
        self._output.paint(text, f"<pre>{html.escape(text)}</pre>")


def _bordered(heads: list[str], lines: list[list[Any]], longest: int | None) -> str:
    """A table with borders, each cell no longer than it may be."""
    cells = [[_cell(value, longest) for value in line] for line in [heads, *lines]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    rows = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([rule, rows[0], rule, *rows[1:], rule])


def _copied(columns: Mapping[str, str] | Sequence[str]) -> dict[str, str] | list[str]:
    if isinstance(columns, Mapping):
        return dict(columns)
    if isinstance(columns, str):
        raise ConfigError(f"columns are {columns!r}: give a list, or a dictionary with what each column is called.")
    return list(columns)


def _named(columns: dict[str, str] | list[str]) -> dict[str, str]:
    return columns if isinstance(columns, dict) else {name: name for name in columns}


def _add(columns: dict[str, str] | list[str], name: str, representation: str | None) -> None:
    if name in columns:
        raise ConfigError(f"There is a column {name!r} already.")
    if isinstance(columns, dict):
        columns[name] = representation or name
    elif representation is not None and representation != name:
        raise ConfigError(
            f"The columns were given as a list, in which {name!r} cannot be called {representation!r}: give a dictionary."
        )
    else:
        columns.append(name)


def _plain(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: object, longest: int | None) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if longest is None or len(text) <= longest else "..." + text[3 - longest :]
