"""One attempt of a class trainable, run in this process: when it saves, how it ends, what is kept for the next."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import holdfast as tune
from holdfast import session, values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointCommitted, ResultReported, Saved
from holdfast._worker.attempt import Attempt
from holdfast._worker.keeping import LocalKeeper
from holdfast._worker.protocol import Answer, DriverGone, FromWorker
from holdfast._worker.run_class import Desk, Loads, Rules, run_class
from holdfast.checkpoint import Checkpoint
from holdfast.errors import ReportRefused
from holdfast.trainable.tally import counters_in


class Driver:
    """A channel whose answers are given beforehand: an action, with "+save" where a callback asked for a checkpoint."""

    def __init__(self, answers: dict[int, str]) -> None:
        self.answers = answers
        self.rows: list[ResultReported] = []
        self.committed: list[CheckpointCommitted] = []

    def tell(self, message: FromWorker) -> None:
        assert isinstance(message, CheckpointCommitted)
        self.committed.append(message)

    def ask(self, row: ResultReported) -> Answer:
        self.rows.append(row)
        action, _, save = self.answers.get(row.number, "CONTINUE").partition("+")
        if action == "GONE":
            raise DriverGone
        return Answer(row.trial_id, row.attempt, row.number, action, bool(save))

    def saved(self) -> dict[int, int]:
        """Row → index of the checkpoint that came with it."""
        return {row.number: row.saved.index for row in self.rows if row.saved}

    def after(self) -> dict[int, int]:
        """Row → index of the checkpoint that came after it."""
        return {told.number: told.saved.index for told in self.committed}


class Counter(tune.Trainable):
    """Counts up to `last` and says then that it is done."""

    calls: list[str]

    def setup(self, config):
        self.value = 0
        self.calls = config["stage"].calls
        self.calls.append("setup")

    def step(self):
        self.value += 1
        row = {"value": self.value, **self.config.get("rows", {}).get(self.value, {})}
        return {**row, "done": True} if self.value == self.config.get("last") else row

    def save_checkpoint(self, checkpoint_dir):
        Path(checkpoint_dir, "value").write_text(str(self.value))

    def load_checkpoint(self, checkpoint):
        self.calls.append("load")
        self.value = int(Path(checkpoint, "value").read_text())

    def cleanup(self):
        self.calls.append("cleanup")


def order(**changes: Any) -> StartAttempt:
    fields: dict[str, Any] = {
        "order": "1.1.0", "trial_id": "abcde_00000", "attempt": 2, "index": 0, "config": b"", "name": "t", "dirname": "t",
        "tag": "", "resume": None, "number": 0, "iteration": 0, "time_total_s": 0.0, "grant": 0, "resources": {"cpu": 1.0},
    }  # fmt: skip
    return StartAttempt(**{**fields, **changes})


class Stage:
    """Runs attempts in a trial's directory."""

    def __init__(self, trial_dir: Path) -> None:
        self.trial_dir = trial_dir
        self.calls: list[str] = []
        self.driver = Driver({})

    def run(
        self,
        answers: dict[int, str] | None = None,
        kind: type = Counter,
        desk: Desk | None = None,
        frequency: int = 0,
        at_end: bool = True,
        retries: int = 0,
        export_formats: Sequence[str] = (),
        config: dict[str, Any] | None = None,
        **changes: Any,
    ) -> AttemptEnded:
        given = order(**changes)
        context = session.TuneContext(
            experiment_name="e",
            trial_name="t",
            trial_id=given.trial_id,
            trial_dir=str(self.trial_dir),
            trial_resources=given.resources,
            storage="",
        )
        self.driver = Driver(answers or {})
        keeper = LocalKeeper(str(self.trial_dir), ".staging-2-n-")
        origin = None
        if given.resume is not None:
            origin = keeper.origin(given.resume, given.source or self.trial_dir.name, contextlib.ExitStack())
        attempt = Attempt(given, self.driver, context, keeper, origin=origin)
        rules = Rules(str(self.trial_dir / ".staging-2-n-saving"), frequency, at_end, retries, export_formats)
        loads = Loads(lambda: kind, lambda: {"stage": self, **(config or {})})
        ended = run_class(loads, attempt, rules, desk or Desk())
        assert not list(self.trial_dir.glob(".staging-*"))
        return ended

    def point(self, index: int) -> dict[str, Any]:
        """An order's fields to go on from a checkpoint that the last attempt saved."""
        rows = {row.saved.index: row for row in self.driver.rows if row.saved}
        told = {one.saved.index: one for one in self.driver.committed}
        number = rows[index].number if index in rows else told[index].number
        saved: Saved | None = rows[index].saved if index in rows else told[index].saved
        return {"resume": saved, "number": number, "iteration": number, "time_total_s": 50.0, "grant": index + 1}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_checkpoints_come_with_their_rows_and_at_the_end(stage: Stage) -> None:
    ended = stage.run({8: "STOP"}, frequency=3)
    assert ended.outcome == "stopped"
    assert stage.driver.saved() == {3: 0, 6: 1}
    assert stage.driver.after() == {8: 2}
    assert (stage.trial_dir / "checkpoint_000002" / "value").read_text() == "8"
    assert stage.calls == ["setup", "cleanup"]


