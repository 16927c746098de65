"""The conformance suite of engines that run attempts in processes: beside `EngineSuite`, what only a process can do.

Each test runs real functions and looks at whether processes live. An engine that runs attempts in the driver's own process, or
plays them, cannot pass: it has no processes to kill.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from holdfast import faults
from holdfast._core.commands import CommitCheckpoint
from holdfast._core.events import CheckpointCommitted, Saved
from holdfast.checkpoint import Checkpoint
from holdfast.session import get_context, report
from holdfast.testing.engine_stage import alive, make_order
from holdfast.testing.engine_suite import EngineSuite, OpenStage

__all__ = ["ProcessSuite"]


def _save_once(_: dict[str, Any]) -> None:
    folder = Path("work")
    folder.mkdir(exist_ok=True)
    (folder / "step").write_text("2")
    report({"a": 1}, checkpoint=Checkpoint.from_directory(folder))


class ProcessSuite(EngineSuite):
    """What every engine that runs attempts in processes does, beside what all do. Override `make_engine`."""

    def test_a_careless_trial_cannot_swallow_the_stop(self, open_stage: OpenStage) -> None:
        def trainable(_: dict[str, Any]) -> None:
            while True:
                try:
                    report({"a": 1})
                except Exception:  # noqa: BLE001 - what a careless trial does
                    report({"swallowed": True})

        stage, order = open_stage(trainable), make_order()
        stage.answers[0, 2] = "STOP"
        (end,) = stage.run(order)
        assert (end.outcome, len(stage.rows_of(order))) == ("stopped", 2)

    def test_what_was_printed_is_told_with_a_failure(self, open_stage: OpenStage) -> None:
        def trainable(_: dict[str, Any]) -> None:
            sys.stdout.write("about to fail\n")
            raise KeyError("missing thing")

        (end,) = open_stage(trainable).run(make_order())
        assert end.failure is not None
        assert "about to fail" in end.failure.log_tail

    def test_a_killed_worker_is_a_failure_of_the_worker(self, open_stage: OpenStage) -> None:
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

    def test_a_worker_that_exits_without_a_word_is_a_failure(self, open_stage: OpenStage) -> None:
        (end,) = open_stage(lambda _: os._exit(3)).run(make_order())
        assert end.failure is not None
        assert (end.outcome, end.failure.kind, end.failure.exit_code) == ("failed", "worker", 3)

    def test_a_checkpoint_is_saved_file_by_file(self, open_stage: OpenStage) -> None:
        stage, order = open_stage(_save_once), make_order()
        stage.run(order)
        (row,) = stage.rows_of(order)
        assert row.saved is not None
        assert (row.saved.files, row.saved.size) == (1, 1)
        assert Path(stage.dir_of(order), "checkpoint_000000", "step").read_text() == "2"

    def test_a_broken_manifest_is_not_resumed_from(self, open_stage: OpenStage) -> None:
        stage, order = open_stage(_save_once), make_order()
        stage.run(order)
        saved = stage.rows_of(order)[0].saved
        assert saved is not None
        other = Saved(saved.index, saved.files, saved.size, "0" * 64)
        (end,) = stage.run(make_order(attempt=2, resume=other, number=1, grant=1))
        assert end.failure is not None
        assert (end.outcome, end.failure.kind) == ("failed", "checkpoint")

    def test_what_a_killed_worker_left_pending_can_be_completed(self, open_stage: OpenStage) -> None:
        def trainable(_: dict[str, Any]) -> None:
            faults.arm("before_checkpoint_sync", lambda: os.kill(os.getpid(), 9))
            _save_once({})
            time.sleep(600)

        stage, order = open_stage(trainable, upload="async"), make_order()
        (end,) = stage.run(order)
        assert end.failure is not None
        assert end.failure.signal == 9
        (row,) = stage.rows_of(order)
        assert row.pending is not None
        assert row.saved is None
        stage.engine.commit(CommitCheckpoint("1.9.0", order.trial_id, 1, order.dirname, 1, row.pending))
        stage.until(lambda: isinstance(stage.seen[-1], CheckpointCommitted))
        assert stage.seen[-1] == CheckpointCommitted(order.trial_id, 1, 1, row.pending, "1.9.0")
        assert Path(stage.dir_of(order), "checkpoint_000000", "step").read_text() == "2"
        assert [name for name in os.listdir(stage.dir_of(order)) if name.startswith(".")] == []

    def test_kill_ends_the_whole_tree(self, open_stage: OpenStage) -> None:
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

    def test_children_that_a_finished_attempt_left_are_ended(self, open_stage: OpenStage) -> None:
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

    def test_closures_and_lambdas_travel(self, open_stage: OpenStage) -> None:
        factor = 3
        stage, order = open_stage(lambda config: config["x"] * factor), make_order(config={"x": 5})
        stage.run(order)
        assert stage.metrics_of(order) == [{"_metric": 15}]

    def test_the_context_says_where_the_trial_runs(self, open_stage: OpenStage, tmp_path: Path) -> None:
        def trainable(_: dict[str, Any]) -> dict[str, Any]:
            context = get_context()
            assert context is not None
            return {
                "id": context.get_trial_id(),
                "name": context.get_trial_name(),
                "dir": context.get_trial_dir(),
                "experiment": context.get_experiment_name(),
                "resources": context.get_trial_resources().required_resources,
                "cwd": os.getcwd(),
            }

        stage, order = open_stage(trainable), make_order(3)
        stage.run(order)
        folder = str(tmp_path / "trial_3")
        (row,) = stage.metrics_of(order)
        assert (row["id"], row["name"], row["experiment"]) == ("abcde_00003", "trial_3", tmp_path.name)
        assert (row["dir"], row["cwd"], row["resources"]) == (folder, folder, {"CPU": 1.0})
