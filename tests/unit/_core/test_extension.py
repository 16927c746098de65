"""What becomes of an experiment that is asked for more: the fold, and what the controller orders."""

from __future__ import annotations

import pytest

from holdfast._core.commands import AskSearcher, EndEpoch, StartAttempt, WakeAt
from holdfast._core.controller import Controller
from holdfast._core.events import DecisionMade, JobExtended, NothingSuggested, RequestReceived, Woke
from holdfast._core.extension import in_the_way, stopped_by_old_rules
from holdfast.errors import IllegalTransition
from stories import Story


def extension(
    *revived: str, samples: int = 0, num_samples: int = 100, budget: float = 0.0, changed=("stop",), request: str = "r"
) -> JobExtended:
    return JobExtended(request, dict.fromkeys(changed, "other"), samples, num_samples, budget, {"job": "new"}, list(revived))


def stopped(story: Story, by: str = "stop", *, save: bool = True) -> str:
    """A trial of one row that somebody ended."""
    name = story.suggest()
    story.start(name)
    story.row(name, save=save)
    story.add(DecisionMade(name, 1, "STOP", by, len(story.records) - 1))
    story.stopped(name)
    return name


def names(story: Story, *changed: str) -> list[str]:
    return [trial.trial_id for trial in stopped_by_old_rules(story.state, changed)]


def test_only_what_the_changed_rules_had_stopped_goes_on() -> None:
    story = Story()
    by_rule, by_stopper = stopped(story), stopped(story, "stopper")
    stopped(story, "scheduler")
    stopped(story, "done")
    story.start(returned := story.suggest())
    story.report(returned)
    story.complete(returned)
    assert names(story, "stop", "time_budget_s") == [by_rule, by_stopper]
    assert names(story, "num_samples") == []


def test_trials_that_the_budget_had_cut_short_go_on_with_a_larger_one() -> None:
    story = Story(time_budget_s=5.0)
    running, waiting, done = story.suggest(), story.suggest(), stopped(story)
    story.start(running)
    story.add(Woke("o"))
    story.row(running, save=True)
    story.add(DecisionMade(running, 1, "STOP", "budget", len(story.records) - 1))
    story.stopped(running)
    assert [story.state.trial(name).state for name in (running, waiting, done)] == ["TERMINATED"] * 3
    assert in_the_way(story.state, ["num_samples"]) == "budget"
    assert in_the_way(story.state, ["time_budget_s"]) == ""
    assert names(story, "time_budget_s") == [running, waiting]
    story.add(extension(running, waiting, budget=60.0, changed=["time_budget_s"]))
    assert (story.state.stopping, story.state.policy.time_budget_s) == ("", 60.0)
    assert [story.state.trial(name).state for name in (running, waiting, done)] == ["PENDING", "PENDING", "TERMINATED"]
    assert story.state.unfinished == 2


def test_after_a_stop_that_somebody_asked_for_all_go_on_but_those_that_were_named() -> None:
    story = Story()
    running, named, waiting = story.suggest(), story.suggest(), story.suggest()
    for name in (running, named):
        story.start(name)
    story.add(RequestReceived("a", "stop", named))
    story.add(RequestReceived("b", "stop"))
    for name in (running, named):
        story.row(name, save=True)
        story.add(DecisionMade(name, 1, "STOP", "request", len(story.records) - 1))
        story.stopped(name)
    assert in_the_way(story.state, ["num_samples"]) == ""
    assert names(story, "num_samples") == [running, waiting]


def test_a_stop_of_the_whole_by_a_stopper_needs_another_rule() -> None:
    story = Story()
    first, second = story.suggest(), story.suggest()
    for name in (first, second):
        story.start(name)
        story.row(name, save=True)
    story.add(DecisionMade(first, 1, "STOP", "stopper", 5, stop_all=True))
    story.stopped(first)
    story.add(DecisionMade(second, 1, "STOP", "stopper", 6))
    story.stopped(second)
    assert in_the_way(story.state, ["num_samples"]) == "stopper"
    assert in_the_way(story.state, ["stop"]) == ""
    assert names(story, "stop") == [first, second]
    story.add(extension(samples=1, changed=("num_samples",)))  # asked for before the stopper's word was on record
    assert story.state.stopping == "stopper"
    assert story.state.over
    story.add(extension(first, second, request="s"))
    assert not story.state.stopping


def test_the_branch_and_its_decisions_stay() -> None:
    story = Story()
    name = stopped(story)
    story.add(extension(name))
    trial = story.state.trial(name)
    assert (trial.branch, trial.mark, trial.stopped_by, trial.resume_point().number) == (0, 1, "", 1)
    story.start(name)
    story.report(name)
    assert (trial.number, trial.mark, trial.state) == (2, 2, "RUNNING")


def test_what_owed_its_last_row_a_checkpoint_just_goes_on() -> None:
    story = Story(end_checkpoint=True)
    name = story.suggest()
    story.start(name)
    story.row(name)
    story.add(DecisionMade(name, 1, "STOP", "stop", len(story.records) - 1))
    story.lose(name)
    trial = story.state.trial(name)
    assert (trial.state, trial.owes) == ("PENDING", True)
    assert names(story, "stop") == [name]
    story.add(extension(name))
    assert (trial.state, trial.owes, trial.stopped_by) == ("PENDING", False, "")
    story.start(name)
    assert trial.state == "RUNNING"


def test_a_failed_trial_does_not_go_on_this_way() -> None:
    story = Story(max_failures=0)
    name = story.suggest()
    story.start(name)
    story.fail(name)
    with pytest.raises(IllegalTransition):
        story.add(extension(name))


def handled(story: Story) -> tuple[Controller, list]:
    """A controller at the story's end, and what the last record had it order."""
    controller, commands = Controller(), []
    for record in story.records:
        commands = controller.handle(record)
    return controller, commands


def test_an_epoch_that_had_nothing_to_do_goes_on() -> None:
    story = Story(num_samples=1)
    name = stopped(story)
    story.finish()
    story.epoch()
    _, commands = handled(story)
    assert [type(command) for command in commands] == [EndEpoch]
    story.add(extension(name, samples=2, num_samples=3, changed=["stop", "num_samples"]))
    controller, commands = handled(story)
    assert [type(command) for command in commands] == [StartAttempt, AskSearcher]
    assert commands[0].number == 1
    assert not controller.ending


def test_a_larger_budget_takes_the_place_of_the_old_one() -> None:
    story = Story(time_budget_s=5.0)
    story.add(extension(budget=9.0, changed=["time_budget_s"]))
    controller, commands = handled(story)
    assert [command.time for command in commands if isinstance(command, WakeAt)] == [9.0]
    assert [order.time for order in controller.open_orders.values() if isinstance(order, WakeAt)] == [9.0]


def test_a_searcher_that_had_finished_before_it_heard_is_asked_again() -> None:
    story = Story(num_samples=-1)
    story.add(NothingSuggested("o", len(story.records) - 1, finished=True))
    assert story.state.exhausted
    story.add(extension(changed=["new_space"], num_samples=-1))
    assert not story.state.exhausted
    story.add(NothingSuggested("o", story.state.extended_at - 1, finished=True))
    assert not story.state.exhausted, "that answer did not know of the extension"
    story.add(NothingSuggested("o", story.state.extended_at, finished=True))
    assert story.state.exhausted
