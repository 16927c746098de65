"""What a trial's code finds around it: its directory, its log, its environment.

This module knows the process that it runs in. It does not know what the trial does or reports.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Protocol

from holdfast._core.commands import StartAttempt
from holdfast._worker.logs import open_log, rotate, tail_of
from holdfast._worker.protocol import Workplace
from holdfast._worker.seeds import seed_all
from holdfast._worker.threads import bound_threads

__all__ = ["Around", "Surroundings", "log_paths", "trial_dir_of"]


def trial_dir_of(place: Workplace, order: StartAttempt) -> str:
    """The trial's directory."""
    return os.path.join(place.experiment_dir, order.dirname)


def log_paths(place: Workplace, order: StartAttempt) -> tuple[str, str]:
    """Where an attempt's stdout and stderr go; twice the same file unless the user named files."""
    if place.log_to_file is not None:
        trial_dir = trial_dir_of(place, order)
        return os.path.join(trial_dir, place.log_to_file[0]), os.path.join(trial_dir, place.log_to_file[1])
    path = os.path.join(place.experiment_dir, "logs", f"{order.trial_id}-{order.attempt}.log")
    return path, path


class Around(Protocol):
    """What stands around an attempt, as the code that runs it sees it."""

    def enter(self, order: StartAttempt) -> str:
        """Gives the process the attempt's directory, environment and seeds; returns the trial's directory."""

    def log_tail(self) -> str:
        """The end of what the attempt printed."""


class Surroundings:
    """Sets the process up for one attempt after another.

    Attributes:
        devices: The GPUs of the next attempt, as `CUDA_VISIBLE_DEVICES` names them; None: what the process sees.
    """

    def __init__(self, place: Workplace) -> None:
        self.devices: str | None = None
        self._place = place
        self._environment = dict(os.environ) if place.reuse_workers else None
        self._logs: tuple[str, str] = ("", "")

    def enter(self, order: StartAttempt) -> str:
        """Gives the process the attempt's directory, log, environment and seeds; returns the trial's directory.

        Raises:
            OSError: The directory or the log cannot be made.
        """
        place, trial_dir = self._place, trial_dir_of(self._place, order)
        try:
            os.mkdir(trial_dir)
        except FileExistsError:
            pass  # a later attempt of the same trial, or a driver that wrote there first
        if self._environment is not None and dict(os.environ) != self._environment:  # os.environ itself compares slowly
            os.environ.clear()
            os.environ.update(self._environment)
        if self.devices is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.devices
        bound_threads(place.threads, order.resources.get("cpu", 1.0))
        if self._environment is not None:  # what the next attempt finds, whatever this one's code does to it
            ours = ("CUDA_VISIBLE_DEVICES", *place.threads)
            self._environment |= {name: os.environ[name] for name in ours if name in os.environ}
        os.chdir(trial_dir if place.chdir else place.working_dir)
        self._logs = log_paths(place, order)
        for number, path in enumerate(dict.fromkeys(self._logs), start=1):
            open_log(path, number)
        if self._logs[0] == self._logs[1]:
            os.dup2(1, 2)
        if sys.path != place.sys_path:
            sys.path[:] = place.sys_path
        seed_all(place.seed, order.index)
        return trial_dir

    def leave(self) -> None:
        """Writes out what was printed; a log that is empty is removed."""
        _flush()
        if self._place.log_to_file is None and os.fstat(1).st_size == 0:
            os.unlink(self._logs[0])

    def log_tail(self, size: int = 4096) -> str:
        """The end of what the attempt printed to stderr (and stdout, where they share a file)."""
        _flush()
        return tail_of(self._logs[1], size)

    def rotate_logs(self) -> None:
        """Begins new files for the logs that have grown too large. What cannot be rotated is written on."""
        limit = self._place.log_bytes
        for number, path in enumerate(dict.fromkeys(self._logs), start=1):
            if limit and os.fstat(number).st_size >= limit:
                _flush()
                with contextlib.suppress(OSError):  # a full disk ends no trial that can go on: the next row tries again
                    rotate(path, number)
                if self._logs[0] == self._logs[1]:
                    os.dup2(1, 2)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
