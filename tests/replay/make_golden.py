"""Writes a golden journal of this version: `python tests/replay/make_golden.py v4-plain` (or `v4-compacted`).

A golden journal is written once and kept for ever: what cannot replay every older one does not ship. An existing one is
never overwritten; a changed format gets a new name. Beside the journal stands `expected.json`: every record's fields by
name, so that a later version, whose events have more fields, is still held to these; and `story.json`: the orders that
the controller gave and where each trial ended, which every later controller must repeat.

The experiment is small and has every kind of event that there was. It is driven by the controller itself, so the history is
one that it accepts: the answers of searcher, scheduler and workers stand in a script below.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path

import msgspec

from holdfast._core import events as e
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
from holdfast._core.policy import Placement, Policy, Resume
from holdfast._core.trial import TrialState
from holdfast._journal import Journal, Owner, create, open_journal, read
from holdfast.storage.local import LocalStorage
from holdfast.testing.disk import SimulatedStorage
from holdfast.testing.store import SimulatedStore

GOLDEN = Path(__file__).parent / "golden"
TRIALS = 5
ROWS = 4
POLICY = Policy(
    num_samples=TRIALS,
    max_failures=3,
    num_to_keep=1,
    time_budget_s=1000.0,
    request={"cpu": 1.0},
    ahead=1,
    max_concurrent=2,
    metric="score",
    mode="max",
    placement=Placement([{"cpu": 0.5}, {"cpu": 0.5}]),
    end_checkpoint=True,
    max_total_bytes=5000,
    max_timeouts=5,
    retry_delay_s=1.0,
    no_progress_timeout_s=500.0,
    stop_after_failures=9.0,
    chooses=True,
)


def by_name(value: object) -> object:
    """A value as JSON has it: structs by their fields' names, bytes as hexadecimal digits."""
    if isinstance(value, msgspec.Struct):
        return {name: by_name(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: by_name(item) for key, item in value.items()}
    return [by_name(item) for item in value] if isinstance(value, list) else value


def described(record: e.Record) -> dict[str, object]:
    """A record's fields by name."""
    fields = by_name(record)
    assert isinstance(fields, dict)
    return {**fields, "type": type(record.event).__name__}


class Script:
    """Drives one experiment through several drivers, each of which vanishes after some records but the last."""

    def __init__(self, storage: LocalStorage) -> None:
        self.storage = storage
        self.controller = Controller()
        self.queue: deque[Command] = deque()
        self.time = 0.0
        self.journal: Journal
        self.left = 0

    def live(self, records: int) -> bool:
        """One driver's life; False when the experiment is over."""
        owner = Owner(host="golden", pid=1, boot_id="golden", pid_namespace=1, start_ticks=1)
        self.journal = open_journal(self.storage, owner=owner, clock=self, takeover=True, threads=False)
        self.controller, self.queue, self.left = Controller(), deque(), records
        for record in read(self.storage):
            self.controller.handle(record)
        self.begin()
        while self.queue and self.left > 0:
            self.carry_out(self.queue.popleft())
        if self.left > 0:
            self.record(e.Woke(order=next(o.order for o in self.open(WakeAt) if not o.trial_id)))
            self.record(e.EpochEnded("finished", "every trial has ended"))
            self.journal.close()
            return False
        return True  # vanishes: its journal is not closed

    def begin(self) -> None:
        epoch, cuts = self.journal.epoch, self.journal.cuts
        lost, decisions = self.open(StartAttempt), self.open(Decide)
        asked, drops, deletes = self.open(AskSearcher), self.open(DropCheckpoint), self.open(DeleteCheckpoint)
        asked += self.open(ChooseTrial)
        self.record(
            e.EpochStarted(epoch, {"cpu": 2.0}, Resume(), "local", "golden", 1, "golden", 1, {"holdfast": "0.1.0"}, {}),
            *cuts,
            *([e.InexactFound("searcher", 3, "x=1 became x=2")] if epoch == 2 else []),
            *([e.RequestReceived("ab" * 8, verb) for verb in ("pause", "resume")] if epoch == 2 else []),
            *([e.ResourcesChanged({"cpu": 3.0})] if epoch == 2 else []),
        )
        for order in [*decisions, *drops]:
            self.carry_out(order)
        for order in lost:
            self.record(e.AttemptLost(order.order, order.trial_id, order.attempt, "driver"))
        for order in [*asked, *deletes, *[wake for wake in self.open(WakeAt) if wake.why == "retry"]]:
            self.carry_out(order)
        if epoch == 6:
            self.extend()

    def extend(self) -> None:
        """Asks for one sample and more time; what has ended without a failure goes on."""
        ended = [trial.trial_id for trial in self.controller.state.trials.values() if trial.state == "TERMINATED"]
        assert ended
        changed = {"num_samples": f"{TRIALS} became {TRIALS + 1}", "time_budget_s": "1000 became 2000"}
        self.record(e.JobExtended("cd" * 16, changed, 1, TRIALS + 1, 2000.0, {"job": "ef" * 32}, ended))

    def open(self, kind: type) -> list:
        return [order for order in self.controller.open_orders.values() if isinstance(order, kind)]

    def record(self, *events: e.Event) -> None:
        self.time += 0.25
        records = self.journal.stage(events, self.time, 1.7e9 + self.time)
        self.journal.flush()
        for record in records:
            self.queue.extend(self.controller.handle(record))
        self.left -= len(events)
        if self.left % 4 == 0:
            self.journal.tick(self.time)

    def carry_out(self, command: Command) -> None:
        position = self.controller.state.position
        if isinstance(command, AskSearcher):
            n = command.index
            trial = f"01234_{n:05d}"
            config = msgspec.msgpack.encode({"x": n})
            self.record(
                e.TrialSuggested(
                    command.order,
                    position,
                    trial,
                    config,
                    config,
                    f"{n}_x={n}",
                    f"train_{trial}",
                    f"train_{trial}",
                    {"cpu": 2.0} if n == 2 else None,
                    Placement([{}, {"cpu": 2.0}], "SPREAD") if n == 2 else None,
                )
                if n < TRIALS - 1
                else e.NothingSuggested(command.order, position, True)
            )
        elif isinstance(command, StartAttempt):
            self.record(e.AttemptStarted(command.order, command.trial_id, command.attempt, "golden", "127.0.0.1", 7))
            if command.resume is not None and command.index <= 1 and command.attempt == 2:
                broken = command.resume.index
                self.record(e.CheckpointBroken(command.trial_id, command.attempt, broken, "a file is missing", command.donor))
                self.end(command.trial_id, command.attempt, "failed", e.Failure("storage", "the checkpoint is broken"))
            elif command.number >= ROWS:
                self.end(command.trial_id, command.attempt, "completed")
            else:
                self.row(command.trial_id, command.attempt, command.number + 1, command.grant)
        elif isinstance(command, Decide):
            index = int(command.trial_id[-1])
            action = {(1, 2): "PAUSE", (2, 3): "STOP"}.get((index, command.number), "CONTINUE")
            save = (index, command.number) == (2, 1)
            orders = [self.changed(command.trial_id, donor=self.controller.state.at(0))] if action == "PAUSE" else []
            self.record(e.DecisionMade(command.trial_id, command.number, action, "scheduler", position, save=save, orders=orders))
        elif isinstance(command, ChooseTrial):
            self.choose(command)
        elif isinstance(command, Reply):
            self.replied(command)
        elif isinstance(command, DropCheckpoint):
            self.record(e.CheckpointDropped(command.order, command.trial_id, command.index))
        elif isinstance(command, DeleteCheckpoint):
            self.record(e.CheckpointDeleted(command.order, command.trial_id, command.index))
        elif isinstance(command, CommitCheckpoint):
            trial, saved = command.trial_id, command.saved
            self.record(
                e.CheckpointLost(command.order, trial, saved.index, "its files are gone")
                if command.number % 2
                else e.CheckpointCommitted(trial, command.attempt, command.number, saved, command.order)
            )
        elif isinstance(command, WakeAt) and command.why == "retry":
            self.record(e.Woke(command.order, command.trial_id, command.why))
        else:
            assert isinstance(command, (WakeAt, EndEpoch, KillAttempt)), command

    def choose(self, order: ChooseTrial) -> None:
        """The earliest trial that may start; trial 3 begins with another configuration than it was suggested with."""
        state = self.controller.state
        able = [trial for trial in state.trials.values() if self.controller.startable(trial)]
        chosen = able[0].trial_id if able else ""
        orders = [self.changed(chosen)] if able and able[0].index == 3 and not able[0].attempt else []
        self.record(e.TrialChosen(order.order, state.position, chosen, orders))

    def changed(self, trial_id: str, donor: TrialState | None = None) -> e.Steering:
        """A scheduler's order: another configuration, and with a donor its newest checkpoint and less to run with."""
        config = msgspec.msgpack.encode({"x": 10 + int(trial_id[-1])})
        tag = f"{trial_id[-1]}@perturbed"
        if donor is None:
            return e.Steering(trial_id, "change", config, config, tag)
        index = donor.kept[-1].saved.index if donor.kept else -1
        given = {"cpu": 0.5}, Placement([{"cpu": 0.5}])
        return e.Steering(trial_id, "change", config, config, tag, donor.trial_id, index, *given)

    def replied(self, reply: Reply) -> None:
        trial = self.controller.state.trial(reply.trial_id)
        if trial.state not in {"RUNNING", "STOPPING", "PAUSING"} or trial.attempt != reply.attempt:
            return  # its worker ended with its driver
        self.save(reply, trial)
        if trial.index == 2 and reply.action == "STOP" and not trial.failures:
            self.end(reply.trial_id, reply.attempt, "failed", e.Failure("worker", "killed", signal=9, peak_memory=1 << 20))
        elif reply.action != "CONTINUE":
            self.end(reply.trial_id, reply.attempt, "stopped")
        elif reply.number >= ROWS:
            self.end(reply.trial_id, reply.attempt, "completed")
        elif trial.index == 3 and reply.number == 2 and not trial.failures:
            failure = e.Failure("code", "ValueError: scripted", "Traceback ...", b"pickle", None, None, "last words")
            self.end(reply.trial_id, reply.attempt, "failed", failure)
        else:
            self.row(reply.trial_id, reply.attempt, reply.number + 1, trial.next_index)

    def save(self, reply: Reply, trial: TrialState) -> None:
        """Trial 0 commits what is pending two rows later, trial 2 saves what it is asked to and what it owes."""
        if len(trial.pending) == 2:
            left = trial.pending[0]
            self.record(e.CheckpointCommitted(trial.trial_id, trial.attempt, left.number, left.saved))
        if trial.index == 2 and (reply.save or reply.action == "STOP") and (trial.failures or reply.action != "STOP"):
            saved = e.Saved(trial.next_index, 1, 10, "cd" * 32)
            self.record(e.CheckpointCommitted(trial.trial_id, trial.attempt, reply.number, saved, "", reply.number / 4))

    def end(self, trial_id: str, attempt: int, outcome: str, failure: e.Failure | None = None) -> None:
        self.record(e.AttemptEnded(trial_id, attempt, outcome, failure))
        if outcome == "stopped" and trial_id[-1] == "1":
            orders = [e.Steering(trial_id, verb) for verb in ("pause", "resume")]  # the first comes too late
            orders += [e.Steering(trial.trial_id, "stop") for trial in self.controller.state.trials.values() if trial.index == 0]
            self.record(e.SchedulerOrdered(self.controller.state.position, orders))

    def row(self, trial_id: str, attempt: int, number: int, index: int) -> None:
        saved = e.Saved(index, 2, 1000 + number, "ab" * 32) if trial_id[-1] != "2" else None
        pending = None
        if trial_id[-1] == "0":
            saved, pending = None, saved
        metrics = msgspec.msgpack.encode({"score": number / 4})
        self.record(
            e.ResultReported(
                trial_id,
                attempt,
                number,
                metrics,
                number,
                0.5,
                number / 2,
                number / 2,
                number,
                1.7e9,
                number == ROWS,
                saved,
                number / 4,
                pending,
            )
        )

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 1.7e9

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody is waited for")


def story(storage: LocalStorage) -> dict[str, object]:
    """What the controller makes of a journal: the orders that it gave, and where each trial ended."""
    controller = Controller()
    orders = [[type(command).__name__, by_name(command)] for record in read(storage) for command in controller.handle(record)]
    shown = ("trial_id", "state", "attempt", "branch", "number", "mark", "failures", "next_index", "dirname", "stopped_by")
    trials = [
        {**{name: getattr(trial, name) for name in shown}, "kept": [kept.saved.index for kept in trial.kept]}
        for trial in controller.state.trials.values()
    ]
    return {"orders": orders, "trials": trials, "ended": controller.state.ended}


def make(directory: Path, *, records_per_driver: int, compact: bool, slots: bool = False) -> None:
    """Writes one golden journal, in files or on slots."""
    if directory.exists():
        raise SystemExit(f"{directory} exists: golden journals are written once. Give a new name.")
    store = SimulatedStorage()
    storage = SimulatedStore(store) if slots else LocalStorage(directory / "experiment")
    born = e.ExperimentCreated(
        "0123456789abcdef" * 2,
        "golden",
        "train",
        "01234",
        7,
        POLICY,
        {"trainable": "cd" * 32},
        ["x"],
        {"holdfast": "0.1.0"},
        "g:1:1",
    )
    assert create(storage, born, 1.7e9)
    script = Script(storage)
    while script.live(records_per_driver):
        records_per_driver += 3  # each redoes what the one before had in hand; the last must come through
        if script.journal.epoch == 1 and not slots:
            with open(directory / "experiment" / "journal" / "00000001-0000.log", "ab") as file:
                file.write(b"a torn record")
        if script.journal.epoch == 2:
            script.journal.sync()
            script.journal.save_snapshot(1, script.journal.durable, b"a snapshot of a schema that nobody knows any more")
    if compact:
        owner = Owner("golden", 1, "golden", 1, 1)
        last = open_journal(storage, owner=owner, clock=script, threads=False)
        last.compact()
        last.close()
    for path, data in store.files().items():  # nothing, unless the journal is on slots
        if path.startswith("store/"):
            LocalStorage(directory / "experiment").put(path.removeprefix("store/"), data)
    records = [described(record) for record in read(storage)]
    (directory / "expected.json").write_text(json.dumps(records, indent=0, sort_keys=True) + "\n")
    (directory / "story.json").write_text(json.dumps(story(storage), indent=0, sort_keys=True) + "\n")
    print(f"{directory}: {len(records)} records, {len({str(record['type']) for record in records})} kinds of events")


KINDS = {
    "v4-plain": lambda path: make(path, records_per_driver=22, compact=False),
    "v4-compacted": lambda path: make(path, records_per_driver=16, compact=True),
}
SLOTS = {
    "slots-v1-plain": lambda path: make(path, records_per_driver=22, compact=False, slots=True),
    "slots-v1-compacted": lambda path: make(path, records_per_driver=16, compact=True, slots=True),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or KINDS:
        {**KINDS, **SLOTS}[name](GOLDEN / name)
