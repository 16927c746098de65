"""Experiments as dictionaries, lists and objects."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.experiment import Experiment, experiments_in


def train(config):
    return config


def test_it_holds_what_it_is_given() -> None:
    experiment = Experiment("exp", train, num_samples=3, config={"x": 1}, export_formats=["onnx"])
    assert (experiment.name, experiment.run, experiment.num_samples, experiment.config) == ("exp", train, 3, {"x": 1})
    assert experiment.export_formats == ["onnx"]


def test_a_trainable_is_needed() -> None:
    with pytest.raises(ConfigError, match="a function, a class trainable or a registered name"):
        Experiment("exp", 7)


def test_every_form() -> None:
    one = Experiment("exp", train)
    assert experiments_in(one) == [one]
    assert experiments_in([one, one]) == [one, one]
    first, second = experiments_in({"a": {"run": train, "num_samples": 2}, "b": {"run": "named"}})
    assert (first.name, first.run, first.num_samples) == ("a", train, 2)
    assert (second.name, second.run, second.num_samples) == ("b", "named", 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "give an Experiment"),
        ([train], "give an Experiment"),
        (train, "give an Experiment"),
        ({"a": {"num_samples": 2}}, r"'a' is .*with 'run'"),
        ({"a": train}, r"'a' is .*with 'run'"),
        ({"a": {"run": train, "repeat": 2, "env": "cart"}}, r"keys that mean nothing: \['env', 'repeat'\]"),
        ({"a": {"run": train, "name": "b"}}, "keys that mean nothing"),
    ],
)
def test_what_is_no_experiment(given, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        experiments_in(given)
