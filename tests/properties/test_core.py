"""The controller in a random world: whatever the world answers to its orders, some things always hold."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast._core.admission import fits
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
    Event,
    ExperimentCreated,
    Failure,
    NothingSuggested,
    Record,
    RequestReceived,
    ResultReported,
    Saved,
    SchedulerOrdered,
    Steering,
    TrialChosen,
    TrialSuggested,
    Woke,
)
from holdfast._core.ids import trial_id
from holdfast._core.policy import Policy, Resume
from holdfast._core.steering import pinned
from holdfast._core.trial import FINAL, PAUSED, PENDING, RUNNING, STOPPING


class Attempt:
    """One that has a worker, or is on its way to one."""

    def __init__(self, order: StartAttempt) -> None:
        self.order = order
        self.started = False
        self.unwinding = ""
        self.number = order.number
        self.index = order.grant
        self.owed = 0
        self.uploads: list[tuple[int, Saved]] = []


class World:
    """Answers the controller's orders as chance has it: workers die, drivers crash, searchers run dry."""

    def __init__(self, rng: random.Random, *, crashes: bool = True) -> None:
        self.rng = rng
        self.crashes = crashes
        self.controller = Controller()
        self.records: list[Record] = []
        self.orders: list[list[Command]] = []
        self.attempts: dict[str, Attempt] = {}
        self.asks: list[AskSearcher] = []
        self.deletes: list[DeleteCheckpoint] = []
        self.wakes: list[WakeAt] = []
        self.commits: list[CommitCheckpoint] = []
        self.ending = ""
        self.recovering = False
        self.used: set[tuple[str, int]] = set()
        self.broken: set[tuple[str, int]] = set()
        self.numbers: dict[tuple[str, int], int] = {}
        self.rows: dict[tuple[str, int], int] = {}
        policy = Policy(
            num_samples=rng.choice([1, 3, 6, -1]),
            max_concurrent=rng.choice([0, 0, 2]),
            ahead=rng.choice([1, 2]),
            max_failures=rng.choice([0, 1, -1]),
            fail_fast=rng.random() < 0.1,
            time_budget_s=rng.choice([0.0, 0.0, 5.0]),
            num_to_keep=rng.choice([0, 1, 2]),
            score_attribute=rng.choice(["", "score"]),
            score_order=rng.choice(["max", "min"]),
            end_checkpoint=rng.random() < 0.3,
            max_total_bytes=rng.choice([0, 0, 3]),
            max_oom=rng.choice([None, 1]),
            max_timeouts=rng.choice([None, 2, -1]),
            retry_delay_s=rng.choice([0.0, 3.0]),
            trial_timeout_s=rng.choice([0.0, 0.0, 30.0]),
            no_progress_timeout_s=rng.choice([0.0, 0.0, 9.0]),
            stop_after_failures=rng.choice([0.0, 0.0, 0.0, 3.0, 0.9]),
            chooses=rng.random() < 0.4,
        )
        self.steers = rng.random() < 0.5
        self.asks_from_outside = rng.random() < 0.3
        self.asynchronous = rng.random() < 0.3
        self.add(ExperimentCreated("e" * 32, "e", "train", "abcde", 7, policy, {}, [], {}, ""))
        self.epoch()

    @property
    def state(self):
        return self.controller.state

    def add(self, event: Event) -> None:
        """Puts an event on record, sees to it that all holds, and takes note of what is ordered.

        Rows are decided and dropped checkpoints are on record before anything is carried out, as in the driver's loop.
        """
        record = self.append(event)
        carried: list[Command] = []
        answers = self.sort(self.controller.handle(self.note(record)), carried)
        while answers:
            if self.crashes and not self.recovering and self.rng.random() < 0.05:
                self.epoch()  # the driver dies before its answers, and what follows from them, are on record
                return
            event = answers.pop(0)
            answers += self.sort(self.controller.handle(self.note(self.append(event))), carried)
        for command in carried:
            self.carry_out(command)
        self.check()

    def append(self, event: Event) -> Record:
        epoch = event.epoch if isinstance(event, EpochStarted) else self.state.epoch.epoch if self.state.epoch else 0
        record = Record(len(self.records), epoch, float(len(self.records)), 0.0, event)
        self.records.append(record)
        return record

    def note(self, record: Record) -> Record:
        event = record.event
        if isinstance(event, ResultReported):
            trial = self.state.trial(event.trial_id)
            branch = trial.trial_id, trial.branch
            self.rows[branch] = max(self.rows.get(branch, 0), event.number)
            self.use(trial.dirname, event.saved or event.pending)
        elif isinstance(event, CheckpointBroken):
            self.broken.add((event.donor or event.trial_id, event.index))
        elif isinstance(event, CheckpointCommitted):
            trial = self.state.trial(event.trial_id)
            if all(event.saved != kept.saved for kept in trial.pending):
                self.use(trial.dirname, event.saved)
        return record

    def use(self, dirname: str, saved: Saved | None) -> None:
        if saved is not None:
            assert (dirname, saved.index) not in self.used, "a checkpoint's name was used twice"
            self.used.add((dirname, saved.index))

    def sort(self, commands: list[Command], carried: list[Command]) -> list[Event]:
        self.orders.append(commands)
        answers: list[Event] = []
        for command in commands:
            if isinstance(command, Decide):
                answers.append(self.decision(command))
            elif isinstance(command, ChooseTrial):
                answers.append(self.choice(command))
            elif isinstance(command, DropCheckpoint):
                answers.append(CheckpointDropped(command.order, command.trial_id, command.index))
            else:
                carried.append(command)
        return answers

    def decision(self, order: Decide) -> DecisionMade:
        action = self.rng.choice(["CONTINUE"] * 6 + ["PAUSE", "STOP"])
        stop_all = self.rng.random() < 0.02
        save = self.rng.random() < 0.1
        action = "STOP" if stop_all else action
        orders = self.orders_given()
        return DecisionMade(order.trial_id, order.number, action, "scheduler", 0, b"", stop_all, save, orders)

    def choice(self, order: ChooseTrial) -> TrialChosen:
        """Any trial or none: also one that cannot run now."""
        chosen = self.rng.choice(["", *self.state.trials])
        return TrialChosen(order.order, self.state.position, chosen, self.orders_given())

    def orders_given(self) -> list[Steering]:
        """What the scheduler orders beside an answer, about any trials."""
        if not self.steers or self.rng.random() < 0.7:
            return []
        trials = list(self.state.trials.values())
        trial, donor = self.rng.choice(trials), self.rng.choice(trials)
        verb = self.rng.choice(["stop", "pause", "resume", "change", "change", "change"])
        if verb != "change":
            return [Steering(trial.trial_id, verb)]
        index = self.rng.choice([-1, *(kept.saved.index for kept in donor.kept)])
        given = self.rng.choice([None, {"cpu": 1.0}])
        return [Steering(trial.trial_id, verb, b"\x81\xa1x\x01", b"\x80", "new", donor.trial_id, index, given)]

    def carry_out(self, command: Command) -> None:
        if isinstance(command, StartAttempt):
            number = command.trial_id, command.attempt
            assert number not in self.numbers, "an attempt's number came twice"
            self.numbers[number] = 1
            assert command.trial_id not in self.attempts, "two attempts of one trial"
            self.attempts[command.trial_id] = Attempt(command)
            assert self.state.epoch is not None
            others = [it.order.resources for name, it in self.attempts.items() if name != command.trial_id]
            assert fits(command.resources, self.state.epoch.resources, others)
        elif isinstance(command, CommitCheckpoint):
            self.commits.append(command)
        elif isinstance(command, Reply):
            attempt = self.attempts[command.trial_id]
            if command.action != "CONTINUE":
                attempt.unwinding = "stopped"
            if command.save or (command.action != "CONTINUE" and self.state.policy.end_checkpoint):
                attempt.owed = command.number
        elif isinstance(command, KillAttempt):
            if command.trial_id in self.attempts:  # else it was on its way in the last driver's time
                self.attempts[command.trial_id].unwinding = "failed"
            assert command.trial_id in self.attempts or self.recovering
        elif isinstance(command, AskSearcher):
            self.asks.append(command)
        elif isinstance(command, DeleteCheckpoint):
            self.deletes.append(command)
        elif isinstance(command, WakeAt):
            self.wakes.append(command)
        elif isinstance(command, EndEpoch):
            self.ending = command.reason

    def step(self) -> None:
        rng = self.rng
        if self.ending:
            self.add(EpochEnded(self.ending, ""))
            self.epoch()
            return
        choices = []
        choices += [self.answer_ask] * (2 if self.asks else 0)
        choices += [self.answer_delete] if self.deletes else []
        choices += [self.answer_commit] if self.commits else []
        choices += [self.wake] * 2 if self.wakes else []
        choices += [self.order_something] if self.steers and self.state.trials and rng.random() < 0.1 else []
        choices += [self.request] if self.asks_from_outside and rng.random() < 0.05 else []
        choices += [self.work] * 6 if self.attempts else []
        choices += [self.epoch] if self.crashes and rng.random() < 0.1 else []
        if choices:
            rng.choice(choices)()

    def answer_ask(self) -> None:
        order = self.asks.pop()
        lot = self.rng.random()
        if lot < 0.15:
            self.add(NothingSuggested(order.order, 0, finished=lot < 0.05))
            return
        name = trial_id("abcde", order.index)
        self.add(TrialSuggested(order.order, 0, name, b"\x80", b"\x80", str(order.index), f"dir{order.index}", name))

    def answer_delete(self) -> None:
        order = self.deletes.pop(0)
        self.add(CheckpointDeleted(order.order, order.trial_id, order.index))

    def answer_commit(self) -> None:
        order = self.commits.pop(0)
        if self.rng.random() < 0.3:
            self.add(CheckpointLost(order.order, order.trial_id, order.saved.index, "gone"))
        else:
            self.add(CheckpointCommitted(order.trial_id, order.attempt, order.number, order.saved, order.order))

    def save_now(self, name: str, attempt: Attempt) -> None:
        """The worker saves the row that it was just answered."""
        number, attempt.owed = attempt.owed, 0
        saved = Saved(attempt.index, 1, 1, "")
        attempt.index += 1
        self.add(CheckpointCommitted(name, attempt.order.attempt, number, saved, score=self.rng.random()))

    def upload(self, name: str, attempt: Attempt) -> None:
        """A pending checkpoint of a running attempt becomes durable."""
        number, saved = attempt.uploads.pop(0)
        self.add(CheckpointCommitted(name, attempt.order.attempt, number, saved))

    def wake(self) -> None:
        """The earliest time that is waited for; the whole budget's comes seldom."""
        order = min(self.wakes, key=lambda it: it.time)
        if order.trial_id or self.rng.random() < 0.05:
            self.wakes.remove(order)
            if order.order in self.controller.open_orders:
                self.add(Woke(order.order, order.trial_id, order.why))

    def order_something(self) -> None:
        orders = self.orders_given()
        if orders:
            self.add(SchedulerOrdered(self.state.position, orders))

    def request(self) -> None:
        verb = self.rng.choice(["stop", "pause", "resume", "resume", "resume"])
        trial = self.rng.choice(["", *self.state.trials])
        self.add(RequestReceived(f"{len(self.records)}", verb, trial))

    def work(self) -> None:
        """One thing that happens to one attempt."""
        rng = self.rng
        name = rng.choice(sorted(self.attempts))
        attempt, trial = self.attempts[name], self.state.trial(name)
        number = attempt.order.attempt
        lot = rng.random()
        if name in self.controller.recalled:
            self.attempts.pop(name)
            self.add(AttemptLost(attempt.order.order, name, number, "recalled"))  # as the gate has it
        elif not attempt.started:
            if lot < 0.1 or attempt.unwinding:
                self.end(name, "failed")
            else:
                attempt.started = True
                self.add(AttemptStarted(attempt.order.order, name, number, "h", "i", 1, attempt.order.number))
                resume = attempt.order.resume
                if resume is not None and trial.state == RUNNING and rng.random() < 0.1:
                    self.add(CheckpointBroken(name, number, resume.index, "no bytes", attempt.order.donor))
                    if self.attempts.get(name) is attempt:  # else its driver has just died
                        self.end(name, "failed", "checkpoint")
        elif attempt.owed and lot > 0.05 and trial.number == attempt.owed:
            self.save_now(name, attempt)
        elif attempt.uploads and (lot < 0.5 or attempt.unwinding == "stopped") and lot > 0.05:
            self.upload(name, attempt)
        elif attempt.unwinding:
            self.end(name, "failed" if attempt.unwinding == "failed" or lot < 0.2 else "completed" if lot < 0.3 else "stopped")
        elif lot < 0.1 and not attempt.uploads:
            self.end(name, "completed")
        elif lot < 0.2 or not (trial.state == RUNNING or trial.owes):
            self.end(name, "failed")
        else:
            self.report(name, attempt)

    def report(self, name: str, attempt: Attempt) -> None:
        attempt.number += 1
        saved = None
        if self.rng.random() < 0.4:
            saved = Saved(attempt.index, 1, 1, "")
            attempt.index += 1
        score = self.rng.choice([None, float("nan"), 0.5, self.rng.random()])
        times = (0.0, 0.0, 0.0, 1, 0.0)
        saved, pending = (None, saved) if self.asynchronous else (saved, None)
        if pending is not None:
            attempt.uploads.append((attempt.number, pending))
        row = (name, attempt.order.attempt, attempt.number, b"\x80", attempt.number, *times)
        self.add(ResultReported(*row, saved=saved, score=score, pending=pending))

    def end(self, name: str, outcome: str, kind: str = "code") -> None:
        attempt = self.attempts.pop(name)
        if kind == "code":
            kind = self.controller.killing.get(name, self.rng.choice(["code", "worker", "oom", "preempted"]))
        self.add(AttemptEnded(name, attempt.order.attempt, outcome, Failure(kind, "x") if outcome == "failed" else None))

    def epoch(self) -> None:
        """A new driver, after a crash or a good end: it finds what is open and answers it, as recovery does."""
        how = ["resume", "restart", "skip"]
        resume = Resume(finished="skip", unfinished="resume", errored="skip")
        if self.rng.random() < 0.4:
            resume = Resume(finished=self.rng.choice(how), unfinished=self.rng.choice(how), errored=self.rng.choice(how))
        self.ending = ""
        left = list(self.controller.open_orders.values())
        number = self.state.epoch.epoch + 1 if self.state.epoch else 1
        cpus = float(self.rng.choice([1, 2, 4]))
        old, self.attempts, self.asks, self.deletes, self.wakes, self.commits = self.attempts, {}, [], [], [], []
        for order in left:
            if isinstance(order, (AskSearcher, DeleteCheckpoint, WakeAt)):
                self.carry_out(order)
        self.attempts = old
        self.recovering = True
        self.add(EpochStarted(number, {"cpu": cpus}, resume, "simulated", "h", 1, "b", 1, {}, {}))
        for order in left:
            if isinstance(order, Decide) and order.order in self.controller.open_orders:
                self.add(self.decision(order))
            elif isinstance(order, ChooseTrial):
                self.add(self.choice(order))
        for order in left:
            if isinstance(order, DropCheckpoint) and order.order in self.controller.open_orders:
                self.add(CheckpointDropped(order.order, order.trial_id, order.index))
        for order in left:
            if isinstance(order, StartAttempt):
                self.attempts.pop(order.trial_id, None)
                self.add(AttemptLost(order.order, order.trial_id, order.attempt, "driver"))
            elif isinstance(order, CommitCheckpoint) and order.order in self.controller.open_orders:
                self.carry_out(order)
        self.recovering = False
        self.check()

    def check(self) -> None:
        state, it = self.state, self.controller
        trials = list(state.trials.values())
        assert state.unfinished == sum(trial.state not in FINAL for trial in trials)
        assert state.waiting == {trial.index for trial in trials if trial.state == PENDING}
        assert state.paused == {trial.index for trial in trials if trial.state == PAUSED}
        starts = [order for order in it.open_orders.values() if isinstance(order, StartAttempt)]
        assert {order.trial_id: order.order for order in starts} == it.running
        assert len(starts) == len(it.running)
        if not self.recovering:
            assert not it.deciding, "all rows are decided"
            assert not any(isinstance(order, (Decide, DropCheckpoint)) for order in it.open_orders.values())
        for trial in trials:
            assert trial.mark <= self.rows.get((trial.trial_id, trial.branch), 0)
            indices = [kept.saved.index for kept in trial.kept]
            assert indices == sorted(set(indices))
            assert all(index < trial.next_index for index in indices)
            assert trial.state in FINAL or trial.trial_id in it.running or trial.state in (PENDING, PAUSED)
            if state.policy.num_to_keep and not self.recovering:
                pins = [index for name, index in pinned(state) if name == trial.trial_id]
                assert len(trial.kept) <= state.policy.num_to_keep + 1 + len(pins)
            inherited = trial.inherited
            if inherited is not None and inherited.saved is not None:
                assert trial.trial_id in state.heirs
                donor = state.trial(inherited.donor)
                there = inherited.saved in [kept.saved for kept in donor.kept]
                assert there or donor.dirname != inherited.source, "a pinned one was dropped"
            assert not trial.owes or trial.state in (PENDING, STOPPING)
        assert state.kept_bytes == sum(kept.saved.size for trial in trials for kept in trial.kept)
        committing = {(o.trial_id, o.saved.index) for o in it.open_orders.values() if isinstance(o, CommitCheckpoint)}
        assert set(it.deadlines) <= set(it.running)
        assert set(it.killing) <= set(it.running)
        for trial in trials:
            if trial.trial_id not in it.running:
                assert {(trial.trial_id, kept.saved.index) for kept in trial.pending} <= committing
        for order in starts:
            attempt = self.attempts.get(order.trial_id)
            if attempt is not None and not attempt.started and order.resume is not None:
                trial = state.trial(order.trial_id)
                moot = trial.state in FINAL or trial.dirname != order.dirname or trial.trial_id in it.recalled
                owner = state.trial(order.donor) if order.donor else trial
                moot = moot or (order.source and owner.dirname != order.source)
                broken = (owner.trial_id, order.resume.index) in self.broken  # as this attempt will find out, too
                assert moot or broken or order.resume in [kept.saved for kept in owner.kept]


