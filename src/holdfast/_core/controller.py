"""The controller: one record in, the orders that follow from it out.

A function of the records alone: it reads no clock, draws no chance and touches nothing. So the orders of a replayed
record are the orders of the first time, and recovery is: replay, drop the orders already answered, carry out the
rest (`open_orders`).
"""

from __future__ import annotations

import msgspec

from holdfast._core import admission, dropping, interventions, times
from holdfast._core.commands import (
    AskSearcher,
    ChooseTrial,
    Command,
    CommitCheckpoint,
    Decide,
    DeleteCheckpoint,
    EndEpoch,
    Order,
    Reply,
    StartAttempt,
    WakeAt,
)
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointCommitted,
    CheckpointDeleted,
    CheckpointDropped,
    CheckpointLost,
    DecisionMade,
    EpochStarted,
    Event,
    ExperimentCreated,
    JobExtended,
    NothingSuggested,
    Record,
    RequestReceived,
    ResourcesChanged,
    ResultReported,
    SchedulerOrdered,
    TrialChosen,
    TrialSuggested,
    Woke,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import order_id
from holdfast._core.trial import ERROR, FINAL, PENDING, Inherited, TrialState

__all__ = ["Controller"]


class Controller(msgspec.Struct):
    """The state, and the orders that wait for an answer.

    Attributes:
        state: The fold of all records handled.
        open_orders: Orders by id that no event has answered yet, in the order in which they were given.
        running: Trial id → id of its open `StartAttempt`.
        idle: Indices of PENDING trials that have none.
        deciding: Trial id → id of its open `Decide`.
        asking: The id of the open `AskSearcher`, or empty.
        choosing: The id of the open `ChooseTrial`, or empty.
        recalled: Trials whose running attempt was taken back: all that comes from it is its end.
        lost: Trials whose attempt was lost, in that order: they were chosen before, and go on first.
        news: Whether something happened since the scheduler last chose no trial.
        heard_since: Whether something happened that the searcher had not heard when it last answered that it has nothing for now.
        heard_at: The position of the newest record that may change what the searcher says.
        delayed: Trial id → id of the open `WakeAt` before which it is not tried again.
        deadlines: Trial id → ids of the open `WakeAt` orders that bound its running attempt.
        killing: Trial id → the kind of failure for which its running attempt was ordered to be killed.
        ending: Whether `EndEpoch` was given in this epoch.
        places: How many attempts of trials without needs of their own may run at once with this driver; -1 until reckoned.
    """

    state: ExperimentState = msgspec.field(default_factory=ExperimentState)
    open_orders: dict[str, Order] = {}
    running: dict[str, str] = {}
    deciding: dict[str, str] = {}
    asking: str = ""
    delayed: dict[str, str] = {}
    deadlines: dict[str, list[str]] = {}
    killing: dict[str, str] = {}
    heard_since: bool = True
    ending: bool = False
    places: int = -1
    choosing: str = ""
    news: bool = True
    recalled: set[str] = set()
    lost: list[str] = []
    heard_at: int = -1
    idle: set[int] = set()

    def handle(self, record: Record) -> list[Command]:
        """Takes one record in and says what is to be done because of it.

        Every order's id is `<epoch>.<position>.<n>` of this record, and order matters: commands are carried out
        as they stand in the list.

        Raises:
            IllegalTransition: The record does not fit what came before. The driver stops.
        """
        self.state.fold(record)
        for index in self.state.moved:
            self.sort_in(self.state.at(index))
        return Turn(self, record).commands

    def sort_in(self, trial: TrialState) -> None:
        """Keeps the account of who is idle."""
        if trial.state == PENDING and trial.trial_id not in self.running:
            self.idle.add(trial.index)
        else:
            self.idle.discard(trial.index)

    def first(self, indices: set[int]) -> TrialState | None:
        """The earliest trial of those that has no attempt on its way yet, if there is room for it now.

        A trial whose newest checkpoint is still being completed waits for that. One that does not fit yet is not overtaken:
        else a trial with a large need might wait for ever.
        """
        if not indices or not self._has_place():
            return None
        index = min(filter(self._may_start, indices), default=None)
        trial = None if index is None else self.state.at(index)
        return trial if trial is not None and self.has_room(trial) else None

    def may_choose(self) -> bool:
        """Whether the scheduler is to be asked for a trial now: some trial could start, and it has heard something new."""
        if self.choosing or not self.news or not self._has_place():
            return False
        state = self.state
        return any(self.startable(state.at(index)) for indices in (self.idle, state.paused) for index in indices)

    def startable(self, trial: TrialState) -> bool:
        """Whether an attempt of the trial could start now."""
        index = trial.index
        waits = index in self.state.waiting or index in self.state.paused
        return waits and self._has_place() and self._may_start(index) and self.has_room(trial)

    def _has_place(self) -> bool:
        return not self.state.held and (self.state.varied or len(self.running) < self.capacity())

    def _may_start(self, index: int) -> bool:
        trial_id = self.state.by_index[index]
        trial = self.state.trials[trial_id]
        return trial_id not in self.running and trial_id not in self.delayed and not (trial.pending or trial.held)

    def capacity(self) -> int:
        """How many attempts may run at once with the present driver, where no trial has needs of its own."""
        epoch = self.state.epoch
        if self.places < 0 and epoch is not None:
            self.places = admission.capacity(epoch.resources, self.state.policy)
        return max(self.places, 0)

    def has_room(self, trial: TrialState) -> bool:
        """Whether what the trial is given is free now."""
        policy, epoch = self.state.policy, self.state.epoch
        if not self.state.varied:
            return len(self.running) < self.capacity()
        if epoch is None or 0 < policy.max_concurrent <= len(self.running):
            return False
        request = admission.request_of(trial, policy)
        return admission.fits(request, epoch.resources, map(self._resources_of, self.running.values()))

    def _resources_of(self, order: str) -> dict[str, float]:
        start = self.open_orders[order]
        return start.resources if isinstance(start, StartAttempt) else {}

    def wants_another(self) -> bool:
        """Whether the searcher is to be asked now: it may have more, it has heard something new, and too few trials wait."""
        if self.asking or self.state.held or not self.heard_since or not self.more_to_come():
            return False
        return len(self.idle) < self.state.policy.ahead

    def more_to_come(self) -> bool:
        """Whether the searcher may still give a trial that has not run yet; those go before paused ones."""
        limit = self.state.policy.num_samples
        if self.state.exhausted or self.state.stopping or 0 <= limit <= len(self.state.trials):
            return False
        return self.heard_since or bool(self.running)

    def nothing_left(self) -> bool:
        """Whether all is run, or the searcher has nothing to give and nothing is left that could change its mind."""
        return self.state.over or not (self.state.unfinished or self.heard_since or self.asking)


