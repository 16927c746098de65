"""Experiments that are extended: importable, so that a fresh process can restore them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from holdfast._assembly.driving import Outcome
from holdfast._assembly.extending import Wish
from holdfast._projection.history import load_state
from holdfast.config import CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from holdfast.engines.simulated import seeded_fate
from holdfast.schedulers import ASHAScheduler, FIFOScheduler, HyperBandScheduler, MedianStoppingRule
from holdfast.schedulers.base import TrialScheduler
from holdfast.search.base import Searcher
from holdfast.space import choice, grid_search, sample_from, uniform
from holdfast.stopper import MaximumIterationStopper
from holdfast.storage.base import Storage
from holdfast.testing.simulation import Reply, Simulation
from simulation.jobs import SEED, LeastFirst, PauseEveryThird, uneven
from simulation.pairs import _optuna, _pbt


def train(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Rows without an end, a checkpoint with every second."""
    i = state["i"] if state else 0
    while True:
        i += 1
        yield {"score": (config["x"] - 0.3) ** 2 + 1 / i, "i": i}, {"i": i} if i % 2 == 0 else None


def drawn(config: dict[str, Any]) -> float:
    """A user's function, which draws from the global generator."""
    import random

    return config["x"] + random.random()


class Extended(Simulation):
    """Comes to the end of the job, and is extended then, once by each of `more`; goes on from wherever it stands."""

    def __init__(self, more: list[dict[str, Any]], *, at_once: bool, **options: Any) -> None:
        super().__init__(train, options.pop("space"), options.pop("tune"), options.pop("run"), **options)
        self.more = more
        self.at_once = at_once

    def run(self, disk: Storage, **options: Any) -> Outcome:
        replies: list[Reply] = []
        before = len(load_state(disk).extensions)
        outcome = None
        if before or not self.at_once:
            outcome = super().run(disk, **options)
            replies += self.replies
        for more in self.more[before:]:
            outcome = super().run(disk, **options, wish=Wish(**more))
            replies += self.replies
        self.replies = replies
        assert outcome is not None
        return outcome


def _extended(
    workers: int,
    scheduler: TrialScheduler,
    *more: dict[str, Any],
    searcher: Searcher | None = None,
    at_once: bool = False,
    **options: Any,
) -> Extended:
    tune = TuneConfig(
        metric="score",
        mode="min",
        num_samples=options.pop("num_samples", 3),
        scheduler=scheduler,
        search_alg=searcher,
        seed=SEED,
        time_budget_s=options.pop("time_budget_s", None),
    )
    run = RunConfig(
        name="simulated",
        verbose=0,
        stop=options.pop("stop", {"training_iteration": 3}),
        failure_config=FailureConfig(max_failures=options.pop("max_failures", 0)),
        checkpoint_config=CheckpointConfig(num_to_keep=options.pop("num_to_keep", None)),
    )
    space = options.pop("space", {"x": uniform(0, 1), "y": choice([0, 1, 2]), "deep": {"n": 1, "m": (1, "two")}})
    return Extended(list(more), at_once=at_once, space=space, tune=tune, run=run, workers=workers, seconds=uneven, **options)


def _longer(rows: int, **more: Any) -> dict[str, Any]:
    return {"stop": {"training_iteration": rows}, **more}


def _asha() -> ASHAScheduler:
    return ASHAScheduler(max_t=9, grace_period=1, reduction_factor=2)


SPACE = {"x": uniform(2, 3), "y": choice([7, 8]), "deep": {"n": sample_from(drawn), "m": 3}}

