"""The experiments that the simulation crashes: importable, so that a fresh process can restore them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from holdfast.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from holdfast.engines.simulated import Moment, seeded_fate
from holdfast.schedulers import ASHAScheduler, FIFOScheduler
from holdfast.schedulers.base import TrialScheduler
from holdfast.space import choice, randint, uniform
from holdfast.stopper import (
    CombinedStopper,
    ExperimentPlateauStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
    Stopper,
    TimeoutStopper,
    TrialPlateauStopper,
)
from holdfast.testing.simulation import Simulation

SEED = 20261122


def train(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Nine rows, a checkpoint with every row."""
    for i in range(state["i"] + 1 if state else 0, 9):
        yield {"score": (config["x"] - 0.3) ** 2 + config["y"] + 1 / (i + 1), "i": i}, {"i": i}


def train_sparse(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Nine rows, a checkpoint every fourth."""
    for i in range(state["i"] + 1 if state else 0, 9):
        row = {"score": (config["x"] - 0.3) ** 2 + config["y"] + 1 / (i + 1), "i": i}
        yield (row, {"i": i}) if i % 4 == 3 else row


def train_noisy(config: dict[str, Any], state: dict[str, Any] | None = None, moment: Moment | None = None) -> Iterator[Any]:
    """As `train_sparse`, with noise that depends on the attempt: a redone row differs from the first."""
    assert moment is not None
    lots = random.Random(f"{moment.trial_id[-5:]}/{moment.attempt}")
    for i in range(state["i"] + 1 if state else 0, 9):
        row = {"score": (config["x"] - 0.3) ** 2 + config["y"] + 1 / (i + 1) + lots.uniform(0, 0.3), "i": i}
        yield (row, {"i": i}) if i % 5 == 4 else row


class PauseEveryThird(TrialScheduler):
    """Pauses a trial at each third row; picklable, and without chance."""

    own_chance = True

    def __init__(self) -> None:
        self.rows = 0

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.rows += 1
        return self.PAUSE if result["training_iteration"] % 3 == 0 else self.CONTINUE


def _space() -> dict[str, Any]:
    return {"x": uniform(0, 1), "y": choice([0, 1, 2]), "deep": {"n": randint(1, 100)}, "fixed": (1, "two")}


class LeastFirst(TrialScheduler):
    """Orders whatever can be ordered: at each third row the trial rests, the worst goes on from the best with new numbers, the
    one that has done least runs next, and what has changed twice is stopped. Its chance is given."""

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self.changes: dict[str, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        self.scores[trial.trial_id] = result["score"]
        if result["training_iteration"] % 3:
            return self.CONTINUE
        best, worst = min(self.scores, key=self.scores.__getitem__), max(self.scores, key=self.scores.__getitem__)
        if trial.trial_id == worst != best:
            donor = next(it for it in tune_controller.get_trials() if it.trial_id == best)
            self.changes[worst] = self.changes.get(worst, 0) + 1
            config = {**trial.config, "x": donor.config["x"] * random.uniform(0.8, 1.2)}
            tune_controller.change_trial(trial, config, donor=donor, tag=f"{trial.experiment_tag.partition('@')[0]}@{best}")
        return self.PAUSE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self.scores.pop(trial.trial_id, None)
        for other in tune_controller.get_live_trials():
            if self.changes.get(other.trial_id, 0) > 1:
                tune_controller.stop_trial(other)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        able = [trial for trial in tune_controller.get_trials() if tune_controller.may_start(trial)]
        return min(able, key=lambda trial: (trial.last_result.get("training_iteration", 0), trial.trial_id), default=None)


def stops_by_lot(trial_id: str, result: dict[str, Any]) -> bool:
    """A user's stop function, which draws from the global generator."""
    return random.random() < 0.03


def _all_stoppers() -> Stopper:
    return CombinedStopper(
        NoopStopper(),
        FunctionStopper(stops_by_lot),
        MaximumIterationStopper(7),
        TrialPlateauStopper("score", std=0.02, num_results=3, grace_period=3),
        ExperimentPlateauStopper("score", std=0.2, top=8, patience=3),
        TimeoutStopper(100_000),
    )


class FromEntropy(TrialScheduler):
    """Stops trials by the operating system's dice: no replay can repeat it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return self.STOP if random.SystemRandom().random() < 0.3 else self.CONTINUE


def _simulation(trainable: Callable[..., Any], scheduler: TrialScheduler, workers: int, **options: Any) -> Simulation:
    keep, most = options.pop("num_to_keep", None), options.pop("max_total_bytes", None)
    failures = options.pop("max_failures", 0)
    tune = TuneConfig(metric="score", mode="min", num_samples=options.pop("num_samples", 6), scheduler=scheduler, seed=SEED)
    run = RunConfig(
        name="simulated",
        verbose=0,
        failure_config=FailureConfig(max_failures=failures),
        checkpoint_config=CheckpointConfig(
            num_to_keep=keep, checkpoint_score_attribute="score", checkpoint_score_order="min", max_total_bytes=most
        ),
        **options.pop("run", {}),
    )
    return Simulation(trainable, _space(), tune, run, workers=workers, **options)


def _asha() -> ASHAScheduler:
    return ASHAScheduler(max_t=9, grace_period=1, reduction_factor=2)


def uneven(config: dict[str, Any], moment: Moment) -> float:
    """Steps of different lengths, so that workers race."""
    return 0.5 + config["x"] + (moment.number % 3) * 0.25


# Where the order of observations is no race and faults do not depend on the attempt's number, a restored run ends as the
# uninterrupted one did, byte for byte. "retries" and "noisy" have attempts that differ on purpose, "entropy" a plug-in.
REPEATABLE = (
    "fifo",
    "fifo-keep-2",
    "asha",
    "asha-sparse-keep-2",
    "pauses",
    "strict",
    "stop-rule",
    "stoppers",
    "async",
    "on-demand",
    "budget",
    "orders",
)

JOBS: dict[str, Callable[[int], Simulation]] = {
    "fifo": lambda workers: _simulation(train, FIFOScheduler(), workers, seconds=uneven, num_samples=3),
    "asha": lambda workers: _simulation(train, _asha(), workers, seconds=uneven, num_samples=8),
    "asha-sparse-keep-2": lambda workers: _simulation(train_sparse, _asha(), workers, seconds=uneven, num_to_keep=2),
    "retries": lambda workers: _simulation(
        train_sparse, _asha(), workers, seconds=uneven, max_failures=2, fails=seeded_fate(SEED, 0.04, 0.04)
    ),
    "pauses": lambda workers: _simulation(train_sparse, PauseEveryThird(), workers, seconds=uneven, num_samples=3),
    "noisy": lambda workers: _simulation(
        train_noisy, _asha(), workers, seconds=uneven, max_failures=-1, fails=seeded_fate(SEED, 0.06)
    ),
    "fifo-keep-2": lambda workers: _simulation(train, FIFOScheduler(), workers, seconds=uneven, num_to_keep=2, num_samples=2),
    "strict": lambda workers: _simulation(train, _asha(), workers, seconds=uneven, run={"durability": "strict"}),
    "entropy": lambda workers: _simulation(train, FromEntropy(), workers, seconds=uneven),
    "async": lambda workers: _simulation(
        train_sparse, _asha(), workers, seconds=uneven, num_to_keep=1, num_samples=4, upload_s=1.7
    ),
    "async-retries": lambda workers: _simulation(
        train, FIFOScheduler(), workers, max_failures=3, fails=seeded_fate(SEED, 0.1), num_samples=3, upload_s=2.3
    ),
    "on-demand": lambda workers: _simulation(train, _asha(), workers, seconds=uneven, on_demand=True),
    "on-demand-pauses": lambda workers: _simulation(
        train, PauseEveryThird(), workers, num_samples=3, on_demand=True, max_failures=3, fails=seeded_fate(SEED, 0.05)
    ),
    "orders": lambda workers: _simulation(train, LeastFirst(), workers, seconds=uneven, num_samples=3, num_to_keep=1),
    "orders-retries": lambda workers: _simulation(
        train_sparse, LeastFirst(), workers, num_samples=3, max_failures=3, fails=seeded_fate(SEED, 0.05)
    ),
    "budget": lambda workers: _simulation(train, _asha(), workers, seconds=uneven, num_samples=5, max_total_bytes=120),
    "stoppers": lambda workers: _simulation(
        train_sparse, FIFOScheduler(), workers, seconds=uneven, num_samples=6, run={"stop": _all_stoppers()}
    ),
    "stop-rule": lambda workers: _simulation(train, _asha(), workers, run={"stop": {"training_iteration": 4}}),
}
