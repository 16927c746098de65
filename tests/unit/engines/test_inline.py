from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from holdfast._core.commands import CommitCheckpoint
from holdfast._core.events import AttemptEnded, AttemptStarted, CheckpointCommitted
from holdfast._core.ids import checkpoint_name
from holdfast._worker import persist
from holdfast.checkpoint import Checkpoint
from holdfast.engines.inline import InlineEngine
from holdfast.errors import ConfigError, InternalError
from holdfast.session import StopTrial, report
from holdfast.testing.engine_stage import Stage, make_job, make_order

cloudpickle.register_pickle_by_value(sys.modules[__name__])

Opener = Callable[..., Stage]


@pytest.fixture
def open_stage(tmp_path: Path) -> Iterator[Opener]:
    stages: list[Stage] = []

    def opened(trainable: Callable[..., Any], **changes: Any) -> Stage:
        stages.append(Stage(InlineEngine(), make_job(tmp_path, trainable, **changes)))
        return stages[-1]

    yield opened
    for stage in stages:
        stage.engine.close()


def world() -> tuple[Any, ...]:
    return (os.getcwd(), dict(os.environ), list(sys.path), random.getstate(), repr(np.random.get_state()), list(sys.meta_path))


def upset(config: dict[str, Any]) -> None:
    """Leaves nothing as it was."""
    os.environ["LEFT"] = "behind"
    os.environ.pop("HOME", None)
    sys.path.insert(0, "/nowhere")
    report(
        {"r": random.random(), "n": float(np.random.rand()), "cwd": os.getcwd(), "path": sys.path[0], "left": os.environ["LEFT"]}
    )
    report(
        {"r": random.random(), "n": float(np.random.rand()), "cwd": os.getcwd(), "path": sys.path[0], "left": os.environ["LEFT"]}
    )
    if config.get("fail"):
        raise ValueError("on purpose")


@pytest.mark.parametrize("fail", [False, True])
def test_the_process_is_the_drivers_before_after_and_while_it_has_its_turn(open_stage: Opener, fail: bool) -> None:
    stage, order = open_stage(upset), make_order(config={"fail": fail})
    before, meanwhile = world(), []

    def look(row: Any) -> None:
        meanwhile.append(world())
        random.random()  # what a callback draws is not taken from the trial
        os.chdir("/")
        stage.engine.reply(row.trial_id, row.attempt, row.number, "CONTINUE")

    stage.answers[0, 1] = look
    (end,) = stage.run(order)
    assert end.outcome == ("failed" if fail else "completed")
    assert meanwhile == [before]
    assert world() == before
    first, second = stage.metrics_of(order)
    assert {row["cwd"] for row in (first, second)} == {stage.dir_of(order)}
    assert [(row["path"], row["left"]) for row in (first, second)] == [("/nowhere", "behind")] * 2
    again = make_order(attempt=2)
    stage.run(again)
    assert [(row["r"], row["n"]) for row in stage.metrics_of(again)] == [(row["r"], row["n"]) for row in (first, second)]


def test_what_a_trial_has_around_it(open_stage: Opener, tmp_path: Path) -> None:
    stage = open_stage(
        lambda _: {name: os.environ.get(name) for name in ("HOLDFAST_TOKEN", "TUNE_ORIG_WORKING_DIR")}, chdir=False
    )
    order = make_order()
    stage.run(order)
    assert stage.metrics_of(order) == [{"HOLDFAST_TOKEN": stage.job.token, "TUNE_ORIG_WORKING_DIR": os.getcwd()}]
    assert "HOLDFAST_TOKEN" not in os.environ


def test_a_trial_may_remove_its_own_directory(open_stage: Opener) -> None:
    def trainable(_: dict[str, Any]) -> None:
        os.rmdir(os.getcwd())
        report({"a": 1})

    here = os.getcwd()
    (end,) = open_stage(trainable).run(make_order())
    assert (end.outcome, os.getcwd()) == ("completed", here)


def test_trials_run_one_by_one_in_this_thread(open_stage: Opener) -> None:
    stage = open_stage(lambda _: {"pid": os.getpid(), "thread": threading.get_ident()})
    orders = [make_order(index) for index in range(3)]
    stage.run(*orders)
    kinds = [(type(seen).__name__, seen.trial_id) for seen in stage.seen if isinstance(seen, AttemptStarted | AttemptEnded)]
    assert kinds == [(kind, order.trial_id) for order in orders for kind in ("AttemptStarted", "AttemptEnded")]
    assert stage.metrics_of(orders[2]) == [{"pid": os.getpid(), "thread": threading.get_ident()}]


def test_an_attempt_that_waits_can_be_killed(open_stage: Opener) -> None:
    stage, first, second = open_stage(lambda _: {"a": 1}), make_order(0), make_order(1)
    stage.answers[0, 1] = lambda row: (
        stage.engine.kill(second.trial_id, 1),
        stage.engine.reply(row.trial_id, row.attempt, row.number, "CONTINUE"),
    )
    ends = stage.run(first, second)
    assert [end.outcome for end in ends] == ["completed", "failed"]
    assert stage.rows_of(second) == []


def test_a_row_of_a_helper_thread_is_answered_and_a_stop_reaches_the_trial(open_stage: Opener) -> None:
    def trainable(_: dict[str, Any]) -> None:
        failures: list[BaseException] = []

        def report_all() -> None:
            try:
                while True:
                    report({"a": 1})
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        helper = threading.Thread(target=report_all)
        try:
            helper.start()
            threading.Event().wait(30)
        finally:
            helper.join()
            Path("end").write_text(type(failures[0]).__name__)

    stage, order = open_stage(trainable), make_order()
    stage.answers[0, 3] = "STOP"
    (end,) = stage.run(order)
    assert (end.outcome, len(stage.rows_of(order))) == ("stopped", 3)
    assert Path(stage.dir_of(order), "end").read_text() == "StopTrial"


