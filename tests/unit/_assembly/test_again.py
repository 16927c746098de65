"""A job that is given again: what must be as it was, and what is this run's."""

from __future__ import annotations

import pytest

import holdfast as tune
from holdfast._assembly.again import given_again
from holdfast._assembly.submission import JobSpec, More
from holdfast.errors import JobChanged
from holdfast.schedulers import ASHAScheduler, FIFOScheduler
from holdfast.stopper import MaximumIterationStopper, Stopper


class Told(tune.Callback):
    pass


def rule(trial_id, result):
    return False


def stored() -> JobSpec:
    return JobSpec(
        {},
        tune.TuneConfig(metric="loss", mode="min", num_samples=8, scheduler=ASHAScheduler()),
        tune.RunConfig(stop={"training_iteration": 5}, callbacks=[Told()], failure_config=tune.FailureConfig(max_failures=3)),
    )


def again(tune_config=None, run_config=None) -> JobSpec:
    return given_again(stored(), tune_config or tune.TuneConfig(), run_config or tune.RunConfig(), More())


def test_what_is_left_out_is_as_it_was() -> None:
    spec = again()
    assert (spec.tune_config.num_samples, spec.tune_config.metric) == (8, "loss")
    assert isinstance(spec.run_config.callbacks[0], Told)


def test_the_same_arguments_are_no_change() -> None:
    before = stored()
    again(before.tune_config, before.run_config)


def test_so_is_the_exit_code() -> None:
    assert again(run_config=tune.RunConfig(exit_on_preemption=True)).run_config.exit_on_preemption is True
    assert again().run_config.exit_on_preemption is False


def test_callbacks_and_verbosity_are_this_runs() -> None:
    own = Told()
    spec = again(run_config=tune.RunConfig(callbacks=[own], verbose=0))
    assert spec.run_config.callbacks == [own]
    assert spec.run_config.verbose == 0


@pytest.mark.parametrize(
    ("tune_config", "run_config", "words"),
    [
        ({"num_samples": 9}, {}, "num_samples was 8, is 9"),
        ({"metric": "accuracy", "mode": "max"}, {}, "metric was 'loss', is 'accuracy'; mode was 'min', is 'max'"),
        ({"max_concurrent_trials": 1}, {}, "max_concurrent_trials was None, is 1"),
        ({"scheduler": FIFOScheduler()}, {}, "scheduler was AsyncHyperBandScheduler, is FIFOScheduler"),
        ({}, {"stop": {"training_iteration": 6}}, "stop was {'training_iteration': 5}, is {'training_iteration': 6}"),
        ({}, {"stop": rule}, "stop was"),
        ({}, {"stop": [MaximumIterationStopper(3)]}, "stop was"),
        ({}, {"failure_config": tune.FailureConfig(max_failures=4)}, "failure_config was"),
        ({}, {"callbacks": [tune.Callback()]}, r"callbacks were \['Told'\], are \['Callback'\]"),
    ],
)
def test_what_differs_is_named(tune_config, run_config, words: str) -> None:
    with pytest.raises(JobChanged, match=words):
        again(tune.TuneConfig(**tune_config), tune.RunConfig(**run_config))


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        (rule, rule, True),
        (rule, lambda trial_id, result: True, False),
        (MaximumIterationStopper(3), MaximumIterationStopper(4), True),
        (MaximumIterationStopper(3), Stopper(), False),
        ([MaximumIterationStopper(3)], [MaximumIterationStopper(3)], True),
        ([MaximumIterationStopper(3)], [MaximumIterationStopper(3)] * 2, False),
    ],
)
def test_rules_that_are_code_are_compared_by_what_they_are_called(before, now, same: bool) -> None:
    spec = stored()
    spec.run_config.stop = before
    if same:
        given_again(spec, tune.TuneConfig(), tune.RunConfig(stop=now), More())
    else:
        with pytest.raises(JobChanged, match="stop was"):
            given_again(spec, tune.TuneConfig(), tune.RunConfig(stop=now), More())


def test_where_trials_begin_from_and_what_they_export_is_the_jobs() -> None:
    before = stored()._replace(begin_from="/saved", export_formats=("onnx",))
    given_again(before, tune.TuneConfig(), tune.RunConfig(), More())
    given_again(before, tune.TuneConfig(), tune.RunConfig(), More(begin_from="/saved", export_formats=("onnx",)))
    with pytest.raises(JobChanged, match="restore was '/saved', is '/other'; export_formats was"):
        given_again(before, tune.TuneConfig(), tune.RunConfig(), More(begin_from="/other", export_formats=("h5",)))