@pytest.mark.slow
@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 120))
def test_what_always_holds(seed: int, steps: int) -> None:
    world = World(random.Random(seed))
    for _ in range(steps):
        world.step()


@pytest.mark.slow
@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 120))
def test_a_replay_gives_the_same_orders_from_any_snapshot(seed: int, steps: int) -> None:
    world = World(random.Random(seed))
    for _ in range(steps):
        world.step()
    again = Controller()
    cut = random.Random(seed).randrange(len(world.records))
    for record, orders in zip(world.records, world.orders, strict=True):
        assert again.handle(record) == orders
        if record.position == cut:
            again = msgspec.msgpack.decode(msgspec.msgpack.encode(again), type=Controller)
    assert msgspec.msgpack.encode(again.state.trials) == msgspec.msgpack.encode(world.state.trials)
    assert again.open_orders == world.controller.open_orders


@pytest.mark.slow
@settings(max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_a_world_without_crashes_comes_to_an_end(seed: int) -> None:
    world = World(random.Random(seed), crashes=False)
    for _ in range(3_000):
        if world.ending:
            break
        if world.state.policy.num_samples == -1 and len(world.state.trials) > 10 and world.asks:
            world.add(NothingSuggested(world.asks.pop().order, 0, finished=True))
        else:
            world.step()
    endless = -1 in (world.state.policy.max_failures, world.state.policy.max_timeouts)
    asleep = world.state.held or any(trial.held for trial in world.state.trials.values())  # somebody has to wake it
    assert world.ending in ("finished", "fail_fast", "failures") or endless or asleep
