"""The whole experiment as the journal tells it: `fold` one record after another and you have today's state.

Knows facts only. Refuses to know what ought to happen next: that is `controller.py`. The driver, the screens and the
command line all fold with this one function, so that there is one truth of where a trial is.
"""

from __future__ import annotations

from typing import Union

import msgspec

from holdfast._core.attempts import Tally, attempted
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointBroken,
    CheckpointCommitted,
    CheckpointDeleted,
    CheckpointDropped,
    CheckpointLost,
    DecisionMade,
    EpochEnded,
    EpochStarted,
    ExperimentCreated,
    InexactFound,
    JobExtended,
    NothingSuggested,
    Record,
    RequestReceived,
    ResourcesChanged,
    ResultReported,
    SchedulerOrdered,
    TailCut,
    TrialChosen,
    TrialSuggested,
    Woke,
    unexpected,
)
from holdfast._core.extension import extend
from holdfast._core.policy import Policy
from holdfast._core.steering import pinned, settle, spoil, steer
from holdfast._core.succession import hold, take_over
from holdfast._core.trial import FINAL, PAUSED, PENDING, TrialState
from holdfast.errors import InternalError

__all__ = ["ExperimentState"]

_OfTheWhole = Union[
    ExperimentCreated,
    EpochStarted,
    EpochEnded,
    TailCut,
    CheckpointDeleted,
    Woke,
    InexactFound,
    RequestReceived,
    TrialChosen,
    SchedulerOrdered,
    JobExtended,
    ResourcesChanged,
]


