"""Crashes at every named point of a checkpoint's life, saved at once and uploaded behind the trial: nothing is lost or half."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from holdfast._core.events import CheckpointCommitted, CheckpointLost, ResultReported
from holdfast._journal import read
from holdfast.testing.census import Census
from holdfast.testing.history import check_history
from integration.drivers import (
    DriverEnded,
    Start,
    Task,
    acknowledged,
    status_of,
    wait_until,
    wait_until_all_gone,
    wait_until_stopped,
)
from integration.test_full_disk import SmallDisk
from integration.test_kill import assert_nothing_lost, kill_when_it_works

UPLOADS = ["sync", "async"]
IN_EACH = ["mid_checkpoint_stage", "before_checkpoint_rename", "after_checkpoint_rename"]
IN_ASYNC = ["after_checkpoint_stage", "before_checkpoint_sync", "before_checkpoint_told"]
IN_THE_WORKER = [*(("sync", point) for point in IN_EACH), *(("async", point) for point in (*IN_EACH, *IN_ASYNC))]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return Task(
        storage_path=str(tmp_path / "results"),
        side=str(tmp_path / "side"),
        rows=8,
        samples=2,
        max_failures=10,
        checkpoint_bytes=300_000,
        environment={"TMPDIR": str(temporary)},
    )


def events_of(task: Task) -> list[object]:
    return [record.event for record in read(task.storage)]


def run_until_it_ends(task: Task, start: Start, faults: str) -> int:
    """Restores without the faults as often as the driver is killed by them; returns how often it was."""
    driver, killed = start(task, faults), 0
    while True:
        driver.process.communicate(timeout=60)
        if driver.process.returncode != -signal.SIGKILL:
            break
        killed += 1
        wait_until_all_gone(task)
        assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
        driver = start(task)
    assert driver.process.returncode == 0
    return killed


@pytest.mark.parametrize(("upload", "point"), IN_THE_WORKER)
@pytest.mark.parametrize("times", [1, 3])
def test_a_worker_that_dies_at_a_named_point(task: Task, start: Start, upload: str, point: str, times: int) -> None:
    """Each of its workers dies there. A driver that completes what they left comes to some of the points too."""
    task = replace(task, upload=upload, num_to_keep=2, max_failures=50)
    before = Census.take("none", task.environment["TMPDIR"])
    if times == 1 and point != "after_checkpoint_stage" and (upload == "sync" or point == "mid_checkpoint_stage"):
        faults = f"{point}:2=kill"  # a worker that dies before its first checkpoint would do so for ever
    else:
        faults = f"{point}:{times}=kill"
    killed = run_until_it_ends(task, start, faults)
    if upload == "async" and times == 1 and point in ("before_checkpoint_sync", "before_checkpoint_rename"):
        assert killed == 1, "the driver was expected to die where its worker had died"
    assert_nothing_lost(task, before)
    if upload == "async":
        events = events_of(task)
        assert all(event.saved is None for event in events if isinstance(event, ResultReported))
        assert not [event for event in events if isinstance(event, CheckpointLost)]


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize(
    "point",
    [
        "after_append:12",
        "after_append:25",
        "before_dispatch:9",
        "before_delete:1",
        "before_delete:3",
        "mid_delete:1",
        "mid_delete:3",
    ],
)
def test_a_driver_that_dies_at_a_named_point(task: Task, start: Start, upload: str, point: str) -> None:
    task = replace(task, upload=upload, num_to_keep=1)
    before = Census.take("none", task.environment["TMPDIR"])
    assert run_until_it_ends(task, start, f"{point}=kill") == 1
    assert_nothing_lost(task, before)


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize(
    "victims", [("worker",), ("driver",), ("driver", "worker"), ("server",), ("guardian", "driver")], ids=str
)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (1, 2))])
def test_kills_while_large_checkpoints_are_saved(
    task: Task, start: Start, upload: str, victims: tuple[str, ...], seed: int
) -> None:
    lots = random.Random(f"{upload} {victims} {seed}")
    moments = sorted(lots.sample(range(1, 14), 2))
    print("seed", f"{upload} {victims} {seed}", "rows", moments)
    task = replace(task, upload=upload, checkpoint_bytes=4_000_000, num_to_keep=lots.choice([None, 1, 2]), pace_s=0.0)
    before = Census.take("none", task.environment["TMPDIR"])
    driver = start(task)
    for rows in moments:
        with suppress(DriverEnded):
            kill_when_it_works(driver, victims, rows, lots)
        if "driver" in victims:
            driver.process.communicate()
            wait_until_all_gone(task)
            assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
            driver = start(task)
    assert driver.finish()["errors"] == []
    assert_nothing_lost(task, before)


def stopped_with_one_pending(task: Task, start: Start) -> list[Path]:
    """An experiment whose driver and worker died while a checkpoint was pending; the pending directories."""
    driver = start(task, "before_checkpoint_sync:2=stop")
    wait_until(lambda: any(status_of(pid) == psutil.STATUS_STOPPED for pid in driver.roles()["worker"]), doing=driver)
    driver.kill()
    wait_until_all_gone(task)
    return sorted(Path(task.path).glob("*/.pending-*"))


def test_a_pending_checkpoint_that_is_damaged_before_the_restore_is_lost_and_its_row_stands(task: Task, start: Start) -> None:
    task = replace(task, upload="async", samples=1)
    before = Census.take("none", task.environment["TMPDIR"])
    pending = stopped_with_one_pending(task, start)
    assert pending
    (pending[0] / "weights").write_bytes(b"other")
    start(task).finish()
    lost = [event for event in events_of(task) if isinstance(event, CheckpointLost)]
    assert [event.index for event in lost] == [int(pending[0].name[-6:])]
    assert "weights" in lost[0].problem
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert list(Path(task.path).glob("*/.pending-*")) == []
    assert Census.take("none", task.environment["TMPDIR"]).since(before) == []


def test_a_pending_checkpoint_is_the_one_that_the_trial_goes_on_from(task: Task, start: Start) -> None:
    task = replace(task, upload="async", samples=1)
    pending = stopped_with_one_pending(task, start)
    index = int(pending[-1].name[-6:])
    start(task).finish()
    committed = [event for event in events_of(task) if isinstance(event, CheckpointCommitted) and event.order]
    assert index in [event.saved.index for event in committed]
    begun = [line for line in Path(task.side).read_text().splitlines() if '"begin"' in line]
    assert f'"start": {index + 1}' in begun[-1]


def test_a_trial_that_begins_anew_leaves_no_pending_checkpoint_behind(task: Task, start: Start) -> None:
    task = replace(task, upload="async", samples=1, max_failures=0)
    killed = start(task, "before_checkpoint_sync:1=kill")  # the worker dies, and then the driver that completes what it left
    killed.process.communicate(timeout=60)
    assert killed.process.returncode == -signal.SIGKILL
    assert len(list(Path(task.path).glob("*/.pending-*"))) == 1
    wait_until_all_gone(task)
    assert start(replace(task, restart_errored=True)).finish()["errors"] == []
    assert list(Path(task.path).glob("*/.pending-*")) == []
    assert len(list(Path(task.path).glob("*_restart1/checkpoint_*"))) == task.rows
    assert check_history(task.storage, acknowledged(task.side)) == []


def test_a_worker_that_wakes_up_after_the_takeover_of_its_experiment_harms_nothing(task: Task, start: Start) -> None:
    """The old driver is stopped, a new one ends its worker and completes the pending checkpoint."""
    task = replace(task, upload="async", samples=1)
    old = start(task, "before_checkpoint_told:2=stop")
    wait_until(lambda: list(Path(task.path).glob("*/checkpoint_000001")), doing=old)
    os.kill(old.pid, signal.SIGSTOP)
    wait_until_stopped(old)
    assert start(replace(task, takeover=True)).finish()["errors"] == []
    os.kill(old.pid, signal.SIGCONT)
    old.process.communicate()
    wait_until_all_gone(task)
    assert check_history(task.storage, acknowledged(task.side)) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    disk.begin("3m")
    yield disk
    disk.end()


@pytest.mark.parametrize("num_to_keep", [None, 1])
def test_a_disk_that_is_full_while_a_checkpoint_is_staged(
    disk: SmallDisk, tmp_path: Path, start: Start, num_to_keep: int | None
) -> None:
    """With `num_to_keep=1` there is room for what is kept, and none for the filler beside it."""
    task = Task(
        str(disk.path / "results"), str(tmp_path / "side"), rows=8, samples=1, upload="async", checkpoint_bytes=600_000,
        num_to_keep=num_to_keep,
    )  # fmt: skip
    if num_to_keep:
        (disk.path / "filler").write_bytes(bytes(2_000_000))
    told = start(task).result()
    texts = [told["text"]] if "error" in told else told["errors"]
    assert texts
    assert all("No space left on device" in text and "estore" in text for text in texts), told
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    wait_until_all_gone(task)
    disk.resize("16m")
    assert start(replace(task, resume_errored=True)).finish()["errors"] == []
    assert check_history(task.storage, acknowledged(task.side)) == []


@pytest.mark.parametrize("upload", UPLOADS)
def test_a_disk_that_is_full_while_a_checkpoint_is_deleted(disk: SmallDisk, tmp_path: Path, start: Start, upload: str) -> None:
    """The driver dies in the middle of a deletion, and the next one finds a disk with no room for its claim."""
    task = Task(str(disk.path / "results"), str(tmp_path / "side"), rows=6, samples=1, upload=upload, num_to_keep=1)
    killed = start(task, "mid_delete:2=kill")
    killed.process.communicate(timeout=60)
    assert killed.process.returncode == -signal.SIGKILL
    wait_until_all_gone(task)
    with (disk.path / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    told = start(task).result()
    assert told["error"] == "StorageError", told
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    (disk.path / "filler").unlink()
    wait_until_all_gone(task)
    start(task).finish()
    assert check_history(task.storage, acknowledged(task.side)) == []
