"""Metrics that are NaN, infinite, missing or no numbers, at random: they break no scheduler and no searcher, in any pair."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast._projection.history import load_history
from holdfast.config import RunConfig, TuneConfig
from holdfast.space import choice, randint, uniform
from holdfast.testing.simulation import Simulation
from simulation.pairs import SCHEDULERS, SEARCHERS, TOGETHER

# Those that are shipped: a user's own class may raise whatever it likes over such a row.
SHIPPED = [
    (scheduler, searcher)
    for scheduler, searchers in TOGETHER.items()
    for searcher in searchers
    if all(type(part()).__module__.startswith("holdfast.") for part in (SCHEDULERS[scheduler], SEARCHERS[searcher]))
]
ODD = [math.nan, math.inf, -math.inf, None, "much", [1, 2], {"deeper": 1}, True]


def train(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Nine rows, of which a half hold a number; which ones depends on the configuration alone."""
    chance = random.Random(f"{config['x']}")
    for i in range(9):
        score = config["x"] + 1 / (i + 1) if chance.random() < 0.5 else chance.choice(ODD)
        row = {"i": i} if chance.random() < 0.1 else {"i": i, "score": score}
        if state is None or i > state["i"]:
            yield row, {"i": i}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("scheduler", "searcher"), SHIPPED)
def test_odd_metrics_break_no_pair(scheduler: str, searcher: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    samples = 1 if scheduler == "pbt_replay" else 8
    config = TuneConfig(
        metric="score",
        mode="max" if seed % 2 else "min",
        num_samples=samples,
        scheduler=SCHEDULERS[scheduler](),
        search_alg=SEARCHERS[searcher](),
        seed=seed,
    )
    space = {"x": uniform(0, 1), "y": choice([0, 1, 2]), "deep": {"n": randint(1, 100)}}
    simulation = Simulation(train, space, config, RunConfig(name="odd", verbose=0), workers=3)
    disk = simulation.begin()
    assert simulation.run(disk).reason == "finished"
    state, history = load_history(disk)
    assert len(state.trials) == samples
    assert {trial.state for trial in state.trials.values()} == {"TERMINATED"}
    assert all(list(history.rows(trial_id)) for trial_id in state.trials)
