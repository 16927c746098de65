"""One writer: a driver that was stopped anywhere and overtaken changes nothing when it goes on, and says why it ends."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from holdfast._assembly.repairing import repair
from holdfast._core.events import AttemptEnded
from holdfast._journal import read
from holdfast._journal.lease import PATIENCE_S
from holdfast.engines.local import LocalEngine
from holdfast.testing.engine_suite import Stage, make_job, make_order
from holdfast.testing.history import check_history
from integration.drivers import (
    DriverProcess,
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    status_of,
    wait_until,
    wait_until_all_gone,
    wait_until_stopped,
)

APART = ("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(storage_path=str(tmp_path / "results"), side=str(tmp_path / "side"), rows=6, samples=3, max_failures=5)


def records(task: Task) -> list[Any]:
    return list(read(task.storage))


def go_on(driver: DriverProcess) -> dict[str, Any]:
    """SIGCONT; what the driver says at its end."""
    os.kill(driver.pid, signal.SIGCONT)
    return driver.result()


def assert_fenced_without_a_trace(task: Task, driver: DriverProcess, *, apart: bool = False) -> None:
    """The overtaken driver goes on, ends with `Fenced`, and nothing on record is another than before.

    Where its workers could not be ended (`apart`) one may just have completed a checkpoint: rubbish, which no record names
    and `repair` sweeps.
    """
    before = records(task)
    told = go_on(driver)
    assert told["error"] == "Fenced", told
    assert "Another driver has taken over" in told["text"]
    assert records(task) == before
    wait_until_all_gone(task)
    if apart:
        repair(task.storage, takeover=False)
        assert records(task) == before
    assert check_history(task.storage, acknowledged(task.side)) == []


POINTS = [
    "in_write:1",  # it has taken charge, and has not read the history yet
    "before_write:3",
    "in_write:3",
    "after_write:3",
    "after_claim_check:3",
    "after_append:3",
    "before_dispatch:1",
    "before_dispatch:3",
    "after_reply:3",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_driver_stopped_at_a_point_and_overtaken_ends_fenced(task: Task, start: Start, point: str) -> None:
    stopped = start(task, f"{point}=stop")
    wait_until_stopped(stopped)
    start(replace(task, takeover=True)).finish()
    assert_fenced_without_a_trace(task, stopped)


@pytest.mark.parametrize("point", ["in_write:1", "after_claim_check:1", "after_append:1", "after_append:3", "before_dispatch:1"])
def test_a_driver_that_is_overtaken_while_it_recovers_ends_fenced(task: Task, start: Start, point: str) -> None:
    """It would have swept what the driver before it left: checkpoints that no record which it knows of names."""
    first = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 5, doing=first)
    first.kill()
    stopped = start(task, f"{point}=stop")
    wait_until_stopped(stopped)
    start(replace(task, takeover=True)).finish()
    assert_fenced_without_a_trace(task, stopped)


def test_a_driver_that_is_overtaken_while_it_opens_spares_what_a_later_one_runs(task: Task, start: Start) -> None:
    """It would have ended what the driver before it left running."""
    task = replace(task, rows=60, pace_s=0.02, max_failures=0)
    first = start(task)
    wait_until(lambda: acknowledged_count(task.side) >= 5, doing=first)
    first.kill()
    stopped = start(task, "in_write:1=stop")
    wait_until_stopped(stopped)
    last = start(replace(task, takeover=True))
    before = acknowledged_count(task.side)
    wait_until(lambda: acknowledged_count(task.side) >= before + 5, doing=last)
    told = go_on(stopped)
    assert told["error"] == "Fenced", told
    assert last.finish() == {"trials": 3, "errors": []}
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert [end.event.outcome for end in records(task) if isinstance(end.event, AttemptEnded)] == ["completed"] * 3
    wait_until_all_gone(task)


@pytest.mark.parametrize("point", ["in_write", "after_claim_check", "before_dispatch"])
def test_two_drivers_that_cannot_see_each_other(task: Task, start: Start, point: str) -> None:
    """In another pid namespace the first driver's workers cannot be ended: they live until their next report."""
    need_namespaces()
    stopped = start(task, f"{point}:5=stop")
    wait_until_stopped(stopped)
    start(replace(task, takeover=True), before=APART).finish()
    assert_fenced_without_a_trace(task, stopped, apart=True)


def test_a_driver_whose_heart_is_still_is_overtaken_after_a_wait(task: Task, start: Start) -> None:
    need_namespaces()
    stopped = start(task, "after_append:5=stop")
    wait_until_stopped(stopped)
    begun = time.monotonic()
    start(task, before=APART).finish()
    assert time.monotonic() - begun > PATIENCE_S
    assert_fenced_without_a_trace(task, stopped, apart=True)


def test_a_second_driver_is_refused_by_the_name_of_the_first(task: Task, start: Start) -> None:
    first = start(replace(task, pace_s=1.0))
    wait_until(lambda: acknowledged_count(task.side) >= 1, doing=first)
    second = start(task)
    told = second.result()
    assert told["error"] == "ExperimentBusy", told
    assert f"pid {first.pid} on host {os.uname().nodename}" in told["text"]
    before = acknowledged_count(task.side)
    wait_until(lambda: acknowledged_count(task.side) > before, doing=first)
    first.kill()
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    wait_until_all_gone(task)


def test_a_second_driver_that_cannot_see_the_first_is_refused_by_its_heartbeat(task: Task, start: Start) -> None:
    need_namespaces()
    first = start(replace(task, pace_s=1.0))
    wait_until(lambda: acknowledged_count(task.side) >= 1, doing=first)
    told = start(task, before=APART).result()
    assert told["error"] == "ExperimentBusy", told
    first.kill()
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    wait_until_all_gone(task)


