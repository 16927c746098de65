"""The stopper that counts rows."""

from __future__ import annotations

from typing import Any

from holdfast.stopper.base import Stopper

__all__ = ["MaximumIterationStopper"]


class MaximumIterationStopper(Stopper):
    """Stops a trial at its `max_iter`-th row, whatever iteration the row says.

    Args:
        max_iter: How many rows a trial may report.
    """

    own_chance = True

    def __init__(self, max_iter: int) -> None:
        self._max_iter = max_iter
        self._rows: dict[str, int] = {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        rows = self._rows[trial_id] = self._rows.get(trial_id, 0) + 1
        return rows >= self._max_iter

    def stop_all(self) -> bool:
        return False
