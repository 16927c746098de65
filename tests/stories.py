"""Experiments as lists of records, told by hand or drawn by chance; each record is legal where it stands."""

from __future__ import annotations

import hashlib
import pickle

from holdfast import values
from holdfast._core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    CheckpointCommitted,
    CheckpointDropped,
    CheckpointLost,
    DecisionMade,
    EpochEnded,
    EpochStarted,
    ExperimentCreated,
    Failure,
    Record,
    ResultReported,
    Saved,
    TrialSuggested,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import trial_id
from holdfast._core.policy import Policy, Resume
from holdfast._core.trial import FINAL, PAUSED, PENDING, RUNNING
from holdfast._journal import Owner, create, open_journal
from holdfast.clock import SystemClock
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage
from journal_tools import put

EXPERIMENT_ID = "e" * 32


class Story:
    """Appends records and folds them, so that an illegal one fails at once."""

    def __init__(self, **policy) -> None:
        policy = {"num_samples": 100, "max_failures": 2, **policy}
        self.state = ExperimentState()
        self.records: list[Record] = []
        self.decided = {}
        self.definitions: dict[str, bytes] = {}
        self.add(ExperimentCreated(EXPERIMENT_ID, "exp", "train", "abcde", 7, Policy(**policy), {}, ["lr"], {}, "host:1:1"))
        self.epoch()

    def add(self, event) -> Record:
        position = len(self.records)
        epoch = self.state.epoch.epoch if self.state.epoch else 0
        if isinstance(event, EpochStarted):
            epoch = event.epoch
        record = Record(position, epoch, position * 0.5, 1_700_000_000.0 + position, event)
        self.state.fold(record)
        self.records.append(record)
        return record

    def epoch(self, **resume) -> None:
        number = self.state.epoch.epoch + 1 if self.state.epoch else 1
        self.add(EpochStarted(number, {"cpu": 2.0}, Resume(**resume), "local", "host", 10 + number, "boot", 5, {}, {}))

    def finish(self, reason: str = "finished") -> None:
        self.add(EpochEnded(reason, ""))

    def store(self, pickled: bytes) -> str:
        sha = hashlib.sha256(pickled).hexdigest()
        self.definitions[sha] = pickled
        return sha

    def load(self, sha: str) -> object:
        return pickle.loads(self.definitions[sha])

    def suggest(self, config: dict | None = None) -> str:
        index = len(self.state.trials)
        config = {"lr": 0.1 * index} if config is None else config
        name = trial_id("abcde", index)
        encoded = values.encode(config, self.store)
        tag = f"{index}_lr={index}"
        self.add(TrialSuggested("o", 0, name, encoded, encoded, tag, f"train_{name}_{tag}", f"train_{name}"))
        return name

    def start(self, name: str) -> None:
        attempt = self.state.trial(name).attempt + 1
        self.add(AttemptStarted("o", name, attempt, f"host{attempt}", "10.0.0.1", 1000 + attempt))

    def row(self, name: str, metrics: dict | None = None, *, save: bool = False, pending: bool = False) -> ResultReported:
        trial = self.state.trial(name)
        number = trial.number + 1
        metrics = {"loss": 1.0 / number, "attempt": trial.attempt} if metrics is None else metrics
        files = Saved(trial.next_index, 2, 100, "m" * 64)
        row = ResultReported(
            name, trial.attempt, number, values.encode(metrics), number, 0.5, 0.5 * number, 0.5, 1, 1.7e9,
            saved=files if save else None, pending=files if pending else None,
        )  # fmt: skip
        self.add(row)
        return row

    def commit(self, name: str) -> None:
        """A pending checkpoint became durable; where there is none, one of the newest row, which was asked for later."""
        trial = self.state.trial(name)
        if trial.pending:
            kept = trial.pending[0]
            self.add(CheckpointCommitted(name, trial.attempt, kept.number, kept.saved))
        else:
            self.add(CheckpointCommitted(name, trial.attempt, trial.number, Saved(trial.next_index, 2, 100, "m" * 64)))

    def lose_checkpoint(self, name: str) -> None:
        """A pending checkpoint cannot be completed."""
        self.add(CheckpointLost("o", name, self.state.trial(name).pending[0].saved.index, "its files are gone"))

    def decide(self, name: str, action: str = "CONTINUE", changes: dict | None = None, *, save: bool = False) -> None:
        trial = self.state.trial(name)
        changed = values.encode(changes) if changes else b""
        self.add(DecisionMade(name, trial.number, action, "scheduler", len(self.records) - 1, changed, save=save))

    def report(self, name: str, metrics: dict | None = None, *, save: bool = False, changes: dict | None = None) -> None:
        """A row, and the decision to go on where none stands yet."""
        row = self.row(name, metrics, save=save)
        if row.number > self.state.trial(name).mark:
            self.decide(name, changes=changes)

    def drop(self, name: str, index: int) -> None:
        self.add(CheckpointDropped("o", name, index))

    def complete(self, name: str) -> None:
        self.add(AttemptEnded(name, self.state.trial(name).attempt, "completed"))

    def stopped(self, name: str) -> None:
        self.add(AttemptEnded(name, self.state.trial(name).attempt, "stopped"))

    def fail(self, name: str, error: Exception | None = None, kind: str = "code") -> None:
        error = error or ValueError("no luck")
        failure = Failure(kind, str(error), f"Traceback: {error!r}\n", pickle.dumps(error), log_tail="the end")
        self.add(AttemptEnded(name, self.state.trial(name).attempt, "failed", failure))

    def lose(self, name: str) -> None:
        trial = self.state.trial(name)
        self.add(AttemptLost("o", name, trial.attempt, "driver"))


