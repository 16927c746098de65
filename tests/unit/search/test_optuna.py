from __future__ import annotations

import logging
import math
import pickle
import random
from typing import Any

import cloudpickle
import numpy as np
import optuna
import pytest

import holdfast as tune
from holdfast.errors import ConfigError, SearchSpaceError
from holdfast.search.optuna import OptunaSearch

FLAT = {
    "x": tune.uniform(-5, 10),
    "lr": tune.loguniform(1e-4, 1),
    "n": tune.randint(1, 9),
    "s": tune.quniform(0, 1, 0.1),
    "c": tune.choice(["a", "b", "c"]),
}
THEIRS = {
    "x": optuna.distributions.FloatDistribution(-5, 10),
    "lr": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
    "n": optuna.distributions.IntDistribution(1, 8),
    "s": optuna.distributions.FloatDistribution(0, 1, step=0.1),
    "c": optuna.distributions.CategoricalDistribution(["a", "b", "c"]),
}

SAMPLERS = {
    "default": lambda: None,
    "random": lambda: optuna.samplers.RandomSampler(seed=1),
    "tpe": lambda: optuna.samplers.TPESampler(seed=1, n_startup_trials=4),
    "tpe, multivariate": lambda: _quietly(
        lambda: optuna.samplers.TPESampler(seed=1, n_startup_trials=4, multivariate=True, group=True, constant_liar=True)
    ),
    "cma-es": lambda: optuna.samplers.CmaEsSampler(seed=1, n_startup_trials=2, warn_independent_sampling=False),
    "qmc": lambda: _quietly(lambda: optuna.samplers.QMCSampler(seed=1, warn_independent_sampling=False)),
    "nsga-ii": lambda: optuna.samplers.NSGAIISampler(seed=1, population_size=4),
    "tpe without a seed": lambda: optuna.samplers.TPESampler(n_startup_trials=4),
}


def _quietly(make):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some of its own experimental
        return make()


def ready(space: Any = FLAT, *, metric="loss", mode="min", seed=11, **options) -> OptunaSearch:
    searcher = OptunaSearch(**options)
    assert searcher.set_search_properties(metric, mode, space, num_samples=20, seed=seed)
    return searcher


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal but for the last digit of what is counted in steps."""
    same = one.keys() == other.keys() and one["c"] == other["c"]
    return same and all(math.isclose(one[key], other[key], rel_tol=1e-12) for key in one if key != "c")


def loss(config: dict[str, Any]) -> float:
    return (config["x"] - 1) ** 2 + math.log(config["lr"]) ** 2 + config["n"] + config["s"] + "abc".index(config["c"])


def drive(searcher: OptunaSearch, first: int, last: int) -> list[dict[str, Any]]:
    """Two trials at a time, rows and ends interleaved; some without a value, some failed."""
    asked = []
    for k in range(first, last, 2):
        pair = [(f"ab12c_{k + n:05d}", None) for n in (0, 1)]
        pair = [(trial_id, searcher.suggest(trial_id)) for trial_id, _ in pair]
        for step in (1, 2):
            for trial_id, config in pair:
                searcher.on_trial_result(trial_id, {"training_iteration": step, "loss": loss(config) + 1 / step})
        for trial_id, config in reversed(pair):
            result = {"loss": math.nan if k % 10 == 4 else loss(config)}
            searcher.on_trial_complete(trial_id, result if k % 8 != 6 else None, error=k % 8 == 6)
        asked += [config for _, config in pair]
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_told_the_same_it_answers_the_same_from_any_copy(name) -> None:
    """From its pickle before the beginning (a replay from scratch), and from pickle or state of any moment."""
    first = OptunaSearch(sampler=SAMPLERS[name]())
    born = cloudpickle.dumps(first)
    assert first.set_search_properties("loss", "min", FLAT, seed=3)
    head = drive(first, 0, 10)
    in_the_middle, state = cloudpickle.dumps(first), first.get_state()
    tail = drive(first, 10, 16)

    random.seed(1)
    np.random.seed(1)  # chance outside must not count
    replayed = pickle.loads(born)
    assert replayed.set_search_properties("loss", "min", FLAT, seed=3)
    assert drive(replayed, 0, 16) == head + tail
    random.seed(2)
    np.random.seed(2)
    assert drive(pickle.loads(in_the_middle), 10, 16) == tail
    other = OptunaSearch()
    other.set_state(state)
    assert drive(other, 10, 16) == tail


@pytest.mark.parametrize("seed", [0, 5])
def test_it_chooses_what_plain_optuna_chooses(seed) -> None:
    """The same seed, sampler and results: the same parameters, so its quality is Optuna's."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    searcher = ready(seed=seed)
    for k in range(25):
        trial = study.ask(fixed_distributions=THEIRS)
        config = searcher.suggest(f"t_{k}")
        assert close(config, trial.params)
        study.tell(trial, loss(trial.params))
        searcher.on_trial_complete(f"t_{k}", {"loss": loss(config)})
    assert searcher.study.best_value == pytest.approx(study.best_value)


