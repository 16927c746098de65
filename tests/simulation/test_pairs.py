"""Every pair of scheduler and searcher that makes sense, crashed at seeded points and restored in fresh processes.

With one worker the end is the uninterrupted run's, byte for byte (P3 c); with eight nothing on record changes and the journal
explains itself (P3 a, b). `PAIRS` in `simulation.pairs` is the table; add a line there for a new scheduler or searcher.
"""

from __future__ import annotations

import random

import pytest

from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.simulation import digest
from simulation.fresh import FreshProcesses, Task
from simulation.jobs import SEED
from simulation.pairs import FEW, PAIRS

POLICIES = ("never", "each", "random")
MODES = ("kill", "power")
POINTS = 12  # each mode with each policy twice; the soak test takes all


def _check(pair: str, workers: int, fresh: FreshProcesses, points: int | None) -> None:
    """Crashes the pair at so many points, None for every one."""
    simulation = PAIRS[pair](workers)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    every = range(born, len(disk.log) + 1)
    chosen = every if points is None else sorted(random.Random(f"{SEED}/{pair}/{workers}").sample(every, points))
    tasks = [Task(pair, workers, _crashed(disk, at, MODES[n % 2]), POLICIES[n % 3], SEED + at) for n, at in enumerate(chosen)]
    wanted = digest(disk)
    for n, (at, found) in enumerate(zip(chosen, fresh.run(tasks), strict=True)):
        where = f"{pair}, {workers} workers, seed {SEED}, operation {at}, {MODES[n % 2]}, snapshots {POLICIES[n % 3]}"
        assert not found.problems, where
        assert not found.unexplained, where
        if workers == 1:
            assert found.digest == wanted, where


def _crashed(disk: SimulatedStorage, at: int, mode: str) -> dict[str, bytes]:
    return crash(disk, at, random.Random(f"{SEED}/{at}"), mode).files()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_crash_changes_nothing(pair: str, workers: int, fresh: FreshProcesses) -> None:
    _check(pair, workers, fresh, FEW.get(pair, POINTS))


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_crash_anywhere_changes_nothing(pair: str, workers: int, fresh: FreshProcesses) -> None:
    _check(pair, workers, fresh, None)