def on_disk(story: Story, root) -> LocalStorage:
    """The story as an experiment's journal and definitions."""
    storage = LocalStorage(str(root))
    for pickled in story.definitions.values():
        Definitions(storage).store(pickled)
    first, *rest = story.records
    assert create(storage, first.event, first.wall)
    journal = open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock(), takeover=True, threads=False)
    for record in rest:
        if record.epoch > journal.epoch:
            journal.close()
            journal = open_journal(storage, owner=Owner.of_this_process(), clock=SystemClock(), takeover=True, threads=False)
        put(journal, [record.event], record.time, record.wall)
    journal.close()
    return storage


def drawn(rng, steps: int = 60, trials: int = 3) -> Story:
    """A story of crashes, retries, early ends, pauses and restarts, as `rng` has it."""
    story = Story()
    running: set[str] = set()
    pausing: set[str] = set()
    for _ in range(steps):
        state = story.state
        choice = rng.random()
        if choice < 0.06:
            first = rng.random() < 0.5  # the old driver said so itself, or the new one does
            if first:
                _lose(story, running)
            skip = ["skip"] if rng.random() < 0.2 else ["resume", "resume", "resume", "restart"]
            ends = ["skip", "resume", "restart"]
            story.epoch(finished=rng.choice(ends), errored=rng.choice(ends), unfinished=rng.choice(skip))
            if not first:
                _lose(story, running)
            running.clear()
            pausing.clear()
        elif choice < 0.15 and len(state.trials) < trials:
            story.suggest()
        elif not running or choice < 0.25:
            waiting = [t.trial_id for t in state.trials.values() if t.state in (PENDING, PAUSED)]
            if waiting:
                running.add(name := rng.choice(waiting))
                story.start(name)
        else:
            _turn(story, rng.choice(sorted(running)), rng, running, pausing)
    return story


def _lose(story: Story, running: set[str]) -> None:
    for name in sorted(running):
        story.lose(name)


def _turn(story: Story, name: str, rng, running: set[str], pausing: set[str]) -> None:
    """One thing that happens to a trial that runs."""
    trial = story.state.trial(name)
    if name in pausing or trial.state not in (RUNNING, *FINAL):
        story.stopped(name) if rng.random() < 0.8 else story.complete(name)
        running.discard(name)
        pausing.discard(name)
    elif (choice := rng.random()) < 0.1:
        story.complete(name)
        running.discard(name)
    elif choice < 0.2:
        story.fail(name, ValueError(f"failure {rng.random()}"))
        running.discard(name)
    else:
        number = trial.number + 1
        metrics = {"loss": rng.random(), "nested": {"number": number}, **({"late": number} if number >= 3 else {})}
        if rng.random() < 0.1:
            metrics["loss"] = float("nan")
        row = story.row(name, metrics, save=rng.random() < 0.3)
        if row.number <= trial.mark:
            return
        if row.saved is None and rng.random() < 0.1:
            story.lose(name)  # the driver died before it decided
            running.discard(name)
            return
        action = rng.choice(["CONTINUE"] * 8 + ["STOP", "PAUSE"])
        save = row.saved is None and rng.random() < 0.2
        story.decide(name, action, {"added": rng.random()} if rng.random() < 0.3 else None, save=save and rng.random() < 0.5)
        if save and rng.random() < 0.8:
            story.commit(name)
        if action != "CONTINUE":
            pausing.add(name)