def test_the_same_space_in_three_ways_is_searched_alike() -> None:
    def by_run(trial):
        for name, law in THEIRS.items():
            if name == "c":
                trial.suggest_categorical(name, law.choices)
            elif name == "n":
                trial.suggest_int(name, 1, 8)
            else:
                trial.suggest_float(name, law.low, law.high, step=law.step, log=law.log)
        return {"fixed": [1]}

    domains, theirs, run = ready(), OptunaSearch(THEIRS), OptunaSearch(by_run, metric="loss", mode="min")
    assert not theirs.set_search_properties("loss", "min", {}, seed=11)
    assert not run.set_search_properties("loss", "min", {}, seed=11)
    assert domains.own_chance and theirs.own_chance and not run.own_chance
    for k in range(14):
        asked = [searcher.suggest(f"t_{k}") for searcher in (domains, theirs, run)]
        assert close(asked[0], asked[1])
        assert asked[2] == {**asked[1], "fixed": [1]}
        assert run.last_evaluated == asked[1]
        for searcher in (domains, theirs, run):
            searcher.on_trial_complete(f"t_{k}", {"loss": loss(asked[1])})


def test_conditions_objects_and_functions_resolve() -> None:
    space = {
        "model": tune.choice(
            [{"kind": "tree", "depth": tune.randint(1, 9)}, {"kind": "net", "width": tune.qlograndint(8, 64, 8)}]
        ),
        "act": tune.choice([len, max]),
        "gauss": tune.randn(5, 2),
        "twice": tune.sample_from(lambda spec: spec.config.gauss * 2),
        "deep": [tune.uniform(0, 1), {"fixed": 1}],
    }
    searcher = ready(space)
    assert not searcher.own_chance  # sample_from may draw from the global generators
    kinds = set()
    for k in range(30):
        config = searcher.suggest(f"t_{k}")
        kinds.add(config["model"]["kind"])
        assert config["twice"] == config["gauss"] * 2
        assert config["act"] in (len, max)
        assert config["model"].keys() == {"kind", "depth" if config["model"]["kind"] == "tree" else "width"}
        searcher.on_trial_complete(f"t_{k}", {"loss": config["gauss"]})
    assert kinds == {"tree", "net"}
    assert searcher.study.best_value < 3
    assert "model/kind" not in searcher.last_evaluated


def test_points_are_tried_first_and_as_given() -> None:
    points = [{"x": 2.5, "c": "b"}, {"x": 1.0, "lr": 0.1, "n": 3, "s": 0.5, "c": "a"}]
    searcher = ready(points_to_evaluate=points)
    first, second, third = (searcher.suggest(f"t_{k}") for k in range(3))
    assert (first["x"], first["c"]) == (2.5, "b")
    assert first.keys() == FLAT.keys()
    assert second == points[1]
    assert third["x"] not in (1.0, 2.5)
    assert [trial.params["x"] for trial in searcher.study.trials][:2] == [2.5, 1.0]


def test_a_point_outside_its_domain_is_tried_and_the_nearest_is_learned_of() -> None:
    with pytest.warns(UserWarning, match="'x' the value 99"):
        searcher = ready(points_to_evaluate=[{"x": 99.0}])
    assert searcher.suggest("t_0")["x"] == 99.0
    assert searcher.study.trials[0].params["x"] == 10