@pytest.mark.parametrize("point", ["mid_checkpoint_stage", "before_checkpoint_rename", "after_checkpoint_rename"])
def test_a_stopped_worker_whose_driver_was_replaced_harms_nothing(task: Task, start: Start, point: str) -> None:
    """It goes on saving its checkpoint while the next driver's attempt of the same trial has long used later names."""
    need_namespaces()
    task = replace(task, samples=1, workers=1)
    first = start(task, f"{point}:4=stop")
    wait_until(lambda: any(status_of(pid) == psutil.STATUS_STOPPED for pid in first.roles()["worker"]), doing=first)
    worker = next(pid for pid in first.roles()["worker"] if status_of(pid) == psutil.STATUS_STOPPED)
    os.kill(first.pid, signal.SIGSTOP)
    start(replace(task, takeover=True), before=APART).finish()
    before = records(task)
    os.kill(worker, signal.SIGCONT)
    wait_until(lambda: status_of(worker) in (psutil.STATUS_SLEEPING, psutil.STATUS_ZOMBIE))
    told = go_on(first)
    assert told["error"] == "Fenced", told
    assert records(task) == before
    assert check_history(task.storage, acknowledged(task.side)) == []
    wait_until_all_gone(task)


def test_a_driver_that_loses_its_guardian_spares_what_a_later_epoch_runs(tmp_path: Path) -> None:
    """The token of epoch 1 is the beginning of that of epoch 10."""
    another = subprocess.Popen(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
        env={**os.environ, "HOLDFAST_TOKEN": "spared.10"},
        stdout=subprocess.PIPE,
    )
    stage = Stage(LocalEngine(), make_job(tmp_path, lambda config: 1.0, token="spared.1"))
    try:
        assert another.stdout is not None
        assert another.stdout.readline() == b"up\n"
        first, second = make_order(0), make_order(1)
        assert stage.run(first)[0].outcome == "completed"
        guardian = next(child for child in psutil.Process().children() if child.environ().get("HOLDFAST_TOKEN") == "spared.1")
        before = {child.pid for child in psutil.Process().children()}
        guardian.kill()
        stage.until(lambda: {child.pid for child in psutil.Process().children()} - before)  # the next guardian
        assert stage.run(second)[0].outcome == "completed"
        assert another.poll() is None
    finally:
        stage.engine.close()
        another.kill()
        another.communicate()


def test_a_copy_that_is_restored_leaves_the_workers_of_the_original_alone(task: Task, start: Start) -> None:
    original = replace(task, rows=60, pace_s=0.02, max_failures=0)
    first = start(original)
    wait_until(lambda: acknowledged_count(original.side) >= 5, doing=first)
    first.kill()
    wait_until_all_gone(original)
    copy = replace(original, storage_path=original.storage_path + "-copy", side=original.side + "-copy")
    shutil.copytree(original.storage_path, copy.storage_path)
    again = start(original)
    wait_until(lambda: acknowledged_count(original.side) >= 10, doing=again)
    start(copy).finish()
    again.finish()
    for one in (original, copy):
        ends = [record.event for record in records(one) if isinstance(record.event, AttemptEnded)]
        assert [end.outcome for end in ends] == ["completed"] * one.samples, ends
        wait_until_all_gone(one)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_drivers_stopped_and_overtaken_at_any_moment(tmp_path: Path, start: Start) -> None:
    """Two drivers in a row are stopped somewhere and overtaken; both go on while the third works, or when it has ended."""
    need_namespaces()
    for seed in (random.SystemRandom().getrandbits(32) for _ in range(30)):
        lots = random.Random(seed)
        print("seed", seed, flush=True)
        folder = tmp_path / str(seed)
        folder.mkdir()
        every, keep = lots.choice([1, 1, 2, 5]), lots.choice([None, 1])
        task = Task(
            str(folder / "results"), str(folder / "side"), rows=8, samples=3, every=every, num_to_keep=keep, max_failures=9
        )
        task = replace(task, max_failures=9)
        late = replace(task, takeover=True)
        stopped = []
        for now in (task, late):
            before = lots.choice([(), APART]) if now is late else ()
            driver = start(now, f"{lots.choice(POINTS).partition(':')[0]}:{lots.randint(1, 12)}=stop", before)
            inner = driver.pid if not before else only_child(driver)
            wait_until(lambda inner=inner: status_of(inner) in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
            stopped.append((driver, inner))
        lots.shuffle(stopped)
        last = start(late, before=lots.choice([(), APART]))
        ended = []
        if lots.random() < 0.5:
            last.finish()
            ended = records(task)
        for driver, inner in stopped:
            with suppress(ProcessLookupError):
                os.kill(inner, signal.SIGCONT)
            told = driver.result()
            assert told.get("error", "Fenced") in ("Fenced", "ExperimentBusy"), told
        if ended:
            assert records(task) == ended
        else:
            last.finish()
        assert check_history(task.storage, acknowledged(task.side)) == []
        wait_until_all_gone(task)


def only_child(driver: DriverProcess) -> int:
    """The driver itself, where its process is `unshare`."""
    wait_until(lambda: psutil.Process(driver.pid).children(), doing=driver)
    return psutil.Process(driver.pid).children()[0].pid


def need_namespaces() -> None:
    """Fails, rather than passes, where this machine cannot show what the test is about."""
    tried = subprocess.run([*APART, "true"], capture_output=True, text=True, check=False)
    assert tried.returncode == 0, f"this test needs root and namespaces (unshare --pid --mount): {tried.stderr}"
