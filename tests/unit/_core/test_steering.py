"""What becomes of trials when the scheduler orders something beside its answer."""

from __future__ import annotations

import msgspec

from holdfast import values
from holdfast._core.events import CheckpointBroken, CheckpointDropped, DecisionMade, SchedulerOrdered, Steering, TrialChosen
from holdfast._core.retention import over_budget, surplus
from holdfast._core.steering import pinned
from stories import Story

NEW = values.encode({"lr": 0.9})


def order(story: Story, *orders: Steering) -> None:
    story.add(SchedulerOrdered(len(story.records) - 1, list(orders)))


def donor_and_heir(**policy) -> tuple[Story, str, str]:
    """One trial with three rows and three checkpoints that runs, and one with two rows that is paused."""
    story = Story(**policy)
    donor, heir = story.suggest(), story.suggest()
    story.start(donor)
    story.start(heir)
    for _ in range(3):
        story.report(donor, save=True)
    story.report(heir, save=True)
    story.row(heir)
    story.decide(heir, "PAUSE")
    story.stopped(heir)
    return story, donor, heir


def change(trial: str, donor: str, index: int = -1) -> Steering:
    return Steering(trial, "change", NEW, NEW, "1@new", donor, index)


def test_a_changed_trial_goes_on_from_the_donor_behind_its_own_rows() -> None:
    story, donor, heir = donor_and_heir()
    order(story, change(heir, donor, 2))
    trial = story.state.trial(heir)
    point = trial.resume_point()
    assert (point.donor, point.source, point.saved.index) == (donor, story.state.trial(donor).dirname, 2)
    assert (point.number, point.iteration) == (2, 3)
    assert (trial.config, trial.tag, trial.state) == (NEW, "1@new", "PAUSED")
    story.start(heir)
    story.report(heir)
    assert (trial.number, trial.mark) == (3, 3)


def test_the_change_comes_with_the_decision_or_the_choice() -> None:
    story, donor, heir = donor_and_heir()
    story.row(donor)
    story.add(DecisionMade(donor, 4, "PAUSE", "scheduler", 0, orders=[change(donor, heir)]))
    assert story.state.trial(donor).resume_point().donor == heir
    story.add(TrialChosen("o", 0, "", [change(heir, donor)]))
    assert story.state.trial(heir).resume_point().donor == heir, "what its donor goes on from itself"


def test_its_own_older_checkpoints_count_no_more() -> None:
    story, donor, heir = donor_and_heir()
    order(story, change(heir, donor, 2))
    story.add(CheckpointBroken(heir, 2, 2, "damaged", donor))
    assert story.state.trial(heir).resume_point().saved.index == 1, "the donor's before it"
    for index in (1, 0):
        story.add(CheckpointBroken(heir, 2, index, "damaged", donor))
    trial = story.state.trial(heir)
    assert trial.kept
    assert trial.resume_point() is None
    story.start(heir)
    story.fail(heir, kind="checkpoint")
    assert trial.state == "ERROR"


def test_without_a_donor_it_goes_on_from_its_own() -> None:
    story, _, heir = donor_and_heir()
    order(story, change(heir, heir))
    point = story.state.trial(heir).resume_point()
    assert (point.donor, point.saved.index, point.number, point.iteration) == (heir, 0, 2, 1)


def test_from_scratch_where_nobody_has_a_checkpoint() -> None:
    story = Story()
    name = story.suggest()
    story.start(name)
    story.row(name)
    story.add(DecisionMade(name, 1, "PAUSE", "scheduler", 0, orders=[change(name, name)]))
    story.stopped(name)
    point = story.state.trial(name).resume_point()
    assert (point.saved, point.number, point.iteration) == (None, 1, 0)


def test_what_it_goes_on_from_is_kept_until_it_has_its_own() -> None:
    story, donor, heir = donor_and_heir(num_to_keep=1, max_total_bytes=1, metric="loss", mode="min")
    order(story, change(heir, donor, 1))
    state = story.state
    assert pinned(state) == {(donor, 1)}
    assert surplus(state.trial(donor), state.policy, pinned(state)) == [0]
    assert (donor, 1) not in over_budget(state.trials.values(), state.policy, set(), pinned(state))
    story.start(heir)
    story.report(heir, save=True)
    assert pinned(state) == set()
    assert surplus(state.trial(donor), state.policy, pinned(state)) == [0, 1]


def test_a_drop_that_was_on_its_way_when_it_was_pinned_does_nothing() -> None:
    story, donor, heir = donor_and_heir()
    order(story, change(heir, donor, 1))
    size = story.state.kept_bytes
    story.add(CheckpointDropped("o", donor, 1))
    assert [kept.saved.index for kept in story.state.trial(donor).kept] == [0, 1, 2]
    assert story.state.kept_bytes == size


def test_a_donor_that_begins_anew_takes_nothing_away() -> None:
    story, donor, heir = donor_and_heir()
    source = story.state.trial(donor).dirname
    order(story, change(heir, donor, 2))
    story.fail(donor)
    story.fail(donor) if story.state.trial(donor).state == "RUNNING" else None
    story.epoch(unfinished="restart")
    assert story.state.trial(donor).dirname != source
    assert story.state.trial(heir).resume_point() is None, "it began anew as well, with its new config"
    assert story.state.trial(heir).config == NEW


def test_stop_pause_and_resume() -> None:
    story, donor, heir = donor_and_heir()
    order(story, Steering(heir, "resume"), Steering(donor, "pause"))
    assert (story.state.trial(heir).state, story.state.trial(donor).ordered) == ("PENDING", "PAUSE")
    order(story, Steering(heir, "stop"), Steering(donor, "stop"))
    assert story.state.cancelled == [heir]
    assert (story.state.trial(heir).state, story.state.trial(heir).stopped_by) == ("TERMINATED", "scheduler")
    assert story.state.trial(donor).ordered == "STOP"
    before = msgspec.msgpack.encode(story.state.trial(heir))
    order(story, Steering(heir, "resume"), change(heir, donor))
    assert msgspec.msgpack.encode(story.state.trial(heir)) == before, "too late"
    assert story.state.cancelled == []


def test_what_is_ordered_while_the_worker_leaves_is_done_when_it_is_gone() -> None:
    story = Story()
    first, second = story.suggest(), story.suggest()
    for name, verb in ((first, "resume"), (second, "stop")):
        story.start(name)
        story.row(name)
        story.decide(name, "PAUSE")
        order(story, Steering(name, verb))
        story.stopped(name)
    assert (story.state.trial(first).state, story.state.trial(second).state) == ("PENDING", "TERMINATED")


def test_new_resources_are_its_own() -> None:
    story, _, heir = donor_and_heir()
    order(story, Steering(heir, "change", resources={"cpu": 2.0}))
    trial = story.state.trial(heir)
    assert (trial.resources, story.state.varied) == ({"cpu": 2.0}, True)
    assert trial.resume_point() is trial.kept[-1]
