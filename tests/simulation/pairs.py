"""The pairs of scheduler and searcher that the simulation crashes, as a table: importable, so that a fresh process can restore.

To add one: a line in `SCHEDULERS` or `SEARCHERS` for a new part, made anew by each call, and its name in `TOGETHER`. A
part's factory imports all that it will need, so that `warm_up` has it loaded before processes are forked.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

from holdfast.config import RunConfig, TuneConfig
from holdfast.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    PopulationBasedTrainingReplay,
    ResourceChangingScheduler,
)
from holdfast.schedulers.base import TrialScheduler
from holdfast.schedulers.resource_changing_scheduler import DistributeResourcesToTopJob
from holdfast.search import BasicVariantGenerator, ConcurrencyLimiter, Repeater, Searcher
from holdfast.space import choice, randint, uniform
from holdfast.testing.simulation import Simulation
from simulation.jobs import SEED, train, train_sparse, uneven
from simulation.schedulers import ByPromise, Evicts
from simulation.schedulers import HoldsLock as HoldsLockToo
from simulation.searchers import CannotRestore, HoldsLock, SavesItself


def train_second(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Nine rows, a checkpoint every second."""
    for i in range(state["i"] + 1 if state else 0, 9):
        row = {"score": (config["x"] - 0.3) ** 2 + config["y"] + 1 / (i + 1), "i": i}
        yield (row, {"i": i}) if i % 2 else row


_OF_POPULATIONS = ("pbt", "pbt-explore", "pbt-synch", "pbt-synch-explore", "pbt_replay", "pb2")
TRAINABLES = {"resource_changing": train, "resource-top": train} | dict.fromkeys(_OF_POPULATIONS, train_second)


def _optuna(sampler: str = "TPESampler", **options: Any) -> Searcher:
    import cmaes  # noqa: F401 - Optuna loads it late
    import optuna

    from holdfast.search.optuna import OptunaSearch

    return OptunaSearch(sampler=getattr(optuna.samplers, sampler)(seed=SEED % 2**32, **options))


def _bohb() -> Searcher:
    from holdfast.search.bohb import TuneBOHB

    return TuneBOHB(bohb_config={"random_fraction": 0.1})


def _pbt(interval: int, **options: Any) -> TrialScheduler:
    mutations = {"x": uniform(0, 1), "y": [0, 1, 2], "deep": {"n": randint(1, 100), "new": [1.5, 2.5]}}
    return PopulationBasedTraining("training_iteration", None, None, interval, hyperparam_mutations=mutations, **options)


def _own_words(config: dict[str, Any]) -> dict[str, Any]:
    """A user's explore function, which draws from the global generator."""
    return {**config, "x": min(max(config["x"] + random.gauss(0, 0.01), 0.0), 1.0)}


def _replay() -> TrialScheduler:
    lines = [["1", "0", 3, 2, {"x": 0.9}, {"x": 0.5}], ["2", "1", 6, 6, {"x": 0.5}, {"x": 0.4}]]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{json.dumps(line)}\n" for line in lines))
        file.flush()
        return PopulationBasedTrainingReplay(file.name)


def _pb2() -> TrialScheduler:
    import numpy.random  # noqa: F401 - PB2 loads it late

    from holdfast.schedulers.pb2 import PB2

    return PB2("training_iteration", perturbation_interval=2, hyperparam_bounds={"x": [0, 1], "deep": {"n": [1, 100]}})


def _library(module: str, kind: str, **arguments: Any) -> Searcher:
    searcher: Searcher = getattr(import_module(f"holdfast.search.{module}"), kind)(**arguments)
    return searcher


