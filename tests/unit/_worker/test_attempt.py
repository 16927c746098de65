"""One attempt whose checkpoints are uploaded behind its back, run in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import faults, session
from holdfast._core.commands import StartAttempt
from holdfast._core.events import AttemptEnded, CheckpointCommitted, ResultReported
from holdfast._worker.attempt import Attempt
from holdfast._worker.keeping import LocalKeeper
from holdfast._worker.protocol import Answer, FromWorker
from holdfast._worker.run_function import run_function
from holdfast.checkpoint import Checkpoint
from holdfast.errors import StorageError


class Driver:
    """A channel that remembers what came, in order."""

    def __init__(self) -> None:
        self.heard: list[FromWorker] = []

    def tell(self, message: FromWorker) -> None:
        self.heard.append(message)

    def ask(self, row: ResultReported) -> Answer:
        self.heard.append(row)
        return Answer(row.trial_id, row.attempt, row.number, "CONTINUE")


class NoTime:
    """A clock on which waiting takes no time."""

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass


@pytest.fixture(autouse=True)
def no_fault_stays() -> Iterator[None]:
    yield
    faults.disarm()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def attempt(tmp_path: Path, driver: Driver) -> Attempt:
    trial = tmp_path / "trial"
    trial.mkdir()
    order: dict[str, Any] = {
        "order": "1.1.0", "trial_id": "abcde_00000", "attempt": 2, "index": 0, "config": b"", "name": "t", "dirname": "t",
        "tag": "", "resume": None, "number": 10, "iteration": 10, "time_total_s": 0.0, "grant": 3, "resources": {},
    }  # fmt: skip
    context = session.TuneContext(
        experiment_name="e", trial_name="t", trial_id="abcde_00000", trial_dir=str(trial), trial_resources={}, storage=""
    )
    return Attempt(
        StartAttempt(**order), driver, context, LocalKeeper(str(trial), ".staging-2-n-", NoTime()), NoTime(), upload="async"
    )


def test_a_row_is_sent_with_its_checkpoint_pending_and_the_checkpoint_follows(
    attempt: Attempt, driver: Driver, work: Path, tmp_path: Path
) -> None:
    for number in range(2):
        (work / "file").write_text(str(number))
        attempt.ask({"a": number}, Checkpoint(work))
    assert attempt.ended("completed") == AttemptEnded("abcde_00000", 2, "completed")
    rows = [message for message in driver.heard if isinstance(message, ResultReported)]
    told = [message for message in driver.heard if isinstance(message, CheckpointCommitted)]
    assert [(row.number, row.saved, row.pending and row.pending.index) for row in rows] == [(11, None, 3), (12, None, 4)]
    assert [(one.number, one.saved, one.order) for one in told] == [(row.number, row.pending, "") for row in rows]
    assert all(driver.heard.index(row) < driver.heard.index(one) for row, one in zip(rows, told, strict=True))
    assert sorted(os.listdir(tmp_path / "trial")) == ["checkpoint_000003", "checkpoint_000004"]
    assert (tmp_path / "trial" / "checkpoint_000004" / "file").read_text() == "1"


def test_the_newest_checkpoint_can_be_read_as_soon_as_it_is_asked_for(attempt: Attempt, work: Path) -> None:
    assert attempt.checkpoint() is None
    for number in range(5):
        (work / "file").write_text(str(number))
        attempt.ask({}, Checkpoint(work))
        newest = attempt.checkpoint()
        assert newest is not None
        with newest.as_directory() as folder:
            assert Path(folder, "file").read_text() == str(number)
            assert Path(folder).name == f"checkpoint_{number + 3:06d}"


def test_a_checkpoint_of_a_row_that_was_answered_comes_behind_those_before_it(
    attempt: Attempt, driver: Driver, work: Path
) -> None:
    gate = threading.Event()
    faults.arm("before_checkpoint_told", gate.wait)
    attempt.ask({}, Checkpoint(work))
    attempt.ask({})
    gate.set()
    attempt.commit(Checkpoint(work))
    told = [message for message in driver.heard if isinstance(message, CheckpointCommitted)]
    assert [(one.number, one.saved.index) for one in told] == [(11, 3), (12, 4)]


def test_an_upload_that_fails_for_good_is_a_failure_of_the_storage(attempt: Attempt, driver: Driver, work: Path) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    faults.arm("before_checkpoint_sync", refuse)
    reported = []

    def function(_: Any) -> None:
        for _ in range(10):
            session.report({}, checkpoint=Checkpoint(work))
            reported.append(1)

    before = set(threading.enumerate())
    ended = run_function(lambda: (function, {}), attempt)
    assert ended.outcome == "failed"
    assert ended.failure is not None
    assert ended.failure.kind == "storage"
    assert "No space left" in ended.failure.message
    assert 1 <= len(reported) <= 2
    assert not [message for message in driver.heard if isinstance(message, CheckpointCommitted)]
    assert attempt.storage_failure == ended.failure.message
    assert set(threading.enumerate()) <= before
    with pytest.raises(StorageError):
        attempt.checkpoint()


def test_asking_for_a_checkpoint_that_could_not_be_completed_ends_the_trial(attempt: Attempt, work: Path) -> None:
    def refuse() -> None:
        raise OSError(5, "Input/output error")

    faults.arm("before_checkpoint_sync", refuse)
    went_on = []

    def function(_: Any) -> None:
        session.report({}, checkpoint=Checkpoint(work))
        session.get_checkpoint()
        went_on.append(1)

    ended = run_function(lambda: (function, {}), attempt)
    assert ended.failure is not None
    assert ended.failure.kind == "storage"
    assert went_on == []