@pytest.mark.parametrize(("at_end", "saved"), [(True, {5: 0}), (False, {})])
@pytest.mark.parametrize("answer", ["STOP", "CONTINUE"])
def test_a_row_that_says_done_brings_its_checkpoint_along(stage: Stage, at_end: bool, saved: dict, answer: str) -> None:
    ended = stage.run({5: answer}, at_end=at_end, config={"last": 5})
    assert ended.outcome == {"STOP": "stopped", "CONTINUE": "completed"}[answer]
    assert (stage.driver.saved(), stage.driver.after()) == (saved, {})
    assert stage.driver.rows[-1].done


def test_the_last_row_is_not_saved_twice_and_not_at_all_where_nobody_wants_it(stage: Stage) -> None:
    stage.run({6: "STOP"}, frequency=3)
    assert (stage.driver.saved(), stage.driver.after()) == ({3: 0, 6: 1}, {})
    stage.run({7: "STOP"}, at_end=False, grant=10)
    assert (stage.driver.saved(), stage.driver.after()) == ({}, {})


def test_a_result_may_ask_for_a_checkpoint(stage: Stage) -> None:
    stage.run({4: "STOP"}, at_end=False, config={"rows": {2: {"should_checkpoint": True}}})
    assert stage.driver.saved() == {2: 0}


