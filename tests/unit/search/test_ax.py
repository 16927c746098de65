"""AxSearch: the suite, short because Ax is slow to load and to think, and what is Ax's own."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.config import TuneConfig
from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.schedulers import ASHAScheduler
from holdfast.search.ax import AxSearch
from holdfast.space import choice, uniform
from holdfast.testing.disk import crash
from holdfast.testing.simulation import Simulation, digest
from unit.search.searcher_suite import Play, SearcherSuite

# Ax and BoTorch hand on deprecations of torch's and Ax's own, and remarks on models that have few points.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.slow,
    pytest.mark.xdist_group("ax"),
    pytest.mark.skipif(
        "CI" not in os.environ and importlib.util.find_spec("ax") is None,
        reason="ax-platform is not installed; .ci/run installs it",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On matrices this small more threads than one take three times the processor's time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # for processes that a test starts
        yield
    torch.set_num_threads(before)


class TestAx(SearcherSuite):
    library = extra = "ax"
    trials = 7
    learning = (9, 3, 1, 0.2)

    def make(self, **arguments: Any) -> AxSearch:
        return AxSearch(**{"initialization_budget": 4, **arguments})


def test_the_users_own_client_and_bounds_of_other_metrics() -> None:
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    client = Client(random_seed=1)
    client.configure_experiment([RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float")])
    client.configure_optimization("score", outcome_constraints=["cost <= 2.0"])
    client.configure_generation_strategy(method="random_search")
    searcher = AxSearch(ax_client=client, metric="score", mode="max", outcome_constraints=["cost <= 2.0"])
    assert searcher.set_search_properties(None, None, {"fixed": 1}, seed=1)
    for n in range(4):
        config = searcher.suggest(f"t{n}")
        searcher.on_trial_complete(f"t{n}", {"score": config["x"], "cost": 1.0} if n else {"score": 5.0})
    best, told, _, _ = client.get_best_parameterization(use_model_predictions=False)
    assert told["score"][0] == pytest.approx(best["x"])
    assert list(client.summarize()["trial_status"]) == ["ABANDONED", "COMPLETED", "COMPLETED", "COMPLETED"]


def test_constraints_hold_and_points_are_attached() -> None:
    searcher = AxSearch(method="random_search", parameter_constraints=["a <= b"], points_to_evaluate=[{"a": 0.25, "b": 0.75}])
    searcher.set_search_properties("loss", "min", {"a": uniform(0, 1), "b": uniform(0, 1)}, seed=1)
    play = Play(searcher).go(8, lambda config: config["a"])
    assert play.configs[0] == {"a": 0.25, "b": 0.75}
    assert all(config["a"] <= config["b"] + 1e-9 for config in play.configs)


def test_axs_own_parameters() -> None:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    space = [
        RangeParameterConfig(name="x", bounds=(0.0, 1.0), parameter_type="float"),
        ChoiceParameterConfig(name="c", values=["a", "b"], parameter_type="str"),
    ]
    searcher = AxSearch(space, "loss", "min", [{"x": 0.5, "c": "b"}], method="random_search")
    play = Play(searcher).go(5, lambda config: config["x"])
    assert play.configs[0] == {"x": 0.5, "c": "b"}
    assert all(0 <= config["x"] <= 1 and config["c"] in "ab" for config in play.configs)
    with pytest.raises(SearchSpaceError, match="nowhere"):
        AxSearch(space, "loss", "min", [{"nowhere": 1}], method="random_search").suggest("t")


def train(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    for i in range(state["i"] + 1 if state else 0, 3):
        yield {"loss": (config["x"] - 0.3) ** 2 + config["y"] + 1 / (i + 1)}, {"i": i}


def test_an_experiment_that_crashed_goes_on_exactly() -> None:
    space = {"x": uniform(0, 1), "y": choice([0, 1]), "fixed": (1, "two")}
    searcher = AxSearch(initialization_budget=3)
    config = TuneConfig(metric="loss", mode="min", num_samples=5, search_alg=searcher, seed=7, scheduler=ASHAScheduler(max_t=3))
    simulation = Simulation(train, space, config, workers=1)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    for snapshots, part in ((False, 0.9), (True, 0.7)):
        again = crash(disk, born + int((len(disk.log) - born) * part), random.Random(1), "kill")
        simulation.run(again, snapshot_due=lambda *_, due=snapshots: due)
        assert digest(again) == digest(disk)


def test_what_cannot_be_is_refused() -> None:
    from ax.api.client import Client

    with pytest.raises(ConfigError, match=r"ax\.api\.client\.Client"):
        AxSearch(ax_client=object())
    with pytest.raises(ConfigError, match="has its space"):
        AxSearch({"x": uniform(0, 1)}, ax_client=Client())
    with pytest.raises(SearchSpaceError, match="RangeParameterConfig"):
        AxSearch([1], "loss", "min").suggest("t")
    with pytest.raises(ConfigError, match=r"latency <= 1\.25"):
        AxSearch({"x": choice([1, 2])}, "loss", "min", outcome_constraints=["cost"])