def test_evaluated_points_are_learned_from_and_not_run() -> None:
    point = {"x": 1.0, "lr": 0.1, "n": 3, "s": 0.5, "c": "a"}
    searcher = ready(points_to_evaluate=[point, {**point, "x": 2.0}], evaluated_rewards=[0.5, 0.25])
    assert searcher.suggest("t_0") not in (point, {**point, "x": 2.0})
    assert [(trial.params, trial.value) for trial in searcher.study.trials[:2]] == [(point, 0.5), ({**point, "x": 2.0}, 0.25)]
    searcher.add_evaluated_point(point, 7.0, error=True)
    searcher.add_evaluated_point(point, 0.75, pruned=True, intermediate_values=[3.0, 0.75])
    searcher.add_evaluated_point({**point, "x": 99.0, "unknown": 1}, math.nan)
    failed, pruned, odd = searcher.study.trials[3:]
    assert [trial.state.name for trial in (failed, pruned, odd)] == ["FAIL", "PRUNED", "FAIL"]
    assert pruned.intermediate_values == {0: 3.0, 1: 0.75}
    assert odd.params.keys() == FLAT.keys() - {"x"}


def test_what_was_evaluated_before_the_space_is_known_is_kept_for_it() -> None:
    searcher = OptunaSearch()
    searcher.add_evaluated_point({"x": 1.0}, 2.0)
    assert searcher.set_search_properties("loss", "min", {"x": tune.uniform(0, 2)}, seed=1)
    assert [(trial.params, trial.value) for trial in searcher.study.trials] == [({"x": 1.0}, 2.0)]


@pytest.mark.parametrize(
    "result", [None, {}, {"other": 1}, {"loss": math.nan}, {"loss": "3"}, {"loss": None}, {"loss": [1, 2]}, {"loss": 10**400}]
)
def test_a_trial_without_a_number_counts_as_failed(result) -> None:
    searcher = ready()
    searcher.suggest("t_0")
    searcher.on_trial_result("t_0", {**(result or {}), "training_iteration": 1})
    searcher.on_trial_complete("t_0", result)
    assert [trial.state.name for trial in searcher.study.trials] == ["FAIL"]
    assert isinstance(searcher.suggest("t_1"), dict)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("name", ["default", "cma-es", "nsga-ii"])
def test_infinities_break_nothing(name, value) -> None:
    searcher = ready(sampler=SAMPLERS[name]())
    for k in range(14):
        config = searcher.suggest(f"t_{k}")
        searcher.on_trial_result(f"t_{k}", {"training_iteration": 1, "loss": value})
        searcher.on_trial_complete(f"t_{k}", {"loss": value if k % 3 else loss(config)})
    assert len(searcher.study.trials) == 14


def test_rows_are_intermediate_values_and_the_end_is_the_value() -> None:
    searcher = ready()
    searcher.suggest("t_0")
    for step in (1, 2, 3):
        searcher.on_trial_result("t_0", {"training_iteration": step, "loss": 1 / step})
    searcher.on_trial_complete("t_0", {"training_iteration": 4, "loss": 0.2})
    searcher.on_trial_complete("t_0", {"loss": 99})  # ignored, as anything after the end
    searcher.on_trial_result("t_0", {"training_iteration": 5, "loss": 99})
    (trial,) = searcher.study.trials
    assert trial.intermediate_values == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3)}
    assert (trial.state.name, trial.value) == ("COMPLETE", 0.2)


