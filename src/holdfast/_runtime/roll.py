"""The roll: all trials of the experiment as plug-ins see them, made one by one when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from holdfast import values
from holdfast._core.events import ExperimentCreated, ResultReported
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import TrialState
from holdfast._projection.rows import full_row
from holdfast.trial import Load, References, Surroundings, Trial

__all__ = ["Roll"]

_NO_REFERENCES: References = {}


class Roll(Sequence[Trial]):
    """A lazy, read-only sequence of the trials, in order of creation, pending ones included."""

    def __init__(
        self, created: ExperimentCreated, state: ExperimentState, path: str, load: Load, references: References = _NO_REFERENCES
    ) -> None:
        self._state = state
        self._load = load
        self._references = references
        self._made: dict[str, Trial] = {}
        self.keep = True
        self.experiment_id = created.experiment_id
        policy = created.policy
        self._around = Surroundings(path, self.experiment_id, created.trainable_name, policy, load, self.last_row, references)

    def work_in(self, directory: str) -> None:
        """Has trials show their own directories of this machine below this one."""
        self._around.local = directory

    def let_change(self, change: Callable[..., None]) -> None:
        """Has the trials' setters go where a scheduler's orders are taken."""
        self._around.change = change

    def of(self, trial_id: str) -> Trial:
        """The one object that stands for a trial."""
        found = self._made.get(trial_id)
        if found is None:
            found = self._made[trial_id] = Trial(self._state.trial(trial_id), self._around)
        return found

    def forget(self, trial_id: str) -> None:
        """Lets a finished trial's object go, unless user callbacks may hold on to it."""
        if not self.keep:
            self._made.pop(trial_id, None)

    def row(self, trial: TrialState, event: ResultReported, changes: bytes = b"") -> dict[str, Any]:
        """A row as users see it: their metrics, the auto-filled keys, and what callbacks changed."""
        metrics: dict[str, Any] = values.decode(event.metrics, self._load)
        full = full_row(event, metrics, trial, self.experiment_id)
        if changes:
            full.update(values.decode(changes, self._load))
        return full

    def last_row(self, trial: TrialState) -> dict[str, Any]:
        """The newest row of a trial, with its config; empty before the first."""
        if trial.last is None:
            return {}
        row = self.row(trial, trial.last, trial.changes)
        row.setdefault("config", values.decode(trial.config, self._load, self._references))
        return row

    def __len__(self) -> int:
        return len(self._state.by_index)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self.of(trial_id) for trial_id in self._state.by_index[index]]
        return self.of(self._state.by_index[index])
