"""Staged checkpoints become durable one after another, behind the trial's back and never behind the driver's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast import faults
from holdfast._core.events import Saved
from holdfast._worker import persist
from holdfast._worker.keeping import LocalKeeper
from holdfast._worker.patience import patiently
from holdfast._worker.uploads import Uploads
from holdfast.errors import StorageError


class Clock:
    """A clock that does something whenever it is asked to wait."""

    def __init__(self, instead: Callable[[], object] = lambda: None) -> None:
        self.slept: list[float] = []
        self.instead = instead

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.instead()


class Stage:
    """A trial's directory with staged checkpoints, and what was told of them."""

    def __init__(self, folder: Path) -> None:
        self.trial = folder / "trial"
        self.trial.mkdir()
        self.source = folder / "source"
        self.source.mkdir()
        self.clock = Clock()
        self.told: list[tuple[int, int, list[str]]] = []
        self.uploads = Uploads(LocalKeeper(str(self.trial), clock=self.clock), self._tell)

    def _tell(self, number: int, saved: Saved) -> None:
        self.told.append((number, saved.index, self.names()))

    def names(self) -> list[str]:
        return sorted(os.listdir(self.trial))

    def staged(self, index: int) -> Saved:
        (self.source / "file").write_text(f"content {index}")
        return persist.stage(str(self.source), str(self.trial), index, f".staging-1-n-{index}")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture(autouse=True)
def no_fault_stays() -> Iterator[None]:
    yield
    faults.disarm()


def test_each_is_told_when_it_has_its_name_and_in_order(stage: Stage) -> None:
    for index in range(5):
        stage.uploads.make_room()
        stage.uploads.add(index + 1, stage.staged(index))
    stage.uploads.finish()
    assert [(number, index) for number, index, _ in stage.told] == [(index + 1, index) for index in range(5)]
    assert all(f"checkpoint_{index:06d}" in names for _, index, names in stage.told)
    assert stage.names() == [f"checkpoint_{index:06d}" for index in range(5)]


def test_two_at_most_are_under_way(stage: Stage) -> None:
    gate = threading.Event()
    faults.arm("before_checkpoint_sync", gate.wait)
    stage.uploads.make_room()
    stage.uploads.add(1, stage.staged(0))
    stage.uploads.make_room()
    stage.uploads.add(2, stage.staged(1))
    third = threading.Thread(target=stage.uploads.make_room)
    third.start()
    third.join(0.05)
    assert third.is_alive()
    assert stage.told == []
    gate.set()
    third.join(10)
    assert not third.is_alive()
    assert stage.told
    stage.uploads.finish()


def test_no_thread_is_left(stage: Stage) -> None:
    before = set(threading.enumerate())
    for index in range(3):
        stage.uploads.add(index + 1, stage.staged(index))
        stage.uploads.finish()
        assert set(threading.enumerate()) <= before
    assert len(stage.told) == 3


def test_one_that_fails_is_tried_again_later_and_later(stage: Stage) -> None:
    obstacle = stage.trial / "checkpoint_000000" / "in the way"
    obstacle.parent.mkdir()
    obstacle.touch()
    stage.clock.instead = lambda: obstacle.unlink() if len(stage.clock.slept) == 2 else None
    stage.uploads.add(1, stage.staged(0))
    stage.uploads.finish()
    assert [index for _, index, _ in stage.told] == [0]
    assert 0.1 <= stage.clock.slept[0] < 0.2
    assert 0.4 <= stage.clock.slept[1] < 0.8
    assert (stage.trial / "checkpoint_000000" / "file").read_text() == "content 0"


def test_one_that_fails_for_good_ends_the_attempt_and_leaves_all_staged(stage: Stage) -> None:
    obstacle = stage.trial / "checkpoint_000000" / "in the way"
    obstacle.parent.mkdir()
    obstacle.touch()
    gate = threading.Event()
    stage.clock.instead = gate.wait
    stage.uploads.add(1, stage.staged(0))
    stage.uploads.add(2, stage.staged(1))
    gate.set()
    for wait in (stage.uploads.finish, stage.uploads.make_room):
        with pytest.raises(StorageError, match=r"Checkpoint 0 was staged .* restore"):
            wait()
    assert len(stage.clock.slept) == 3
    assert stage.told == []
    assert [name for name in stage.names() if name.startswith(".")] == [".pending-000000", ".pending-000001"]
    stage.uploads.add(3, stage.staged(2))
    with pytest.raises(StorageError):
        stage.uploads.finish()
    assert stage.told == []


def test_one_whose_files_are_gone_is_not_told(stage: Stage) -> None:
    saved = stage.staged(0)
    os.rename(stage.trial / ".pending-000000", stage.trial / "elsewhere")
    stage.uploads.add(1, saved)
    with pytest.raises(StorageError, match="gone"):
        stage.uploads.finish()
    assert stage.told == []
    assert stage.clock.slept == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_our_own_does_not_leave_the_trial_waiting(stage: Stage) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    faults.arm("before_checkpoint_told", fail)
    stage.uploads.add(1, stage.staged(0))
    with pytest.raises(StorageError, match="an error of its own"):
        stage.uploads.finish()


def test_patience_has_an_end() -> None:
    clock, tries = Clock(), list[int]()

    def fail(number: int) -> None:
        tries.append(number)
        raise OSError(number)

    with pytest.raises(OSError, match="3"):
        patiently(fail, clock)
    assert tries == [0, 1, 2, 3]
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 3
