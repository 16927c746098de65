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
