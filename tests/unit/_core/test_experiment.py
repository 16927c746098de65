"""The fold: what a list of records says."""

from __future__ import annotations

import msgspec
import pytest

from holdfast import values
from holdfast._core.events import (
    AttemptEnded,
    CheckpointBroken,
    CheckpointDeleted,
    DecisionMade,
    Failure,
    InexactFound,
    NothingSuggested,
    Record,
    TailCut,
    Woke,
)
from holdfast._core.experiment import ExperimentState
from holdfast.errors import IllegalTransition, InternalError
from stories import Story


def running(**policy) -> tuple[Story, str]:
    story = Story(**policy)
    name = story.suggest()
    story.start(name)
    return story, name


def loss(row) -> float:
    return values.decode(row.metrics)["loss"]


def test_nothing_is_known_before_the_birth() -> None:
    with pytest.raises(InternalError):
        _ = ExperimentState().policy


def test_records_come_one_after_another() -> None:
    story = Story()
    with pytest.raises(InternalError, match="came after"):
        story.state.fold(Record(9, 1, 0.0, 0.0, Woke("1.0.0")))


def test_a_row_of_no_trial_is_ours_to_mend() -> None:
    story, name = running()
    row = story.row(name)
    with pytest.raises(InternalError, match="no trial"):
        story.add(msgspec.structs.replace(row, trial_id="abcde_00077"))


def test_rows_of_a_branch_are_numbered_without_gaps() -> None:
    story, name = running()
    row = story.row(name)
    for wrong in (1, 3):
        with pytest.raises(InternalError, match="came after row 1"):
            story.add(msgspec.structs.replace(row, number=wrong))


def test_a_row_is_decided_once() -> None:
    story, name = running()
    story.report(name)
    with pytest.raises(InternalError, match="came after one on row 1"):
        story.add(DecisionMade(name, 1, "CONTINUE", "scheduler", 0))


def test_an_illegal_record_leaves_the_trial_as_it_was() -> None:
    story, name = running()
    before = msgspec.msgpack.encode(story.state)
    with pytest.raises(IllegalTransition):
        story.stopped(name)
    after = msgspec.msgpack.decode(msgspec.msgpack.encode(story.state), type=ExperimentState)
    assert after.trials[name].state == "RUNNING"
    assert after.position == msgspec.msgpack.decode(before, type=ExperimentState).position


def test_a_stop_ends_the_trial_when_its_worker_has_ended() -> None:
    story, name = running()
    story.row(name)
    story.decide(name, "STOP")
    trial = story.state.trial(name)
    assert (trial.state, trial.stopped_by, story.state.unfinished) == ("STOPPING", "scheduler", 1)
    story.stopped(name)
    assert (trial.state, story.state.unfinished) == ("TERMINATED", 0)


def test_a_pause_outlives_its_worker() -> None:
    story, name = running()
    story.row(name, save=True)
    story.decide(name, "PAUSE")
    story.lose(name)
    trial = story.state.trial(name)
    assert (trial.state, trial.mark, story.state.paused, story.state.waiting) == ("PAUSED", 1, {0}, set())


def test_a_retry_goes_on_from_the_newest_checkpoint() -> None:
    story, name = running()
    for number in range(1, 6):
        story.report(name, save=number == 3)
    story.fail(name)
    trial = story.state.trial(name)
    assert (trial.state, trial.failures, trial.mark) == ("PENDING", 1, 5)
    story.start(name)
    assert (trial.number, trial.attempt) == (3, 2)
    assert loss(trial.last) == 0.2  # until they are redone, rows 4 and 5 are what users see
    story.row(name, {"loss": 44.0})
    assert (trial.number, trial.mark) == (4, 5)
    assert loss(trial.last) == 0.2
    story.row(name, {"loss": 55.0})
    assert loss(trial.last) == 55.0