def test_several_metrics() -> None:
    searcher = OptunaSearch(metric=["loss", "size"], mode=["min", "max"])
    assert searcher.set_search_properties(None, None, {"x": tune.uniform(0, 1)}, seed=1)
    for k in range(15):
        x = searcher.suggest(f"t_{k}")["x"]
        searcher.on_trial_result(f"t_{k}", {"training_iteration": 1, "loss": x, "size": x})
        searcher.on_trial_complete(f"t_{k}", {"loss": x, "size": 1 - (x - 0.5) ** 2} if k else {"loss": x})
    assert [direction.name for direction in searcher.study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [trial.state.name for trial in searcher.study.trials][:2] == ["FAIL", "COMPLETE"]
    assert searcher.study.best_trials
    with pytest.raises(ConfigError, match="has the value 1; 2 are needed"):
        searcher.add_evaluated_point({"x": 0.5}, 1)


def test_a_sampler_that_walks_a_finite_space_finishes() -> None:
    space = {"a": tune.choice([1, 2]), "b": tune.choice(["x", "y"])}
    searcher = ready(space, sampler=optuna.samplers.GridSampler({"a": [1, 2], "b": ["x", "y"]}, seed=1))
    found = []
    while isinstance(config := searcher.suggest(f"t_{len(found)}"), dict):
        searcher.on_trial_complete(f"t_{len(found)}", {"loss": 1.0})
        found.append((config["a"], config["b"]))
    assert config == OptunaSearch.FINISHED
    assert sorted(found) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


@pytest.mark.parametrize("space", [FLAT, THEIRS, lambda trial: {"k": trial.suggest_float("x", -5, 10)}])
def test_a_recorded_answer_is_adopted(space) -> None:
    searcher = OptunaSearch(space, metric="loss", mode="min")
    searcher.set_search_properties(None, None, {}, seed=1)
    config = searcher.suggest("t_0")
    recorded = {**config, "x": 1.25, "from param_space": [1]}
    searcher.adopt("t_0", recorded)
    searcher.on_trial_complete("t_0", {"loss": 0.5})
    wrong, right = searcher.study.trials
    assert wrong.state.name == "FAIL"
    assert (right.state.name, right.value, right.params["x"]) == ("COMPLETE", 0.5, 1.25)
    searcher.adopt("t_1", recorded)  # where nothing had been asked again
    searcher.on_trial_complete("t_1", {"loss": 0.25})
    assert searcher.study.best_value == 0.25


def test_what_was_learned_serves_the_next_experiment() -> None:
    searcher = ready()
    drive(searcher, 0, 8)
    fresh = OptunaSearch()
    fresh.set_state(searcher.get_state())
    assert fresh.set_search_properties("loss", "min", {"x": tune.uniform(0, 1)}, seed=4)
    assert fresh.suggest("other_00000").keys() == {"x"}
    assert len(fresh.study.trials) == 9
    assert len(searcher.study.trials) == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"space": [1]}, "is list: give a dictionary"),
        ({"space": {**THEIRS, "k": 1}}, r"mixes Optuna's distributions with others \(\['k'\]\)"),
        ({"space": {"a": tune.grid_search([1])}}, "'a' is a grid_search: OptunaSearch"),
        ({"sampler": optuna.samplers.TPESampler}, "give an instance of an Optuna sampler"),
        ({"metric": ["a"], "mode": "min"}, "do not fit together"),
        ({"metric": ["a", "b"], "mode": ["min", "obs"]}, "each mode is 'min' or 'max'"),
        ({"metric": "a", "mode": "up"}, "'min' or 'max'"),
        ({"points_to_evaluate": {"x": 1}}, "must be a list of dictionaries"),
        ({"points_to_evaluate": [{}], "evaluated_rewards": [1, 2]}, "one entry for each of the 1 points"),
        ({"storage": 7}, "give an Optuna storage"),
    ],
)
def test_what_cannot_be_is_refused_at_once(options, says) -> None:
    with pytest.raises((ConfigError, SearchSpaceError), match=says):
        OptunaSearch(**options)


def test_metric_and_mode_that_contradict_or_are_missing_are_refused() -> None:
    with pytest.raises(ConfigError, match="Leave it out of one of the two"):
        OptunaSearch(metric="a", mode="min").set_search_properties("b", "min", FLAT)
    with pytest.raises(ConfigError, match="give mode='min' or 'max'"):
        OptunaSearch().set_search_properties("a", None, FLAT)
    searcher = OptunaSearch(mode="max")
    assert searcher.set_search_properties(None, None, FLAT)
    assert searcher.metric == "_metric"
    with pytest.raises(SearchSpaceError, match="no search space yet"):
        OptunaSearch(metric="a", mode="min").suggest("t_0")


