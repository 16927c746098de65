"""What follows the journal behind the report's path: the trials' files, the logs of a population, and the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast import settings
from holdfast._assembly.submission import JobSpec
from holdfast._core.events import EpochStarted, ExperimentCreated, JobExtended, Record
from holdfast._core.experiment import ExperimentState
from holdfast._journal import Journal, read
from holdfast._projection.history import History, load_history
from holdfast.console import Console, make_console
from holdfast.logger.csv import CSVLoggerCallback
from holdfast.logger.files import TrialFiles
from holdfast.logger.json import JsonLoggerCallback
from holdfast.logger.policy import PolicyFiles
from holdfast.storage.base import Storage
from holdfast.storage.local import LocalStorage

__all__ = ["FilesFollower", "ScreenFollower", "files_of", "screen_of"]


class FilesFollower:
    """Keeps `TrialFiles` up with the journal.

    Args:
        files: What writes.
        storage: Where the history is read from, if replay began behind a snapshot.
        state: The fold that everybody shares.
        history: Told all that is replayed, and what is heard up to the first tick; None where replay begins behind a snapshot.
        policy: The logs of a population, where there is one.
    """

    def __init__(
        self,
        files: TrialFiles,
        storage: Storage,
        state: ExperimentState,
        history: History | None,
        policy: PolicyFiles | None = None,
    ) -> None:
        self._policy = policy
        self._files = files
        self._storage = storage
        self._state = state
        self._history = history
        self._busy = False

    def replayed(self, record: Record) -> None:
        """Takes in a record of an older driver."""
        if self._history is not None:
            self._history.hear(record, self._state)
            if self._policy is not None:
                self._policy.hear(record, self._state)

    def hear(self, record: Record) -> None:
        if self._history is not None:
            self._history.hear(record, self._state)
        if isinstance(record.event, EpochStarted):
            self._catch_up(record)
        elif self._policy is not None:
            self._policy.hear(record, self._state)
        if isinstance(record.event, JobExtended) and self._history is not None:
            self._files.catch_up(self._history, self._state)  # trials that had ended go on: their files are opened again
        self._files.hear(record, self._state)
        self._busy = True

    def tick(self, now: float) -> bool:
        self._history = None  # the driver has taken over, and nothing is caught up with any more
        self._files.flush(now)
        if self._policy is not None:
            self._policy.flush()
        waiting, self._busy = self._busy, False
        return waiting

    def close(self) -> None:
        self._files.close()
        if self._policy is not None:
            self._policy.flush()
            self._policy.close()

    def _catch_up(self, record: Record) -> None:
        if self._history is None:
            told, self._history = load_history(self._storage)
            if told.position < record.position:  # this record is not written yet
                self._history.hear(record, self._state)
            if self._policy is not None:
                _tell_all(self._policy, self._storage)
        elif self._policy is not None:
            self._policy.hear(record, self._state)
        if self._policy is not None:
            self._policy.catch_up()
        self._files.catch_up(self._history, self._state)


def _tell_all(policy: PolicyFiles, storage: Storage) -> None:
    """Has the logs hear the whole journal, with a fold of its own."""
    state = ExperimentState()
    for record in read(storage):
        state.fold(record)
        policy.hear(record, state)


class ScreenFollower:
    """Keeps the terminal up with the journal."""

    def __init__(self, console: Console, state: ExperimentState) -> None:
        self._console = console
        self._state = state

    def hear(self, record: Record) -> None:
        self._console.hear(record, self._state)

    def tick(self, now: float) -> bool:
        self._console.tick(now)
        return False

    def close(self) -> None:
        self._console.close()


def files_of(
    journal: Journal,
    created: ExperimentCreated,
    spec: JobSpec,
    state: ExperimentState,
    load: Callable[[str], Any],
    *,
    from_start: bool,
) -> FilesFollower | None:
    """The follower that writes the trials' files; None where the experiment has no local directory.

    Args:
        journal: The driver's.
        created: The birth record.
        spec: The job. A file that one of the user's own logger callbacks writes is left to it.
        state: The fold that everybody shares.
        load: Brings back a stored object of a config.
        from_start: Whether replay begins at the first record.
    """
    storage = journal.storage
    if not isinstance(storage, LocalStorage):
        return None
    wanted = not settings.file_loggers_disabled()
    json = wanted and not any(isinstance(callback, JsonLoggerCallback) for callback in spec.run_config.callbacks)
    csv = wanted and not any(isinstance(callback, CSVLoggerCallback) for callback in spec.run_config.callbacks)
    files = TrialFiles(storage.root, created.experiment_id, json=json, csv=csv, load=load, in_charge=journal.in_charge)
    logs = wanted and getattr(spec.tune_config.scheduler, "log_config", False)
    policy = PolicyFiles(storage.root, journal.in_charge) if logs else None
    return FilesFollower(files, storage, state, History() if from_start else None, policy)


def screen_of(spec: JobSpec, state: ExperimentState, total: int) -> ScreenFollower | None:
    """The follower that shows progress; None where nothing is to be shown."""
    tune = spec.tune_config
    if spec.run_config.verbose == 0:
        return None
    return ScreenFollower(make_console(spec.run_config.verbose, metric=tune.metric, mode=tune.mode, total=total), state)