def test_a_redone_last_row_keeps_what_callbacks_changed_in_the_first() -> None:
    story, name = running()
    story.report(name, changes={"seen": "first"})
    story.lose(name)
    story.start(name)
    story.row(name, {"loss": 5.0})
    trial = story.state.trial(name)
    assert (loss(trial.last), values.decode(trial.changes)) == (5.0, {"seen": "first"})
    story.row(name)
    assert trial.changes == b""


def test_a_redo_that_returns_earlier_ends_the_trial_there() -> None:
    story, name = running()
    for _ in range(3):
        story.report(name)
    story.lose(name)
    story.start(name)
    story.row(name, {"loss": 9.0})
    story.complete(name)
    trial = story.state.trial(name)
    assert (trial.state, trial.mark, loss(trial.last)) == ("TERMINATED", 1, 9.0)


def test_a_lost_attempt_costs_nothing_and_its_index_is_not_given_again() -> None:
    story, name = running(max_failures=0)
    story.report(name, save=True)
    story.lose(name)
    trial = story.state.trial(name)
    assert (trial.state, trial.failures, trial.next_index) == ("PENDING", 0, 2)


@pytest.mark.parametrize(("max_failures", "states"), [(0, ["ERROR"]), (2, ["PENDING", "PENDING", "ERROR"])])
def test_failures_are_counted(max_failures: int, states: list[str]) -> None:
    story = Story(max_failures=max_failures)
    name = story.suggest()
    seen = []
    for _ in states:
        story.start(name)
        story.fail(name)
        seen.append(story.state.trial(name).state)
    assert seen == states


def test_a_failure_is_forgotten_when_a_later_attempt_ends_well() -> None:
    story, name = running()
    story.fail(name)
    story.start(name)
    story.complete(name)
    assert story.state.trial(name).failure is None


def test_a_failure_without_a_reason_is_ours_to_mend() -> None:
    story, name = running()
    with pytest.raises(InternalError, match="without a failure"):
        story.add(AttemptEnded(name, 1, "failed"))


def test_a_broken_checkpoint_gives_way_to_the_one_before() -> None:
    story, name = running(max_failures=0)
    story.report(name, save=True)
    story.report(name, save=True)
    story.lose(name)
    story.start(name)
    story.add(CheckpointBroken(name, 2, 1, "model has no bytes"))
    story.add(AttemptEnded(name, 2, "failed", Failure("checkpoint", "x")))
    trial = story.state.trial(name)
    point = trial.resume_point()
    assert (trial.state, trial.failures, point and point.saved.index) == ("PENDING", 0, 0)
    story.start(name)
    story.add(CheckpointBroken(name, 3, 0, "nor has this one"))
    story.add(AttemptEnded(name, 3, "failed", Failure("checkpoint", "x")))
    assert trial.state == "ERROR"  # never silently from nothing


def test_a_dropped_checkpoint_is_no_resume_point() -> None:
    story, name = running()
    story.report(name, save=True)
    story.drop(name, 0)
    story.add(CheckpointDeleted("o", name, 0))
    assert story.state.trial(name).resume_point() is None