def saving(_: dict[str, Any]) -> None:
    Path("work").mkdir(exist_ok=True)
    try:
        for step in range(5):
            Path("work", "step").write_text(str(step))
            report({"step": step}, checkpoint=Checkpoint.from_directory("work"))
    finally:
        Path("unwound").write_text("yes")


def test_an_attempt_is_given_up_when_the_driver_ends(tmp_path: Path) -> None:
    engine, seen = InlineEngine(), []

    def turn() -> bool:
        for observed in engine.poll(0.0):
            seen.append(type(observed).__name__)
            if len(seen) == 2:
                engine.reply("abcde_00000", 1, 1, "CONTINUE")
        return len(seen) < 3

    engine.attend(turn)
    engine.open(make_job(tmp_path, saving))
    engine.start(make_order())
    while turn():
        pass
    engine.close()
    assert seen == ["AttemptStarted", "ResultReported", "ResultReported"]
    assert Path(tmp_path, "trial_0", "unwound").exists()
    assert not [name for name in os.listdir(tmp_path / "trial_0") if name.startswith(".")]


def test_an_error_of_the_driver_passes_by_a_trial_that_swallows_all(tmp_path: Path) -> None:
    def careless(_: dict[str, Any]) -> None:
        for _ in range(3):
            try:
                report({"a": 1})
            except BaseException:  # noqa: BLE001
                continue

    engine = InlineEngine()

    def turn() -> bool:
        if any(type(observed).__name__ == "ResultReported" for observed in engine.poll(0.0)):
            raise ZeroDivisionError("the driver's own")
        return True

    engine.attend(turn)
    engine.open(make_job(tmp_path, careless))
    engine.start(make_order())
    with pytest.raises(ZeroDivisionError, match="the driver's own"):
        turn()
    engine.close()


def test_a_signal_that_wakes_the_engine_unwinds_a_trial_in_the_middle_of_its_code(open_stage: Opener, tmp_path: Path) -> None:
    def trainable(_: dict[str, Any]) -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            threading.Event().wait(30)
        finally:
            Path("unwound").write_text("yes")

    stage = open_stage(trainable)
    before = signal.signal(signal.SIGUSR1, lambda *_: stage.engine.wake())
    try:
        stage.engine.start(make_order())
        (started,) = stage.engine.poll(0.0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(started, AttemptStarted)
    assert (tmp_path / "trial_0" / "unwound").exists()


def test_pythons_own_interrupt_leaves_the_engine(open_stage: Opener) -> None:
    def trainable(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    stage = open_stage(trainable)
    stage.engine.start(make_order())
    with pytest.raises(KeyboardInterrupt):
        stage.engine.poll(0.0)


def test_an_exit_ends_the_attempt_only(open_stage: Opener) -> None:
    (end,) = open_stage(lambda _: sys.exit("enough")).run(make_order())
    assert end.failure is not None
    assert (end.outcome, end.failure.kind, end.failure.message) == ("failed", "code", "SystemExit: enough")


def test_a_thread_that_an_attempt_left_cannot_report_for_the_next(open_stage: Opener) -> None:
    def trainable(config: dict[str, Any]) -> None:
        from holdfast import session

        own = session.current()
        if config["leave"]:
            threading.late = own.report
        else:
            with pytest.raises(StopTrial):
                threading.late({"late": True}, None)
            report({"own": True})

    stage = open_stage(trainable)
    orders = [make_order(0, {"leave": True}), make_order(1, {"leave": False})]
    ends = stage.run(*orders)
    del threading.late
    assert [end.outcome for end in ends] == ["completed", "completed"]
    assert [stage.metrics_of(order) for order in orders] == [[], [{"own": True}]]


def test_a_pending_checkpoint_of_another_engine_is_completed(open_stage: Opener, tmp_path: Path) -> None:
    stage = open_stage(saving)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_text("w")
    (tmp_path / "trial_0").mkdir()
    saved = persist.stage(str(tmp_path / "files"), str(tmp_path / "trial_0"), 3, ".staging-1-x-3")
    stage.engine.commit(CommitCheckpoint("2.7.0", "abcde_00000", 1, "trial_0", 5, saved))
    (answer,) = stage.engine.poll(1.0)
    assert answer == CheckpointCommitted("abcde_00000", 1, 5, saved, "2.7.0")
    assert (tmp_path / "trial_0" / checkpoint_name(3) / "weights").read_text() == "w"


def test_resources_are_what_a_trial_asks_for_unless_told() -> None:
    engine, told = InlineEngine(), InlineEngine({"cpu": 8, "hdd": 2})
    for one in (engine, told):
        one.fit_to({"gpu": 3.0, "cpu": 64.0})
    assert engine.resources() == {"gpu": 3.0, "cpu": 64.0}
    assert told.resources() == {"cpu": 8.0, "hdd": 2.0}


def test_what_is_asked_at_the_wrong_time_is_refused(tmp_path: Path) -> None:
    engine = InlineEngine()
    with pytest.raises(InternalError, match="not open"):
        engine.poll(0.0)
    engine.wake()
    engine.open(make_job(tmp_path, saving))
    with pytest.raises(InternalError, match="twice"):
        engine.open(make_job(tmp_path, saving))
    with pytest.raises(ConfigError, match="plain name"):
        engine.start(make_order(dirname="../elsewhere"))
    engine.start(make_order())
    with pytest.raises(InternalError, match="attend"):
        engine.poll(0.0)
    engine.close()
