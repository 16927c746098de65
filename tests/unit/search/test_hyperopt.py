"""HyperOptSearch: the suite, and what is Hyperopt's own."""

from __future__ import annotations

from typing import Any

import hyperopt
import pytest
from hyperopt import hp

from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.hyperopt import HyperOptSearch
from holdfast.space import choice, lograndint, randint, uniform
from unit.search.searcher_suite import Play, SearcherSuite


class TestHyperOpt(SearcherSuite):
    library = extra = "hyperopt"

    def make(self, **arguments: Any) -> HyperOptSearch:
        return HyperOptSearch(**{"n_initial_points": 8, **arguments})


def _begun(space: dict[str, Any], **arguments: Any) -> HyperOptSearch:
    searcher = HyperOptSearch(**arguments)
    searcher.set_search_properties("loss", "min", space, seed=3)
    return searcher


def test_plain_hyperopt_with_the_same_seeds_suggests_the_same() -> None:
    """The searcher adds nothing to what Hyperopt thinks: its documents, asked with the same seeds, give the same numbers."""
    from hyperopt import tpe

    from holdfast.search.spaces import seed_of

    searcher = _begun({"x": uniform(-5, 5)}, n_initial_points=3, random_state_seed=9)
    trials = hyperopt.Trials()
    domain = hyperopt.Domain(lambda config: None, {"x": hp.uniform("x", -5, 5)})
    for n in range(12):
        ours = searcher.suggest(f"t{n}")["x"]
        trials.refresh()
        seed = seed_of(9, str(n)) % 2**31
        documents = tpe.suggest(trials.new_trial_ids(1), domain, trials, seed, n_startup_jobs=3, verbose=False)
        documents[0]["state"], documents[0]["result"] = 2, {"status": "ok", "loss": ours**2}
        trials.insert_trial_docs(documents)
        assert ours == documents[0]["misc"]["vals"]["x"][0]
        searcher.on_trial_complete(f"t{n}", {"loss": ours**2})


def test_a_choice_that_holds_domains_is_searched_as_a_tree() -> None:
    space = {"model": choice([{"kind": "tree", "depth": randint(1, 9)}, {"kind": "net", "width": lograndint(8, 512)}, "none"])}
    searcher = _begun(space, n_initial_points=5, points_to_evaluate=[{"model": {"kind": "net", "width": 32}}])
    play = Play(searcher).go(20, lambda config: float(config["model"] == "none"))
    assert play.configs[0] == {"model": {"kind": "net", "width": 32}}
    kinds = [config["model"] if config["model"] == "none" else config["model"]["kind"] for config in play.configs]
    assert set(kinds) == {"tree", "net", "none"}
    for config in play.configs:
        model = config["model"]
        assert model == "none" or model.keys() == {"kind", {"tree": "depth", "net": "width"}[model["kind"]]}


def test_hyperopts_own_expressions() -> None:
    space = {"x": hp.uniform("x", 0, 1), "arch": hp.choice("arch", ["small", {"n": hp.randint("n", 5)}])}
    searcher = HyperOptSearch(space, "loss", "min", [{"x": 0.25, "arch": 1, "n": 3}, {"x": 0.5, "arch": 0}], n_initial_points=4)
    assert searcher.set_search_properties(None, None, {"fixed": 1}, seed=1)
    play = Play(searcher).go(12, lambda config: config["x"])
    assert play.configs[0] == {"x": 0.25, "arch": {"n": 3}}
    assert play.configs[1] == {"x": 0.5, "arch": "small"}
    assert all(config["arch"] == "small" or 0 <= config["arch"]["n"] < 5 for config in play.configs)
    searcher.adopt("t11", play.configs[0])  # there is no way back to its labels: it is let go
    searcher.on_trial_complete("t11", {"loss": 1.0})
    assert 0 <= searcher.suggest("next")["x"] <= 1
    with pytest.raises(SearchSpaceError, match="nowhere"):
        HyperOptSearch(space, "loss", "min", [{"nowhere": 1}]).suggest("t")
    with pytest.raises(SearchSpaceError, match=r"hp\.uniform"):
        HyperOptSearch([1], "loss", "min").suggest("t")


@pytest.mark.parametrize("wrong", [{"gamma": 0}, {"gamma": 1}, {"n_initial_points": 0}, {"points_to_evaluate": {"x": 1}}])
def test_arguments_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        HyperOptSearch(**wrong)


def test_the_users_seed_goes_before_the_experiments() -> None:
    def first(own: int | None, experiment: int) -> Any:
        searcher = HyperOptSearch(random_state_seed=own)
        searcher.set_search_properties("loss", "min", {"x": uniform(0, 1)}, seed=experiment)
        return searcher.suggest("t")

    assert first(5, 1) == first(5, 2)
    assert first(None, 1) != first(None, 2)
    assert first(None, 1) == first(1, 2)
