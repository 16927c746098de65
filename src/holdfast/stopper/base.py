"""The port of stoppers: who says that a trial, or all of them, have run long enough.

This module knows what a stopper is asked. It refuses to know the time: experiment time is given to a stopper by `now`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CombinedStopper", "Stopper"]


class Stopper:
    """Base of all stoppers.

    A stopper hears each row once, in an order that is on record, and must pickle: after a crash it is restored and told
    again what it had heard since.

    Attributes:
        own_chance: True if all its chance comes from its own generator (or there is none). Otherwise `random` and
            `numpy.random` are set around each call. A class of yours that inherits it from one of this library's says it anew.
    """

    own_chance = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial that reported `result` is to stop."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(trial_id, result)")

    def stop_all(self) -> bool:
        """Whether the whole experiment is to stop."""
        raise NotImplementedError(f"{type(self).__name__} must define stop_all()")

    def now(self, experiment_time: float) -> None:
        """Hears the experiment time before each call: seconds that a driver was in charge, never downtime."""


class CombinedStopper(Stopper):
    """Stops when any of several stoppers says so. Each of them hears every row.

    Args:
        *stoppers: The stoppers.
    """

    def __init__(self, *stoppers: Stopper) -> None:
        self._stoppers = stoppers
        ours = all(type(stopper).__module__.startswith("holdfast.") for stopper in stoppers)
        self.own_chance = ours and all(stopper.own_chance for stopper in stoppers)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        # A list, not a generator: those behind the one that stops must hear the row as well.
        verdicts = [stopper(trial_id, result) for stopper in self._stoppers]
        return any(verdicts)

    def stop_all(self) -> bool:
        return any(stopper.stop_all() for stopper in self._stoppers)

    def now(self, experiment_time: float) -> None:
        for stopper in self._stoppers:
            stopper.now(experiment_time)
