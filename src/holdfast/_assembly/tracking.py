"""What feeds the trackers: deliveries made of the journal's durable records, in its order.

Each row goes to a tracker once. In one driver that is plain: the journal is heard once, a row is sent with the decision on
it, and one that is redone after a crash gets no second decision. Behind a crash nobody knows what arrived, so for every run
that is not known to be complete all deliveries are made again, and the tracker says how many rows it has
(`TrackerCallback.rows_sent`).
"""

from __future__ import annotations

import copy
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from holdfast import settings
from holdfast._assembly.submission import JobSpec
from holdfast._core.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointCommitted,
    DecisionMade,
    EpochEnded,
    EpochStarted,
    ExperimentCreated,
    Record,
    ResultReported,
)
from holdfast._core.experiment import ExperimentState
from holdfast._core.trial import ERROR, FINAL, TrialState
from holdfast._journal import Journal, read
from holdfast._projection.history import shown
from holdfast._projection.rows import Place
from holdfast._runtime.roll import Roll
from holdfast.callback import Callback
from holdfast.logger.cursor import Cursor
from holdfast.logger.tracker import Courier, Delivery, TrackerCallback
from holdfast.objects import references_in
from holdfast.storage.definitions import Definitions
from holdfast.storage.local import LocalStorage
from holdfast.trial import Trial

__all__ = ["DUE", "TrackersFollower", "others_than_trackers", "trackers_of"]

DUE = ".trackers_due"  # stands in an experiment's directory while its trackers have not taken everything
_TOLD = (AttemptStarted, ResultReported, DecisionMade, CheckpointCommitted, AttemptEnded)
_INTERRUPTED_WAIT_S = 5.0


