"""The plots that `ResultGrid` has. Knows trials as plain values; refuses to know journals, and who draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import isfinite, log10
from typing import Any, NamedTuple

from holdfast._projection.best import check_mode, check_scope, number, summary
from holdfast.errors import ConfigError, NotFitted
from holdfast.plots.charts import Axis, Bars, Curve, Curves, Parallel, Span, Spans
from holdfast.plots.drawing import draw
from holdfast.plots.importance import importances

__all__ = ["Plotted", "PlottedAttempt", "PlottedTrial"]

_MOST_TICKS = 10


class PlottedAttempt(NamedTuple):
    """One attempt: when it began and ended (seconds since 1970, 0 where it did not), how, and why it failed."""

    number: int
    began: float
    ended: float
    outcome: str
    kind: str
    message: str


class PlottedTrial(NamedTuple):
    """One trial: its configuration, flat and without objects, its rows and its attempts."""

    trial_id: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    attempts: list[PlottedAttempt]


class Plotted:
    """What `ResultGrid` inherits its plots from.

    Each plot is a figure of plotly, or of matplotlib where only that is installed; `backend` says which it is to be.
    Nothing is shown or written: call the figure's own `show()`, `write_html(path)` or `savefig(path)`.
    """

    def plot_optimization_history(
        self, metric: str | None = None, mode: str | None = None, *, scope: str = "last", backend: str | None = None
    ) -> Any:
        """Each trial's value in the order in which the trials were created, and the best so far.

        Args:
            metric: Its name, `a/b` for nested ones; by default the job's.
            mode: "max" or "min"; by default the job's.
            scope: What stands for a trial: see `get_best_result`.
            backend: "plotly" or "matplotlib"; by default the first that is installed.

        Raises:
            ConfigError: No metric or mode is known, or no library is installed.
            NotFitted: No trial has a finite number there.
        """
        metric, mode = self._objective(metric, mode)
        found = self._values(metric, mode, scope)
        numbers = {trial.trial_id: float(at) for at, trial in enumerate(self._to_plot())}
        xs, ys = [numbers[trial.trial_id] for trial, _ in found], [value for _, value in found]
        so_far = list(accumulate(ys, max if mode == "max" else min))
        each = Curve("trials", xs, ys, joined=False, texts=[trial.trial_id for trial, _ in found])
        chart = Curves(f"{metric} ({mode}) by trial", "trial", metric, [each, Curve("best so far", xs, so_far, steps=True)])
        return draw(chart, backend)

    def plot_learning_curves(
        self, metric: str | None = None, *, x: str = "training_iteration", backend: str | None = None
    ) -> Any:
        """A metric over the rows of each trial; arguments and errors as in `plot_optimization_history`.

        Args:
            metric: Its name; by default the job's.
            x: What stands on the other axis: another key of the rows, such as `time_total_s`.
            backend: As there.
        """
        metric, _ = self._objective(metric, "min")
        curves = []
        for trial in self._to_plot():
            points = [
                (at, y) for row in trial.rows if (at := number(row, x)) is not None and (y := number(row, metric)) is not None
            ]
            if points:
                curves.append(Curve(trial.trial_id, [at for at, _ in points], [y for _, y in points]))
        if not curves:
            raise NotFitted(f"No row has numbers under both {x!r} and {metric!r}.")
        return draw(Curves(f"{metric} of each trial", x, metric, curves), backend)

    def plot_parallel_coordinates(
        self,
        metric: str | None = None,
        mode: str | None = None,
        *,
        parameters: Sequence[str] | None = None,
        scope: str = "last",
        backend: str | None = None,
    ) -> Any:
        """A line for each trial across its parameters to its value; arguments and errors as in `plot_optimization_history`.

        Args:
            metric: Its name; by default the job's.
            mode: "max" or "min"; by default the job's.
            parameters: Those that have an axis, `a/b` for nested ones; by default all that differ between trials.
            scope: As there.
            backend: As there.
        """
        metric, mode = self._objective(metric, mode)
        found = self._values(metric, mode, scope)
        configs = [trial.config for trial, _ in found]
        axes = [_axis(name, [config.get(name) for config in configs]) for name in _varied(configs, parameters)]
        axes.append(_axis(metric, [value for _, value in found]))
        return draw(Parallel(f"{metric} ({mode}) by parameters", axes), backend)

    def plot_parameter_importance(
        self,
        metric: str | None = None,
        mode: str | None = None,
        *,
        parameters: Sequence[str] | None = None,
        evaluator: str = "fanova",
        scope: str = "last",
        backend: str | None = None,
    ) -> Any:
        """How much each parameter matters for a metric, by one of Optuna's evaluators; errors as in `plot_optimization_history`.

        Args:
            metric: Its name; by default the job's.
            mode: "max" or "min"; by default the job's.
            parameters: Those to look at; by default all that all trials have and that differ.
            evaluator: "fanova", "mdi" (both need scikit-learn) or "ped_anova".
            scope: As there.
            backend: As there.
        """
        metric, mode = self._objective(metric, mode)
        found = self._values(metric, mode, scope)
        shares = importances([trial.config for trial, _ in found], [value for _, value in found], mode, evaluator, parameters)
        title = f"importance for {metric} ({evaluator}, {len(found)} trials)"
        return draw(Bars(title, "share of what explains the metric", list(shares.items())), backend)

    def plot_attempts(self, *, backend: str | None = None) -> Any:
        """All attempts on a time axis, one row for each trial, failures marked.

        An attempt that was lost with its driver ends at its last row; time without a driver is a gap.

        Args:
            backend: "plotly" or "matplotlib"; by default the first that is installed.

        Raises:
            ConfigError: No library is installed.
            NotFitted: No attempt has begun.
        """
        begun = [(trial, attempt) for trial in self._to_plot() for attempt in trial.attempts if attempt.began]
        if not begun:
            raise NotFitted("No attempt of any trial is on record yet.")
        first = min(attempt.began for _, attempt in begun)
        last = max(max(attempt.began, attempt.ended) for _, attempt in begun)
        last = max([last, *(float(row.get("timestamp") or 0) for trial, _ in begun for row in trial.rows[-1:])])
        spans = []
        for trial, attempt in begun:
            failed = attempt.outcome == "failed"
            kind = f"failed ({attempt.kind})" if failed else attempt.outcome
            text = f"attempt {attempt.number}: {kind}" + (f": {attempt.message}" if attempt.message else "")
            spans.append(Span(trial.trial_id, attempt.began - first, (attempt.ended or last) - first, kind, text, mark=failed))
        return draw(Spans("attempts", "seconds since the first began", spans), backend)

    def _to_plot(self) -> list[PlottedTrial]:
        """All trials, in order of creation."""
        raise NotImplementedError

    def _objective(self, metric: str | None, mode: str | None) -> tuple[str, str]:
        """Metric and mode, by default the job's."""
        raise NotImplementedError

    def _values(self, metric: str, mode: str, scope: str) -> list[tuple[PlottedTrial, float]]:
        """The trials that have a finite number, each with what stands for it."""
        check_mode(mode)
        check_scope(scope)
        found = []
        for trial in self._to_plot():
            values = [value for row in trial.rows if (value := number(row, metric)) is not None]
            value = summary(values, mode, scope, finite=True)
            if value is not None and isfinite(value):
                found.append((trial, value))
        if not found:
            raise NotFitted(f"No trial has a finite number under {metric!r}.")
        return found


