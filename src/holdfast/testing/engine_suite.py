"""The conformance suite of the engine port: whoever writes an engine subclasses `EngineSuite` and says how one is made.

    class TestMyEngine(EngineSuite):
        def make_engine(self):
            return MyEngine()

Each test runs stories (see `engine_stage`) on the engine and looks at nothing but the observations that `poll` returns
and the files in the experiment's directory. `make_trainable` says how a story is written for the engine: by default as a
function trainable. What an engine shows beyond this has a suite of its own: `ProcessSuite` (`process_suite`) for
engines that run attempts in processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast._core.commands import CommitCheckpoint
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointBroken,
    CheckpointCommitted,
    CheckpointLost,
    ResultReported,
    Saved,
)
from holdfast._core.ids import checkpoint_name
from holdfast.engines.base import Engine
from holdfast.testing.engine_stage import Stage, alive, as_function, make_job, make_order

__all__ = ["EngineSuite", "EngineTests", "OpenStage", "Stage", "alive", "make_job", "make_order"]

OpenStage = Callable[..., Stage]
"""Opens an engine for a trainable, the job changed as named; the engine is closed after the test."""


class EngineTests:
    """What all suites of the engine port share: how the engine and its trainables are made."""

    def make_engine(self) -> Engine:
        """A new engine that is not open."""
        raise NotImplementedError

    def make_trainable(self, story: Callable[..., Generator[Any, None, None]]) -> Any:
        """A story as something that the engine runs."""
        return as_function(story)

    @pytest.fixture
    def open_stage(self, tmp_path: Path) -> Iterator[OpenStage]:
        """See `OpenStage`."""
        stages: list[Stage] = []

        def opened(trainable: Any, **changes: Any) -> Stage:
            stages.append(Stage(self.make_engine(), make_job(tmp_path, trainable, **changes)))
            return stages[-1]

        yield opened
        for stage in stages:
            stage.engine.close()

    @pytest.fixture
    def tell(self, open_stage: OpenStage) -> OpenStage:
        """As `open_stage`, for a story."""
        return lambda story, **changes: open_stage(self.make_trainable(story), **changes)


def count_up(config: dict[str, Any]) -> Generator[Any, None, None]:
    """Three rows, or as many as the config says."""
    for step in range(config.get("steps", 3)):
        yield {"step": step}


def invert(config: dict[str, Any]) -> Generator[Any, None, None]:
    """One row, that is 1 / x."""
    yield {"inverse": 1 / config["x"]}


def save_each_step(config: dict[str, Any], state: Any) -> Generator[Any, None, None]:
    """Rows up to `steps`, each with a checkpoint of how many there were."""
    for step in range(state or 0, config["steps"]):
        yield {"step": step}, step + 1


class EngineSuite(EngineTests):
    """What every engine does. Override `make_engine`, and `make_trainable` where a trainable is no function."""

    def test_resources_name_cpus_before_it_is_open(self) -> None:
        assert self.make_engine().resources()["cpu"] > 0

    def test_an_attempt_starts_reports_and_completes_in_that_order(self, tell: OpenStage) -> None:
        stage, order = tell(count_up), make_order(config={"steps": 3})
        (end,) = stage.run(order)
        kinds = [type(seen) for seen in stage.seen]
        assert kinds == [AttemptStarted, ResultReported, ResultReported, ResultReported, AttemptEnded]
        assert (end.outcome, end.failure) == ("completed", None)
        assert stage.metrics_of(order) == [{"step": 0}, {"step": 1}, {"step": 2}]
        assert [row.number for row in stage.rows_of(order)] == [1, 2, 3]
        started = stage.seen[0]
        assert isinstance(started, AttemptStarted)
        assert (started.order, started.trial_id, started.attempt) == (order.order, order.trial_id, 1)
        assert not alive(started.pid) or started.pid == os.getpid()

    def test_attempts_run_with_their_own_configs(self, tell: OpenStage) -> None:
        stage = tell(invert)
        orders = [make_order(index, {"x": 2.0**index}) for index in range(3)]
        assert [end.outcome for end in stage.run(*orders)] == ["completed"] * 3
        assert [stage.metrics_of(order) for order in orders] == [[{"inverse": 1.0}], [{"inverse": 0.5}], [{"inverse": 0.25}]]

    def test_a_report_waits_for_its_reply(self, tell: OpenStage) -> None:
        stage, order = tell(count_up), make_order(config={"steps": 2})
        seen_meanwhile = []

        def answer_late(row: ResultReported) -> None:
            seen_meanwhile.extend(stage.engine.poll(0.1))
            stage.engine.reply(row.trial_id, row.attempt, row.number, "CONTINUE")

        stage.answers[0, 1] = answer_late
        stage.run(order)
        assert seen_meanwhile == []
        assert len(stage.rows_of(order)) == 2

    def test_a_reply_to_another_row_or_attempt_lets_no_report_return(self, tell: OpenStage) -> None:
        stage, order = tell(count_up), make_order(config={"steps": 2}, attempt=4)
        seen_meanwhile = []

        def answer_others_first(row: ResultReported) -> None:
            stage.engine.reply("abcde_00009", row.attempt, row.number, "CONTINUE")
            stage.engine.reply(row.trial_id, row.attempt - 1, row.number, "STOP")
            seen_meanwhile.extend(stage.engine.poll(0.1))
            stage.engine.reply(row.trial_id, row.attempt, row.number, "CONTINUE")

        stage.answers[0, 1] = answer_others_first
        (end,) = stage.run(order)
        assert (seen_meanwhile, end.outcome) == ([], "completed")
        assert len(stage.rows_of(order)) == 2

    @pytest.mark.parametrize("action", ["STOP", "PAUSE"])
    def test_stop_and_pause_unwind_with_finally(self, tell: OpenStage, tmp_path: Path, action: str) -> None:
        unwound = str(tmp_path / "unwound")

        def story(_: dict[str, Any]) -> Generator[Any, None, None]:
            try:
                while True:
                    yield {"a": 1}
            finally:
                Path(unwound).write_text("yes")

        stage, order = tell(story), make_order()
        stage.answers[0, 2] = action
        (end,) = stage.run(order)
        assert (end.outcome, end.failure) == ("stopped", None)
        assert len(stage.rows_of(order)) == 2
        assert Path(unwound).read_text() == "yes"

    def test_an_exception_is_a_failure_with_its_traceback(self, tell: OpenStage) -> None:
        def story(_: dict[str, Any]) -> Generator[Any, None, None]:
            yield {"a": 1}
            raise KeyError("missing thing")

        (end,) = tell(story).run(make_order())
        assert end.outcome == "failed"
        assert end.failure is not None
        assert end.failure.kind == "code"
        assert "missing thing" in end.failure.message
        assert 'raise KeyError("missing thing")' in end.failure.traceback
        revived = _revived(end.failure.exception)
        assert isinstance(revived, KeyError)
        assert revived.args == ("missing thing",)

    def test_a_failed_attempt_spoils_nothing_for_the_next(self, tell: OpenStage) -> None:
        stage = tell(invert)
        bad, good = make_order(0, {"x": 0}), make_order(1, {"x": 2})
        ends = stage.run(bad, good)
        assert [end.outcome for end in ends] == ["failed", "completed"]
        assert stage.metrics_of(good) == [{"inverse": 0.5}]

    def test_done_is_told_with_its_row(self, tell: OpenStage) -> None:
        def story(_: dict[str, Any]) -> Generator[Any, None, None]:
            yield {"a": 1}
            yield {"a": 2, "done": True}

        stage, order = tell(story), make_order()
        stage.answers[0, 2] = "STOP"
        stage.run(order)
        assert [row.done for row in stage.rows_of(order)] == [False, True]

    def test_a_checkpoint_is_saved_and_resumed(self, tell: OpenStage) -> None:
        stage, order = tell(save_each_step), make_order(config={"steps": 2}, grant=4)
        stage.run(order)
        saved = [row.saved for row in stage.rows_of(order)]
        assert [one.index for one in saved if one] == [4, 5]
        assert Path(stage.dir_of(order), checkpoint_name(5)).is_dir()
        assert [name for name in os.listdir(stage.dir_of(order)) if name.startswith(".")] == []
        again = make_order(config={"steps": 4}, attempt=2, resume=saved[1], number=2, iteration=2, time_total_s=50.0, grant=9)
        (end,) = stage.run(again)
        assert end.outcome == "completed"
        rows = stage.rows_of(again)
        assert [(row.number, row.iteration, row.since_restore) for row in rows] == [(3, 3, 1), (4, 4, 2)]
        assert [row.saved.index for row in rows if row.saved] == [9, 10]
        assert rows[0].time_total_s >= 50.0 > rows[0].time_since_restore
        assert stage.metrics_of(again) == [{"step": 2}, {"step": 3}]

    @pytest.mark.parametrize("damage", ["content", "missing"])
    def test_a_broken_checkpoint_is_not_resumed_from(self, tell: OpenStage, damage: str) -> None:
        stage, order = tell(save_each_step), make_order(config={"steps": 1})
        stage.run(order)
        saved = stage.rows_of(order)[0].saved
        assert isinstance(saved, Saved)
        for file in Path(stage.dir_of(order), checkpoint_name(0)).iterdir():
            if damage == "content":
                file.write_bytes(file.read_bytes()[:-1] + b"\0")
            else:
                file.unlink()
        again = make_order(config={"steps": 2}, attempt=2, resume=saved, number=1, grant=1)
        (end,) = stage.run(again)
        assert end.failure is not None
        assert (end.outcome, end.failure.kind) == ("failed", "checkpoint")
        broken = [seen for seen in stage.seen if isinstance(seen, CheckpointBroken)]
        assert [(one.attempt, one.index) for one in broken] == [(2, 0)]
        assert stage.rows_of(again) == []

    def test_a_pending_checkpoint_is_complete_before_its_attempt_ends(self, tell: OpenStage) -> None:
        stage, order = tell(save_each_step, upload="async"), make_order(config={"steps": 4}, grant=4)
        (end,) = stage.run(order)
        assert end.outcome == "completed"
        known = list[Saved]()
        for row in stage.rows_of(order):
            later = [seen for seen in stage.seen[stage.seen.index(row) : -1] if isinstance(seen, CheckpointCommitted)]
            committed = [(one.attempt, one.number, one.order) for one in later if one.saved == row.pending]
            assert committed == ([(1, row.number, "")] if row.pending else [])
            known += [saved for saved in (row.saved, row.pending) if saved]
        assert [saved.index for saved in known] == [4, 5, 6, 7]
        assert [name for name in os.listdir(stage.dir_of(order)) if name.startswith(".")] == []
        again = make_order(config={"steps": 5}, attempt=2, resume=known[-1], number=4, grant=8)
        stage.run(again)
        assert stage.metrics_of(again) == [{"step": 4}]

    def test_completing_a_checkpoint_whose_files_are_gone_finds_it_lost(self, tell: OpenStage) -> None:
        stage, order = tell(count_up), make_order()
        stage.run(order)
        stage.engine.commit(CommitCheckpoint("9.9.9", order.trial_id, 1, order.dirname, 3, Saved(2, 1, 10, "0" * 64)))
        stage.until(lambda: any(isinstance(seen, CheckpointLost) for seen in stage.seen))
        (lost,) = [seen for seen in stage.seen if isinstance(seen, CheckpointLost)]
        assert (lost.order, lost.trial_id, lost.index) == ("9.9.9", order.trial_id, 2)
        assert lost.problem

    def test_stale_replies_and_kills_are_harmless(self, tell: OpenStage) -> None:
        stage, order = tell(count_up), make_order(config={"steps": 1})
        stage.engine.reply("abcde_00009", 1, 1, "STOP")
        stage.engine.kill("abcde_00009", 1)
        stage.run(order)
        stage.engine.reply(order.trial_id, 1, 1, "STOP")
        stage.engine.kill(order.trial_id, 1)
        second = make_order(attempt=2, config={"steps": 2})
        (end,) = stage.run(second)
        assert end.outcome == "completed"
        assert len(stage.rows_of(second)) == 2

    def test_a_killed_attempt_ends_as_a_lost_worker(self, tell: OpenStage) -> None:
        stage, order, other = tell(count_up), make_order(0), make_order(1)
        stage.answers[0, 2] = lambda row: stage.engine.kill(row.trial_id, row.attempt)
        ends = stage.run(order, other)
        failure = ends[0].failure
        assert failure is not None
        assert (ends[0].outcome, failure.kind, failure.signal) == ("failed", "worker", 9)
        assert (ends[1].outcome, len(stage.rows_of(order))) == ("completed", 2)

    def test_wake_ends_a_poll(self, tell: OpenStage) -> None:
        stage = tell(count_up)
        stage.engine.wake()
        begun = time.monotonic()
        stage.engine.poll(60.0)
        assert time.monotonic() - begun < 30.0

    def test_close_may_be_called_twice(self, tell: OpenStage) -> None:
        stage = tell(count_up)
        stage.engine.start(make_order())
        stage.engine.close()
        stage.engine.close()


def _revived(pickled: bytes) -> Any:
    import pickle

    return pickle.loads(pickled)
