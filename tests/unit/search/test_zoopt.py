"""ZOOptSearch: the suite, and what is ZOOpt's own."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest
import zoopt

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search import Searcher
from holdfast.search.zoopt import ZOOptSearch
from holdfast.space import choice, lograndint, randint, uniform
from unit.search.searcher_suite import Play, SearcherSuite


class TestZOOpt(SearcherSuite):
    library = extra = "zoopt"

    def make(self, **arguments: Any) -> ZOOptSearch:
        if "space" in arguments:
            arguments["dim_dict"] = arguments.pop("space")
        return ZOOptSearch(**arguments)


SPACE = {"x": uniform(0, 1), "in": {"n": lograndint(1, 65)}, "c": choice(["a", None])}


def _begun(**arguments: Any) -> ZOOptSearch:
    searcher = ZOOptSearch(**arguments)
    searcher.set_search_properties("loss", "min", {} if "dim_dict" in arguments else SPACE, num_samples=20, seed=3)
    return searcher


def test_one_trial_after_another_is_never_waited_for_in_vain() -> None:
    """ZOOpt's own search waits for its random trials to end, and does not see that they have where it was not asked meanwhile."""
    searcher = _begun()
    for n in range(20):
        config = searcher.suggest(f"t{n}")
        assert isinstance(config, dict)
        searcher.on_trial_complete(f"t{n}", {"loss": config["x"]})


def test_it_waits_for_the_random_ones() -> None:
    searcher = _begun(parallel_num=2)
    configs = [searcher.suggest(f"t{n}") for n in range(6)]
    assert [config is None for config in configs] == [False] * 4 + [True] * 2
    for n in range(4):
        assert searcher.suggest("early") is None
        searcher.on_trial_complete(f"t{n}", None if n == 1 else {"loss": float(n)}, error=n == 1)
    later = [searcher.suggest(f"l{n}") for n in range(3)]
    assert [config is None for config in later] == [False, False, True]


def test_it_finds_what_is_good() -> None:
    play = Play(_begun(budget=60)).go(60, lambda config: (config["x"] - 0.7) ** 2 + (config["c"] == "a"))
    assert sum(abs(config["x"] - 0.7) < 0.15 for config in play.configs[20:]) >= 24  # by luck alone 12


def test_two_searches_in_one_process_and_one_from_a_pickle() -> None:
    """ZOOpt keeps the precisions of the last search that began in a global."""

    def run(disturbed: bool) -> list[Any]:
        play = Play(_begun()).go(9, lambda config: config["x"])
        if disturbed:
            ZOOptSearch(dim_dict={"k": randint(1, 9)}, metric="loss", mode="min", budget=9).suggest("t")
            play.searcher = pickle.loads(cloudpickle.dumps(play.searcher))
            zoopt.utils.zoo_global.gl.float_precisions = []
            np.random.seed(7)
        return play.go(20, lambda config: config["x"]).configs

    assert run(disturbed=True) == run(disturbed=False)


def test_a_space_in_its_own_words() -> None:
    kinds = zoopt.ValueType
    space = {
        "x": (kinds.CONTINUOUS, [-10, 10], 0.01),
        "n": (kinds.DISCRETE, [-3, 3], True),
        "g": (kinds.GRID, ["relu", "tanh"]),
    }
    play = Play(_begun(dim_dict=space)).go(20, lambda config: abs(config["x"]))
    assert all(-10 <= config["x"] <= 10 and config["n"] in range(-3, 4) for config in play.configs)
    assert {config["g"] for config in play.configs} == {"relu", "tanh"}
    assert all(abs(config["x"] * 100 - round(config["x"] * 100)) < 1e-6 for config in play.configs)


def test_a_space_that_is_used_up_ends_the_search() -> None:
    searcher = ZOOptSearch(dim_dict={"k": randint(0, 2)}, metric="loss", mode="min", budget=10)
    answers = []
    for n in range(8):
        answers.append(searcher.suggest(f"t{n}"))
        if answers[-1] == Searcher.FINISHED:
            break
        searcher.on_trial_complete(f"t{n}", {"loss": 1.0})
    assert answers[-1] == Searcher.FINISHED


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"algo": "racos"}, ConfigError, "asracos"),
        ({"budget": 2}, ConfigError, "3 or more"),
        ({"parallel_num": 0}, ConfigError, "1 or more"),
        ({"nonsense": 1}, ConfigError, "nonsense"),
        ({"dim_dict": {"x": (1, [0, 1])}}, SearchSpaceError, "'x'"),
        ({"dim_dict": [1]}, SearchSpaceError, "dim_dict"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        _begun(**arguments).suggest("t")