class Turn:
    """The handling of one record: collects its commands and numbers its orders."""

    def __init__(self, controller: Controller, record: Record) -> None:
        self.it = controller
        self.state = controller.state
        self.record = record
        self.commands: list[Command] = []
        event = record.event
        if self._tells_searcher(event):
            self.it.heard_since, self.it.heard_at = True, record.position
        if isinstance(event, ResultReported):
            self._on_row(event)
        elif isinstance(event, DecisionMade):
            self._on_decision(event)
        else:
            self._on_other(record)

    def _tells_searcher(self, event: Event) -> bool:
        """Whether it may change what the searcher answers next. It hears of no attempt's end but a trial's last one."""
        if isinstance(event, (DecisionMade, JobExtended)) or self.state.cancelled:
            return True
        return isinstance(event, (AttemptEnded, AttemptLost)) and self.state.trial(event.trial_id).state in FINAL

    def _on_row(self, event: ResultReported) -> None:
        trial = self.state.trial(event.trial_id)
        if event.number > trial.mark:
            question = Decide(self.next_id(), event.trial_id, event.number)
            self.it.deciding[event.trial_id] = question.order
            self.order(question)
        else:  # redone after a crash: decided already; the decision was to go on, or to stop here with a checkpoint
            action = "STOP" if trial.owes and event.number == trial.mark else "CONTINUE"
            self.commands.append(Reply(event.trial_id, event.attempt, event.number, action))
            dropping.drop_surplus(self, trial)

    def _on_decision(self, event: DecisionMade) -> None:
        self.it.open_orders.pop(self.it.deciding.pop(event.trial_id, ""), None)
        trial = self.state.trial(event.trial_id)
        self.commands.append(Reply(event.trial_id, trial.attempt, event.number, event.action, event.save))
        dropping.drop_surplus(self, trial)
        self.it.news = True
        if event.stop_all:
            interventions.stop(self)
        elif event.orders:
            interventions.heed(self, event.orders)
            self.fill()
        elif self.state.policy.chooses and self.it.may_choose():
            self.fill()

    def _on_other(self, record: Record) -> None:
        event = record.event
        if isinstance(event, AttemptStarted):
            times.set_bounds(self, event)
            if not self.state.policy.chooses:
                return  # its place was taken when it was ordered
        self.it.news = True
        if isinstance(event, (TrialSuggested, NothingSuggested)):
            self.it.open_orders.pop(event.order, None)
            self.it.asking = ""
            self.it.heard_since = isinstance(event, TrialSuggested) or self.it.heard_at > event.heard
        elif isinstance(event, (AttemptEnded, AttemptLost)):
            self._on_attempt_over(event)
        elif isinstance(event, ExperimentCreated):
            if event.policy.time_budget_s:
                self.order(WakeAt(self.next_id(), event.policy.time_budget_s))
        elif isinstance(event, EpochStarted):
            self.it.ending = False
            self.it.places = -1
            dropping.forget_moot(self.it)
        elif isinstance(event, ResourcesChanged):
            self.it.places = -1
        elif isinstance(event, CheckpointDropped):
            self.it.open_orders.pop(event.order, None)
            trial = self.state.trial(event.trial_id)
            if all(kept.saved.index != event.index for kept in trial.kept):  # else it was pinned meanwhile, and stays
                self.order(DeleteCheckpoint(self.next_id(), trial.trial_id, trial.dirname, event.index))
        elif isinstance(event, CheckpointDeleted):
            self.it.open_orders.pop(event.order, None)
        elif isinstance(event, (CheckpointCommitted, CheckpointLost)):
            self.it.open_orders.pop(event.order, None)
            dropping.drop_surplus(self, self.state.trial(event.trial_id))
        elif isinstance(event, RequestReceived):
            interventions.on_request(self, event)
        elif isinstance(event, JobExtended):
            interventions.on_extension(self, event)
        elif isinstance(event, (TrialChosen, SchedulerOrdered)):
            interventions.heed(self, event.orders)
            if isinstance(event, TrialChosen):
                interventions.on_choice(self, event)
        elif isinstance(event, Woke):
            self.it.open_orders.pop(event.order, None)
            if not event.trial_id:
                interventions.stop(self)
            elif event.why == "retry":
                self.it.delayed.pop(event.trial_id, None)
            else:
                times.bound(self, event)
        if self.state.epoch is not None and not self.state.ended:
            self.fill()

    def _on_attempt_over(self, event: AttemptEnded | AttemptLost) -> None:
        order = self.it.running.pop(event.trial_id, "")
        self.it.open_orders.pop(order, None)
        self.it.killing.pop(event.trial_id, None)
        self.it.recalled.discard(event.trial_id)
        trial = self.state.trial(event.trial_id)
        self.it.sort_in(trial)
        for deadline in self.it.deadlines.pop(event.trial_id, ()):
            self.it.open_orders.pop(deadline, None)
        if isinstance(event, AttemptLost) and self.state.policy.chooses:
            interventions.note_lost(self, trial)
        times.delay_retry(self, trial)
        for left in trial.pending:
            self.order(CommitCheckpoint(self.next_id(), trial.trial_id, event.attempt, trial.dirname, left.number, left.saved))
        if trial.state in FINAL:
            dropping.drop_surplus(self, trial)
        if trial.state == ERROR and isinstance(event, AttemptEnded) and self.state.policy.fail_fast:
            self._end("fail_fast")
        if self.state.tally.too_many(self.state.policy):
            self._end("failures")

    def fill(self) -> None:
        """Gives free places to waiting trials, and asks for another trial when too few wait."""
        it = self.it
        if it.ending:
            return
        if it.nothing_left():
            if not it.running and not any(isinstance(order, CommitCheckpoint) for order in it.open_orders.values()):
                self._end("finished")
            return
        if self.state.policy.chooses:
            interventions.start_lost(self)
            if it.may_choose():
                it.choosing = self.next_id()
                self.order(ChooseTrial(it.choosing))
        else:
            while trial := it.first(it.idle):
                self.start(trial)
            while not it.more_to_come() and (trial := it.first(self.state.paused)):
                self.start(trial)
        if it.wants_another():
            it.asking = self.next_id()
            self.order(AskSearcher(it.asking, len(self.state.trials)))

    def start(self, trial: TrialState) -> None:
        point = trial.resume_point()
        order = StartAttempt(
            order=self.next_id(),
            trial_id=trial.trial_id,
            attempt=trial.attempt + 1,
            index=trial.index,
            config=trial.config,
            name=trial.name,
            dirname=trial.dirname,
            tag=trial.tag,
            resume=point.saved if point else None,
            number=point.number if point else 0,
            iteration=point.iteration if point else 0,
            time_total_s=point.time_total_s if point else 0.0,
            grant=trial.next_index,
            resources=admission.request_of(trial, self.state.policy),
            placement=trial.placement if trial.resources is not None else self.state.policy.placement,
            donor=point.donor if isinstance(point, Inherited) and point.donor != trial.trial_id else "",
            source=point.source if isinstance(point, Inherited) and point.source != trial.dirname else "",
        )
        self.it.running[trial.trial_id] = order.order
        self.it.idle.discard(trial.index)
        self.order(order)

    def _end(self, reason: str) -> None:
        if not self.it.ending:
            self.it.ending = True
            self.commands.append(EndEpoch(reason))

    def order(self, order: Order) -> None:
        """Gives an order that waits for an answer."""
        self.it.open_orders[order.order] = order
        self.commands.append(order)

    def next_id(self) -> str:
        """The id of the next order of this record."""
        return order_id(self.record.epoch, self.record.position, len(self.commands))
