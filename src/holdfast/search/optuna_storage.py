"""The copy of a study in the user's own storage: a database or file that other tools read.

OptunaSearch thinks on a study in memory, so that a replay after a crash finds just what the first run found. This module
writes that study's trials into the storage, each once: every trial carries `holdfast_trial` (its id here) and
`holdfast_search` (drawn when the searcher was made) as user attributes, and what the storage has already is not written
again, however often a replay tells of it.

It knows Optuna's storages. It refuses to be asked for anything that an answer rests on, with one exception: the trials
that stood there before the first of ours, which the study in memory begins with, and whose numbers it writes down.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import ConfigError
from holdfast.search.libraries import load
from holdfast.search.optuna_spaces import NAME

__all__ = ["Copy"]

TRIAL = "holdfast_trial"
SEARCH = "holdfast_search"


@dataclass
class _There:
    """A trial of ours in the storage: its number in the study, and the storage's own id once it was needed."""

    number: int
    params: dict[str, Any]
    finished: bool = False
    steps: set[int] = field(default_factory=set)
    id: int | None = None


class Copy:
    """One experiment's trials in a storage.

    Args:
        storage: An Optuna storage, or the URL of one. It must pickle, as Optuna's do.
        study_name: Of the study in it, which is created where it is not there.

    Attributes:
        directions: Of the study; to be set before anything is asked for.
    """

    def __init__(self, storage: Any, study_name: str) -> None:
        self._given = storage
        self._name = study_name
        self.directions: list[Any] = []
        self._token = secrets.token_hex(8)  # a name, not chance: it is in the pickle that the experiment begins with
        self._storage: Any = None
        self._study = -1
        self._known: dict[str, _There] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what must be read again wherever it is revived: the storage may have more by then."""
        return {**vars(self), "_storage": None, "_study": -1, "_known": {}}

    def earlier(self, experiment: str) -> list[Any]:
        """The finished trials that stood there before the first of ours; the same ones after a crash.

        Args:
            experiment: What tells experiments of one searcher apart.

        Raises:
            ConfigError: The study is there with other directions.
        """
        self._open()
        key = f"{SEARCH}_{self._token}_{experiment}"
        numbers = self._storage.get_study_user_attrs(self._study).get(key)
        trials = self._storage.get_all_trials(self._study, deepcopy=False)
        if numbers is None:
            useful = [it for it in trials if it.state.name in ("COMPLETE", "PRUNED") and it.user_attrs.get(SEARCH) != self._token]
            numbers = [trial.number for trial in useful]
            self._storage.set_study_user_attr(self._study, key, numbers)
        wanted = set(numbers)
        return [trial for trial in trials if trial.number in wanted]

    def begin(self, trial_id: str, frozen: Any) -> None:
        """Writes a new trial, running; if it is there, what is there is kept until it is known which answer stands."""
        if self._there(trial_id) is None:
            self._create(trial_id, frozen)

    def report(self, trial_id: str, frozen: Any, step: int, value: float) -> None:
        """Writes an intermediate value."""
        there = self._agreed(trial_id, frozen)
        if not there.finished and step not in there.steps:
            self._storage.set_trial_intermediate_value(self._id(there), step, value)
            there.steps.add(step)

    def end(self, trial_id: str, frozen: Any) -> None:
        """Writes how a trial ended."""
        there = self._agreed(trial_id, frozen)
        if not there.finished:
            self._storage.set_trial_state_values(self._id(there), frozen.state, frozen.values)
            there.finished = True

    def add(self, key: str, frozen: Any) -> None:
        """Writes a trial that ended elsewhere, whole; `key` stands for its id."""
        if self._there(key) is None:
            self._create(key, frozen, whole=True)

    def _agreed(self, trial_id: str, frozen: Any) -> _There:
        """The trial in the storage, which is made anew if the configuration that stands is another one.

        That is so where a power cut took the records of the old answer, or where the answer did not repeat.
        """
        there = self._there(trial_id)
        if there is not None and there.params == frozen.params:
            return there
        if there is not None and not there.finished:
            self._storage.set_trial_state_values(self._id(there), load("optuna", "optuna", NAME).trial.TrialState.FAIL)
        return self._create(trial_id, frozen)

    def _create(self, trial_id: str, frozen: Any, *, whole: bool = False) -> _There:
        """Makes a trial in one operation, its id included: a crash leaves it findable or not there."""
        trial = load("optuna", "optuna", NAME).trial
        template = trial.create_trial(
            state=frozen.state if whole else trial.TrialState.RUNNING,
            values=frozen.values if whole else None,
            params=frozen.params,
            distributions=frozen.distributions,
            user_attrs={**frozen.user_attrs, TRIAL: trial_id, SEARCH: self._token},
            intermediate_values=frozen.intermediate_values if whole else None,
        )
        made = self._storage.create_new_trial(self._study, template)
        there = _There(self._storage.get_trial_number_from_id(made), dict(frozen.params), whole, id=made)
        self._known[trial_id] = there
        return there

    def _id(self, there: _There) -> int:
        if there.id is None:
            there.id = self._storage.get_trial_id_from_study_id_trial_number(self._study, there.number)
        return there.id

    def _there(self, trial_id: str) -> _There | None:
        self._open()
        return self._known.get(trial_id)

    def _open(self) -> None:
        """Opens the storage, finds or makes the study, and reads which trials of ours it has; once in a process.

        Raises:
            ConfigError: The study is there with other directions.
        """
        if self._storage is not None:
            return
        optuna = load("optuna", "optuna", NAME)
        storage = optuna.storages.get_storage(self._given)
        try:
            study = storage.create_new_study(self.directions, self._name)
        except optuna.exceptions.DuplicatedStudyError:
            study = storage.get_study_id_from_name(self._name)
            if storage.get_study_directions(study) != self.directions:
                raise ConfigError(
                    f"The study {self._name!r} is in that storage already, with other directions than metric and mode say. "
                    f"Give {NAME}(study_name=...) another name."
                ) from None
        for trial in storage.get_all_trials(study, deepcopy=False):
            if trial.user_attrs.get(SEARCH) == self._token and TRIAL in trial.user_attrs:
                found = _There(trial.number, trial.params, trial.state.is_finished(), set(trial.intermediate_values))
                self._known[trial.user_attrs[TRIAL]] = found
        self._storage, self._study = storage, study
