"""What schedulers that compare trials have in common: a measure of progress, a metric, and which way is better.

Knows how to read the two out of a row. Refuses to know what is done about them.
"""

from __future__ import annotations

import math
from typing import Any

from holdfast.errors import ConfigError
from holdfast.schedulers.base import TrialScheduler

__all__ = ["JudgingScheduler", "number_of"]


class JudgingScheduler(TrialScheduler):
    """Base of schedulers that compare trials by one metric along one measure of progress.

    Args:
        time_attr: What a trial's progress is measured by.
        metric: What decides; None takes `TuneConfig`'s.
        mode: "min" or "max"; None takes `TuneConfig`'s.

    Raises:
        ConfigError: `mode` is neither.
    """

    own_chance = True

    def __init__(self, time_attr: str, metric: str | None, mode: str | None) -> None:
        _check_mode(mode)
        self._time_attr = time_attr
        self._metric = metric
        self._mode = mode
        self._timed = False  # whether some row held `time_attr`

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        if (self._metric and metric) or (self._mode and mode):
            return False
        _check_mode(mode)
        self._metric = metric or self._metric
        self._mode = mode or self._mode
        if self._metric is None and self._mode:
            self._metric = "_metric"
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Hears of a new trial.

        Raises:
            ConfigError: No metric or mode was given, here or in `TuneConfig`.
        """
        if not self._metric or not self._mode:
            raise ConfigError(
                f"{type(self).__name__} has metric={self._metric!r} and mode={self._mode!r}. "
                "Give both to it, or to TuneConfig(metric=..., mode=...)."
            )

    def progress_of(self, result: dict[str, Any]) -> float | None:
        """How far a row says that its trial has come; None where it does not say, or says no finite number.

        Raises:
            ConfigError: No row so far has held `time_attr`: the name must be wrong.
        """
        if self._time_attr not in result and not self._timed:
            raise ConfigError(
                f"{type(self).__name__} measures progress by time_attr={self._time_attr!r}, which the first row does not hold. "
                f"It holds {', '.join(sorted(map(str, result)))}. Report it in each row, or give one of these."
            )
        self._timed = True
        time = number_of(result.get(self._time_attr))
        return time if time is not None and math.isfinite(time) else None

    def score_of(self, result: dict[str, Any]) -> float | None:
        """A row's metric so that larger is better; what is not finite is worse than any number, None where there is no number."""
        value = number_of(result.get(self._metric or ""))
        if value is None:
            return None
        if not math.isfinite(value):
            return -math.inf
        return -value if self._mode == "min" else value


def number_of(value: Any) -> float | None:
    """A row's value as a float, None for what is no number."""
    if type(value) is float:
        return value
    if value is None or isinstance(value, (str, bytes, bytearray)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _check_mode(mode: str | None) -> None:
    if mode not in (None, "min", "max"):
        raise ConfigError(f"mode must be 'min' or 'max', not {mode!r}.")
