"""Which trial is best: one rule for results, tables and screens.

Knows metrics and scopes. Refuses to know where rows come from: the caller gives them, decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from holdfast._core.trial import TrialState
from holdfast.errors import ConfigError

__all__ = ["MODES", "SCOPES", "best_trial", "check_mode", "check_scope", "number", "summary"]

MODES = ("max", "min")
SCOPES = ("last", "all", "avg", "last-5-avg", "last-10-avg")

Rows = Callable[[TrialState], Iterable[Mapping[str, Any]]]


def check_mode(mode: str | None) -> None:
    """Raises `ConfigError` unless the mode is "max" or "min"."""
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}; give 'max' or 'min'.")


def check_scope(scope: str) -> None:
    """Raises `ConfigError` unless the scope is one of `SCOPES`."""
    if scope not in SCOPES:
        raise ConfigError(f"scope is {scope!r}; give one of {', '.join(map(repr, SCOPES))}.")


def number(row: Mapping[str, Any], metric: str) -> float | None:
    """The metric's value in a row, nested ones by `a/b`; None where there is none or it is no number."""
    value: Any = row.get(metric)
    if value is None and "/" in metric:
        value = row
        for key in metric.split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, (int, float)):
        return float(value)
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):  # an array of several numbers
        return None


def best_trial(
    trials: Iterable[TrialState], metric: str, mode: str, scope: str, *, last: Rows, rows: Rows, finite: bool = True
) -> tuple[TrialState, float] | None:
    """The trial with the best value of a metric, and that value; of equal ones the earliest.

    Args:
        trials: The candidates.
        metric: Its name; `a/b` for nested ones.
        mode: "max" or "min".
        scope: What stands for a trial: its "last" value, the best of "all", or an average.
        last: Gives a trial's newest row (one, or none): enough for the scope "last".
        rows: Gives all rows of a trial, oldest first.
        finite: Whether NaN and infinite values are passed over.

    Raises:
        ConfigError: No such mode or scope.
    """
    check_mode(mode)
    check_scope(scope)
    best: tuple[TrialState, float] | None = None
    for trial in trials:
        if trial.last is None:
            continue
        values = _values(last(trial), metric) if scope == "last" else []
        value = summary(values or _values(rows(trial), metric), mode, scope, finite)
        if value is None or (finite and not isfinite(value)):
            continue
        if best is None or (value > best[1] if mode == "max" else value < best[1]):
            best = trial, value
    return best


def _values(rows: Iterable[Mapping[str, Any]], metric: str) -> list[float]:
    return [value for row in rows if (value := number(row, metric)) is not None]


def summary(values: Sequence[float], mode: str, scope: str, finite: bool) -> float | None:
    """What stands for a trial with these values, oldest first; None where nothing does. See `best_trial`."""
    if scope == "all":
        values = [value for value in values if isfinite(value)] if finite else values
        return (max if mode == "max" else min)(values, default=None)
    if not values:
        return None
    if scope == "last":
        return values[-1]
    window = values if scope == "avg" else values[-5:] if scope == "last-5-avg" else values[-10:]
    return sum(window) / len(window)
