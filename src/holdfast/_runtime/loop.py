"""The driver: the one loop in the library.

A turn of it: take observations from the engine, put them on record, fold each and ask the plug-ins what it raises, put
their answers on record, and only then carry out what follows. Nothing is decided, acknowledged or done before the
record that it rests on is written and no later driver's claim was seen; nothing irreversible before it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from holdfast._core.commands import (
    AskSearcher,
    ChooseTrial,
    Command,
    CommitCheckpoint,
    Decide,
    DeleteCheckpoint,
    DropCheckpoint,
    EndEpoch,
    KillAttempt,
    Reply,
    StartAttempt,
    WakeAt,
)
from holdfast._core.controller import Controller
from holdfast._core.events import (
    AttemptEnded,
    CheckpointDeleted,
    CheckpointDropped,
    DecisionMade,
    EpochEnded,
    Event,
    Record,
    ResultReported,
    Woke,
    unexpected,
)
from holdfast._journal import Journal
from holdfast._runtime.advice import Advice, Judgement
from holdfast._runtime.callbacks import CallbackDesk
from holdfast._runtime.gate import Gate
from holdfast._runtime.inbox import Inbox
from holdfast._runtime.removals import Removals
from holdfast._runtime.snapshots import Snapshots
from holdfast.clock import Clock, SystemClock
from holdfast.engines.base import Engine, Observation
from holdfast.faults import reach
from holdfast.storage.base import AppendingStorage, Storage

__all__ = ["Driver", "Follower", "Parts"]

_TICK_S = 0.02  # how long a stream of observations may keep the loop from all else
_TURN_S = 0.1  # longest wait while something is due soon: the journal's sync, files, ticks of callbacks


class Follower(Protocol):
    """Something that follows the journal behind the report's path: file loggers, the terminal."""

    def hear(self, record: Record) -> None:
        """Takes note of a record that was just folded; cheap."""

    def tick(self, now: float) -> bool:
        """Does what has come due; returns whether something is still waiting."""

    def settle(self) -> None:
        """Brings to its place what must be there when the record says that the experiment has ended."""

    def close(self) -> None:
        """Finishes what is waiting."""


class Parts(NamedTuple):
    """What the loop is made of; put together by the assembly.

    `strict`: act only on what is durable. `staged`: where attempts stage checkpoints, if not in `storage`.
    """

    journal: Journal
    controller: Controller
    engine: Engine
    advice: Advice
    callbacks: CallbackDesk
    followers: Sequence[Follower]
    snapshots: Snapshots
    storage: Storage
    clock: Clock
    strict: bool = False
    staged: Storage | None = None

    @property
    def aside(self) -> bool:
        """Whether storage is asked by threads beside the loop: a store, which must not keep the driver from its trials."""
        return not isinstance(self.storage, AppendingStorage) and isinstance(self.clock, SystemClock)

    @property
    def two_minds(self) -> bool:
        """Whether a searcher thinks in a thread of its own.

        Not where time is played and would run on meanwhile, nor where trials run in this thread, whose chance it would draw from.
        """
        return isinstance(self.clock, SystemClock) and not hasattr(self.engine, "attend")