# With one worker these end as the uninterrupted run, byte for byte; "retries" has attempts that differ on purpose, and what is
# redone after a crash counts against the "budget" of time.
EXTENDED: dict[str, Callable[[int], Extended]] = {
    "extended, fifo": lambda workers: _extended(workers, FIFOScheduler(), _longer(5, num_samples=2, new_space=SPACE)),
    "extended, twice": lambda workers: _extended(
        workers, FIFOScheduler(), _longer(4), _longer(6, num_samples=1), {"num_samples": 1, "new_space": SPACE}, num_samples=2
    ),
    "extended, grid": lambda workers: _extended(
        workers,
        FIFOScheduler(),
        {"num_samples": 1},
        _longer(4, num_samples=1, new_space={"x": grid_search([7.0, 8.0, 9.0]), "y": 0.5}),
        num_samples=1,
        space={"x": grid_search([1.0, 2.0]), "y": uniform(0, 1)},
    ),
    "extended, asha": lambda workers: _extended(
        workers, _asha(), _longer(8, num_samples=3), stop={"training_iteration": 4}, num_samples=5
    ),
    "extended, keep-1": lambda workers: _extended(workers, FIFOScheduler(), _longer(7, num_samples=1), num_to_keep=1),
    "extended, owing": lambda workers: _extended(workers, FIFOScheduler(), _longer(5, num_samples=1), on_demand=True),
    "extended, async": lambda workers: _extended(  # a power cut may take a checkpoint that was pending, the only one
        workers, FIFOScheduler(), _longer(5, num_samples=1, from_scratch_ok=True), upload_s=1.7, num_to_keep=1
    ),
    "extended, stopper": lambda workers: _extended(
        workers, FIFOScheduler(), {"stop": MaximumIterationStopper(5), "num_samples": 1}, stop=MaximumIterationStopper(3)
    ),
    "extended, budget": lambda workers: _extended(
        workers,
        FIFOScheduler(),
        {"time_budget_s": 60.0, "from_scratch_ok": True},
        {"time_budget_s": float("inf"), "num_samples": 1},
        time_budget_s=2.0,
        num_samples=4,
    ),
    "extended, pbt": lambda workers: _extended(workers, _pbt(2, quantile_fraction=0.5), _longer(7, num_samples=1), stop={"i": 4}),
    "extended, pbt-synch": lambda workers: _extended(
        workers, _pbt(2, quantile_fraction=0.4, synch=True), _longer(7, num_samples=1), stop={"i": 4}
    ),
    "extended, hyperband": lambda workers: _extended(
        workers, HyperBandScheduler(max_t=6, reduction_factor=2), _longer(5, num_samples=2)
    ),
    "extended, median": lambda workers: _extended(
        workers, MedianStoppingRule("training_iteration", grace_period=2, min_samples_required=2), _longer(6, num_samples=2)
    ),
    "extended, orders": lambda workers: _extended(
        workers, LeastFirst(), _longer(7, num_samples=1), stop={"training_iteration": 4}
    ),
    "extended, pauses": lambda workers: _extended(
        workers, PauseEveryThird(), _longer(7, num_samples=1), stop={"training_iteration": 4}
    ),
    "extended, optuna": lambda workers: _extended(
        workers,
        FIFOScheduler(),
        _longer(4, num_samples=3, new_space={**SPACE, "x": uniform(0.2, 2), "y": choice([0, 1, 2])}),
        searcher=_optuna(n_startup_trials=2),
        num_samples=4,
    ),
    "extended, optuna-asha": lambda workers: _extended(
        workers, _asha(), _longer(8, num_samples=3), searcher=_optuna(n_startup_trials=2), num_samples=4
    ),
    "extended, retries": lambda workers: _extended(
        workers, _asha(), _longer(6, num_samples=2), max_failures=-1, fails=seeded_fate(SEED, 0.06), num_samples=4
    ),
}

# Extended from wherever a run of the job above was crashed.
AT_ONCE: dict[str, Callable[[int], Extended]] = {
    "at once": lambda workers: _extended(workers, FIFOScheduler(), _longer(5, num_samples=2, new_space=SPACE), at_once=True),
    "at once, owing": lambda workers: _extended(
        workers, FIFOScheduler(), _longer(5, num_samples=1, from_scratch_ok=True), at_once=True, on_demand=True
    ),
    "at once, asha": lambda workers: _extended(
        workers, _asha(), _longer(8, num_samples=3, from_scratch_ok=True), at_once=True, stop={"training_iteration": 4}
    ),
    "at once, budget": lambda workers: _extended(
        workers, FIFOScheduler(), {"time_budget_s": 60.0, "from_scratch_ok": True}, at_once=True, time_budget_s=2.0
    ),
}
