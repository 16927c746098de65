"""Whole experiments in virtual time, crashed at any operation of their disk and restored.

    simulation = Simulation(train, {"x": uniform(0, 1)}, TuneConfig(num_samples=8), workers=1)
    disk = simulation.begin()
    simulation.run(disk)
    for at in range(len(disk.log)):
        again = crash(disk, at, random.Random(at), "power")
        simulation.run(again)
        assert digest(again) == digest(disk)

Runs in one process and one thread; to see that nothing survives in globals, restore in a fresh process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec

from holdfast._assembly.driving import Choices, Outcome, drive
from holdfast._assembly.extending import Wish, asked_for
from holdfast._assembly.plugging import job_at
from holdfast._assembly.submission import drafted, give_birth
from holdfast._core.policy import Resume
from holdfast._journal import read
from holdfast._projection.history import birth_of, load_history
from holdfast.config import RunConfig, TuneConfig
from holdfast.engines.simulated import SimulatedEngine
from holdfast.errors import InternalError
from holdfast.logger.policy import PolicyFiles
from holdfast.storage.base import Storage
from holdfast.storage.definitions import Definitions
from holdfast.testing.disk import SimulatedStorage
from holdfast.testing.store import SimulatedStore

__all__ = ["Reply", "Simulation", "digest"]

Reply = tuple[int, str, int, str]


class _Overheard(SimulatedEngine):
    """Writes down each reply, with the number of disk operations done by then."""

    def __init__(self, replies: list[Reply], disk: Storage, **options: Any) -> None:
        super().__init__(storage=disk, **options)
        self._replies = replies
        self._disk = disk

    def reply(self, trial_id: str, attempt: int, number: int, action: str, *, save: bool = False) -> None:
        done = len(self._disk.log) if isinstance(self._disk, (SimulatedStorage, SimulatedStore)) else 0
        self._replies.append((done, trial_id, number, action))
        super().reply(trial_id, attempt, number, action, save=save)


class Simulation:
    """An experiment to be run again and again.

    Args:
        trainable: A generator function, as `SimulatedEngine` takes them; importable by name.
        param_space, tune_config, run_config: As for `Tuner`; the seed must be given.
        workers, **options: As for `SimulatedEngine`. With `on_demand` trials owe a checkpoint at their end.
    """

    def __init__(
        self,
        trainable: Callable[..., Any],
        param_space: dict[str, Any],
        tune_config: TuneConfig,
        run_config: RunConfig | None = None,
        *,
        workers: int = 1,
        **options: Any,
    ) -> None:
        if tune_config.seed is None:
            raise ValueError("a simulation that is to be compared needs TuneConfig(seed=...)")
        self._job = (trainable, param_space, tune_config, run_config or RunConfig(name="simulated", verbose=0))
        self._engine = {"workers": workers, **options}
        self.replies: list[Reply] = []

    def begin(self) -> SimulatedStorage:
        """A new disk with the experiment's birth on it."""
        disk = SimulatedStorage()
        self.begin_on(disk)
        return disk

    def begin_on(self, disk: Storage) -> None:
        """Puts the experiment's birth on a new disk or store."""
        draft = drafted(*copy.deepcopy(self._job))
        policy = msgspec.structs.replace(draft.created.policy, end_checkpoint=bool(self._engine.get("on_demand")))
        if give_birth(disk, draft._replace(created=msgspec.structs.replace(draft.created, policy=policy))) is None:
            raise InternalError("a new disk held an experiment")

    def run(
        self,
        disk: Storage,
        *,
        resume: Resume | None = None,
        snapshot_due: Callable[[int, int, int], bool] | None = None,
        wish: Wish | None = None,
    ) -> Outcome:
        """Runs the experiment on the disk to its end, from wherever it stands. `replies` then holds what was acknowledged.

        With a `wish` it is extended first, as `Tuner.extend` does.
        """
        created, definitions = birth_of(disk), Definitions(disk)
        asked = None if wish is None else asked_for(disk, created, wish)
        if asked is not None:
            definitions.store(asked.job)
        self.replies = []
        how = Choices(
            resume or Resume(),
            definitions.bytes_of(created.definitions["trainable"]),
            {},
            _Overheard(self.replies, disk, **self._engine),
            takeover=True,
            snapshot_due=snapshot_due,
            extension=None if asked is None else asked.extension,
        )
        return drive(disk, created, job_at(definitions, created.definitions["job"]), how)


def digest(storage: Storage) -> list[Any]:
    """What an experiment ended as, without clocks, hosts and ids: equal for a restored and an uninterrupted run.

    Per trial: its number, configuration, state, failures and branch, the log of what it went on from (of a population), and each
    row as users see it with its decision.
    """
    state, history = load_history(storage)
    decisions: dict[tuple[str, int, int], tuple[str, str]] = {}
    fold, policy = type(state)(), PolicyFiles("")
    for record in read(storage):
        fold.fold(record)
        policy.hear(record, fold)
        event = record.event
        if type(event).__name__ == "DecisionMade":
            trial = fold.trial(event.trial_id)  # type: ignore[union-attr]
            decisions[trial.trial_id, trial.branch, trial.mark] = (event.action, event.by)  # type: ignore[union-attr]
    ends = []
    for trial in state.trials.values():
        rows = [
            (row.number, row.metrics, row.iteration, row.done, decisions.get((trial.trial_id, trial.branch, row.number)))
            for row in history.rows(trial.trial_id)
        ]
        ends.append((trial.index, trial.config, trial.state, trial.failures, trial.branch, policy.lines(trial.trial_id), rows))
    return ends