class Driver:
    """Runs one epoch of an experiment, from the end of recovery to its end.

    Attributes:
        ending: Why the epoch ends, once it does: "finished" or "fail_fast".
    """

    def __init__(self, parts: Parts, time_before: float) -> None:
        self.parts = parts
        self.controller = parts.controller
        self.state = parts.controller.state
        self.ending = ""
        self._began = parts.clock.monotonic() - time_before
        self._outbox: list[Command] = []
        self._timers: dict[str, float] = {}
        self._next_tick, self._busy = 0.0, True
        self._unnamed: list[tuple[str, int]] = []
        self._removals = Removals(parts.storage, parts.staged or parts.storage, parts.engine.wake, aside=parts.aside)
        self._gate = Gate(parts.controller, parts.advice)
        self._inbox = Inbox(parts.storage, self.state, aside=parts.aside)
        self._leaving: set[str] = set()  # orders of the attempts that ran then
        self._leave_by = 0.0  # when the trials' time to leave is over; 0 while nobody asked them to

    def now(self) -> float:
        """Experiment time: seconds that drivers have been in charge."""
        return self.parts.clock.monotonic() - self._began

    def run(self, interrupted: Callable[[], int], grace_s: float = 0.0) -> None:
        """Turns until the experiment is over, or somebody interrupts it.

        Args:
            interrupted: How often somebody has asked for the end. After the first time trials that report are told to leave:
                class trainables save first; none is started. After the second, or when the time is over, it ends at once.
            grace_s: How long trials may take to leave.

        Raises:
            Fenced: A later driver took over. Nothing more was written.
            StorageError: The disk refuses. What was acknowledged is on record.
            Exception: What a plug-in or callback raised.
        """

        def goes_on() -> bool:
            asked = interrupted()
            if not asked or self.ending:
                return not self.ending
            now, running = self.parts.clock.monotonic(), set(self.controller.running.values())
            if not self._leave_by:
                self._leave_by, self._leaving = now + grace_s, running
            return asked == 1 and now < self._leave_by and bool(self._leaving & running)

        def turn() -> bool:
            if goes_on():
                self._turn()
            return goes_on()

        attend = getattr(self.parts.engine, "attend", None)
        with self._inbox.watched():
            if attend is not None:  # it runs trials in this thread, and a trial that reports lets the driver have its turn
                attend(turn)
            while turn():
                pass

    def _turn(self) -> None:
        engine, callbacks = self.parts.engine, self.parts.callbacks
        callbacks.step(begin=True)
        observations = engine.poll(self._patience(self._busy))
        self.observe(observations)
        passed_over = bool(observations) and self.parts.clock.monotonic() < self._next_tick
        self._busy = passed_over or self.tick()
        callbacks.step(begin=False)

    def observe(self, observations: list[Observation]) -> None:
        """Puts on record what the engine saw, in order.

        A second observation of one trial waits until the first is dealt with: a row is decided before its attempt's
        end is on record.
        """
        batch: list[Event] = []
        trials: set[str] = set()
        for seen in observations:
            if seen.trial_id in trials:
                self.record(batch)
                batch, trials = [], set()
            event = self._gate.admit(seen, leaving=self._leave_by > 0)
            if event is not None:
                batch.append(event)
                trials.add(seen.trial_id)
        if batch:
            self.record(batch)

    def record(self, events: list[Event]) -> None:
        """Puts events on record, has them handled, and carries out what follows when all of it is written.

        User code hears only what is written. Where none is asked, events and the answers to them are written in one piece.
        """
        journal, clock = self.parts.journal, self.parts.clock
        while events:
            answers: list[Event] = []
            records = journal.stage(events, self.now(), clock.wall())
            if self.parts.callbacks.callbacks or self.parts.advice.asks_user_code:
                journal.flush()
            for record in records:
                self._take(record, answers)
            events = [*answers, *self.parts.advice.desk.answers()]
        journal.flush()
        reach("after_append")
        self._carry_out()

    def tick(self) -> bool:
        """Does what has come due between observations; returns whether something waits for the next tick."""
        now = self.parts.clock.monotonic()
        self._next_tick = now + _TICK_S
        journal = self.parts.journal
        journal.tick(now)
        due = [order for order, time in self._timers.items() if time <= self.now()]
        for order in due:
            del self._timers[order]
        events: list[Event] = [
            Woke(order.order, order.trial_id, order.why)
            for order in map(self.controller.open_orders.get, due)
            if isinstance(order, WakeAt)  # else what it bounded is over
        ]
        requests = self._inbox.requests(now)
        events += [*self._gate.room(self.parts.engine), *requests, *self.parts.advice.desk.answers()]
        events += self._delete()
        if events:
            self.record(events)
        for request in requests:
            self._inbox.remove(request.request)
        waiting = [follower.tick(now) for follower in self.parts.followers]
        self.parts.snapshots.consider(self.controller, self.parts.advice, self.parts.callbacks, journal)
        return any(waiting) or self._removals.waiting or journal.durable < journal.next_position - 1

    def finish(self, reason: str, detail: str) -> None:
        """Ends the epoch in good order: all on record and durable, dropped checkpoints gone, files written.

        Raises:
            StorageError: The disk refuses.
        """
        parts = self.parts
        parts.journal.sync()
        while events := self._delete(wait=True):
            self.record(events)
        if reason in ("finished", "fail_fast", "failures"):
            parts.callbacks.end()
        for follower in parts.followers:
            follower.settle()
        self.record([EpochEnded(reason, detail)])
        parts.journal.sync()
        for follower in parts.followers:  # behind the sync: trackers are sent what is durable only
            follower.close()
        if reason != "error":  # after an error a plug-in may have heard half of a record
            parts.snapshots.consider(self.controller, parts.advice, parts.callbacks, parts.journal, ending=True)

    def close(self) -> None:
        """Lets go what works beside the loop; waits for nothing. Call it last, however the epoch ended."""
        self._removals.close()

    def answer(self, judgement: Judgement, *, repeated: bool = False) -> DecisionMade:
        """The decision on a row: what was judged, with what callbacks change in the row."""
        row = self.state.trial(judgement.trial_id).current
        assert row is not None and row.number == judgement.number
        amendment = self.parts.callbacks.amend(judgement, row, repeated=repeated)
        return DecisionMade(
            trial_id=judgement.trial_id,
            number=judgement.number,
            action=judgement.action,
            by=judgement.by,
            heard=judgement.heard,
            changes=amendment.changes,
            stop_all=judgement.stop_all,
            save=amendment.save or judgement.save,
            orders=[*judgement.orders],
        )

    def again(self, command: Command) -> None:
        """Takes a repeatable order of an older driver up again; carried out with the next record."""
        self._outbox.append(command)

    def _take(self, record: Record, answers: list[Event]) -> None:
        commands = self.controller.handle(record)
        parts = self.parts
        if isinstance(record.event, AttemptEnded) and record.event.outcome == "failed":
            # Its worker may have completed a checkpoint and died before it could send the row. The record above passes
            # that index over for ever, so what stands under it is nobody's, even when another driver is in charge by now.
            trial = self.state.trial(record.event.trial_id)
            self._unnamed.append((trial.dirname, trial.next_index - 1))
        parts.advice.hear(record)
        parts.callbacks.hear(record)
        for follower in parts.followers:
            follower.hear(record)
        for command in commands:
            if isinstance(command, Decide):
                assert isinstance(record.event, ResultReported)
                answers.append(self.answer(parts.advice.judge(command, record.event, record.position)))
            elif isinstance(command, AskSearcher):
                parts.advice.ask(command, record.position)
            elif isinstance(command, ChooseTrial):
                parts.advice.scheduling.choose(command, record.position)
            elif isinstance(command, DropCheckpoint):
                answers.append(CheckpointDropped(command.order, command.trial_id, command.index))
            else:
                self._outbox.append(command)
        if parts.advice.scheduling.unsaid:
            answers += parts.advice.scheduling.said()

    def _carry_out(self) -> None:
        while self._unnamed:
            self._removals.sweep(*self._unnamed.pop())
        if not self._outbox:
            return
        if self.parts.strict:
            self.parts.journal.sync(mark=False)
        reach("before_dispatch")
        outbox, self._outbox, engine = self._outbox, [], self.parts.engine
        for command in outbox:
            match command:
                case Reply():
                    action = "PAUSE" if self._leave_by and command.action == "CONTINUE" else command.action
                    engine.reply(command.trial_id, command.attempt, command.number, action, save=command.save)
                    reach("after_reply")
                case StartAttempt():
                    if not self._leave_by:  # else the order stays open, and the next driver answers it
                        engine.start(command)
                case KillAttempt():
                    engine.kill(command.trial_id, command.attempt)
                case CommitCheckpoint():
                    engine.commit(command)
                case WakeAt():
                    self._timers[command.order] = command.time
                case DeleteCheckpoint():
                    self._removals.drop(self.state.position, command)
                case EndEpoch():
                    self.ending = command.reason
                case Decide() | AskSearcher() | ChooseTrial() | DropCheckpoint():
                    pass  # answered before anything is carried out
                case _:
                    unexpected(command)

    def _delete(self, *, wait: bool = False) -> list[Event]:
        """Deletes dropped checkpoints whose drop is durable; returns which are gone."""
        gone = self._removals.done(self.parts.journal.durable, wait=wait)
        return [CheckpointDeleted(order.order, order.trial_id, order.index) for order in gone]

    def _patience(self, busy: bool) -> float:
        """How long the engine may wait for something to see."""
        limit = _TURN_S if busy or self.parts.callbacks.callbacks else 1.0
        if self._timers:
            limit = min(limit, max(0.0, min(self._timers.values()) - self.now()))
        return limit
