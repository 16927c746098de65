"""TuneBOHB: which budget is believed, what the model sees, and that it answers the same after any crash."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import statistics

import numpy as np
import pytest

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search import ConcurrencyLimiter, create_searcher
from holdfast.search.bohb import TuneBOHB
from holdfast.search.density import Axis, best_of
from holdfast.space import choice, grid_search, lograndint, loguniform, quniform, randint, sample_from, uniform

SPACE = {"x": uniform(0, 1), "y": uniform(0, 1)}
MODEL = {"random_fraction": 0.0}


def started(space=SPACE, mode="min", seed=1, bohb_config=MODEL, **kwargs):
    searcher = TuneBOHB(bohb_config=bohb_config, **kwargs)
    assert searcher.set_search_properties("m", mode, space, seed=seed) is True
    return searcher


def name(number):
    return f"abcde_{number:05d}"


def run(searcher, count, loss, first=0, budget=1):
    """Suggests and ends trials one after another; returns their configurations."""
    configs = []
    for number in range(first, first + count):
        config = searcher.suggest(name(number))
        searcher.on_trial_complete(name(number), {"m": loss(config), "training_iteration": budget})
        configs.append(config)
    return configs


def bowl(config):
    return (config["x"] - 0.8) ** 2 + (config["y"] - 0.2) ** 2


def far(config):
    return math.dist((config["x"], config["y"]), (0.8, 0.2))


def test_it_goes_where_losses_are_small():
    def distances(random_fraction):
        for seed in range(5):
            searcher = started(seed=seed, bohb_config={"random_fraction": random_fraction})
            yield statistics.median(map(far, run(searcher, 60, bowl)[30:]))

    assert max(distances(0)) < 0.35 < min(distances(1))


def test_it_goes_where_metrics_are_large_with_max():
    configs = run(started(mode="max"), 60, lambda config: -bowl(config))
    assert statistics.median(map(far, configs[30:])) < 0.35


def test_the_share_of_random_suggestions():
    """With losses that single out one corner, a third of the suggestions does not care."""
    configs = run(started(bohb_config=None), 300, lambda config: max(config.values()))
    away = sum(max(config.values()) > 0.5 for config in configs[100:]) / 200
    assert 0.15 < away < 0.4


def observed_by(searcher):
    """Budget → suggestion → loss."""
    return vars(vars(searcher)["_observed"])["_by_budget"]


def test_the_largest_budget_with_enough_observations_is_believed():
    searcher = started()
    run(searcher, 30, bowl, budget=1)
    opposite = lambda config: (config["x"] - 0.1) ** 2 + (config["y"] - 0.9) ** 2  # noqa: E731
    later = [searcher.suggest(name(30 + n)) for n in range(20)]
    assert statistics.median(map(far, later)) < 0.35
    for number, config in enumerate(later[:4], start=30):
        searcher.on_trial_result(name(number), {"m": opposite(config), "training_iteration": 3})
    assert far(searcher.suggest(name(90))) < 0.5  # four are too few for two hyperparameters
    for number, config in enumerate(later, start=30):
        searcher.on_trial_result(name(number), {"m": opposite(config), "training_iteration": 3})
    configs = run(searcher, 40, opposite, first=100, budget=3)
    assert statistics.median(map(far, configs[20:])) > 0.7


def test_what_smaller_budgets_said_is_let_go():
    searcher = started()
    run(searcher, 50, bowl, budget=1)
    run(searcher, 10, bowl, first=50, budget=9)
    assert list(observed_by(searcher)) == [9.0]
    searcher.suggest(name(70))
    searcher.on_trial_result(name(70), {"m": 1.0, "training_iteration": 1})
    assert list(observed_by(searcher)) == [9.0]


def test_every_row_is_an_observation_on_its_budget_and_the_last_one_of_a_budget_stands():
    searcher = started()
    searcher.suggest(name(0))
    for budget, loss in ((1, 5.0), (2, 4.0), (2, 3.0)):
        searcher.on_trial_result(name(0), {"m": loss, "training_iteration": budget})
    searcher.on_trial_complete(name(0), {"m": 3.0, "training_iteration": 2})
    searcher.on_trial_result(name(0), {"m": 99.0, "training_iteration": 3})  # it is over
    assert observed_by(searcher) == {1.0: {0: 5.0}, 2.0: {0: 3.0}}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "text", [], ...])
def test_what_is_no_number_breaks_nothing(bad):
    searcher = started()
    chance = random.Random(1)
    for number in range(40):
        config = searcher.suggest(name(number))
        row = {"training_iteration": 1, "m": bad if chance.random() < 0.5 else bowl(config)}
        if row["m"] is ...:
            del row["m"]
        searcher.on_trial_result(name(number), row)
        searcher.on_trial_complete(name(number), None if number % 7 == 0 else row, error=number % 5 == 0)
    assert all(0 <= value <= 1 for value in searcher.suggest(name(40)).values())


def test_failures_are_avoided():
    """Where x is above a half trials fail; elsewhere all are alike."""
    searcher = started()
    for number in range(80):
        config = searcher.suggest(name(number))
        if config["x"] > 0.5:
            searcher.on_trial_complete(name(number), error=True)
        else:
            searcher.on_trial_complete(name(number), {"m": 1.0, "training_iteration": 1})
    assert sum(searcher.suggest(name(100 + n))["x"] > 0.5 for n in range(20)) <= 4


def test_where_all_fail_it_stays_random():
    searcher = started()
    for number in range(30):
        searcher.suggest(name(number))
        searcher.on_trial_complete(name(number), error=True)
    assert len({searcher.suggest(name(100 + n))["x"] for n in range(20)}) == 20


def nested(width):
    return {
        "model": choice([{"kind": "tree", "depth": randint(1, 20)}, {"kind": "net", "width": width}]),
        "lr": loguniform(1e-5, 1e-1),
        "drop": quniform(0, 1, 0.25),
        "activation": choice([max, min]),
        "fixed": [1, 2],
        "double": sample_from(lambda spec: spec["lr"] * 2),
    }


def test_nested_conditional_and_quantised_spaces():
    searcher = started(nested(lograndint(1, 1000)))
    assert not searcher.own_chance  # it calls the user's function

    def loss(config):
        net = config["model"]["kind"] == "net"
        return abs(math.log10(config["lr"]) + 3) + (abs(config["model"]["width"] - 100) / 100 if net else 5)

    configs = run(searcher, 80, loss)
    for config in configs:
        assert config["fixed"] == [1, 2]
        assert config["double"] == config["lr"] * 2
        assert config["drop"] in (0.0, 0.25, 0.5, 0.75, 1.0)
        assert config["activation"] in (max, min)
        assert set(config["model"]) == {"kind", "width" if config["model"]["kind"] == "net" else "depth"}
    late = configs[40:]
    assert sum(config["model"]["kind"] == "net" for config in late) > 30
    assert statistics.median(abs(math.log10(config["lr"]) + 3) for config in late) < 0.8


def test_points_come_first_and_are_learned_from():
    searcher = started(points_to_evaluate=[{"x": 0.5, "y": 0.25}, {"y": 0.75}])
    assert searcher.suggest(name(0)) == {"x": 0.5, "y": 0.25}
    assert searcher.suggest(name(1))["y"] == 0.75
    searcher.on_trial_complete(name(0), {"m": 1.0, "training_iteration": 1})
    assert observed_by(searcher) == {1.0: {0: 1.0}}


def test_points_of_elsewhere_count_on_every_budget():
    searcher = started()
    chance = random.Random(1)
    for _ in range(40):
        config = {"x": chance.random(), "y": chance.random()}
        searcher.add_evaluated_point(config, bowl(config))
    assert statistics.median(far(searcher.suggest(name(n))) for n in range(20)) < 0.35
    configs = run(searcher, 10, bowl, first=20, budget=81)
    assert statistics.median(map(far, configs)) < 0.35


def story(searcher, count=40, first=0):
    """A life with pauses, rows and ends; returns what was suggested."""
    chance, said = random.Random(7), []
    for number in range(first, first + count):
        config = searcher.suggest(name(number))
        said.append(config)
        for budget in range(1, chance.choice([1, 3, 9]) + 1):
            searcher.on_trial_result(name(number), {"m": bowl(config) + 1 / budget, "training_iteration": budget})
        if number % 4 == 0:
            searcher.on_pause(name(number))
        else:
            searcher.on_trial_complete(name(number), {"m": bowl(config), "training_iteration": 9}, error=number % 9 == 0)
    return said


def test_it_answers_the_same_when_told_the_same_whatever_the_global_generators_are():
    one = story(started(bohb_config=None))
    random.seed(5)
    np.random.seed(5)
    assert story(started(bohb_config=None)) == one
    assert story(started(bohb_config=None, seed=2)) != one
    assert story(TuneBOHB(SPACE, None, "m", "min", seed=3)) == story(started(bohb_config=None, seed=3))
    assert started().own_chance


@pytest.mark.parametrize("way", ["pickle", "state", "file"])
def test_a_copy_goes_on_as_the_original_does(way, tmp_path):
    searcher = started()
    story(searcher)
    if way == "pickle":
        copy = pickle.loads(pickle.dumps(searcher))
    else:
        copy = started(seed=9)
        if way == "state":
            copy.set_state(searcher.get_state())
        else:
            searcher.save(str(tmp_path / "s"))
            copy.restore(str(tmp_path / "s"))
    assert story(copy, first=40) == story(searcher, first=40)


def test_adopted_configurations_take_the_place_of_what_was_said():
    searcher = started()
    searcher.suggest(name(0))
    searcher.adopt(name(0), {"x": 0.25, "y": 0.5})
    searcher.on_trial_complete(name(0), {"m": 1.0, "training_iteration": 1})
    ((observed, loss),) = observed_by(searcher)[1.0].items()
    assert vars(searcher)["_places"][observed] == [0.25, 0.5]
    assert loss == 1.0


def test_who_rests_does_not_count_against_the_bound():
    searcher = started(max_concurrent=2)
    searcher.suggest(name(0))
    searcher.suggest(name(1))
    assert searcher.suggest(name(2)) is None
    assert searcher.on_pause(name(0)) is True
    assert searcher.suggest(name(2)) is not None
    assert searcher.suggest(name(3)) is None
    searcher.on_unpause(name(0))
    searcher.on_trial_complete(name(1), {"m": 1.0, "training_iteration": 1})
    assert searcher.suggest(name(3)) is None
    searcher.on_trial_complete(name(2), {"m": 1.0, "training_iteration": 1})
    assert searcher.suggest(name(3)) is not None
    searcher.on_pause("unknown")
    searcher.on_unpause("unknown")


def test_a_limiter_leaves_the_bound_to_it():
    searcher = ConcurrencyLimiter(TuneBOHB(bohb_config=MODEL), 1)
    searcher.set_search_properties("m", "min", SPACE, seed=1)
    searcher.suggest(name(0))
    assert searcher.suggest(name(1)) is None
    searcher.on_pause(name(0))
    assert searcher.suggest(name(1)) is not None


def test_a_space_with_nothing_to_search():
    searcher = started({"x": choice([3]), "y": 4})
    assert searcher.suggest(name(0)) == {"x": 3, "y": 4}
    searcher.on_trial_complete(name(0), {"m": 1.0, "training_iteration": 1})


@pytest.mark.parametrize("space", [{"x": grid_search([1, 2])}, [("x", 0, 1)], object()])
def test_spaces_that_it_cannot_search(space):
    searcher = TuneBOHB(space=space) if not isinstance(space, dict) else TuneBOHB()
    with pytest.raises(SearchSpaceError):
        searcher.set_search_properties("m", "min", space if isinstance(space, dict) else {}, seed=1)


@pytest.mark.parametrize(
    "config",
    [
        {"min_points": 3},
        {"top_n_percent": 0},
        {"random_fraction": 2},
        {"num_samples": 0},
        {"bandwidth_factor": 0},
        {"min_bandwidth": 0},
    ],
)
def test_bad_settings(config):
    with pytest.raises(ConfigError, match=next(iter(config))):
        TuneBOHB(bohb_config=config)


def test_bad_arguments_and_names():
    with pytest.raises(ConfigError, match="max_concurrent"):
        TuneBOHB(max_concurrent=-1)
    assert isinstance(create_searcher("bohb", max_concurrent=3), TuneBOHB)


def test_settings_are_heeded():
    searcher = started(bohb_config={"random_fraction": 0, "min_points_in_model": 20})
    run(searcher, 21, bowl)
    assert vars(searcher)["_observed"].believed() == {}
    run(searcher, 1, bowl, first=21)
    assert len(vars(searcher)["_observed"].believed()) == 22


# The densities.


def test_the_best_place_lies_where_good_ones_are_and_others_are_not():
    chance = np.random.Generator(np.random.PCG64(1))
    good = np.column_stack([0.8 + 0.02 * chance.standard_normal(20), np.zeros(20)])
    bad = np.column_stack([0.2 + 0.02 * chance.standard_normal(20), np.full(20, 2.0)])
    for _ in range(20):
        number, category = best_of(good, bad, [Axis(), Axis(3)], chance)
        assert abs(number - 0.8) < 0.2
        assert category in (0.0, 1.0)


def test_places_stay_within_bounds_also_at_the_edges():
    chance = np.random.Generator(np.random.PCG64(1))
    axes = [Axis(), Axis(4)]
    edge = np.array([[1.0, 3.0], [1.0, 0.0], [0.0, 3.0]])
    for _ in range(100):
        number, category = best_of(edge, edge, axes, chance, factor=50.0)
        assert 0 <= number <= 1
        assert category in (0, 1, 2, 3)


def test_axes_that_do_not_count_are_filled_from_the_others():
    chance = np.random.Generator(np.random.PCG64(1))
    nan = math.nan
    good = np.array([[nan, nan, 0.9], [nan, nan, 0.8], [nan, nan, 0.7]])
    bad = np.array([[0.1, nan, 0.1], [nan, 2.0, 0.2], [0.1, 2.0, 0.3]])
    for places in itertools.islice(iter(lambda: best_of(good, bad, [Axis(), Axis(3), Axis()], chance), None), 50):
        assert not any(map(math.isnan, places))
        assert 0 <= places[0] <= 1
        assert places[1] in (0, 1, 2)
