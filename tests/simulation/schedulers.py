"""Schedulers as users wrote them for Ray Tune's base class: nothing here knows what is ours."""

from __future__ import annotations

import random
import threading
from typing import Any

from holdfast.schedulers import FIFOScheduler, TrialScheduler


class Evicts(TrialScheduler):
    """At each third row a trial goes on with numbers near the best one's; what is far behind that is stopped, running or not."""

    def __init__(self, metric: str = "score", mode: str = "min") -> None:
        self._metric, self._mode = metric, mode
        self.removed: list[str] = []

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result["training_iteration"] % 3:
            return TrialScheduler.CONTINUE
        heard = [one for one in tune_controller.get_trials() if self._metric in one.last_result]
        best = min(heard, key=lambda one: one.last_result[self._metric])
        for other in tune_controller.get_live_trials():
            if other.last_result.get(self._metric, 0.0) > best.last_result[self._metric] + 1.5:
                tune_controller.stop_trial(other)
        if tune_controller.get_trial(best.trial_id) is trial or result[self._metric] > best.last_result[self._metric] + 1.5:
            return TrialScheduler.CONTINUE
        config = dict(trial.config)
        config["x"] = best.config["x"] * random.uniform(0.9, 1.1)
        tune_controller.pause_trial(trial, should_checkpoint=False)
        trial.set_experiment_tag(f"{trial.experiment_tag}@{best.trial_id[-1]}")
        trial.config = config
        return TrialScheduler.NOOP

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self.removed.append(trial.trial_id)


class ByPromise(FIFOScheduler):
    """Rests each trial after its second row, and runs the one whose newest row is best, chosen as Ray Tune's schedulers do."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.PAUSE if result["training_iteration"] == 2 else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if trial.status == trial.PENDING and tune_controller.has_resources_for_trial(trial):
                return trial
        paused = [trial for trial in tune_controller.get_trials() if trial.status == trial.PAUSED]
        return min(paused, key=lambda trial: trial.last_result["score"], default=None)


class HoldsLock(FIFOScheduler):
    """Keeps what has no pickle: a lock and a generator, made when they are first needed. It is replayed."""

    lock: Any = None
    lots: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if self.lock is None:
            self.lock = threading.Lock()
            self.lots = (random.random() for _ in iter(int, 1))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self.lock:
            return TrialScheduler.STOP if next(self.lots) < 0.15 else TrialScheduler.CONTINUE