class ExperimentState(msgspec.Struct):
    """What the records up to `position` say.

    Attributes:
        position, time, wall: Of the newest record; -1 before the first.
        created: The birth record: the job as it was submitted.
        rules: The job's rules in force; see `policy`.
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
        revived: Finished trials that the newest epoch, or extension, took up again.
        cancelled: Trials that the newest record ended and that had no worker.
        steps: How many decisions, suggestions and choices there were: the same whatever crashed in between.
        moved: Indices of the trials that the newest record made or brought into another state.
        kept_bytes: Size of all checkpoints that are kept.
        held: Whether somebody asked that the whole experiment pause.
        requests: Ids of the requests and extensions that were taken up.
        extensions: What was asked for beside the job as submitted, oldest first.
        extended_at: Position of the newest of them; -1 before the first.
        varied: Whether some trial has needs of its own.
        heirs: Ids of trials that go on from a checkpoint of another, or of their own before they were changed.
        tally: How the attempts have gone since the newest driver took charge.
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
    kept_bytes: int = 0
    varied: bool = False
    held: bool = False
    requests: set[str] = set()
    heirs: set[str] = set()
    cancelled: list[str] = []
    moved: list[int] = []
    steps: int = 0
    tally: Tally = msgspec.field(default_factory=Tally)
    rules: Policy | None = None
    extensions: list[JobExtended] = []
    extended_at: int = -1

    @property
    def policy(self) -> Policy:
        """The job's rules, as they are now."""
        if self.rules is None:
            raise InternalError("no birth record was folded")
        return self.rules

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
        if self.cancelled or self.moved:
            self.cancelled, self.moved = [], []
        event = record.event
        if isinstance(event, ResultReported):
            self._reported(event, record.time)
        elif isinstance(event, DecisionMade):
            self._decided(event)
        elif isinstance(event, (TrialSuggested, NothingSuggested)):
            self._suggested(event)
        elif isinstance(event, (AttemptStarted, AttemptEnded, AttemptLost)):
            attempted(self, event, record)
        elif isinstance(event, CheckpointCommitted):
            self.trial(event.trial_id).commit(event)
            self.kept_bytes += event.saved.size
            settle(self, self.trial(event.trial_id))
        elif isinstance(event, CheckpointBroken):
            spoil(self, self.trial(event.trial_id), event.index, event.donor)
        elif isinstance(event, (CheckpointDropped, CheckpointLost)):
            _given_up(self, event)
        else:
            self._of_the_whole(event)
        self.position = record.position
        self.time = record.time
        self.wall = record.wall

    def _of_the_whole(self, event: _OfTheWhole) -> None:
        match event:
            case ExperimentCreated():
                self.created, self.rules = event, event.policy
                self.definitions = dict(event.definitions)
            case EpochStarted():
                take_over(self, event)
            case ResourcesChanged():
                hold(self, event)
            case EpochEnded():
                self.ended = event.reason
            case TailCut():
                self.cuts.append(event)
            case CheckpointDeleted():
                pass  # the fact matters to the open order that it answers, not to the state
            case Woke():
                if not event.trial_id:
                    self.stop_all("budget")
            case InexactFound():
                self.inexact.append(event)
            case RequestReceived():
                _requested(self, event)
            case TrialChosen() | SchedulerOrdered():
                self.steps += isinstance(event, TrialChosen) and bool(event.trial_id)
                steer(self, event.orders)
            case JobExtended():
                extend(self, event, self.position + 1)
            case _:
                unexpected(event)

    def _suggested(self, event: TrialSuggested | NothingSuggested) -> None:
        if isinstance(event, NothingSuggested):
            # One that was asked before an extension does not know of it.
            self.exhausted = self.exhausted or (event.finished and event.heard >= self.extended_at)
            return
        trial = TrialState(
            trial_id=event.trial_id,
            index=len(self.trials),
            name=event.name,
            dirname=event.dirname,
            tag=event.tag,
            config=event.config,
            evaluated=event.evaluated,
            resources=event.resources,
            placement=event.placement,
        )
        self.steps += 1
        self.trials[event.trial_id] = trial
        self.varied = self.varied or event.resources is not None
        self.by_index.append(event.trial_id)
        self.unfinished += 1
        self.waiting.add(trial.index)
        self.moved.append(trial.index)
        if self.stopping:
            self.cut_short(trial)

    def _reported(self, event: ResultReported, time: float) -> None:
        trial = self.trial(event.trial_id)
        if event.number != trial.number + 1:
            raise InternalError(f"row {event.number} of {event.trial_id} came after row {trial.number}")
        self.move(trial, "repeated" if trial.owes else "reported")
        trial.take(event)
        trial.progressed = time
        if event.saved is not None:
            self.kept_bytes += event.saved.size
            settle(self, trial)

    def _decided(self, event: DecisionMade) -> None:
        trial = self.trial(event.trial_id)
        if event.number != trial.mark + 1:
            raise InternalError(f"a decision on row {event.number} of {event.trial_id} came after one on row {trial.mark}")
        self.move(trial, event.action.lower())
        self.steps += 1
        trial.mark = event.number
        trial.changes = event.changes
        if event.action == "STOP":
            trial.cut_short = "" if trial.unwanted or event.by != self.stopping else self.stopping
            trial.stopped_by = "scheduler" if event.by == "order" else event.by
            trial.unwanted = False
        if event.action != "CONTINUE":
            trial.ordered = ""
        if event.stop_all:
            self.stop_all(event.by)
        if event.orders:
            steer(self, event.orders)

    def stop_all(self, why: str) -> None:
        """The whole experiment ends early: what has no worker ends now, what runs with its next row."""
        self.stopping = why
        for index in sorted(self.waiting | self.paused):
            if not self.at(index).owes:
                self.cut_short(self.at(index))

    def cut_short(self, trial: TrialState) -> None:
        """Ends a trial that has no worker, because the whole experiment is ending."""
        trial.cut_short = self.stopping
        self.move(trial, "cancelled")

    def move(self, trial: TrialState, signal: str) -> None:
        """Has a trial go to its next state, and keeps the account of who waits."""
        before = trial.state
        trial.move(signal)
        after = trial.state
        if before == after:
            return
        self.moved.append(trial.index)
        if signal == "cancelled":
            self.cancelled.append(trial.trial_id)
        trial.owes = signal == "owing" or (trial.owes and after not in FINAL)
        self.unfinished += (after not in FINAL) - (before not in FINAL)
        if before == PENDING:
            self.waiting.discard(trial.index)
        elif before == PAUSED:
            self.paused.discard(trial.index)
        if after == PENDING:
            self.waiting.add(trial.index)
        elif after == PAUSED:
            self.paused.add(trial.index)


def _requested(state: ExperimentState, event: RequestReceived) -> None:
    """Somebody asked from outside that all, or one trial, stop, pause or go on."""
    state.requests.add(event.request)
    if not event.trial_id:
        if event.verb == "stop":
            state.stop_all("request")
        state.held = event.verb == "pause"
        return
    trial = state.trial(event.trial_id)
    trial.held = event.verb == "pause"
    if event.verb == "stop" and trial.state in (PENDING, PAUSED) and not trial.owes:
        state.move(trial, "cancelled")
    elif event.verb == "stop":
        trial.unwanted = trial.state not in FINAL


def _given_up(state: ExperimentState, event: CheckpointDropped | CheckpointLost) -> None:
    """A checkpoint is there no more, unless it is needed after all."""
    trial = state.trial(event.trial_id)
    if state.heirs and (event.trial_id, event.index) in pinned(state):
        return  # a trial was told to go on from it while the drop was on its way: it stays
    state.kept_bytes -= sum(kept.saved.size for kept in trial.kept if kept.saved.index == event.index)
    trial.forget(event.index)
