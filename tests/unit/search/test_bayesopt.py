"""BayesOptSearch: the suite with the library that Nevergrad pins and with the current one, and what is the library's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bayes_opt
import pytest

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.bayesopt import BayesOptSearch
from holdfast.space import choice, randint, uniform
from unit.search.searcher_suite import Play, SearcherSuite

# The library hands on what SciPy and scikit-learn say of a model that has few points.
pytestmark = pytest.mark.filterwarnings("ignore")


class TestBayesOpt(SearcherSuite):
    library, extra = "bayes_opt", "bayesopt"
    trials = 7
    learning = (16, 5, 2, 0.2)

    def make(self, **arguments: Any) -> BayesOptSearch:
        return BayesOptSearch(**{"random_search_steps": 4, "random_state": None, **arguments})


def _begun(space: dict[str, Any], **arguments: Any) -> BayesOptSearch:
    searcher = BayesOptSearch(**{"random_search_steps": 3, **arguments})
    searcher.set_search_properties("loss", "min", space, seed=3)
    return searcher


@pytest.mark.parametrize("utility", [{"kind": "ucb"}, {"kind": "ei"}, {"kind": "poi", "xi": 0.01}], ids=lambda it: it["kind"])
def test_each_acquisition_function_goes_downhill(utility: dict[str, Any]) -> None:
    play = Play(_begun({"x": uniform(0, 1)}, utility_kwargs=utility)).go(12, lambda config: (config["x"] - 0.3) ** 2)
    assert min(abs(config["x"] - 0.3) for config in play.configs[5:]) < 0.1


def test_what_is_asked_at_the_same_time_is_not_the_same() -> None:
    searcher = _begun({"x": uniform(0, 1), "y": uniform(0, 1)})
    play = Play(searcher).go(6, lambda config: config["x"])
    together = [play.call("suggest", f"beside{n}") for n in range(4)]
    assert all(isinstance(config, dict) for config in together)
    distances = [abs(a["x"] - b["x"]) + abs(a["y"] - b["y"]) for a in together for b in together if a is not b]
    assert min(distances) > 0.01


def test_where_all_was_tried_it_finishes() -> None:
    searcher = _begun({"c": choice(["a", "b"])}, patience=2, repeat_float_precision=0)
    found = []
    for n in range(40):
        config = searcher.suggest(f"t{n}")
        if config == searcher.FINISHED:
            break
        found.append(config["c"])
        searcher.on_trial_complete(f"t{n}", {"loss": 1.0})
    assert config == searcher.FINISHED
    assert {"a", "b"} == set(found)


def test_bounds_as_the_library_writes_them_and_the_default_seed() -> None:
    def made(state: Any, seed: int) -> list[Any]:
        searcher = BayesOptSearch({"x": (0, 1), "y": (-5.0, 5.0)}, "loss", "min", random_state=state)
        assert searcher.set_search_properties(None, None, {"fixed": 1}, seed=seed)
        return Play(searcher).go(4, lambda config: config["x"]).configs

    assert made(42, 1) == made(42, 2)
    assert made(None, 1) != made(None, 2)
    assert all(0 <= config["x"] < 1 and -5 <= config["y"] < 5 for config in made(42, 1))
    with pytest.raises(SearchSpaceError, match="low, high"):
        BayesOptSearch({"x": 1}, "loss", "min").suggest("t")


def test_another_analysis_is_learned_from() -> None:
    def trial(x: float) -> Any:
        return SimpleNamespace(config={"x": x, "n": 3}, last_result={"loss": (x - 0.3) ** 2, "done": True}, status="TERMINATED")

    analysis = SimpleNamespace(trials=[trial(x / 10) for x in range(10)])
    searcher = _begun({"x": uniform(0, 1), "n": randint(0, 5)}, analysis=analysis, random_search_steps=0)
    found = [searcher.suggest(f"t{n}")["x"] for n in range(3)]
    assert min(abs(x - 0.3) for x in found) < 0.2


@pytest.mark.parametrize("wrong", [{"utility_kwargs": {"kind": "magic"}}, {"utility_kwargs": {"depth": 1}}, {"patience": 0}])
def test_arguments_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BayesOptSearch(**wrong)


def test_both_shapes_of_the_library_are_told_apart() -> None:
    assert hasattr(bayes_opt, "UtilityFunction") != hasattr(bayes_opt, "acquisition")