def _varied(configs: list[dict[str, Any]], asked: Sequence[str] | None) -> list[str]:
    """The parameters to show."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    if asked is not None:
        unknown = sorted(set(asked) - set(names))
        if unknown:
            raise ConfigError(f"parameters={list(asked)!r}: {unknown} is in no configuration; there are {names}.")
        return list(asked)
    return [name for name in names if len({repr(config.get(name)) for config in configs}) > 1]


def _axis(name: str, values: list[Any]) -> Axis:
    """Numbers by their size, on a logarithmic scale where they differ a hundredfold; all else one position for each value."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) for value in values):
        low, high = min(values), max(values)
        if low > 0 and high / low >= 100:
            positions = [log10(value) for value in values]
            ends = _spread(log10(low), log10(high))
            return Axis(name, positions, [(at, f"{10**at:.3g}") for at in ends])
        few = sorted(set(values)) if all(isinstance(value, int) for value in values) else []
        ticks = few if 0 < len(few) <= _MOST_TICKS else _spread(low, high)
        return Axis(name, [float(value) for value in values], [(float(at), f"{at:.4g}") for at in ticks])
    kinds = _in_order(values)
    return Axis(name, [float(kinds.index(str(value))) for value in values], [(float(at), kind) for at, kind in enumerate(kinds)])


def _spread(low: float, high: float) -> list[float]:
    """Five places from low to high."""
    return [low] if low == high else [low + (high - low) * part / 4 for part in range(5)]


def _in_order(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values})
