"""The stopper that ends a trial whose metric no longer moves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from holdfast.errors import ConfigError
from holdfast.stopper.base import Stopper

__all__ = ["TrialPlateauStopper", "is_number", "spread"]


def is_number(value: Any) -> bool:
    """Whether a row's value is a number other than NaN and the infinities."""
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def spread(values: Sequence[Any]) -> float:
    """The standard deviation of the values themselves (divided by n); infinite if one of them is no finite number."""
    if not all(map(is_number, values)):
        return math.inf
    numbers = [float(value) for value in values]
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))


class TrialPlateauStopper(Stopper):
    """Stops a trial when the last `num_results` values of `metric` have a standard deviation below `std`.

    NaN, inf and missing values count as movement.

    Args:
        metric: What is watched.
        std: The standard deviation below which a trial stands still.
        num_results: How many rows are looked at.
        grace_period: How many rows a trial reports before it may be stopped.
        metric_threshold: Where the metric must have come to before the trial may be stopped.
        mode: With a threshold: "min" if the metric must be at most that, "max" if at least.
    """

    own_chance = True

    def __init__(
        self,
        metric: str,
        std: float = 0.01,
        num_results: int = 4,
        grace_period: int = 4,
        metric_threshold: float | None = None,
        mode: str | None = None,
    ) -> None:
        if metric_threshold is not None and mode not in ("min", "max"):
            raise ConfigError(f"metric_threshold needs mode='min' or mode='max', not {mode!r}.")
        if num_results < 1:
            raise ConfigError(f"num_results must be 1 or more, not {num_results}.")
        self._metric = metric
        self._std = std
        self._num_results = num_results
        self._grace_period = grace_period
        self._threshold = metric_threshold
        self._mode = mode
        self._rows: dict[str, int] = {}
        self._last: dict[str, deque[Any]] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        value = result.get(self._metric)
        last = self._last.setdefault(trial_id, deque(maxlen=self._num_results))
        last.append(value)
        rows = self._rows[trial_id] = self._rows.get(trial_id, 0) + 1
        if rows < self._grace_period or len(last) < self._num_results or not self._is_past_threshold(value):
            return False
        return spread(last) < self._std

    def stop_all(self) -> bool:
        return False

    def _is_past_threshold(self, value: Any) -> bool:
        if self._threshold is None:
            return True
        if not is_number(value):
            return False
        return bool(value <= self._threshold if self._mode == "min" else value >= self._threshold)
