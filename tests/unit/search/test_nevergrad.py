"""NevergradSearch: the suite, and what is Nevergrad's own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import cloudpickle
import nevergrad as ng
import numpy as np
import pytest

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.nevergrad import NevergradSearch
from holdfast.space import choice, lograndint, uniform
from unit.search.searcher_suite import Play, SearcherSuite


class TestNevergrad(SearcherSuite):
    library = extra = "nevergrad"

    def make(self, **arguments: Any) -> NevergradSearch:
        return NevergradSearch(**arguments)


SPACE = {"x": uniform(0, 1), "in": {"n": lograndint(1, 65)}, "c": choice(["a", None])}


def _begun(optimizer: Any, **arguments: Any) -> NevergradSearch:
    searcher = NevergradSearch(optimizer, **arguments)
    searcher.set_search_properties("loss", "min", SPACE, num_samples=20, seed=3)
    return searcher


@pytest.mark.parametrize("name", ["OnePlusOne", "CMA", "TwoPointsDE", "PSO", "TBPSA", "ScrHammersleySearch"])
def test_each_optimizer_goes_on_exactly(name: str) -> None:
    def run(again_at: int) -> list[Any]:
        play = Play(_begun(name)).go(12, lambda config: config["x"])
        play.call("adopt", "t11", {"x": 0.5, "in": {"n": 3}, "c": None})
        play.go(again_at, lambda config: config["x"])
        play.searcher = pickle.loads(cloudpickle.dumps(play.searcher))
        np.random.seed(again_at)  # nobody draws from it
        return play.go(20, lambda config: config["x"]).configs

    assert run(13) == run(17)


@pytest.mark.slow
def test_nothing_is_said_where_matplotlib_is_missing() -> None:
    """Neither when cma is loaded by the search, nor when a searcher that uses it is unpickled in another process."""
    begin = "import sys; sys.modules['matplotlib'] = None\n"
    ask = (
        "import cloudpickle\n"
        "from holdfast.search.nevergrad import NevergradSearch\n"
        "from holdfast.space import uniform\n"
        "searcher = NevergradSearch('CMA', metric='loss', mode='min', space={'x': uniform(0, 1), 'y': uniform(0, 1)})\n"
        "searcher.suggest('t')\n"
        "sys.stdout.buffer.write(cloudpickle.dumps(searcher))\n"
    )
    go_on = "import pickle\npickle.load(sys.stdin.buffer).suggest('u')\n"
    first = subprocess.run([sys.executable, "-c", begin + ask], capture_output=True, check=True)
    second = subprocess.run([sys.executable, "-c", begin + go_on], input=first.stdout, capture_output=True, check=True)
    assert (first.stderr, second.stderr) == (b"", b"")


@pytest.mark.parametrize("optimizer", ["OnePlusOne", ng.optimizers.OnePlusOne, ng.optimizers.ParametrizedOnePlusOne()])
def test_an_optimizer_by_name_class_and_configuration(optimizer: Any) -> None:
    play = Play(_begun(optimizer, optimizer_kwargs={"budget": 10})).go(5, lambda config: config["x"])
    assert all(0 <= config["x"] < 1 and 1 <= config["in"]["n"] < 65 for config in play.configs)
    assert all(type(config["in"]["n"]) is int and config["c"] in ("a", None) for config in play.configs)


@pytest.mark.parametrize(
    "parameter",
    [ng.p.Dict(x=ng.p.Scalar(lower=0, upper=1), c="kept"), ng.p.Instrumentation(x=ng.p.Scalar(lower=0, upper=1), c="kept")],
)
def test_the_users_own_optimizer_and_parameter(parameter: ng.p.Parameter) -> None:
    optimizer = ng.optimizers.OnePlusOne(parameter, budget=20)
    for searcher in (NevergradSearch(optimizer, points_to_evaluate=[{"x": 0.125}]), NevergradSearch("CMA", space=parameter)):
        assert searcher.set_search_properties("loss", "min", {"other": 1}, num_samples=20, seed=3)
        assert not searcher.own_chance  # the parameter's generator is seeded from NumPy's global one
        play = Play(searcher).go(8, lambda config: config["x"])
        assert all(0 <= config["x"] <= 1 and config["c"] == "kept" for config in play.configs)
        assert searcher.set_search_properties("loss", "min", {"x": uniform(0, 1)}) is False
        play.call("adopt", "t7", {"x": 0.5, "c": "kept", "other": 1})
        play.call("on_trial_complete", "t7", {"loss": 0.5})
        play.go(10, lambda config: config["x"])
    assert (
        Play(NevergradSearch(optimizer, points_to_evaluate=[{"x": 0.125}], metric="loss", mode="min")).go(1).configs[0]["x"]
        == 0.125
    )


def test_what_cannot_be_is_refused() -> None:
    optimizer = ng.optimizers.OnePlusOne(2, budget=20)
    with pytest.raises(ConfigError, match="has its space"):
        NevergradSearch(optimizer, space=SPACE)
    with pytest.raises(ConfigError, match="Magic"):
        NevergradSearch("Magic")
    with pytest.raises(ConfigError, match="optimizer=7"):
        NevergradSearch(7)
    with pytest.raises(SearchSpaceError, match="dictionary"):
        NevergradSearch(optimizer, metric="loss", mode="min").suggest("t")
    parameter = ng.p.Dict(x=ng.p.Scalar(lower=0, upper=1))
    with pytest.raises(SearchSpaceError, match="nowhere"):
        NevergradSearch(space=parameter, metric="loss", mode="min", points_to_evaluate=[{"nowhere": 1}]).suggest("t")


@pytest.mark.filterwarnings("ignore:COBYLA")
@pytest.mark.filterwarnings("ignore:Underlying optimizer has already converged")
@pytest.mark.parametrize("optimizer", ["Cobyla", "NGOpt"])
def test_one_that_thinks_of_one_trial_at_a_time_gives_one_at_a_time(optimizer: str) -> None:
    """Nevergrad's sequential optimizers would wait inside `ask`, for ever."""
    searcher = NevergradSearch(optimizer, {"num_workers": 1}, points_to_evaluate=[{"x": 0.5}])
    searcher.set_search_properties("loss", "min", {"x": uniform(0, 1), "y": uniform(0, 1)}, num_samples=12, seed=3)
    for n in range(12):
        config = searcher.suggest(f"t{n}")
        assert searcher.suggest("another") is None
        if n == 5:
            searcher.adopt(f"t{n}", {"x": 0.25, "y": 0.25})
        searcher.on_trial_complete(f"t{n}", {"loss": config["x"]}, error=n == 3)
