"""What an engine of class trainables shows: when one saves, what it owes at the end, that it cleans up.

    class TestMyEngine(ClassSuite):
        def make_engine(self) -> Engine:
            return MyEngine()

Knows the engine port and `holdfast.Trainable`. Refuses to know how an engine runs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast._core.events import CheckpointCommitted
from holdfast._core.ids import checkpoint_name
from holdfast.testing.engine_stage import Stage, make_order
from holdfast.testing.engine_suite import EngineTests, OpenStage
from holdfast.trainable import Trainable

__all__ = ["ClassProcessSuite", "ClassSuite"]


def counting() -> type[Trainable]:
    """A class trainable that counts; made here, so that it travels whole."""

    class Counting(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.value = 0

        def step(self) -> dict[str, Any]:
            self.value += 1
            if self.value == self.config.get("fails_at"):
                raise ValueError("as told")
            return {"value": self.value, "done": self.value == self.config.get("last")}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            Path(checkpoint_dir, "value").write_text(str(self.value), encoding="utf-8")

        def load_checkpoint(self, checkpoint: dict[str, Any] | str) -> None:
            assert isinstance(checkpoint, str)
            self.value = int(Path(checkpoint, "value").read_text(encoding="utf-8"))

        def cleanup(self) -> None:
            with open(Path(self.logdir, "cleaned"), "a", encoding="utf-8") as file:
                file.write("x")

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.value = 0
            return True

    return Counting


def committed(stage: Stage) -> dict[int, int]:
    """Row → index of the checkpoint that came after it."""
    return {seen.number: seen.saved.index for seen in stage.seen if isinstance(seen, CheckpointCommitted)}


class ClassSuite(EngineTests):
    """What every engine does that runs class trainables."""

    def test_checkpoints_come_with_their_rows_and_at_the_end(self, open_stage: OpenStage) -> None:
        stage = open_stage(counting(), class_trainable=True, checkpoint_frequency=2, checkpoint_at_end=True)
        order = make_order()
        stage.answers[0, 5] = "STOP"
        (ended,) = stage.run(order)
        assert ended.outcome == "stopped"
        assert {row.number: row.saved.index for row in stage.rows_of(order) if row.saved} == {2: 0, 4: 1}
        assert committed(stage) == {5: 2}
        assert Path(stage.dir_of(order), checkpoint_name(2), "value").read_text(encoding="utf-8") == "5"
        assert Path(stage.dir_of(order), "cleaned").read_text(encoding="utf-8") == "x"

    def test_the_row_that_is_done_brings_its_checkpoint_along(self, open_stage: OpenStage) -> None:
        stage = open_stage(counting(), class_trainable=True, checkpoint_at_end=True)
        order = make_order(config={"last": 3})
        stage.answers[0, 3] = "STOP"
        stage.run(order)
        assert [row.saved is not None for row in stage.rows_of(order)] == [False, False, True]
        assert committed(stage) == {}

    @pytest.mark.parametrize("action", ["CONTINUE", "PAUSE"])
    def test_a_row_may_be_saved_behind_its_answer_and_is_gone_on_from(self, open_stage: OpenStage, action: str) -> None:
        stage = open_stage(counting(), class_trainable=True)
        first = make_order()
        stage.answers[0, 2] = action
        stage.answers[0, 3] = "STOP"
        if action == "CONTINUE":
            stage.saves.add((0, 2))
        stage.run(first)
        (seen,) = [seen for seen in stage.seen if isinstance(seen, CheckpointCommitted)]
        assert (seen.number, seen.saved.index) == (2, 0)
        second = make_order(attempt=2, order="1.9.0", resume=seen.saved, number=2, iteration=2, grant=1)
        stage.answers[0, 3] = "STOP"
        stage.run(second)
        assert [row["value"] for row in stage.metrics_of(second)] == [3]
        assert [row.iteration for row in stage.rows_of(second)] == [3]

    def test_a_failed_attempt_cleans_up(self, open_stage: OpenStage) -> None:
        stage = open_stage(counting(), class_trainable=True)
        order = make_order(config={"fails_at": 2})
        (ended,) = stage.run(order)
        assert ended.failure is not None
        assert ended.failure.kind == "code"
        assert Path(stage.dir_of(order), "cleaned").exists()


class ClassProcessSuite(ClassSuite):
    """What an engine does, beside that, whose workers are processes."""

    def test_a_step_that_is_under_way_at_the_close_ends_and_is_cleaned_up(self, open_stage: OpenStage) -> None:
        stage = open_stage(counting(), class_trainable=True, grace_s=30.0)
        order = make_order()
        stage.answers[0, 2] = lambda _: stage.engine.close()
        stage.engine.start(order)
        stage.until(lambda: Path(stage.dir_of(order), "cleaned").exists())
        assert stage.end_of(order) is None

    def test_one_instance_may_run_one_trial_after_another(self, open_stage: OpenStage) -> None:
        stage = open_stage(counting(), class_trainable=True, reuse_workers=True, grace_s=30.0)
        for index in range(2):
            stage.answers[index, 2] = "STOP"
            stage.run(make_order(index))
            assert [row["value"] for row in stage.metrics_of(make_order(index))] == [1, 2]
        stage.engine.close()
        assert [Path(stage.dir_of(make_order(index)), "cleaned").exists() for index in range(2)] == [False, True]
