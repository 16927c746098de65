"""The stopper that ends the experiment after some time. It reads no clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from holdfast.errors import ConfigError
from holdfast.stopper.base import Stopper

__all__ = ["TimeoutStopper"]


class TimeoutStopper(Stopper):
    """Ends the experiment when it has run for `timeout`: the time that a driver was in charge, over all restores, never downtime.

    Args:
        timeout: Seconds, or a `datetime.timedelta`.
    """

    own_chance = True

    def __init__(self, timeout: float | timedelta) -> None:
        if isinstance(timeout, timedelta):
            self._timeout = timeout.total_seconds()
        elif isinstance(timeout, (int, float)) and not isinstance(timeout, bool):
            self._timeout = float(timeout)
        else:
            raise ConfigError(f"timeout must be seconds or a datetime.timedelta, not {timeout!r}.")
        if not self._timeout >= 0:
            raise ConfigError(f"timeout must not be negative, it is {timeout!r}.")
        self._now = 0.0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._now >= self._timeout

    def now(self, experiment_time: float) -> None:
        self._now = experiment_time
