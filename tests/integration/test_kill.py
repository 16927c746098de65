"""`kill -9` of real processes at random moments: nothing acknowledged is lost, nothing is left, little is done again."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.faults import POINTS
from holdfast.testing.census import Census, processes_of
from holdfast.testing.history import check_history
from integration.drivers import (
    DriverEnded,
    DriverProcess,
    Start,
    Task,
    acknowledged,
    acknowledged_count,
    needlessly_redone,
    token_of,
    wait_until,
    wait_until_all_gone,
)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A short experiment whose trials have children that leave their session."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return Task(
        storage_path=str(tmp_path / "results"),
        side=str(tmp_path / "side"),
        rows=12,
        samples=3,
        family=True,
        max_failures=10,
        environment={"TMPDIR": str(temporary)},
    )


def kill_when_it_works(driver: DriverProcess, victims: tuple[str, ...], rows: int, lots: random.Random) -> None:
    """SIGKILL of several processes at once, when so many reports have returned."""
    roles: dict[str, list[int]] = {}

    def works() -> bool:
        if acknowledged_count(driver.task.side) < rows:
            return False
        roles.update(driver.roles())
        return all(roles.values())

    wait_until(works, doing=driver)
    pids = [driver.pid if victim == "driver" else lots.choice(roles[victim]) for victim in victims]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none can act on another's death
        for pid in pids:
            with suppress(ProcessLookupError):  # a worker may have ended meanwhile
                os.kill(pid, number)
    if "driver" in victims:
        driver.kill()


def assert_nothing_lost(task: Task, before: Census) -> None:
    """What holds at the end, whatever was killed on the way."""
    assert check_history(task.storage, acknowledged(task.side)) == []
    assert needlessly_redone(task.side) == []
    wait_until_all_gone(task)
    assert Census.take(token_of(task), task.environment["TMPDIR"]).since(before) == []


WITH_DRIVER = [("driver",), ("driver", "worker"), ("guardian", "driver"), ("server", "driver")]


@pytest.mark.parametrize(
    ("victims", "every"),
    [*((victims, every) for victims in WITH_DRIVER for every in (1, 5)), (("driver",), 0), (("driver", "worker"), 0)],
    ids=str,
)
def test_a_killed_driver_is_restored(task: Task, start: Start, victims: tuple[str, ...], every: int) -> None:
    lots, task = random.Random(f"{victims} {every}"), replace(task, every=every)
    rows = lots.randint(1, 20)
    print("seed", f"{victims} {every}", "rows", rows)
    before = Census.take("none", task.environment["TMPDIR"])
    kill_when_it_works(start(task), victims, rows, lots)
    wait_until_all_gone(task)
    start(task).finish()
    assert_nothing_lost(task, before)


@pytest.mark.parametrize(
    ("victim", "every"), [("worker", 1), ("worker", 5), ("worker", 0), ("server", 1), ("server", 5), ("guardian", 5)]
)
def test_a_driver_goes_on_when_others_are_killed(task: Task, start: Start, victim: str, every: int) -> None:
    lots, task = random.Random(f"{victim} {every}"), replace(task, every=every)
    moments = sorted(lots.sample(range(1, 25), 2))
    print("seed", f"{victim} {every}", "rows", moments)
    before = Census.take("none", task.environment["TMPDIR"])
    driver = start(task)
    for rows in moments:
        kill_when_it_works(driver, (victim,), rows, lots)
    assert driver.finish()["errors"] == []
    assert_nothing_lost(task, before)


@pytest.mark.parametrize("every", [5, 0])
def test_a_driver_killed_twice_in_a_row_is_restored(task: Task, start: Start, every: int) -> None:
    lots, task = random.Random(every), replace(task, every=every)
    moments = [lots.randint(1, 10), lots.randint(11, 30)]
    print("seed", every, "rows", moments)
    before = Census.take("none", task.environment["TMPDIR"])
    for rows in moments:
        kill_when_it_works(start(task), ("driver",), rows, lots)
        wait_until_all_gone(task)
    start(task).finish()
    assert_nothing_lost(task, before)


def test_what_survives_driver_guardian_and_server_ends_with_the_next_restore(task: Task, start: Start) -> None:
    """Nobody is left to end a child that left its session; the next driver finds it by its token."""
    before = Census.take("none", task.environment["TMPDIR"])
    kill_when_it_works(start(task), ("guardian", "server", "driver"), 5, random.Random(0))
    assert processes_of(token_of(task)), "the children were expected to survive: this test would show nothing"
    start(task).finish()
    assert_nothing_lost(task, before)


IN_THE_DRIVER = [
    "before_write:9",
    "in_write:9",
    "after_write:9",
    "after_claim_check:9",
    "after_append:9",
    "before_dispatch:9",
    "after_reply:4",
    "before_delete:3",
    "after_claim:1",
    "before_seal:1",
    "after_seal:1",
]


@pytest.mark.parametrize("point", IN_THE_DRIVER)
def test_a_driver_killed_at_a_named_point_is_restored(task: Task, start: Start, point: str) -> None:
    task = replace(task, num_to_keep=1, rows=6, family=False)
    before = Census.take("none", task.environment["TMPDIR"])
    killed = start(task, f"{point}=kill")
    killed.process.communicate()
    assert killed.process.returncode == -signal.SIGKILL
    wait_until_all_gone(task)
    start(task).finish()
    assert_nothing_lost(task, before)


@pytest.mark.parametrize("point", ["mid_checkpoint_stage", "before_checkpoint_rename", "after_checkpoint_rename"])
@pytest.mark.parametrize("also_the_driver", [False, True], ids=["worker", "worker+driver"])
def test_a_worker_killed_while_it_saves_leaves_no_half_checkpoint(
    task: Task, start: Start, point: str, also_the_driver: bool
) -> None:
    task = replace(task, family=False)
    before = Census.take("none", task.environment["TMPDIR"])
    driver = start(task, f"{point}:5=kill")  # each attempt saves four, or twice as many files, and dies
    if also_the_driver:
        kill_when_it_works(driver, ("driver",), 9, random.Random(point))
        wait_until_all_gone(task)
        driver = start(task)
    assert driver.finish()["errors"] == []
    assert_nothing_lost(task, before)


def test_a_driver_killed_behind_the_last_row_finishes_its_work_when_restored(task: Task, start: Start) -> None:
    """All trials are over, but a dropped checkpoint is still there: the restore owes its deletion."""
    task = replace(task, samples=1, rows=6, num_to_keep=1, family=False)
    before = Census.take("none", task.environment["TMPDIR"])
    killed = start(task, "before_delete:5=kill")
    killed.process.communicate()
    assert killed.process.returncode == -signal.SIGKILL
    assert check_history(task.storage, acknowledged(task.side), at_rest=False) == []
    start(task).finish()
    assert_nothing_lost(task, before)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_kills_of_anything_at_any_moment(tmp_path: Path, start: Start) -> None:
    """Sizes, rules, victims and moments drawn anew each time; the seed that fails is printed and becomes a test above."""
    for seed in (random.SystemRandom().getrandbits(32) for _ in range(40)):
        lots = random.Random(seed)
        print("seed", seed, flush=True)
        run_and_kill(tmp_path / str(seed), start, lots)


def run_and_kill(folder: Path, start: Start, lots: random.Random) -> None:
    (folder / "tmp").mkdir(parents=True)
    task = Task(
        storage_path=str(folder / "results"),
        side=str(folder / "side"),
        rows=lots.choice([6, 12]),
        samples=lots.choice([1, 3, 6]),
        workers=lots.choice([1, 2]),
        every=lots.choice([0, 1, 1, 2, 5]),
        asha=lots.random() < 0.5,
        family=lots.random() < 0.5,
        num_to_keep=lots.choice([None, 1, 2]),
        upload=lots.choice(["sync", "async"]),
        max_failures=20,
        environment={"TMPDIR": str(folder / "tmp")},
    )
    before = Census.take("none", task.environment["TMPDIR"])
    for _ in range(lots.randint(1, 4)):
        point, times = lots.choice(POINTS), lots.randint(1, 12)
        driver = start(task, f"{point}:{times}=kill")
        # At a named point, or sooner at a moment of its own; or it ends first.
        rows = acknowledged_count(task.side) + lots.randint(1, 20)
        victims = lots.choice([*WITH_DRIVER, ("worker",), ("server",), ("guardian",)])
        try:
            kill_when_it_works(driver, victims, rows, lots)
        except DriverEnded:
            assert driver.process.returncode in (0, -signal.SIGKILL)
            wait_until_all_gone(task)
            continue  # it came to the named point first, or to its end
        if "driver" not in victims and lots.random() < 0.5:
            driver.kill()
        driver.process.communicate()
        wait_until_all_gone(task)
    told = start(task).finish()
    assert told["errors"] == [], told
    assert_nothing_lost(task, before)
