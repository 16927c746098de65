"""`PolicyFiles`: the logs of population based training, in the experiment's directory, as Ray Tune writes them.

    pbt_global.txt              a line for each exploit, in order
    pbt_policy_<trial id>.txt   the exploits that led to what the trial is now: its donor's lines, then its own newest

A line is a JSON list: the trial's tag, the donor's tag, the iteration that the trial had reached, the iteration of the
checkpoint that it goes on from, the donor's configuration, and the new one. Knows the journal's records and writes what
follows from them. Refuses to know schedulers. The journal is the truth: `catch_up` writes what is to be there after any
crash, whatever stands there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from holdfast._core.events import DecisionMade, EpochStarted, Record, SchedulerOrdered, Steering, TrialChosen
from holdfast._core.trial import FINAL
from holdfast.errors import StorageError
from holdfast.logger.lines import json_text
from holdfast.logger.rowfile import replace, sweep
from holdfast.values import decode

if TYPE_CHECKING:
    from holdfast._core.experiment import ExperimentState

__all__ = ["GLOBAL", "PolicyFiles", "policy_name"]

GLOBAL = "pbt_global.txt"
_PREFIX = "pbt_policy_"


class PolicyFiles:
    """Follows the journal and writes the logs.

    Args:
        directory: The experiment's, absolute and local.
        in_charge: Says whether this driver still is; asked before anything is written. A driver that is not writes nothing.
    """

    def __init__(self, directory: str, in_charge: Callable[[], bool] | None = None) -> None:
        self._directory = directory
        self._in_charge = in_charge
        self._all: list[bytes] = []
        self._written = 0
        self._of: dict[str, tuple[int, list[bytes]]] = {}  # trial → its branch, its lines
        self._dirty: dict[str, None] = {}
        self._descriptor = -1

    def hear(self, record: Record, state: ExperimentState) -> None:
        """Remembers what a record, which `state` has just folded, means for the logs. Writes nothing."""
        event = record.event
        if isinstance(event, (DecisionMade, TrialChosen, SchedulerOrdered)):
            for order in event.orders:
                if order.verb == "change" and order.donor not in ("", order.trial_id):
                    self._exploited(order, state)
        elif isinstance(event, EpochStarted):
            for trial_id, (branch, _) in list(self._of.items()):
                if state.trial(trial_id).branch != branch:  # it began anew, and goes on from nobody
                    del self._of[trial_id]
                    self._dirty[trial_id] = None

    def lines(self, trial_id: str = "") -> list[bytes]:
        """All that a trial's log is to hold; without a trial, `pbt_global.txt`."""
        return list(self._of.get(trial_id, (0, []))[1] if trial_id else self._all)

    def flush(self) -> None:
        """Writes what was heard.

        Raises:
            StorageError: The disk refused. Nothing is lost: restore when the cause is mended.
        """
        if not self._dirty or (self._in_charge is not None and not self._in_charge()):
            return
        try:
            new, self._written = self._all[self._written :], len(self._all)
            if self._descriptor < 0:
                self._descriptor = replace(self._path(GLOBAL), b"".join(self._all))
            elif new:
                _write(self._descriptor, b"".join(new))
            for trial_id in self._dirty:
                self._write(trial_id)
            self._dirty.clear()
        except OSError as error:
            raise StorageError(
                error.errno,
                f"a policy log in {self._directory} cannot be written: {error}. Nothing is lost: mend that, then restore.",
            ) from error

    def catch_up(self) -> None:
        """Brings the files to what was heard of all records so far; called when a driver has taken charge.

        Raises:
            StorageError: The disk refused.
        """
        if not os.path.isdir(self._directory):
            return
        sweep(self._directory)
        for name in self._there():
            wanted = bool(self._all) if name == GLOBAL else name[len(_PREFIX) : -len(".txt")] in self._of
            if not wanted:
                self._remove(name)
        self._dirty = dict.fromkeys(self._of)
        if self._all:
            self.close()
            self._dirty = self._dirty or {"": None}
            self.flush()

    def close(self) -> None:
        """Lets the files go. The next `flush` writes new ones in their place."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _exploited(self, order: Steering, state: ExperimentState) -> None:
        trial, donor = state.trial(order.trial_id), state.trial(order.donor)
        if trial.state in FINAL or trial.inherited is None:
            return  # the order came too late
        reached = trial.last.iteration if trial.last is not None else 0
        configs = decode(donor.config), decode(trial.config)
        line = json_text([_born(trial.tag), _born(donor.tag), reached, trial.inherited.iteration, *configs]) + b"\n"
        branch, lines = self._of.get(donor.trial_id, (0, []))
        self._of[trial.trial_id] = trial.branch, [*(lines if branch == donor.branch else []), line]
        self._all.append(line)
        self._dirty[trial.trial_id] = None

    def _write(self, trial_id: str) -> None:
        if trial_id in self._of:
            os.close(replace(self._path(policy_name(trial_id)), b"".join(self._of[trial_id][1])))
        elif trial_id:
            self._remove(policy_name(trial_id))

    def _there(self) -> Iterator[str]:
        for name in sorted(os.listdir(self._directory)):
            if name == GLOBAL or (name.startswith(_PREFIX) and name.endswith(".txt")):
                yield name

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def policy_name(trial_id: str) -> str:
    """What a trial's log is called."""
    return f"{_PREFIX}{trial_id}.txt"


def _born(tag: str) -> str:
    """The tag that a trial was born with."""
    return tag.partition("@perturbed")[0]


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
