"""The whole experiment as the journal tells it: `fold` one record after another and you have today's state.

Knows facts only. Refuses to know what ought to happen next: that is `controller.py`. The driver, the screens and the
command line all fold with this one function, so that there is one truth of where a trial is.
"""

from __future__ import annotations

import msgspec

from holdfast._core import retry
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointBroken,
    CheckpointDeleted,
    CheckpointDropped,
    DecisionMade,
    EpochEnded,
    EpochStarted,
    ExperimentCreated,
    InexactFound,
    NothingSuggested,
    Record,
    ResultReported,
    TailCut,
    TrialSuggested,
    Woke,
    unexpected,
)
from holdfast._core.policy import Policy
from holdfast._core.trial import ERROR, FINAL, PAUSED, PENDING, TERMINATED, TrialState
from holdfast.errors import InternalError

__all__ = ["ExperimentState"]


class ExperimentState(msgspec.Struct):
    """What the records up to `position` say.

    Attributes:
        position, time, wall: Of the newest record; -1 before the first.
        created: The birth record.
        epoch: The newest driver, None before the first.
        trials: By id, in order of creation.
        waiting: Indices of trials that are PENDING.
        paused: Indices of trials that are PAUSED.
        unfinished: How many trials are in no final state.
        exhausted: Whether the searcher said that it has no more.
        stopping: Why the whole experiment is ending early; empty if it is not.
        ended: The reason of the newest `EpochEnded`, empty while a driver is in charge or after it crashed.
        inexact: Answers of plug-ins that did not repeat.
        cuts: Torn tails that were cut.
        definitions: Name → sha256 of what is in force now.
        revived: Finished trials that the newest epoch took up again.
    """

    position: int = -1
    time: float = 0.0
    wall: float = 0.0
    created: ExperimentCreated | None = None
    epoch: EpochStarted | None = None
    trials: dict[str, TrialState] = {}
    by_index: list[str] = []
    waiting: set[int] = set()
    paused: set[int] = set()
    unfinished: int = 0
    exhausted: bool = False
    stopping: str = ""
    ended: str = ""
    inexact: list[InexactFound] = []
    cuts: list[TailCut] = []
    definitions: dict[str, str] = {}
    revived: list[str] = []

    @property
    def policy(self) -> Policy:
        """The job's rules."""
        if self.created is None:
            raise InternalError("no birth record was folded")
        return self.created.policy

    @property
    def over(self) -> bool:
        """Whether nothing is left to run: no trial unfinished and none to come."""
        limit = self.policy.num_samples
        none_to_come = self.exhausted or bool(self.stopping) or (0 <= limit <= len(self.trials))
        return none_to_come and not self.unfinished

    def trial(self, trial_id: str) -> TrialState:
        """The trial of that id."""
        try:
            return self.trials[trial_id]
        except KeyError:
            raise InternalError(f"there is no trial {trial_id!r} on record up to position {self.position}") from None

    def at(self, index: int) -> TrialState:
        """The trial of that number."""
        return self.trials[self.by_index[index]]

    def fold(self, record: Record) -> None:
        """Takes one record in.

        Raises:
            IllegalTransition: The record does not fit what came before.
        """
        if record.position != self.position + 1:
            raise InternalError(f"record {record.position} came after {self.position}")
        event = record.event
        if isinstance(event, ResultReported):
            self._reported(event)
        elif isinstance(event, DecisionMade):
            self._decided(event)
        elif isinstance(event, (TrialSuggested, NothingSuggested)):
            self._suggested(event)
        elif isinstance(event, (AttemptStarted, AttemptEnded, AttemptLost)):
            self._attempted(event, record.wall)
        elif isinstance(event, (CheckpointDropped, CheckpointBroken)):
            trial = self.trial(event.trial_id)
            trial.kept = [kept for kept in trial.kept if kept.saved.index != event.index]
        else:
            self._of_the_whole(event)
        self.position = record.position
        self.time = record.time
        self.wall = record.wall

    def _of_the_whole(
        self, event: ExperimentCreated | EpochStarted | EpochEnded | TailCut | CheckpointDeleted | Woke | InexactFound
    ) -> None:
        match event:
            case ExperimentCreated():
                self.created = event
                self.definitions = dict(event.definitions)
            case EpochStarted():
                self._epoch_started(event)
            case EpochEnded():
                self.ended = event.reason
            case TailCut():
                self.cuts.append(event)
            case CheckpointDeleted():
                pass  # the fact matters to the open order that it answers, not to the state
            case Woke():
                self._stop_all("budget")
            case InexactFound():
                self.inexact.append(event)
            case _:
                unexpected(event)

    def _epoch_started(self, event: EpochStarted) -> None:
        first = self.epoch is None
        self.epoch = event
        self.ended = ""
        self.revived = []
        self.definitions.update(event.definitions)
        if first:
            return
        for trial in self.trials.values():
            if trial.state == TERMINATED:
                how = event.resume.finished
            elif trial.state == ERROR:
                how = event.resume.errored
            else:
                how = event.resume.unfinished
            self._take_up(trial, how)
        if self.stopping:
            self._stop_all(self.stopping)

    def _take_up(self, trial: TrialState, how: str) -> None:
        """What a new epoch does with a trial that it found: goes on with it, begins it anew, or leaves it."""
        if how == "resume" and trial.state == ERROR and not trial.may_resume():
            how = "skip"
        if how != "skip" and trial.state in FINAL:
            self.revived.append(trial.trial_id)
        if how == "resume":
            if trial.state == ERROR:
                trial.failures = 0
            if trial.state in FINAL:
                trial.stopped_by = ""
            self._move(trial, "resumed")
        elif how == "restart":
            trial.branch_off()
            self._move(trial, "restarted")
        else:
            trial.mark = max(trial.mark, trial.number)  # a row that waited for a decision stands without one
            self._move(trial, "skipped")

    def _suggested(self, event: TrialSuggested | NothingSuggested) -> None:
        if isinstance(event, NothingSuggested):
            self.exhausted = self.exhausted or event.finished
            return
        trial = TrialState(
            trial_id=event.trial_id,
            index=len(self.trials),
            name=event.name,
            dirname=event.dirname,
            tag=event.tag,
            config=event.config,
            evaluated=event.evaluated,
        )
        self.trials[event.trial_id] = trial
        self.by_index.append(event.trial_id)
        self.unfinished += 1
        self.waiting.add(trial.index)
        if self.stopping:
            self._move(trial, "cancelled")

    def _attempted(self, event: AttemptStarted | AttemptEnded | AttemptLost, wall: float) -> None:
        trial = self.trial(event.trial_id)
        if isinstance(event, AttemptStarted):
            self._move(trial, "started")
            trial.begin(event, wall)
            return
        trial.attempt = event.attempt
        if isinstance(event, AttemptLost):
            trial.next_index += 1  # the lost attempt may have begun to write under the index that it was granted
            self._move(trial, "lost")
        elif event.outcome == "failed":
            trial.next_index += 1
            self._failed(trial, event)
        else:
            if event.outcome == "completed" and trial.number < trial.mark:
                trial.end_early()
            self._move(trial, event.outcome)
            if trial.state == TERMINATED:
                trial.failure = trial.current = None
        if self.stopping and trial.state in (PENDING, PAUSED):
            self._move(trial, "cancelled")

    def _failed(self, trial: TrialState, event: AttemptEnded) -> None:
        failure = event.failure
        if failure is None:
            raise InternalError(f"attempt {event.attempt} of {event.trial_id} failed without a failure")
        if trial.state in (PENDING, "RUNNING", PAUSED):
            trial.failure = failure
            trial.failures += retry.counts(failure)
        self._move(trial, "failed" if retry.allowed(trial, failure, self.policy) else "failed_for_good")

    def _reported(self, event: ResultReported) -> None:
        trial = self.trial(event.trial_id)
        if event.number != trial.number + 1:
            raise InternalError(f"row {event.number} of {event.trial_id} came after row {trial.number}")
        self._move(trial, "reported")
        trial.take(event)

    def _decided(self, event: DecisionMade) -> None:
        trial = self.trial(event.trial_id)
        if event.number != trial.mark + 1:
            raise InternalError(f"a decision on row {event.number} of {event.trial_id} came after one on row {trial.mark}")
        self._move(trial, event.action.lower())
        trial.mark = event.number
        trial.changes = event.changes
        if event.action == "STOP":
            trial.stopped_by = event.by
        if event.stop_all:
            self._stop_all(event.by)

    def _stop_all(self, why: str) -> None:
        self.stopping = why
        for index in sorted(self.waiting | self.paused):
            self._move(self.at(index), "cancelled")

    def _move(self, trial: TrialState, signal: str) -> None:
        before = trial.state
        trial.move(signal)
        after = trial.state
        if before == after:
            return
        self.unfinished += (after not in FINAL) - (before not in FINAL)
        if before == PENDING:
            self.waiting.discard(trial.index)
        elif before == PAUSED:
            self.paused.discard(trial.index)
        if after == PENDING:
            self.waiting.add(trial.index)
        elif after == PAUSED:
            self.paused.add(trial.index)
