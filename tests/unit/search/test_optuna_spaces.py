from __future__ import annotations

import optuna
import pytest

import holdfast as tune
from holdfast.search.optuna_spaces import way_of

LAWS = optuna.distributions


@pytest.mark.parametrize(
    ("domain", "law"),
    [
        (tune.uniform(-1, 1), LAWS.FloatDistribution(-1, 1)),
        (tune.loguniform(1e-3, 1), LAWS.FloatDistribution(1e-3, 1, log=True)),
        (tune.quniform(-0.2, 0.6, 0.2), LAWS.FloatDistribution(-0.2, 0.6, step=0.2)),
        (tune.quniform(1 / 3, 2, 1 / 3), LAWS.IntDistribution(1, 6)),  # whose decimals Optuna cannot divide
        (tune.qloguniform(0.1, 10, 0.1), LAWS.IntDistribution(1, 100, log=True)),
        (tune.randint(2, 9), LAWS.IntDistribution(2, 8)),
        (tune.lograndint(2, 9), LAWS.IntDistribution(2, 8, log=True)),
        (tune.qrandint(3, 31, 5), LAWS.IntDistribution(5, 30, step=5)),
        (tune.qlograndint(8, 64, 8), LAWS.IntDistribution(1, 8, log=True)),
        (tune.choice(["a", 1, None, 2.5]), LAWS.CategoricalDistribution(["a", 1, None, 2.5])),
        (tune.choice([1, 1.0, True]), LAWS.CategoricalDistribution([0, 1, 2])),  # equal to one another
        (tune.choice([{"a": 1}, len]), LAWS.CategoricalDistribution([0, 1])),
        (tune.choice(["a", "a"]), LAWS.CategoricalDistribution([0, 1])),
    ],
)
def test_a_domain_is_optunas_own_where_it_has_one(domain, law) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    way = way_of({"deep": {"k": domain}})
    for _ in range(30):
        trial, made = way.ask(study, 0, None)
        assert trial.distributions == {"deep/k": law}
        value = made.config["deep"]["k"]
        assert domain.is_valid(value)
        told = way.parameters(made.config)
        assert told.distributions == {"deep/k": law}
        assert told.parameters["deep/k"] == pytest.approx(trial.params["deep/k"]) if isinstance(value, float) else True
        assert way.ask(study, 0, None)[1].evaluated.keys() == {"deep/k"}


def test_parameters_inside_a_category_are_asked_for_where_it_was_chosen() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    inner = {"i": tune.randint(0, 3), "f": tune.quniform(0, 1, 0.5), "c": tune.choice([[1], [2]])}
    way = way_of({"m": tune.choice([inner, "plain"])})
    seen = set()
    for _ in range(20):
        trial, made = way.ask(study, 0, None)
        seen.add(len(trial.params))
        assert way.parameters(made.config).parameters == trial.params
    assert seen == {1, 4}


def test_names_of_optunas_distributions_nest() -> None:
    space = {"net/width": LAWS.IntDistribution(1, 4), "lr": LAWS.FloatDistribution(0, 1)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    way = way_of(space)
    parameters, point = way.point({"net": {"width": 3}})
    study.enqueue_trial(parameters)
    trial, made = way.ask(study, 0, point)
    assert made.config == {"net": {"width": 3}, "lr": trial.params["lr"]}
    assert way.parameters({"net": {"width": 9}, "lr": 0.5, "other": 1}).parameters == {"lr": 0.5}


@pytest.mark.parametrize(("point", "says"), [({"z": 1}, r"\['z'\], unknown"), ({"lr": 7}, r"\['lr'\] that lie outside")])
def test_points_for_distributions_are_checked(point, says) -> None:
    with pytest.raises(tune.errors.SearchSpaceError, match=says):
        way_of({"lr": LAWS.FloatDistribution(0, 1)}).point(point)


def test_a_function_is_retraced_by_what_it_asks_for() -> None:
    def space(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        trial.suggest_int(f"{kind}/depth", 1, 5)

    way = way_of(space)
    assert way.calls_user
    assert way.parameters({"kind": "b", "b": {"depth": 4}, "a": {"depth": 1}}).parameters == {"kind": "b", "b/depth": 4}
    assert way.parameters({"kind": "b"}) == ({}, {})
