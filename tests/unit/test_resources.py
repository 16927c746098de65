"""What a trial asks for: how it is said, kept, and given."""

from __future__ import annotations

import functools
import pickle

import cloudpickle
import pytest

import holdfast as tune
from holdfast._core.policy import Placement
from holdfast.errors import ConfigError
from holdfast.resources import DEFAULT, PlacementGroupFactory, Request, asked_for, given, request_for, with_resources


def train(config):
    return {"x": config["x"]}


class Model(tune.Trainable):
    """A class trainable."""

    def step(self):
        return {"x": 1}


class Runner:
    """Something with a method."""

    def train(self, config):
        return config

    def __call__(self, config):
        return config


@pytest.mark.parametrize(
    ("said", "amounts"),
    [
        (None, {"cpu": 1.0}),
        ({"cpu": 2, "gpu": 0.5}, {"cpu": 2.0, "gpu": 0.5}),
        ({"CPU": 2, "hdd": 80}, {"cpu": 2.0, "hdd": 80.0}),
        ({"gpu": 1}, {"gpu": 1.0}),
        ({"cpu": 1, "gpu": 0}, {"cpu": 1.0}),
        ({"cpu": 1, "memory": 2**30, "custom_resources": {"hdd": 3}}, {"cpu": 1.0, "memory": 2.0**30, "hdd": 3.0}),
        ({"cpu": 1, "custom_resources": None}, {"cpu": 1.0}),
    ],
)
def test_dictionaries_in_both_spellings(said, amounts) -> None:
    assert request_for(said) == Request(amounts)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "ask for nothing"),
        ({"cpu": 0}, "ask for nothing"),
        ({"cpu": -1}, "no amount of 'cpu'"),
        ({"cpu": float("nan")}, "no amount"),
        ({"gpu": float("inf")}, "no amount"),
        ({"cpu": "2"}, "no amount"),
        ({"cpu": True}, "no amount"),
        ({"cpu": 1, "CPU": 2}, "named twice"),
        ({1: 2}, "no name of a resource"),
        (7, "give a dictionary"),
        ([{"cpu": 1}], "give a dictionary"),
    ],
)
def test_what_cannot_be_asked_for(said, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        request_for(said)
    with pytest.raises(ConfigError, match=words):
        with_resources(train, said)


class TestFactory:
    def test_it_is_the_sum_of_its_bundles(self) -> None:
        factory = PlacementGroupFactory([{"CPU": 1, "GPU": 0.5}, {"CPU": 2, "hdd": 1}, {"CPU": 2}])
        assert factory.required_resources == {"CPU": 5.0, "GPU": 0.5, "hdd": 1.0}
        assert factory.bundles == [{"CPU": 1.0, "GPU": 0.5}, {"CPU": 2.0, "hdd": 1.0}, {"CPU": 2.0}]
        assert (factory.head_cpus, factory.head_bundle_is_empty, factory.strategy) == (1.0, False, "PACK")
        bundles = [{"cpu": 1.0, "gpu": 0.5}, {"cpu": 2.0, "hdd": 1.0}, {"cpu": 2.0}]
        assert factory.request() == Request({"cpu": 5.0, "gpu": 0.5, "hdd": 1.0}, Placement(bundles))

    def test_an_empty_head(self) -> None:
        factory = PlacementGroupFactory([{}, {"CPU": 2}], strategy="SPREAD")
        assert (factory.head_cpus, factory.head_bundle_is_empty) == (0.0, True)
        assert factory.bundles == [{"CPU": 2.0}]
        assert factory != PlacementGroupFactory([{"CPU": 2}], strategy="SPREAD")
        assert PlacementGroupFactory.of(*factory.request()) == factory

    def test_it_is_a_value(self) -> None:
        one, same = PlacementGroupFactory([{"CPU": 1}]), PlacementGroupFactory([{"cpu": 1.0, "gpu": 0}])
        assert one == same
        assert len({one, same, PlacementGroupFactory([{"CPU": 1}], "SPREAD")}) == 2
        assert pickle.loads(pickle.dumps(one)) == one
        assert repr(one) == "PlacementGroupFactory([{'CPU': 1.0}], strategy='PACK')"
        one.bundles[0]["CPU"] = 9.0
        assert one.bundles == [{"CPU": 1.0}]

    @pytest.mark.parametrize(
        ("bundles", "strategy", "words"),
        [
            ([], "PACK", "asks for nothing"),
            ([{}], "PACK", "asks for nothing"),
            ([{"CPU": 1}, {}], "PACK", "only the first bundle may be empty"),
            ({"CPU": 1}, "PACK", "a list of dictionaries"),
            ([1], "PACK", "a list of dictionaries"),
            ([{"CPU": -1}], "PACK", "no amount"),
            ([{"CPU": 1}], "TOGETHER", "one of PACK"),
        ],
    )
    def test_what_cannot_be(self, bundles, strategy: str, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            PlacementGroupFactory(bundles, strategy)

    def test_what_has_no_effect_is_named(self) -> None:
        with pytest.warns(UserWarning, match=r"'group', lifetime='detached' has no effect"):
            PlacementGroupFactory([{"CPU": 1}], "PACK", "group", lifetime="detached")


class TestWithResources:
    @pytest.mark.parametrize(
        ("trainable", "name"),
        [
            (train, "train"),
            (functools.partial(train), "train"),
            (functools.partial(functools.partial(train)), "train"),
            (Runner().train, "train"),
            (Runner(), "Runner"),
            (lambda config: config, "<lambda>"),
        ],
    )
    def test_functions_of_every_form_keep_their_name(self, trainable, name: str) -> None:
        wrapped = with_resources(trainable, {"cpu": 2})
        assert wrapped._name == name
        assert asked_for(wrapped) == Request({"cpu": 2.0})
        assert asked_for(trainable) is None
        again = cloudpickle.loads(cloudpickle.dumps(wrapped))
        assert again({"x": 3}) == trainable({"x": 3})
        assert asked_for(again) == Request({"cpu": 2.0})

    def test_a_class_becomes_a_subclass_of_the_same_name(self) -> None:
        wrapped = with_resources(Model, {"cpu": 2})
        assert issubclass(wrapped, Model)
        assert (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__) == ("Model", "Model", "A class trainable.")
        assert asked_for(wrapped) == Request({"cpu": 2.0})
        assert asked_for(Model) is None
        again = cloudpickle.loads(cloudpickle.dumps(wrapped))
        assert asked_for(again) == Request({"cpu": 2.0})
        assert again({}).step() == {"x": 1}

    def test_the_last_word_counts(self) -> None:
        twice = with_resources(with_resources(train, {"cpu": 2}), lambda config: {"cpu": config["x"]})
        assert asked_for(twice)({"x": 4}) == {"cpu": 4}
        assert twice({"x": 3}) == {"x": 3}
        assert twice._name == "train"

    def test_a_function_of_the_config_is_no_method_of_the_class(self) -> None:
        wrapped = with_resources(Model, lambda config: {"cpu": config["x"]})
        assert asked_for(wrapped)({"x": 4}) == {"cpu": 4}

    def test_attributes_of_a_function_stay(self) -> None:
        def own(config):
            return config

        own._name, own.mark = "called", 7
        wrapped = with_resources(own, {"cpu": 1})
        assert (wrapped._name, wrapped.mark) == ("called", 7)

    def test_what_travels_is_small(self) -> None:
        plain = len(cloudpickle.dumps(train))
        assert len(cloudpickle.dumps(with_resources(train, PlacementGroupFactory([{}, {"CPU": 1}])))) < plain + 1000
        assert len(cloudpickle.dumps(with_resources(Model, {"cpu": 1}))) < 4000

    @pytest.mark.parametrize("trainable", ["train", None, 3])
    def test_no_trainable(self, trainable) -> None:
        with pytest.raises(ConfigError, match="give the function or the class itself"):
            with_resources(trainable, {"cpu": 1})


class TestFunctionsOfTheConfig:
    @pytest.mark.parametrize(
        "ask",
        [
            lambda config: {"cpu": config["a"]["b"]},
            lambda spec: {"cpu": spec.config.a.b},
            lambda spec: {"cpu": spec["config"]["a"]["b"]},
            lambda config: PlacementGroupFactory([{"CPU": config["a"]["b"]}]),
        ],
    )
    def test_they_find_the_config_either_way(self, ask) -> None:
        assert given(ask, {"a": {"b": 3}}, "t").amounts == {"cpu": 3.0}

    def test_a_key_called_config_is_the_users(self) -> None:
        assert given(lambda spec: {"cpu": spec.config}, {"config": 2}, "t").amounts == {"cpu": 2.0}

    def test_nothing_means_the_default(self) -> None:
        assert given(lambda config: None, {}, "t") == DEFAULT

    def test_what_they_change_is_lost(self) -> None:
        config = {"a": {"b": 1}, "c": [1]}

        def ask(config):
            config["a"]["b"] = 7
            config["c"].append(2)
            return {"cpu": 1}

        given(ask, config, "t")
        assert config == {"a": {"b": 1}, "c": [1]}

    @pytest.mark.parametrize(
        ("ask", "words"),
        [
            (lambda config: 1 / 0, "trial abc_1 failed: ZeroDivisionError"),
            (lambda config: config.missing, "trial abc_1 failed: AttributeError: the configuration has no key 'missing'"),
            (lambda config: {"cpu": -1}, "trial abc_1: .*no amount"),
            (lambda config: 7, "trial abc_1: .*give a dictionary"),
        ],
    )
    def test_what_goes_wrong_names_the_trial(self, ask, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            given(ask, {}, "abc_1")
