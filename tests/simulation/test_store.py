"""Whole experiments on a simulated object store: crashed at every operation, every reply lost, restored in fresh processes.

A kill keeps the machine's disk, and with it the spool; a power cut takes what was not synced there; a lost machine takes all of
it. The store keeps what it has confirmed. What holds is what `test_crash` demands of a local disk.
"""

from __future__ import annotations

import itertools
import random
import warnings

import pytest

from holdfast._core.events import DecisionMade
from holdfast._journal import read
from holdfast.errors import StorageError
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.simulation import Simulation, digest
from holdfast.testing.store import SimulatedStore, without_machine
from simulation.checking import problems_of
from simulation.fresh import FreshProcesses, Task
from simulation.jobs import JOBS, REPEATABLE, SEED

MODES = ("kill", "power", "machine lost")
POLICIES = ("never", "each", "random")
CASES = [*itertools.product(("asha", "asha-sparse-keep-2", "async", "orders", "strict", "retries"), (1, 8))]


def _uninterrupted(job: str, workers: int) -> tuple[Simulation, SimulatedStorage, SimulatedStore, int]:
    simulation = JOBS[job](workers)
    disk = SimulatedStorage()
    store = SimulatedStore(disk)
    simulation.begin_on(store)
    born = len(disk.log)
    simulation.run(store)
    return simulation, disk, store, born


def _crashed(disk: SimulatedStorage, at: int, mode: str) -> dict[str, bytes]:
    image = crash(disk, at, random.Random(f"{SEED}/{at}"), "kill" if mode == "kill" else "power").files()
    return without_machine(image) if mode == "machine lost" else image


@pytest.mark.parametrize(("job", "workers"), CASES)
def test_a_crash_anywhere_changes_nothing(job: str, workers: int, fresh: FreshProcesses) -> None:
    """At up to 120 operations, another share of them for each job; the soak test takes all."""
    _check(job, workers, fresh, thorough=False)


@pytest.mark.soak
@pytest.mark.parametrize(("job", "workers"), CASES)
def test_a_crash_anywhere_in_every_way_changes_nothing(job: str, workers: int, fresh: FreshProcesses) -> None:
    _check(job, workers, fresh, thorough=True)


def _check(job: str, workers: int, fresh: FreshProcesses, *, thorough: bool) -> None:
    _, disk, store, born = _uninterrupted(job, workers)
    every = range(born, len(disk.log) + 1)
    if thorough:
        points = [(at, mode, POLICIES[at % 3]) for at in every for mode in MODES]
    else:
        chosen = random.Random(f"{SEED}/{job}/{workers}").sample(every, min(120, len(every)))
        points = [(at, MODES[n % 3], POLICIES[n // 3 % 3]) for n, at in enumerate(sorted(chosen))]
    tasks = [Task(job, workers, _crashed(disk, at, mode), policy, SEED + at, store=True) for at, mode, policy in points]
    wanted = digest(store)
    for point, found in zip(points, fresh.run(tasks), strict=True):
        where = f"{job}, {workers} workers, seed {SEED}, crashed at (operation, mode, snapshots) {point}"
        assert not found.problems, where
        assert not found.unexplained, where
        if workers == 1 and job in REPEATABLE:
            assert found.digest == wanted, where


@pytest.mark.parametrize(("job", "workers"), CASES)
def test_what_was_acknowledged_survives_every_kill_and_strict_every_loss(job: str, workers: int) -> None:
    simulation, disk, _, _ = _uninterrupted(job, workers)
    assert simulation.replies
    for done, trial_id, number, action in simulation.replies:
        store = SimulatedStore(SimulatedStorage())
        store._under.begin_with(_crashed(disk, done, "machine lost" if job == "strict" else "kill"))
        if job != "strict":  # what is in the spool alone comes onto the store with the next driver's claim
            JOBS[job](workers).run(store)
        decisions = {(r.event.trial_id, r.event.number): r.event.action for r in read(store) if isinstance(r.event, DecisionMade)}
        decided = decisions[trial_id, number]
        assert action == decided or (action == "CONTINUE" and decided == "PAUSE")


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize("job", ["asha-sparse-keep-2", "async"])
def test_a_store_that_fails_at_any_request_changes_nothing(job: str, fate: str) -> None:
    """ "after": the request is carried out, its reply never comes."""
    simulation, _, store, _ = _uninterrupted(job, 1)
    wanted, requests = digest(store), store.requests
    for at in range(2, requests + 1, 1 + requests // 60):
        again = SimulatedStore(SimulatedStorage())
        simulation.begin_on(again)
        begun = again.requests
        again.fate = lambda number, _, at=at, begun=begun: fate if number == begun + at else ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                simulation.run(again)
            except StorageError:
                pass
            again.fate = lambda *_: ""
            simulation.run(again)
        assert not problems_of(again), (at, fate)
        assert digest(again) == wanted, (at, fate)
