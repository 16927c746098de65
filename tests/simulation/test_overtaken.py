"""Whole experiments whose driver is overtaken at any call of its disk, and goes on when the next driver is done.

The one that was overtaken ends fenced, and what the next one has done stays as it is: its end, its rows, its checkpoints.
"""

from __future__ import annotations

import random

import pytest

from holdfast._assembly.repairing import repair
from holdfast.errors import Fenced
from holdfast.testing.disk import crash
from holdfast.testing.simulation import digest
from interrupted import Interrupted
from simulation.checking import problems_of
from simulation.jobs import JOBS, REPEATABLE, SEED


def _half_way(job: str) -> tuple[dict[str, bytes], list[object]]:
    """An experiment whose first driver was killed, and the digest that it is to have at its end."""
    simulation = JOBS[job](1)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    return crash(disk, (born + len(disk.log)) // 2, random.Random(SEED), "kill").files(), digest(disk)


def _overtaken(job: str, files: dict[str, bytes], at: int) -> tuple[Interrupted, bool]:
    """The disk when both drivers are done, and whether the first was fenced."""
    disk = Interrupted()
    disk.begin_with(files)
    disk.at, disk.other = at, lambda: JOBS[job](1).run(disk)
    try:
        JOBS[job](1).run(disk)
    except Fenced:
        return disk, True
    return disk, False


def _check(job: str, every: int) -> None:
    files, wanted = _half_way(job)
    count, _ = _overtaken(job, files, -1)
    assert digest(count) == wanted
    calls = range(1 + SEED % every, count.calls + 1, every)
    fenced = 0
    for at in calls:
        disk, was_fenced = _overtaken(job, files, at)
        repair(disk, takeover=True)  # an attempt of the first one's may just have saved a checkpoint, which no record names
        assert (problems_of(disk), digest(disk) == wanted) == ([], True), f"{job}, overtaken at call {at}"
        fenced += was_fenced
    assert fenced > len(calls) / 2, "behind its claim and before its end"


@pytest.mark.parametrize("job", REPEATABLE)
def test_a_driver_that_is_overtaken_at_some_call_changes_nothing(job: str) -> None:
    _check(job, 5)


@pytest.mark.soak
@pytest.mark.parametrize("job", REPEATABLE)
def test_a_driver_that_is_overtaken_at_any_call_changes_nothing(job: str) -> None:
    _check(job, 1)