class TrackersFollower:
    """Keeps trackers up with what is durable.

    Args:
        journal: The driver's.
        created: The birth record.
        spec: The job.
        trackers: The user's own.
        say: Takes a line for the user.
    """

    def __init__(
        self,
        journal: Journal,
        created: ExperimentCreated,
        spec: JobSpec,
        trackers: Sequence[TrackerCallback],
        say: Callable[[str], None],
    ) -> None:
        self._journal, self._storage = journal, journal.storage
        self._experiment_id = created.experiment_id
        self._state = ExperimentState()
        load = Definitions(self._storage).load
        self._roll = Roll(created, self._state, self._storage.uri, load, references_in(spec.param_space))
        setup = {"stop": spec.run_config.stop, "num_samples": created.policy.num_samples}
        setup["total_num_samples"] = created.policy.num_samples
        self._couriers: list[tuple[Courier, Cursor | None]] = []
        for number, tracker in enumerate(trackers):
            cursor = self._cursor(number, tracker)
            ended = cursor.write if cursor else _forget
            self._couriers.append((Courier(tracker, setup, say, ended), cursor))
        self._early: list[Record] | None = []  # until the first tick
        self._pictures: dict[str, Trial] = {}  # open runs
        self._undecided: dict[str, ResultReported] = {}
        self._wanted: list[set[str]] | None = None  # while catching up: by courier, the runs that may lack something
        self._patience_s = _INTERRUPTED_WAIT_S
        self._closed = False

    def hear(self, record: Record) -> None:
        if isinstance(record.event, EpochEnded) and record.event.reason in ("finished", "fail_fast", "failures"):
            self._patience_s = settings.tracker_wait_s()
        if self._early is None:
            self._take(record)
        else:
            self._early.append(record)

    def tick(self, now: float) -> bool:
        self._begin()
        for courier, _ in self._couriers:
            courier.release(self._journal.durable)
        return False

    def settle(self) -> None:
        """What trackers have not taken is known by a file, and sent by whoever takes the experiment up again."""

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._journal.in_charge():  # else records may lie behind another driver's seal
            self.tick(0.0)
        until = time.monotonic() + self._patience_s
        left = [courier.close(max(0.0, until - time.monotonic())) for courier, _ in self._couriers]
        if not any(left):
            self._storage.delete(DUE)

    def _cursor(self, number: int, tracker: TrackerCallback) -> Cursor | None:
        if not isinstance(self._storage, LocalStorage):
            return None
        name = type(tracker).__name__
        target = hashlib.sha256(f"{self._experiment_id} {name} {tracker.target()}".encode()).hexdigest()[:16]
        return Cursor(self._storage.root, target, f".tracker_{number}_{name}")

    def _begin(self) -> None:
        """Hears all that older drivers recorded, twice: which runs there are, and then what belongs to those that are wanted."""
        if self._early is None:
            return
        early, self._early = self._early, None
        self._storage.put(DUE, b"")
        if any(isinstance(record.event, EpochStarted) and record.event.epoch > 1 for record in early):
            last = _last_positions(self._all(early))
            current = {trial.dirname: trial for trial in last.state.trials.values()}
            sure = [cursor.read() if cursor else -1 for _, cursor in self._couriers]
            complete = {run: at for run, at in last.runs.items() if run not in current or current[run].state in FINAL}
            self._wanted = [{run for run in last.runs if complete.get(run, position + 1) > position} for position in sure]
        for record in self._all(early):
            self._take(record)
        self._wanted = None

    def _all(self, early: list[Record]) -> Iterator[Record]:
        for record in read(self._storage):
            if record.position >= early[0].position:
                break
            yield record
        yield from early

    def _take(self, record: Record) -> None:
        """Folds a record, and hands out the deliveries that follow from it."""
        self._state.fold(record)
        event, made = record.event, list[Delivery]()
        if isinstance(event, _TOLD):
            trial = self._state.trial(event.trial_id)
            made += self._told(record.position, event, trial)
        if not isinstance(event, (ResultReported, AttemptStarted)):
            made += self._ended(record.position, getattr(event, "trial_id", ""))
        for number, (courier, _) in enumerate(self._couriers) if made else ():
            wanted = made if self._wanted is None else [it for it in made if it.run in self._wanted[number]]
            if wanted:
                courier.take(wanted)

    def _told(
        self,
        position: int,
        event: AttemptStarted | ResultReported | DecisionMade | CheckpointCommitted | AttemptEnded,
        trial: TrialState,
    ) -> Iterator[Delivery]:
        run = trial.dirname
        if isinstance(event, AttemptStarted):
            self._pictures[run] = picture = copy.copy(self._roll.of(trial.trial_id))
            yield Delivery(position, "start", run, picture)
        elif isinstance(event, ResultReported):
            self._undecided[run] = event
        elif isinstance(event, DecisionMade) and run in self._pictures:
            row, picture = self._undecided.pop(run, None), self._pictures[run]
            if row is None or row.number != event.number:
                return
            place = Place(trial.trial_id, trial.tag, trial.host, trial.ip, trial.pid)
            result = partial(_row, row, event.changes, place, picture)
            yield Delivery(position, "row", run, picture, row.number, result)
            if row.saved is not None:
                yield Delivery(position, "save", run, copy.copy(self._roll.of(trial.trial_id)), row.number)
        elif isinstance(event, CheckpointCommitted) and run in self._pictures:
            yield Delivery(position, "save", run, copy.copy(self._roll.of(trial.trial_id)), event.number)

    def _ended(self, position: int, trial_id: str) -> Iterator[Delivery]:
        """The ends of runs that a record brought; one that names no trial may have ended any."""
        named = [self._state.trials[trial_id].dirname] if trial_id in self._state.trials else list(self._pictures)
        for run in named:
            picture = self._pictures.get(run)
            if picture is None:
                continue
            trial = self._state.trial(picture.trial_id)
            if trial.dirname != run or trial.state in FINAL:
                failed = trial.dirname != run or trial.state == ERROR
                last = picture if trial.dirname != run else copy.copy(self._roll.of(trial.trial_id))
                del self._pictures[run]
                self._undecided.pop(run, None)
                yield Delivery(position, "end", run, last, failed=failed)


class _Last:
    """By run, the position of the newest record that a tracker is told of; and the fold of all."""

    def __init__(self) -> None:
        self.state = ExperimentState()
        self.runs: dict[str, int] = {}


def _last_positions(records: Iterator[Record]) -> _Last:
    last = _Last()
    for record in records:
        last.state.fold(record)
        if isinstance(record.event, _TOLD):
            last.runs[last.state.trial(record.event.trial_id).dirname] = record.position
    return last


def _row(row: ResultReported, changes: bytes, place: Place, trial: Trial) -> dict[str, Any]:
    full = shown(row, changes, place, trial.experiment_id, None, None)
    full.setdefault("config", trial.config)
    return full


def _forget(position: int) -> None:
    """There is no place for a cursor."""


def others_than_trackers(callbacks: Sequence[Callback]) -> list[Callback]:
    """The callbacks that are called in the driver's own thread."""
    return [callback for callback in callbacks if not isinstance(callback, TrackerCallback)]


def trackers_of(journal: Journal, created: ExperimentCreated, spec: JobSpec) -> TrackersFollower | None:
    """The follower that feeds the job's trackers; None where it has none."""
    trackers = [callback for callback in spec.run_config.callbacks if isinstance(callback, TrackerCallback)]
    if not trackers:
        journal.storage.delete_files([DUE])  # left by a driver that had some
        return None

    def say(text: str) -> None:
        print(f"holdfast: {text}", file=sys.stderr)  # noqa: T201 - nothing else tells that a tracker is behind

    return TrackersFollower(journal, created, spec, trackers, say)
