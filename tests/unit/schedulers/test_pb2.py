"""Population based bandits: bounds, the model, and that all of it repeats."""

from __future__ import annotations

import math
import pickle
import random

import numpy as np
import pytest

from holdfast.errors import ConfigError, WrongType
from holdfast.schedulers.bandit import Observation, suggested
from holdfast.schedulers.pb2 import PB2
from unit.schedulers.stage import Stage

BOUNDS = {"lr": [1e-4, 1e-1], "deep": {"n": (1, 64)}}


def pb2(**kwargs):
    return PB2(**{"time_attr": "training_iteration", "perturbation_interval": 2, "hyperparam_bounds": BOUNDS, **kwargs})


def played(seed, size=6, rows=14, crash=0.0, **kwargs):
    """What a population was told to do, with a reward that likes lr around 0.07."""
    lots = random.Random(1)
    stage = Stage(pb2(**kwargs), places=3, metric="m", mode="max", seed=seed)
    for _ in range(size):
        stage.add({"lr": lots.uniform(1e-4, 1e-1), "deep": {"n": lots.randint(1, 64)}})
    stage.no_more()
    sums = {}
    while stage.running:
        trial = stage.running[0]
        if len(trial.rows) >= rows:
            stage.complete(trial)
            continue
        sums[trial.trial_id] = sums.get(trial.trial_id, 0.0) + 1 - abs(trial.config["lr"] - 0.07) * 10
        stage.report(trial, m=sums[trial.trial_id])
        if lots.random() < crash:
            stage.scheduler = pickle.loads(pickle.dumps(stage.scheduler))
    return [(order.trial_id, order.donor, order.config) for order in stage.orders if order.verb == "change"]


@pytest.mark.parametrize("synch", [False, True])
def test_it_explores_within_the_bounds_and_repeats(synch):
    changes = played(5, synch=synch)
    assert changes
    for _, _, config in changes:
        assert 1e-4 <= config["lr"] <= 1e-1
        assert 1 <= config["deep"]["n"] <= 64
        assert type(config["deep"]["n"]) is int
    np.random.seed(99)  # the global generator is not asked
    assert played(5, crash=0.5, synch=synch) == changes
    assert played(6, synch=synch) != changes


def test_what_a_new_trial_lacks_is_drawn():
    stage = Stage(pb2(), metric="m", mode="max", seed=3)
    trial = stage.add({"other": 1})
    assert 1e-4 <= trial.config["lr"] <= 1e-1
    assert 1 <= trial.config["deep"]["n"] <= 64


@pytest.mark.parametrize("seed", range(5))
def test_the_model_finds_what_improves_most(seed):
    print("seed", seed)
    chance = np.random.default_rng(seed)
    seen, points = [], []
    for step in range(60):
        point = suggested(seen, step / 4, 0.0, [], 2, chance)
        points.append(point)
        reward = -((point[0] - 0.7) ** 2) - (point[1] - 0.2) ** 2
        seen.append(Observation(step / 4, point, 0.0, reward + float(chance.normal(0, 0.01))))
    late = [math.dist(point, (0.7, 0.2)) for point in points[30:]]
    by_chance = 0.45  # the mean distance of a random point
    assert sorted(late)[len(late) // 2] < by_chance / 2


def test_the_model_forgets():
    """The best place moves; the old rewards must lose their say."""
    chance = np.random.default_rng(2)
    seen = [Observation(t, (x / 20,), 0.0, -abs(x / 20 - 0.1)) for t in range(5) for x in range(21)]
    seen += [Observation(t, (x / 20,), 0.0, -abs(x / 20 - 0.9)) for t in range(25, 28) for x in range(21)]
    assert np.median([suggested(seen, 28, 0.0, [], 1, chance)[0] for _ in range(7)]) > 0.6


def test_points_in_use_push_others_away():
    seen = [Observation(1.0, (x / 10,), 0.0, -abs(x / 10 - 0.5)) for x in range(11) if x not in (4, 5, 6)]
    alone = suggested(seen, 2.0, 0.0, [], 1, np.random.default_rng(1))
    beside = suggested(seen, 2.0, 0.0, [alone] * 3, 1, np.random.default_rng(1))
    assert abs(alone[0] - beside[0]) > 0.01


def test_odd_scores_break_nothing():
    lots = random.Random(4)
    odd = [math.nan, math.inf, None, "text", ..., 0.0]
    stage = Stage(pb2(quantile_fraction=0.5), places=2, metric="m", mode="min", seed=1)
    stage.play(
        lambda trial: None if len(trial.rows) > 9 else {"m": lots.choice(odd) if lots.random() < 0.5 else lots.random()},
        lots,
        new=6,
        fault=0.03,
    )


@pytest.mark.parametrize(
    ("bounds", "error"),
    [
        (None, ConfigError),
        ({}, ConfigError),
        ({"lr": [1]}, ConfigError),
        ({"lr": [1, 1]}, ConfigError),
        ({"lr": [1, math.inf]}, ConfigError),
        ({"lr": [1, "two"]}, ConfigError),
        ({"lr": 3}, WrongType),
        ({"deep": {"lr": 3}}, WrongType),
        ([1, 2], WrongType),
    ],
)
def test_bad_bounds(bounds, error):
    with pytest.raises(error):
        pb2(hyperparam_bounds=bounds)


def test_bounds_in_either_order():
    stage = Stage(pb2(hyperparam_bounds={"lr": [1e-1, 1e-4]}), metric="m", mode="max", seed=3)
    assert 1e-4 <= stage.add().config["lr"] <= 1e-1
    assert pb2().own_chance
    assert not pb2(custom_explore_fn=lambda config: config).own_chance
