"""Callbacks: a user's own code that hears what happens in an experiment.

Every method has a body that does nothing; override what you need. `trial` is a `holdfast.Trial`, `trials` a sequence of
all trials, pending ones too.

After a crash: a callback is *at least once*. The one call that was under way when the driver died may come again, and
then carries `info["repeated"] = True`. A callback that returns its memory from `get_state` has that memory given back
by `set_state` after a restore, and hears again, with the same mark, what came after the memory was taken. An
exception that leaves a callback ends `fit()`; the experiment can be restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.checkpoint import Checkpoint
    from holdfast.trial import Trial

__all__ = ["Callback"]


class Callback:
    """Base class of callbacks, given in `RunConfig(callbacks=[...])`."""

    def setup(
        self,
        stop: Any = None,
        num_samples: int | None = None,
        total_num_samples: int | None = None,
        **info: Any,
    ) -> None:
        """Called once per run of the driver, before anything else."""

    def on_step_begin(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """Called at each turn of the driver, at least every 0.1 s. Not on record; decide nothing here."""

    def on_step_end(self, iteration: int, trials: Sequence[Trial], **info: Any) -> None:
        """Called at the end of each turn of the driver. Not on record; decide nothing here."""

    def on_trial_start(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Called when a worker runs an attempt of the trial."""

    def on_trial_restore(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Called when an attempt begins from a checkpoint, before `on_trial_start`."""

    def on_trial_save(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Called when a checkpoint is on record."""

    def on_checkpoint(self, iteration: int, trials: Sequence[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any) -> None:
        """Called when a checkpoint is on record, with the checkpoint."""

    def on_trial_result(self, iteration: int, trials: Sequence[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        """Called for each row, after the scheduler and before the trial goes on.

        What it changes in `result` in place reaches later callbacks, the loggers and `last_result`, and is on record.
        """

    def on_trial_complete(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Called when the trial is TERMINATED."""

    def on_trial_recover(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Called when an attempt failed and another is to follow."""

    def on_trial_error(self, iteration: int, trials: Sequence[Trial], trial: Trial, **info: Any) -> None:
        """Called when the trial failed for good."""

    def on_experiment_end(self, trials: Sequence[Trial], **info: Any) -> None:
        """Called when the experiment is over."""

    def get_state(self) -> dict[str, Any] | None:
        """The memory to bring back after a restore; None for none. Must be picklable."""
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` gave."""
