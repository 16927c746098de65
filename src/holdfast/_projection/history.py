"""The history of each trial as a user sees it: which rows count, and what they replaced.

Knows which row of which attempt stands at which number. Refuses to know: how rows are shown, where files are, and
what ought to happen next. Keeps rows as they stand in the journal (encoded) and decodes when asked.

Rules (a row's *number* is counted in its branch, from 1):

* a row redone after a crash stands in the place of the first one of that number, with the first one's callback changes;
* an attempt that completes with fewer rows than were there before ends the trial's history at its last row;
* a restart opens a new branch, and the old one's rows are superseded as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from holdfast import _journal
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointCommitted,
    CheckpointDropped,
    CheckpointLost,
    DecisionMade,
    EpochStarted,
    ExperimentCreated,
    Failure,
    Record,
    ResultReported,
    TrialSuggested,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import TERMINATED, TrialState
from holdfast._projection.rows import Origin, Place, full_row
from holdfast.errors import InternalError
from holdfast.storage.base import Storage
from holdfast.values import decode

__all__ = ["Attempt", "History", "Superseded", "TrialHistory", "load_history", "load_state", "shown", "with_checkpoint"]


class Attempt(msgspec.Struct, gc=False):
    """One run of a trial on a worker, as the record tells it.

    Attributes:
        number: From 1.
        branch: The branch that it belongs to.
        host, ip, pid: Where it ran; empty where it never came to a worker.
        began, ended: Seconds since 1970; 0 where it did not.
        outcome: "running", "completed", "stopped", "failed" or "lost".
        cause: Why it was lost.
        failure: Why it failed.
        first, last: Numbers of its rows; 0 where it reported none.
        well: Whether the trial is none the worse for it: it ended as it should, or failed only when told to stop.
        config, tag: What the trial ran with then, and was called; a scheduler may change both between attempts.
    """

    number: int
    branch: int
    host: str = ""
    ip: str = ""
    pid: int = 0
    began: float = 0.0
    ended: float = 0.0
    outcome: str = "running"
    cause: str = ""
    failure: Failure | None = None
    first: int = 0
    last: int = 0
    well: bool = False
    config: bytes = b""
    tag: str = ""


class Superseded(msgspec.Struct, frozen=True, gc=False):
    """A row that is on record but no longer part of the history.

    Attributes:
        why: "redone", "cut" (a redo ended before it) or "restarted".
        branch: The branch in which it stood.
        row: The row.
    """

    why: str
    branch: int
    row: ResultReported


class TrialHistory:
    """One trial's history.

    Attributes:
        branch: The branch that the rows belong to.
        rows: The rows that count; the one of number n stands at n - 1.
        changes: Number → what callbacks changed in that row, encoded; only where something was changed.
        attempts: All attempts by number.
        superseded: Rows that no longer count, in the order in which they were replaced.
        dropped: Checkpoints that retention gave up.
        lost: Checkpoints that were pending and could not be completed, each with why.
        position: Of the newest record that names the trial.
    """

    __slots__ = ("attempts", "branch", "changes", "dropped", "lost", "position", "rows", "superseded")

    def __init__(self, position: int) -> None:
        self.branch = 0
        self.rows: list[ResultReported] = []
        self.changes: dict[int, bytes] = {}
        self.attempts: dict[int, Attempt] = {}
        self.superseded: list[Superseded] = []
        self.dropped: list[int] = []
        self.lost: list[tuple[int, str]] = []
        self.position = position

    def began(self) -> bool:
        """Whether an attempt of this branch came to a worker, or failed on its way."""
        return any(it.branch == self.branch and (it.began or it.failure) for it in self.attempts.values())

    def open(self) -> bool:
        """Whether an attempt has not ended on record."""
        return any(it.outcome == "running" for it in self.attempts.values())

    def place(self, trial: TrialState, row: ResultReported) -> Place:
        """Where a row came from."""
        ran = self.attempts.get(row.attempt)
        if ran is None:
            return Place(trial.trial_id, trial.tag, trial.host, trial.ip, trial.pid)
        return Place(trial.trial_id, ran.tag or trial.tag, ran.host, ran.ip, ran.pid)

    def config(self, trial: TrialState, row: ResultReported) -> bytes:
        """What a row ran with, encoded."""
        ran = self.attempts.get(row.attempt)
        return trial.config if ran is None or not ran.config else ran.config

    def put(self, row: ResultReported) -> None:
        """Takes a row in at its number."""
        at = row.number - 1
        if at < len(self.rows):
            self.superseded.append(Superseded("redone", self.branch, self.rows[at]))
            self.rows[at] = row
        else:
            self.rows.append(row)
        attempt = self.attempts.get(row.attempt)
        if attempt is not None:
            attempt.first = attempt.first or row.number
            attempt.last = row.number

    def save(self, event: CheckpointCommitted) -> None:
        """A checkpoint became durable after its row, which may have come without one."""
        at = event.number - 1
        if at < len(self.rows):
            self.rows[at] = with_checkpoint(self.rows[at], event)

    def cut(self, number: int) -> None:
        """Ends the history at a number."""
        if len(self.rows) > number:
            self.superseded += [Superseded("cut", self.branch, row) for row in self.rows[number:]]
            del self.rows[number:]
            self.changes = {n: change for n, change in self.changes.items() if n <= number}

    def branch_off(self, branch: int) -> None:
        """Begins anew, keeping what was as superseded."""
        self.superseded += [Superseded("restarted", self.branch, row) for row in self.rows]
        self.rows = []
        self.changes = {}
        self.branch = branch


class History:
    """All trials' histories. Hears each record once, in order, with the state that already holds it."""

    def __init__(self) -> None:
        self._trials: dict[str, TrialHistory] = {}

    def hear(self, record: Record, state: ExperimentState) -> None:
        """Takes in a record that `state` has just folded."""
        event = record.event
        if isinstance(event, ResultReported):
            self._of(event.trial_id, record).put(event)
        elif isinstance(event, DecisionMade):
            trial = self._of(event.trial_id, record)
            if event.changes:
                trial.changes[event.number] = event.changes
        elif isinstance(event, (AttemptStarted, AttemptEnded, AttemptLost)):
            self._attempt(self._of(event.trial_id, record), event, record.wall, state)
        elif isinstance(event, EpochStarted):
            for trial_id, history in self._trials.items():
                branch = state.trial(trial_id).branch
                if branch != history.branch:
                    history.branch_off(branch)
                    history.position = record.position
        elif isinstance(event, TrialSuggested):
            self._trials[event.trial_id] = TrialHistory(record.position)
        elif isinstance(event, CheckpointDropped):
            self._of(event.trial_id, record).dropped.append(event.index)
        elif isinstance(event, CheckpointLost):
            self._of(event.trial_id, record).lost.append((event.index, event.problem))
        elif isinstance(event, CheckpointCommitted):
            self._of(event.trial_id, record).save(event)

    def trial(self, trial_id: str) -> TrialHistory:
        """The history of one trial; a `KeyError` where no record names it."""
        return self._trials[trial_id]

    def rows(self, trial_id: str) -> list[ResultReported]:
        """The rows that count, in order of their numbers."""
        return self._trials[trial_id].rows

    def superseded(self, trial_id: str) -> list[Superseded]:
        """The rows that no longer count."""
        return self._trials[trial_id].superseded

    def full_rows(
        self,
        trial: TrialState,
        experiment_id: str,
        load: Callable[[str], object] | None = None,
        config: dict[str, Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The trial's rows decoded and completed, as loggers and results show them.

        Args:
            trial: The trial, from the state that heard the same records.
            experiment_id: Of the birth record.
            load: As for `values.decode`: without it nothing is unpickled.
            config: The decoded config where each row is to hold it.
        """
        history = self._trials[trial.trial_id]
        for row in history.rows:
            yield shown(row, history.changes.get(row.number, b""), history.place(trial, row), experiment_id, load, config)

    def configs(self, trial: TrialState) -> list[bytes]:
        """For each row that counts the configuration, encoded, that it ran with."""
        history = self._trials[trial.trial_id]
        return [history.config(trial, row) for row in history.rows]

    def _of(self, trial_id: str, record: Record) -> TrialHistory:
        history = self._trials[trial_id]
        history.position = record.position
        return history

    def _attempt(
        self, history: TrialHistory, event: AttemptStarted | AttemptEnded | AttemptLost, wall: float, state: ExperimentState
    ) -> None:
        attempt = history.attempts.get(event.attempt)
        if attempt is None:
            attempt = history.attempts[event.attempt] = Attempt(event.attempt, history.branch)
        if isinstance(event, AttemptStarted):
            trial = state.trial(event.trial_id)
            attempt.host, attempt.ip, attempt.pid, attempt.began = event.host, event.ip, event.pid, wall
            attempt.config, attempt.tag = trial.config, trial.tag
            return
        attempt.ended = wall
        if isinstance(event, AttemptLost):
            attempt.outcome, attempt.cause = "lost", event.cause
            return
        attempt.outcome, attempt.failure = event.outcome, event.failure
        attempt.well = event.failure is None or state.trial(event.trial_id).state == TERMINATED
        if event.outcome == "completed":
            history.cut(state.trial(event.trial_id).number)


def with_checkpoint(row: ResultReported, event: CheckpointCommitted) -> ResultReported:
    """The row as if the checkpoint had come with it."""
    if row.saved is not None or row.pending is not None:
        return row
    return msgspec.structs.replace(row, saved=event.saved)


def shown(
    row: ResultReported,
    changes: bytes,
    place: Origin,
    experiment_id: str,
    load: Callable[[str], object] | None,
    config: dict[str, Any] | None,
) -> dict[str, Any]:
    """One row decoded, completed, and with what callbacks changed in it."""
    full = full_row(row, decode(row.metrics, load), place, experiment_id, config)
    if changes:
        full.update(decode(changes, load))
    return full


def birth_of(storage: Storage) -> ExperimentCreated:
    """The birth record of an experiment. Reads only.

    Raises:
        ExperimentNotFound: There is no experiment.
        JournalError: The birth record does not read.
    """
    event = _journal.read_birth(storage).event
    if not isinstance(event, ExperimentCreated):
        raise InternalError(f"the journal at {storage.root} begins without a birth record")
    return event


def load_state(storage: Storage) -> ExperimentState:
    """Today's state of an experiment, from its journal. Reads only; safe beside a live driver.

    Raises:
        JournalError: The journal is damaged where it was durable.
    """
    state = ExperimentState()
    for record in _journal.read(storage):
        state.fold(record)
    return state


def load_history(storage: Storage) -> tuple[ExperimentState, History]:
    """Today's state and all rows, from the journal. Reads only; safe beside a live driver.

    Raises:
        JournalError: The journal is damaged where it was durable.
    """
    state, history = ExperimentState(), History()
    for record in _journal.read(storage):
        state.fold(record)
        history.hear(record, state)
    return state, history
