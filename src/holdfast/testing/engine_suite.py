"""The conformance suite of the engine port: whoever writes an engine subclasses `EngineSuite` and says how one is made.

    class TestMyEngine(EngineSuite):
        def make_engine(self):
            return MyEngine()

Each test runs real code on the engine and looks at nothing but the observations that `poll` returns, the files in the
experiment's directory, and whether processes live. An engine that runs attempts in the driver's own process cannot pass: it
has no processes to kill.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from holdfast import values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, AttemptStarted, CheckpointBroken, ResultReported, Saved
from holdfast.checkpoint import Checkpoint
from holdfast.engines.base import Engine, Job, Observation
from holdfast.session import get_checkpoint, get_context, report

__all__ = ["EngineSuite", "Stage", "alive", "make_job", "make_order"]

_PATIENCE_S = 30.0


def make_job(experiment_dir: Path, trainable: Callable[..., Any], **changes: Any) -> Job:
    """A job that runs `trainable`, with the given fields changed."""
    fields: dict[str, Any] = {
        "experiment_dir": str(experiment_dir),
        "experiment_name": experiment_dir.name,
        "trainable": cloudpickle.dumps(trainable),
        "seed": 7,
        "token": f"{experiment_dir.name}-{os.getpid()}.1",
        "environment": dict(os.environ),
        "sys_path": [os.path.abspath(path) for path in sys.path],
        "working_dir": os.getcwd(),
    }
    return Job(**{**fields, **changes})


def make_order(index: int = 0, config: dict[str, Any] | None = None, **changes: Any) -> StartAttempt:
    """The order to run the trial with number `index` from scratch, with the given fields changed."""
    fields: dict[str, Any] = {
        "order": f"1.{index}.0",
        "trial_id": f"abcde_{index:05d}",
        "attempt": 1,
        "index": index,
        "config": values.encode(config or {}),
        "name": f"trial_{index}",
        "dirname": f"trial_{index}",
        "tag": str(index),
        "resume": None,
        "number": 0,
        "iteration": 0,
        "time_total_s": 0.0,
        "grant": 0,
        "resources": {"cpu": 1.0},
    }
    return StartAttempt(**{**fields, **changes})


def alive(pid: int) -> bool:
    """Whether a process lives (one that is dead but not reaped does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


class Stage:
    """An open engine, and all that it has said so far.

    Attributes:
        seen: Every observation, in order.
        answers: What a row's answer is, by (trial number, row number); CONTINUE where nothing is said. None: no answer.
    """

    def __init__(self, engine: Engine, job: Job) -> None:
        self.engine = engine
        self.job = job
        self.seen: list[Observation] = []
        self.answers: dict[tuple[int, int], str | None] = {}
        engine.open(job)

    def until(self, condition: Callable[[], object], within_s: float = _PATIENCE_S) -> None:
        """Polls, and answers rows, until the condition holds; fails the test when it does not within the time."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within_s} s; seen: {self.seen}")
            for observed in self.engine.poll(0.05):
                self.seen.append(observed)
                if isinstance(observed, ResultReported):
                    action = self.answers.get((int(observed.trial_id[-5:]), observed.number), "CONTINUE")
                    if action is not None:
                        self.engine.reply(observed.trial_id, observed.attempt, observed.number, action)

    def run(self, *orders: StartAttempt) -> list[AttemptEnded]:
        """Starts the attempts and waits for all to end; returns their ends in the order given."""
        for order in orders:
            self.engine.start(order)
        self.until(lambda: all(self.end_of(order) for order in orders))
        ends = [self.end_of(order) for order in orders]
        return [end for end in ends if end is not None]

    def end_of(self, order: StartAttempt) -> AttemptEnded | None:
        """How an attempt ended; None while it runs."""
        ends = [seen for seen in self.seen if isinstance(seen, AttemptEnded) and _is_of(seen, order)]
        assert len(ends) <= 1, f"an attempt ends once: {ends}"
        return ends[0] if ends else None

    def rows_of(self, order: StartAttempt) -> list[ResultReported]:
        """The rows of an attempt, in order."""
        return [seen for seen in self.seen if isinstance(seen, ResultReported) and _is_of(seen, order)]

    def metrics_of(self, order: StartAttempt) -> list[Any]:
        """What an attempt reported, decoded."""
        return [values.decode(row.metrics) for row in self.rows_of(order)]

    def dir_of(self, order: StartAttempt) -> str:
        """The trial's directory."""
        return os.path.join(self.job.experiment_dir, order.dirname)

    def pid_of(self, order: StartAttempt) -> int:
        """The process of an attempt."""
        return next(seen.pid for seen in self.seen if isinstance(seen, AttemptStarted) and _is_of(seen, order))


def _is_of(observed: Observation, order: StartAttempt) -> bool:
    return observed.trial_id == order.trial_id and observed.attempt == order.attempt


def _count_up(config: dict[str, Any]) -> None:
    for step in range(config.get("steps", 3)):
        report({"step": step})


def _save_each_step(config: dict[str, Any]) -> None:
    begun = get_checkpoint()
    start = 0 if begun is None else int(Path(begun.path, "step").read_text())
    for step in range(start, config["steps"]):
        folder = Path("work")
        folder.mkdir(exist_ok=True)
        (folder / "step").write_text(str(step + 1))
        report({"step": step}, checkpoint=Checkpoint.from_directory(folder))


class EngineSuite:
    """What every engine that runs attempts in processes does. Override `make_engine`."""

    def make_engine(self) -> Engine:
        """A new engine that is not open."""
        raise NotImplementedError

    @pytest.fixture
    def open_stage(self, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
        """Opens an engine for a trainable; it is closed after the test."""
        stages: list[Stage] = []

        def opened(trainable: Callable[..., Any], **changes: Any) -> Stage:
            stages.append(Stage(self.make_engine(), make_job(tmp_path, trainable, **changes)))
            return stages[-1]

        yield opened
        for stage in stages:
            stage.engine.close()

    def test_resources_name_cpus_before_it_is_open(self) -> None:
        assert self.make_engine().resources()["cpu"] > 0

    def test_an_attempt_starts_reports_and_completes_in_that_order(self, open_stage: Callable[..., Stage]) -> None:
        stage, order = open_stage(_count_up), make_order(config={"steps": 3})
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

    def test_a_report_waits_for_its_reply(self, open_stage: Callable[..., Stage]) -> None:
        stage, order = open_stage(_count_up), make_order(config={"steps": 2})
        stage.answers[0, 1] = None
        stage.engine.start(order)
        stage.until(lambda: stage.rows_of(order))
        assert stage.engine.poll(0.1) == []
        stage.engine.reply(order.trial_id, 1, 1, "CONTINUE")
        stage.until(lambda: stage.end_of(order))
        assert len(stage.rows_of(order)) == 2

    @pytest.mark.parametrize("action", ["STOP", "PAUSE"])
    def test_stop_and_pause_unwind_with_finally(self, open_stage: Callable[..., Stage], action: str) -> None:
        def trainable(_: dict[str, Any]) -> None:
            try:
                while True:
                    try:
                        report({"a": 1})
                    except Exception:  # noqa: BLE001 - what a careless trial does: it must not swallow the stop
                        report({"swallowed": True})
            finally:
                Path("unwound").write_text("yes")

        stage, order = open_stage(trainable), make_order()
        stage.answers[0, 2] = action
        (end,) = stage.run(order)
        assert (end.outcome, end.failure) == ("stopped", None)
        assert len(stage.rows_of(order)) == 2
        assert Path(stage.dir_of(order), "unwound").read_text() == "yes"

    def test_an_exception_is_a_failure_with_its_traceback(self, open_stage: Callable[..., Stage]) -> None:
        def trainable(_: dict[str, Any]) -> None:
            sys.stdout.write("about to fail\n")
            raise KeyError("missing thing")

        (end,) = open_stage(trainable).run(make_order())
        assert end.outcome == "failed"
        assert end.failure is not None
        assert end.failure.kind == "code"
        assert "missing thing" in end.failure.message
        assert 'raise KeyError("missing thing")' in end.failure.traceback
        assert "about to fail" in end.failure.log_tail
        revived = cloudpickle.loads(end.failure.exception)
        assert isinstance(revived, KeyError)
        assert revived.args == ("missing thing",)

    def test_a_killed_worker_is_a_failure_of_the_worker(self, open_stage: Callable[..., Stage]) -> None:
        def trainable(_: dict[str, Any]) -> None:
            sys.stdout.write("last words\n")
            report({"a": 1})
            os.kill(os.getpid(), 9)

        stage, order = open_stage(trainable), make_order()
        (end,) = stage.run(order)
        assert end.outcome == "failed"
        assert end.failure is not None
        assert (end.failure.kind, end.failure.signal, end.failure.exit_code) == ("worker", 9, None)
        assert "last words" in end.failure.log_tail
        assert len(stage.rows_of(order)) == 1

    def test_a_worker_that_exits_without_a_word_is_a_failure(self, open_stage: Callable[..., Stage]) -> None:
        (end,) = open_stage(lambda _: os._exit(3)).run(make_order())
        assert end.failure is not None
        assert (end.outcome, end.failure.kind, end.failure.exit_code) == ("failed", "worker", 3)

    def test_a_checkpoint_is_saved_and_resumed(self, open_stage: Callable[..., Stage]) -> None:
        stage, order = open_stage(_save_each_step), make_order(config={"steps": 2}, grant=4)
        stage.run(order)
        saved = [row.saved for row in stage.rows_of(order)]
        assert [(one.index, one.files, one.size) for one in saved if one] == [(4, 1, 1), (5, 1, 1)]
        folder = stage.dir_of(order)
        assert Path(folder, "checkpoint_000005", "step").read_text() == "2"
        assert [name for name in os.listdir(folder) if name.startswith(".")] == []
        again = make_order(config={"steps": 4}, attempt=2, resume=saved[1], number=2, iteration=2, time_total_s=50.0, grant=9)
        (end,) = stage.run(again)
        assert end.outcome == "completed"
        rows = stage.rows_of(again)
        assert [(row.number, row.iteration, row.since_restore) for row in rows] == [(3, 3, 1), (4, 4, 2)]
        assert [row.saved.index for row in rows if row.saved] == [9, 10]
        assert rows[0].time_total_s >= 50.0 > rows[0].time_since_restore
        assert stage.metrics_of(again) == [{"step": 2}, {"step": 3}]

    @pytest.mark.parametrize("damage", ["content", "missing", "manifest"])
    def test_a_broken_checkpoint_is_not_resumed_from(self, open_stage: Callable[..., Stage], damage: str) -> None:
        stage, order = open_stage(_save_each_step), make_order(config={"steps": 1})
        stage.run(order)
        saved = stage.rows_of(order)[0].saved
        assert isinstance(saved, Saved)
        file = Path(stage.dir_of(order), "checkpoint_000000", "step")
        if damage == "content":
            file.write_text("7")
        elif damage == "missing":
            file.unlink()
        else:
            saved = Saved(saved.index, saved.files, saved.size, "0" * 64)
        again = make_order(config={"steps": 2}, attempt=2, resume=saved, number=1, grant=1)
        (end,) = stage.run(again)
        assert end.failure is not None
        assert (end.outcome, end.failure.kind) == ("failed", "checkpoint")
        broken = [seen for seen in stage.seen if isinstance(seen, CheckpointBroken)]
        assert [(one.attempt, one.index) for one in broken] == [(2, 0)]
        assert stage.rows_of(again) == []

    def test_kill_ends_the_whole_tree(self, open_stage: Callable[..., Stage]) -> None:
        def trainable(_: dict[str, Any]) -> None:
            child = os.fork()
            if child == 0:
                os.setsid()
                grandchild = os.fork()
                if grandchild:
                    Path("pids").write_text(f"{os.getpid()} {grandchild}")
                time.sleep(600)
            while not Path("pids").exists() or len(Path("pids").read_text().split()) < 2:
                time.sleep(0.001)
            report({"pids": [int(pid) for pid in Path("pids").read_text().split()]})
            time.sleep(600)

        stage, order, other = open_stage(trainable), make_order(0), make_order(1)
        stage.engine.start(order)
        stage.engine.start(other)
        stage.until(lambda: stage.rows_of(order) and stage.rows_of(other))
        stage.engine.kill(order.trial_id, 1)
        stage.until(lambda: stage.end_of(order))
        killed = [stage.pid_of(order), *stage.metrics_of(order)[0]["pids"]]
        assert [pid for pid in killed if alive(pid)] == []
        spared = [stage.pid_of(other), *stage.metrics_of(other)[0]["pids"]]
        assert [pid for pid in spared if not alive(pid)] == []
        stage.engine.close()
        assert [pid for pid in spared if alive(pid)] == []

    def test_children_that_a_finished_attempt_left_are_ended(self, open_stage: Callable[..., Stage]) -> None:
        def trainable(_: dict[str, Any]) -> dict[str, int]:
            child = os.fork()
            if child == 0:
                os.setsid()
                time.sleep(600)
            return {"pid": child}

        stage, order = open_stage(trainable), make_order()
        (end,) = stage.run(order)
        assert end.outcome == "completed"
        assert not alive(stage.metrics_of(order)[0]["pid"])

    def test_stale_replies_and_kills_are_harmless(self, open_stage: Callable[..., Stage]) -> None:
        stage, order = open_stage(_count_up), make_order(config={"steps": 1})
        stage.engine.reply("abcde_00009", 1, 1, "STOP")
        stage.engine.kill("abcde_00009", 1)
        stage.run(order)
        stage.engine.reply(order.trial_id, 1, 1, "STOP")
        stage.engine.kill(order.trial_id, 1)
        second = make_order(attempt=2, config={"steps": 2})
        (end,) = stage.run(second)
        assert end.outcome == "completed"
        assert len(stage.rows_of(second)) == 2

    def test_closures_and_lambdas_travel(self, open_stage: Callable[..., Stage]) -> None:
        factor = 3
        stage, order = open_stage(lambda config: config["x"] * factor), make_order(config={"x": 5})
        stage.run(order)
        assert stage.metrics_of(order) == [{"_metric": 15}]

    def test_the_context_says_where_the_trial_runs(self, open_stage: Callable[..., Stage], tmp_path: Path) -> None:
        def trainable(_: dict[str, Any]) -> dict[str, Any]:
            context = get_context()
            assert context is not None
            return {
                "id": context.get_trial_id(),
                "name": context.get_trial_name(),
                "dir": context.get_trial_dir(),
                "experiment": context.get_experiment_name(),
                "resources": context.get_trial_resources(),
                "cwd": os.getcwd(),
            }

        stage, order = open_stage(trainable), make_order(3)
        stage.run(order)
        folder = str(tmp_path / "trial_3")
        (row,) = stage.metrics_of(order)
        assert (row["id"], row["name"], row["experiment"]) == ("abcde_00003", "trial_3", tmp_path.name)
        assert (row["dir"], row["cwd"], row["resources"]) == (folder, folder, {"cpu": 1.0})

    def test_wake_ends_a_poll(self, open_stage: Callable[..., Stage]) -> None:
        stage = open_stage(_count_up)
        stage.engine.wake()
        begun = time.monotonic()
        stage.engine.poll(60.0)
        assert time.monotonic() - begun < 30.0

    def test_close_may_be_called_twice(self, open_stage: Callable[..., Stage]) -> None:
        stage = open_stage(lambda _: time.sleep(600))
        stage.engine.start(make_order())
        stage.engine.close()
        stage.engine.close()
