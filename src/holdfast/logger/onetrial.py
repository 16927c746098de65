"""The files of one trial, in one branch: what is still to be written, and how.

Knows which row belongs where. Refuses to know other trials and when it is time to write. `files.py` tells what it hears.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
from collections.abc import Callable
from typing import Any

from holdfast._core.events import AttemptEnded, AttemptLost, CheckpointCommitted, DecisionMade, Failure, ResultReported
from holdfast._core.trial import FINAL, TERMINATED, TrialState
from holdfast._projection.failures import how, revived
from holdfast._projection.history import TrialHistory, shown, with_checkpoint
from holdfast._projection.rows import Place
from holdfast.logger.lines import JsonText, json_object
from holdfast.logger.rowfile import Row, RowFile, create, replace, same, sweep
from holdfast.values import Opaque, decode

__all__ = ["OneTrial", "write_params"]

_ATOMS = frozenset({int, float, str, bool, bytes, complex, type(None)})
Load = Callable[[str], object]


class OneTrial:
    """What is to be written for one trial, in one branch.

    Attributes:
        directory: Absolute.
        config_text: The config that the trial was found with, as JSON text; rows that ran with another say so.
        place: Where the newest attempt runs.
        ran_with: The config, encoded, that rows from here on ran with.
        over: Whether no attempt runs.
        final: Whether nothing more is to come.
        with_params: Whether the params files are wanted.
    """

    __slots__ = (
        "_begun",
        "_changes",
        "_config",
        "_encoded",
        "_experiment_id",
        "_failed",
        "_failures",
        "_files",
        "_load",
        "_mark",
        "_newest",
        "_overlay",
        "_queue",
        "_undecided",
        "_well",
        "config_text",
        "directory",
        "final",
        "over",
        "place",
        "ran_with",
        "with_params",
    )

    def __init__(self, directory: str, trial: TrialState, experiment_id: str, load: Load | None) -> None:
        self.directory = directory
        self.place = Place(trial.trial_id, trial.tag, trial.host, trial.ip, trial.pid)
        self.over = True
        self.final = False
        self.with_params = True
        self._experiment_id = experiment_id
        self._load = load
        self._encoded = self.ran_with = trial.config
        self._config = _loaded(trial.config, load)
        self.config_text = json_object(self._config)
        self._begun = False
        self._mark = trial.mark
        self._files: list[RowFile] = []
        self._changes: dict[int, bytes] = {}
        self._undecided: ResultReported | None = None
        self._newest: ResultReported | None = None
        self._queue: list[tuple[ResultReported, Place, bytes] | int] = []  # a number: cut behind it
        self._overlay: dict[int, Row] = {}
        self._failures: list[tuple[int, Failure, float, str]] = []
        self._well = False
        self._failed = False

    def write_rows_to(self, file: RowFile) -> None:
        self._files.append(file)

    # What was heard.

    def changed(self, config: bytes) -> None:
        """A scheduler changed the config: the params files are to say so."""
        self._config = _loaded(config, self._load)
        self._begun = False

    def reported(self, row: ResultReported) -> None:
        self._settle()  # a checkpoint was asked for, and none has come
        self._newest = row
        if row.number > self._mark:
            self._undecided = row  # what callbacks change in it comes with the decision
        else:
            self._queue.append((row, self.place, self.ran_with))

    def decided(self, decision: DecisionMade) -> None:
        self._mark = decision.number
        if decision.changes:
            self._changes[decision.number] = decision.changes
        if not decision.save:  # else its checkpoint is to come
            self._settle()

    def saved(self, event: CheckpointCommitted) -> None:
        """A checkpoint became durable after its row; a row that came without one shall name it."""
        row = self._newest
        if row is not None and row.number == event.number and row.saved is None and row.pending is None:
            self._undecided = None
            self._queue.append((with_checkpoint(row, event), self.place, self.ran_with))

    def ended(self, event: AttemptEnded | AttemptLost, wall: float, trial: TrialState) -> None:
        self._settle()
        self.over = True
        self.final = trial.state in FINAL
        self._mark = trial.mark
        if isinstance(event, AttemptLost):
            return
        if event.outcome == "completed":
            self._queue.append(trial.number)
        if event.failure is not None:
            self._failures.append((event.attempt, event.failure, wall, self.place.host))
        self._well = event.failure is None or trial.state == TERMINATED

    def _settle(self) -> None:
        if self._undecided is not None:
            self._queue.append((self._undecided, self.place, self.ran_with))
            self._undecided = None

    # Writing.

    def write(self) -> None:
        """Brings the files to what was heard, but for an undecided row, and for redone rows while more of them come."""
        self._begin()
        queue, self._queue = self._queue, []
        there = self._files[0].count if self._files else 0
        fresh: list[Row] = []
        for item in queue if self._files else ():
            if isinstance(item, int):
                if item < there:
                    self._replace(item)
                    there, fresh = item, []
                del fresh[item - there :]
                continue
            row, place, config = item
            full = self.configured(shown(row, self._changes.get(row.number, b""), place, self._experiment_id, None, None), config)
            if row.number <= there:
                self._overlay[row.number] = full
            elif row.number <= there + len(fresh):
                fresh[row.number - there - 1] = full
            else:
                fresh.append(full)
        if self._overlay and (fresh or self.over or there in self._overlay):
            self._replace(there)
        if fresh:
            for file in self._files:
                file.append(fresh)
        self._write_failures()
        if self.over:
            self.close()

    def rebuild(self, told: TrialHistory, trial: TrialState, rows: list[Row], *, always: bool) -> None:
        """Makes all files what the history says."""
        os.makedirs(self.directory, exist_ok=True)
        sweep(self.directory)
        if self.with_params:
            write_params(self.directory, self._config)
        self._begun = True
        for file in self._files:
            file.rebuild(rows, always=always)
        self._changes = dict(told.changes)
        self._mark = trial.mark
        self.final = trial.state in FINAL
        self._queue, self._overlay, self._undecided = [], {}, None  # all that was heard is in the history
        ended = [it for it in told.attempts.values() if it.branch == trial.branch and it.outcome not in ("running", "lost")]
        self._failures = [(it.number, it.failure, it.ended, it.host) for it in ended if it.failure is not None]
        self._well = bool(ended) and ended[-1].well
        self._failed = True  # the driver before may have left an error.pkl
        self._write_failures(anew=True)

    def configured(self, row: Row, config: bytes) -> Row:
        """The row with the config that it ran with, unless it is the one that all have anyway, or the user's own key."""
        if config != self._encoded:
            row.setdefault("config", JsonText(json_object(_loaded(config, self._load))))
        return row

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _replace(self, keep: int) -> None:
        overlay = {number: row for number, row in self._overlay.items() if number <= keep}
        self._overlay = {}
        for file in self._files:
            file.rewrite(keep, overlay)

    def _begin(self) -> None:
        if not self._begun and (self._files or self.with_params or self._failures):
            if not os.path.isdir(self.directory):  # most often the worker has made it
                os.makedirs(self.directory, exist_ok=True)
            if self.with_params:
                write_params(self.directory, self._config)
            self._begun = True

    def _write_failures(self, *, anew: bool = False) -> None:
        if not self._failures and not (self._well and self._begun):
            return
        text, pickled = f"{self.directory}/error.txt", f"{self.directory}/error.pkl"
        if self._failures:
            told = "".join(_failure_text(*failure) for failure in self._failures).encode("utf-8", "backslashreplace")
            if anew:
                os.close(replace(text, told))
            else:
                _append(text, told)
            newest = self._failures[-1][1]
            os.close(replace(pickled, newest.exception or pickle.dumps(revived(newest))))
            self._failures = []
            self._failed = True
        if self._well and self._failed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(pickled)
            self._failed = False
        self._well = False


