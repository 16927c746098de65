"""The controller: one record in, the orders that follow from it out.

A function of the records alone: it reads no clock, draws no chance and touches nothing. So the orders of a replayed
record are the orders of the first time, and recovery is: replay, drop the orders already answered, carry out the
rest (`open_orders`).
"""

from __future__ import annotations

import msgspec

from holdfast._core import admission, retention
from holdfast._core.commands import (
    AskSearcher,
    Command,
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
    CheckpointDeleted,
    CheckpointDropped,
    DecisionMade,
    EpochStarted,
    ExperimentCreated,
    NothingSuggested,
    Record,
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
        ending: Whether `EndEpoch` was given in this epoch.
        places: How many attempts may run at once with this driver; -1 until it is reckoned.
    """

    state: ExperimentState = msgspec.field(default_factory=ExperimentState)
    open_orders: dict[str, Order] = {}
    running: dict[str, str] = {}
    deciding: dict[str, str] = {}
    asking: str = ""
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
        return _Turn(self, record).commands

    def capacity(self) -> int:
        """How many attempts may run at once with the present driver's resources."""
        epoch = self.state.epoch
        if self.places < 0 and epoch is not None:
            self.places = admission.capacity(epoch.resources, self.state.policy)
        return max(self.places, 0)

    def first(self, indices: set[int]) -> TrialState | None:
        """The earliest trial of those that has no attempt on its way yet."""
        by_index, running = self.state.by_index, self.running
        index = min((i for i in indices if by_index[i] not in running), default=None)
        return None if index is None else self.state.at(index)

    def wants_another(self) -> bool:
        """Whether the searcher is to be asked now: it may have more, it has heard something new, and too few trials wait."""
        if self.asking or not self.heard_since or not self.more_to_come():
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


class _Turn:
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
            question = Decide(self._next_id(), event.trial_id, event.number)
            self.it.deciding[event.trial_id] = question.order
            self._order(question)
        else:  # redone after a crash: decided already, and the decision was to go on
            self.commands.append(Reply(event.trial_id, event.attempt, event.number, "CONTINUE"))
            self._drop_surplus(trial)

    def _on_decision(self, event: DecisionMade) -> None:
        self.it.open_orders.pop(self.it.deciding.pop(event.trial_id, ""), None)
        trial = self.state.trial(event.trial_id)
        self.commands.append(Reply(event.trial_id, trial.attempt, event.number, event.action))
        self._drop_surplus(trial)
        self.it.heard_since = True
        if event.stop_all:
            self._stop()

    def _on_other(self, record: Record) -> None:
        event = record.event
        if isinstance(event, AttemptStarted):
            return  # its place was taken when it was ordered
        if isinstance(event, ExperimentCreated):
            if event.policy.time_budget_s:
                self._order(WakeAt(self._next_id(), event.policy.time_budget_s))
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
            self._order(DeleteCheckpoint(self._next_id(), trial.trial_id, trial.dirname, event.index))
        elif isinstance(event, CheckpointDeleted):
            self.it.open_orders.pop(event.order, None)
        elif isinstance(event, Woke):
            self.it.open_orders.pop(event.order, None)
            self._stop()
        if self.state.epoch is not None and not self.state.ended:
            self._fill()

    def _on_attempt_over(self, event: AttemptEnded | AttemptLost) -> None:
        order = self.it.running.pop(event.trial_id, "")
        self.it.open_orders.pop(order, None)
        self.it.heard_since = True
        trial = self.state.trial(event.trial_id)
        if trial.state in FINAL:
            self._drop_surplus(trial)
        if trial.state == ERROR and isinstance(event, AttemptEnded) and self.state.policy.fail_fast:
            self._end("fail_fast")

    def _fill(self) -> None:
        """Gives free places to waiting trials, and asks for another trial when too few wait."""
        it = self.it
        if it.ending:
            return
        if it.nothing_left():
            if not it.running:
                self._end("finished")
            return
        free = it.capacity() - len(it.running)
        while free > 0 and (trial := it.first(self.state.waiting)):
            self._start(trial)
            free -= 1
        while free > 0 and not it.more_to_come() and (trial := it.first(self.state.paused)):
            self._start(trial)
            free -= 1
        if it.wants_another():
            it.asking = self._next_id()
            self._order(AskSearcher(it.asking, len(self.state.trials)))

    def _start(self, trial: TrialState) -> None:
        point = trial.resume_point()
        order = StartAttempt(
            order=self._next_id(),
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
            resources=self.state.policy.request,
        )
        self.it.running[trial.trial_id] = order.order
        self._order(order)

    def _stop(self) -> None:
        """The whole experiment ends early: attempts still on their way to a worker are called back."""
        for trial_id, order in self.it.running.items():
            start = self.it.open_orders[order]
            if self.state.trial(trial_id).state in FINAL and isinstance(start, StartAttempt):
                self.commands.append(KillAttempt(trial_id, start.attempt))
        self._fill()

    def _drop_surplus(self, trial: TrialState) -> None:
        for index in retention.surplus(trial, self.state.policy):
            self._order(DropCheckpoint(self._next_id(), trial.trial_id, index))

    def _end(self, reason: str) -> None:
        if not self.it.ending:
            self.it.ending = True
            self.commands.append(EndEpoch(reason))

    def _order(self, order: Order) -> None:
        self.it.open_orders[order.order] = order
        self.commands.append(order)

    def _next_id(self) -> str:
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
