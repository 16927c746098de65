"""Whole experiments that are extended, crashed at operations of their disk, restored in fresh processes.

The extension is part of the job from its record on: a crash behind it is followed by a restore alone, and the end is that of
the run that was not crashed (P3, P10). What was on record stays as it was, and the journal explains itself.
"""

from __future__ import annotations

import random

import pytest

from holdfast._core.events import JobExtended
from holdfast._journal import read
from holdfast._projection.history import load_state
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.simulation import digest
from simulation.checking import problems_of
from simulation.extensions import AT_ONCE, EXTENDED
from simulation.fresh import FreshProcesses, Task
from simulation.jobs import SEED

POLICIES = ("never", "each", "random")
MODES = ("kill", "power")
POINTS = 12  # each mode with each policy twice; the soak test takes all
THOROUGH = ("extended, fifo", "extended, asha")  # at every operation


def _crashed(disk: SimulatedStorage, at: int, mode: str) -> dict[str, bytes]:
    return crash(disk, at, random.Random(f"{SEED}/{at}"), mode).files()


def _check(job: str, workers: int, fresh: FreshProcesses, points: int | None) -> None:
    simulation = EXTENDED[job](workers)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    assert sum(isinstance(record.event, JobExtended) for record in read(disk)) == len(simulation.more)
    assert not problems_of(disk)
    every = range(born, len(disk.log) + 1)
    chosen = every if points is None else sorted(random.Random(f"{SEED}/{job}/{workers}").sample(every, points))
    tasks = [Task(job, workers, _crashed(disk, at, MODES[n % 2]), POLICIES[n % 3], SEED + at) for n, at in enumerate(chosen)]
    wanted = digest(disk)
    for n, (at, found) in enumerate(zip(chosen, fresh.run(tasks), strict=True)):
        where = f"{job}, {workers} workers, seed {SEED}, operation {at}, {MODES[n % 2]}, snapshots {POLICIES[n % 3]}"
        assert not found.problems, where
        assert not found.unexplained, where
        if workers == 1 and job not in ("extended, retries", "extended, budget"):
            assert found.digest == wanted, where


@pytest.mark.slow
@pytest.mark.parametrize("job", EXTENDED)
@pytest.mark.parametrize("workers", [1, 8])
def test_a_crash_changes_nothing(job: str, workers: int, fresh: FreshProcesses) -> None:
    _check(job, workers, fresh, None if job in THOROUGH and workers == 1 else POINTS)


@pytest.mark.soak
@pytest.mark.parametrize("job", EXTENDED)
@pytest.mark.parametrize("workers", [1, 8])
def test_a_crash_anywhere_changes_nothing(job: str, workers: int, fresh: FreshProcesses) -> None:
    _check(job, workers, fresh, None)


@pytest.mark.slow
@pytest.mark.parametrize("job", AT_ONCE)
@pytest.mark.parametrize("workers", [1, 8])
def test_what_was_crashed_is_extended_from_wherever_it_stands(job: str, workers: int, fresh: FreshProcesses) -> None:
    """Rows that waited for a decision, attempts on their way, a checkpoint that is owed: all goes on to the new rule."""
    simulation = AT_ONCE[job](workers)
    disk = simulation.begin()
    born = len(disk.log)
    super(type(simulation), simulation).run(disk)  # the job as it was submitted
    chosen = range(born, len(disk.log) + 1)
    tasks = [Task(job, workers, _crashed(disk, at, MODES[n % 2]), POLICIES[n % 3], SEED + at) for n, at in enumerate(chosen)]
    for at, found in zip(chosen, fresh.run(tasks), strict=True):
        where = f"{job}, {workers} workers, seed {SEED}, operation {at}"
        assert not found.problems, where
        assert not found.unexplained, where
        if "asha" not in job and "budget" not in job:
            rows = {len(rows) for *_, rows in found.digest}
            assert rows == {5}, where
            assert len(found.digest) == 3 + simulation.more[0]["num_samples"], where


def test_trials_go_on_and_new_ones_come() -> None:
    simulation = EXTENDED["extended, fifo"](1)
    disk = simulation.begin()
    simulation.run(disk)
    ends = digest(disk)
    assert [len(rows) for *_, rows in ends] == [5] * 5
    # A stop by the old rule is not in the history of decisions any more that counts: the trial went on behind it.
    decided = [[decision for *_, decision in rows] for *_, rows in ends]
    assert decided[0][2] == ("STOP", "stop")
    assert decided[0][3] == ("CONTINUE", "scheduler")
    assert decided[0][4] == decided[4][4] == ("STOP", "stop")
    attempts = [trial.attempt for trial in load_state(disk).trials.values()]
    assert attempts == [2, 2, 2, 1, 1]


def test_a_budget_that_was_spent_ends_nothing_when_there_is_more() -> None:
    simulation = EXTENDED["extended, budget"](1)
    disk = simulation.begin()
    super(type(simulation), simulation).run(disk)
    first = load_state(disk)
    assert first.stopping == "budget"
    assert len(first.trials) < 4
    simulation.run(disk)
    state = load_state(disk)
    assert not state.stopping
    assert [trial.mark for trial in state.trials.values()] == [3] * 5
