"""The conformance suites of checkpoints that become known after their row.

`PendingSuite`: rows are reported while their checkpoints are only staged (a job with `upload="async"`), and an attempt may die
before they are complete. `OnDemandSuite`: the driver asks for the checkpoint of a row when it answers it, as with class
trainables. Both tell stories (see `engine_stage`) and know nothing of any engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from holdfast._core.commands import CommitCheckpoint, StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointCommitted, CheckpointLost, ResultReported, Saved
from holdfast._core.ids import checkpoint_name, pending_name
from holdfast.testing.engine_stage import Stage, as_class, make_order
from holdfast.testing.engine_suite import EngineTests, OpenStage, save_each_step

__all__ = ["OnDemandSuite", "PendingSuite"]


class PendingSuite(EngineTests):
    """What every engine does with checkpoints that an attempt left pending."""

    def left_pending(self, stage: Stage, order: StartAttempt) -> Saved:
        """The checkpoint of a row whose attempt was killed before it was answered."""
        stage.answers[0, 1] = lambda row: stage.engine.kill(row.trial_id, row.attempt)
        (end,) = stage.run(order)
        (row,) = stage.rows_of(order)
        assert (end.outcome, row.saved) == ("failed", None)
        assert row.pending is not None
        assert Path(stage.dir_of(order), pending_name(row.pending.index)).is_dir()
        return row.pending

    def test_what_a_killed_attempt_left_is_completed_and_resumed_from(self, tell: OpenStage) -> None:
        stage, order = tell(save_each_step, upload="async"), make_order(config={"steps": 3}, grant=5)
        saved = self.left_pending(stage, order)
        assert saved.index == 5
        answer = _completed(stage, order, saved, "2.7.0")
        assert answer == CheckpointCommitted(order.trial_id, 1, 1, saved, "2.7.0")
        assert not Path(stage.dir_of(order), pending_name(5)).exists()
        again = make_order(config={"steps": 2}, attempt=2, resume=saved, number=1, grant=6)
        stage.run(again)
        assert stage.metrics_of(again) == [{"step": 1}]

    def test_the_order_may_be_repeated(self, tell: OpenStage) -> None:
        stage, order = tell(save_each_step, upload="async"), make_order(config={"steps": 3})
        saved = self.left_pending(stage, order)
        answers = [_completed(stage, order, saved, name) for name in ("2.7.0", "3.1.0")]
        assert [(type(answer), answer.order) for answer in answers] == [
            (CheckpointCommitted, "2.7.0"),
            (CheckpointCommitted, "3.1.0"),
        ]
        assert Path(stage.dir_of(order), checkpoint_name(0)).is_dir()

    @pytest.mark.parametrize("damage", ["content", "missing"])
    def test_what_is_damaged_is_found_lost(self, tell: OpenStage, damage: str) -> None:
        stage, order = tell(save_each_step, upload="async"), make_order(config={"steps": 3})
        saved = self.left_pending(stage, order)
        for file in Path(stage.dir_of(order), pending_name(0)).iterdir():
            if damage == "missing":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[:-1] + b"\0")
        answer = _completed(stage, order, saved, "2.7.0")
        assert isinstance(answer, CheckpointLost)
        assert (answer.order, answer.trial_id, answer.index) == ("2.7.0", order.trial_id, 0)
        assert not Path(stage.dir_of(order), checkpoint_name(0)).exists()

    @pytest.mark.parametrize("action", ["STOP", "PAUSE"])
    def test_an_attempt_that_is_told_to_end_completes_what_is_pending_first(self, tell: OpenStage, action: str) -> None:
        stage, order = tell(save_each_step, upload="async"), make_order(config={"steps": 9})
        stage.answers[0, 2] = action
        stage.run(order)
        kinds = [type(seen) for seen in stage.seen if isinstance(seen, CheckpointCommitted | AttemptEnded)]
        assert kinds == [CheckpointCommitted, CheckpointCommitted, AttemptEnded]
        assert sorted(name for name in os.listdir(stage.dir_of(order)) if "0000" in name) == [
            checkpoint_name(0),
            checkpoint_name(1),
        ]


class OnDemandSuite(EngineTests):
    """What an engine does whose trials save when they are asked to, and when they are stopped or paused."""

    def make_trainable(self, story: Callable[..., Generator[Any, None, None]]) -> Any:
        """A story as a class trainable."""
        return as_class(story)

    @pytest.fixture
    def stage(self, tell: OpenStage) -> Stage:
        """The engine, open for a story whose every row has a state."""
        return tell(save_each_step, class_trainable=True, checkpoint_at_end=True)

    def test_nothing_is_saved_that_nobody_asked_for(self, stage: Stage) -> None:
        order = make_order(config={"steps": 9})
        stage.answers[0, 3] = "STOP"
        (end,) = stage.run(order)
        assert end.outcome == "stopped"
        assert [(row.saved, row.pending) for row in stage.rows_of(order)] == [(None, None)] * 3
        assert [one.number for one in _late(stage)] == [3]

    def test_what_was_asked_for_is_told_before_the_next_row(self, stage: Stage) -> None:
        order = make_order(config={"steps": 9}, grant=3)
        stage.saves |= {(0, 1), (0, 3)}
        stage.answers[0, 4] = "STOP"
        stage.run(order)
        told = [seen for seen in stage.seen if isinstance(seen, ResultReported | CheckpointCommitted)]
        assert [(type(one), one.number) for one in told] == [
            (ResultReported, 1),
            (CheckpointCommitted, 1),
            (ResultReported, 2),
            (ResultReported, 3),
            (CheckpointCommitted, 3),
            (ResultReported, 4),
            (CheckpointCommitted, 4),
        ]
        assert [(one.saved.index, one.order) for one in _late(stage)] == [(3, ""), (4, ""), (5, "")]

    @pytest.mark.parametrize("action", ["STOP", "PAUSE"])
    def test_the_last_row_of_an_attempt_is_saved_and_gone_on_from(self, stage: Stage, action: str) -> None:
        order = make_order(config={"steps": 9})
        stage.answers[0, 2] = action
        stage.run(order)
        assert isinstance(stage.seen[-1], AttemptEnded)
        (last,) = _late(stage)
        assert (last.attempt, last.number) == (1, 2)
        again = make_order(config={"steps": 9}, attempt=2, resume=last.saved, number=2, iteration=2, grant=1)
        stage.answers[0, 3] = "STOP"
        stage.run(again)
        assert stage.metrics_of(again) == [{"step": 2}]


def _completed(stage: Stage, order: StartAttempt, saved: Saved, name: str) -> CheckpointCommitted | CheckpointLost:
    """The answer to the order to complete a checkpoint."""
    stage.engine.commit(CommitCheckpoint(name, order.trial_id, order.attempt, order.dirname, 1, saved))
    answers: list[CheckpointCommitted | CheckpointLost] = []

    def answered() -> bool:
        answers[:] = [
            seen for seen in stage.seen if isinstance(seen, CheckpointCommitted | CheckpointLost) and seen.order == name
        ]
        return bool(answers)

    stage.until(answered)
    (answer,) = answers
    return answer


def _late(stage: Stage) -> list[CheckpointCommitted]:
    return [seen for seen in stage.seen if isinstance(seen, CheckpointCommitted)]