def write_params(directory: str, config: dict[str, Any]) -> None:
    """Writes a trial's `params.json` and `params.pkl`, unless they are there; no `params.pkl` where a config was not loaded."""
    wanted = {"params.json": json_object(config)}
    if not _holds(config, Opaque):
        if _is_plain(config):
            wanted["params.pkl"] = pickle.dumps(config)
        else:
            import cloudpickle  # objects of a script, closures, lambdas

            wanted["params.pkl"] = cloudpickle.dumps(config)
    for name, data in wanted.items():
        path = f"{directory}/{name}"
        descriptor = create(path, data)
        if descriptor is not None:
            os.close(descriptor)
        elif not same(path, data):
            os.close(replace(path, data))


def _loaded(config: bytes, load: Load | None) -> dict[str, Any]:
    """A config, without unpickling where that can be."""
    decoded: dict[str, Any] = decode(config)
    return decode(config, load) if load is not None and _holds(decoded, Opaque) else decoded


def _failure_text(attempt: int, failure: Failure, wall: float, host: str) -> str:
    when = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(wall))
    text = f"Failure of attempt {attempt} (occurred at {when}): {how(failure, host)}\n"
    text += f"{(failure.traceback or failure.message).rstrip()}\n"
    if failure.log_tail:
        text += "The end of what it printed:\n" + "".join(f"    {line}\n" for line in failure.log_tail.splitlines())
    return text + "\n"


def _holds(value: object, kind: type) -> bool:
    if isinstance(value, dict):
        return any(_holds(item, kind) for item in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_holds(item, kind) for item in value)
    return isinstance(value, kind)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) in _ATOMS for key in value) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))  # type: ignore[call-overload]
    return type(value) in _ATOMS


def _append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
