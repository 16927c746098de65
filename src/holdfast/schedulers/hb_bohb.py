"""HyperBand as BOHB runs it: the boldest bracket first, and the searcher knows which trials rest.

Falkner, Klein and Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018, sections 3.1 and 4.2.
This module knows in which order brackets are begun, and whom to tell. All else is `HyperBandScheduler`'s.
"""

from __future__ import annotations

from typing import Any

from holdfast.schedulers.hyperband import HyperBandScheduler

__all__ = ["HyperBandForBOHB"]


class HyperBandForBOHB(HyperBandScheduler):
    """`HyperBandScheduler` for `TuneBOHB`.

    It begins with the bracket that halves most often (s = s_max) and goes down to s = 0, so that the model soon has many cheap
    observations. When a bracket has all its trials and places are free, the next one is begun beside it. A searcher
    that has `on_pause(trial_id)` and `on_unpause(trial_id)` is told which trials rest at a milestone: they count against no
    bound of concurrent trials.

    Args, errors and what holds after a crash are those of `HyperBandScheduler`.
    """

    def _next_s(self) -> int:
        return self._s_max - self._begun % (self._s_max + 1)

    def _rests(self, tune_controller: Any, trial_id: str) -> None:
        tune_controller.search_alg.on_pause(trial_id)

    def _goes_on(self, tune_controller: Any, trial_id: str) -> None:
        tune_controller.search_alg.on_unpause(trial_id)