def test_a_notice_that_the_machine_will_be_taken_away_is_answered_by_one_checkpoint(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice = tmp_path / "notice"
    monkeypatch.setenv("HOLDFAST_PREEMPTION_FILE", str(notice))

    class Warned(Counter):
        def step(self):
            if self.value == 2:
                notice.touch()
            return super().step()

    stage.run({6: "STOP"}, kind=Warned, at_end=False)
    assert stage.driver.saved() == {3: 0}


def test_a_callback_may_ask_for_a_checkpoint_of_a_row_that_has_none(stage: Stage) -> None:
    stage.run({2: "CONTINUE+save", 3: "CONTINUE+save", 4: "STOP+save"}, frequency=3, at_end=False)
    assert stage.driver.saved() == {3: 1}
    assert stage.driver.after() == {2: 0, 4: 2}


@pytest.mark.parametrize("at_end", [True, False])
def test_a_pause_always_saves(stage: Stage, at_end: bool) -> None:
    assert stage.run({2: "PAUSE"}, at_end=at_end).outcome == "stopped"
    assert stage.driver.after() == {2: 0}
    stage.run({3: "PAUSE"}, at_end=at_end, frequency=3, grant=1)
    assert stage.driver.after() == {}


def test_an_attempt_goes_on_from_the_checkpoint_with_its_counters(stage: Stage) -> None:
    count = {number: {"timesteps_this_iter": 10} for number in range(1, 9)}
    stage.run({4: "PAUSE"}, config={"rows": count})
    stage.calls.clear()
    stage.run({2: "CONTINUE", 6: "STOP"}, config={"rows": count}, **stage.point(0))
    assert stage.calls == ["setup", "load", "cleanup"]
    rows = [values.decode(row.metrics) for row in stage.driver.rows]
    assert [row["value"] for row in rows] == [5, 6]
    assert [(row["timesteps_total"], row["timesteps_since_restore"]) for row in rows] == [(50, 10), (60, 20)]
    assert [(row.number, row.iteration, row.since_restore) for row in stage.driver.rows] == [(5, 5, 1), (6, 6, 2)]
    assert stage.driver.rows[0].time_total_s > 50.0
    assert counters_in(str(stage.trial_dir / "checkpoint_000001")) == {"training_iteration": 6, "timesteps_total": 60}


def test_what_setup_takes_is_no_part_of_the_trials_time(stage: Stage) -> None:
    class Slow(Counter):
        def setup(self, config):
            super().setup(config)
            threading.Event().wait(0.3)

    stage.run({1: "STOP"}, kind=Slow)
    assert stage.driver.rows[0].time_total_s < 0.25


@pytest.mark.parametrize("where", ["setup", "step", "save_checkpoint", "load_checkpoint"])
def test_an_error_of_the_users_is_a_failure_of_kind_code(stage: Stage, where: str) -> None:
    stage.run({1: "PAUSE"})
    point = stage.point(0)
    stage.calls.clear()

    def broken(self, *given):
        raise RuntimeError(f"in {where}")

    kind = type("Broken", (Counter,), {where: broken})
    ended = stage.run({2: "STOP"}, kind=kind, **point)
    assert ended.failure is not None
    assert (ended.outcome, ended.failure.kind) == ("failed", "code")
    assert ended.failure.message == f"RuntimeError: in {where}"
    assert "in broken" in ended.failure.traceback
    assert "run_class.py" not in ended.failure.traceback.replace("test_run_class.py", "")
    assert "trainable/base.py" not in ended.failure.traceback
    assert stage.calls.count("cleanup") == (where != "setup")


def test_system_exit_ends_the_attempt_only(stage: Stage) -> None:
    class Leaving(Counter):
        def step(self):
            raise SystemExit(3)

    ended = stage.run(kind=Leaving)
    assert ended.outcome == "failed"
    assert stage.calls == ["setup", "cleanup"]


@pytest.mark.parametrize(("retries", "outcome"), [(0, "failed"), (1, "failed"), (2, "stopped")])
def test_loading_is_tried_again_with_a_new_instance(stage: Stage, retries: int, outcome: str) -> None:
    stage.run({1: "PAUSE"})
    stage.calls.clear()
    loads = []

    class Fragile(Counter):
        def load_checkpoint(self, checkpoint):
            loads.append(id(self))
            if len(loads) < 3:
                raise OSError("the network is down")
            super().load_checkpoint(checkpoint)

    assert stage.run({2: "STOP"}, kind=Fragile, retries=retries, **stage.point(0)).outcome == outcome
    assert len(loads) == min(retries + 1, 3)
    assert stage.calls.count("setup") == stage.calls.count("cleanup") == len(loads)


def test_a_full_disk_is_the_storages_fault(stage: Stage) -> None:
    class Full(Counter):
        def save_checkpoint(self, checkpoint_dir):
            raise OSError(errno.ENOSPC, "No space left on device", checkpoint_dir)

    ended = stage.run({1: "STOP"}, kind=Full)
    assert ended.failure is not None
    assert (ended.failure.kind, stage.calls) == ("storage", ["setup", "cleanup"])


def test_a_class_that_cannot_save_runs_and_warns_when_it_is_asked_to(stage: Stage) -> None:
    class Light(tune.Trainable):
        def step(self):
            return {"should_checkpoint": self.iteration == 1}

    assert stage.run({1: "STOP"}, kind=Light).outcome == "stopped"
    with pytest.warns(UserWarning, match="no save_checkpoint"):
        stage.run({3: "STOP"}, kind=Light)
    assert stage.driver.saved() == stage.driver.after() == {}


def test_report_is_refused_and_the_rest_of_the_session_works(stage: Stage) -> None:
    seen: dict[str, Any] = {}

    class Looking(Counter):
        def setup(self, config):
            super().setup(config)
            seen["id"] = tune.get_context().get_trial_id()
            seen["first"] = tune.get_checkpoint()

        def step(self):
            with pytest.raises(ReportRefused, match="return the metrics from step"):
                tune.report({"a": 1})
            seen["newest"] = tune.get_checkpoint()
            return super().step()

    stage.run({3: "STOP"}, kind=Looking, frequency=2)
    assert (seen["id"], seen["first"]) == ("abcde_00000", None)
    assert seen["newest"] == Checkpoint(stage.trial_dir / "checkpoint_000000")


def test_rows_that_cannot_be_are_failures(stage: Stage) -> None:
    class Odd(Counter):
        def step(self):
            return [1]

    ended = stage.run(kind=Odd)
    assert ended.failure is not None
    assert "step() returned list" in ended.failure.message


def test_log_result_gets_the_full_row_of_the_trial(stage: Stage) -> None:
    logged = []

    class Logging(Counter):
        def log_result(self, result):
            logged.append((result["trial_id"], result["training_iteration"], result["value"]))

    stage.run({2: "STOP"}, kind=Logging)
    assert logged == [("abcde_00000", 1, 1), ("abcde_00000", 2, 2)]
    assert set(values.decode(stage.driver.rows[0].metrics)) == {"value"}


@pytest.mark.parametrize(("answer", "exported"), [("STOP", [["onnx"]]), ("PAUSE", [])])
def test_a_trial_that_ends_well_exports_its_model(stage: Stage, answer: str, exported: list) -> None:
    found = []

    class Exporting(Counter):
        def _export_model(self, export_formats, export_dir):
            assert export_dir == self.logdir
            found.append(export_formats)
            return {}

    stage.run({2: answer}, kind=Exporting, export_formats=("onnx",))
    assert found == exported


def test_cleanup_runs_when_nobody_is_left_to_report_to(stage: Stage) -> None:
    with pytest.raises(DriverGone):
        stage.run({2: "GONE"}, desk=Desk(keep=True))
    assert stage.calls == ["setup", "cleanup"]


def test_what_cleanup_raises_changes_nothing(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    class Careless(Counter):
        def cleanup(self):
            raise ValueError("not so clean")

    assert stage.run({1: "STOP"}, kind=Careless).outcome == "stopped"
    assert "ValueError: not so clean" in capsys.readouterr().err


def test_a_cleanup_that_takes_too_long_is_given_up(stage: Stage) -> None:
    told: list[AttemptEnded | None] = []
    released = threading.Event()

    class Slow(Counter):
        def cleanup(self):
            assert released.wait(10)

    def overdue(ended: AttemptEnded | None) -> None:
        told.append(ended)
        released.set()

    ended = stage.run({1: "STOP"}, kind=Slow, desk=Desk(patience_s=0.01, overdue=overdue))
    assert told == [ended]


class Reusable(Counter):
    def reset_config(self, new_config):
        self.calls.append(f"reset to {new_config['x']}")
        self.value = 0
        return True


def test_an_instance_runs_one_trial_after_another(stage: Stage) -> None:
    desk = Desk(keep=True)
    stage.run({2: "STOP"}, kind=Reusable, desk=desk, config={"x": 1})
    stage.run({2: "PAUSE"}, kind=Reusable, desk=desk, config={"x": 2}, trial_id="abcde_00001", grant=5)
    assert [values.decode(row.metrics)["value"] for row in stage.driver.rows] == [1, 2]
    stage.run({4: "STOP"}, kind=Reusable, desk=desk, config={"x": 2}, trial_id="abcde_00001", **stage.point(5))
    assert [values.decode(row.metrics)["value"] for row in stage.driver.rows] == [3, 4]
    desk.clear(None)
    assert stage.calls == ["setup", "reset to 2", "reset to 2", "load", "cleanup"]


def test_an_instance_with_other_resources_is_given_up(stage: Stage) -> None:
    desk = Desk(keep=True)
    stage.run({1: "STOP"}, kind=Reusable, desk=desk, config={"x": 1})
    stage.run({1: "STOP"}, kind=Reusable, desk=desk, config={"x": 2}, grant=1, resources={"cpu": 2.0})
    assert stage.calls == ["setup", "cleanup", "setup"]


def test_an_instance_that_failed_is_given_up(stage: Stage) -> None:
    class Failing(Reusable):
        def step(self):
            if self.config["x"] == 1:
                raise ValueError
            return super().step()

    desk = Desk(keep=True)
    stage.run(kind=Failing, desk=desk, config={"x": 1})
    stage.run({1: "STOP"}, kind=Failing, desk=desk, config={"x": 2})
    assert stage.calls == ["setup", "cleanup", "setup"]


def test_a_class_that_cannot_be_reset_fails_the_second_trial(stage: Stage) -> None:
    desk = Desk(keep=True)
    assert stage.run({1: "STOP"}, desk=desk).outcome == "stopped"
    ended = stage.run({1: "STOP"}, desk=desk, grant=1)
    assert ended.failure is not None
    assert "reset_config" in ended.failure.message
    assert stage.calls == ["setup", "cleanup"]


def test_a_function_where_a_class_was_submitted_is_said(stage: Stage) -> None:
    function: Callable[..., Any] = print
    ended = stage.run(kind=function)  # type: ignore[arg-type]
    assert ended.failure is not None
    assert "submitted with a class trainable" in ended.failure.message