def test_a_function_of_the_trial_may_return_only_a_dictionary() -> None:
    searcher = OptunaSearch(lambda trial: 5, metric="a", mode="min")
    searcher.set_search_properties(None, None, {})
    with pytest.raises(TypeError, match="returned 5"):
        searcher.suggest("t_0")


class Mine(optuna.samplers.RandomSampler):
    pass


def test_a_sampler_of_the_users_own_is_called_under_given_chance() -> None:
    assert OptunaSearch(sampler=optuna.samplers.CmaEsSampler(seed=1)).own_chance
    assert not OptunaSearch(sampler=Mine()).own_chance
    assert not OptunaSearch(sampler=optuna.samplers.CmaEsSampler(independent_sampler=Mine())).own_chance


def test_it_logs_nothing_and_leaves_the_users_settings_alone(caplog) -> None:
    optuna.logging.enable_propagation()
    before, level = optuna.logging.get_verbosity(), optuna.logging.INFO
    optuna.logging.set_verbosity(level)
    try:
        with caplog.at_level(logging.DEBUG):
            drive(ready(), 0, 4)
        assert [record.message for record in caplog.records if record.levelno >= logging.INFO] == []
        assert optuna.logging.get_verbosity() == level
        optuna.create_study()
        assert "A new study created" in caplog.text
    finally:
        optuna.logging.set_verbosity(before)
        optuna.logging.disable_propagation()


class TestExtended:
    """`Tuner.extend`: the study goes on, in another space where one is given."""

    def learned(self, space):
        searcher = OptunaSearch(metric="loss", mode="min", sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=2))
        searcher.set_search_properties(None, None, space, seed=3)
        for number in range(6):
            name = f"abcde_{number:05d}"
            config = searcher.suggest(name)
            searcher.on_trial_complete(name, {"loss": float(config["x"])})
        return searcher

    def test_other_bounds_hold_from_then_on_and_what_was_learned_counts(self):
        searcher = self.learned({"x": tune.uniform(0, 1), "n": tune.randint(1, 5), "s": tune.quniform(0, 1, 0.1)})
        assert searcher.extend(3, {"x": tune.uniform(2, 3), "n": tune.randint(7, 9), "s": tune.quniform(2, 3, 0.1)})
        config = searcher.suggest("abcde_00006")
        assert 2 <= config["x"] < 3
        assert 7 <= config["n"] < 9
        assert 2 <= config["s"] <= 3
        assert len(searcher.study.trials) == 7

    def test_more_of_the_same_changes_nothing(self):
        one, other = self.learned({"x": tune.uniform(0, 1)}), self.learned({"x": tune.uniform(0, 1)})
        assert one.extend(3, None)
        assert one.suggest("abcde_00006") == other.suggest("abcde_00006")

    @pytest.mark.parametrize(
        "x",
        [
            tune.choice([0.1, 0.2, 0.3]),
            tune.loguniform(0.1, 1),
            tune.randint(1, 2),
            tune.randn(0, 1),
        ],
    )
    def test_what_one_study_cannot_hold_is_refused_by_name(self, x):
        searcher = self.learned({"x": tune.uniform(0, 1)})
        with pytest.raises(SearchSpaceError, match="'x'"):
            searcher.extend(1, {"x": x})

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (tune.randn(0, 1), tune.randn(100, 1)),
            (tune.qloguniform(4, 64, 2), tune.qloguniform(4, 64, 4)),
            (tune.choice([[1], [2]]), tune.choice([[3], [4]])),
        ],
    )
    def test_a_parameter_whose_number_would_mean_something_else_is_refused(self, before, after):
        """Optuna holds the quantile of a Gauss law, the number of a step or of a category: elsewhere that is another value."""
        searcher = OptunaSearch(metric="loss", mode="min", sampler=optuna.samplers.RandomSampler(seed=1))
        searcher.set_search_properties(None, None, {"x": before}, seed=3)
        with pytest.raises(SearchSpaceError, match="'x'"):
            searcher.extend(1, {"x": after})
        assert searcher.extend(1, {"x": before})
