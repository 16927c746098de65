"""`TrialFiles`: the files that tools for Ray Tune read, in each trial's directory.

    params.json, params.pkl     the config, written when the first attempt starts, and anew when a scheduler changed it
    result.json, progress.csv   one row per report, as the history has it: redone rows replaced, cut rows gone; each with
                                the config that it ran with
    events.out.tfevents...      the same rows for TensorBoard
    error.txt, error.pkl        every failure of the trial; the newest exception, gone when a later attempt succeeds

Knows the journal's records and writes what follows from them. Refuses to know what ought to happen, and is never read
by the driver: the journal is the truth, these files can be lost and are written again by the next restore.

They are not durable by themselves. `catch_up` brings them to the journal's state after any crash: the files of trials
that are not finished are written anew, those of finished ones compared unless the cursor vouches for them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointCommitted,
    DecisionMade,
    Event,
    Record,
    ResultReported,
    SchedulerOrdered,
    TrialChosen,
)
from holdfast._core.trial import FINAL, TrialState
from holdfast._projection.history import History
from holdfast._projection.rows import Place
from holdfast.errors import StorageError
from holdfast.logger.cursor import Cursor
from holdfast.logger.onetrial import OneTrial
from holdfast.logger.rowfile import CsvRows, JsonRows
from holdfast.logger.tensorboard import NAME as EVENTS
from holdfast.logger.tensorboard import EventRows
from holdfast.values import decode

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["TrialFiles"]

_INTERVAL_S = 0.2
Load = Callable[[str], object]


class TrialFiles:
    """Follows the journal and writes each trial's files.

    Args:
        directory: The experiment's, absolute and local.
        experiment_id: Of the birth record.
        json: Whether `params.json`, `params.pkl` and `result.json` are written.
        csv: Whether `progress.csv` is written.
        tensorboard: Whether event files are written.
        load: Brings back a stored object of a config by its sha256; without it nothing is unpickled, and no `params.pkl`
            is written for a config that holds such an object. Odd values in rows are never unpickled: files name their type.
        in_charge: Says whether this driver still is; asked before each flush. A driver that is not writes nothing.
        wrote: Where the files go on to a store, which keeps them whatever happens to this machine: told of a trial's directory by
            its name, and whether nothing more is to come there, when that was written and before the cursor vouches for it.
    """

    def __init__(
        self,
        directory: str,
        experiment_id: str,
        *,
        json: bool = True,
        csv: bool = True,
        tensorboard: bool = False,
        load: Load | None = None,
        in_charge: Callable[[], bool] | None = None,
        wrote: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._directory = directory
        self._experiment_id = experiment_id
        self._json, self._csv, self._tensorboard = json, csv, tensorboard
        self._only_failures = not (json or csv or tensorboard)
        self._load = load
        self._in_charge = in_charge
        self._wrote = wrote or (lambda _dirname, _final: None)
        self._cursor = Cursor(directory, f"{'j' * json}{'c' * csv}{'t' * tensorboard}-", until_boot=wrote is None)
        self._trials: dict[str, OneTrial] = {}
        self._busy: dict[str, OneTrial] = {}
        self._position = -1
        self._finished = 0
        self._due = 0.0

    def hear(self, record: Record, state: ExperimentState) -> None:
        """Remembers what a record, which `state` has just folded, means for the files. Writes nothing yet."""
        event = record.event
        self._position = record.position
        if self._only_failures and self._passes_over(event):
            return
        if isinstance(event, ResultReported):
            self._busy[event.trial_id] = trial = self._trials[event.trial_id]
            trial.reported(event)
        elif isinstance(event, DecisionMade):
            self._busy[event.trial_id] = trial = self._trials[event.trial_id]
            trial.decided(event)
        elif isinstance(event, AttemptStarted):
            now = state.trial(event.trial_id)
            trial = self._of(now)
            trial.over = False
            trial.ran_with = now.config
            trial.place = Place(now.trial_id, now.tag, event.host, event.ip, event.pid)
        elif isinstance(event, CheckpointCommitted) and event.trial_id in self._trials:
            self._busy[event.trial_id] = trial = self._trials[event.trial_id]
            trial.saved(event)
        elif isinstance(event, AttemptEnded) or (isinstance(event, AttemptLost) and event.trial_id in self._trials):
            now = state.trial(event.trial_id)
            self._of(now).ended(event, record.wall, now)
        if isinstance(event, (DecisionMade, TrialChosen, SchedulerOrdered)):
            for order in event.orders:
                if order.config and order.trial_id in self._trials:
                    self._busy[order.trial_id] = trial = self._trials[order.trial_id]
                    trial.changed(state.trial(order.trial_id).config)

    def _passes_over(self, event: Event) -> bool:
        """Whether an event means nothing where no rows are written: all do but a failure, and what follows it."""
        failed = isinstance(event, AttemptEnded) and event.failure is not None
        return not failed and getattr(event, "trial_id", "") not in self._trials

    def flush(self, now: float | None = None) -> None:
        """Writes what was heard.

        Args:
            now: Monotonic seconds: nothing is done before 0.2 s have passed since the last time. None writes at once.

        Raises:
            StorageError: The disk refused. Nothing is lost: restore when the cause is mended.
        """
        if now is not None:
            if now < self._due:
                return
            self._due = now + _INTERVAL_S
        if not self._busy or (self._in_charge is not None and not self._in_charge()):
            return
        try:
            for trial_id, trial in self._busy.items():
                trial.write()
                if trial.final:
                    trial.close()
                    self._wrote(os.path.basename(trial.directory), True)
                    del self._trials[trial_id]
                    self._finished += 1
            self._busy.clear()
            if self._finished:
                self._cursor.write(self._position)
                self._finished = 0
        except OSError as error:
            raise _refused(error, self._directory) from error

    def catch_up(self, history: History, state: ExperimentState, *, everything: bool = False) -> None:
        """Brings the files to the state of the journal. Called when a driver has taken charge, before anything else is heard.

        Both arguments must hold all records, the `EpochStarted` of this driver included, so that trials that it resumes or
        restarts are known as such. `everything` compares the files of all trials, whatever the cursor says.

        Raises:
            StorageError: The disk refused.
        """
        sure = -1 if everything else self._cursor.read()
        try:
            for trial in state.trials.values():
                told = history.trial(trial.trial_id)
                final = trial.state in FINAL
                vouched_for = final and told.position <= sure and not told.open()  # an epoch may end what it found running
                if not told.began() or vouched_for:
                    continue
                files = self._of(trial)
                rows = zip(history.full_rows(trial, self._experiment_id), history.configs(trial), strict=True)
                files.rebuild(told, trial, [files.configured(*pair) for pair in rows], always=not final)
                self._wrote(trial.dirname, final)
                if final:
                    files.close()
                    del self._trials[trial.trial_id]
            self._busy.clear()
            self._position = state.position
            if os.path.isdir(self._directory) and sure < state.position:
                self._cursor.write(state.position)
        except OSError as error:
            raise _refused(error, self._directory) from error

    def close(self) -> None:
        """Writes what is left and lets all files go. May be called twice."""
        for trial_id, trial in self._trials.items():
            trial.over = True
            self._busy[trial_id] = trial
        self.flush()
        for trial in self._trials.values():
            trial.close()
        self._trials.clear()
        self._busy.clear()

    def _of(self, trial: TrialState) -> OneTrial:
        """The files of a trial; of its present branch."""
        directory = f"{self._directory}/{trial.dirname}"
        files = self._trials.get(trial.trial_id)
        if files is None or files.directory != directory:
            files = OneTrial(directory, trial, self._experiment_id, self._load)
            if self._json:
                files.write_rows_to(JsonRows(f"{directory}/result.json", files.config_text))
            if self._csv:
                files.write_rows_to(CsvRows(f"{directory}/progress.csv"))
            if self._tensorboard:
                files.write_rows_to(EventRows(f"{directory}/{EVENTS}", decode(trial.evaluated)))
            files.with_params = self._json
            self._trials[trial.trial_id] = files
        self._busy[trial.trial_id] = files
        return files


def _refused(error: OSError, directory: str) -> StorageError:
    if isinstance(error, StorageError):
        return error
    remedy = "Free some space, then restore." if error.errno == errno.ENOSPC else "Restore when the cause is mended."
    return StorageError(
        error.errno,
        f"a file of a trial in {directory} cannot be written: {error}. Nothing is lost: all rows are in the journal. {remedy}",
    )
