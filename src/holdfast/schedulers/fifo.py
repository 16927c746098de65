"""First in, first out: the scheduler that lets every trial run to its end."""

from __future__ import annotations

from typing import Any

from holdfast.schedulers.base import TrialScheduler

__all__ = ["FIFOScheduler"]


class FIFOScheduler(TrialScheduler):
    """Runs trials in the order of their making and stops none."""

    own_chance = True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first pending trial, else the first paused one."""
        paused = None
        for trial in tune_controller.get_trials():
            if trial.status == "PENDING":
                return trial
            if paused is None and trial.status == "PAUSED":
                paused = trial
        return paused
