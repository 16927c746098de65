"""A disk that fills up: a clear error, nothing acknowledged lost, and a restore as soon as there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.errors import StorageError
from holdfast.testing.history import check_history
from holdfast.tuner import Tuner
from integration.drivers import Start, Task, acknowledged, train, wait_until_all_gone


class SmallDisk:
    """A file system of its own, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, size: str) -> None:
        self._mount("-o", f"remount,size={size}", str(self.path))

    def begin(self, size: str) -> None:
        self.path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "holdfast-test", str(self.path))

    def end(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"this test needs the right to mount a tmpfs (root): {done.stderr}"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    disk.begin("1m")
    yield disk
    disk.end()


@pytest.fixture
def task(disk: SmallDisk, tmp_path: Path) -> Task:
    return Task(str(disk.path / "results"), str(tmp_path / "side"), rows=40, samples=2, every=0)


def test_a_journal_that_finds_no_room(task: Task, disk: SmallDisk, start: Start) -> None:
    task = replace(task, padding=30_000)
    told = start(task).result()
    assert told["error"] == "StorageError", told
    assert "Free some space, then restore" in told["text"]
    assert len(acknowledged(task.side)) > 10
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    wait_until_all_gone(task)
    disk.resize("16m")
    start(task).finish()
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_restore_that_finds_no_room_changes_nothing(task: Task, disk: SmallDisk, start: Start) -> None:
    task = replace(task, padding=30_000)
    assert start(task).result()["error"] == "StorageError"
    for filler in range(64):  # the last pages too, so that not even a claim can be written
        with (disk.path / f"filler{filler}").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                break
    told = start(task).result()
    assert told["error"] == "StorageError", told
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    disk.resize("16m")
    start(task).finish()
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_checkpoint_that_finds_no_room(task: Task, disk: SmallDisk, start: Start) -> None:
    task = replace(task, rows=8, every=1, checkpoint_bytes=100_000)
    told = start(task).result()
    if "error" in told:  # while the half-written checkpoint stood there, a trial's file of rows found no room either
        assert told["error"] == "StorageError", told
    texts = [told["text"]] if "error" in told else told["errors"]
    assert texts
    assert all("No space left on device" in text and "estore" in text for text in texts), told
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    wait_until_all_gone(task)
    disk.resize("16m")
    done = start(replace(task, resume_errored=True)).finish()
    assert done["errors"] == []
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_definitions_that_find_no_room(task: Task, disk: SmallDisk) -> None:
    """The job itself is too large: nothing was begun, and the same call succeeds when there is room."""
    from holdfast.config import RunConfig

    space = {"table": object_of(2_000_000), "rows": 1}
    run = RunConfig(name="exp", storage_path=task.storage_path, verbose=0)
    with pytest.raises(StorageError, match="Free some space"):
        Tuner(train, param_space=space, run_config=run)
    assert not Tuner.can_restore(task.path)
    disk.resize("16m")
    Tuner(train, param_space=space, run_config=run)
    assert Tuner.can_restore(task.path)


def test_a_suggested_object_that_finds_no_room(task: Task, disk: SmallDisk, start: Start) -> None:
    """A config holds an object that must be stored before the record that names it."""
    task = replace(task, rows=2, drawn_bytes=600_000)
    told = start(task).result()
    assert told["error"] == "StorageError", told
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    wait_until_all_gone(task)
    disk.resize("16m")
    start(task).finish()
    assert check_history(task.storage, acknowledged(task.side)) == []


class Table:
    """Something large that must be pickled."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def object_of(size: int) -> Table:
    return Table(b"t" * size)
