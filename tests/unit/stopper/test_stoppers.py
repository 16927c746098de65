from __future__ import annotations

import math
import pickle
from datetime import timedelta

import pytest

from holdfast.errors import ConfigError
from holdfast.stopper import (
    CombinedStopper,
    ExperimentPlateauStopper,
    FunctionStopper,
    MaximumIterationStopper,
    NoopStopper,
    Stopper,
    TimeoutStopper,
    TrialPlateauStopper,
)


def hear(stopper, values, trial_id="a"):
    """The answers on a row of values; the stopper is pickled between any two."""
    answers = []
    for value in values:
        answers.append(stopper(trial_id, {"m": value}))
        stopper = pickle.loads(pickle.dumps(stopper))
    return answers


def test_noop():
    assert hear(NoopStopper(), [1, 2]) == [False, False]
    assert NoopStopper().stop_all() is False


def test_maximum_iteration_counts_rows_per_trial():
    stopper = MaximumIterationStopper(2)
    assert [stopper(t, {"training_iteration": 50}) for t in "abab"] == [False, False, True, True]
    assert hear(MaximumIterationStopper(2), [0, 0, 0]) == [False, True, True]
    assert stopper.stop_all() is False


def test_timeout_counts_experiment_time_only():
    for timeout in (10, timedelta(seconds=10)):
        stopper = TimeoutStopper(timeout)
        assert not stopper.stop_all()
        stopper.now(9.9)
        assert not stopper("a", {})
        assert not stopper.stop_all()
        stopper.now(10)
        assert not stopper("a", {})
        assert pickle.loads(pickle.dumps(stopper)).stop_all()
    for wrong in ("1", None, -1, math.nan, True):
        with pytest.raises(ConfigError, match="timeout"):
            TimeoutStopper(wrong)


class Judge:
    def of_two(self, trial_id, result):
        return result["m"] > 1

    def of_one(self, result):
        return True


def test_functions():
    assert hear(FunctionStopper(Judge().of_two), [1, 2]) == [False, True]
    stopper = FunctionStopper(lambda trial_id, result: trial_id)
    assert stopper("a", {}) is True
    assert stopper.stop_all() is False
    for wrong in (Judge().of_one, lambda: 1, lambda a, b, c: 1, 3, None):
        with pytest.raises(ConfigError):
            FunctionStopper(wrong)


def test_what_is_a_stop_function():
    assert FunctionStopper.is_valid_function(lambda t, r: True)
    assert not FunctionStopper.is_valid_function(NoopStopper())
    assert not FunctionStopper.is_valid_function({"a": 1})

    class NoStopper:
        def __call__(self, trial_id, result):
            return True

        def stop_all(self):
            return True

    with pytest.raises(ConfigError, match="Stopper"):
        FunctionStopper.is_valid_function(NoStopper())


def test_trial_plateau():
    stopper = TrialPlateauStopper("m", std=0.1, num_results=3, grace_period=4)
    assert hear(stopper, [5, 5, 5, 5, 9, 5, 5, 5]) == [False, False, False, True, False, False, False, True]
    assert stopper.stop_all() is False


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, "x"])
def test_trial_plateau_takes_what_is_no_number_for_movement(bad):
    stopper = TrialPlateauStopper("m", num_results=2, grace_period=2, metric_threshold=6, mode="min")
    assert hear(stopper, [5, 5, bad, bad, 5, 5]) == [False, True, False, False, False, True]


def test_trial_plateau_threshold():
    def heard(mode):
        return hear(TrialPlateauStopper("m", num_results=2, grace_period=2, metric_threshold=0.0, mode=mode), [-1, -1, 1, 1])

    assert heard("min") == [False, True, False, False]
    assert heard("max") == [False, False, False, True]
    with pytest.raises(ConfigError, match="mode"):
        TrialPlateauStopper("m", metric_threshold=0.0)
    with pytest.raises(ConfigError, match="num_results"):
        TrialPlateauStopper("m", num_results=0)


def test_experiment_plateau():
    stopper = ExperimentPlateauStopper("m", top=2, std=0.1, mode="min")
    assert hear(stopper, [5, 1, 1, 9]) == [False, False, True, True]
    stopper = ExperimentPlateauStopper("m", top=2, std=0.1, mode="max", patience=2)
    assert hear(stopper, [1, 5, 5, math.nan, 5, 7]) == [False, False, False, False, True, False]
    assert not stopper.has_plateaued()


@pytest.mark.parametrize("kwargs", [{"mode": "x"}, {"top": 1}, {"top": 2.5}, {"patience": -1}, {"std": 0}, {"std": "a"}])
def test_experiment_plateau_arguments(kwargs):
    with pytest.raises(ConfigError):
        ExperimentPlateauStopper("m", **kwargs)


def test_combined_lets_all_hear():
    count = MaximumIterationStopper(2)
    timeout = TimeoutStopper(5)
    both = CombinedStopper(FunctionStopper(lambda t, r: True), count, timeout)
    assert both("a", {})
    assert count("a", {})
    assert not both.stop_all()
    both.now(5)
    assert both.stop_all()
    assert not both.own_chance
    assert CombinedStopper(count, timeout).own_chance
    assert not CombinedStopper()("a", {})


def test_what_a_subclass_must_define():
    stopper = Stopper()
    stopper.now(1.0)
    assert not stopper.own_chance
    for call in (stopper.stop_all, lambda: stopper("a", {})):
        with pytest.raises(NotImplementedError, match="Stopper"):
            call()
