"""Searchers in whole experiments: what is refused before a trial starts, what is merged, and what is kept afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast as tune
from holdfast.search import ConcurrencyLimiter, Repeater, Searcher
from holdfast.search.bayesopt import BayesOptSearch
from holdfast.search.bohb import TuneBOHB
from holdfast.search.hyperopt import HyperOptSearch
from holdfast.search.nevergrad import NevergradSearch
from holdfast.search.optuna import OptunaSearch
from holdfast.search.zoopt import ZOOptSearch


def zoopt(space: dict[str, Any] | None = None, **given: Any) -> ZOOptSearch:
    return ZOOptSearch(dim_dict=space, **given)


SEARCHERS = [OptunaSearch, HyperOptSearch, TuneBOHB, BayesOptSearch, NevergradSearch, zoopt]
LIMITED = [lambda **given: ConcurrencyLimiter(HyperOptSearch(**given), 2), lambda **given: Repeater(TuneBOHB(**given), 2)]
X = {"x": tune.uniform(0, 1)}


def train(config: dict[str, Any]) -> dict[str, float]:
    return {"loss": (config["x"] - 0.3) ** 2}


def fit(
    folder: Path,
    search: Any,
    space: dict[str, Any] = X,
    name: str = "exp",
    trainable: Callable[..., Any] = train,
    **config: Any,
) -> tune.ResultGrid:
    asked = tune.TuneConfig(**{"metric": "loss", "mode": "min", "num_samples": 4, "search_alg": search, **config})
    run = tune.RunConfig(name=name, storage_path=folder, verbose=0, engine="inline")
    return tune.Tuner(trainable, param_space=space, tune_config=asked, run_config=run).fit()


def configs(grid: tune.ResultGrid) -> list[dict[str, Any]]:
    return [result.config for result in grid]


@pytest.mark.parametrize("kind", [*SEARCHERS, *LIMITED])
def test_what_contradicts_itself_is_refused_before_a_trial_starts(kind: Callable[..., Searcher], tmp_path: Path) -> None:
    own = {"space": {"x": tune.uniform(0, 1)}, "metric": "loss", "mode": "min"}
    for search, space, config, told in (
        (kind(metric="accuracy"), X, {}, r"metric.*accuracy.*loss|metric.*loss.*accuracy"),
        (kind(mode="max"), X, {}, r"mode.*min.*max|mode.*max.*min"),
        (kind(**{**own, "metric": "accuracy"}), {"a": 1}, {"mode": None}, "metric"),
        (kind(), X, {"metric": None, "mode": None}, "mode"),
        (kind(**own), {"in": {"y": tune.uniform(0, 1)}}, {}, r"'in/y'"),
        (kind(), {"in": {"x": tune.grid_search([1, 2])}}, {}, r"'in/x' is a grid_search.*choice"),
        (ConcurrencyLimiter(kind(), 2), X, {"max_concurrent_trials": 3}, r"max_concurrent_trials=3.*max_concurrent=2"),
    ):
        with pytest.raises(ValueError, match=told):
            fit(tmp_path, search, space, name=f"e{random.random()}", **config)
    assert not [path for path in tmp_path.glob("*/*") if path.name.startswith("train_")]


@pytest.mark.parametrize("kind", [*SEARCHERS, *LIMITED])
def test_constants_keep_their_types_beside_a_space_of_the_searchers_own(kind: Callable[..., Searcher], tmp_path: Path) -> None:
    space = {"net": {"w": tune.uniform(0, 1)}}
    constants = {"net": {"sizes": (4, 8), "act": None}, 7: [b"x", {"path": Path("a")}], "n": np.int64(3)}
    grid = fit(tmp_path, kind(space=space), constants, trainable=lambda config: {"loss": config["net"]["w"]})
    for config in configs(grid):
        assert 0 <= config["net"].pop("w") < 1
        config.pop("__trial_index__", None)
        assert config == {"net": {"sizes": (4, 8), "act": None}, 7: [b"x", {"path": Path("a")}], "n": 3}
        assert type(config["n"]) is np.int64
        assert type(config["net"]["sizes"]) is tuple


@pytest.mark.parametrize("kind", [*SEARCHERS[:3], SEARCHERS[4]])
def test_numpys_seed_before_the_tuner_repeats_the_configurations(kind: Callable[..., Searcher], tmp_path: Path) -> None:
    found = []
    for name in "abc":
        np.random.seed(5 if name in "ab" else 6)
        found.append(configs(fit(tmp_path, kind(), name=name)))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kind", SEARCHERS)
def test_the_metric_is_by_default_what_a_trainable_returns(kind: Callable[..., Searcher], tmp_path: Path) -> None:
    search = kind(mode="min")
    grid = fit(tmp_path, search, metric=None, mode=None, trainable=lambda config: config["x"])
    assert search.metric == "_metric"
    assert [result.metrics["_metric"] for result in grid] == [result.config["x"] for result in grid]


@pytest.mark.parametrize("kind", SEARCHERS)
def test_points_count_as_samples(kind: Callable[..., Searcher], tmp_path: Path) -> None:
    few = fit(tmp_path, kind(points_to_evaluate=[{"x": 0.5}, {"x": 0.25}]), name="few", num_samples=3)
    many = fit(tmp_path, kind(points_to_evaluate=[{"x": 0.5}, {"x": 0.25}, {"x": 0.125}]), name="many", num_samples=2)
    assert [config["x"] for config in configs(few)][:2] == [0.5, 0.25]
    assert len(few) == 3
    assert [config["x"] for config in configs(many)] == [0.5, 0.25]


@pytest.mark.parametrize("kind", [*SEARCHERS, *LIMITED])
def test_the_users_own_searcher_can_be_saved_and_another_takes_its_memory_from_the_experiment(
    kind: Callable[..., Searcher], tmp_path: Path
) -> None:
    mine = kind()
    fit(tmp_path, mine, name="first", num_samples=6)
    mine.save(str(tmp_path / "mine"))
    by_file, by_experiment = kind(), kind()
    by_file.restore(str(tmp_path / "mine"))
    by_experiment.restore_from_dir(str(tmp_path / "first"))
    found = [configs(fit(tmp_path, one, name=f"second{n}", seed=9)) for n, one in enumerate((mine, by_file, by_experiment))]
    assert found[0] == found[1] == found[2]


class Old(Searcher):
    """Written for an older Ray Tune: it takes no further keywords, and has no memory to be saved."""

    def set_search_properties(self, metric: str, mode: str, config: dict[str, Any]) -> bool:
        self._metric, self._mode = metric, mode
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {"x": random.random()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None: ...


def test_a_users_searcher_may_take_less_than_it_is_told(tmp_path: Path) -> None:
    for name, search in (("alone", Old()), ("limited", ConcurrencyLimiter(Old(), 1))):
        assert len(fit(tmp_path, search, name=name)) == 4
        assert not list((tmp_path / name).glob("searcher-state*"))


class Unkind(Old):
    def get_state(self) -> dict[str, Any]:
        raise LookupError("not now")


def test_a_memory_that_cannot_be_saved_spoils_no_experiment(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Unkind could not be saved.*LookupError: not now"):
        assert len(fit(tmp_path, Unkind())) == 4


def test_a_limit_does_not_wait_for_trials_of_an_experiment_that_is_over(tmp_path: Path) -> None:
    search = ConcurrencyLimiter(HyperOptSearch(), 2)
    search.set_search_properties("loss", "min", X, seed=1)
    search.suggest("a"), search.suggest("b")
    search.save_to_dir(str(tmp_path))
    again = ConcurrencyLimiter(HyperOptSearch(), 2)
    again.restore_from_dir(str(tmp_path))
    assert len(fit(tmp_path, again)) == 4
