"""Whole experiments, crashed at every operation of their disk, restored in fresh processes.

With one worker the end is the uninterrupted run's, byte for byte (P3 c); with eight nothing on record changes and the
journal explains itself (P3 a, b). What was acknowledged is on record (P1), each row once and in order (P2), every
checkpoint on record exists and no other (P5, P8).
"""

from __future__ import annotations

import itertools
import random

import pytest

from holdfast._core.events import DecisionMade
from holdfast._journal import read
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.simulation import Simulation, digest
from simulation.fresh import FreshProcesses, Task
from simulation.jobs import JOBS, REPEATABLE, SEED

POLICIES = ("never", "each", "random")
MODES = ("kill", "power")
CASES = [*itertools.product(JOBS, (1, 8)), ("noisy", 2)]


def _uninterrupted(job: str, workers: int) -> tuple[Simulation, SimulatedStorage, int]:
    """A finished run, and the number of the first operation behind its birth."""
    simulation = JOBS[job](workers)
    disk = simulation.begin()
    born = len(disk.log)
    simulation.run(disk)
    return simulation, disk, born


def _points(disk: SimulatedStorage, born: int, *, thorough: bool) -> list[tuple[int, str, str]]:
    """(operation, mode, snapshot policy): every operation once, or with every mode and policy."""
    every = range(born, len(disk.log) + 1)
    if thorough:
        return list(itertools.product(every, MODES, POLICIES))
    return [(at, MODES[at % 2], POLICIES[at // 2 % 3]) for at in every]


def _crashed(disk: SimulatedStorage, at: int, mode: str) -> dict[str, bytes]:
    return crash(disk, at, random.Random(f"{SEED}/{at}"), mode).files()


def _check(job: str, workers: int, fresh: FreshProcesses, *, thorough: bool) -> None:
    _, disk, born = _uninterrupted(job, workers)
    points = _points(disk, born, thorough=thorough)
    tasks = [Task(job, workers, _crashed(disk, at, mode), policy, SEED + at) for at, mode, policy in points]
    wanted = digest(disk)
    for point, found in zip(points, fresh.run(tasks), strict=True):
        where = f"{job}, {workers} workers, seed {SEED}, crashed at (operation, mode, snapshots) {point}"
        assert not found.problems, where
        if job != "entropy":
            assert not found.unexplained, where
        if workers == 1 and job in REPEATABLE:
            assert found.digest == wanted, where


@pytest.mark.parametrize(("job", "workers"), CASES)
def test_a_crash_anywhere_changes_nothing(job: str, workers: int, fresh: FreshProcesses) -> None:
    _check(job, workers, fresh, thorough=False)


@pytest.mark.soak
@pytest.mark.parametrize(("job", "workers"), CASES)
def test_a_crash_anywhere_in_every_way_changes_nothing(job: str, workers: int, fresh: FreshProcesses) -> None:
    _check(job, workers, fresh, thorough=True)


@pytest.mark.parametrize("job", ["asha-sparse-keep-2", "pauses", "retries"])
def test_crashed_again_and_again(job: str, fresh: FreshProcesses) -> None:
    """Three crashes in a row, each in the run that restored from the one before."""
    for workers in (1, 8):
        _, disk, born = _uninterrupted(job, workers)
        chance = random.Random(SEED)
        images = [_crashed(disk, chance.randint(born, len(disk.log)), mode) for mode in MODES * 8]
        for crashes_again in (True, True, False):
            tasks = [Task(job, workers, image, POLICIES[n % 3], SEED + n, crash=crashes_again) for n, image in enumerate(images)]
            found = fresh.run(tasks)
            images = [one.files for one in found]
        for one in found:
            assert not one.problems and not one.unexplained, f"{job}, {workers} workers, seed {SEED}"
            if workers == 1 and job in REPEATABLE:
                assert one.digest == digest(disk), f"{job}, seed {SEED}"


def test_a_plugin_that_cannot_repeat_is_named_and_its_answers_stand(fresh: FreshProcesses) -> None:
    """P3 (a) for a scheduler that answers from the operating system's entropy."""
    _, disk, born = _uninterrupted("entropy", 1)
    middle = (born + len(disk.log)) // 2
    image = crash(disk, middle, random.Random(SEED), "kill")
    before = [record for record in read(image) if isinstance(record.event, DecisionMade)]
    JOBS["entropy"](1).run(image, snapshot_due=lambda *_: False)
    after = [record for record in read(image) if isinstance(record.event, DecisionMade)]
    assert after[: len(before)] == before
    found = [record.event for record in read(image) if type(record.event).__name__ == "InexactFound"]
    assert [one.plugin for one in found] == ["scheduler"]
    assert found[0].position <= before[-1].position


@pytest.mark.parametrize(("job", "workers"), CASES)
def test_what_was_acknowledged_is_on_record(job: str, workers: int) -> None:
    """P1: at each reply the decision is written, so no kill loses it; with `strict` no power cut either."""
    simulation, disk, _ = _uninterrupted(job, workers)
    mode = "power" if job == "strict" else "kill"
    assert simulation.replies
    for done, trial_id, number, action in simulation.replies:
        found = crash(disk, done, _Worst(), mode)
        decisions = {(r.event.trial_id, r.event.number): r.event.action for r in read(found) if isinstance(r.event, DecisionMade)}
        decided = decisions[trial_id, number]
        assert action == decided or (action == "CONTINUE" and decided == "PAUSE")  # a row redone after its pause goes on


def test_without_strict_a_power_cut_can_take_what_was_acknowledged() -> None:
    """The documented cost of `durability="group"`, and the proof that the test above can fail."""
    simulation, disk, _ = _uninterrupted("asha", 1)
    lost = 0
    for done, trial_id, number, action in simulation.replies:
        found = crash(disk, done, _Worst(), "power")
        decisions = {(r.event.trial_id, r.event.number, r.event.action) for r in read(found) if isinstance(r.event, DecisionMade)}
        lost += (trial_id, number, action) not in decisions
    assert lost


@pytest.mark.parametrize("workers", [1, 8])
def test_a_checkpoint_dies_after_the_record_of_its_death_is_durable(workers: int) -> None:
    """P5: the worst power cut at the moment of a deletion still finds the drop on record."""
    _, disk, _ = _uninterrupted("asha-sparse-keep-2", workers)
    _, kept, _ = _uninterrupted("fifo-keep-2", workers)
    deletions = 0
    for run in (disk, kept):
        for at, operation in enumerate(run.log):
            if operation.kind != "delete" or "checkpoint_" not in operation.path:
                continue
            deletions += 1
            dirname, name, _ = operation.path.split("/")
            found = crash(run, at, _Worst(), "power")
            dropped = {(r.event.trial_id, r.event.index) for r in read(found) if type(r.event).__name__ == "CheckpointDropped"}
            assert any(name == f"checkpoint_{index:06d}" and trial_id in dirname for trial_id, index in dropped)
    assert deletions


def test_nothing_is_acknowledged_or_decided_before_the_claim_is_checked() -> None:
    """Rule 5: between the write of a decision and its reply the driver looks for a later claim."""
    simulation = JOBS["asha"](8)
    disk = _Watched()
    disk.begin_with(simulation.begin().files())
    simulation.run(disk)
    assert simulation.replies
    for done, _, _, _ in simulation.replies:
        wrote = max(
            n for n, operation in enumerate(disk.log[:done]) if operation.kind == "write" and operation.path.endswith(".log")
        )
        assert any(wrote < at <= done and path == "journal/epochs/00000002" for at, path in disk.looks)


class _Worst(random.Random):
    """Chance at its worst: a power cut with it takes every unsynced page."""

    def random(self) -> float:
        return 0.0


class _Watched(SimulatedStorage):
    """Writes down when somebody looked whether a file exists."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[int, str]] = []

    def exists(self, path: str) -> bool:
        self.looks.append((len(self.log), path))
        return super().exists(path)
