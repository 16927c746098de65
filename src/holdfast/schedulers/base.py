"""The port of schedulers: who decides, row by row, which trials go on.

This module knows what a scheduler is asked and told. It refuses to know of drivers and journals: a scheduler gets a view
and returns one of four words. What it orders through the view (stop, pause, resume, change a trial) goes on record with its
answer and takes effect there.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["TrialScheduler"]


class TrialScheduler:
    """Base of all schedulers.

    A scheduler hears all in one order that is on record, and each answer is recorded: what it decided is never decided again.
    After a crash it is restored from its pickle and told again what it had heard since. So it must pickle, read no clock, and
    take chance only from `random`, `numpy.random` or a generator of its own.

    Attributes:
        CONTINUE, PAUSE, STOP, NOOP: What `on_trial_result` returns.
        own_chance: True if all its chance comes from its own generator (or there is none). Otherwise `random` and
            `numpy.random` are set around each call. A class of yours that inherits it from one of this library's says it anew.
    """

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    STOP = "STOP"
    NOOP = "NOOP"
    own_chance = False
    _metric: str | None = None
    _mode: str | None = None
    _supports_buffered_results = True

    @property
    def metric(self) -> str | None:
        """The metric that decides."""
        return self._metric

    @property
    def mode(self) -> str | None:
        """Which way the metric is better: "min" or "max", where the scheduler was told."""
        return self._mode

    @property
    def supports_buffered_results(self) -> bool:
        """Whether several rows may come at once."""
        return self._supports_buffered_results

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Gives the scheduler what the experiment optimizes, and its recorded `seed`, before the first trial.

        Returns:
            Whether it was taken; False says that the scheduler has its own metric already, which is the user's error.
        """
        if self._metric and metric:
            return False
        self._metric = metric or self._metric or "_metric"
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Hears of a new trial."""

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Hears that a trial failed for good."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides on a row (flattened): `CONTINUE`, `PAUSE` or `STOP`."""
        raise NotImplementedError(f"{type(self).__name__} must define on_trial_result")

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Hears that a trial ended, with its last row."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Hears that a trial was stopped by the scheduler's own `stop_trial`, or, while it had no worker, from outside."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Says which trial has a free place: the earliest pending one that fits, else the earliest paused one, or None for now.

        A scheduler that overrides this is asked whenever there is a place and a trial without a worker, and something new was
        heard since it last said None; its paused trials run again only when it chooses them. When nothing runs, nothing more
        will come and it says None, the earliest one is run all the same.
        """
        trials = [trial for trial in tune_controller.get_live_trials() if tune_controller.may_start(trial)]
        waiting = [trial for trial in trials if trial.status == trial.PENDING]
        return next(iter(waiting or trials), None)

    def debug_string(self) -> str:
        """One line or more for people."""
        return f"Using {type(self).__name__}"

    def save(self, checkpoint_path: str) -> None:
        """Writes all that the scheduler remembers to a file."""
        with open(checkpoint_path, "wb") as file:
            pickle.dump(self.__dict__, file)

    def restore(self, checkpoint_path: str) -> None:
        """Takes what `save` wrote. It is unpickled: give only files that you trust."""
        with open(checkpoint_path, "rb") as file:
            self.__dict__.update(pickle.load(file))