SCHEDULERS: dict[str, Callable[[], TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "asha": lambda: ASHAScheduler(max_t=9, grace_period=1, reduction_factor=2),
    "hyperband": lambda: HyperBandScheduler(max_t=4, reduction_factor=2),
    "hb_bohb": lambda: HyperBandForBOHB(max_t=4, reduction_factor=2),
    "median": lambda: MedianStoppingRule("training_iteration", grace_period=2, min_samples_required=2),
    "median-soft": lambda: MedianStoppingRule("training_iteration", grace_period=2, min_time_slice=2, hard_stop=False),
    "pbt": partial(_pbt, 2, quantile_fraction=0.5),
    "pbt-explore": partial(_pbt, 3, custom_explore_fn=_own_words),
    "pbt-synch-explore": partial(_pbt, 3, synch=True, quantile_fraction=0.4, custom_explore_fn=_own_words),
    "pbt-synch": partial(_pbt, 3, synch=True, quantile_fraction=0.4),
    "pbt_replay": _replay,
    "pb2": _pb2,
    "resource_changing": lambda: ResourceChangingScheduler(ASHAScheduler(max_t=9, reduction_factor=2)),
    "resource-top": lambda: ResourceChangingScheduler(ASHAScheduler(max_t=9, reduction_factor=2), DistributeResourcesToTopJob()),
    "a user's that orders": Evicts,
    "a user's that chooses": ByPromise,
    "a user's with a lock": HoldsLockToo,
}

SEARCHERS: dict[str, Callable[[], Searcher]] = {
    "random": BasicVariantGenerator,
    "bohb": _bohb,
    "optuna": partial(_optuna, n_startup_trials=3),
    "optuna-cma": partial(_optuna, "CmaEsSampler", n_startup_trials=2, warn_independent_sampling=False),
    "bayesopt": partial(_library, "bayesopt", "BayesOptSearch", random_search_steps=5, random_state=None),
    "hyperopt": partial(_library, "hyperopt", "HyperOptSearch", n_initial_points=3),
    "nevergrad": partial(_library, "nevergrad", "NevergradSearch"),
    "zoopt": partial(_library, "zoopt", "ZOOptSearch", parallel_num=2),
    "limited": lambda: ConcurrencyLimiter(_library("hyperopt", "HyperOptSearch", n_initial_points=2), 2),
    "batches": lambda: ConcurrencyLimiter(_library("hyperopt", "HyperOptSearch", n_initial_points=2), 3, batch=True),
    "repeated": lambda: Repeater(_library("hyperopt", "HyperOptSearch", n_initial_points=1), 2),
    "holds a lock": HoldsLock,
    "saves itself": SavesItself,
    "cannot restore": CannotRestore,
}

# Scheduler → the searchers that it is tried with.
TOGETHER: dict[str, list[str]] = {
    "fifo": ["optuna"],
    "hyperband": ["random", "bohb", "optuna"],
    "hb_bohb": ["bohb"],
    "median": ["random", "optuna"],
    "median-soft": ["random"],
    "asha": [
        "optuna",
        "optuna-cma",
        "hyperopt",
        "nevergrad",
        "zoopt",
        "bayesopt",
        "limited",
        "batches",
        "repeated",
        "holds a lock",
        "saves itself",
        "cannot restore",
    ],
    "pbt": ["random", "optuna"],
    "pbt-explore": ["random"],
    "pbt-synch": ["random"],
    "pbt-synch-explore": ["random"],
    "pbt_replay": ["random"],
    "pb2": ["random"],
    "resource_changing": ["random"],
    "resource-top": ["random"],
    "a user's that orders": ["random"],
    "a user's that chooses": ["random"],
    "a user's with a lock": ["random"],
}

# Pairs that think for long are crashed at fewer points than the others.
FEW = {"asha × bayesopt": 3}


def _pair(scheduler: str, searcher: str, workers: int) -> Simulation:
    tune = TuneConfig(
        metric="score",
        mode="min",
        num_samples=1 if scheduler == "pbt_replay" else 7,
        scheduler=SCHEDULERS[scheduler](),
        search_alg=SEARCHERS[searcher](),
        seed=SEED,
    )
    space = {"x": uniform(0, 1), "y": choice([0, 1, 2]), "deep": {"n": randint(1, 100)}, "fixed": (1, "two")}
    trainable = TRAINABLES.get(scheduler, train_sparse)
    return Simulation(trainable, space, tune, RunConfig(name="simulated", verbose=0), workers=workers, seconds=uneven)


PAIRS: dict[str, Callable[[int], Simulation]] = {
    f"{scheduler} × {searcher}": partial(_pair, scheduler, searcher)
    for scheduler, searchers in TOGETHER.items()
    for searcher in searchers
}


def warm_up() -> None:
    """Loads every library that the pairs need."""
    for make in (*SEARCHERS.values(), *SCHEDULERS.values()):
        make()
