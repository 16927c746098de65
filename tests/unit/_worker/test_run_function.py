"""One attempt, run in this process: its counters, its end, its answers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import session, values
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, ResultReported
from holdfast._worker.attempt import Attempt
from holdfast._worker.keeping import LocalKeeper
from holdfast._worker.protocol import Answer, FromWorker
from holdfast._worker.run_function import run_function
from holdfast.checkpoint import Checkpoint


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_000_000.0 + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Driver:
    """A channel whose answers are given beforehand."""

    def __init__(self, answers: dict[int, str]) -> None:
        self.answers = answers
        self.rows: list[ResultReported] = []

    def tell(self, message: FromWorker) -> None:
        raise AssertionError(f"nothing is told here: {message}")

    def ask(self, row: ResultReported) -> Answer:
        self.rows.append(row)
        return Answer(row.trial_id, row.attempt, row.number, self.answers.get(row.number, "CONTINUE"))


def order(**changes: Any) -> StartAttempt:
    fields: dict[str, Any] = {
        "order": "1.1.0", "trial_id": "abcde_00000", "attempt": 2, "index": 0, "config": b"", "name": "t", "dirname": "t",
        "tag": "", "resume": None, "number": 0, "iteration": 0, "time_total_s": 0.0, "grant": 0, "resources": {"cpu": 1.0},
    }  # fmt: skip
    return StartAttempt(**{**fields, **changes})


def attempt(
    tmp_path: Path,
    function: Callable[..., Any],
    answers: dict[int, str] | None = None,
    clock: Clock | None = None,
    **changes: Any,
) -> tuple[AttemptEnded, list[ResultReported]]:
    context = session.TuneContext(
        experiment_name="e", trial_name="t", trial_id="abcde_00000", trial_dir=str(tmp_path), trial_resources={}, storage=""
    )
    driver, given = Driver(answers or {}), order(**changes)
    running = Attempt(given, driver, context, LocalKeeper(context.get_trial_dir(), ".staging-2-n-", clock), clock)
    return run_function(lambda: (function, {}), running), driver.rows


def test_counters_go_on_from_the_order(tmp_path: Path) -> None:
    clock = Clock()

    def function(_: Any) -> None:
        for seconds in (2.0, 3.0):
            clock.now += seconds
            session.report({})

    ended, rows = attempt(tmp_path, function, clock=clock, number=10, iteration=20, time_total_s=500.0)
    assert ended == AttemptEnded("abcde_00000", 2, "completed")
    assert [(row.number, row.iteration, row.since_restore) for row in rows] == [(11, 21, 1), (12, 22, 2)]
    times = [(row.time_this_iter_s, row.time_since_restore, row.time_total_s) for row in rows]
    assert times == [(2.0, 2.0, 502.0), (3.0, 5.0, 505.0)]
    assert [row.timestamp for row in rows] == [1_000_102.0, 1_000_105.0]


@pytest.mark.parametrize("action", ["STOP", "PAUSE"])
def test_nothing_is_reported_after_a_stop(tmp_path: Path, action: str) -> None:
    def function(_: Any) -> None:
        for _ in range(5):
            try:
                session.report({})
            except BaseException:  # noqa: BLE001 - a trial that holds on to life
                pass

    ended, rows = attempt(tmp_path, function, answers={2: action})
    assert len(rows) == 2
    assert ended.outcome == "completed"


def test_checkpoints_are_numbered_from_the_grant_and_the_newest_is_given(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    newest = []

    def function(_: Any) -> None:
        newest.append(session.get_checkpoint())
        for _ in range(2):
            session.report({}, checkpoint=Checkpoint(tmp_path / "work"))
            newest.append(session.get_checkpoint())

    _, rows = attempt(tmp_path, function, grant=5)
    assert [row.saved.index for row in rows if row.saved] == [5, 6]
    assert newest == [None, Checkpoint(tmp_path / "checkpoint_000005"), Checkpoint(tmp_path / "checkpoint_000006")]


def test_a_refused_row_counts_nothing_and_uses_no_index(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()

    def function(_: Any) -> None:
        for metrics, folder in (([], "work"), ({}, "missing"), ({"a": 1}, "work")):
            try:
                session.report(metrics, checkpoint=Checkpoint(tmp_path / folder))  # type: ignore[arg-type]
            except ValueError:
                continue

    _, rows = attempt(tmp_path, function)
    (row,) = rows
    assert row.saved is not None
    assert (row.number, row.saved.index, values.decode(row.metrics)) == (1, 0, {"a": 1})


def test_a_failure_tells_the_users_part_of_the_story(tmp_path: Path) -> None:
    def function(_: Any) -> None:
        raise ValueError("x" * 5000)

    ended, _ = attempt(tmp_path, function)
    assert ended.failure is not None
    assert len(ended.failure.message) == 1000
    assert "in function" in ended.failure.traceback
    assert "run_function.py" not in ended.failure.traceback.replace("test_run_function.py", "")


def test_the_whole_story_is_told_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def function(_: Any) -> None:
        raise ValueError

    for value, whole in (("1", True), ("0", False)):
        monkeypatch.setenv("RAY_AIR_FULL_TRACEBACKS", value)
        ended, _ = attempt(tmp_path, function)
        assert ended.failure is not None
        assert ("run_function.py" in ended.failure.traceback.replace("test_run_function.py", "")) is whole


def test_the_sessions_signal_handler_is_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGURG)
    attempt(tmp_path, lambda _: 1)
    assert signal.getsignal(signal.SIGURG) is before
