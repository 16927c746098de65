"""References in a search space, under a crash at every operation of the disk: what they lead to is put anew by each driver."""

from __future__ import annotations

import gc
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast._assembly.driving import Choices, drive
from holdfast._assembly.same import same_job
from holdfast._assembly.submission import JobSpec, drafted, give_birth
from holdfast._core.policy import Resume
from holdfast._projection.history import birth_of
from holdfast.config import RunConfig, TuneConfig
from holdfast.engines.simulated import SimulatedEngine
from holdfast.objects import get, put
from holdfast.schedulers import ASHAScheduler
from holdfast.space import choice, grid_search, sample_from, uniform
from holdfast.storage.definitions import Definitions
from holdfast.testing.census import memory_files
from holdfast.testing.disk import SimulatedStorage, crash
from holdfast.testing.simulation import digest

SEED = 20261122
SNAPSHOTS: dict[str, Callable[[int, int, int], bool]] = {"never": lambda *_: False, "each": lambda *_: True}


def train(config: dict[str, Any], state: dict[str, Any] | None = None) -> Iterator[Any]:
    """Four rows that depend on what the references lead to; a checkpoint every second."""
    model, other = get([config["model"], config["deep"][0]["other"]])
    for i in range(state["i"] + 1 if state else 0, 4):
        row = {"score": model["bias"] + other + config["x"] + config["drawn"] / (i + 1), "i": i}
        yield (row, {"i": i}) if i % 2 else row


def drawn(config: Any) -> float:
    """Reads a reference in the driver, also when the searcher came out of a snapshot."""
    return get(config["model"])["bias"] + random.random()


def space() -> dict[str, Any]:
    return {
        "model": grid_search([put({"bias": 1}), put({"bias": 2})]),
        "deep": [{"other": choice([put(10), put(20), put(30)])}],
        "drawn": sample_from(drawn),
        "x": uniform(0, 1),
    }


def begin() -> SimulatedStorage:
    disk = SimulatedStorage()
    tune = TuneConfig(metric="score", mode="max", num_samples=3, seed=SEED, scheduler=ASHAScheduler(max_t=4))
    assert give_birth(disk, drafted(train, space(), tune, RunConfig(name="simulated", verbose=0)))
    return disk


def run(disk: SimulatedStorage, snapshots: str) -> None:
    """One driver, to the end, with its own objects."""
    created, definitions = birth_of(disk), Definitions(disk)
    stored = definitions.fresh(created.definitions["job"])
    assert isinstance(stored, JobSpec)
    trainable = definitions.bytes_of(created.definitions["trainable"])
    engine = SimulatedEngine(workers=1, storage=disk)
    choices = Choices(Resume(), trainable, {}, engine, takeover=True, snapshot_due=SNAPSHOTS[snapshots])
    drive(disk, created, same_job(space(), stored, created), choices)


@pytest.mark.slow
def test_a_crash_anywhere_changes_nothing() -> None:
    gc.collect()
    before = memory_files([os.getpid()])
    disk = begin()
    born = len(disk.log)
    run(disk, "never")
    wanted = digest(disk)
    assert len(wanted) == 6
    assert len({config for _, config, *_ in wanted}) == 6
    seen = 0
    for at, (mode, snapshots) in zip(
        range(born, len(disk.log) + 1), itertools.cycle(itertools.product(("kill", "power"), SNAPSHOTS)), strict=False
    ):
        again = crash(disk, at, random.Random(f"{SEED}/{at}"), mode)
        run(again, snapshots)
        where = f"seed {SEED}, crashed at (operation, mode, snapshots) {(at, mode, snapshots)}"
        assert digest(again) == wanted, where
        if snapshots == "each" and at % 3 == 0:  # crashed once more, in the run that has snapshots
            later = random.Random(f"{SEED}/{at}/2").randint(0, len(again.log))
            twice = crash(again, later, random.Random(at), mode)
            seen += any("snapshots" in name for name in twice.files())
            run(twice, snapshots)
            assert digest(twice) == wanted, f"{where}, then at {later}"
    assert seen > 5, "snapshots were to be restored from"
    gc.collect()
    assert memory_files([os.getpid()]).keys() == before.keys()
