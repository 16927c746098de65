"""`LoggerCallback`: what one derives a logger from. Knows which callback becomes which `log_...` call; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast.callback import Callback

if TYPE_CHECKING:
    from holdfast.trial import Trial

__all__ = ["LoggerCallback"]


class LoggerCallback(Callback):
    """Base class of loggers, given in `RunConfig(callbacks=[...])`: override the `log_...` methods that you need.

    After a crash the one call that was under way may come again, see `Callback`.
    """

    def log_trial_start(self, trial: Trial) -> None:
        """Called when a worker runs an attempt of the trial."""

    def log_trial_restore(self, trial: Trial) -> None:
        """Called when an attempt begins from a checkpoint."""

    def log_trial_save(self, trial: Trial) -> None:
        """Called when a checkpoint is on record."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Called for each row, with what earlier callbacks changed in it."""

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Called when the trial is done, or (`failed`) failed for good."""

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Calls `log_trial_start`."""
        self.log_trial_start(trial)

    def on_trial_restore(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Calls `log_trial_restore`."""
        self.log_trial_restore(trial)

    def on_trial_save(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Calls `log_trial_save`."""
        self.log_trial_save(trial)

    def on_trial_result(self, iteration: int, trials: Sequence[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Calls `log_trial_result`."""
        self.log_trial_result(iteration, trial, result)

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Calls `log_trial_end`."""
        self.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Calls `log_trial_end`, failed."""
        self.log_trial_end(trial, failed=True)
