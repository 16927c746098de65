"""The driver completes what dead workers left staged, beside its loop."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from holdfast import faults
from holdfast._core.commands import CommitCheckpoint
from holdfast._core.events import CheckpointCommitted, CheckpointLost
from holdfast._worker import persist
from holdfast._worker.keeping import LocalKeeper
from holdfast._worker.patience import patiently
from holdfast.engines.local.commits import Commits
from holdfast.errors import StorageError


class Driver:
    """What `Commits` wakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.woken = threading.Semaphore(0)
        self.commits = Commits(lambda dirname: LocalKeeper(str(folder / dirname)), self.woken.release)

    def order(self, index: int, trial: int = 0) -> CommitCheckpoint:
        """An order for a checkpoint that was staged."""
        directory = self.folder / f"trial_{trial}"
        directory.mkdir(exist_ok=True)
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "file").write_text(f"{trial} {index}")
        saved = persist.stage(str(source), str(directory), index, ".staging")
        return CommitCheckpoint(f"1.{index}.{trial}", f"abcde_{trial:05d}", 1, f"trial_{trial}", index + 1, saved)

    def answers(self, count: int) -> list[CheckpointCommitted | CheckpointLost]:
        for _ in range(count):
            assert self.woken.acquire(timeout=30)
        return self.commits.answers()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def test_orders_are_answered_in_turn(driver: Driver) -> None:
    orders = [driver.order(index, trial) for index in range(3) for trial in range(2)]
    for order in orders:
        driver.commits.take(order)
    assert driver.answers(6) == [
        CheckpointCommitted(order.trial_id, 1, order.number, order.saved, order=order.order) for order in orders
    ]
    assert (driver.folder / "trial_1" / "checkpoint_000002" / "file").read_text() == "1 2"
    driver.commits.take(again := driver.order(5))
    assert [answer.order for answer in driver.answers(1)] == [again.order]
    driver.commits.close()
    assert "holdfast-commits" not in {thread.name for thread in threading.enumerate()}


def test_what_is_gone_or_damaged_is_lost(driver: Driver) -> None:
    gone, damaged = driver.order(0), driver.order(1)
    (driver.folder / "trial_0" / ".pending-000000").rename(driver.folder / "away")
    (driver.folder / "trial_0" / ".pending-000001" / "file").write_text("?")
    for order in (gone, damaged):
        driver.commits.take(order)
    first, second = driver.answers(2)
    assert isinstance(first, CheckpointLost)
    assert isinstance(second, CheckpointLost)
    assert (first.order, first.index, first.problem) == (gone.order, 0, "its files are gone")
    assert "file" in second.problem
    assert list((driver.folder / "trial_0").iterdir()) == []


def test_a_disk_that_refuses_ends_the_driver_and_keeps_the_files(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoTime:
        def sleep(self, _: float) -> None:
            pass

    monkeypatch.setattr("holdfast._worker.keeping.patiently", lambda action, _: patiently(action, NoTime()))
    order = driver.order(0)
    (driver.folder / "trial_0" / "checkpoint_000000").mkdir()
    (driver.folder / "trial_0" / "checkpoint_000000" / "in the way").touch()
    driver.commits.take(order)
    with pytest.raises(StorageError, match="restore"):
        driver.answers(1)
    assert (driver.folder / "trial_0" / ".pending-000000" / "file").exists()
    driver.commits.close()


def test_closing_waits_for_what_was_begun_and_drops_the_rest(driver: Driver) -> None:
    begun, gate = threading.Event(), threading.Event()
    faults.arm("before_checkpoint_sync", lambda: (begun.set(), gate.wait()))
    try:
        for index in range(2):
            driver.commits.take(driver.order(index))
        assert begun.wait(30)
        closing = threading.Thread(target=driver.commits.close)
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
        gate.set()
        closing.join(30)
        assert not closing.is_alive()
    finally:
        gate.set()
        faults.disarm()
    names = sorted(path.name for path in (driver.folder / "trial_0").iterdir())
    assert names == [".pending-000001", "checkpoint_000000"]
