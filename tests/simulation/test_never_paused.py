"""No trial is ever left paused: schedulers that pause, in virtual time, with trials that fail and workers that die."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast._assembly.explaining import explain
from holdfast._projection.history import load_state
from holdfast.config import FailureConfig, RunConfig, TuneConfig
from holdfast.engines.simulated import seeded_fate
from holdfast.schedulers import HyperBandForBOHB, HyperBandScheduler, MedianStoppingRule, TrialScheduler
from holdfast.search import ConcurrencyLimiter, Searcher
from holdfast.search.bohb import TuneBOHB
from holdfast.space import uniform
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.history import check_history
from holdfast.testing.simulation import Simulation
from simulation.checking import problems_of
from simulation.jobs import uneven

VALUES = [0.0, 1.0, 2.0, float("nan"), float("inf"), None, "text"]


def mixed(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Up to twelve rows, some without a number, some with a checkpoint; some trials return early."""
    lots = random.Random(f"{config['x']}")
    last = lots.choice([2, 5, 12, 12])
    rows = [lots.choice(VALUES) for _ in range(last)]
    for i in range(state["i"] + 1 if state else 0, last):
        yield ({"score": rows[i]}, {"i": i}) if i % 2 else {"score": rows[i]}


SCHEDULERS: dict[str, Callable[[], TrialScheduler]] = {
    "hyperband": lambda: HyperBandScheduler(max_t=9, reduction_factor=2),
    "hb_bohb": lambda: HyperBandForBOHB(max_t=9),
    "median": lambda: MedianStoppingRule("training_iteration", grace_period=1, min_samples_required=2),
    "median-soft": lambda: MedianStoppingRule("training_iteration", grace_period=1, hard_stop=False),
}
SEARCHERS: dict[str, Callable[[], Searcher | None]] = {
    "random": lambda: None,
    "bohb": TuneBOHB,
    "limited": lambda: ConcurrencyLimiter(TuneBOHB(), 2),
    "batches": lambda: ConcurrencyLimiter(TuneBOHB(), 3, batch=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("seed", range(4))
def test_every_trial_ends(scheduler: str, searcher: str, seed: int) -> None:
    print("seed", seed)
    simulation = Simulation(
        mixed,
        {"x": uniform(0, 1)},
        TuneConfig(
            metric="score",
            mode="max",
            num_samples=14,
            scheduler=SCHEDULERS[scheduler](),
            search_alg=SEARCHERS[searcher](),
            seed=seed,
        ),
        RunConfig(name="mixed", verbose=0, failure_config=FailureConfig(max_failures=1)),
        workers=1 + seed % 3,
        seconds=uneven,
        fails=seeded_fate(seed, 0.05, 0.05),
    )
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    _check(disk)
    chance = random.Random(seed)
    again = crash(disk, chance.randint(born, len(disk.log)), chance, chance.choice(["kill", "power"]))
    simulation.run(again)
    _check(again)


def _check(disk: SimulatedStorage) -> None:
    assert problems_of(disk) == []
    assert check_history(disk, []) == []
    assert explain(disk) == []
    states = Counter(trial.state for trial in load_state(disk).trials.values())
    assert states.total() == 14
    assert set(states) <= {"TERMINATED", "ERROR"}
