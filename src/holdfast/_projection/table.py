"""Tables of an experiment for people and programs: plain dictionaries, JSON-able, folded from the journal.

Knows what a table's reader wants to see. Refuses to know terminals, and unpickles nothing: objects inside configs and rows are
shown by the name of their type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from holdfast import _journal
from holdfast._core.events import EpochEnded, EpochStarted, JobExtended, Record
from holdfast._core.experiment import ExperimentState
from holdfast._core.ids import checkpoint_name
from holdfast._core.trial import PAUSING, RUNNING, STATES, STOPPING, TrialState
from holdfast._projection.best import best_trial
from holdfast._projection.disk import checkpoints, disk_use, pending
from holdfast._projection.failures import how
from holdfast._projection.history import Attempt, History, shown
from holdfast._projection.rows import own_metrics
from holdfast.storage.base import Storage
from holdfast.values import decode, flatten, plain

__all__ = ["Epoch", "Told", "counts", "status"]


class Epoch(msgspec.Struct, gc=False):
    """One driver's tenure.

    Attributes:
        number: From 1.
        engine, host, pid: What ran where.
        began, ended: Seconds since 1970: of its first and of its newest record.
        seconds: Experiment time that it was in charge.
        reason: How it ended, empty where it did not say.
        records: How many it wrote.
    """

    number: int
    engine: str
    host: str
    pid: int
    began: float
    ended: float
    seconds: float = 0.0
    reason: str = ""
    records: int = 1


def status(trial: TrialState) -> str:
    """The trial's state by Ray Tune's name for it."""
    return RUNNING if trial.state in (STOPPING, PAUSING) else trial.state


def counts(state: ExperimentState) -> dict[str, int]:
    """How many trials are in each state, by Ray Tune's names; only where there are any."""
    found = Counter(map(status, state.trials.values()))
    return {name: found[name] for name in STATES if found[name]}