class TestTakingOver:
    def finished_and_failed(self) -> Story:
        """Trial 0 is done, 1 failed for good, 2 runs, 3 waits."""
        story = Story(max_failures=0)
        names = [story.suggest() for _ in range(4)]
        for name in names[:3]:
            story.start(name)
            story.report(name, save=True)
        story.complete(names[0])
        story.fail(names[1])
        return story

    def states(self, story: Story) -> list[str]:
        return [trial.state for trial in story.state.trials.values()]

    def test_by_default_only_what_is_unfinished_goes_on(self) -> None:
        story = self.finished_and_failed()
        story.epoch()
        assert self.states(story) == ["TERMINATED", "ERROR", "RUNNING", "PENDING"]
        assert story.state.revived == []

    def test_unfinished_trials_can_be_left_with_what_they_have(self) -> None:
        story = self.finished_and_failed()
        story.epoch(unfinished="skip")
        assert self.states(story) == ["TERMINATED", "ERROR", "TERMINATED", "TERMINATED"]
        assert (story.state.unfinished, story.state.waiting) == (0, set())
        assert story.state.at(2).last is not None

    def test_a_skipped_trial_can_go_on_later_from_a_row_that_was_never_decided(self) -> None:
        story, name = running()
        story.row(name, save=True)
        story.epoch(unfinished="skip")
        story.lose(name)
        story.epoch(finished="resume")
        story.start(name)
        assert story.state.trial(name).mark == 1
        story.report(name)
        assert story.state.trial(name).mark == 2

    def test_errored_trials_resume_with_a_fresh_budget(self) -> None:
        story = self.finished_and_failed()
        story.epoch(errored="resume")
        trial = story.state.at(1)
        assert (trial.state, trial.failures, len(trial.kept)) == ("PENDING", 0, 1)
        assert story.state.revived == [trial.trial_id]

    def test_errored_trials_restart_in_a_new_directory_and_branch(self) -> None:
        story = self.finished_and_failed()
        trial = story.state.at(1)
        before = trial.dirname
        story.epoch(errored="restart")
        assert (trial.state, trial.branch, trial.dirname) == ("PENDING", 1, f"{before}_restart1")
        assert (trial.number, trial.mark, trial.kept, trial.last, trial.failure) == (0, 0, (), None, None)
        story.start(trial.trial_id)
        story.fail(trial.trial_id)
        story.epoch(errored="restart")
        assert trial.dirname == f"{before}_restart2"

    def test_finished_trials_can_be_taken_up_again(self) -> None:
        story = self.finished_and_failed()
        story.epoch(finished="resume")
        assert self.states(story)[0] == "PENDING"
        assert story.state.at(0).stopped_by == ""


class TestStoppingAll:
    def test_trials_without_a_worker_end_at_once_and_running_ones_at_their_next_row(self) -> None:
        story, name = running()
        waiting = story.suggest()
        story.add(Woke("1.0.0"))
        assert story.state.stopping == "budget"
        assert story.state.trial(waiting).state == "TERMINATED"
        assert story.state.trial(name).state == "RUNNING"
        assert not story.state.over
        story.row(name)
        story.decide(name, "STOP")
        story.stopped(name)
        assert story.state.over

    def test_a_trial_suggested_afterwards_ends_at_once(self) -> None:
        story = Story()
        story.add(Woke("1.0.0"))
        assert story.state.trial(story.suggest()).state == "TERMINATED"

    def test_a_failed_attempt_is_not_tried_again(self) -> None:
        story, name = running()
        story.add(Woke("1.0.0"))
        story.fail(name)
        assert (story.state.trial(name).state, story.state.unfinished) == ("TERMINATED", 0)

    def test_it_outlives_the_driver(self) -> None:
        story, name = running()
        story.add(Woke("1.0.0"))
        story.epoch()
        story.lose(name)
        assert story.state.over


class TestOver:
    def test_when_all_samples_are_done(self) -> None:
        story, name = running(num_samples=1)
        assert not story.state.over
        story.complete(name)
        assert story.state.over

    def test_when_the_searcher_has_no_more(self) -> None:
        story = Story(num_samples=-1)
        story.add(NothingSuggested("o", 0, finished=False))
        assert not story.state.over
        story.add(NothingSuggested("o", 0, finished=True))
        assert story.state.over


def test_what_concerns_the_whole_is_kept() -> None:
    story = Story()
    story.add(TailCut("00000001-0001.log", 100, 7))
    story.add(InexactFound("searcher", 3, "differs"))
    story.finish("interrupted")
    assert (len(story.state.cuts), story.state.inexact[0].plugin, story.state.ended) == (1, "searcher", "interrupted")
    story.epoch()
    assert story.state.ended == ""
