from __future__ import annotations

import math
import pickle

import pytest

from holdfast._runtime.roll import Roll
from holdfast.trial import Trial, aggregate
from stories import EXPERIMENT_ID, Story


def story_and_trial(config: dict | None = None) -> tuple[Story, str, Trial]:
    story = Story()
    name = story.suggest(config)
    return story, name, Roll(story.state.created, story.state, "/exp", story.load).of(name)


def test_a_new_trial() -> None:
    _, name, trial = story_and_trial({"lr": 0.5, "pair": (1, 2)})
    assert (trial.trial_id, trial.trainable_name, trial.experiment_id) == (name, "train", EXPERIMENT_ID)
    assert (trial.status, trial.last_result, trial.metric_analysis) == (Trial.PENDING, {}, {})
    assert (trial.config, trial.checkpoint, trial.num_failures) == ({"lr": 0.5, "pair": (1, 2)}, None, 0)
    assert trial.path == trial.local_path == trial.logdir == f"/exp/train_{name}_0_lr=0"


def test_it_follows_the_record() -> None:
    story, name, trial = story_and_trial()
    story.start(name)
    assert trial.status == Trial.RUNNING
    story.report(name, {"loss": 3.0}, save=True, changes={"added": 1})
    last = trial.last_result
    assert (last["loss"], last["added"], last["training_iteration"], last["config"]) == (3.0, 1, 1, trial.config)
    assert trial.last_result is last
    assert trial.checkpoint is not None
    assert trial.checkpoint.path == f"{trial.path}/checkpoint_000000"
    story.fail(name)
    assert (trial.status, trial.num_failures) == (Trial.PENDING, 1)


@pytest.mark.parametrize(("action", "shown"), [("STOP", "RUNNING"), ("PAUSE", "PAUSED")])
def test_our_own_states_between_do_not_show(action: str, shown: str) -> None:
    story, name, trial = story_and_trial()
    story.start(name)
    story.row(name)
    story.decide(name, action)
    assert trial.status == shown
    assert not trial.is_finished()
    story.stopped(name)
    assert trial.status == {"STOP": Trial.TERMINATED, "PAUSE": Trial.PAUSED}[action]


def test_metric_analysis() -> None:
    _, _, trial = story_and_trial()
    for value in range(12):
        aggregate(trial, {"loss": float(value), "name": "x", "flag": True})
    found = trial.metric_analysis
    assert set(found) == {"loss"}
    expected = {"max": 11.0, "min": 0.0, "avg": 5.5, "last": 11.0, "last-5-avg": 9.0, "last-10-avg": 6.5}
    assert found["loss"] == expected


def test_it_is_hashable_and_a_pickled_one_is_a_copy_that_stands_still() -> None:
    story, name, trial = story_and_trial({"lr": 0.5, "kind": Story})
    story.start(name)
    story.report(name, {"loss": math.inf})
    copy = pickle.loads(pickle.dumps(trial))
    assert copy == trial
    assert len({copy, trial}) == 1
    assert (copy.config, copy.last_result["loss"], copy.status) == (trial.config, math.inf, Trial.RUNNING)
    story.complete(name)
    assert (trial.status, copy.status) == (Trial.TERMINATED, Trial.RUNNING)


def test_other_trials_are_others() -> None:
    story, _, trial = story_and_trial()
    other = Roll(story.state.created, story.state, "/exp", story.load).of(story.suggest())
    assert trial != other
    assert trial != trial.trial_id