class Told:
    """An experiment as its journal tells it.

    Args:
        storage: Where it is.
        records: What to hear at first; by default all that is on record.

    Attributes:
        state: Today's.
        history: All rows.
        epochs: All drivers.

    Raises:
        JournalError: The journal is damaged where it was durable.
    """

    def __init__(self, storage: Storage, records: Iterable[Record] | None = None) -> None:
        self.state = ExperimentState()
        self.history = History()
        self.epochs: list[Epoch] = []
        self._root = storage.uri
        self._before = 0.0
        self._extensions: list[tuple[int, float, JobExtended]] = []
        for record in _journal.read(storage) if records is None else records:
            self.hear(record)

    def hear(self, record: Record) -> None:
        """Takes in the next record."""
        self.state.fold(record)
        self.history.hear(record, self.state)
        self._hear_epoch(record)

    def _hear_epoch(self, record: Record) -> None:
        event = record.event
        if isinstance(event, EpochStarted):
            self._before = self.state.time
            self.epochs.append(Epoch(event.epoch, event.engine, event.host, event.pid, record.wall, record.wall))
        elif self.epochs and self.epochs[-1].number == record.epoch:
            epoch = self.epochs[-1]
            epoch.ended = record.wall
            epoch.seconds = record.time - self._before
            epoch.records += 1
            if isinstance(event, EpochEnded):
                epoch.reason = event.reason
            elif isinstance(event, JobExtended):
                self._extensions.append((record.epoch, record.wall, event))

    def experiment(self, metric: str = "", mode: str = "") -> dict[str, Any]:
        """The whole: names, drivers, counts, the best trial, plug-ins that were inexact, tails that were cut."""
        created, state = self.state.created, self.state
        if created is None:
            return {}
        policy = state.policy
        return {
            "name": created.name,
            "path": self._root,
            "experiment_id": created.experiment_id,
            "trainable": created.trainable_name,
            "seed": created.seed,
            "state": state.ended or "open",
            "stopping": state.stopping,
            "held": state.held,
            "records": state.position + 1,
            "seconds": state.time,
            "last_change": state.wall,
            "samples": policy.num_samples,
            "trials": counts(state),
            "failures": sum(it.failure is not None for name in state.trials for it in self.history.trial(name).attempts.values()),
            "checkpoints": disk_use(state),
            "best": self.best(metric or policy.metric, mode or policy.mode),
            "versions": state.epoch.versions if state.epoch else created.versions,
            "extensions": [{"epoch": epoch, "when": wall, "changed": it.changed} for epoch, wall, it in self._extensions],
            "epochs": [msgspec.to_builtins(epoch) for epoch in self.epochs],
            "inexact": [{"plugin": it.plugin, "position": it.position, "detail": it.detail} for it in state.inexact],
            "cuts": [{"file": it.file, "offset": it.offset, "size": it.size} for it in state.cuts],
        }

    def best(self, metric: str, mode: str, scope: str = "last") -> dict[str, Any] | None:
        """The best trial by a metric; None where no metric and mode are known, or no trial has a number there."""
        if not metric or not mode:
            return None
        trials = self.state.trials.values()
        found = best_trial(trials, metric, mode, scope, last=self._last, rows=self._rows)
        if found is None:
            return None
        trial, value = found
        return {"trial_id": trial.trial_id, "metric": metric, "mode": mode, "value": value, "config": plain(decode(trial.config))}

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows of all trials, flat, with the configuration that each ran with."""
        for trial in self.state.trials.values():
            for row, config in zip(self._rows(trial), self.history.configs(trial), strict=True):
                yield flatten({**plain(row), "config": plain(decode(config))})

    def newest_rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per trial: its status, its newest row where it has one, its configuration."""
        for trial in self.state.trials.values():
            newest = plain(next(iter(self._last(trial)), {}))
            told = {"trial_id": trial.trial_id, "status": status(trial), "rows": len(self.history.rows(trial.trial_id))}
            yield flatten({**told, **newest, "config": plain(decode(trial.config)), "directory": trial.dirname})

    def trials(self) -> list[dict[str, Any]]:
        """One line per trial."""
        lines = []
        for trial in self.state.trials.values():
            told = self.history.trial(trial.trial_id)
            lines.append(
                {
                    "trial_id": trial.trial_id,
                    "name": trial.name,
                    "status": status(trial),
                    "rows": len(told.rows),
                    "attempts": len(told.attempts),
                    "failures": trial.failures + sum(trial.spent.values()),
                    "stopped_by": trial.stopped_by,
                    "held": trial.held,
                    "checkpoints": len(trial.kept),
                    "parameters": plain(decode(trial.evaluated)),
                    "metrics": plain(own_metrics(next(iter(self._last(trial)), {}))),
                }
            )
        return lines

    def trial(self, trial_id: str, *, superseded: bool = False) -> dict[str, Any]:
        """One trial: its attempts, rows and checkpoints. A `KeyError` where there is none of that id."""
        trial = self.state.trials[trial_id]
        told = self.history.trial(trial_id)
        story = {
            "trial_id": trial_id,
            "name": trial.name,
            "directory": trial.dirname,
            "status": status(trial),
            "branch": trial.branch,
            "stopped_by": trial.stopped_by,
            "held": trial.held,
            "failures": trial.failures,
            "spent": dict(trial.spent),
            "config": plain(decode(trial.config)),
            "attempts": [_attempt(it) for it in told.attempts.values()],
            "rows": [plain(row) for row in self._rows(trial)],
            "checkpoints": checkpoints(trial, self.state.policy),
            "pending": pending(trial),
            "dropped": [checkpoint_name(index) for index in told.dropped],
            "lost": [{"name": checkpoint_name(index), "problem": problem} for index, problem in told.lost],
        }
        if superseded:
            experiment_id = self._experiment_id()
            story["superseded"] = [
                {
                    "why": old.why,
                    "branch": old.branch,
                    "number": old.row.number,
                    "attempt": old.row.attempt,
                    "row": plain(shown(old.row, b"", told.place(trial, old.row), experiment_id, None, None)),
                }
                for old in told.superseded
            ]
        return story

    def _last(self, trial: TrialState) -> list[dict[str, Any]]:
        if trial.last is None:
            return []
        return [shown(trial.last, trial.changes, trial, self._experiment_id(), None, None)]

    def _rows(self, trial: TrialState) -> Iterable[dict[str, Any]]:
        return self.history.full_rows(trial, self._experiment_id())

    def _experiment_id(self) -> str:
        return self.state.created.experiment_id if self.state.created else ""


def _attempt(attempt: Attempt) -> dict[str, Any]:
    told: dict[str, Any] = {
        "number": attempt.number,
        "branch": attempt.branch,
        "host": attempt.host,
        "pid": attempt.pid,
        "began": attempt.began,
        "ended": attempt.ended,
        "outcome": attempt.outcome,
        "cause": attempt.cause,
        "rows": [attempt.first, attempt.last] if attempt.first else [],
    }
    failure = attempt.failure
    if failure is not None:
        told["failure"] = {
            "kind": failure.kind,
            "how": how(failure, attempt.host),
            "message": failure.message,
            "exit_code": failure.exit_code,
            "signal": failure.signal,
            "host": attempt.host,
            "peak_memory": failure.peak_memory,
            "traceback": failure.traceback,
            "log_tail": failure.log_tail,
        }
    return told
