"""OptunaSearch with a storage of the user's: the driver killed at every operation on its journal, and restored.

Killed means killed: driver and searcher live in a forked process that ends between two operations, so that the storage is left
as it is at that moment. The restore is another process. However often that happens, the study has each of our trials once.
"""

from __future__ import annotations

import itertools
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from holdfast._core.events import DecisionMade
from holdfast._journal import read
from holdfast.config import RunConfig, TuneConfig
from holdfast.search.optuna import OptunaSearch
from holdfast.space import uniform
from holdfast.testing.disk import Operation, SimulatedStorage, crash
from holdfast.testing.simulation import Simulation, digest
from simulation.checking import problems_of
from simulation.jobs import SEED

TRIALS, ROWS = 4, 2


def train(config: dict[str, Any]) -> Iterator[dict[str, float]]:
    for row in range(ROWS):
        yield {"score": config["x"] + row}


def _journal_file(folder: Path) -> Any:
    path = str(folder / "study.log")
    lock = JournalFileSymlinkLock(path, grace_period=4)  # seconds after which the lock of a killed process is void
    return optuna.storages.JournalStorage(JournalFileBackend(path, lock_obj=lock))


def _sqlite(folder: Path) -> Any:
    return f"sqlite:///{folder}/study.db"


STORAGES = {"journal file": _journal_file, "sqlite": _sqlite}


class _Deadly(list[Operation]):
    """A disk's log that ends the process before the n-th operation on the journal."""

    def __init__(self, after: int, die: Callable[[int], None]) -> None:
        super().__init__()
        self.left = after
        self.die = die

    def append(self, operation: Operation) -> None:
        if operation.path.endswith(".log"):
            if not self.left:
                self.die(len(self))
            self.left -= 1
        super().append(operation)


def _in_a_process(work: Callable[[], Any], folder: Path) -> Any:
    """What `work` returned in a forked process, or left with `_leave`."""
    pid = os.fork()
    if pid == 0:
        random.seed(os.urandom(8))
        try:
            _leave(work(), folder)
        except BaseException:  # noqa: BLE001 - the parent shows whatever it was
            import traceback

            _leave(traceback.format_exc(), folder)
    os.waitpid(pid, 0)
    return pickle.loads((folder / "left").read_bytes())


def _leave(value: Any, folder: Path) -> None:
    (folder / "left").write_bytes(pickle.dumps(value))
    os._exit(0)


def _killed(simulation: Simulation, files: dict[str, bytes], after: int, folder: Path) -> dict[str, bytes] | None:
    """The disk after the driver was killed behind so many operations; None: it came to its end."""
    disk = SimulatedStorage()
    disk.begin_with(files)
    disk.log = _Deadly(after, lambda at: _leave(crash(disk, at, random.Random(at), "kill").files(), folder))
    simulation.run(disk)
    return None


def _restored(simulation: Simulation, files: dict[str, bytes]) -> tuple[list[Any], list[str], int]:
    disk = SimulatedStorage()
    disk.begin_with(files)
    simulation.run(disk, snapshot_due=lambda *_: False)
    return digest(disk), problems_of(disk), sum(isinstance(record.event, DecisionMade) for record in read(disk))


def _study(folder: Path, storage: str) -> list[tuple[Any, ...]]:
    found = optuna.load_study(study_name="optuna", storage=STORAGES[storage](folder)).trials
    return [(it.user_attrs["holdfast_trial"], it.state.name, it.params, it.value, it.intermediate_values) for it in found]


def _check(storage: str, tmp_path: Path, every: int) -> None:
    template, folder = tmp_path / "template", tmp_path / "study"
    template.mkdir()
    if storage == "sqlite":
        optuna.storages.RDBStorage(_sqlite(template)).remove_session()  # making the tables is most of the time
    folder.mkdir()
    search = OptunaSearch(
        storage=STORAGES[storage](folder), sampler=optuna.samplers.TPESampler(seed=SEED % 2**32, n_startup_trials=2)
    )
    tune = TuneConfig(metric="score", mode="min", num_samples=TRIALS, search_alg=search, seed=SEED)
    simulation = Simulation(train, {"x": uniform(0, 1)}, tune, RunConfig(name="simulated", verbose=0))

    def anew() -> dict[str, bytes]:
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        return simulation.begin().files()

    files = anew()
    wanted, problems, decided = _in_a_process(lambda: _restored(simulation, files), folder)
    assert (problems, decided) == ([], TRIALS * ROWS)
    whole = _study(folder, storage)
    assert [row[1] for row in whole] == ["COMPLETE"] * TRIALS
    for after in itertools.count(0, every):
        files = anew()
        left = _in_a_process(lambda files=files, after=after: _killed(simulation, files, after, folder), folder)
        if left is None:
            break
        assert isinstance(left, dict), left
        found = _in_a_process(lambda left=left: _restored(simulation, left), folder)
        where = f"{storage}, seed {SEED}, killed behind {after} operations"
        assert found == (wanted, [], TRIALS * ROWS), where
        assert [(row[0][-5:], *row[1:]) for row in _study(folder, storage)] == [(row[0][-5:], *row[1:]) for row in whole], where
    assert after > 40


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "every"), [("journal file", 3), ("sqlite", 9)])
def test_a_killed_driver_leaves_each_trial_once(storage: str, every: int, tmp_path: Path) -> None:
    _check(storage, tmp_path, every)


@pytest.mark.soak
@pytest.mark.parametrize("storage", STORAGES)
def test_a_driver_killed_anywhere_leaves_each_trial_once(storage: str, tmp_path: Path) -> None:
    _check(storage, tmp_path, 1)
