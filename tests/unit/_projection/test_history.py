from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointCommitted,
    EpochStarted,
    ResultReported,
    TrialSuggested,
)
from holdfast._core.experiment import ExperimentState
from holdfast._projection.history import History
from stories import EXPERIMENT_ID, Story, drawn


def told(story) -> History:
    state, history = ExperimentState(), History()
    for record in story.records:
        state.fold(record)
        history.hear(record, state)
    return history


def losses(story, name, key="loss"):
    return [row[key] for row in told(story).full_rows(story.state.trial(name), EXPERIMENT_ID)]


def test_a_redone_row_supersedes_the_first_of_its_number_and_keeps_its_changes():
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name, {"loss": 1}, save=True)
    story.report(name, {"loss": 2}, changes={"seen": "first"})
    story.report(name, {"loss": 3})
    story.lose(name)
    story.start(name)
    story.report(name, {"loss": 20})
    assert losses(story, name) == [1, 20, 3]
    history = told(story)
    rows = list(history.full_rows(story.state.trial(name), EXPERIMENT_ID))
    assert rows[1]["seen"] == "first"
    assert [row["pid"] for row in rows] == [1001, 1002, 1001]
    assert [(old.why, old.row.number) for old in history.superseded(name)] == [("redone", 2)]


def test_a_redo_that_completes_early_cuts_the_rest():
    story = Story()
    name = story.suggest()
    story.start(name)
    for loss in range(5):
        story.report(name, {"loss": loss}, save=loss == 0)
    story.lose(name)
    story.start(name)
    story.report(name, {"loss": 10})
    story.complete(name)
    assert losses(story, name) == [0, 10]
    assert [(old.why, old.row.number) for old in told(story).superseded(name)] == [
        ("redone", 2), ("cut", 3), ("cut", 4), ("cut", 5),
    ]  # fmt: skip


def test_a_redo_that_completes_before_its_first_row_ends_at_its_checkpoint():
    story = Story()
    name = story.suggest()
    story.start(name)
    for loss in range(4):
        story.report(name, {"loss": loss}, save=loss == 1)
    story.lose(name)
    story.start(name)
    story.complete(name)
    assert losses(story, name) == [0, 1]


def test_a_restart_hides_the_old_branch():
    story = Story(max_failures=0)
    name = story.suggest()
    story.start(name)
    story.report(name, {"loss": 1}, changes={"x": 1})
    story.fail(name)
    story.epoch(errored="restart")
    assert losses(story, name) == []
    story.start(name)
    story.report(name, {"loss": 5})
    history = told(story)
    assert losses(story, name) == [5]
    assert "x" not in next(iter(history.full_rows(story.state.trial(name), EXPERIMENT_ID)))
    assert [(old.why, old.branch) for old in history.superseded(name)] == [("restarted", 0)]
    assert [attempt.branch for attempt in history.trial(name).attempts.values()] == [0, 1]


def test_attempts_tell_where_when_and_why_they_ended():
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name)
    story.report(name)
    story.fail(name, ValueError("bad"))
    story.start(name)
    story.lose(name)
    first, second = told(story).trial(name).attempts.values()
    assert (first.outcome, first.failure.message, first.first, first.last, first.host) == ("failed", "bad", 1, 2, "host1")
    assert first.ended > first.began > 0
    assert (second.outcome, second.cause, second.first) == ("lost", "driver", 0)


class Model:
    """What a user should see, told in another way: all rows with their branch, then the newest of each number up to the cut."""

    def __init__(self, story) -> None:
        state = ExperimentState()
        branches: dict[str, int] = {}
        self.visible: dict[str, list[ResultReported]] = {}
        self.reported = 0
        began: dict[str, int] = {}
        for record in story.records:
            state.fold(record)
            event = record.event
            if isinstance(event, TrialSuggested):
                self.visible[event.trial_id] = []
            elif isinstance(event, AttemptStarted):
                kept = state.trial(event.trial_id).kept
                began[event.trial_id] = kept[-1].number if kept else 0
            elif isinstance(event, ResultReported):
                self.reported += 1
                began[event.trial_id] = event.number
                rows = {row.number: row for row in self.visible[event.trial_id]}
                rows[event.number] = event
                self.visible[event.trial_id] = [rows[number] for number in sorted(rows)]
            elif isinstance(event, CheckpointCommitted):
                rows = self.visible[event.trial_id]
                rows[event.number - 1] = msgspec.structs.replace(rows[event.number - 1], saved=event.saved)
            elif isinstance(event, AttemptEnded) and event.outcome == "completed":
                end = began[event.trial_id]
                self.visible[event.trial_id] = [row for row in self.visible[event.trial_id] if row.number <= end]
            elif isinstance(event, EpochStarted):
                for name, trial in state.trials.items():
                    if branches.get(name, 0) != trial.branch:
                        self.visible[name] = []
                    branches[name] = trial.branch


@given(st.integers(0, 2**32))
def test_any_story_gives_each_number_once_and_loses_no_row(seed):
    story = drawn(random.Random(seed))
    history, model = told(story), Model(story)
    counted = 0
    for name in story.state.trials:
        rows = history.rows(name)
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert rows == model.visible[name]
        counted += len(rows) + len(history.superseded(name))
    assert counted == model.reported


def names(story, name):
    rows = told(story).full_rows(story.state.trial(name), EXPERIMENT_ID)
    return [row["checkpoint_dir_name"] for row in rows]


def test_a_row_names_the_checkpoint_that_came_after_it():
    story = Story()
    name = story.suggest()
    story.start(name)
    story.report(name)
    story.report(name)
    story.commit(name)
    story.report(name)
    assert names(story, name) == [None, "checkpoint_000000", None]
    story.lose(name)
    story.start(name)
    story.report(name)  # the third again: the second is behind the checkpoint
    assert names(story, name) == [None, "checkpoint_000000", None]


def test_a_pending_checkpoint_is_named_from_the_beginning_and_known_when_it_is_lost():
    story = Story()
    name = story.suggest()
    story.start(name)
    for _ in range(2):
        story.row(name, pending=True)
        story.decide(name)
    story.commit(name)
    story.lose_checkpoint(name)
    assert names(story, name) == ["checkpoint_000000", "checkpoint_000001"]
    assert told(story).trial(name).lost == [(1, "its files are gone")]
