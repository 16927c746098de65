"""The controller: one record in, the orders that follow from it out.

A function of the records alone: it reads no clock, draws no chance and touches nothing. So the orders of a replayed
record are the orders of the first time, and recovery is: replay, drop the orders already answered, carry out the
rest (`open_orders`).
"""

from __future__ import annotations

import msgspec

from holdfast._core import admission, retention, times
from holdfast._core.commands import (
    AskSearcher,
    Command,
    CommitCheckpoint,
    Decide,
    DeleteCheckpoint,
    DropCheckpoint,
    EndEpoch,
    KillAttempt,
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
    ExperimentCreated,
    NothingSuggested,
    Record,
    RequestReceived,
    ResultReported,
    TrialSuggested,
    Woke,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import order_id
from holdfast._core.trial import ERROR, FINAL, RUNNING, TrialState

__all__ = ["Controller"]


class Controller(msgspec.Struct):
    """The state, and the orders that wait for an answer.

    Attributes:
        state: The fold of all records handled.
        open_orders: Orders by id that no event has answered yet, in the order in which they were given.
        running: Trial id → id of its open `StartAttempt`.
        deciding: Trial id → id of its open `Decide`.
        asking: The id of the open `AskSearcher`, or empty.
        heard_since: Whether something happened since the searcher last answered that it has nothing for now.
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

    def handle(self, record: Record) -> list[Command]:
        """Takes one record in and says what is to be done because of it.

        Every order's id is `<epoch>.<position>.<n>` of this record, and order matters: commands are carried out
        as they stand in the list.

        Raises:
            IllegalTransition: The record does not fit what came before. The driver stops.
        """
        self.state.fold(record)
        return Turn(self, record).commands

    def first(self, indices: set[int]) -> TrialState | None:
        """The earliest trial of those that has no attempt on its way yet, if there is room for it now.

        A trial whose newest checkpoint is still being completed waits for that. One that does not fit yet is not overtaken:
        else a trial with a large need might wait for ever.
        """
        if not indices or self.state.held or not (self.state.varied or len(self.running) < self.capacity()):
            return None
        index = min(filter(self._may_start, indices), default=None)
        trial = None if index is None else self.state.at(index)
        return trial if trial is not None and self._has_room(trial) else None

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

    def _has_room(self, trial: TrialState) -> bool:
        policy, epoch = self.state.policy, self.state.epoch
        if not self.state.varied:
            return True  # there is a place, and all places are alike
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
        by_index, running = self.state.by_index, self.running
        return sum(by_index[i] not in running for i in self.state.waiting) < self.state.policy.ahead

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
        if isinstance(event, ResultReported):
            self._on_row(event)
        elif isinstance(event, DecisionMade):
            self._on_decision(event)
        else:
            self._on_other(record)

    def _on_row(self, event: ResultReported) -> None:
        trial = self.state.trial(event.trial_id)
        if event.number > trial.mark:
            question = Decide(self.next_id(), event.trial_id, event.number)
            self.it.deciding[event.trial_id] = question.order
            self.order(question)
        else:  # redone after a crash: decided already; the decision was to go on, or to stop here with a checkpoint
            action = "STOP" if trial.owes and event.number == trial.mark else "CONTINUE"
            self.commands.append(Reply(event.trial_id, event.attempt, event.number, action))
            self._drop_surplus(trial)

    def _on_decision(self, event: DecisionMade) -> None:
        self.it.open_orders.pop(self.it.deciding.pop(event.trial_id, ""), None)
        trial = self.state.trial(event.trial_id)
        self.commands.append(Reply(event.trial_id, trial.attempt, event.number, event.action, event.save))
        self._drop_surplus(trial)
        self.it.heard_since = True
        if event.stop_all:
            self._stop()

    def _on_other(self, record: Record) -> None:
        event = record.event
        if isinstance(event, AttemptStarted):
            times.set_bounds(self, event)  # its place was taken when it was ordered
            return
        if isinstance(event, ExperimentCreated):
            if event.policy.time_budget_s:
                self.order(WakeAt(self.next_id(), event.policy.time_budget_s))
        elif isinstance(event, EpochStarted):
            self.it.ending = False
            self.it.places = -1
            _forget_moot(self.it)
        elif isinstance(event, (TrialSuggested, NothingSuggested)):
            self.it.open_orders.pop(event.order, None)
            self.it.asking = ""
            self.it.heard_since = isinstance(event, TrialSuggested)
        elif isinstance(event, (AttemptEnded, AttemptLost)):
            self._on_attempt_over(event)
        elif isinstance(event, CheckpointDropped):
            self.it.open_orders.pop(event.order, None)
            trial = self.state.trial(event.trial_id)
            self.order(DeleteCheckpoint(self.next_id(), trial.trial_id, trial.dirname, event.index))
        elif isinstance(event, CheckpointDeleted):
            self.it.open_orders.pop(event.order, None)
        elif isinstance(event, (CheckpointCommitted, CheckpointLost)):
            self.it.open_orders.pop(event.order, None)
            self._drop_surplus(self.state.trial(event.trial_id))
        elif isinstance(event, RequestReceived):
            self._on_request(event)
        elif isinstance(event, Woke):
            self.it.open_orders.pop(event.order, None)
            if not event.trial_id:
                self._stop()
            elif event.why == "retry":
                self.it.delayed.pop(event.trial_id, None)
            else:
                times.bound(self, event)
        if self.state.epoch is not None and not self.state.ended:
            self._fill()

    def _on_attempt_over(self, event: AttemptEnded | AttemptLost) -> None:
        order = self.it.running.pop(event.trial_id, "")
        self.it.open_orders.pop(order, None)
        self.it.heard_since = True
        self.it.killing.pop(event.trial_id, None)
        for deadline in self.it.deadlines.pop(event.trial_id, ()):
            self.it.open_orders.pop(deadline, None)
        trial = self.state.trial(event.trial_id)
        times.delay_retry(self, trial)
        for left in trial.pending:
            self.order(CommitCheckpoint(self.next_id(), trial.trial_id, event.attempt, trial.dirname, left.number, left.saved))
        if trial.state in FINAL:
            self._drop_surplus(trial)
        if trial.state == ERROR and isinstance(event, AttemptEnded) and self.state.policy.fail_fast:
            self._end("fail_fast")
        if self.state.tally.too_many(self.state.policy):
            self._end("failures")

    def _on_request(self, event: RequestReceived) -> None:
        """Running attempts hear of it with the answer to their next row; one still on its way is called back."""
        if event.verb == "stop" and not event.trial_id:
            self._stop()
        elif event.trial_id in self.it.running and self.state.trial(event.trial_id).state in FINAL:
            start = self.it.open_orders[self.it.running[event.trial_id]]
            assert isinstance(start, StartAttempt)
            self.commands.append(KillAttempt(event.trial_id, start.attempt))

    def _fill(self) -> None:
        """Gives free places to waiting trials, and asks for another trial when too few wait."""
        it = self.it
        if it.ending:
            return
        if it.nothing_left():
            if not it.running and not any(isinstance(order, CommitCheckpoint) for order in it.open_orders.values()):
                self._end("finished")
            return
        while trial := it.first(self.state.waiting):
            self._start(trial)
        while not it.more_to_come() and (trial := it.first(self.state.paused)):
            self._start(trial)
        if it.wants_another():
            it.asking = self.next_id()
            self.order(AskSearcher(it.asking, len(self.state.trials)))

    def _start(self, trial: TrialState) -> None:
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
        )
        self.it.running[trial.trial_id] = order.order
        self.order(order)

    def _stop(self) -> None:
        """The whole experiment ends early: attempts still on their way to a worker are called back."""
        for trial_id, order in self.it.running.items():
            start = self.it.open_orders[order]
            if self.state.trial(trial_id).state in FINAL and isinstance(start, StartAttempt):
                self.commands.append(KillAttempt(trial_id, start.attempt))
        self._fill()

    def _drop_surplus(self, trial: TrialState) -> None:
        for index in retention.surplus(trial, self.state.policy):
            self.order(DropCheckpoint(self.next_id(), trial.trial_id, index))
        if 0 < self.state.policy.max_total_bytes < self.state.kept_bytes:
            given_up = {(o.trial_id, o.index) for o in self.it.open_orders.values() if isinstance(o, DropCheckpoint)}
            for trial_id, index in retention.over_budget(self.state.trials.values(), self.state.policy, given_up):
                self.order(DropCheckpoint(self.next_id(), trial_id, index))

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


def _forget_moot(controller: Controller) -> None:
    """Drops what the last driver left open about rows and checkpoints that a new one has just skipped or begun anew."""
    for trial_id, order in list(controller.deciding.items()):
        if controller.state.trial(trial_id).state != RUNNING:
            del controller.deciding[trial_id]
            controller.open_orders.pop(order)
    for left in list(controller.open_orders.values()):
        if isinstance(left, DropCheckpoint):
            kept = controller.state.trial(left.trial_id).kept
            if all(one.saved.index != left.index for one in kept):
                controller.open_orders.pop(left.order)
        elif isinstance(left, CommitCheckpoint):
            pending = controller.state.trial(left.trial_id).pending
            if all(one.saved.index != left.saved.index for one in pending):
                controller.open_orders.pop(left.order)
